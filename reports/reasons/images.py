"""Why an image is not as it was: by what its own row says of when it was made, changed or deleted."""

from reports.reasons import USER, Reason, Row, Traces


class Images:
    """What Glance's database says of each image.

    Args:
        traces: what was done since the list was saved.
    """

    def __init__(self, traces: Traces) -> None:
        self._rows = {row["id"]: row for row in traces.images}

    def missing(self, image: str) -> Reason | None:
        """Why it is no more."""
        row = self._rows.get(image)
        gone = bool(row and row["deleted"] and row["deleted_at"] >= row["since"])
        return Reason(USER, "delete", "", row["deleted_at"]) if row and gone else None

    def appeared(self, image: str) -> Reason | None:
        """Why there is one that was not there before."""
        return self._at(self._rows.get(image), "created_at", "create")

    def changed(self, image: str) -> Reason | None:
        """Why it is another."""
        return self._at(self._rows.get(image), "updated_at", "change")

    @staticmethod
    def _at(row: Row | None, column: str, action: str) -> Reason | None:
        return Reason(USER, action, "", row[column]) if row and row[column] >= row["since"] else None
