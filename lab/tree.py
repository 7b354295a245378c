"""The Debian 12 tree every host's root begins with: its packages, and what of Debian is set otherwise."""

import subprocess
from pathlib import Path

from lab.errors import LabError
from lab.sources import apt_sources

SUITE = "bookworm"
PACKAGES = (
    "systemd-sysv",
    "dbus",
    "openssh-server",
    "rpm",
    "dnf",
    "iproute2",
    "procps",
    "netbase",
    "passwd",
    "login",
    "python3",
)
# What a host of a test cloud has no use for; logind is not among them, because without it a reboot hangs.
MASKED = (
    "getty@tty1.service",
    "getty.target",
    "console-getty.service",
    "systemd-timesyncd.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "dpkg-db-backup.timer",
    "logrotate.timer",
    "systemd-tmpfiles-clean.timer",
    "systemd-udevd.service",
    "systemd-udev-trigger.service",
    "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-pstore.service",
    "systemd-modules-load.service",
    "systemd-journal-flush.service",
    "systemd-random-seed.service",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "proc-sys-fs-binfmt_misc.automount",
    "proc-sys-fs-binfmt_misc.mount",
    "modprobe@.service",
)
# Installed for all, wanted by some: who needs them enables them.
DISABLED = (
    "mariadb.service",
    "rabbitmq-server.service",
    "epmd.service",
    "epmd.socket",
    "haproxy.service",
    "memcached.service",
    "cron.service",
)
DISABLED_SYSV = ("monit", "puppet", "haproxy", "mariadb", "rabbitmq-server")
# In a pid and a mount namespace that end with this process: a killed build leaves neither processes nor mounts.
_ENDS_WITH_US = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--propagation", "private"),
)
_SSHD = """\
# Many logins at once are what the tool does.
MaxStartups 500:30:1000
MaxSessions 100
UseDNS no
PermitRootLogin prohibit-password
PasswordAuthentication no
PrintMotd no
HostKey /etc/ssh/ssh_host_ed25519_key
"""
_BOOTED = """\
[Unit]
Description=Say that this host is up
After=ssh.service
[Service]
Type=oneshot
ExecStart=/usr/bin/touch /run/cellstep-booted
[Install]
WantedBy=multi-user.target
"""


def build(root: Path, packages: tuple[str, ...]) -> None:
    """Make the tree.

    Args:
        root: an empty folder.
        packages: Debian packages it gets.

    Raises:
        LabError: mmdebstrap failed; with the end of what it said.
    """
    options = ["--mode=root", "--variant=minbase", '--aptopt=APT::Install-Recommends "false"']
    options += [f"--dpkgopt=path-exclude=/usr/share/{d}/*" for d in ("doc", "man", "locale")]
    tree = root / "tree"
    log = root / "log"
    with log.open("w", encoding="utf-8") as output:
        done = subprocess.run(
            [*_ENDS_WITH_US, "mmdebstrap", *options, f"--include={','.join(packages)}", SUITE, str(tree), "-"],
            input=apt_sources(SUITE),
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1800,
            check=False,
        )
    if done.returncode != 0:
        said = log.read_text(encoding="utf-8", errors="replace")[-2000:]
        raise LabError(f"mmdebstrap could not make the hosts' root (exit {done.returncode}):\n{said}")
    log.unlink()
    _settle(tree)
    for entry in tree.iterdir():
        entry.rename(root / entry.name)
    tree.rmdir()


def _settle(root: Path) -> None:
    """What holds for every host of any lab: no keys, no identity, no needless units, a small journal."""
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    for source in [root / "etc/apt/sources.list", *(root / "etc/apt/sources.list.d").glob("*")]:
        source.unlink(missing_ok=True)
    _write(root / "etc/machine-id", "")
    _write(root / "etc/resolv.conf", "")
    _write(root / "etc/ssh/sshd_config.d/cellstep.conf", _SSHD)
    _write(root / "etc/systemd/system/cellstep-booted.service", _BOOTED)
    journal = "[Journal]\nStorage=volatile\nRuntimeMaxUse=4M\nForwardToSyslog=no\n"
    _write(root / "etc/systemd/journald.conf.d/cellstep.conf", journal)
    # A service that does not stop should not hold a reboot up for a minute and a half.
    _write(root / "etc/systemd/system.conf.d/cellstep.conf", "[Manager]\nDefaultTimeoutStopSec=15s\n")
    for folder in ("srv/repositories", "srv/shared"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    system = root / "etc/systemd/system"
    for unit in MASKED:
        (system / unit).unlink(missing_ok=True)
        (system / unit).symlink_to("/dev/null")
    for wants in system.glob("*.wants"):
        for unit in (*DISABLED, *MASKED):
            (wants / unit).unlink(missing_ok=True)
    for unit in DISABLED_SYSV:
        for start in root.glob(f"etc/rc[2345S].d/S*{unit}"):
            start.rename(start.with_name(f"K01{unit}"))
        for wants in system.glob(f"*.wants/{unit}.service"):
            wants.unlink()
    (system / "multi-user.target.wants").mkdir(exist_ok=True)
    (system / "multi-user.target.wants/cellstep-booted.service").symlink_to("../cellstep-booted.service")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        path.unlink()
    path.write_text(text, encoding="utf-8")
