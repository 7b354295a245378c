"""Glance's services: the API on port 9292, and the registry on 9191, which alone reads and writes the database.

Every controller has both; the API asks the registry of its own host. It trusts its caller, X-Auth-Token is
"user:project"; the user `operator` has the role `admin`.
"""

import json
import urllib.error
import urllib.request
import uuid

from glance_lab import policy, release
from glance_lab.settings import config
from standin import http
from standin.daemon import start

ADMINISTRATORS = {"operator"}
FIELDS = ("id", "name", "size", "status", "disk_format", "container_format", "checksum", "owner", "min_disk", "min_ram")
TIMES = ("created_at", "updated_at")
# Of an administrator's list a filter decides (public ones, unless it says otherwise); others see what they may.
VISIBLE = (
    "(is_public = 1 OR owner = %s OR id IN (SELECT image_id FROM image_members WHERE member = %s AND deleted = 0))"
)


def image_view(row, detail=True):
    names = FIELDS if detail else ("id", "name", "size", "disk_format", "container_format", "checksum")
    view = {name: row[name] for name in names}
    if detail:
        view.update({name: row[name].isoformat() if row[name] else None for name in TIMES})
        view.update(is_public=bool(row["is_public"]), protected=bool(row["protected"]), deleted=False, properties={})
    return view


def caller(request):
    user, _, project = (request.headers.get("X-Auth-Token") or "").partition(":")
    if not user or not project:
        raise http.Problem(401, "Authentication required")
    return user, project


class Registry(http.Api):
    binary, release, port = "glance-registry", release, 9191
    routes = (
        ("GET", r"/?", "root"),
        ("GET", r"/images/detail", "details"),
        ("POST", r"/images", "create"),
        ("DELETE", r"/images/([^/]+)", "delete"),
    )

    def make_config(self):
        return config("/etc/glance/glance-registry.conf")

    def root(self, _request):
        return 200, {"versions": [{"id": "v1.0", "release": release.VERSION}]}

    def _visible(self, request):
        _, project = caller(request)
        if request.headers.get("X-Is-Admin") == "True":
            wanted = request.query.get("is_public", "true").lower()
            return ("1 = 1", ()) if wanted == "none" else ("is_public = %s", (wanted in ("true", "1"),))
        return VISIBLE, (project, project)

    def details(self, request):
        where, args = self._visible(request)
        rows = request.rows(f"SELECT * FROM images WHERE deleted = 0 AND {where} ORDER BY created_at, id", args)
        return 200, {"images": [image_view(row) for row in rows]}

    def create(self, request):
        _, project = caller(request)
        wanted, identifier = request.json(), str(uuid.uuid4())
        request.execute(
            "INSERT INTO images (id, name, size, status, is_public, created_at, updated_at, deleted, owner, disk_format,"
            " container_format, min_disk, min_ram, protected) VALUES (%s, %s, %s, 'active', %s, UTC_TIMESTAMP(),"
            " UTC_TIMESTAMP(), 0, %s, 'qcow2', 'bare', 0, 0, 0)",
            (identifier, wanted.get("name"), wanted.get("size", 0), bool(wanted.get("is_public")), project),
        )
        (row,) = request.rows("SELECT * FROM images WHERE id = %s", (identifier,))
        return 201, {"image": image_view(row)}

    def delete(self, request, key):
        where, args = self._visible(request)
        gone = request.execute(
            "UPDATE images SET deleted = 1, deleted_at = UTC_TIMESTAMP(), updated_at = UTC_TIMESTAMP(), status = 'deleted'"
            f" WHERE id = %s AND deleted = 0 AND {where}",
            (key, *args),
        )
        if not gone:
            raise http.Problem(404, f"No image found with ID {key}")
        return 200, None


class Api(http.Api):
    binary, release, port = "glance-api", release, 9292
    routes = (
        ("GET", r"/?(?:versions)?", "versions"),
        ("GET", r"/v1/images", "images"),
        ("GET", r"/v1/images/detail", "details"),
        ("POST", r"/v1/images", "create"),
        ("DELETE", r"/v1/images/([^/]+)", "delete"),
    )

    def make_config(self):
        return config("/etc/glance/glance-api.conf")

    def versions(self, _request):
        return 300, {"versions": [{"id": "v1.1", "status": "CURRENT", "release": release.VERSION}]}

    def _registry(self, request, method, path, body=None):
        user, _ = caller(request)
        roles = ["admin"] if user in ADMINISTRATORS else ["Member"]
        try:
            admin = policy.is_admin(roles)
        except (OSError, ValueError) as error:
            self.log.error("policy.json: %s", error)
            raise http.Problem(500, f"The policies cannot be read: {error}") from None
        place = f"{self.config.get('registry_host', '127.0.0.1')}:{self.config.get('registry_port', '9191')}"
        asked = urllib.request.Request(
            f"http://{place}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-Auth-Token": request.headers["X-Auth-Token"], "X-Is-Admin": str(admin)},
        )
        try:
            with urllib.request.urlopen(asked, timeout=20) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise http.Problem(error.code, f"The registry on {place} answered: {error.reason}") from None
        except OSError as error:
            raise http.Problem(503, f"The registry on {place} does not answer: {error}") from None
        return json.loads(text) if text else None

    def details(self, request):
        query = f"?is_public={request.query['is_public']}" if "is_public" in request.query else ""
        return 200, self._registry(request, "GET", f"/images/detail{query}")

    def images(self, request):
        _, found = self.details(request)
        return 200, {"images": [{key: image[key] for key in FIELDS[:3]} for image in found["images"]]}

    def create(self, request):
        given = {name.lower().removeprefix("x-image-meta-"): value for name, value in request.headers.items()}
        wanted = {"name": given.get("name"), "size": len(request.body)}
        wanted["is_public"] = given.get("is_public", "").lower() == "true"
        return 201, self._registry(request, "POST", "/images", wanted)

    def delete(self, request, key):
        return 200, self._registry(request, "DELETE", f"/images/{key}")


def main():
    start((Api, Registry))
