"""Bringing a lab up, taking it down, and saying how it stands."""

import importlib
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from lab import network
from lab.cgroups import Group
from lab.check import require_machine, require_root
from lab.cloud import render, shipped_cloud
from lab.commands import run, wait_until
from lab.errors import LabError, LabUsageError
from lab.faults import in_place
from lab.handle import LabHandle, ssh_command
from lab.image import Image, prepare
from lab.machine import Machine
from lab.progress import Progress
from lab.spec import HostSpec, LabSpec
from lab.state import LABS, RUN, SECRETS, LabFolder, Record, make_key, make_secrets, write_ssh_files, write_whole

_INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
_INOTIFY_WANTED = 4096  # 128, the kernel's default, is enough for four hosts
_BOOT_AT_ONCE = 16


def up(spec: LabSpec, cloud: Path | None, progress: Progress, content: ModuleType | None = None) -> Path:
    """Bring a lab up; nothing to do when it is up already, in the same size and with the same components.

    Leftovers of an `up` or `down` that was killed, and a lab of the same name but another size, are cleared away
    first, journals of runs on the vanished hosts moved aside.

    Args:
        spec: its name and size.
        cloud: the cloud folder that will be used with it; written if it has no cloud.yaml. Default: the
            shipped one for the default lab from a checkout, else one in the lab's own folder.
        progress: told what goes on.
        content: stands in for `lab.content`.

    Returns:
        The cloud folder to use.

    Raises:
        MachineUnfit: a lab cannot run on this machine.
        LabError: something failed on the way; what was begun is cleared away by the next `up` or `down`.
    """
    require_machine()
    folder = LabFolder(spec.name)
    with folder.lock():
        record = folder.read()
        if record and record.phase == "complete" and record.spec == spec and network.exists(spec.namespace):
            progress.say(f"lab {spec.name} is already up")
            return cloud.resolve() if cloud else Path(record.cloud)
        if folder.exists() or network.left(spec.name):
            with progress.step(f"clearing away what is left of lab {spec.name}"):
                _clear(folder)
        module = content or importlib.import_module("lab.content")
        image = prepare(module, progress)
        try:
            return _build(folder, spec, image, module, cloud, progress)
        except LabError as error:
            raise LabError(
                f"{error}\nlab {spec.name} is half built and stays so for a look; `cellstep lab down` clears it away"
            ) from error


def _build(
    folder: LabFolder, spec: LabSpec, image: Image, content: ModuleType, cloud: Path | None, progress: Progress
) -> Path:
    folder.path.mkdir(parents=True)
    folder.path.chmod(0o700)
    target = _cloud_folder(folder, spec, cloud)
    record = Record(spec, "building", tuple(map(str, image.layers)), str(image.repositories), image.digest, str(target))
    folder.write(record)
    _raise_inotify()
    hosts = spec.hosts()
    machines = [Machine(spec, host) for host in hosts]
    with progress.step(f"network and disks of {len(hosts)} hosts"):
        folder.shared.mkdir()
        make_secrets(folder, getattr(content, "SECRETS", SECRETS))
        key = make_key(folder.ssh / "id_ed25519", f"operator of {spec.name}")
        with ThreadPoolExecutor(_BOOT_AT_ONCE) as pool:
            keys = list(pool.map(lambda machine: machine.prepare(image, key), machines))
        write_ssh_files(folder, dict(zip(hosts, keys, strict=True)))
        network.create(spec)
    with progress.step(f"booting {len(hosts)} hosts"), ThreadPoolExecutor(_BOOT_AT_ONCE) as pool:
        list(pool.map(_boot, machines))
        wait_ssh(spec, hosts)
    with progress.step("setting the cloud up"):
        content.provision(LabHandle(spec, folder.path, folder.secrets(), progress))
    _write_cloud(target, spec)
    _move_journal_aside(target, progress)
    folder.write(Record(**{**record.__dict__, "phase": "complete"}))
    progress.say(f"lab {spec.name} is up: {len(hosts)} hosts; its cloud is {target}")
    return target


def down(name: str, progress: Progress) -> None:
    """Take a lab down: its processes, mounts, namespaces, cgroups and folder. The image stays in the cache.

    Raises:
        LabError: something of it cannot be removed; call again when what it names is out of the way.
    """
    require_root()
    folder = LabFolder(name)
    with folder.lock():
        if not folder.exists() and not network.left(name):
            progress.say(f"lab {name} is not up")
            return
        with progress.step(f"taking lab {name} down"):
            _clear(folder)


def _clear(folder: LabFolder) -> None:
    record = folder.read()
    if record:
        folder.write(Record(**{**record.__dict__, "phase": "removing"}))
    group = Group(f"cellstep-{folder.name}")
    group.kill()
    group.remove()
    network.remove(folder.name)
    # The hosts' mounts were in their supervisors' own mount namespaces and are gone with these; should one show
    # here nevertheless, deleting the folder would delete what is mounted.
    _unmount_below(folder.path)
    if folder.exists():
        shutil.rmtree(folder.path)
    _restore_inotify()


