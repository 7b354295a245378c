"""Builds the two RPM repositories, grizzly and havana, with rpmbuild and createrepo_c."""

import os
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab.content import components
from lab.content.packages import Package, Source, grizzly, havana
from lab.errors import LabError

_TIMEOUT_S = 120


def build_repositories(destination: Path) -> None:
    """Build all RPMs and put them into `destination`/grizzly and `destination`/havana.

    Args:
        destination: an existing folder.

    Raises:
        LabError: rpmbuild or createrepo_c is missing or failed; with the end of its output.
    """
    own = {"grizzly": grizzly(), "havana": havana()}
    repositories = {name: (*sources, *components.sources(name)) for name, sources in own.items()}
    with tempfile.TemporaryDirectory(prefix="cellstep-rpm-") as scratch:
        work = [
            (source, destination / name, Path(scratch) / name / source.name)
            for name, sources in repositories.items()
            for source in sources
        ]
        for name in repositories:
            (destination / name).mkdir()
        with ThreadPoolExecutor(max(2, os.cpu_count() or 2)) as pool:
            list(pool.map(lambda job: _build(*job), work))
            list(pool.map(lambda name: _index(destination / name), repositories))


def _build(source: Source, repository: Path, top: Path) -> None:
    root = top / "files"
    for package in source.packages:
        for path, content in package.contents.items():
            target = root / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(content.text)
            target.chmod(content.mode)
            # Units look the same in both releases, so that systemd need not read them again after an update.
            stamp = 1_370_000_000 if path.endswith(".service") else source.installed_on
            os.utime(target, (stamp, stamp))
    spec = top / "package.spec"
    spec.write_text(_spec(source, root))
    _run(
        [
            "rpmbuild",
            "-bb",
            "--quiet",
            "--target",
            source.architecture,
            "--define",
            f"_topdir {top}",
            "--define",
            f"_dbpath {top / 'db'}",
            "--define",
            f"_rpmdir {repository}",
            "--define",
            "_build_name_fmt %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm",
            "--define",
            "_binary_payload w1.gzdio",
            str(spec),
        ]
    )


def _index(repository: Path) -> None:
    _run(["createrepo_c", "--quiet", "--no-database", "--simple-md-filenames", str(repository)])


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except FileNotFoundError:
        raise LabError(f"{command[0]} is not installed: apt-get install rpm createrepo-c, then call again") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"{command[0]} did not end within {_TIMEOUT_S} s") from None
    if done.returncode != 0:
        raise LabError(f"{command[0]} failed (exit {done.returncode}):\n{(done.stdout + done.stderr)[-2000:]}")


def _spec(source: Source, root: Path) -> str:
    """One spec file: the first package is the main one, the others are its subpackages."""
    main, *others = source.packages
    lines = [
        # No byte-compiling, stripping or dependency finding: the packages are what is written here.
        "%global __os_install_post %{nil}",
        "%global debug_package %{nil}",
        f"Name: {main.name}",
        f"Version: {source.version}",
        f"Release: {source.release}",
        *([f"Epoch: {source.epoch}"] if source.epoch else []),
        f"Summary: {main.name} (lab stand-in)",
        "License: Apache-2.0",
        "AutoReqProv: no",
        *_relations(main),
        "%description\nA stand-in of the cellstep lab.",
    ]
    for package in others:
        lines += [
            f"%package -n {package.name}",
            f"Summary: {package.name} (lab stand-in)",
            "AutoReqProv: no",
            *_relations(package),
            f"%description -n {package.name}\nA stand-in of the cellstep lab.",
        ]
    lines += ["%install", "rm -rf %{buildroot}", f"cp -a '{root}' %{{buildroot}}" if root.exists() else ":"]
    for package in source.packages:
        if package.post:
            lines += [f"%post -n {package.name}", package.post]
        if package.postun:
            lines += [f"%postun -n {package.name}", package.postun]
        lines += [f"%files -n {package.name}", "%defattr(-,root,root,-)"]
        for path, content in package.contents.items():
            lines.append(f"{'%config(noreplace) ' if content.config else ''}%attr({content.mode:04o},root,root) {path}")
    return "\n".join(lines) + "\n"


def _relations(package: Package) -> list[str]:
    return [f"Requires: {name}" for name in package.requires] + [f"Provides: {name}" for name in package.provides]
