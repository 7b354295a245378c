"""One host of the lab: its folder, its supervisor, its boot, and what state it is in."""

import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab import network
from lab.cgroups import Group, end_process
from lab.commands import run, wait_until
from lab.errors import LabError
from lab.image import Image
from lab.spec import HostSpec, LabSpec
from lab.state import LabFolder, make_key, write_whole

SUPERVISOR = Path(__file__).with_name("supervise.sh")
BOOT_DELAY_S = 1.0
_BOOT_TIMEOUT_S = 120
_BOOTED = "run/cellstep-booted"


@dataclass(frozen=True)
class Machine:
    """One host as this machine sees it.

    Args:
        spec: the lab.
        host: the host.
    """

    spec: LabSpec
    host: HostSpec

    @property
    def folder(self) -> Path:
        """Its folder: upper (its overlay), settings, pid, console.log, faults."""
        return LabFolder(self.spec.name).host(self.host.name)

    @property
    def group(self) -> Group:
        """Its control group."""
        return Group(f"{self.spec.namespace}/{self.host.name}")

    def prepare(self, image: Image, authorized_key: str) -> str:
        """Make its folder, as a newly installed machine: name, host key, who may log in.

        Returns:
            Its public host key's line.
        """
        for name in ("upper", "work", "root", "faults"):
            (self.folder / name).mkdir(parents=True)
        upper = self.folder / "upper"
        for name, mode in (("etc", 0o755), ("etc/ssh", 0o755), ("root", 0o700), ("root/.ssh", 0o700)):
            (upper / name).mkdir(exist_ok=True)
            (upper / name).chmod(mode)
        write_whole(upper / "etc/hostname", f"{self.host.name}\n")
        write_whole(upper / "etc/hosts", network.hosts_file(self.spec))
        write_whole(upper / "root/.ssh/authorized_keys", f"{authorized_key}\n", 0o600)
        public = make_key(upper / "etc/ssh/ssh_host_ed25519_key", self.host.name)
        settings = {
            "HOST": self.host.name,
            "MACHINE": f"{self.spec.name}-{self.host.name}",
            "LAB_NAMESPACE": self.spec.namespace,
            "NAMESPACE": self.spec.host_namespace(self.host.name),
            "LOWER": ":".join(map(str, image.layers)),
            "REPOSITORIES": str(image.repositories),
            "SHARED": str(LabFolder(self.spec.name).shared),
            "CGROUPS": " ".join(map(str, self.group.paths)),
            "BOOT_DELAY_S": f"{BOOT_DELAY_S:g}",
        }
        write_whole(
            self.folder / "settings", "".join(f"{key}={shlex.quote(value)}\n" for key, value in settings.items())
        )
        return public

    def power_on(self) -> None:
        """Start its supervisor, detached: it outlives this command. Nothing when it is on already."""
        if self.supervisor() is not None:
            return
        self.group.create()
        for stale in ("pid", "failed"):
            (self.folder / stale).unlink(missing_ok=True)
        with (self.folder / "console.log").open("ab") as log:
            subprocess.run(
                ["setsid", "--fork", "bash", str(SUPERVISOR), str(self.folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
                check=True,
            )

    def wait_booted(self, timeout: float = _BOOT_TIMEOUT_S) -> None:
        """Wait until its own systemd has started sshd.

        Raises:
            LabError: it did not in time, or went off meanwhile.
        """

        def booted() -> bool:
            if (self.folder / "failed").exists():
                said = (self.folder / "console.log").read_text(encoding="utf-8", errors="replace").strip()[-1000:]
                raise LabError(f"{self.host.name} cannot be switched on:\n{said}")
            return self.state() == "running"

        wait_until(booted, timeout=timeout, what=f"host {self.host.name} to boot (see {self.folder / 'console.log'})")

    def power_off(self) -> None:
        """Take its power away: SIGKILL to its init, and with that to every process of it."""
        group = self.group
        group.freeze(frozen=False)
        init = self.init()
        if init is not None:
            end_process(init)
        wait_until(lambda: not group.members(), timeout=20, what=f"the processes of {self.host.name} to end")

    def supervisor(self) -> int | None:
        """Process id of its supervisor; None when it is off."""
        try:
            pid = int((self.folder / "pid").read_text(encoding="ascii"))
        except (FileNotFoundError, ValueError):
            return None
        # A number alone may be another process's by now; one in this host's group is not.
        return pid if pid in self.group.members() else None

    def init(self) -> int | None:
        """Process id, as seen from outside, of its own first process; None when there is none."""
        for pid in self.group.members():
            try:
                status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if re.search(r"^NSpid:\t\d+\t1$", status, re.MULTILINE):
                return pid
        return None

    def state(self) -> str:
        """`off` without a supervisor, `running` once its systemd has started sshd, else `booting`."""
        if self.supervisor() is None:
            return "off"
        init = self.init()
        return "running" if init is not None and Path(f"/proc/{init}/root/{_BOOTED}").exists() else "booting"

    def outside(self) -> Path:
        """Its folder as its supervisor sees it, with the mounts only that one has; plain while it is off."""
        supervisor = self.supervisor()
        return Path(f"/proc/{supervisor}/root{self.folder}") if supervisor is not None else self.folder

    def root(self) -> Path:
        """Where its files can be read and written from outside: its root, or its overlay's upper while off."""
        outside = self.outside()
        return outside / "upper" if outside == self.folder else outside / "root"

    def in_mounts(self, script: str, *, timeout: float = 60) -> None:
        """Run a script in the supervisor's mounts; what it mounts below ROOT appears in the host, too.

        Args:
            script: for sh, with the variables ROOT and FOLDER.
            timeout: in seconds.

        Raises:
            LabError: the host is off, or the script failed.
        """
        supervisor = self.supervisor()
        if supervisor is None:
            raise LabError(f"{self.host.name} is off: `cellstep lab fault {self.host.name} --clear` boots it")
        # --root: a mount namespace is entered at its own root, which is another one where the lab runs in a chroot.
        command = ["nsenter", f"--target={supervisor}", "--mount", "--root", "env", f"ROOT={self.folder / 'root'}"]
        run(
            [*command, f"FOLDER={self.folder}", "sh", "-eu"],
            stdin=script,
            timeout=timeout,
            what=f"a change to the mounts of {self.host.name}",
        )
