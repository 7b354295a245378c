"""What stands in an inventory.yaml, as operators describe a cloud: cells, roles, data centres, node ranges."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from plugins.connections import jump
from plugins.inventory.ranges import NAME

TOP = "top"
_ADDRESS = re.compile(r"[A-Za-z0-9:][A-Za-z0-9.:%_-]{0,252}")


def _word(text: str) -> str:
    if not NAME.fullmatch(text):
        raise ValueError(f"'{text[:80]}' is not a name; write letters, digits, '-', '_' and '.'")
    return text


def _address(text: str) -> str:
    if not _ADDRESS.fullmatch(text):
        raise ValueError(f"'{text[:80]}' is not an address; write a host name or an IP address")
    return text


def _jump(text: str) -> str:
    jump.parse(text)
    return text


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Word = Annotated[str, AfterValidator(_word)]
Port = Annotated[int, Field(strict=True, ge=1, le=65535)]
Jump = Annotated[str, AfterValidator(_jump)]
Ranges = Annotated[
    list[str],
    BeforeValidator(_as_list, json_schema_input_type=str | list[str]),
    Field(description="node ranges, such as p05-[001-200]; one, or a list", examples=["p05-[001-200]"]),
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Defaults(_Strict):
    """What holds for every node that says nothing else."""

    platform: Word = Field(
        default="el6",
        description="what the node runs: el6 (yum, service, chkconfig), el9, debian, windows or darwin (a Mac)",
    )
    port: Port | None = Field(default=None, description="SSH port; the SSH configuration's, or 22, if left out")
    username: Word | None = Field(default=None, description="SSH user; the one in cloud.yaml if left out")
    legacy_algorithms: bool = Field(
        default=False,
        strict=True,
        description="allow SHA-1 key exchange and ssh-rsa, which the sshd of a real EL6 needs",
    )
    jump: Jump | None = Field(
        default=None,
        description="jump host to go through: [user@]host[:port], several with commas, or none; goes before ssh.jump "
        "in cloud.yaml and the SSH configuration's ProxyJump",
    )


class Cell(_Strict):
    """One cell: where it stands, and which node does what."""

    data_centre: Word = Field(description="the data centre it stands in; a group of that name holds its nodes")
    roles: dict[Word, Ranges] = Field(
        description="role to node ranges; controller (needed), compute, database, queue, loadbalancer, replica, "
        "dashboard, client are known"
    )
    jump: Jump | None = Field(
        default=None, description="jump host to go through to its nodes, in place of the one in defaults"
    )


class HostException(_Strict):
    """What is different on some nodes."""

    address: Annotated[str, AfterValidator(_address)] | None = Field(
        default=None, description="name or IP address to connect to; the node's name if left out"
    )
    port: Port | None = Field(default=None, description="SSH port")
    username: Word | None = Field(default=None, description="SSH user")
    platform: Word | None = Field(default=None, description="what the node runs")
    legacy_algorithms: bool | None = Field(
        default=None, strict=True, description="allow SHA-1 key exchange and ssh-rsa"
    )
    jump: Jump | None = Field(default=None, description="jump host to go through, in place of its cell's")


class InventoryFile(_Strict):
    """inventory.yaml: a cloud as operators describe it."""

    defaults: Defaults = Field(default_factory=Defaults, description="for all nodes")
    top: Cell = Field(description="the top cell: the API that users talk to")
    cells: dict[Word, Cell] = Field(default_factory=dict, description="child cells by name, in the order to go through")
    hosts: dict[str, HostException] = Field(
        default_factory=dict, description="exceptions: node range to what is different there"
    )
