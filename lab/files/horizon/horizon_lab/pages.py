"""The pages: a log-in with Django's token, the list of guests, their actions. Python's own library alone."""

import secrets
from html import escape
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs

SESSION, TOKEN = "sessionid", "csrftoken"
NOVA_STATUS = {"ACTIVE": "Active", "SHUTOFF": "Shutoff", "ERROR": "Error"}


class Site:
    """What a dashboard is made of.

    Attributes:
        base: the path below which it is, "/dashboard".
        title: what its pages are called; the release's, with what a site has added to it.
        users: name to password.
        sessions: keeps a user's name by key: `get(key)`, `set(key, name)`, `delete(key)`.
        guests: `list()` of (id, name, nova's status), `act(id, "start" or "stop")`.
        fault: called before each page; True: this one is answered with 500.
    """

    def __init__(self, base, title, users, sessions, guests, fault=lambda: False):
        self.base, self.title, self.users, self.sessions, self.guests = base, title, users, sessions, guests
        self.fault = fault


def handler_of(site):
    """The handler of requests for a `ThreadingHTTPServer`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self._answer("")

        def do_POST(self):
            self._answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode())

        do_HEAD = do_GET

        def log_message(self, *_):
            """The web server in front of it has a log."""

        def _answer(self, body):
            path = self.path.partition("?")[0]
            cookies = SimpleCookie(self.headers.get("Cookie", ""))
            self.cookies = {name: morsel.value for name, morsel in cookies.items()}
            self.fields = {name: values[-1] for name, values in parse_qs(body, keep_blank_values=True).items()}
            self.fresh = {}
            if site.fault():
                return self._send(500, "<h1>Internal Server Error</h1>")
            if self.command == "POST" and not self._token_fits():
                return self._send(403, "<h1>CSRF verification failed</h1>")
            page = {"/auth/login/": self._login, "/auth/logout/": self._logout, "/project/instances/": self._guests}
            found = page.get(path.removeprefix(site.base))
            if found:
                return found()
            if path.rstrip("/") in {site.base, ""}:
                return self._go("/project/instances/")
            return self._send(404, "<h1>Not Found</h1>")

        def _token_fits(self):
            token = self.cookies.get(TOKEN)
            return bool(token) and secrets.compare_digest(token, self.fields.get("csrfmiddlewaretoken", ""))

        def _user(self):
            key = self.cookies.get(SESSION)
            return site.sessions.get(key) if key else None

        def _token(self):
            token = self.cookies.get(TOKEN) or secrets.token_hex(16)
            self.fresh[TOKEN] = token
            return f'<input type="hidden" name="csrfmiddlewaretoken" value="{token}">'

        def _login(self):
            if self.command == "POST":
                name = self.fields.get("username", "")
                if name in site.users and site.users[name] == self.fields.get("password"):
                    key = secrets.token_hex(16)
                    site.sessions.set(key, name)
                    self.fresh[SESSION] = key
                    return self._go("/project/instances/")
            error = '<div class="error">Invalid user name or password.</div>' if self.command == "POST" else ""
            return self._send(
                200,
                f'{error}<form method="post" action="{site.base}/auth/login/">{self._token()}'
                '<input type="hidden" name="region" value="http://keystone:5000/v2.0">'
                '<input type="text" name="username"><input type="password" name="password">'
                "<button>Sign In</button></form>",
            )

        def _logout(self):
            if SESSION in self.cookies:
                site.sessions.delete(self.cookies[SESSION])
            return self._go("/auth/login/")

        def _guests(self):
            if self._user() is None:
                return self._go("/auth/login/?next=/project/instances/")
            if self.command == "POST":
                table, action, guest = (self.fields.get("action", "").split("__", 2) + ["", ""])[:3]
                if table != "instances" or action not in {"start", "stop"}:
                    return self._send(400, "<h1>No such action</h1>")
                site.guests.act(guest, action)
                return self._go("/project/instances/")
            rows = "".join(
                f'<tr id="instances__row__{escape(uuid)}"><td><a href="#">{escape(name)}</a></td>'
                f'<td class="status">{NOVA_STATUS.get(status, status.title())}</td></tr>'
                for uuid, name, status in site.guests.list()
            )
            return self._send(200, f'<form method="post">{self._token()}<table id="instances">{rows}</table></form>')

        def _go(self, path):
            self._send(302, "", {"Location": f"http://{self.headers.get('Host', 'localhost')}{site.base}{path}"})

        def _send(self, status, text, more=None):
            head = f"<!DOCTYPE html><html><head><title>{escape(site.title)}</title></head><body>"
            body = f"{head}{text}</body></html>".encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            for name, value in self.fresh.items():
                self.send_header("Set-Cookie", f"{name}={value}; Path=/; {'HttpOnly' if name == SESSION else ''}")
            for name, value in (more or {}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    return Handler
