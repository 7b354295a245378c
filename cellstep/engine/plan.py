"""The plan: a runbook with the nodes of one cloud, as text and as plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cellstep.cloud.load import Cloud
from cellstep.cloud.nodes import Node
from cellstep.engine.steps import Runbook, Step
from cellstep.errors import UsageError
from plugins.inventory.ranges import expand, fold
from tasks.holds import Hold


@dataclass(frozen=True)
class Line:
    """One step of the plan with its nodes."""

    number: int
    step: Step
    nodes: tuple[str, ...]
    folded: str

    @property
    def held(self) -> str:
        """The name of the hold that the step places or lifts, or ""."""
        return self.step.does.name if isinstance(self.step.does, Hold) else ""


def lines_of(cloud: Cloud, runbook: Runbook, nodes: Sequence[Node]) -> list[Line]:
    """The plan's lines for these nodes."""
    folded: dict[tuple[str, ...], str] = {(): ""}  # 10,000 names take 0.2 s, and most steps are for the same ones
    lines = []
    for number, step in enumerate(runbook.steps, 1):
        names = tuple(node.name for node in step.on.choose(nodes))
        if names not in folded:
            folded[names] = cloud.fold(names)
        lines.append(Line(number, step, names, folded[names]))
    return lines


def as_text(cloud: Cloud, runbook: Runbook, nodes: Sequence[Node]) -> str:
    """The plan as an operator reads it: a line a step, its nodes folded under it."""
    text = [f"{cloud.heading(runbook.stage)}, {len(nodes)} nodes"]
    lines = lines_of(cloud, runbook, nodes)
    for line in lines:
        if line.step.section:
            text += ["", line.step.section]
        if line.step.no_return:
            text.append("    --- point of no return: up to here the databases' dumps bring back what was ---")
        text.append(f"{line.number:>3}. {line.step.title}{_mark(line)}")
        text.append(f"       {_where(line)}")
    held = [line.held for line in lines if line.step.kind == "hold" and line.nodes]
    if held:
        text += ["", f"Held while it runs, and put back as it was: {', '.join(dict.fromkeys(held))}"]
    if runbook.changes:
        text += ["", "Changed by cloud.yaml:", *(f"    {change}" for change in runbook.changes)]
    return "\n".join(text)


def _mark(line: Line) -> str:
    words = {
        "hold": f"  [holds {line.held}]",
        "lift": f"  [lifts {line.held}]",
        "settle": f"  [lets stay {line.held}]",
        "gate": f"  [gate{'; undoes the hold where it stops' if line.step.on_trial else ''}]",
    }
    return words.get(line.step.kind, "") + ("  (site)" if line.step.site else "")


def _where(line: Line) -> str:
    if not line.nodes:
        return line.step.when_empty or f"no {line.step.on.words} in the inventory: the run would stop here"
    return f"{line.step.on.words}: {line.folded} ({len(line.nodes)})"


def as_values(cloud: Cloud, runbook: Runbook, nodes: Sequence[Node]) -> dict[str, Any]:
    """The plan for machines: cloud, stage, digest, steps with their nodes by name."""
    return {
        "cloud": cloud.config.name,
        "stage": runbook.stage,
        "release": cloud.release.name,
        "digest": runbook.digest(nodes),
        "steps": [
            {
                "number": line.number,
                "title": line.step.title,
                "kind": line.step.kind,
                "hold": line.held or None,
                "on": line.step.on.words,
                "nodes": list(line.nodes),
                "nodes_folded": line.folded,
                "point_of_no_return": line.step.no_return,
                "nothing_to_do": line.step.when_empty if not line.nodes else "",
                "site": line.step.site,
            }
            for line in lines_of(cloud, runbook, nodes)
        ],
        "changes": list(runbook.changes),
    }


FACT = "fact"


def as_kept(cloud: Cloud, runbook: Runbook, nodes: Sequence[Node]) -> list[dict[str, str]]:
    """The plan as the journal keeps it: kind, title and folded nodes of each step, and the facts with their values."""
    lines = lines_of(cloud, runbook, nodes)
    steps = [{"kind": line.step.kind, "title": line.step.title, "nodes": line.folded} for line in lines]
    return steps + [{"kind": FACT, "title": name, "nodes": value} for name, value in runbook.facts.items()]


def steps_of(kept: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """The steps of a plan as `as_kept` gives it, without its facts."""
    return [line for line in kept if line["kind"] != FACT]


def difference(before: Sequence[Mapping[str, str]], after: Sequence[Mapping[str, str]]) -> list[str]:
    """What became of a plan between two times, as lines that begin with -, + or ~; equal changes of nodes folded.

    Args:
        before: as `as_kept` gives it.
        after: the same.
    """
    was, now_is = {line["title"]: line for line in before}, {line["title"]: line for line in after}
    lines = [f"- {title}" for title in was if title not in now_is]
    lines += [f"+ {title}: {line['nodes'] or 'no nodes'}" for title, line in now_is.items() if title not in was]
    kept = [title for title in was if title in now_is]
    if kept != [title for title in now_is if title in was]:
        lines.append("~ steps in another order")
    lines += [f"~ {t}: is a {now_is[t]['kind']} now" for t in kept if was[t]["kind"] != now_is[t]["kind"]]
    changes: dict[tuple[str, str], list[str]] = {}
    facts = [title for title in kept if now_is[title]["kind"] == FACT]
    lines += [
        f"~ {title}: {was[title]['nodes']} before, {now_is[title]['nodes']} now"
        for title in facts
        if was[title]["nodes"] != now_is[title]["nodes"]
    ]
    for title in kept:
        if title in facts:
            continue
        then, now_has = set(expand_names(was[title]["nodes"])), set(expand_names(now_is[title]["nodes"]))
        if then != now_has:
            changes.setdefault((fold(then - now_has), fold(now_has - then)), []).append(title)
    for (gone, new), titles in changes.items():
        more = f" and {len(titles) - 1} more step{'s' * (len(titles) > 2)}" if len(titles) > 1 else ""
        parts = [f"{mark} {names}" for mark, names in (("-", gone), ("+", new)) if names]
        lines.append(f"~ {', '.join(parts)} in “{titles[0]}”{more}")
    return lines


def expand_names(folded: str) -> list[str]:
    """The names of folded nodes, none where there are none."""
    return expand(folded) if folded else []


def find_step(runbook: Runbook, wanted: str) -> int:
    """The index of the step with this number, title, or beginning of a title.

    Raises:
        UsageError: no step, or more than one.
    """
    titles = [step.title for step in runbook.steps]
    if wanted.isdecimal():
        if 1 <= int(wanted) <= len(titles):
            return int(wanted) - 1
        raise UsageError(f"there is no step {wanted}; `plan {runbook.stage}` has 1 to {len(titles)}")
    found = [n for n, title in enumerate(titles) if title.lower().startswith(wanted.lower())]
    exact = [n for n in found if titles[n].lower() == wanted.lower()]
    if len(exact or found) == 1:
        return (exact or found)[0]
    many = "more than one step begins" if found else "no step begins"
    raise UsageError(f"{many} with “{wanted}”; `plan {runbook.stage}` shows their numbers and titles")
