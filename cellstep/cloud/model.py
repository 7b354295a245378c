"""What stands in a cloud.yaml.

Paths marked `LocalPath` are of the machine cellstep runs on, relative to the cloud's folder; all other paths are of the
cloud's hosts.
"""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from cellstep.cloud.audit import AuditConfig
from cellstep.cloud.dashboard import DashboardConfig
from cellstep.cloud.fields import (
    Count,
    Factor,
    Flag,
    Line,
    LocalPath,
    Maybe,
    Mebibytes,
    Ratio,
    RemotePath,
    Seconds,
)
from cellstep.cloud.fields import Strict as _Strict
from cellstep.cloud.fields import admin_socket as _admin_socket
from cellstep.cloud.fields import environment_name as _environment_name
from cellstep.cloud.fields import placeholders as _placeholders
from cellstep.cloud.fields import plain_address as _plain_address
from cellstep.cloud.measure import MeasureConfig
from cellstep.cloud.nodes import Tier
from cellstep.cloud.pace import BudgetsConfig, PaceConfig
from cellstep.cloud.reach import ReachConfig
from cellstep.cloud.steps import StepConfig
from cellstep.releases.model import Evr
from plugins.inventory.model import Jump, Port, Word


class InventoryConfig(_Strict):
    """Where the nodes come from."""

    plugin: Literal["cellstep_cells", "SimpleInventory"] = Field(
        default="cellstep_cells", description="Nornir inventory plugin: cellstep_cells, or Nornir's own SimpleInventory"
    )
    options: dict[str, Line] = Field(
        default_factory=dict,
        description="cellstep_cells: path; SimpleInventory: host_file, group_file, defaults_file, encoding",
    )

    @model_validator(mode="after")
    def _known_options(self) -> Self:
        known = {
            "cellstep_cells": {"path"},
            "SimpleInventory": {"host_file", "group_file", "defaults_file", "encoding"},
        }[self.plugin]
        if unknown := sorted(set(self.options) - known):
            raise ValueError(f"{self.plugin} has no option '{unknown[0]}'; known options: {', '.join(sorted(known))}")
        return self


class SshConfig(_Strict):
    """How hosts are reached."""

    username: Word | None = Field(
        default=None, description="user to log in as; the SSH configuration's or yours if left out"
    )
    key: LocalPath | None = Field(default=None, description="private key; the agent's keys if left out")
    known_hosts: LocalPath | None = Field(
        default=None, description="file of known host keys; ~/.ssh/known_hosts if left out"
    )
    config: LocalPath | None = Field(default=None, description="ssh_config file; none is read if left out")
    host_keys: Literal["strict", "accept-new"] = Field(
        default="strict", description="strict refuses hosts whose key is not known; accept-new stores a new host's key"
    )
    jump: Jump | None = Field(
        default=None,
        description="jump host to go through to all nodes: [user@]host[:port], several with commas, or none; the SSH "
        "configuration's ProxyJump if left out, and what the inventory says goes before it",
    )
    jump_connections: Count = Field(
        default=50, description="connections through one jump host at once; each takes a file descriptor there"
    )
    sudo: Flag = Field(default=False, description="run commands under `sudo -n`")
    connect_timeout_s: Seconds = Field(default=5, description="seconds to wait for a TCP connection")
    banner_timeout_s: Seconds = Field(default=10, description="seconds to wait for sshd's greeting")
    auth_timeout_s: Seconds = Field(default=10, description="seconds to wait for the log-in")
    command_timeout_s: Seconds = Field(
        default=60, description="seconds to wait for a command which has no limit of its own"
    )


