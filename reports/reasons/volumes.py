"""Why a volume is not as it was: by its row, by what Nova knows of its attachment, and by its guest's end."""

from collections.abc import Mapping
from typing import Any

from reports.reasons import UPGRADE, USER, Reason, Row, Traces, by_key, first_time, joined

ASKED_FOR = frozenset(
    {
        "creating",
        "deleting",
        "attaching",
        "detaching",
        "downloading",
        "uploading",
        "backing-up",
        "restoring-backup",
        "extending",
    }
)
"""States into which a volume comes by a user's request alone."""

SETTLED = frozenset({"available", "in-use"})


class Volumes:
    """What the databases say of each volume.

    Args:
        traces: what was done since the list was saved.
    """

    def __init__(self, traces: Traces) -> None:
        self.traces = traces
        self._rows = {row["id"]: row for row in traces.volumes}
        self._attachments = by_key(traces.attachments, "volume_id")
        self._guests = by_key(traces.instances, "uuid")
        self._transfers = {row["volume_id"]: row for row in traces.transfers}
        self._deletes = {row["uuid"]: row for row in traces.actions if row["action"] == "delete" and row["user_id"]}

    def lost(self, volume: str) -> Reason | None:
        """Why it is no more."""
        row = self._rows.get(volume)
        time = first_time(row, "deleted_at", "terminated_at") if row and row["deleted"] else ""
        return Reason(USER, "delete", "", time) if row and time >= row["since"] else None

    def new(self, volume: str) -> Reason | None:
        """Why there is one that was not there before."""
        row = self._rows.get(volume)
        made = bool(row and row["created_at"] >= row["since"])
        return Reason(USER, "create", row["user_id"], row["created_at"]) if row and made else None

    def changed(self, volume: str, differs: Mapping[str, tuple[Any, Any]]) -> Reason | None:
        """Why it is another, None where something of it has no reason.

        Args:
            volume: its id.
            differs: status, size_gib, attached_to, name, project_id, attach_status, mountpoint: before and now, of
                those that differ.
        """
        row = self._rows.get(volume)
        touched = row["updated_at"] if row and row["updated_at"] >= row["since"] else ""
        attachment = self._attached(volume, row, *differs["attached_to"]) if "attached_to" in differs else None
        reasons: list[Reason | None] = []
        for what, (old, new) in differs.items():
            if what in {"attached_to", "attach_status", "mountpoint"}:
                # Another device or state of the attachment, of the same guest, is nobody's doing that a database tells.
                reasons.append(attachment)
            elif what == "name":
                reasons.append(Reason(USER, "rename", "", touched) if touched else None)
            elif what == "size_gib":
                grew = touched and old and new and int(new) > int(old)
                reasons.append(Reason(USER, "extend", "", touched) if grew else None)
            elif what == "project_id":
                taken = self._transfers.get(volume)
                reasons.append(Reason(USER, "transfer", "", taken["deleted_at"]) if taken else None)
            else:
                follows = attachment if {old, new} <= SETTLED | {"attaching", "detaching"} else None
                reasons.append(follows or self._status(row, touched, old, new))
        known = [reason for reason in reasons if reason]
        return joined(known) if known and len(known) == len(reasons) else None

    def _status(self, row: Row | None, touched: str, old: str, new: str) -> Reason | None:
        if row is None or not touched:
            return None
        if new == "error_deleting" and row["terminated_at"] >= row["since"]:
            return Reason(USER, "delete", "", row["terminated_at"], "the deletion failed")
        if new in ASKED_FOR:
            return Reason(USER, new, "", touched)
        if new in SETTLED and old in ASKED_FOR:
            return Reason(USER, old, "", touched)
        # Out of an error there is no way but an administrator's.
        return Reason(USER, "reset of the state", "", touched) if new in SETTLED and old not in SETTLED else None

    def _attached(self, volume: str, row: Row | None, old: str, new: str) -> Reason | None:
        reasons = []
        if old:
            reasons.append(self._detach(volume, old))
        if new:
            reasons.append(self._attach(volume, row, new))
        known = [reason for reason in reasons if reason]
        return joined(known) if len(known) == len(reasons) else None

    def _detach(self, volume: str, guest: str) -> Reason | None:
        if ours := self._ours(guest, "detach"):
            return ours
        for mapping in self._attachments.get(volume, ()):
            if mapping["instance_uuid"] == guest and mapping["deleted"] and mapping["deleted_at"] >= mapping["since"]:
                ended = self._end_of(guest)
                return ended or Reason(USER, "detach", "", mapping["deleted_at"])
        return self._end_of(guest)

    def _attach(self, volume: str, row: Row | None, guest: str) -> Reason | None:
        if ours := self._ours(guest, "attach"):
            return ours
        for mapping in self._attachments.get(volume, ()):
            if mapping["instance_uuid"] == guest and mapping["created_at"] >= mapping["since"]:
                return Reason(USER, "attach", "", mapping["created_at"])
        # Cinder keeps the time as a text: 2014-02-24T16:00:00.000000, or with a blank.
        time = f"{str(row['attach_time'])[:19].replace(' ', 'T')}Z" if row and row["attach_time"] else ""
        return Reason(USER, "attach", "", time) if row and time >= row["since"] else None

    def _end_of(self, guest: str) -> Reason | None:
        """The end of the guest that a volume was attached to."""
        for row in self._guests.get(guest, ()):
            time = first_time(row, "deleted_at", "terminated_at")
            if row["deleted"] and time >= row["since"]:
                who = self._deletes[guest]["user_id"] if guest in self._deletes else ""
                return Reason(USER, f"delete of guest {guest}", who, time)
        return None

    def _ours(self, guest: str, what: str) -> Reason | None:
        """A guest of the check-out tests."""
        for row in self._guests.get(guest, ()):
            if run := self.traces.ours.named(row["name"]):
                return Reason(UPGRADE, f"{what}, check-out test", f"run {run}", first_time(row, "created_at"))
        return None
