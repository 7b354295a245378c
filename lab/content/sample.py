"""Sample data as a cloud has them after half a year of Grizzly: projects, users, guests, quota usage, volumes."""

import uuid
from dataclasses import dataclass

from lab.content.settings import infrastructure, virtual_host
from lab.spec import LabSpec

GUESTS_PER_NODE = 2
OWNERS = (("alice", "atlas"), ("bob", "atlas"), ("carol", "cms"), ("dave", "cms"), ("erin", "it-services"))
FLAVORS = {1: ("m1.tiny", 512, 1, 1), 2: ("m1.small", 2048, 1, 20), 3: ("m1.medium", 4096, 2, 40)}
IMAGE = "8a4e3c7e-5b0f-4b8e-9a53-0d5d5a0f6a01"
MADE = "2013-11-05 08:30:00"
_SPACE = uuid.UUID("6f1c2c0e-4d0a-4d3e-9a52-7f3f8a6b2c11")


def identifier(*words: object) -> str:
    """The same UUID for the same words, so that two labs of one size hold the same data."""
    return str(uuid.uuid5(_SPACE, " ".join(map(str, words))))


@dataclass(frozen=True)
class Instance:
    """A row of `instances`, and where its guest runs (host is None: nowhere)."""

    uuid: str
    number: int
    name: str
    user: str
    project: str
    flavor: int
    cell: str
    host: str | None
    state: str = "active"

    @property
    def memory(self) -> int:
        """In MiB."""
        return FLAVORS[self.flavor][1]

    @property
    def vcpus(self) -> int:
        """Virtual CPUs."""
        return FLAVORS[self.flavor][2]

    @property
    def libvirt_name(self) -> str:
        """The guest's name on its host."""
        return f"instance-{self.number:08x}"


def instances(spec: LabSpec) -> list[Instance]:
    """All instances: two guests a compute node, one that failed to build, and some that were deleted."""
    made: list[Instance] = []
    numbers: dict[str, int] = {}

    def add(name: str, cell: str, host: str | None, state: str = "active") -> None:
        user, project = OWNERS[len(made) % len(OWNERS)]
        numbers[cell] = numbers.get(cell, 0) + 1
        flavor = 1 + len(made) % len(FLAVORS)
        made.append(
            Instance(identifier("instance", name), numbers[cell], name, user, project, flavor, cell, host, state)
        )

    for host in spec.hosts():
        if "compute" in host.roles:
            for number in range(1, GUESTS_PER_NODE + 1):
                add(f"vm-{host.name}-{number}", host.cell, host.name)
    for cell in spec.cell_names():
        node = next(host.name for host in spec.hosts() if host.cell == cell and "compute" in host.roles)
        add(f"vm-{cell}-failed", cell, None, "error")
        add(f"vm-{cell}-gone", cell, node, "deleted")
    return made


def _text(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool | int):
        return str(int(value))
    return "'" + str(value).replace("\\", "\\\\").replace("'", "''") + "'"


def insert(table: str, **columns: object) -> str:
    """One INSERT statement."""
    names = ", ".join(f"`{name}`" for name in columns)
    # Every value is quoted by _text, and nothing of it comes from outside.
    return f"INSERT INTO {table} ({names}) VALUES ({', '.join(map(_text, columns.values()))});\n"  # noqa: S608 - quoted


def _instance_rows(rows: list[Instance], *, top: bool) -> list[str]:
    statements: list[str] = []
    for row in rows:
        deleted = row.state == "deleted"
        key = {} if top else {"id": row.number}
        statements.append(
            insert(
                "instances",
                created_at=MADE,
                deleted_at=MADE if deleted else None,
                **key,
                user_id=row.user,
                project_id=row.project,
                image_ref=IMAGE,
                launch_index=0,
                power_state=1 if row.state == "active" else 0,
                vm_state=row.state,
                memory_mb=row.memory,
                vcpus=row.vcpus,
                hostname=row.name,
                host=row.host,
                node=row.host,
                display_name=row.name,
                locked=row.name.endswith("n01-2"),
                instance_type_id=row.flavor,
                uuid=row.uuid,
                root_gb=FLAVORS[row.flavor][3],
                ephemeral_gb=0,
                cell_name=f"api!{row.cell}",
                deleted=row.number if deleted and not top else 0,
            )
        )
        if deleted and top:
            statements.append("UPDATE instances SET deleted = id WHERE id = LAST_INSERT_ID();\n")
        statements.append(
            insert(
                "instance_info_caches",
                created_at=MADE,
                instance_uuid=row.uuid,
                network_info="[]",
                deleted=row.number if deleted else 0,
            )
        )
    return statements


def cell_rows(spec: LabSpec, cell: str, password: str) -> str:
    """SQL for a child cell's nova database: the way to its parent, and its instances."""
    statements = [
        _cell("api", infrastructure(spec, "top").name, virtual_host("top"), password, parent=True),
        *_instance_rows([row for row in instances(spec) if row.cell == cell], top=False),
    ]
    return "".join(statements)


def _cell(name: str, host: str, vhost: str, password: str, *, parent: bool) -> str:
    return insert(
        "cells",
        created_at=MADE,
        name=name,
        is_parent=parent,
        username="nova",
        password=password,
        rpc_host=host,
        rpc_port=5672,
        rpc_virtual_host=vhost,
        weight_offset=0,
        weight_scale=1,
        deleted=False,
    )


def _usage(project: str, resource: str, in_use: int, reserved: int = 0) -> str:
    return insert(
        "quota_usages",
        created_at=MADE,
        updated_at=MADE,
        project_id=project,
        resource=resource,
        in_use=in_use,
        reserved=reserved,
        deleted=0,
    )


