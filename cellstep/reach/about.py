"""What a scheduler and a worker say of themselves, and whether that fits the operator's cellstep.

A task is sent by its module's and its own name: it must be the same there. A version number does not say that of a
working copy, so the code itself is compared.
"""

import hashlib
import importlib.metadata
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from cellstep import __version__
from cellstep.cloud.cloud import Cloud
from cellstep.stages.functions import FOLDER

ROOT = Path(__file__).parents[2]
PACKAGES = ("cellstep", "tasks", "plugins")
SUFFIXES = frozenset({".py", ".sh", ".yaml", ".txt"})


def digest(folder: Path) -> str:
    """Of the code in a folder, 12 hexadecimal characters; "" where there is none."""
    found = hashlib.sha256()
    files = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file())
    for path in files:
        found.update(f"{path.relative_to(folder)}\0".encode())
        found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()[:12] if files else ""


@cache
def code() -> str:
    """The digest of this cellstep's own code."""
    return hashlib.sha256("".join(digest(ROOT / name) for name in PACKAGES).encode()).hexdigest()[:12]


def about(cloud: Cloud) -> dict[str, Any]:
    """What must be the same at both ends, as plain values."""
    return {
        "cloud": cloud.config.name,
        "version": __version__,
        "code": code(),
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "dask": importlib.metadata.version("distributed"),
        "site": digest(cloud.directory / FOLDER),
    }


def misfit(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """Why one that says `theirs` of itself is refused; "" if it is not."""
    there = {name: theirs.get(name) for name in ours}
    if there["cloud"] != ours["cloud"]:
        return f"serves the cloud {there['cloud']}, and not {ours['cloud']}"
    if there["version"] != ours["version"]:
        return f"is cellstep {there['version']}, and this is {ours['version']}: install the same there"
    if there["code"] != ours["code"]:
        return (
            f"is another cellstep {ours['version']} (code {there['code']}, here {ours['code']}): install the same there"
        )
    if there["python"] != ours["python"]:
        return f"has Python {there['python']}, and this is {ours['python']}: what is sent would not be understood"
    if there["dask"] != ours["dask"]:
        return f"has dask.distributed {there['dask']}, and this is {ours['dask']}: install the same there"
    # The scheduler runs no task.
    if "process" in theirs and there["site"] != ours["site"]:
        return f"has another folder {FOLDER}/ beside cloud.yaml: copy the cloud's folder there, then start it again"
    return ""
