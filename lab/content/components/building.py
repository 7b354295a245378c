"""What the packages of components are made of: programs, units, the stand-in's code, and what release it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lab.content.components.schemas import module
from lab.content.packages import FILES, Content

GRIZZLY, HAVANA = 1_380_000_000, 1_390_000_000  # time stamps of the files: another release's code is never taken for it


@dataclass(frozen=True)
class Release:
    """What a package is.

    Attributes:
        component: its name.
        name: grizzly or havana.
        version: upstream's.
        head: the schema's version that `db sync` goes to, and on which its services run.
        repository: its row in the table `migrate_version`.
        migrations: DDL by version, from `first` on; None: it has none.
        first: the version from which they start.
        schemas_known: the versions on which its services run, where they are more than the head.
    """

    component: str
    name: str
    version: str
    head: int
    repository: str
    migrations: Mapping[int, Sequence[str]] | None = None
    first: int = 0
    schemas_known: tuple[int, ...] = ()

    @property
    def evr(self) -> str:
        """Version and release, as rpm has them."""
        return f"{self.version}-1.el6"

    @property
    def installed_on(self) -> int:
        """The files' time stamp, seconds since 1970."""
        return GRIZZLY if self.name == "grizzly" else HAVANA

    def text(self) -> str:
        """Its module `release`."""
        names = {
            "COMPONENT": self.component,
            "REPOSITORY": self.repository,
            "NAME": self.name,
            "VERSION": self.version,
            "SCHEMAS": self.schemas_known or (self.head,),
            "HEAD": self.head,
        }
        title = f'"""What this package is: {self.component} {self.version}, {self.name.capitalize()}."""\n\n'
        return title + "".join(f"{name} = {value!r}\n" for name, value in names.items())


def code(release: Release) -> dict[str, Content]:
    """The stand-in's modules, with the modules `release` and, where it has migrations, `migrations`."""
    name = f"{release.component}_lab"
    folder = f"/usr/lib/{release.component}/{name}"
    own = sorted((FILES / release.component / name).glob("*.py"))
    contents = {f"{folder}/{path.name}": Content(path.read_text()) for path in own}
    contents[f"{folder}/release.py"] = Content(release.text())
    if release.migrations is not None:
        contents[f"{folder}/migrations.py"] = Content(module(release.first, release.migrations))
    return contents


def program(component: str, of: str) -> Content:
    """A program that calls `main` of a module; it takes the code beside it, also in a root of its own (/opt/havana)."""
    text = (
        "#!/usr/bin/python3\nimport os\nimport sys\n\n"
        "root = os.path.realpath(__file__).rpartition('/usr/bin/')[0]\n"
        f"sys.path[:0] = [root + '/usr/lib/{component}', '/usr/lib/lab']\n"
        f"from {component}_lab.{of} import main  # noqa: E402\n\nsys.exit(main())\n"
    )
    return Content(text, 0o755)


def daemons(component: str, services: Sequence[str], of: str = "services") -> dict[str, Content]:
    """The program and the unit of each SysV service, whose name is `openstack-` and its program's."""
    contents: dict[str, Content] = {}
    for service in services:
        binary = service.removeprefix("openstack-")
        contents[f"/usr/bin/{binary}"] = program(component, of)
        contents[f"/usr/lib/systemd/system/{service}.service"] = Content(
            f"[Unit]\nDescription={service} (stand-in)\nAfter=network.target mariadb.service\n\n"
            f"[Service]\nType=notify\nExecStart=/usr/bin/{binary}\nRuntimeDirectory={component}\n"
            f"RuntimeDirectoryPreserve=yes\nLogsDirectory={component}\nTimeoutStartSec=40\nTimeoutStopSec=10\n\n"
            "[Install]\nWantedBy=multi-user.target\n"
        )
    return contents


def settings(release: Release, *names: str) -> dict[str, Content]:
    """The package's own settings, which no update replaces: `cinder.conf` is `cinder_havana.conf` in the files."""
    contents: dict[str, Content] = {}
    for name in names:
        stem, _, ending = name.rpartition(".")
        text = (FILES / release.component / f"{stem}_{release.name}.{ending}").read_text()
        contents[f"/etc/{release.component}/{name}"] = Content(text, 0o640, config=True)
    return contents
