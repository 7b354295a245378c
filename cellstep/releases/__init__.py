"""The releases cellstep knows: one YAML file a pair, named by where it starts and where it ends."""

from pathlib import Path

from cellstep.errors import ConfigurationError
from cellstep.releases.model import Component, PackageFact, Release, SchemaFact, ServiceFact
from plugins.inventory.document import expand_home, read
from plugins.inventory.validation import validate

__all__ = ["Component", "PackageFact", "Release", "SchemaFact", "ServiceFact", "load_release", "release_names"]

_HERE = Path(__file__).parent


def release_names() -> list[str]:
    """The releases that ship, sorted."""
    return sorted(path.stem for path in _HERE.glob("*.yaml"))


def load_release(name_or_path: str, *, directory: Path | None = None) -> Release:
    """Read a release's facts.

    Args:
        name_or_path: a release that ships (`grizzly-havana`), or the path of a YAML file.
        directory: what a relative path is relative to; the current folder if left out.

    Raises:
        ConfigurationError: there is no such release, or its file has faults; all of them at once.
    """
    if name_or_path in release_names():
        path = _HERE / f"{name_or_path}.yaml"
    else:
        path = (directory or Path()) / expand_home(name_or_path)
        if not _is_file(path):
            known = ", ".join(release_names())
            raise ConfigurationError(
                [f"there is no release '{name_or_path}'; write one of {known}, or the path of a file"]
            )
    document = read(path)
    release = validate(Release, document)
    if release is None or document.faults:
        raise ConfigurationError(list(map(str, document.in_order())))
    return release


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name of some thousand letters
        return False
