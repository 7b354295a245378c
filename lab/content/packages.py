"""The RPMs of both releases: names, versions, what requires what, and what is in them.

Names and versions of nova and the Havana clients are EL6's (RDO); those of Grizzly's clients and the kernels are the
lab's own choice, as is what the packages contain.
"""

import platform
from dataclasses import dataclass, field
from pathlib import Path

FILES = Path(__file__).resolve().parents[1] / "files"
MACHINE = platform.machine()
_CODE = "/usr/lib/nova/nova_lab"
_CONDRESTART = 'if [ "$1" -ge 1 ]; then\n{calls}\nfi'
# For trials of what a kill in mid-transaction leaves: seconds to wait once a component's code is in place.
PAUSE = 'if [ -s /etc/lab/yum-pause ]; then sleep "$(cat /etc/lab/yum-pause)" || :; fi'
_WITHOUT_STAND_IN = ("cert", "network", "objectstore")


@dataclass(frozen=True)
class Content:
    """One file of a package: text, mode, and whether it is %config(noreplace)."""

    text: str
    mode: int = 0o644
    config: bool = False


@dataclass(frozen=True)
class Package:
    """One binary package.

    Attributes:
        name: full name.
        requires: rpm dependencies.
        provides: what it provides beside its name.
        contents: files by absolute path.
        services: SysV services it restarts on upgrade, if they run (`condrestart` in %postun).
        post: the %post scriptlet, empty when there is none.
    """

    name: str
    requires: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    contents: dict[str, Content] = field(default_factory=dict)
    services: tuple[str, ...] = ()
    post: str = ""

    @property
    def postun(self) -> str:
        """The %postun scriptlet, empty when there is none."""
        calls = "\n".join(f"    /sbin/service {name} condrestart >/dev/null 2>&1 || :" for name in self.services)
        return _CONDRESTART.format(calls=calls) if calls else ""


@dataclass(frozen=True)
class Source:
    """What one rpmbuild makes: a version, and the packages that carry it."""

    name: str
    version: str
    release: str
    packages: tuple[Package, ...]
    epoch: int = 0
    architecture: str = "noarch"
    installed_on: int = 1_380_000_000  # the files' time stamp, seconds since 1970


def _program(module: str) -> Content:
    code = (
        "#!/usr/bin/python3\nimport sys\n\nsys.path.insert(0, '/usr/lib/nova')\n"
        f"from nova_lab.{module} import main  # noqa: E402\n\nsys.exit(main())\n"
    )
    return Content(code, 0o755)


def _unit(service: str) -> Content:
    binary = service.removeprefix("openstack-")
    return Content(
        f"[Unit]\nDescription={service} (stand-in)\nAfter=network.target mariadb.service\n\n"
        f"[Service]\nType=notify\nExecStart=/usr/bin/{binary}\nRuntimeDirectory=nova\nRuntimeDirectoryPreserve=yes\n"
        "LogsDirectory=nova\nTimeoutStartSec=40\nTimeoutStopSec=10\n\n[Install]\nWantedBy=multi-user.target\n"
    )


def _daemons(*names: str) -> dict[str, Content]:
    contents: dict[str, Content] = {}
    for name in names:
        contents[f"/usr/bin/nova-{name}"] = _program("api")
        contents[f"/usr/lib/systemd/system/openstack-nova-{name}.service"] = _unit(f"openstack-nova-{name}")
    return contents