class DatabasesConfig(_Strict):
    """How the databases on nodes with the role `database` are reached."""

    via: Literal["ssh", "direct"] = Field(default="ssh", description="through the host's SSH connection, or directly")
    port: Port = Field(default=3306, description="the server's TCP port")
    username: Line = Field(default="cellstep", description="database user")
    password_file: LocalPath | None = Field(
        default=None, description="file with the password, readable by its owner alone"
    )
    password_env: Annotated[str, AfterValidator(_environment_name)] | None = Field(
        default=None, description="environment variable with the password, in place of password_file"
    )
    names: dict[str, Line] = Field(
        default_factory=dict, description="component to schema name, where it is not the component's own name"
    )
    on: dict[str, Word] = Field(
        default_factory=dict, description="component to the node of its database, where that is not the top cell's"
    )
    replicas: dict[Word, Word] = Field(
        default_factory=dict, description="database node to the node whose replica of it `--replica` asks instead"
    )

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        if self.password_file and self.password_env:
            raise ValueError("has both password_file and password_env; keep one")
        return self


class FenceConfig(_Strict):
    """How user requests are blocked: through HAProxy's admin socket on the nodes with the role `loadbalancer`."""

    socket: Annotated[Line, AfterValidator(_admin_socket)] = Field(
        default="127.0.0.1:9999",
        description="HAProxy's admin socket: host:port on the balancer, or a Unix path (socat is used then)",
    )
    backends: Annotated[
        dict[Word, Annotated[list[Line], Field(min_length=1)]],
        BeforeValidator(
            lambda value: {"nova": value} if isinstance(value, list) else value,
            json_schema_input_type=dict[str, list[str]] | list[str],
        ),
    ] = Field(default={"nova": ["nova-api"]}, description="stage to HAProxy's backends to fence; a list is nova's")


class ApisConfig(_Strict):
    """Where the APIs are looked at from outside, for the time in which users get no answer."""

    watch_from: Word | None = Field(
        default=None, description="a node with curl that users could be at; if left out nothing is measured"
    )
    urls: dict[Word, Annotated[Line, AfterValidator(_plain_address)]] = Field(
        default_factory=dict, description="stage to the address that users have, as that node reaches it"
    )
    every_s: Annotated[float, Field(strict=False, ge=0.2, le=60)] = Field(
        default=1, description="seconds between two looks"
    )


class PuppetUpdates(_Strict):
    """The switch of automatic software updating: a key in a file of KEY=value lines."""

    file: RemotePath = Field(default="/etc/sysconfig/yum-autoupdate", description="the file, on every node")
    key: Line = Field(default="ENABLED", description="the key in it")
    off: Line = Field(default="false", description="the value that switches updating off")


class PuppetConfig(_Strict):
    """How Puppet is run and held."""

    run: Line = Field(
        default="puppet agent --onetime --no-daemonize --verbose", description="command for one forced run, on any node"
    )
    updates: PuppetUpdates = Field(default_factory=PuppetUpdates, description="the switch of automatic updating")
    lock: RemotePath = Field(
        default="/var/lib/puppet/state/agent_disabled.lock", description="file that is there while Puppet is disabled"
    )


class CommandOn(_Strict):
    """A site's own command, and where it is run."""

    on: Line = Field(description="node, group or range, as --limit takes it")
    command: Line = Field(description="the command")


class Promotion(_Strict):
    """The site's command that moves the repository from QA to master."""

    on: Line = Field(description="the node to run it on")
    command: Line = Field(description="the command")
    already: Maybe = Field(default="", description="command that ends with 0 when it was promoted already")
    undo: Maybe = Field(default="", description="command that moves it back, for a back-out")


class RepositoryConfig(_Strict):
    """The package repository of the release to upgrade to."""

    name: Word = Field(description="its id, as `yum repolist` prints it")
    baseurl: Annotated[Maybe, AfterValidator(_plain_address)] = Field(
        default="", description="its address on the nodes before it is promoted, for the preflight; no password in it"
    )
    gpgcheck: Flag = Field(
        default=True, description="have yum check signatures where it is placed on nodes for one stage"
    )
    promote: Promotion = Field(description="how it is moved from QA to master")


class MonitoringConfig(_Strict):
    """What restarts services and raises alarms, and how it is kept from doing so."""

    kind: Literal["monit", "none"] = Field(default="none", description="what restarts stopped services on the nodes")
    mask_alarms: Maybe = Field(default="", description="command on every node that masks its alarms")
    unmask_alarms: Maybe = Field(default="", description="command that undoes mask_alarms")
    alarms_masked: Maybe = Field(default="", description="command that ends with 0 when alarms are masked already")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        given = [bool(text) for text in (self.mask_alarms, self.unmask_alarms, self.alarms_masked)]
        if any(given) and not all(given):
            raise ValueError("needs mask_alarms, unmask_alarms and alarms_masked together; write all three or none")
        return self


