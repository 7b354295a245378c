"""Why a guest is not as it was: by its row in each database, and by what users asked of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from reports.reasons import (
    ABSENT,
    DELETED,
    UNKNOWN,
    UPGRADE,
    USER,
    Reason,
    Row,
    Standing,
    Traces,
    by_key,
    first_time,
    joined,
    seconds_after,
    short,
)

AT_WORK = frozenset({"active", "stopped"})

LEADS_TO = {
    "create": AT_WORK,
    "restore": AT_WORK,
    "start": AT_WORK - {"stopped"},
    "reboot": AT_WORK - {"stopped"},
    "rebuild": AT_WORK,
    "resume": AT_WORK - {"stopped"},
    "unpause": AT_WORK - {"stopped"},
    "unrescue": AT_WORK - {"stopped"},
    "unshelve": AT_WORK,
    "confirmResize": AT_WORK,
    "revertResize": AT_WORK,
    "evacuate": AT_WORK,
    "stop": frozenset({"stopped"}),
    "pause": frozenset({"paused"}),
    "suspend": frozenset({"suspended"}),
    "rescue": frozenset({"rescued"}),
    "resize": frozenset({"resized"}),
    "migrate": frozenset({"resized"}),
    "shelve": frozenset({"shelved", "shelved_offloaded"}),
    "delete": frozenset({"soft-delete"}),
}
"""What users ask for, and the vm_states that it ends in. Other actions leave state and process alone."""

STARTING = LEADS_TO.keys() - {"pause", "unpause", "confirmResize", "stop", "suspend", "shelve", "delete"}
"""After these a guest has another process than before."""

ENDING = frozenset({"delete", "stop", "suspend", "shelve"})
"""After these it has none."""

ENDING_TASKS = frozenset({"deleting", "soft-deleting", "suspending", "shelving"})
"""Task states in which its process goes away; only a user's request brings these about."""


@dataclass(frozen=True)
class Seen:
    """A guest as its hypervisors had it.

    Attributes:
        uuid: the guest's.
        host: where it is, or was.
        was_on: where it was before; "" where it was nowhere.
        process: running (the same), restarted, moved, lost, new, or "" (none before, none now).
        started: when the present process began, ISO 8601 UTC.
        rebooted: whether its host has booted since.
    """

    uuid: str
    host: str
    was_on: str = ""
    process: str = ""
    started: str = ""
    rebooted: bool = False


