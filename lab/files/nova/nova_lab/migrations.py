"""Nova's schema from 161 to 216: what each migration of Havana 2013.2.1 does to a MySQL database.

Written in SQL after what the migrations do; the row-deleting fault of 216 (bug 1245746) is in it on purpose.
A version that is not named here changes nothing that matters on MySQL (placeholders, SQLite indexes).
"""

from urllib.parse import quote

from nova_lab.ddl import add_column, bare_definition, create, dedupe, deduped, reindex, run, unique

FIRST, HEAD = 161, 216
STAMPS = "`created_at` datetime, `updated_at` datetime, `deleted_at` datetime"


def m173(cursor):
    for column in ("name", "flavorid"):
        dedupe(cursor, "instance_types", column)
        unique(cursor, "instance_types", column, "deleted")


def m175(cursor):
    for table in ("volume_usage_cache", "shadow_volume_usage_cache"):
        run(
            cursor,
            f"ALTER TABLE {table} DROP instance_id, ADD instance_uuid varchar(36), ADD project_id varchar(36),"
            " ADD user_id varchar(36)",
        )


def m178(cursor):
    run(
        cursor,
        "ALTER TABLE compute_node_stats ADD KEY compute_node_stats_node_id_and_deleted_idx (compute_node_id, deleted)",
    )


def m179(cursor):
    for table in ("cells", "shadow_cells"):
        run(cursor, f"ALTER TABLE {table} MODIFY deleted int", f"UPDATE {table} SET deleted = id WHERE deleted <> 0")


def m184(cursor):
    """Shadow tables get the address width of their live tables."""
    wide = {
        "console_pools": ["address"],
        "fixed_ips": ["address"],
        "floating_ips": ["address"],
        "instances": ["access_ip_v4", "access_ip_v6"],
        "networks": "netmask gateway broadcast dns1 vpn_public_address vpn_private_address dhcp_start gateway_v6"
        " netmask_v6 dns2".split(),
    }
    for table, columns in wide.items():
        changes = ", ".join(f"MODIFY {column} varchar(39)" for column in columns)
        run(cursor, f"ALTER TABLE shadow_{table} {changes}")


def m185(cursor):
    renames = {
        ("instance_info_caches", "instance_uuid"): ("instance_uuid",),
        ("networks", "uniq_vlan_x_deleted"): ("vlan", "deleted"),
        ("task_log", "uniq_task_name_x_host_x_period_beginning_x_period_ending"): (
            "task_name",
            "host",
            "period_beginning",
            "period_ending",
        ),
    }
    for (table, old), columns in renames.items():
        unique(cursor, table, *columns)
        run(cursor, f"ALTER TABLE {table} DROP KEY {old}")


def m186(cursor):
    for table in ("block_device_mapping", "shadow_block_device_mapping"):
        run(
            cursor,
            f"ALTER TABLE {table} MODIFY device_name varchar(255), ADD source_type varchar(255),"
            " ADD destination_type varchar(255), ADD guest_format varchar(255), ADD device_type varchar(255),"
            " ADD disk_bus varchar(255), ADD boot_index int, ADD image_id varchar(36)",
            f"UPDATE {table} SET source_type = IF(snapshot_id IS NULL, IF(volume_id IS NULL, 'blank', 'volume'),"
            " 'snapshot'), destination_type = IF(volume_id IS NULL AND snapshot_id IS NULL, 'local', 'volume')",
            f"ALTER TABLE {table} DROP virtual_name",
        )


def m187(cursor):
    head = f"{STAMPS}, `deleted` int, `id` int NOT NULL AUTO_INCREMENT"
    create(
        cursor,
        "instance_groups",
        f"{head}, user_id varchar(255), project_id varchar(255), uuid varchar(36) NOT NULL, name varchar(255),"
        " PRIMARY KEY (id), UNIQUE KEY uniq_instance_groups0uuid0deleted (uuid, deleted)",
        shadow=True,
    )
    for name, columns, index in (
        ("member", "instance_id varchar(255)", "instance_group_member_instance_idx (instance_id)"),
        ("metadata", "`key` varchar(255), value varchar(255)", "instance_group_metadata_key_idx (`key`)"),
        ("policy", "policy varchar(255)", "instance_group_policy_policy_idx (policy)"),
    ):
        create(
            cursor,
            f"instance_group_{name}",
            f"{head}, {columns}, group_id int NOT NULL, PRIMARY KEY (id), KEY {index}, CONSTRAINT"
            f" instance_group_{name}_ibfk_1 FOREIGN KEY (group_id) REFERENCES instance_groups (id)",
            shadow=True,
        )


