"""Cinder's services: the API on port 8776, the scheduler, the volume service, and Havana's backup service.

What they have to tell one another stands in the database: a volume that is `creating` gets its host from the scheduler,
and is made by the volume service there. All volume services share one store, so each of them deletes what is `deleting`.
"""

import uuid

from cinder_lab import release
from standin import http
from standin.daemon import Daemon, start

LARGEST_GB = 1000


def volume_view(row, detail=True):
    view = {name: row[name] for name in ("id", "display_name", "size", "status", "availability_zone")}
    if detail:
        attached = {"server_id": row["instance_uuid"], "volume_id": row["id"], "device": row["mountpoint"]}
        view.update(
            created_at=row["created_at"],
            display_description=row["display_description"],
            volume_type=row["volume_type_id"],
            snapshot_id=row["snapshot_id"],
            attachments=[attached] if row["instance_uuid"] else [],
            metadata={},
        )
        view["os-vol-tenant-attr:tenant_id"] = row["project_id"]
        view["os-vol-host-attr:host"] = row["host"]
        if release.NAME != "grizzly":
            view["bootable"] = "true" if row["bootable"] else "false"
    return view


class Api(http.Api):
    binary, release, port = "cinder-api", release, 8776
    routes = (
        ("GET", r"/?", "versions"),
        ("GET", r"/v1/([^/]+)/volumes", "volumes"),
        ("GET", r"/v1/([^/]+)/volumes/detail", "details"),
        ("GET", r"/v1/([^/]+)/volumes/([^/]+)", "show"),
        ("POST", r"/v1/([^/]+)/volumes", "create"),
        ("DELETE", r"/v1/([^/]+)/volumes/([^/]+)", "delete"),
    )

    def versions(self, _request):
        return 200, {"versions": [{"id": "v1.0", "status": "CURRENT", "release": release.VERSION}]}

    def _rows(self, request, tenant):
        request.user_of(tenant)
        everyone = request.query.get("all_tenants") == "1"
        where, args = ("", ()) if everyone else (" AND project_id = %s", (tenant,))
        return request.rows(f"SELECT * FROM volumes WHERE deleted = 0{where} ORDER BY created_at, id", args)

    def volumes(self, request, tenant):
        return 200, {"volumes": [volume_view(row, detail=False) for row in self._rows(request, tenant)]}

    def details(self, request, tenant):
        return 200, {"volumes": [volume_view(row) for row in self._rows(request, tenant)]}

    def _find(self, request, tenant, key):
        request.user_of(tenant)
        found = request.rows(
            "SELECT * FROM volumes WHERE deleted = 0 AND project_id = %s AND id = %s", (tenant, key)
        )
        if not found:
            raise http.Problem(404, f"Volume {key} could not be found.")
        return found[0]

    def show(self, request, tenant, key):
        return 200, {"volume": volume_view(self._find(request, tenant, key))}

    def create(self, request, tenant):
        user = request.user_of(tenant)
        wanted = request.json().get("volume")
        size = wanted.get("size") if isinstance(wanted, dict) else None
        if not isinstance(size, int) or not 0 < size <= LARGEST_GB:
            raise http.Problem(400, f"Invalid input received: size of a volume is 1 to {LARGEST_GB} (GB), not {size!r}")
        identifier = str(uuid.uuid4())
        request.execute(
            "INSERT INTO volumes (created_at, deleted, id, user_id, project_id, size, availability_zone, status,"
            " attach_status, display_name) VALUES (UTC_TIMESTAMP(), 0, %s, %s, %s, %s, 'nova', 'creating', 'detached', %s)",
            (identifier, user, tenant, size, wanted.get("display_name")),
        )
        return 200, {"volume": volume_view(self._find(request, tenant, identifier))}

    def delete(self, request, tenant, key):
        row = self._find(request, tenant, key)
        if row["status"] not in ("available", "error"):
            raise http.Problem(400, f"Invalid volume: Volume status must be available or error, it is {row['status']}")
        request.execute(
            "UPDATE volumes SET status = 'deleting', updated_at = UTC_TIMESTAMP() WHERE id = %s AND status = %s",
            (key, row["status"]),
        )
        return 202, None


class Scheduler(Daemon):
    binary, release, topic = "cinder-scheduler", release, "cinder-scheduler"

    def tick(self):
        for row in self.query("SELECT id FROM volumes WHERE deleted = 0 AND status = 'creating' AND host IS NULL"):
            hosts = self.query(
                "SELECT host FROM services WHERE topic = 'cinder-volume' AND deleted = 0 AND disabled = 0 AND"
                " updated_at >= UTC_TIMESTAMP() - INTERVAL 60 SECOND ORDER BY RAND() LIMIT 1"
            )
            if not hosts:
                self.log.error("No valid host was found for volume %s", row["id"])
                self.execute("UPDATE volumes SET status = 'error' WHERE id = %s", (row["id"],))
                continue
            self.execute("UPDATE volumes SET host = %s WHERE id = %s AND host IS NULL", (hosts[0]["host"], row["id"]))


class Volume(Daemon):
    binary, release, topic = "cinder-volume", release, "cinder-volume"

    def tick(self):
        made = self.execute(
            "UPDATE volumes SET status = 'available', launched_at = UTC_TIMESTAMP(), updated_at = UTC_TIMESTAMP()"
            " WHERE deleted = 0 AND status = 'creating' AND host = %s",
            (self.host,),
        )
        gone = self.execute(
            "UPDATE volumes SET status = 'deleted', deleted = 1, deleted_at = UTC_TIMESTAMP(),"
            " terminated_at = UTC_TIMESTAMP() WHERE deleted = 0 AND status = 'deleting'"
        )
        if made or gone:
            self.log.info("%d volumes created, %d deleted", made, gone)


class Backup(Daemon):
    binary, release, topic = "cinder-backup", release, "cinder-backup"


def main():
    start((Api, Scheduler, Volume, Backup))
