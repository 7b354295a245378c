"""The pages: a log-in with Django's token, the list of guests, their actions. Python's own library alone."""

import secrets
from html import escape
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs

SESSION, TOKEN = "sessionid", "csrftoken"
NOVA_STATUS = {"ACTIVE": "Active", "SHUTOFF": "Shutoff", "ERROR": "Error"}
LOGIN = """\
{{ error }}
<form method="post" action="{{ base }}/auth/login/">
{{ csrf }}
<input type="hidden" name="region" value="http://keystone:5000/v2.0">
<input type="text" name="username">
<input type="password" name="password">
<button type="submit">Sign In</button>
</form>
"""


class Site:
    """What a dashboard is made of.

    Attributes:
        base: the path below which it is, "/dashboard".
        title: what its pages are called; the release's, with what a site has added to it.
        users: name to password.
        sessions: keeps a user's name by key: `get(key)`, `set(key, name)`, `delete(key)`.
        guests: `list()` of (id, name, nova's status), `act(id, "start" or "stop")`.
        fault: called before each page; True: this one is answered with 500.
        login: the template of the log-in page; {{ error }}, {{ base }} and {{ csrf }} are filled in.
    """

    def __init__(self, base, title, users, sessions, guests, fault=lambda: False, login=LOGIN):
        self.base, self.title, self.users, self.sessions, self.guests = base, title, users, sessions, guests
        self.fault, self.login = fault, login


class Request:
    """One request, and its answer: `status`, `headers` (pairs) and `body` (bytes).

    Args:
        site: the dashboard.
        method: GET, HEAD or POST.
        path: with the site's base, without the query.
        cookie, host: the headers of these names.
        body: the form, as it was sent.
    """

    def __init__(self, site, method, path, cookie, host, body):
        self.site, self.method, self.host = site, method, host
        self.cookies = {name: morsel.value for name, morsel in SimpleCookie(cookie).items()}
        self.fields = {name: values[-1] for name, values in parse_qs(body, keep_blank_values=True).items()}
        self.fresh = {}
        self._answer(path)

    def _answer(self, path):
        site = self.site
        if site.fault():
            return self._send(500, "<h1>Internal Server Error</h1>")
        if self.method == "POST" and not self._token_fits():
            return self._send(403, "<h1>CSRF verification failed</h1>")
        pages = {"/auth/login/": self._login, "/auth/logout/": self._logout, "/project/instances/": self._guests}
        found = pages.get(path.removeprefix(site.base))
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
        return self.site.sessions.get(key) if key else None

    def _token(self):
        token = self.cookies.get(TOKEN) or secrets.token_hex(16)
        self.fresh[TOKEN] = token
        return f'<input type="hidden" name="csrfmiddlewaretoken" value="{escape(token)}">'

    def _login(self):
        site = self.site
        if self.method == "POST":
            name = self.fields.get("username", "")
            if name in site.users and site.users[name] == self.fields.get("password"):
                key = secrets.token_hex(16)
                site.sessions.set(key, name)
                self.fresh[SESSION] = key
                return self._go("/project/instances/")
        error = '<div class="error">Invalid user name or password.</div>' if self.method == "POST" else ""
        text = site.login
        for name, value in (("error", error), ("base", site.base), ("csrf", self._token())):
            text = text.replace(f"{{{{ {name} }}}}", value)
        return self._send(200, text)

    def _logout(self):
        if SESSION in self.cookies:
            self.site.sessions.delete(self.cookies[SESSION])
        return self._go("/auth/login/")

    def _guests(self):
        if self._user() is None:
            return self._go("/auth/login/?next=/project/instances/")
        if self.method == "POST":
            table, action, guest = (self.fields.get("action", "").split("__", 2) + ["", ""])[:3]
            if table != "instances" or action not in {"start", "stop"}:
                return self._send(400, "<h1>No such action</h1>")
            self.site.guests.act(guest, action)
            return self._go("/project/instances/")
        rows = "".join(
            f'<tr id="instances__row__{escape(uuid)}"><td><a href="#">{escape(name)}</a></td>'
            f'<td class="status">{NOVA_STATUS.get(status, status.title())}</td></tr>'
            for uuid, name, status in self.site.guests.list()
        )
        return self._send(200, f'<form method="post">{self._token()}<table id="instances">{rows}</table></form>')

    def _go(self, path):
        self._send(302, "", [("Location", f"http://{self.host or 'localhost'}{self.site.base}{path}")])

    def _send(self, status, text, more=()):
        head = f"<!DOCTYPE html><html><head><title>{escape(self.site.title)}</title></head><body>"
        self.status, self.body = status, f"{head}{text}</body></html>".encode()
        cookies = [
            ("Set-Cookie", f"{name}={value}; Path=/{'; HttpOnly' if name == SESSION else ''}")
            for name, value in self.fresh.items()
        ]
        length = ("Content-Length", str(len(self.body)))
        self.headers = [("Content-Type", "text/html; charset=utf-8"), length, *cookies, *more]


def handler_of(site):
    """The handler of requests for a `ThreadingHTTPServer`, of a dashboard without a web server in front of it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            path, cookie, host = self.path.partition("?")[0], self.headers.get("Cookie", ""), self.headers.get("Host")
            said = Request(site, self.command, path, cookie, host, body)
            self.send_response(said.status)
            for name, value in said.headers:
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(said.body)

        do_POST = do_HEAD = do_GET

        def log_message(self, *_):
            """Nobody reads it."""

    return Handler