def nova(release: str, version: str) -> Source:
    """All of nova, as EL6 packages it.

    Args:
        release: grizzly or havana.
        version: upstream's version.
    """
    own = FILES / "nova"
    evr = f"{version}-1.el6"
    code = {f"{_CODE}/{path.name}": Content(path.read_text()) for path in sorted((own / "nova_lab").glob("*.py"))}
    code[f"{_CODE}/release.py"] = Content((own / f"release_{release}.py").read_text())
    if release == "grizzly":
        del code[f"{_CODE}/migrations.py"], code[f"{_CODE}/ddl.py"]
    common = {
        "/usr/bin/nova-manage": _program("manage"),
        "/etc/nova/nova.conf": Content((own / f"nova_{release}.conf").read_text(), 0o640, config=True),
        "/etc/nova/policy.json": Content((own / f"policy_{release}.json").read_text(), 0o640, config=True),
    }
    if release == "havana":
        common["/usr/share/nova/nova-dist.conf"] = Content("[DEFAULT]\nlogdir = /var/log/nova\n")
    needs_common = (f"openstack-nova-common = {evr}",)

    def daemon(package: str, *services: str) -> Package:
        return Package(
            f"openstack-nova-{package}",
            requires=needs_common,
            contents=_daemons(*services),
            services=tuple(f"openstack-nova-{service}" for service in services),
        )

    compute = daemon("compute", "compute")
    compute.contents["/usr/libexec/nova-guest"] = Content((own / "bin" / "nova-guest").read_text(), 0o755)
    readme = "The lab has no stand-in for this service.\n"
    plain = tuple(
        Package(
            f"openstack-nova-{name}",
            requires=needs_common,
            contents={f"/usr/share/nova/{name}.txt": Content(readme)},
        )
        for name in _WITHOUT_STAND_IN
    )
    daemons = (
        daemon("api", "api"),
        daemon("cells", "cells"),
        compute,
        daemon("conductor", "conductor"),
        daemon("console", "consoleauth"),
        daemon("novncproxy", "novncproxy"),
        daemon("scheduler", "scheduler"),
    )
    subpackages = (*daemons, *plain)
    return Source(
        name=f"nova-{release}",
        version=version,
        release="1.el6",
        packages=(
            Package("openstack-nova", requires=tuple(f"{package.name} = {evr}" for package in subpackages)),
            Package("openstack-nova-common", requires=(f"python-nova = {evr}",), contents=common),
            Package("python-nova", contents=code, post=PAUSE),
            *subpackages,
        ),
        installed_on=1_380_000_000 if release == "grizzly" else 1_390_000_000,
    )


def client(component: str, version: str, epoch: int = 0, requires: tuple[str, ...] = ()) -> Source:
    """A python client; where the stand-in has a module `client`, with a command that works."""
    name = f"python-{component}client"
    contents = {f"/usr/share/{name}/version": Content(f"{version}\n")}
    code = FILES / component / f"{component}_lab" / "client.py"
    if code.exists():
        contents[f"/usr/lib/{component}client/{component}client_lab.py"] = Content(code.read_text())
        contents[f"/usr/bin/{component}"] = Content(
            f"#!/usr/bin/python3\nimport sys\n\nsys.path.insert(0, '/usr/lib/{component}client')\n"
            f"from {component}client_lab import main  # noqa: E402\n\nsys.exit(main())\n",
            0o755,
        )
    return Source(f"{name}-{version}", version, "1.el6", (Package(name, requires, contents=contents),), epoch=epoch)


def kernel(release: str) -> Source:
    """A kernel in name only; which one "was booted" is decided when the host boots."""
    title = f"2.6.32-{release}.{MACHINE}"
    contents = {
        f"/boot/vmlinuz-{title}": Content(f"This is a stand-in for the kernel {title}: nothing boots it.\n"),
        f"/lib/modules/{title}/README": Content("A stand-in has no modules.\n"),
    }
    return Source(f"kernel-{release}", "2.6.32", release, (Package("kernel", contents=contents),), architecture=MACHINE)


def base() -> Source:
    """What the other packages' scriptlets need and Debian's own packages do not tell rpm."""
    provides = (
        "/bin/sh",
        "/bin/bash",
        "/sbin/service",
        "/sbin/chkconfig",
        "/usr/bin/python3",
        "system-release = 6.5",
        "system-release(releasever) = 6",
    )
    note = "This package stands for the platform: it only provides what Debian's packages do not tell rpm.\n"
    package = Package("el6-base", provides=provides, contents={"/usr/share/el6-base/README": Content(note)})
    return Source("el6-base", "6.5", "1.el6", (package,))


def grizzly() -> tuple[Source, ...]:
    """What the repository `grizzly` holds."""
    return (
        nova("grizzly", "2013.1.4"),
        client("nova", "2.13.0", epoch=1),
        client("cinder", "1.0.3"),
        client("glance", "0.9.0"),
        kernel("431.el6"),
        base(),
    )


def havana() -> tuple[Source, ...]:
    """What the repository `havana` holds."""
    return (
        nova("havana", "2013.2.1"),
        client("nova", "2.15.0", epoch=1),
        client("cinder", "1.0.6", requires=("python-novaclient >= 1:2.15.0",)),
        client("glance", "0.10.0"),
        kernel("431.5.1.el6"),
    )
