"""A scripted cloud: the engine's own code, with outcomes told by the test instead of brought back over SSH."""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cellstep.cloud.load import Cloud, load_cloud
from cellstep.cloud.nodes import Node
from cellstep.engine.context import Context, Options
from cellstep.engine.dispatch import Errand, Outcome
from cellstep.engine.journal import Journal
from cellstep.engine.run import Crossing, Engine
from cellstep.engine.steps import Nodes, Runbook, Step
from tasks.binding import Binding
from tests.support.recorder import Recorder

ROOT = Path(__file__).parents[2]
EVERYBODY = Nodes("all nodes", list)
COMPUTES = Nodes("compute nodes", lambda nodes: [node for node in nodes if node.tier == "compute"])

Script = Callable[[str, str, Mapping[str, Any]], Outcome]


@dataclass
class ScriptedDispatcher:
    """Stands for `Dispatcher`: asks the script what each node answers to a task, in order."""

    script: Script
    stopping: threading.Event = field(default_factory=threading.Event)
    sent: list[tuple[str, str]] = field(default_factory=list)
    bound: dict[tuple[str, str], Binding] = field(default_factory=dict)

    def send(
        self,
        task: Callable[..., Any],
        nodes: Iterable[Node],
        arguments: Mapping[str, Mapping[str, Any]],
        errand: Errand,
    ) -> dict[str, Outcome]:
        outcomes = {}
        for node in nodes:
            if self.stopping.is_set() or errand.enough():
                break
            errand.started([node.name])
            self.sent.append((task.__name__, node.name))
            if errand.bindings:
                self.bound[task.__name__, node.name] = errand.bindings[node.name]
            outcomes[node.name] = self.script(task.__name__, node.name, arguments[node.name])
            errand.ended({node.name: outcomes[node.name]})
        return outcomes


@dataclass
class Rehearsal:
    """One run on the scripted cloud; `go` may be called again, as `resume` does."""

    cloud: Cloud
    journal: Journal
    run: str
    folder: Path
    options: Options = field(default_factory=Options)
    confirmed: bool = True
    dispatcher: ScriptedDispatcher = field(init=False)

    def go(self, steps: Iterable[Step], script: Script, stopping: threading.Event | None = None) -> "Went":
        runbook = Runbook("nova", tuple(steps), may_miss=lambda node: node.tier == "compute")
        dispatcher = self.dispatcher = ScriptedDispatcher(script, stopping or threading.Event())
        context = Context(self.cloud, self.journal, self.run, "nova", self.folder, self.cloud.nodes, self.options)
        recorder = Recorder()
        went = Went(dispatcher, recorder, context)

        def confirm(crossing: Crossing) -> bool:
            went.asked.append(crossing)
            return self.confirmed

        try:
            Engine(runbook, context, dispatcher, recorder, confirm).execute(runbook.steps)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            went.error = error
        return went


@dataclass
class Went:
    """What came of a rehearsal."""

    dispatcher: ScriptedDispatcher
    shown: Recorder
    context: Context
    error: Exception | None = None
    asked: list[Crossing] = field(default_factory=list)


@pytest.fixture(scope="session")
def cloud() -> Cloud:
    return load_cloud(ROOT / "inventory" / "lab")


@pytest.fixture
def rehearsal(cloud: Cloud, tmp_path: Path) -> Rehearsal:
    journal = Journal(tmp_path / "state" / "journal.sqlite3")
    return Rehearsal(cloud, journal, journal.begin_run("nova", "grizzly-havana", "digest", {}), tmp_path / "out")