def m188(cursor):
    add_column(cursor, "services", "disabled_reason varchar(255)")


def m189(cursor):
    dedupe(cursor, "cells", "name")
    unique(cursor, "cells", "name", "deleted", name="uniq_cell_name0deleted")


def m192(cursor):
    dedupe(cursor, "virtual_interfaces", "address")
    unique(cursor, "virtual_interfaces", "address", "deleted")
    run(cursor, "ALTER TABLE virtual_interfaces DROP KEY address")


def m193(cursor):
    """Drop what the volume service and the VSA extension left; shadow tables with them."""
    for table in (
        "sm_volume sm_backend_config sm_flavors virtual_storage_arrays volume_metadata volume_type_extra_specs"
        " volume_types"
    ).split():
        run(cursor, f"DROP TABLE {table}", f"DROP TABLE IF EXISTS shadow_{table}")


def m194(cursor):
    """Indexes whose names say `deleted` get that column."""
    for table, name, columns in (
        ("certificates", "certificates_project_id_deleted_idx", "project_id, deleted"),
        ("certificates", "certificates_user_id_deleted_idx", "user_id, deleted"),
        ("fixed_ips", "fixed_ips_network_id_host_deleted_idx", "network_id, host, deleted"),
        ("fixed_ips", "fixed_ips_address_reserved_network_id_deleted_idx", "address, reserved, network_id, deleted"),
        ("fixed_ips", "fixed_ips_deleted_allocated_idx", "address, deleted, allocated"),
        ("floating_ips", "floating_ips_pool_deleted_fixed_ip_id_project_id_idx", "pool, deleted, fixed_ip_id, project_id"),
        ("instance_faults", "instance_faults_instance_uuid_deleted_created_at_idx", "instance_uuid, deleted, created_at"),
        ("instances", "instances_host_deleted_idx", "host, deleted"),
        ("instances", "instances_uuid_deleted_idx", "uuid, deleted"),
        ("instances", "instances_host_node_deleted_idx", "host, node, deleted"),
        ("iscsi_targets", "iscsi_targets_host_volume_id_deleted_idx", "host, volume_id, deleted"),
        ("migrations", "migrations_instance_uuid_and_status_idx", "deleted, instance_uuid, status"),
        (
            "migrations",
            "migrations_by_host_nodes_and_status_idx",
            "deleted, source_compute(100), dest_compute(100), source_node(100), dest_node(100), status",
        ),
        ("networks", "networks_bridge_deleted_idx", "bridge, deleted"),
        ("networks", "networks_project_id_deleted_idx", "project_id, deleted"),
        ("networks", "networks_uuid_project_id_deleted_idx", "uuid, project_id, deleted"),
        ("networks", "networks_vlan_deleted_idx", "vlan, deleted"),
    ):
        reindex(cursor, table, name, columns)


def m196(cursor):
    for columns in (("host", "topic"), ("host", "binary")):
        dedupe(cursor, "services", *columns)
        unique(cursor, "services", *columns, "deleted")


def m198(cursor):
    dedupe(cursor, "key_pairs", "user_id", "name")
    unique(cursor, "key_pairs", "user_id", "name", "deleted")
    run(cursor, "ALTER TABLE key_pairs DROP KEY key_pair_user_id_name_idx")


def transport_url(username, password, host, port, virtual_host):
    """A cell's RabbitMQ as a URL: every part quoted, port and virtual host left out where NULL."""
    login = quote(username, safe="") if username else ""
    if password:
        login += ":" + quote(password, safe="")
    place = (host or "") + (f":{port}" if port is not None else "")
    return f"rabbit://{login}{'@' if login else ''}{place}/{quote(virtual_host, safe='') if virtual_host else ''}"


def m200(cursor):
    """One URL instead of five columns: Grizzly's nova-cells cannot read the table from here on."""
    for table in ("cells", "shadow_cells"):
        run(cursor, f"ALTER TABLE {table} ADD transport_url varchar(255) NOT NULL")
        cursor.execute(f"SELECT id, username, password, rpc_host, rpc_port, rpc_virtual_host FROM {table}")
        for row_id, *parts in cursor.fetchall():
            cursor.execute(f"UPDATE {table} SET transport_url = %s WHERE id = %s", (transport_url(*parts), row_id))
        run(
            cursor,
            f"ALTER TABLE {table} DROP username, DROP password, DROP rpc_host, DROP rpc_port, DROP rpc_virtual_host",
        )


