"""A guest's life in a few lines: what users do to it, what befalls it, and the traces that each leaves in Nova."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from reports.reasons import ABSENT, DELETED, Standing, Traces

SAVED = datetime(2014, 2, 24, 12, 0, tzinfo=UTC)


def at(minutes: float) -> str:
    """So many minutes after the lists were saved."""
    return (SAVED + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")


SINCE = at(0)
ENDS_IN = {
    "stop": "stopped",
    "start": "active",
    "reboot": "active",
    "suspend": "suspended",
    "resume": "active",
    "delete": DELETED,
    "pause": "paused",
    "unpause": "active",
    "rebuild": "active",
}
RUNNING = ("active", "paused")


@dataclass
class Life:
    """A guest that was running when the lists were saved, unless it is `born` since.

    Attributes:
        uuid: the guest's.
        born: the minute of its creation; None before the lists were saved.
    """

    uuid: str = "u"
    host: str = "c01-n01"
    born: int | None = None
    state: str = "active"
    boot: str = "b1"
    ticks: int = 100
    started: float = -1000
    runs: bool = True
    actions: list[dict[str, Any]] = field(default_factory=list)
    row: dict[str, Any] | None = None
    first: tuple[Any, ...] | None = None

    def __post_init__(self) -> None:
        """Its row, and what the lists from before have of it."""
        made = at(-10000 if self.born is None else self.born)
        times = {"updated_at": made, "deleted_at": "", "terminated_at": "", "launched_at": made}
        self.row = {"uuid": self.uuid, "host": self.host, "name": "web", "user_id": "owner", "task_state": "", **times}
        self.row |= {"created_at": made, "deleted": 0, "vm_state": self.state}
        if self.born is None:
            self.first = (self.state, self.guest())
        else:
            self.started = self.born
            self.acted("create", self.born, "owner")

    def guest(self) -> list[dict[str, Any]]:
        """What a hypervisor says of it."""
        if not self.runs:
            return []
        found = {"cell": "cell01", "host": self.host, "uuid": self.uuid, "boot_id": self.boot}
        return [{**found, "start_ticks": self.ticks, "started_at": at(self.started)}]

    # What users ask for

    def acted(self, action: str, minute: float, who: str = "alice", *, failed: bool = False) -> None:
        """A row in instance_actions, which ended half a minute later."""
        row = {"uuid": self.uuid, "action": action, "user_id": who, "start_time": at(minute), "finish_time": ""}
        ended = {"ended_at": at(minute + 0.5), "unended": 0, "failed": int(failed), "message": ""}
        self.actions.append({**row, **ended})

    def asked(self, action: str, minute: float, who: str = "alice") -> None:
        """A user's request is carried out."""
        self.acted(action, minute, who)
        self.now(ENDS_IN[action], minute)
        if action in ("start", "reboot", "resume", "rebuild"):
            self.begun(minute + 0.2)
        self.runs = self.state in RUNNING
        if action == "delete":
            self.row |= {"deleted": 7, "deleted_at": at(minute), "terminated_at": at(minute)}

    def moved(self, host: str, minute: float) -> None:
        """An administrator migrates it, live."""
        self.host = self.row["host"] = host
        self.row["updated_at"] = at(minute)
        self.begun(minute)

    def now(self, state: str, minute: float) -> None:
        """Nova writes its state."""
        self.state = state
        self.row |= {"vm_state": state, "updated_at": at(minute)}

    def begun(self, minute: float) -> None:
        """It has another process."""
        self.ticks, self.started, self.runs = self.ticks + 1, minute, True

    # What befalls it

    def killed(self) -> None:
        """Its process is gone."""
        self.runs = False

    # What is known

    def after(self) -> str:
        """Its state in the databases."""
        return ABSENT if self.row is None else DELETED if self.row["deleted"] else self.row["vm_state"]

    def standing(self) -> Standing:
        """In a database."""
        return Standing(self.first[0] if self.first else ABSENT, self.after())


def traces(*lives: Life, **more: Any) -> Traces:
    """What both databases have of them."""
    rows = [
        {**life.row, "source": source, "since": SINCE}
        for life in lives
        if life.row and max(life.row["created_at"], life.row["updated_at"], life.row["deleted_at"]) >= SINCE
        for source in ("api", "cell")
    ]
    actions = [action for life in lives for action in life.actions]
    standings = {life.uuid: (life.standing(), life.standing()) for life in lives}
    known = {"slack_s": 4.0, "standings": standings, "instances": rows, "actions": actions}
    return Traces(**{**known, "answered": frozenset({"c01-n01", "c01-n02"}), **more})
