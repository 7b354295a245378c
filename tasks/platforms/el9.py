"""Enterprise Linux 8 and later: dnf, rpm, systemctl."""

from tasks.platforms import posix, rpm
from tasks.platforms.model import Platform
from tasks.platforms.systemd import SYSTEMD

EL9 = Platform(
    name="el9",
    words="Enterprise Linux 9",
    interpreter="bash",
    services=SYSTEMD,
    packages=rpm.by("dnf", mend="dnf remove --duplicates", kernel="kernel-core"),
    system=posix.LINUX,
    guard=posix.GUARD,
)