def m203(cursor):
    """Quotas per user. When the new table cannot be made, the handler drops the table of that name, data and all."""
    add_column(cursor, "quota_usages", "user_id varchar(255)")
    add_column(cursor, "reservations", "user_id varchar(255)")
    run(
        cursor,
        "CREATE INDEX ix_quota_usages_user_id_deleted ON quota_usages (user_id, deleted)",
        "CREATE INDEX ix_reservations_user_id_deleted ON reservations (user_id, deleted)",
    )
    try:
        create(
            cursor,
            "project_user_quotas",
            f"id int NOT NULL AUTO_INCREMENT, {STAMPS}, deleted int, user_id varchar(255) NOT NULL, project_id"
            " varchar(255) NOT NULL, resource varchar(25) NOT NULL, hard_limit int, PRIMARY KEY (id),"
            " UNIQUE KEY uniq_project_user_quotas0user_id0project_id0resource0deleted"
            " (user_id, project_id, resource, deleted),"
            " KEY project_user_quotas_project_id_deleted_idx (project_id, deleted),"
            " KEY project_user_quotas_user_id_deleted_idx (project_id, deleted)",
            shadow=True,
        )
    except Exception:  # as the real migration does, and raised again
        run(cursor, "DROP TABLE IF EXISTS project_user_quotas")
        raise


def m204(cursor):
    run(cursor, "CREATE INDEX reservations_uuid_idx ON reservations (uuid)")


def m205(cursor):
    add_column(cursor, "instances", "locked_by enum('owner','admin')")
    run(cursor, "UPDATE instances SET locked_by = 'admin' WHERE locked = 1")


def m206(cursor):
    add_column(cursor, "instances", "cleaned int")
    run(
        cursor,
        "UPDATE instances SET cleaned = IF(deleted > 0, 1, 0)",
        "CREATE INDEX instances_host_deleted_cleaned_idx ON instances (host, deleted, cleaned)",
    )


def m207(cursor):
    unique(cursor, "cells", "name", "deleted")
    run(cursor, "ALTER TABLE cells DROP KEY uniq_cell_name0deleted")


def m208(cursor):
    add_column(cursor, "compute_nodes", "host_ip varchar(39)")
    add_column(cursor, "compute_nodes", "supported_instances text")


def m209(cursor):
    """Foreign keys that were missing; rows without a parent move into a dump table first."""
    for table, column, parent, target in (
        ("compute_nodes", "service_id", "services", "id"),
        ("compute_node_stats", "compute_node_id", "compute_nodes", "id"),
        ("instance_actions", "instance_uuid", "instances", "uuid"),
        ("instance_faults", "instance_uuid", "instances", "uuid"),
        ("migrations", "instance_uuid", "instances", "uuid"),
    ):
        orphan = f"{column} IS NOT NULL AND {column} NOT IN (SELECT {target} FROM {parent} WHERE {target} IS NOT NULL)"
        create(cursor, f"dump_{table}", bare_definition(cursor, table))
        run(
            cursor,
            f"INSERT INTO dump_{table} SELECT * FROM {table} WHERE {orphan}",
            f"DELETE FROM {table} WHERE {orphan}",
            f"ALTER TABLE {table} ADD CONSTRAINT fk_{table}_{column} FOREIGN KEY ({column}) REFERENCES"
            f" {parent} ({target})",
        )


def m210(cursor):
    reindex(cursor, "project_user_quotas", "project_user_quotas_user_id_deleted_idx", "user_id, deleted")


def m213(cursor):
    create(
        cursor,
        "pci_devices",
        f"{STAMPS}, deleted int NOT NULL, id int NOT NULL AUTO_INCREMENT, compute_node_id int NOT NULL, address"
        " varchar(12) NOT NULL, product_id varchar(4), vendor_id varchar(4), dev_type varchar(8), dev_id varchar(255),"
        " label varchar(255) NOT NULL, status varchar(36) NOT NULL, extra_info text, instance_uuid varchar(36),"
        " PRIMARY KEY (id),"
        " KEY ix_pci_devices_compute_node_id_deleted (compute_node_id, deleted),"
        " KEY ix_pci_devices_instance_uuid_deleted (instance_uuid, deleted),"
        " UNIQUE KEY uniq_pci_devices0compute_node_id0address0deleted (compute_node_id, address, deleted)",
        shadow=True,
    )
    add_column(cursor, "compute_nodes", "pci_stats text")


def m214(cursor):
    """Security groups' default rules get the shadow table they lacked."""
    run(
        cursor,
        "CREATE TABLE shadow_security_group_default_rules (\n"
        f"{bare_definition(cursor, 'security_group_default_rules')}\n) ENGINE=InnoDB DEFAULT CHARSET=utf8",
    )