class Guests:
    """What the databases say of each guest.

    Args:
        traces: what was done since the lists were saved.
    """

    def __init__(self, traces: Traces) -> None:
        self.traces = traces
        self._rows = by_key(traces.instances, "uuid")
        self._actions = by_key((row for row in traces.actions if row["action"] in LEADS_TO), "uuid")

    def why(self, seen: Seen) -> tuple[Reason | None, str]:
        """The reason for all that differs, None where something of it has none; and what differs, in words."""
        standings = self.traces.standings.get(seen.uuid, (UNKNOWN, UNKNOWN))
        words: list[str] = []
        reasons: list[Reason | None] = []
        for source, name, standing in zip(("api", "cell"), ("API", "cell"), standings, strict=True):
            if standing.differs:
                words.append(f"{name} database: {standing.before or 'no row'} -> {standing.after or 'no row'}")
                reasons.append(self._of_row(seen.uuid, source, standing))
        if seen.process not in ("", "running"):
            words.append(_told(seen))
            reasons.append(self._of_process(seen))
        if reasons and (wrong := self._contradiction(seen, standings)):
            words.append(wrong)
            reasons.append(None)
        known = [reason for reason in reasons if reason]
        if ours := self._ours(seen):
            return ours, "; ".join(words)
        if known and len(known) == len(reasons):
            return joined(known), "; ".join(words)
        return None, "; ".join([*words, *self._hints(seen)])

    # What the upgrade did itself

    def _ours(self, seen: Seen) -> Reason | None:
        for row in self._rows.get(seen.uuid, ()):
            if run := self.traces.ours.named(row["name"]):
                return Reason(UPGRADE, "check-out test", f"run {run}", first_time(row, "deleted_at", "created_at"))
        return None

    def _rebooted(self, seen: Seen) -> Reason | None:
        """Our reboot of the guest's host, where its process began after that."""
        for began, _, run in self.traces.ours.reboots.get(seen.host, ()):
            if seen.rebooted and seen.started and seconds_after(seen.started, began) >= -self.traces.slack_s:
                return Reason(UPGRADE, f"reboot of {seen.host}", f"run {run}", began)
        return None

    # A row

    def _of_row(self, uuid: str, source: str, standing: Standing) -> Reason | None:
        row = next((row for row in self._rows.get(uuid, ()) if row["source"] == source), None)
        if row is None:
            return None
        if standing.after == DELETED:
            return self._deleted(row)
        if standing.before in (ABSENT, "building"):
            created = self._created(row, standing)
            return created if created or standing.before == ABSENT else self._led_to(row)
        return self._led_to(row)

    @staticmethod
    def _created(row: Row, *before: Standing) -> Reason | None:
        """That a user made it since, or that what was being built then has begun to run."""
        building = any(standing.before == "building" for standing in before)
        time = max(row["created_at"], row["launched_at"] if building else "")
        return Reason(USER, "create", row["user_id"], time) if time >= row["since"] else None

    def _deleted(self, row: Row) -> Reason | None:
        time = first_time(row, "deleted_at", "terminated_at")
        if time < row["since"]:
            return None
        asked = [action for action in self._asked(row["uuid"]) if action["action"] == "delete"]
        return Reason(USER, "delete", asked[-1]["user_id"] if asked else "", time)

    def _led_to(self, row: Row) -> Reason | None:
        """The user's action that ends in the row's vm_state; an error only where the action itself says that it failed.

        It is the last one, or where another is under way, the one before.
        """
        asked = self._asked(row["uuid"])
        for action in reversed(asked[-2:] if row["task_state"] else asked[-1:]):
            failed = row["vm_state"] == "error" and _failed(action)
            if failed or row["vm_state"] in LEADS_TO[action["action"]]:
                words = "the action failed" if failed else ""
                return Reason(USER, action["action"], action["user_id"], action["start_time"], words)
        return None

    def _asked(self, uuid: str) -> list[Row]:
        """What users asked of the guest; a service's own actions have no user."""
        return [row for row in self._actions.get(uuid, ()) if row["user_id"]]

    # A process

    def _of_process(self, seen: Seen) -> Reason | None:
        if seen.process == "lost":
            return self._ended(seen)
        if seen.process == "restarted":
            return self._started(seen) or self._rebooted(seen)
        if seen.process == "moved":
            return self._started(seen) or self._migrated(seen)
        standings = self.traces.standings.get(seen.uuid, ())
        created = [self._created(row, *standings) for row in self._rows.get(seen.uuid, ())]
        return next((reason for reason in created if reason), None) or self._started(seen)

    def _ended(self, seen: Seen) -> Reason | None:
        rows = self._rows.get(seen.uuid, ())
        for row in rows:
            if row["deleted"] and (reason := self._deleted(row)):
                return reason
        asked = self._asked(seen.uuid)
        if asked and asked[-1]["action"] in ENDING:
            return Reason(USER, asked[-1]["action"], asked[-1]["user_id"], asked[-1]["start_time"])
        for row in rows:
            if row["task_state"] in ENDING_TASKS and row["updated_at"] >= row["since"]:
                return Reason(USER, row["task_state"], "", row["updated_at"])
        return None

    def _started(self, seen: Seen) -> Reason | None:
        """The user's action in whose course the present process began."""
        slack = self.traces.slack_s
        for action in reversed(self._asked(seen.uuid)):
            if action["action"] not in STARTING or not seen.started:
                continue
            ended = action["finish_time"] or ("" if action["unended"] else action["ended_at"])
            if seconds_after(seen.started, action["start_time"]) < -slack:
                continue
            if not ended or seconds_after(seen.started, ended) <= slack:
                return Reason(USER, action["action"], action["user_id"], action["start_time"])
        return None

    def _migrated(self, seen: Seen) -> Reason | None:
        """Nova itself knows it on its new host: a live migration, of which the older releases keep no action."""
        for row in self._rows.get(seen.uuid, ()):
            if short(row["host"]) == short(seen.host) and row["updated_at"] >= row["since"]:
                return Reason(USER, "live migration", "", row["updated_at"])
        return None

    # Words

    def _contradiction(self, seen: Seen, standings: Sequence[Standing]) -> str:
        """What databases and hypervisor do not agree on, once somebody has touched the guest."""
        under_way = any(
            row["task_state"] in ENDING_TASKS and row["updated_at"] >= row["since"]
            for row in self._rows.get(seen.uuid, ())
        )
        if under_way:
            return ""
        live = [standing.after not in (ABSENT, DELETED) for standing in standings if standing.after is not None]
        if len(live) == len(standings) and live[0] != live[1]:
            names = ("the API's database", "its cell's")
            return f"deleted in {names[live.index(False)]}, live in {names[live.index(True)]}"
        if live and not any(live) and seen.process in ("running", "restarted", "moved", "new"):
            return "no database has it any more, and it runs"
        if not seen.process and any(self._should_run(row) for row in self._rows.get(seen.uuid, ())):
            return "it should run by its database, and runs nowhere"
        return ""

    def _should_run(self, row: Row) -> bool:
        return (
            row["vm_state"] in ("active", "paused")
            and not row["deleted"]
            and short(row["host"]) in self.traces.answered
        )

    def _hints(self, seen: Seen) -> list[str]:
        hints = []
        if actions := self._actions.get(seen.uuid):
            last = actions[-1]
            hints.append(f"last action: {last['action']} by {last['user_id'] or 'no user'} at {last['start_time']}")
        hints += [
            f"its host was rebooted by run {run} at {began}"
            for began, _, run in self.traces.ours.reboots.get(seen.host, ())[-1:]
        ]
        return hints


def _told(seen: Seen) -> str:
    return {
        "lost": f"does not run on {seen.host} any more",
        "new": f"runs on {seen.host}, ran nowhere before",
        "moved": f"runs on {seen.host}, ran on {seen.was_on} before",
        "restarted": "another process than before",
    }[seen.process]


def _failed(action: Row) -> bool:
    return action["message"] == "Error" or bool(action["failed"])