class ImagesCheckConfig(_Strict):
    """The lists of images as an ordinary user has them: commands on each top controller, past the fence."""

    environment: Maybe = Field(
        default="", description="file on each top controller with an ordinary user's credentials, sourced before"
    )
    project: Line = Field(description="the id of that user's project")
    nova: Line = Field(default="nova image-list", description="lists the images through Nova's API")
    glance: Line = Field(default="glance image-list", description="lists the images through Glance's API")


class CheckoutConfig(_Strict):
    """The check-out tests: commands on the first top controller."""

    environment: Maybe = Field(default="", description="file there with the credentials, sourced before the commands")
    cell_path: Annotated[Line, _placeholders("cell")] = Field(
        default="api!{cell}", description="nova's path of a child cell; {cell} is its name"
    )
    create: Annotated[Line, _placeholders("name", "cell_path")] = Field(
        default="nova boot --flavor m1.tiny --image cirros --hint target_cell='{cell_path}' {name}",
        description="makes the guest {name} in the cell {cell_path}",
    )
    show: Annotated[Line, _placeholders("name")] = Field(
        default="nova show {name}", description="shows the guest {name}"
    )
    delete: Annotated[Line, _placeholders("name")] = Field(
        default="nova delete {name}", description="deletes the guest {name}, which may be its id"
    )
    services: Line = Field(default="nova service-list", description="lists the services of all cells through RabbitMQ")
    samples_s: Seconds = Field(
        default=900, description="seconds to wait for samples of every compute node: longer than the agents' interval"
    )
    commands: list[CommandOn] = Field(default_factory=list, description="the site's own tests")
    images: ImagesCheckConfig | None = Field(
        default=None, description="the lists of images that an ordinary user gets, for the stage glance"
    )


class ClientsConfig(_Strict):
    """The machines with the role `client`."""

    calls: list[CommandOn] = Field(
        default_factory=list, description="what a user there would type, to prove that the upgraded clients work"
    )
    packages: dict[str, Evr] = Field(
        default_factory=dict, description="further packages that the stage brings them: package to version"
    )


class KeystoneConfig(_Strict):
    """What the site wants of Keystone's stage beside the upgrade."""

    purge_tokens: Flag = Field(
        default=False, description="delete expired tokens before the dumps, a few at a time, while keystone serves"
    )


class PreflightConfig(_Strict):
    """From when on the preflight, days ahead, minds something."""

    clock_s: Seconds = Field(default=2, description="seconds that a node's clock may be off")
    free_mib: dict[RemotePath, Mebibytes] = Field(
        default={"/": 512, "/var": 1024, "/boot": 64},
        description="folder to MiB that must be free; /boot counts where the kernel is updated",
    )
    lock_s: Seconds = Field(default=300, description="seconds for which a process may hold rpm's or yum's lock")
    dump_share: Ratio = Field(default=1.0, description="room for a database's dump, as a share of its data's size")
    replica_lag_s: Seconds = Field(default=60, description="seconds that a replica may be behind")


class StagingConfig(_Strict):
    """Where dumps are restored to prove them, and schema changes are rehearsed."""

    on: Word | None = Field(
        default=None,
        description="a node with a MySQL server's programs and the new release's commands; if left out each dump is "
        "proven on its own database node, and nothing is rehearsed",
    )
    folder: RemotePath = Field(default="/var/lib/cellstep/staging", description="folder there for scratch servers")
    commands: dict[str, Annotated[Line, _placeholders("config")]] = Field(
        default_factory=dict,
        description="component to the command that changes the copy's schema, in place of the release's; {config} is "
        "the file with the copy's address",
    )
    live: dict[str, Line] = Field(
        default_factory=dict,
        description="component to the command that changes the live schema from there, where the component's stage "
        "does it before its packages are updated (glance)",
    )
    warn_factor: Factor = Field(default=2, description="a live change that takes so many times as long is told of")
    stop_factor: Factor = Field(default=10, description="one that takes so many times as long is ended")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.stop_factor < self.warn_factor:
            raise ValueError("has a stop_factor below its warn_factor; give a larger one")
        return self


