"""The dashboard as Apache's mod_wsgi runs it.

Users and guests are the cloud's, not the dashboard's: they stand in files, the guests in one that all dashboards share.
Sessions are in memcached, where local_settings says so; else they are in this process, and end with it.
"""

import ast
import json
import os
import socket
import threading
import time
from collections import deque
from http.client import responses
from pathlib import Path

from horizon_lab.pages import Request, Site
from horizon_lab.release import VERSION

BASE = "/dashboard"
SETTINGS = Path("/etc/openstack-dashboard/local_settings")
LOGIN = Path("/usr/share/openstack-dashboard/openstack_dashboard/templates/auth/_login.html")
USERS = Path("/etc/lab/dashboard-users.json")  # name: password; stands for keystone
GUESTS = Path("/srv/shared/dashboard/guests.json")  # id: [name, nova's status]; stands for nova's API
FAULT = Path("/etc/lab/dashboard-fault")  # so many requests in WINDOW_S it bears, and answers 500 to more
WINDOW_S = 3
TIMEOUT_S = 3
SESSION_S = 3600


class Memcached:
    """Sessions in memcached."""

    def __init__(self, place):
        host, _, port = place.rpartition(":")
        self.place = (host or place, int(port) if host else 11211)

    def _ask(self, command, *ends):
        said = b""
        with socket.create_connection(self.place, timeout=TIMEOUT_S) as connection:
            connection.sendall(command)
            while not said.endswith(ends):
                part = connection.recv(4096)
                if not part:
                    raise ConnectionError("memcached ended the connection")
                said += part
        return said

    def get(self, key):
        lines = self._ask(f"get {self._key(key)}\r\n".encode(), b"END\r\n").split(b"\r\n")
        return lines[1].decode() if len(lines) > 3 else None

    def set(self, key, name):
        body = name.encode()
        head = f"set {self._key(key)} 0 {SESSION_S} {len(body)}\r\n".encode()
        self._ask(head + body + b"\r\n", b"STORED\r\n")

    def delete(self, key):
        self._ask(f"delete {self._key(key)}\r\n".encode(), b"DELETED\r\n", b"NOT_FOUND\r\n")

    def _key(self, key):
        # A key comes from a browser: nothing of it may be a command.
        return "session:" + "".join(filter(str.isalnum, key))[:64]


class InProcess(dict):
    """Sessions that end with the process."""

    def set(self, key, name):
        self[key] = name

    def delete(self, key):
        self.pop(key, None)


class Guests:
    """The cloud's guests."""

    lock = threading.Lock()

    def list(self):
        return [(uuid, name, status) for uuid, (name, status) in json.loads(GUESTS.read_text()).items()]

    def act(self, uuid, action):
        with self.lock:
            found = json.loads(GUESTS.read_text())
            if uuid in found:
                found[uuid][1] = "ACTIVE" if action == "start" else "SHUTOFF"
                new = GUESTS.with_name(f".guests.{os.getpid()}")
                new.write_text(json.dumps(found))
                new.replace(GUESTS)


class Load:
    """How many requests there were lately; True for one that is too many, where the fault is in place."""

    def __init__(self):
        self.times, self.lock = deque(), threading.Lock()

    def __call__(self):
        now = time.monotonic()
        with self.lock:
            self.times.append(now)
            while self.times[0] < now - WINDOW_S:
                self.times.popleft()
            count = len(self.times)
        return FAULT.exists() and count > int(FAULT.read_text())


def settings():
    """The plain values of local_settings, which is Python."""
    found = {}
    for each in ast.parse(SETTINGS.read_text()).body:
        if isinstance(each, ast.Assign) and isinstance(each.targets[0], ast.Name):
            try:
                found[each.targets[0].id] = ast.literal_eval(each.value)
            except ValueError:
                continue  # computed from others
    return found


def _sessions():
    known = settings()
    cache = known.get("CACHES", {}).get("default", {})
    if known.get("SESSION_ENGINE", "").endswith(".cache") and "memcached" in cache.get("BACKEND", ""):
        return Memcached(cache["LOCATION"])
    return InProcess()


site = Site(
    BASE,
    f"OpenStack Dashboard {VERSION}",
    json.loads(USERS.read_text()),
    _sessions(),
    Guests(),
    Load(),
    LOGIN.read_text(),
)


def application(environ, start_response):
    """What mod_wsgi calls for each request."""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)).decode()
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    method, cookie, host = environ["REQUEST_METHOD"], environ.get("HTTP_COOKIE", ""), environ.get("HTTP_HOST")
    said = Request(site, method, path, cookie, host, body)
    start_response(f"{said.status} {responses[said.status]}", said.headers)
    return [b"" if method == "HEAD" else said.body]
