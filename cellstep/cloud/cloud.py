"""A cloud that was read and found sound: its nodes, its release, and Nornir over it."""

import gc
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from nornir.core import Nornir
from nornir.core.configuration import Config, CoreConfig, LoggingConfig
from nornir.core.inventory import (
    BaseAttributes,
    ConnectionOptions,
    Defaults,
    Group,
    Groups,
    Host,
    Hosts,
    Inventory,
    ParentGroups,
)
from nornir.core.plugins.connections import ConnectionPlugin, ConnectionPluginRegister
from nornir.core.plugins.runners import RunnerPlugin
from nornir.core.state import GlobalState
from pydantic import SecretStr

from cellstep.cloud.model import CloudConfig
from cellstep.cloud.nodes import Node, Tier
from cellstep.errors import ConfigurationError
from cellstep.releases.model import Release
from plugins.inventory.ranges import fold
from tasks import platforms

SSH = "cellstep_ssh"
MYSQL = "cellstep_mysql"


@contextmanager
def collecting_later() -> Iterator[None]:
    """Keep the garbage collector out of the loading of a cloud, where everything that is made lives on.

    Its looking at them is half of the time that 10,000 hosts take (bench/inventory_load.py).
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@dataclass(frozen=True)
class Cloud:
    """One cloud.

    Attributes:
        directory: its folder, absolute.
        config: cloud.yaml.
        release: the upgrade's facts, with the site's own packages and services.
        nodes: top cell first, then the cells in the inventory's order; by natural order of names in each.
        cells: the child cells in the inventory's order.
        step_lines: the lines of cloud.yaml in which the entries of `steps` begin.
    """

    directory: Path
    config: CloudConfig
    release: Release
    nodes: tuple[Node, ...]
    cells: tuple[str, ...]
    inventory: Inventory = field(repr=False)  # as its plugin read it; `nornir` hands out copies
    step_lines: tuple[int | None, ...] = ()

    @cached_property
    def groups(self) -> dict[str, tuple[Node, ...]]:
        """Each group's nodes in order: top, the cells, the data centres, the roles, then the inventory's own groups."""
        groups: dict[str, list[Node]] = {name: [] for name in ("top", *self.cells)}
        for node in self.nodes:
            for name in (node.cell, node.data_centre, *sorted(node.roles)):
                groups.setdefault(name, []).append(node)
        own = [name for name in self.inventory.groups if name not in groups]
        for name in own:
            members = [node for node in self.nodes if self.inventory.hosts[node.name].has_parent_group(name)]
            groups[name] = members
        return {name: tuple(members) for name, members in groups.items()}

    def fold(self, names: Iterable[str]) -> str:
        """Node names as ranges: `c01-n[01-02],c02-n01`."""
        return fold(names)

    def heading(self, stage: str) -> str:
        """A stage in words: `Nova, Grizzly to Havana: lab`; a back-out goes the other way."""
        component, _, kind = stage.partition("-")
        here, there = self.release.source.capitalize(), self.release.target.capitalize()
        if kind == "backout":
            return f"{component.capitalize()} back-out, {there} to {here}: {self.config.name}"
        return f"{component.capitalize()}{f' {kind}' if kind else ''}, {here} to {there}: {self.config.name}"

    def database(self, component: str) -> str:
        """The schema that a component's tables are in."""
        return self.config.databases.names.get(component, component)

    def expected_packages(self, names: Iterable[str]) -> dict[str, str]:
        """Of these packages, `[epoch:]version[-release]` after the upgrade."""
        wanted = set(names)
        return {
            name: fact.evr
            for component in self.release.components.values()
            for name, fact in component.packages.items()
            if name in wanted
        }

    def services(self, component: str) -> list[str]:
        """A component's services that run on any tier, in the release's order."""
        return [fact.name for fact in self.release.components[component].services if fact.tiers]

    def services_on(self, component: str, tier: Tier) -> dict[str, str]:
        """A component's services on nodes of a tier: service to the name in its heartbeat, "" where it has none."""
        facts = self.release.components[component].services
        return {fact.name: fact.binary or "" for fact in facts if tier in fact.tiers}

    def runs(self, component: str, node: Node) -> bool:
        """Whether a service of the component runs on a node.

        A site that leaves a component out of a tier says so in `services`: keystone in the top cell alone, say.
        """
        return node.tier is not None and bool(self.services_on(component, node.tier))

    def cells_with(self, component: str) -> set[str]:
        """The cells with a node on which the component runs; all of them where it has no services."""
        has_services = bool(self.release.components[component].services)
        return {node.cell for node in self.nodes if not has_services or self.runs(component, node)}

    def database_password(self) -> SecretStr:
        """The password of the database user; read when first asked for.

        Raises:
            ConfigurationError: cloud.yaml names none, or it cannot be read, or others may read it.
        """
        return self._password

    def dashboard_password(self) -> str:
        """The password of the dashboard's test user; read whenever it is asked for.

        Raises:
            ConfigurationError: cloud.yaml names none, or it cannot be read, or others may read it.
        """
        if self.config.dashboard is None:
            raise ConfigurationError(["cloud.yaml: dashboard is not there; describe the dashboard"])
        return read_secret(self.config.dashboard.password_file, "dashboard.password_file").get_secret_value()

    @cached_property
    def _password(self) -> SecretStr:
        databases = self.config.databases
        if databases.password_file is not None:
            return read_secret(databases.password_file, "databases.password_file")
        if databases.password_env is not None:
            value = os.environ.get(databases.password_env, "")
            if not value:
                what = f"the environment variable {databases.password_env} is not set; set it to the database password"
                raise ConfigurationError([f"cloud.yaml: databases.password_env: {what}"])
            return SecretStr(value)
        raise ConfigurationError(["cloud.yaml: databases has no password; write password_file or password_env"])

    @collecting_later()
    def nornir(self, runner: RunnerPlugin) -> Nornir:
        """Nornir over all nodes, with hosts of its own and connection options for SSH and MySQL.

        Nothing global is touched: Nornir's logging stays as it is.

        Args:
            runner: what dispatches tasks to hosts.
        """
        _register_connections()
        config = Config(logging=LoggingConfig(enabled=False), core=CoreConfig(raise_on_error=False))
        return Nornir(inventory=self._copy(), runner=runner, config=config, data=GlobalState())

    def _copy(self) -> Inventory:
        """The inventory with hosts and extras of its own, so that no two Nornirs or hosts share one."""
        read = self.inventory
        defaults = Defaults(
            hostname=read.defaults.hostname,
            port=read.defaults.port,
            username=read.defaults.username or self.config.ssh.username,
            password=read.defaults.password,
            platform=read.defaults.platform,
            data=dict(read.defaults.data),
            connection_options=read.defaults.connection_options,
        )
        groups = Groups()
        for name, group in read.groups.items():
            groups[name] = Group(
                **_own(group),
                name=name,
                data=dict(group.data),
                defaults=defaults,
                connection_options=group.connection_options,
            )
        for name, group in read.groups.items():
            groups[name].groups = ParentGroups(groups[parent.name] for parent in group.groups)
        extras = self._ssh_extras()
        inherited = SSH in read.defaults.connection_options
        inherited = inherited or any(SSH in group.connection_options for group in read.groups.values())
        hosts = Hosts()
        for node in self.nodes:
            host = read.hosts[node.name]
            options = dict(host.connection_options)
            said = host.get_connection_parameters(SSH) if inherited else options.get(SSH, ConnectionOptions())
            # What the inventory says goes before cloud.yaml.
            interpreter = {"shell": platforms.named(node.platform, node.name).interpreter}
            options[SSH] = ConnectionOptions(**_own(said), extras={**extras, **interpreter, **(said.extras or {})})
            if node.roles & {"database", "replica"} or node.name in self.config.databases.on.values():
                options[MYSQL] = _DatabaseOptions(self)
            hosts[node.name] = Host(
                **_own(host),
                name=node.name,
                groups=ParentGroups(groups[group.name] for group in host.groups),
                data={**host.data, "cell": node.cell, "roles": sorted(node.roles), "data_centre": node.data_centre},
                connection_options=options,
                defaults=defaults,
            )
        return Inventory(hosts=hosts, groups=groups, defaults=defaults)

    def _ssh_extras(self) -> dict[str, Any]:
        ssh = self.config.ssh
        return {
            "key_file": str(ssh.key) if ssh.key else None,
            "known_hosts": str(ssh.known_hosts) if ssh.known_hosts else None,
            "ssh_config": str(ssh.config) if ssh.config else None,
            "host_keys": ssh.host_keys,
            "sudo": ssh.sudo,
            "connect_timeout": ssh.connect_timeout_s,
            "banner_timeout": ssh.banner_timeout_s,
            "auth_timeout": ssh.auth_timeout_s,
            "command_timeout": ssh.command_timeout_s,
            "legacy_algorithms": False,
            "jump": ssh.jump,
            "jump_connections": ssh.jump_connections,
            "jump_username": self.inventory.defaults.username or ssh.username,
        }


