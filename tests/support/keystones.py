"""Keystone servers for tests: they give tokens and validate them as two releases do, over one table of tokens."""

import http.server
import json
import threading
import uuid
from pathlib import Path
from types import SimpleNamespace

from nornir.core import Nornir
from nornir.core.configuration import Config
from nornir.core.inventory import Defaults, Inventory
from nornir.core.processor import Processors
from nornir.core.task import Task

from tasks.peers import PEERS
from tests.support.scripted import Bash, _Host

USER, PASSWORD = "admin", "kept \\ secret\" 'with $signs' ü"


class Keystone:
    """One server: Grizzly's or Havana's, on a port of this machine; both of its APIs on that one."""

    def __init__(self, release: str, tokens: dict[str, str], users: dict[str, str] | None = None):
        self.release, self.tokens = release, tokens
        self.users = {USER: PASSWORD} if users is None else users
        self.catalogue, self.versions = [{"type": "compute"}], ("v2.0", "v3.0")
        self.asked: list[str] = []
        keystone = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                keystone.asked.append(self.path)
                if self.path == "/":
                    self.say(300, {"versions": {"values": [{"id": each} for each in keystone.versions]}})
                else:
                    self.say(*keystone.validated(self.path.rpartition("/")[2], self.headers["X-Auth-Token"]))

            def do_POST(self):
                content = self.rfile.read(int(self.headers["Content-Length"]))
                self.say(*keystone.issued(json.loads(content)["auth"]["passwordCredentials"]))

            def say(self, status, body):
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def issued(self, given):
        if self.users.get(given["username"]) != given["password"]:
            return 401, {"error": {"message": "Invalid user / password", "code": 401}}
        token = uuid.uuid4().hex
        self.tokens[token] = self.release
        return 200, {"access": {"token": {"id": token}, "serviceCatalog": self.catalogue}}

    def validated(self, token, by):
        if by not in self.tokens:
            return 401, {"error": {"message": "The request you have made requires authentication.", "code": 401}}
        if token not in self.tokens:
            return 404, {"error": {"message": f"Could not find token, {token}.", "code": 404}}
        if self.release == "grizzly" and self.tokens[token] == "havana":
            words = "An unexpected error prevented the server from fulfilling your request. 'token'"
            return 500, {"error": {"message": words, "code": 500}}
        return 200, {"access": {"user": {"name": USER}}}

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def conf(folder: Path, port: int, more: str = "") -> Path:
    """A keystone.conf, whose secrets must not leave the node."""
    path = folder / "keystone.conf"
    path.write_text(
        "# a comment = with a sign\n[DEFAULT]\nadmin_token = hidden-admin-token\nbind_host = 0.0.0.0\n"
        f"public_port={port}\n admin_port = {port} \n[sql]\nconnection = mysql://keystone:hidden-sql@db/keystone\n"
        f"[signing]\n;token_format = PKI\ntoken_format = UUID\n{more}"
    )
    return path


def nodes(hosts: dict[str, Bash]) -> Task:
    """A task on the first of some nodes, which can reach the others."""
    inventory = {name: _Host(name=name, hostname=name, data={"given": {"cellstep_ssh": node}})
                 for name, node in hosts.items()}  # fmt: skip
    task = Task(nodes, Nornir(inventory=Inventory(inventory, {}, Defaults()), config=Config()), False, Processors())
    task.host = next(iter(inventory.values()))
    task.host.data[PEERS] = inventory
    return task


class Fleet(SimpleNamespace):
    """`servers` by name, the `nodes` they are on, and a `task` on the first."""