def top_rows(spec: LabSpec, password: str) -> str:
    """SQL for the top cell's nova database.

    Quota usage is Grizzly's: one row a project and resource, no user. A reservation that expired long ago still
    holds one fixed address of `atlas`.
    """
    rows = instances(spec)
    live = [row for row in rows if row.state != "deleted"]
    statements = [
        _cell(cell, infrastructure(spec, cell).name, virtual_host(cell), password, parent=False)
        for cell in spec.cell_names()
    ]
    for number, (name, memory, vcpus, disk) in FLAVORS.items():
        statements.append(
            insert(
                "instance_types",
                id=number,
                created_at=MADE,
                name=name,
                flavorid=str(number),
                memory_mb=memory,
                vcpus=vcpus,
                swap=0,
                root_gb=disk,
                ephemeral_gb=0,
                rxtx_factor=1,
                disabled=False,
                is_public=True,
                deleted=0,
            )
        )
    statements += _instance_rows(rows, top=True)
    statements += _owned_rows(live)
    statements += _usage_rows(live)
    return "".join(statements)


def _groups() -> list[tuple[str, str, str]]:
    return [("default", user, project) for user, project in OWNERS] + [("web", "alice", "atlas")]


def _owned_rows(live: list[Instance]) -> list[str]:
    statements = [
        insert(
            "security_groups", created_at=MADE, name=name, description="", user_id=user, project_id=project, deleted=0
        )
        for name, user, project in _groups()
        if name != "default" or user in {"alice", "carol", "erin"}  # one `default` group a project
    ]
    statements.append(
        insert("security_groups", created_at=MADE, name="old", user_id="bob", project_id="atlas", deleted=99)
    )
    statements += [
        insert("key_pairs", created_at=MADE, name="laptop", user_id=user, fingerprint="aa:bb", deleted=0)
        for user, _ in OWNERS
    ]
    statements.append(insert("networks", id=1, created_at=MADE, cidr="192.0.2.0/24", label="service", deleted=0))
    for number, row in enumerate(live, start=1):
        if row.host:
            statements.append(
                insert(
                    "fixed_ips",
                    created_at=MADE,
                    address=f"192.0.{2 + number // 250}.{number % 250 + 1}",
                    network_id=1,
                    allocated=True,
                    leased=True,
                    reserved=False,
                    instance_uuid=row.uuid,
                    deleted=0,
                )
            )
    for number, project in enumerate(("atlas", "atlas", "cms", None, None), start=1):
        statements.append(
            insert(
                "floating_ips",
                created_at=MADE,
                address=f"198.51.100.{number}",
                project_id=project,
                auto_assigned=False,
                pool="public",
                deleted=0,
            )
        )
    statements.append(
        insert("instance_faults", created_at=MADE, instance_uuid=identifier("purged"), code=500, message="x", deleted=0)
    )
    for project, limit in (("atlas", 200), ("cms", 200), ("it-services", 100)):
        statements.append(
            insert("quotas", created_at=MADE, project_id=project, resource="instances", hard_limit=limit, deleted=0)
        )
        statements.append(
            insert("quotas", created_at=MADE, project_id=project, resource="cores", hard_limit=4 * limit, deleted=0)
        )
    return statements


def _usage_rows(live: list[Instance]) -> list[str]:
    statements: list[str] = []
    floating = {"atlas": 2, "cms": 1}
    for project in dict.fromkeys(project for _, project in OWNERS):
        own = [row for row in live if row.project == project]
        groups = 1 + sum(1 for name, _, owner in _groups() if name != "default" and owner == project)
        statements += [
            _usage(project, "instances", len(own)),
            _usage(project, "cores", sum(row.vcpus for row in own)),
            _usage(project, "ram", sum(row.memory for row in own)),
            _usage(project, "security_groups", groups),
            _usage(project, "floating_ips", floating.get(project, 0)),
            _usage(project, "fixed_ips", sum(1 for row in own if row.host), reserved=int(project == "atlas")),
        ]
        if project == "atlas":
            reservation = insert(
                "reservations",
                created_at=MADE,
                uuid=identifier("reservation"),
                usage_id="@usage",
                project_id="atlas",
                resource="fixed_ips",
                delta=1,
                expire=MADE,
                deleted=0,
            )
            statements += ["SET @usage = LAST_INSERT_ID();\n", reservation.replace("'@usage'", "@usage")]
    return statements


def cinder_rows(spec: LabSpec) -> str:
    """SQL for the cinder database: volumes attached and not, one in error, one deleted, and a snapshot."""
    running = [row for row in instances(spec) if row.state == "active"]
    volumes: list[tuple[str, str, str, str, int, str | None]] = [
        ("data-1", *OWNERS[0], "available", 10, None),
        ("scratch", *OWNERS[4], "error", 5, None),
        ("old", *OWNERS[2], "deleted", 1, None),
    ]
    volumes += [(f"disk-{row.name}", row.user, row.project, "in-use", 20, row.uuid) for row in running[::3]]
    statements: list[str] = []
    for name, user, project, status, size, instance in volumes:
        statements.append(
            insert(
                "volumes",
                created_at=MADE,
                deleted=status == "deleted",
                id=identifier("volume", name),
                user_id=user,
                project_id=project,
                size=size,
                availability_zone="nova",
                instance_uuid=instance,
                mountpoint="/dev/vdb" if instance else None,
                status=status,
                attach_status="attached" if instance else "detached",
                display_name=name,
                host="ceph-01",
            )
        )
    statements.append(
        insert(
            "snapshots",
            created_at=MADE,
            deleted=False,
            id=identifier("snapshot"),
            volume_id=identifier("volume", "data-1"),
            user_id="alice",
            project_id="atlas",
            status="available",
            volume_size=10,
            display_name="data-1-before",
        )
    )
    return "".join(statements)