def status(name: str) -> list[dict[str, Any]]:
    """How each host stands: name, cell, roles, address, state (running, off, booting), ssh, faults, pid.

    Raises:
        LabError: the lab is not up.
    """
    require_root()
    folder = LabFolder(name)
    record = folder.read()
    if record is None:
        raise LabError(f"lab {name} is not up: start it with `cellstep lab up`")
    spec = record.spec
    answering = network.answering(spec, spec.hosts())
    rows: list[dict[str, Any]] = []
    for host in spec.hosts():
        machine = Machine(spec, host)
        rows.append(
            {
                "name": host.name,
                "cell": host.cell,
                "roles": list(host.roles),
                "address": host.address,
                "state": machine.state(),
                "ssh": host.name in answering,
                "faults": in_place(machine),
                "pid": machine.supervisor(),
            }
        )
    return rows


def execute(name: str, host: str, command: str) -> int:
    """Run one command on a host over SSH as root, its input and output being this command's own.

    Returns:
        Its exit status; 255 when ssh itself failed.

    Raises:
        LabError: the lab is not up, or has no such host.
    """
    require_root()
    folder = LabFolder(name)
    spec = folder.complete().spec
    spec.host(host)
    terminal = ["-t"] if sys.stdin.isatty() and sys.stdout.isatty() else []
    done = subprocess.run([*ssh_command(spec, folder.path), *terminal, host, command], check=False)
    return done.returncode


def machine(name: str, host: str) -> Machine:
    """One host of a lab that is up.

    Raises:
        LabError: the lab is not up, or has no such host.
    """
    require_root()
    spec = LabFolder(name).complete().spec
    return Machine(spec, spec.host(host))


def handle(name: str) -> LabHandle:
    """A lab that is up, to run scripts on its hosts.

    Raises:
        LabError: the lab is not up.
    """
    require_root()
    folder = LabFolder(name)
    return LabHandle(folder.complete().spec, folder.path, folder.secrets())


def _boot(machine: Machine) -> None:
    machine.power_on()
    machine.wait_booted()


def wait_ssh(spec: LabSpec, hosts: list[HostSpec]) -> None:
    """Wait until hosts answer on their SSH port.

    Raises:
        LabError: some did not within 30 seconds.
    """
    wait_until(
        lambda: len(network.answering(spec, hosts)) == len(hosts),
        timeout=30,
        what="every host to answer on its SSH port",
    )


def _cloud_folder(folder: LabFolder, spec: LabSpec, cloud: Path | None) -> Path:
    if cloud is not None:
        if cloud.exists() and not cloud.is_dir():
            raise LabUsageError(f"--cloud {cloud} is not a folder")
        return cloud.resolve()
    if replace(spec, components=()) == LabSpec() and (shipped_cloud().parents[1] / "pyproject.toml").exists():
        return shipped_cloud()  # of a checkout; one in an installed package is no place for journals
    return folder.path / "cloud"


def _write_cloud(target: Path, spec: LabSpec) -> None:
    if (target / "cloud.yaml").exists():
        return
    target.mkdir(parents=True, exist_ok=True)
    for name, text in render(spec).items():
        (target / name).parent.mkdir(exist_ok=True)
        write_whole(target / name, text)


def _move_journal_aside(cloud: Path, progress: Progress) -> None:
    """The runs in a cloud's journal were on hosts that are no more; keep it, but not where it would be resumed."""
    journal = cloud / "state"
    files = [f for f in journal.iterdir() if not f.name.startswith("before-")] if journal.exists() else []
    if files:
        aside = journal / f"before-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        aside.mkdir()
        for file in files:
            file.rename(aside / file.name)
        progress.say(f"the journal of earlier runs, on hosts that are gone, is now in {aside}")


def _unmount_below(path: Path) -> None:
    for line in reversed(Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()):
        point = line.split(" ")[4]
        if point.startswith(f"{path}/"):
            run(["umount", "--lazy", point])


def _raise_inotify() -> None:
    before = int(_INOTIFY.read_text(encoding="ascii"))
    if before < _INOTIFY_WANTED:
        RUN.mkdir(parents=True, exist_ok=True)
        write_whole(RUN / "inotify-before", f"{before}\n")
        _INOTIFY.write_text(str(_INOTIFY_WANTED), encoding="ascii")


def _restore_inotify() -> None:
    kept = RUN / "inotify-before"
    others = LABS.exists() and any(os.scandir(LABS))
    if kept.exists() and not others:
        _INOTIFY.write_text(kept.read_text(encoding="ascii"), encoding="ascii")
        kept.unlink()
