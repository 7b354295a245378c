"""nova-api: as much of the compute API as the lab's users and the check-out tests need, on port 8774.

It trusts its caller, as nova does with auth_strategy=noauth: X-Auth-Token is "user:project".
"""

import json
import random
import re
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pymysql

from nova_lab import db, messages, quota, release
from nova_lab.service import HEARTBEAT_S, Service

FLAVORS = {"m1.tiny": (1, 512, 1, 1), "m1.small": (2, 2048, 1, 20), "m1.medium": (3, 4096, 2, 40)}
IMAGES = {"cirros": "8a4e3c7e-5b0f-4b8e-9a53-0d5d5a0f6a01"}
SERVICE_LIST_S = 10
GLANCE_S = 20
SEVERAL = "/etc/lab/several-names"  # while it is there: how guests of one request are named, {name} and {uuid} filled in


class Problem(Exception):
    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


def server_view(row):
    status = {"active": "ACTIVE", "building": "BUILD", "error": "ERROR", "stopped": "SHUTOFF", "soft-delete": "DELETED"}
    stamp = "%Y-%m-%dT%H:%M:%SZ"
    return {
        "id": row["uuid"],
        "name": row["display_name"],
        "status": status.get(row["vm_state"], "UNKNOWN"),
        "tenant_id": row["project_id"],
        "user_id": row["user_id"],
        "created": row["created_at"].strftime(stamp) if row["created_at"] else None,
        "updated": row["updated_at"].strftime(stamp) if row["updated_at"] else None,
        "OS-EXT-STS:task_state": row["task_state"],
        "OS-EXT-STS:vm_state": row["vm_state"],
        "OS-EXT-STS:power_state": row["power_state"],
        "OS-EXT-SRV-ATTR:host": row["host"],
        "OS-EXT-SRV-ATTR:hypervisor_hostname": row["node"],
        "image": {"id": row["image_ref"]},
        "flavor": {"id": row["instance_type_id"]},
    }


def name_of(name, identifier):
    """The name of one guest of several that one request makes."""
    try:
        with open(SEVERAL, encoding="ascii") as file:
            template = file.read().strip()
    except FileNotFoundError:
        template = "{name}-{uuid}"
    return template.replace("{name}", name).replace("{uuid}", identifier)


class Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    routes = [
        ("GET", r"/?", "versions"),
        ("GET", r"/v2/([^/]+)/servers(?:/detail)?", "list_servers"),
        ("POST", r"/v2/([^/]+)/servers", "create_server"),
        ("GET", r"/v2/([^/]+)/servers/([^/]+)", "show_server"),
        ("DELETE", r"/v2/([^/]+)/servers/([^/]+)", "delete_server"),
        ("GET", r"/v2/([^/]+)/os-services", "services"),
        ("GET", r"/v2/([^/]+)/limits", "limits"),
        ("GET", r"/v2/([^/]+)/os-volumes/detail", "volumes"),
        ("GET", r"/v2/([^/]+)/images(?:/detail)?", "images"),
    ]

    def do_GET(self):
        self.answer()

    do_POST = do_DELETE = do_HEAD = do_OPTIONS = do_GET

    def log_message(self, form, *arguments):
        if self.path.rstrip("/"):  # the load balancer's health check asks for / every two seconds
            self.server.service.log.info('%s "%s" ' + form.split('" ')[-1], self.client_address[0], *arguments)

    def answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        self.payload = self.rfile.read(length) if length else b""
        try:
            status, body = self._route()
        except Problem as error:
            status, body = error.status, {"message": str(error), "code": error.status}
        except quota.OverQuota as error:
            status, body = 413, {"message": str(error), "code": 413}
        except (pymysql.MySQLError, *messages.AWAY, TimeoutError) as error:
            self.server.service.log.error("%s %s: %s", self.command, self.path, error or repr(error))
            status, body = 500, {"message": f"The server has either erred or is incapable: {error!r}", "code": 500}
        text = b"" if body is None else json.dumps(body, default=str).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)
        self.close_connection = True

    def _route(self):
        path, _, self.query = self.path.partition("?")
        command = "GET" if self.command in ("HEAD", "OPTIONS") else self.command
        for method, pattern, name in self.routes:
            match = re.fullmatch(pattern, path)
            if method == command and match:
                if name == "versions":
                    return self.versions()
                user, _, project = (self.headers.get("X-Auth-Token") or "").partition(":")
                if not user or project != match[1]:
                    raise Problem(401, "Unauthorized: the token is not for this project")
                self.user, self.project = user, project
                self.database = db.connect(self.server.service.config)
                try:
                    return getattr(self, name)(*match.groups()[1:])
                finally:
                    self.database.close()
        raise Problem(404, "The resource could not be found.")

    @property
    def broker(self):
        return self.server.service.config.rabbit

    def versions(self):
        return 200, {"versions": [{"id": "v2.0", "status": "CURRENT", "release": release.VERSION}]}

    def list_servers(self):
        everyone = "all_tenants=1" in self.query
        where, args = ("", ()) if everyone else (" AND project_id = %s", (self.project,))
        rows = db.rows(self.database, f"SELECT * FROM instances WHERE deleted = 0{where} ORDER BY id DESC", args)
        return 200, {"servers": [server_view(row) for row in rows]}

    def _find(self, key):
        rows = db.rows(
            self.database,
            "SELECT * FROM instances WHERE deleted = 0 AND project_id = %s AND (uuid = %s OR display_name = %s)",
            (self.project, key, key),
        )
        if not rows:
            raise Problem(404, "Instance could not be found")
        if len(rows) > 1:
            raise Problem(409, f"Multiple servers exist with the name '{key}'.")
        return rows[0]

    def show_server(self, key):
        return 200, {"server": server_view(self._find(key))}

    def create_server(self):
        wanted = json.loads(self.payload)
        server, hints = wanted["server"], wanted.get("os:scheduler_hints") or {}
        flavor, image = FLAVORS.get(server.get("flavorRef")), IMAGES.get(server.get("imageRef"))
        if flavor is None:
            raise Problem(400, f"Invalid flavorRef {server.get('flavorRef')!r} provided.")
        if image is None:
            raise Problem(400, f"Invalid imageRef {server.get('imageRef')!r} provided.")
        flavor_id, memory, vcpus, disk = flavor
        count = int(server.get("min_count", 1))
        if count < 1:
            raise Problem(400, "min_count must be >= 1")
        deltas = {"instances": count, "cores": count * vcpus, "ram": count * memory}
        made = quota.reserve(self.database, self.project, self.user, deltas)
        identifiers = [str(uuid.uuid4()) for _ in range(count)]
        reservation = f"r-{random.randrange(36**8):08x}"
        try:
            for number, identifier in enumerate(identifiers):
                name = name_of(server["name"], identifier) if count > 1 else server["name"]
                db.execute(
                    self.database,
                    "INSERT INTO instances (created_at, user_id, project_id, image_ref, launch_index, power_state,"
                    " vm_state, task_state, memory_mb, vcpus, hostname, reservation_id, display_name, locked,"
                    " instance_type_id, uuid, root_gb, ephemeral_gb, deleted) VALUES (UTC_TIMESTAMP(), %s, %s, %s, %s,"
                    " 0, 'building', 'scheduling', %s, %s, %s, %s, %s, 0, %s, %s, %s, 0, 0)",
                    (
                        self.user,
                        self.project,
                        image,
                        number,
                        memory,
                        vcpus,
                        name,
                        reservation,
                        name,
                        flavor_id,
                        identifier,
                        disk,
                    ),
                )
                messages.cast(self.broker, "cells", "build", uuid=identifier, target=hints.get("target_cell"))
        except BaseException:  # raised again: no guest that was never sent off stays in the table
            db.execute(
                self.database,
                "UPDATE instances SET deleted = id, deleted_at = UTC_TIMESTAMP(), vm_state = 'error' WHERE uuid IN %s",
                (identifiers,),
            )
            quota.rollback(self.database, made)
            raise
        quota.commit(self.database, made)
        return 202, {"server": server_view(self._find(identifiers[0]))}

    def delete_server(self, key):
        row = self._find(key)
        if row["task_state"] == "deleting":
            return 204, None
        deltas = {"instances": -1, "cores": -row["vcpus"], "ram": -row["memory_mb"]}
        made = quota.reserve(self.database, self.project, row["user_id"], deltas)
        try:
            db.execute(
                self.database,
                "UPDATE instances SET task_state = 'deleting', updated_at = UTC_TIMESTAMP() WHERE uuid = %s",
                (row["uuid"],),
            )
            messages.cast(self.broker, "cells", "delete", uuid=row["uuid"])
        except BaseException:  # raised again: the task state goes back to what it was
            db.execute(
                self.database, "UPDATE instances SET task_state = %s WHERE uuid = %s", (row["task_state"], row["uuid"])
            )
            quota.rollback(self.database, made)
            raise
        quota.commit(self.database, made)
        return 204, None

    def services(self):
        answer = messages.call(self.broker, "cells", "service_list", SERVICE_LIST_S)
        if answer["error"]:
            raise TimeoutError(answer["error"])
        return 200, {"services": answer["services"]}

    def limits(self):
        used = quota.used(self.database, self.project)
        absolute = {
            "totalInstancesUsed": used.get("instances", 0),
            "totalCoresUsed": used.get("cores", 0),
            "totalRAMUsed": used.get("ram", 0),
            "totalSecurityGroupsUsed": used.get("security_groups", 0),
            "totalFloatingIpsUsed": used.get("floating_ips", 0),
        }
        return 200, {"limits": {"absolute": absolute, "rate": []}}

    def volumes(self):
        everyone = "all_tenants=1" in self.query
        where, args = ("", ()) if everyone else (" AND project_id = %s", (self.project,))
        connection = db.connect(self.server.service.config, database="cinder")
        try:
            rows = db.rows(connection, f"SELECT * FROM volumes WHERE deleted = 0{where} ORDER BY created_at, id", args)
        finally:
            connection.close()
        names = ("id", "display_name", "size", "volume_type_id", "status", "project_id", "instance_uuid", "mountpoint")
        return 200, {"volumes": [{name: row[name] for name in names} for row in rows]}

    def images(self):
        """Glance's list for the caller. Nova asks for private ones, too: which of them to show is Glance's matter."""
        server = self.server.service.config.get("glance_api_servers")
        if not server:
            raise Problem(404, "The resource could not be found.")
        token = self.headers["X-Auth-Token"]
        asked = urllib.request.Request(
            f"http://{server}/v1/images/detail?is_public=none", headers={"X-Auth-Token": token}
        )
        try:
            with urllib.request.urlopen(asked, timeout=GLANCE_S) as answer:
                found = json.loads(answer.read())["images"]
        except urllib.error.HTTPError as error:
            raise Problem(error.code, f"Glance on {server} answered: {error.reason}") from None
        except (OSError, ValueError) as error:
            raise Problem(503, f"Glance on {server} does not answer: {error}") from None
        states = {"active": "ACTIVE", "killed": "ERROR", "deleted": "DELETED", "pending_delete": "DELETED"}
        return 200, {
            "images": [
                {"id": each["id"], "name": each["name"], "status": states.get(each["status"], "SAVING"), "metadata": {}}
                for each in found
            ]
        }


class Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128


class Listener(Service):
    """A service on a port: no heartbeat, but the schema is looked at all the same."""

    port = 0
    handler = None

    def started(self):
        self.server = Server(("", self.port), self.handler)
        self.server.service = self
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.log.info("%s listening on 0.0.0.0:%d", self.binary, self.port)

    def work(self):
        while True:
            self.gate()
            time.sleep(HEARTBEAT_S)  # it only reports, at its rate


class Api(Listener):
    binary, port, handler = "nova-api", 8774, Request


class Console(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(405, "This stand-in shows no consoles")

    def log_message(self, *_arguments):
        pass


class NoVncProxy(Listener):
    binary, port, handler = "nova-novncproxy", 6080, Console


def main():
    """Run the service that the program's name says."""
    from nova_lab import cells, compute, service

    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    kinds = [Api, NoVncProxy, cells.Cells, compute.Compute, service.Conductor, service.Scheduler, service.ConsoleAuth]
    name = sys.argv[0].rpartition("/")[2]
    for kind in kinds:
        if kind.binary == name:
            kind().run()
    raise SystemExit(f"{name}: no such service")