def _set_usage(cursor, user_id, project_id, resource, in_use):
    where = "user_id <=> %s AND project_id <=> %s AND resource = %s"
    key = (user_id, project_id, resource)
    cursor.execute(f"SELECT 1 FROM quota_usages WHERE {where} LIMIT 1", key)
    if cursor.fetchone():
        cursor.execute(f"UPDATE quota_usages SET updated_at = UTC_TIMESTAMP(), in_use = %s WHERE {where}", (in_use, *key))
    else:
        cursor.execute(
            "INSERT INTO quota_usages (created_at, updated_at, project_id, resource, in_use, reserved, deleted, user_id)"
            " VALUES (UTC_TIMESTAMP(), UTC_TIMESTAMP(), %s, %s, %s, 0, 0, %s)",
            (project_id, resource, in_use, user_id),
        )


def m216(cursor):
    """Synchronise quota usages, with the fault of 2013.2 to 2013.2.2.

    The rows of the per-user resources that have no user are deleted first, and which resources to count again
    is read from what is left after that. In a database that comes from Grizzly nothing is left, so instances,
    cores, ram and security_groups are never written again.
    """
    for resource in ("instances", "cores", "ram", "security_groups"):
        cursor.execute(
            "DELETE FROM reservations WHERE uuid IN (SELECT uuid FROM (SELECT r.uuid FROM reservations r"
            " JOIN quota_usages q ON r.usage_id = q.id WHERE q.user_id IS NULL) gone)"
        )
        cursor.execute("DELETE FROM quota_usages WHERE user_id IS NULL AND resource = %s", (resource,))
    for resource in ("fixed_ips", "floating_ips", "networks"):
        cursor.execute(
            "DELETE FROM reservations WHERE uuid IN (SELECT uuid FROM (SELECT r.uuid FROM reservations r"
            " JOIN quota_usages q ON r.usage_id = q.id WHERE q.user_id IS NOT NULL) gone)"
        )
        cursor.execute("DELETE FROM quota_usages WHERE user_id IS NOT NULL AND resource = %s", (resource,))
    cursor.execute("SELECT DISTINCT resource FROM quota_usages")
    left = {row[0] for row in cursor.fetchall()}
    if "instances" in left:
        cursor.execute(
            "SELECT user_id, project_id, COUNT(id), SUM(vcpus), SUM(memory_mb) FROM instances WHERE deleted = 0"
            " GROUP BY user_id, project_id"
        )
        for user_id, project_id, *totals in cursor.fetchall():
            for resource, total in zip(("instances", "cores", "ram"), totals, strict=True):
                _set_usage(cursor, user_id, project_id, resource, total)
    counts = {
        "security_groups": "SELECT user_id, project_id, COUNT(id) FROM security_groups WHERE deleted = 0"
        " GROUP BY user_id, project_id",
        "floating_ips": "SELECT NULL, project_id, COUNT(id) FROM floating_ips WHERE deleted = 0 AND auto_assigned = 0"
        " GROUP BY project_id",
        "fixed_ips": "SELECT NULL, i.project_id, COUNT(f.id) FROM fixed_ips f JOIN instances i"
        " ON i.uuid = f.instance_uuid WHERE f.deleted = 0 GROUP BY i.project_id",
        "networks": "SELECT NULL, project_id, COUNT(id) FROM networks WHERE deleted = 0 GROUP BY project_id",
    }
    for resource, count in counts.items():
        if resource in left:
            cursor.execute(count)
            for user_id, project_id, total in cursor.fetchall():
                _set_usage(cursor, user_id, project_id, resource, total)


MIGRATIONS = {
    172: deduped("instance_type_projects", "instance_type_id", "project_id"),
    173: m173,
    174: deduped("instance_type_extra_specs", "instance_type_id", "key"),
    175: m175,
    176: lambda cursor: add_column(cursor, "volume_usage_cache", "availability_zone varchar(255)"),
    177: deduped("floating_ips", "address"),
    178: m178,
    179: m179,
    184: m184,
    185: m185,
    186: m186,
    187: m187,
    188: m188,
    189: m189,
    190: deduped("security_groups", "project_id", "name"),
    191: deduped("quotas", "project_id", "resource"),
    192: m192,
    193: m193,
    194: m194,
    195: deduped("fixed_ips", "address"),
    196: m196,
    197: deduped("agent_builds", "hypervisor", "os", "architecture"),
    198: m198,
    199: deduped("aggregate_hosts", "host", "aggregate_id"),
    200: m200,
    202: deduped("console_pools", "host", "console_type", "compute_host"),
    203: m203,
    204: m204,
    205: m205,
    206: m206,
    207: m207,
    208: m208,
    209: m209,
    210: m210,
    211: deduped("aggregate_metadata", "aggregate_id", "key"),
    213: m213,
    214: m214,
    216: m216,
}