class DrainConfig(_Strict):
    """How long to wait until no instance has a task state and the queues are empty."""

    timeout_s: Seconds = Field(default=600, description="seconds to wait")
    accept_stuck: Flag = Field(default=False, description="go on after that time all the same; what is stuck is listed")


class CloudConfig(_Strict):
    """cloud.yaml: how one cloud is reached and upgraded."""

    name: Word = Field(description="what the cloud is called in reports")
    release: Line = Field(description="the upgrade: a release that ships, such as grizzly-havana, or a file's path")
    inventory: InventoryConfig = Field(default_factory=InventoryConfig, description="where the nodes come from")
    network_namespace: Word | None = Field(
        default=None, description="network namespace which the command enters by itself"
    )
    ssh: SshConfig = Field(default_factory=SshConfig, description="how hosts are reached")
    reach: ReachConfig | None = Field(
        default=None, description="cells that only a worker inside them reaches; none if left out"
    )
    workers: Count = Field(default=20, description="hosts at once in all")
    workers_per_cell: Count | None = Field(
        default=None, description="hosts of one cell at once; no such limit if left out"
    )
    pace: PaceConfig = Field(default_factory=PaceConfig, description="how fast a step goes to its nodes")
    budgets: BudgetsConfig = Field(default_factory=BudgetsConfig, description="how many compute nodes a run may lose")
    databases: DatabasesConfig = Field(default_factory=DatabasesConfig, description="how databases are reached")
    backup_folder: RemotePath = Field(
        default="/var/lib/cellstep/backups", description="folder on each database node that keeps the dumps"
    )
    audit: AuditConfig = Field(default_factory=AuditConfig, description="audits of the whole cloud")
    staging: StagingConfig = Field(
        default_factory=StagingConfig, description="where dumps are proven and schema changes rehearsed"
    )
    fence: FenceConfig = Field(default_factory=FenceConfig, description="how user requests are blocked")
    apis: ApisConfig = Field(default_factory=ApisConfig, description="the look at the APIs from outside")
    drain: DrainConfig = Field(default_factory=DrainConfig, description="the wait for rest before daemons are stopped")
    puppet: PuppetConfig = Field(default_factory=PuppetConfig, description="how Puppet is run and held")
    repository: RepositoryConfig = Field(description="the package repository of the release to upgrade to")
    preflight: PreflightConfig = Field(default_factory=PreflightConfig, description="thresholds of the preflight")
    monitoring: MonitoringConfig = Field(default_factory=MonitoringConfig, description="restarts and alarms")
    keystone: KeystoneConfig = Field(default_factory=KeystoneConfig, description="Keystone's stage")
    checkout: CheckoutConfig = Field(default_factory=CheckoutConfig, description="the check-out tests")
    clients: ClientsConfig = Field(default_factory=ClientsConfig, description="the machines with client CLIs")
    measure: MeasureConfig = Field(default_factory=MeasureConfig, description="how fast the cloud answers and boots")
    dashboard: DashboardConfig | None = Field(default=None, description="the dashboard; no stage horizon if left out")
    reboot_timeout_s: Seconds = Field(default=900, description="seconds a host may take to reboot")
    settle_s: Seconds = Field(default=120, description="seconds to wait until services report and guests come and go")
    stale_after_s: Seconds = Field(default=60, description="a service's heartbeat older than so many seconds is stale")
    packages: dict[str, Evr] = Field(
        default_factory=dict, description="the site's own builds: package to [epoch:]version[-release]"
    )
    services: dict[Tier, list[str]] = Field(
        default_factory=dict, description="the services of a tier (top, cell, compute), in place of the release's"
    )
    steps: list[StepConfig] = Field(
        default_factory=list, description="the site's own steps, and what it changes of the stages' own"
    )
