"""The lab's dashboard on a port of this machine, with guests and sessions in memory."""

import sys
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path

FILES = Path(__file__).parents[2] / "lab" / "files" / "horizon"
if str(FILES) not in sys.path:
    sys.path.append(str(FILES))

from horizon_lab import pages  # noqa: E402


class Sessions(dict):
    """Keeps them as memcached does."""

    def set(self, key, name):
        self[key] = name

    def delete(self, key):
        self.pop(key, None)


class Guests:
    """Guests that stop and start; `slow` ones are asked for once more before they have."""

    def __init__(self, **status):
        self.status, self.acts, self.asked = dict(status), [], 0
        self.stuck = False

    def list(self):
        return [(f"id-{name}", name, status) for name, status in self.status.items()]

    def act(self, uuid, action):
        self.acts.append((uuid, action))
        if not self.stuck:
            self.status[uuid.removeprefix("id-")] = "ACTIVE" if action == "start" else "SHUTOFF"


class Dashboard:
    """One that runs until `close`."""

    def __init__(self, **status):
        self.guests, self.sessions, self.requests = Guests(**status), Sessions(), 0
        self.fails = lambda _: False
        self.users = {"opérateur": "a&b=c d'\"$(id)"}

        def fault():
            self.requests += 1
            return self.fails(self.requests)

        self.site = pages.Site("/dashboard", "OpenStack Dashboard", self.users, self.sessions, self.guests, fault)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), pages.handler_of(self.site))
        self.base = f"http://127.0.0.1:{self.server.server_port}/dashboard"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
