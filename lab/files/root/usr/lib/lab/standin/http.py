"""A daemon with an API: a table of routes, JSON in and out.

    class Api(http.Api):
        binary, release, port = "cinder-api", release, 8776
        routes = [("GET", r"/v1/([^/]+)/volumes", "volumes")]

        def volumes(self, request, tenant):
            return 200, {"volumes": request.rows("SELECT ...")}

A method gets the request and what the pattern's groups matched, and returns a status and a body: a dict or list (JSON),
text (HTML), bytes, or None. What it raises as Problem is the answer; a database's error is a 500.
"""

import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote

import pymysql

from standin import db
from standin.daemon import Daemon


class Problem(Exception):
    """An answer that is not what was asked for."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


class Request:
    """What was asked.

    Attributes:
        service: the daemon.
        method, path: HEAD and OPTIONS count as GET; the path is without the query.
        query: its last values by name.
        headers, body: as they came.
        more: headers of the answer, for the method to fill in.
    """

    def __init__(self, service, method, target, headers, body):
        self.service, self.headers, self.body = service, headers, body
        self.method = "GET" if method in ("HEAD", "OPTIONS") else method
        path, _, query = target.partition("?")
        self.path, self.query = unquote(path), dict(parse_qsl(query, keep_blank_values=True))
        self.more = {}
        self._connection = None

    @property
    def database(self):
        """A connection of its own, opened when it is wanted."""
        if self._connection is None:
            self._connection = db.connect(self.service.config)
        return self._connection

    def rows(self, sql, args=()):
        return db.rows(self.database, sql, args)

    def execute(self, sql, args=()):
        return db.execute(self.database, sql, args)

    def json(self):
        """The body as a dict."""
        try:
            value = json.loads(self.body)
        except ValueError:
            raise Problem(400, "Malformed request body: it is no JSON") from None
        if not isinstance(value, dict):
            raise Problem(400, "Malformed request body: it is no object")
        return value

    def user_of(self, tenant):
        """Who asks, of a caller that is trusted: X-Auth-Token is "user:tenant"."""
        user, _, project = (self.headers.get("X-Auth-Token") or "").partition(":")
        if not user or project != tenant:
            raise Problem(401, "Unauthorized: the token is not for this tenant")
        return user

    def close(self):
        if self._connection is not None:
            self._connection.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else b""
        service = self.server.service
        request = Request(service, self.command, self.path, self.headers, body)
        try:
            status, answer = service.answer(request)
        except Problem as error:
            status, answer = error.status, service.problem(error)
        except pymysql.MySQLError as error:
            service.log.error("%s %s: %s", self.command, self.path, error)
            status, answer = 500, service.problem(Problem(500, f"The server has either erred or is incapable: {error}"))
        finally:
            request.close()
        kind = request.more.pop("Content-Type", None)
        if isinstance(answer, str):
            answer, kind = answer.encode(), kind or "text/html; charset=utf-8"
        elif answer is not None and not isinstance(answer, bytes):
            answer = json.dumps(answer, default=str).encode()
        answer = answer or b""
        self.send_response(status)
        self.send_header("Content-Type", kind or "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.send_header("Connection", "close")
        for name, value in request.more.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)
        self.close_connection = True

    do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = do_GET

    def log_message(self, form, *arguments):
        if self.path.rstrip("/"):  # the load balancer's health check asks for / every two seconds
            self.server.service.log.info('%s "%s" ' + form.split('" ')[-1], self.client_address[0], *arguments)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """A client that went away (a health check does) is no news; anything else is."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Api(Daemon):
    """A daemon that answers on a port."""

    port = 0
    routes = ()

    def answer(self, request):
        for method, pattern, name in self.routes:
            match = re.fullmatch(pattern, request.path)
            if method == request.method and match:
                return getattr(self, name)(request, *match.groups())
        raise Problem(404, "The resource could not be found.")

    def problem(self, error):
        """The body of an answer that is a Problem."""
        return {"message": str(error), "code": error.status}

    def started(self):
        try:
            server = _Server(("", self.port), _Handler)
        except OSError as error:
            self.refuse(f"port {self.port}: {error.strerror}")
        server.service = self
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.log.info("%s listening on 0.0.0.0:%d", self.binary, self.port)
