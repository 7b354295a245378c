"""Audits kept small, in `state/audits/` beside the journal: a compressed file each, the newest so many of them."""

import gzip
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellstep.cloud.load import Cloud
from cellstep.errors import UsageError
from reports.story import Trend
from reports.writers import replacing

if TYPE_CHECKING:
    import pandas as pd

    from reports.drift import Side

FORMAT = 1
SUFFIX = ".json.gz"


@dataclass(frozen=True)
class Kept:
    """An audit as it was kept.

    Attributes:
        name: `audit-20260131T020304Z`; sorts by time.
        at: when it was made, ISO 8601 UTC.
        nodes: the names of all nodes that it was about.
        silent: nodes that could not be asked, with the reason.
        tones: nodes by state, of `reports.judgement.STATES`.
        packed: its tables, as `reports.compact.pack` has them.
        lists: what the next audit compares with: volumes, guests, images, instances, windows.
    """

    name: str
    at: str
    nodes: tuple[str, ...]
    silent: Mapping[str, str]
    tones: Mapping[str, int]
    packed: Mapping[str, Any] = field(repr=False)
    lists: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict, repr=False)

    @property
    def trend(self) -> Trend:
        """Its column in the trend."""
        return Trend(self.at, self.tones)

    def side(self) -> "Side":
        """As it is compared with another."""
        from reports.compact import unpack  # noqa: PLC0415 - brings pandas, 0.6 s
        from reports.drift import Side  # noqa: PLC0415 - the same

        tables = {name: unpack(packed) for name, packed in self.packed.items()}
        return Side(tables, self.silent, frozenset(self.nodes))


def folder(cloud: Cloud) -> Path:
    """Where they are."""
    return cloud.directory / "state" / "audits"


def names(cloud: Cloud) -> list[str]:
    """The names of those that are kept, oldest first."""
    return sorted(path.name.removesuffix(SUFFIX) for path in folder(cloud).glob(f"audit-*{SUFFIX}"))


def pack(tables: "Mapping[str, pd.DataFrame]") -> dict[str, Any]:
    """The tables, small."""
    from reports.compact import pack as packed  # noqa: PLC0415 - brings pandas, 0.6 s

    return {name: packed(frame) for name, frame in tables.items()}


def save(cloud: Cloud, audit: Kept) -> Path:
    """Keep an audit, and let go of the oldest beyond `audit.keep` of cloud.yaml.

    Raises:
        OSError: it cannot be written; nothing was let go of.
    """
    path = folder(cloud) / f"{audit.name}{SUFFIX}"
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {"format": FORMAT, **{name: getattr(audit, name) for name in Kept.__dataclass_fields__}}
    with replacing(path) as scratch:
        scratch.write_bytes(gzip.compress(json.dumps(values, separators=(",", ":"), default=str).encode(), 6, mtime=0))
    for name in names(cloud)[: -cloud.config.audit.keep]:
        (folder(cloud) / f"{name}{SUFFIX}").unlink(missing_ok=True)
    return path


def prune_reports(cloud: Cloud, out: Path) -> None:
    """Let go of the reports of the oldest audits beyond `audit.keep_reports`; of nothing else in `out/`."""
    reports = sorted(path for path in out.glob("audit-*Z*") if path.is_dir() and not path.is_symlink())
    for path in reports[: -cloud.config.audit.keep_reports]:
        shutil.rmtree(path, ignore_errors=True)  # what is left is let go of by the next


def load(cloud: Cloud, name: str) -> Kept:
    """Read an audit.

    Args:
        cloud: the cloud.
        name: its name, or the beginning of it if there is but one such; `latest`, `previous` and so on are for the
            command line, see `find`.

    Raises:
        UsageError: there is none, or its file cannot be read.
    """
    path = folder(cloud) / f"{name}{SUFFIX}"
    try:
        values = json.loads(gzip.decompress(path.read_bytes()))
        if values.pop("format") != FORMAT:
            raise UsageError(f"{path}: kept by another cellstep; this one reads format {FORMAT}")
        return Kept(**{**values, "nodes": tuple(values["nodes"])})
    except FileNotFoundError:
        raise UsageError(f"there is no audit “{name}”; those there are: {_some(cloud)}") from None
    except (OSError, EOFError, ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{path}: cannot be read ({error}); remove it, and audits go on without it") from error


def find(cloud: Cloud, wanted: str) -> str:
    """The name of an audit that is meant: its own, `latest`, `previous`, or a time such as 2026-01-31 or 20260131T02.

    Raises:
        UsageError: there is none, or there are several.
    """
    known = names(cloud)
    places = {"latest": -1, "previous": -2}
    if wanted in places:
        if len(known) < -places[wanted]:
            raise UsageError(f"there is no {wanted} audit; those there are: {_some(cloud)}")
        return known[places[wanted]]
    begin = wanted.removeprefix("audit-").replace("-", "").replace(":", "")
    found = [name for name in known if name == wanted or name.removeprefix("audit-").startswith(begin)]
    if len(found) != 1:
        several = "there are several audits" if found else "there is no audit"
        raise UsageError(f"{several} “{wanted}”; those there are: {_some(cloud, found)}")
    return found[0]


def _some(cloud: Cloud, found: list[str] | None = None, most: int = 5) -> str:
    known = (found or names(cloud))[::-1]
    return ", ".join(known[:most]) + (f" and {len(known) - most} more" if len(known) > most else "") or "none yet"


def before(cloud: Cloud) -> tuple[Kept | None, list[Trend], list[str]]:
    """The newest audit that can be read, the trend of all, and what could not be read."""
    newest, trend, broken = None, [], []
    for name in names(cloud):
        try:
            newest = load(cloud, name)
        except UsageError as error:
            broken.append(str(error))
        else:
            trend.append(newest.trend)
    return newest, trend, broken
