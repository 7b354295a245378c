"""What travels to a worker and back: plain data of hosts, a task's name and arguments, an outcome's record.

No secret travels. The worker has a copy of the cloud's folder: its key, its known_hosts and the databases' password
come from the files that cloud.yaml names there. What an argument has of the cloud itself (the function that reads a
password) is the worker's own cloud's at the other end.
"""

import importlib
import io
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any, cast

from nornir.core.inventory import ConnectionOptions, Groups, Hosts, Inventory
from nornir.core.inventory import Defaults as NoDefaults
from nornir.core.inventory import Host as NornirHost

from cellstep.cloud.cloud import SSH, Cloud
from cellstep.cloud.nodes import Node
from cellstep.engine.dispatch import Outcome
from cellstep.stages.functions import Functions, plain
from plugins.errors import OperatorError
from tasks.binding import Binding
from tasks.holds import HostTask
from tasks.peers import PEERS

FILES = frozenset({"key_file", "known_hosts", "ssh_config"})
"""Options that name files: the worker's own cloud.yaml has them."""


@dataclass(frozen=True)
class HostData:
    """A host, as the operator's inventory has it.

    Attributes:
        node: its name, cell, roles, data centre and platform.
        hostname: what to connect to.
        port: of its sshd; None for the default.
        username: to log in as; None for the worker's cloud.yaml's.
        options: of cellstep_ssh, without those that name files.
        data: whatever the inventory has of it.
    """

    node: Node
    hostname: str | None
    port: int | None
    username: str | None
    options: Mapping[str, Any]
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Parcel:
    """A shard: one task on hosts of one cell.

    Attributes:
        task: the function, of a module that the worker has, too.
        hosts: where.
        arguments: by host name.
        bindings: by host name: run, step, generation, token, again.
        dry_run: tasks are told to change nothing.
    """

    task: HostTask
    hosts: tuple[HostData, ...]
    arguments: Mapping[str, Mapping[str, Any]]
    bindings: Mapping[str, tuple[str, str, int, int, bool]]
    dry_run: bool


def host_data(host: NornirHost, node: Node) -> HostData:
    """Of a host of the operator's Nornir."""
    said = host.get_connection_parameters(SSH)
    options = {name: value for name, value in (said.extras or {}).items() if name not in FILES}
    data = {name: value for name, value in host.extended_data().items() if name != PEERS}
    return HostData(node, said.hostname, said.port, said.username, options, data)


def plain_binding(binding: Binding) -> tuple[str, str, int, int, bool]:
    """What of a binding can travel: neither the look at the operator's lock nor what shows a line."""
    return binding.run, binding.step, binding.generation, binding.token, binding.again


def binding_from(said: tuple[str, str, int, int, bool], tell: Callable[[str], None]) -> Binding:
    """The same at the worker."""
    run, step, generation, token, again = said
    return Binding(run, step, generation, token, again, tell=tell)


def small_cloud(cloud: Cloud, hosts: Sequence[HostData]) -> Cloud:
    """The worker's cloud with these hosts as they came, and beside them those that a step may ask something of."""
    here = {each.node.name: each for each in hosts}
    beside = [node for node in cloud.nodes if node.tier != "compute" and node.name not in here]
    made = Hosts({node.name: cloud.inventory.hosts[node.name] for node in beside})
    for name, each in here.items():
        made[name] = NornirHost(
            name,
            hostname=each.hostname,
            port=each.port,
            username=each.username,
            platform=each.node.platform,
            data=dict(each.data),
            connection_options={SSH: ConnectionOptions(extras=dict(each.options))},
            defaults=cloud.inventory.defaults,
        )
    nodes = (*(each.node for each in hosts), *beside)
    inventory = Inventory(made, cloud.inventory.groups or Groups(), cloud.inventory.defaults or NoDefaults())
    config = cloud.config.model_copy(update={"reach": None})
    return Cloud(cloud.directory, config, cloud.release, nodes, cloud.cells, inventory)


def pack(thing: Any) -> bytes:
    """As bytes for the other end.

    Raises:
        OperatorError: it has something that cannot travel, such as a function made on the spot.
    """
    file = io.BytesIO()
    try:
        _Pickler(file).dump(thing)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise OperatorError(f"cannot be sent through a worker: {error}; call it where the node is reached") from error
    return file.getvalue()


def unpack(content: bytes, cloud: Cloud) -> Parcel:
    """A shard that `pack` made at the operator's end."""
    return cast("Parcel", _Unpickler(io.BytesIO(content), cloud).load())


def unpack_outcome(content: bytes) -> Outcome:
    """A record that `pack` made at the worker's end."""
    return cast("Outcome", pickle.loads(content))  # noqa: S301 - who may speak to us is what TLS is for


class _Pickler(pickle.Pickler):
    """Leaves the cloud out, which each end has its own copy of."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)

    def persistent_id(self, obj: Any) -> str | None:
        return "cloud" if isinstance(obj, Cloud) else None

    def reducer_override(self, obj: Any) -> Any:
        """A site's hold is read by a function around its own."""
        if isinstance(obj, FunctionType) and obj.__code__ is plain(_nothing).__code__:
            return plain, (obj.__wrapped__,)  # type: ignore[attr-defined] # functools.wraps sets it
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    """Finds the site's own modules in this end's copy of the cloud's folder."""

    def __init__(self, file: io.BytesIO, cloud: Cloud) -> None:
        super().__init__(file)
        self._cloud = cloud

    def persistent_load(self, _pid: Any) -> Cloud:
        return self._cloud

    def find_class(self, module_name: str, global_name: str) -> Any:
        if module_name.startswith(Functions.PREFIX):
            package = Functions(self._cloud.directory).package()
            found: Any = importlib.import_module(f"{package}.{module_name.partition('.')[2]}")
            for part in global_name.split("."):
                found = getattr(found, part)
            return found
        return super().find_class(module_name, global_name)


def _nothing(*_: Any, **__: Any) -> Any:
    """Stands for a task."""