class _DatabaseOptions(ConnectionOptions):
    """Options whose password is read from its file when a database is first connected to, not before."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        databases = cloud.config.databases
        extras = {"via": databases.via, "port": databases.port}
        super().__init__(username=databases.username, extras=extras)

    @property
    def password(self) -> str:
        return self._cloud.database_password().get_secret_value()

    @password.setter
    def password(self, value: str | None) -> None:
        """Nornir fills options in from groups; the password of cloud.yaml stays."""


def _own(element: BaseAttributes) -> dict[str, Any]:
    """What a host or group says itself, without what it inherits."""
    names = ("hostname", "port", "username", "password", "platform")
    return {name: object.__getattribute__(element, name) for name in names}


def _register_connections() -> None:
    """Make our connection plugins known to Nornir; one that was registered under the name before stays."""
    from plugins.connections.mysql import MysqlConnection  # noqa: PLC0415 - brings PyMySQL and paramiko,
    from plugins.connections.ssh import SshConnection  # noqa: PLC0415 - which plan and inventory do not need

    plugins: dict[str, type[ConnectionPlugin]] = {SSH: SshConnection, MYSQL: MysqlConnection}
    for name, plugin in plugins.items():
        if name not in ConnectionPluginRegister.available:
            ConnectionPluginRegister.register(name, plugin)


def read_secret(path: Path, key: str) -> SecretStr:
    """The one line of a file that nobody else may read.

    Args:
        path: the file.
        key: of cloud.yaml, for the message.

    Raises:
        ConfigurationError: it cannot be read, others may read it, or it has not just one line.
    """
    where = f"cloud.yaml: {key}: {path}"
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise ConfigurationError([f"{where} is not a file; name a file with one line in it"])
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigurationError([f"{where} is open to others (mode {stat.S_IMODE(mode):04o}); chmod 600 it"])
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        reason = (error.strerror or "unreadable").lower()
        raise ConfigurationError([f"{where} cannot be read: {reason}; write it, mode 600"]) from None
    except UnicodeDecodeError:
        raise ConfigurationError([f"{where} is not UTF-8 text; write one line into it"]) from None
    secret = text.rstrip("\r\n")
    if not secret or "\n" in secret or "\0" in secret:
        raise ConfigurationError([f"{where} must have just one line; write it so"])
    return SecretStr(secret)
