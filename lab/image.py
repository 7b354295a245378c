"""The root all hosts share, and the RPM repositories: built once, cached by what they are made of.

Two layers in /var/cache/cellstep: `base-DIGEST`, a Debian 12 tree (about 50 s), and above it `content-DIGEST`, what
`lab.content` puts into every host. Both are built under a name of their own and renamed when whole; a build that was
killed leaves only such a name behind, which the next build removes.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from lab import state
from lab.commands import run
from lab.errors import LabError
from lab.progress import Progress
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
DISABLED = ("mariadb.service", "rabbitmq-server.service", "epmd.service", "epmd.socket", "haproxy.service")
DISABLED_SYSV = ("monit", "puppet", "haproxy", "mariadb", "rabbitmq-server")
# In a pid and a mount namespace that end with this process: a killed build leaves neither processes nor mounts.
_ENDS_WITH_US = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--propagation", "private"),
)
_KEEP_UNUSED_S = 24 * 3600
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
    packages = tuple(sorted({*PACKAGES, *content.DEBIAN_PACKAGES}))
    base_digest = _digest([SUITE, *packages, Path(__file__).read_text(encoding="utf-8")], [])
    content_digest = _digest([base_digest], _content_files(content))
    base = cache / f"base-{base_digest}"
    layer = cache / f"content-{content_digest}"
    repositories = cache / f"repositories-{content_digest}"
    cache.mkdir(parents=True, exist_ok=True)
    with state.file_lock(cache / "lock", "another command builds the image", wait=True):
        _remove_leftovers(cache)
        if not base.exists():
            with progress.step("root image (Debian packages; once)"), _building(base) as new:
                _bootstrap(new, packages)
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
    """Every file the content is made from: the package's own, and lab/files."""
    own = Path(content.__file__ or "")
    roots = [own.parent, Path(__file__).parent / "files"] if own.name == "__init__.py" else [own]
    found: list[Path] = []
    for root in roots:
        found += [root] if root.is_file() else [p for p in sorted(root.rglob("*")) if p.is_file()]
    return [p for p in found if "__pycache__" not in p.parts and not p.name.endswith(".pyc")]


@contextlib.contextmanager
def _building(final: Path) -> Iterator[Path]:
    new = Path(tempfile.mkdtemp(prefix=f"new-{final.name}-", dir=final.parent))
    new.chmod(0o755)
    try:
        yield new
        new.rename(final)
    except BaseException:
        _remove_leftovers(final.parent)
        raise


def _remove_leftovers(cache: Path) -> None:
    """Unmount and delete what killed builds left; nobody else builds, since the caller holds the lock."""
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    points = [line.split(" ")[4] for line in mounts]
    for point in sorted((p for p in points if p.startswith(f"{cache}/new-")), reverse=True):
        run(["umount", "--lazy", point])
    for folder in cache.glob("new-*"):
        shutil.rmtree(folder)


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


def _bootstrap(root: Path, packages: tuple[str, ...]) -> None:
    options = ["--mode=root", "--variant=minbase", "--quiet", '--aptopt=APT::Install-Recommends "false"']
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


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        path.unlink()
    path.write_text(text, encoding="utf-8")
