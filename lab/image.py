"""The root all hosts share, and the RPM repositories: built once, cached by what they are made of.

Two layers in /var/cache/cellstep: `base-DIGEST`, a Debian 12 tree (about 50 s), and above it `content-DIGEST`, what
`lab.content` puts into every host. Both are built under a name of their own and renamed when whole; a build that was
killed leaves only such a name behind, which the next build removes.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from lab import state, tree
from lab.commands import run, wait_until
from lab.errors import LabError
from lab.progress import Progress

_KEEP_UNUSED_S = 24 * 3600


@dataclass(frozen=True)
class Image:
    """What a host's overlay lies on.

    Attributes:
        layers: folders, topmost first.
        repositories: folder with the RPM repositories.
        digest: of all that both were made of.
    """

    layers: tuple[Path, ...]
    repositories: Path
    digest: str


def prepare(content: ModuleType, progress: Progress, cache: Path | None = None) -> Image:
    """Find the image in the cache, or build what is missing of it.

    Args:
        content: `lab.content`, or a stand-in with DEBIAN_PACKAGES, install_base and build_repositories.
        progress: told what goes on.
        cache: its folder; /var/cache/cellstep by default.

    Raises:
        LabError: a part could not be built; nothing of it stays.
    """
    cache = cache or state.CACHE
    packages = tuple(sorted({*tree.PACKAGES, *content.DEBIAN_PACKAGES}))
    base_digest = _digest([*packages, Path(tree.__file__).read_text(encoding="utf-8")], [])
    content_digest = _digest([base_digest], _content_files(content))
    base = cache / f"base-{base_digest}"
    layer = cache / f"content-{content_digest}"
    repositories = cache / f"repositories-{content_digest}"
    cache.mkdir(parents=True, exist_ok=True)
    with state.file_lock(cache / "lock", lambda: progress.say("waiting for another command, which builds the image")):
        _remove_leftovers(cache)
        if not base.exists():
            with progress.step("root image (Debian packages; once)"), _building(base) as new:
                tree.build(new, packages)
        if not layer.exists():
            with progress.step("root image (the lab's own part)"), _building(layer) as new:
                _layer(base, new, content.install_base)
        if not repositories.exists():
            with progress.step("RPM repositories"), _building(repositories) as new:
                content.build_repositories(new)
        for used in (base, layer, repositories):
            os.utime(used)
        _prune(cache)
    return Image((layer, base), repositories, content_digest)


def _digest(texts: list[str], files: list[Path]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    for file in files:
        digest.update(str(file.name).encode() + b"\0" + bytes(f"{file.stat().st_mode:o}", "ascii"))
        digest.update(file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _content_files(content: ModuleType) -> list[Path]:
    """Every file the content is made from: the package's own, lab/files, and what it names as BESIDE."""
    own = Path(content.__file__ or "")
    roots = [own.parent, Path(__file__).parent / "files"] if own.name == "__init__.py" else [own]
    found: list[Path] = []
    for root in roots:
        found += [root] if root.is_file() else [p for p in sorted(root.rglob("*")) if p.is_file()]
    found += getattr(content, "BESIDE", ())
    return [p for p in found if "__pycache__" not in p.parts and not p.name.endswith(".pyc")]


@contextlib.contextmanager
def _building(final: Path) -> Iterator[Path]:
    new = Path(tempfile.mkdtemp(prefix=f"new-{final.name}-", dir=final.parent))
    new.chmod(0o755)
    try:
        yield new
        new.rename(final)
    except BaseException:  # raised again: half an image is never left
        _remove_leftovers(final.parent)
        raise


def _remove_leftovers(cache: Path) -> None:
    """Unmount and delete what killed builds left; nobody else builds, since the caller holds the lock."""
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    points = [line.split(" ")[4] for line in mounts]
    for point in sorted((p for p in points if p.startswith(f"{cache}/new-")), reverse=True):
        run(["umount", "--lazy", point])
    for folder in cache.glob("new-*"):
        # A build that was just interrupted may have a process on its way out, which still writes.
        wait_until(lambda folder=folder: _deleted(folder), timeout=20, what=f"{folder} to be deleted")  # type: ignore[misc]  # mypy cannot infer a lambda with a bound default


def _deleted(folder: Path) -> bool:
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def _prune(cache: Path) -> None:
    """Delete what no lab uses and nobody asked for since yesterday."""
    used: set[str] = set()
    for folder in state.LABS.iterdir() if state.LABS.exists() else ():
        with contextlib.suppress(LabError):  # a folder there which is not a lab's uses nothing
            record = state.LabFolder(folder.name).read()
            used |= {*record.layers, record.repositories} if record else set()
    for entry in cache.iterdir():
        old = time.time() - entry.stat().st_mtime > _KEEP_UNUSED_S
        if entry.is_dir() and old and str(entry) not in used:
            shutil.rmtree(entry)


def _layer(base: Path, layer: Path, install: Callable[[Path], None]) -> None:
    """Let `install` change the base through an overlay, and keep what it changed."""
    work = Path(tempfile.mkdtemp(prefix="new-work-", dir=layer.parent))
    merged = work / "merged"
    merged.mkdir()
    (work / "work").mkdir()
    options = f"lowerdir={base},upperdir={layer},workdir={work / 'work'}"
    run(["mount", "-t", "overlay", "overlay", "-o", options, str(merged)])
    try:
        install(merged)
    finally:
        run(["umount", str(merged)])
    shutil.rmtree(work)
