"""What every host of the lab has beside Debian's packages: EL6's commands, and the settings of the servers."""

import shutil
from pathlib import Path

from lab.content.guest import program
from lab.content.packages import FILES

# In what the hosts' Debian packages install: which of them must not start by themselves.
_SYSV = ("haproxy", "mariadb", "monit", "puppet", "rabbitmq-server", "slapd")
_ENABLED = {"sysinit.target.wants": ("lab-kernel.service",), "sockets.target.wants": ("repository.socket",)}


def install_base(root: Path) -> None:
    """Put the lab's own files into the hosts' root; the same for all hosts, and nothing secret.

    Args:
        root: the root of a Debian 12 tree with DEBIAN_PACKAGES.
    """
    real = root / "usr/bin/uname.real"
    if not real.exists():
        shutil.copy2(root / "usr/bin/uname", real)
    tree = FILES / "root"
    for source in sorted(tree.rglob("*")):
        target = root / source.relative_to(tree)
        if source.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.unlink(missing_ok=True)
            shutil.copyfile(source, target)
            target.chmod(source.stat().st_mode & 0o777)
            if source.name == "monitrc":
                target.chmod(0o600)  # git keeps no such mode, and monit refuses any other
    guest = root / "usr/libexec/qemu-kvm"
    guest.parent.mkdir(parents=True, exist_ok=True)
    guest.write_bytes(program())
    guest.chmod(0o755)
    _units(root)
    for folder in ("etc/nova", "etc/lab", "srv/lab", "var/log/puppet", "var/lib/monit", "var/lib/puppet/state", "boot"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    # MariaDB's start-up job checks every table, for minutes on a loaded machine.
    start = root / "etc/mysql/debian-start"
    start.write_text("#!/bin/sh\nexit 0\n")
    start.chmod(0o755)


def _units(root: Path) -> None:
    """Only systemd's own units count: the init scripts' links and Puppet's daemon (it has no master) go."""
    for name in _SYSV:
        (root / "etc/init.d" / name).unlink(missing_ok=True)
        for link in root.glob(f"etc/rc?.d/[SK]??{name}"):
            link.unlink()
    system = root / "etc/systemd/system"
    for target, units in _ENABLED.items():
        (system / target).mkdir(parents=True, exist_ok=True)
        for unit in units:
            link = system / target / unit
            link.unlink(missing_ok=True)
            link.symlink_to(f"/etc/systemd/system/{unit}")
    for unit in ("puppet.service", "pxp-agent.service"):
        link = system / unit
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/null")
