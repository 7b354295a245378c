"""What a platform is: the commands that tasks send to a node and how their answers are read, as tables.

A task takes its words from here and never asks which platform it is on. A command that a platform does not have is
"" or None, and the task that needs it refuses with `Lacking`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from plugins.errors import OperatorError

Installed = dict[str, list[str]]
"""Package name to the installed versions, one or more each."""

States = dict[str, dict[str, str]]
"""Service to {actual: running|starting|stopped, boot: on|off}; one that is not installed is not in it."""

Expected = Mapping[str, str]
"""Package name to the expected version."""


class UnknownPlatform(OperatorError):
    """The inventory gives a node a platform that there is no table of."""


class Lacking(OperatorError):
    """The platform has no such command: what was asked for cannot be done there."""


@dataclass(frozen=True)
class Guest:
    """A running guest: its uuid, and its process's start in ticks since the node's boot and in seconds since 1970."""

    uuid: str
    start_ticks: int
    started: float


@dataclass(frozen=True)
class Services:
    """The services of the system.

    Attributes:
        states: the script that tells the state of these services.
        parse: what it printed.
        stop: the script that stops them and takes them out of the boot sequence.
        start: the script that puts the first into the boot sequence and starts the second.
        graceful: the script that has a web server take up what is new and end the requests it has; None where it has
            no such thing.
    """

    states: Callable[[Sequence[str]], str]
    parse: Callable[[str], States]
    stop: Callable[[Sequence[str]], str]
    start: Callable[[Sequence[str], Sequence[str]], str]
    graceful: Callable[[Sequence[str]], str] | None = None


@dataclass(frozen=True)
class Download:
    """Bringing packages to the node beforehand.

    Attributes:
        script: of these packages at these versions, and the kernel too where that is said.
        ok: the exit statuses that may mean that all went well.
        well: what it prints where a status of those other than 0 means that; "" where only 0 does.
        cached: the script that lists the files that are there, one a line; "" where the download's end is proof enough.
        missing: which of the packages are not in that list, in the manager's words.
        hint: what may be wrong then.
    """

    script: Callable[[Expected, bool], str]
    ok: tuple[int, ...] = (0,)
    well: str = ""
    cached: str = ""
    missing: Callable[[Expected, str], list[str]] = lambda _expected, _cached: []
    hint: str = ""


@dataclass(frozen=True)
class Back:
    """The way back of packages, as single commands.

    Attributes:
        script: the whole of them, in order; what is given: packages to bring back, others that go back with them where
            they can, packages to install again, names to remove.
        rows: the script that prints name, version and transaction of all that is installed; "" where the manager
            numbers no transactions.
        download: the script that brings packages here: `downgrade` or `install`, and the packages.
    """

    script: Callable[[Expected, Expected, Expected, Sequence[str]], str]
    rows: str = ""
    download: Callable[[str, Expected], str] | None = None


@dataclass(frozen=True)
class Packages:
    """The package manager.

    Attributes:
        manager: its name.
        database: what says what is installed, in words.
        log: the file in which it writes what it did, for messages.
        mend: what mends a package that is there twice.
        listing: the script that prints all that is installed.
        parse: what it printed.
        normal: a package's name as `parse` gives it.
        version: an expected version as the manager writes it.
        matches: whether an installed version is the expected one.
        clean: the script after which nothing stale is taken for the repository's present state.
        update: the script that brings these packages to these versions, and a new kernel where that is said.
        reboot_due: what it prints where a reboot is due afterwards; "" where that is not told.
        doubt: what may be wrong where it ended well and the version is another.
        download: None where there is no such thing.
        install: the script that installs these packages at these versions, or updates them to those; None for none.
        resolve: the script that works out an update and changes nothing; None where there is no such thing.
        transaction: package name to version of all that it says would come.
        unmerged: the script that lists configuration files to merge, one a line; "" for none.
        set_aside: the same, with the site's own files that an update set aside.
        kernels: the script that prints `TIME VERSION` of the installed kernels, oldest first; "" for none.
        remove_kernels: the script that removes these of the installed kernels; None where there is none.
        repositories: the script that lists the enabled repositories; "" where there are none.
        parse_repositories: their ids.
        repolist: what an operator would call, for messages.
        repository_file: where a repository of ours is written, with %s for its id; "" where there is no such place.
        refresh: the script that forgets what is known of a repository.
        busy: the names of its processes, as `pgrep -x` takes them; "" for none.
        back: the way back; None where there is none.
    """

    manager: str
    database: str
    listing: str
    parse: Callable[[str], Installed]
    matches: Callable[[str, str], bool]
    update: Callable[[Expected, bool], str]
    reboot_due: str = ""
    clean: str = ""
    log: str = ""
    mend: str = ""
    doubt: str = "is the version in the repository, is it excluded?"
    normal: Callable[[str], str] = str
    version: Callable[[str], str] = str
    download: Download | None = None
    install: Callable[[Expected], str] | None = None
    resolve: Callable[[Expected], str] | None = None
    transaction: Callable[[str], dict[str, str]] = lambda _said: {}
    unmerged: str = ""
    set_aside: str = ""
    kernels: str = ""
    remove_kernels: Callable[[Sequence[str]], str] | None = None
    repositories: str = ""
    parse_repositories: Callable[[str], set[str]] = lambda _said: set()
    repolist: str = ""
    repository_file: str = ""
    refresh: Callable[[str], str] = lambda _repository: ""
    busy: str = ""
    back: Back | None = None


@dataclass(frozen=True)
class Care:
    """What an audit asks of a node beside packages, services and guests.

    Attributes:
        paths: folders whose free space counts.
        puppet_lock: the file that is there while Puppet is disabled; "" where Puppet is not asked for.
        monit: whether monit watches the services there.
    """

    paths: tuple[str, ...] = ()
    puppet_lock: str = ""
    monit: bool = False


@dataclass(frozen=True)
class System:
    """The operating system.

    Attributes:
        boot_id: the script that prints the boot id: another one after each boot.
        kernel: the script that prints the running kernel.
        reboot: the script that restarts the node.
        guests: the script that prints the running guests.
        parse_guests: its lines.
        pending: the script that prints why a reboot is due, one reason a line; "" where only the kernel can tell.
        facts: the script that prints all of `tasks.facts` at once: of the whole platform, for these services, and what
            an audit asks, where that is wanted.
        cares: whether it can be asked that.
    """

    boot_id: str
    kernel: str
    reboot: str
    facts: Callable[["Platform", Sequence[str], Care | None], str]
    guests: str = ""
    parse_guests: Callable[[Sequence[str]], list[Guest]] = lambda _lines: []
    pending: str = ""
    cares: bool = False


@dataclass(frozen=True)
class Guard:
    """What goes before each change on the node, so that an operator who was replaced changes nothing there.

    Attributes:
        before: the functions, for the operator's token, kept in a folder on the node.
        change: a script that is run only if no newer token is known, and that `fence` waits for.
        fence: keep the token, and wait so many seconds until no change is under way.
        root: the folder; "" for the usual one.
    """

    before: Callable[[str, int], str]
    change: Callable[[str], str]
    fence: Callable[[float], str]
    root: str = ""


@dataclass(frozen=True)
class Platform:
    """A platform.

    Attributes:
        name: as the inventory writes it.
        words: what it is.
        interpreter: of `plugins.connections.shells.SHELLS`.
        jobs: whether long commands run detached there (`tasks.jobs`); else they last as long as their connection.
        preflight: whether the preflight's questions can be asked there.
    """

    name: str
    words: str
    interpreter: str
    services: Services
    packages: Packages
    system: System
    guard: Guard
    jobs: bool = True
    preflight: bool = False
