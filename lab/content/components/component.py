"""What a component of the lab is: its packages, services, settings, databases and the ports users know."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lab.content.packages import Content, Source
from lab.spec import HostSpec, LabSpec

Secrets = Mapping[str, str]


@dataclass(frozen=True)
class Front:
    """A frontend and a backend of HAProxy on top-infra01.

    Attributes:
        name: the backend's, `cinder-api`.
        port: of the frontend, and of the servers.
        check: path of the health check.
        role: the backend's servers are the hosts with this role, of which the first is in use and the others are not;
            "": they are the top controllers, all in use.
        path: the backend is only for requests whose path holds this, on the frontend that another one has on the port.
    """

    name: str
    port: int
    check: str = "/"
    path: str = ""
    role: str = ""


@dataclass(frozen=True)
class Component:
    """One OpenStack component beside nova. Tiers are top (its controllers), cell (the cells' controllers), compute.

    Attributes:
        name: `cinder`; also of its folder of stand-in code, `lab/files/cinder`.
        sources: what is built for a release, grizzly or havana.
        packages: tier to what is installed there.
        services: tier to SysV services there: enabled, started, watched by monit, kept running by Puppet.
        files: a host's own settings by path; asked for each host of a tier with services of the component.
        databases: the SQL for a database host, "" where it has none: database, user, schema and rows.
        heartbeats: service to its binary in the table `services` of the database named like the component, on the top
            cell's server; a service that is not here reports nowhere.
        fronts: what users reach it by.
        secrets: names of secrets that are drawn for it.
        debian: Debian packages that hosts need for it.
        staging_files: settings that the staging node gets, by path.
        staging: packages of Havana that the staging node gets, for the command that changes the schema.
        prepare: bash for a host before any package is installed, "" where there is nothing to do.
        settle: bash for a host without services that Puppet keeps running (a client, a dashboard), when its packages
            are installed; "" where there is nothing to do.
        pid_files: service to its pid file, where that is not /run/COMPONENT/BINARY.pid.
    """

    name: str
    sources: Callable[[str], tuple[Source, ...]]
    packages: Mapping[str, tuple[str, ...]]
    services: Mapping[str, tuple[str, ...]]
    files: Callable[[LabSpec, HostSpec, Secrets], Mapping[str, Content]]
    databases: Callable[[LabSpec, HostSpec, Secrets], str]
    heartbeats: Mapping[str, str] = field(default_factory=dict)
    fronts: tuple[Front, ...] = ()
    secrets: tuple[str, ...] = ()
    debian: tuple[str, ...] = ()
    staging: tuple[str, ...] = ()
    staging_files: Callable[[LabSpec, Secrets], Mapping[str, Content]] = lambda _spec, _secrets: {}
    pid_files: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[LabSpec, HostSpec, Secrets], str] = lambda _spec, _host, _secrets: ""
    settle: Callable[[LabSpec, HostSpec, Secrets], str] = lambda _spec, _host, _secrets: ""

    def pid_file(self, service: str) -> str:
        """Where a service notes its process id; monit looks there."""
        return self.pid_files.get(service, f"/run/{self.name}/{service.removeprefix('openstack-')}.pid")
