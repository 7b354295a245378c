"""keystone-all: the public API on port 5000, and the admin API on port 35357, which alone validates tokens."""

from keystone_lab import config, ec2, release
from keystone_lab.tokens import Tokens
from keystone_lab.users import Directory
from standin import http
from standin.daemon import start

TITLES = {400: "Bad Request", 401: "Not Authorized", 403: "Forbidden", 404: "Not Found", 500: "Internal Server Error"}
VERSIONS = ("v2.0", "v3.0")


class Keystone(http.Api):
    """What both APIs have."""

    binary, release, port = "keystone-all", release, 5000
    routes = (
        ("GET", r"/?", "versions"),
        ("POST", r"/v2\.0/tokens", "authenticate"),
        ("GET", r"/v2\.0/users/([^/]+)/credentials/OS-EC2", "keys"),
        ("POST", r"/v2\.0/users/([^/]+)/credentials/OS-EC2", "new_key"),
    )

    def make_config(self):
        return config.read()

    def _open_log(self):
        self.binary, name = "keystone", self.binary  # the log is keystone.log
        super()._open_log()
        self.binary = name

    def started(self):
        super().started()
        admin = object.__new__(Admin)
        admin.__dict__.update(self.__dict__)
        http.Api.started(admin)

    def answer(self, request):
        try:
            return super().answer(request)
        except (KeyError, TypeError) as error:
            self.log.exception("%s", error)
            words = "An unexpected error prevented the server from fulfilling your request."
            raise http.Problem(500, f"{words} {error}") from error

    def problem(self, error):
        return {"error": {"message": str(error), "code": error.status, "title": TITLES.get(error.status, "")}}

    def versions(self, _request):
        return 300, {"versions": {"values": [{"id": each, "status": "stable"} for each in VERSIONS]}}

    def authenticate(self, request):
        auth = request.json().get("auth")
        given = auth.get("passwordCredentials") if isinstance(auth, dict) else None
        if not isinstance(given, dict) or not {"username", "password"} <= given.keys():
            raise http.Problem(400, "Expecting to find passwordCredentials in auth.")
        name = str(given["username"])
        if not Directory(self.config).authenticate(name, str(given["password"])):
            raise http.Problem(401, "Invalid user / password")
        tenant = None
        if auth.get("tenantName"):
            found = request.rows("SELECT id, name, description FROM project WHERE name = %s", (auth["tenantName"],))
            if not found:
                raise http.Problem(401, f"Could not find project: {auth['tenantName']}")
            tenant = found[0]
        return 200, Tokens(request).issue({"id": name, "name": name}, tenant)

    def _user(self, request, user):
        ref, _ = Tokens(request).find(request.headers.get("X-Auth-Token") or "", status=401)
        if ref["user"]["id"] != user:
            raise http.Problem(403, "Forbidden: Token belongs to another user")

    def keys(self, request, user):
        self._user(request, user)
        return 200, {"credentials": ec2.keys(request, user)}

    def new_key(self, request, user):
        self._user(request, user)
        return 200, {"credential": ec2.create(request, user, str(request.json().get("tenant_id", "")))}


class Admin(Keystone):
    """The admin API."""

    port = 35357
    routes = (*Keystone.routes, ("GET", r"/v2\.0/tokens/([^/]+)", "validate"))

    def validate(self, request, identifier):
        tokens = Tokens(request)
        tokens.assert_admin(request.headers.get("X-Auth-Token"))
        return 200, tokens.validate_token(identifier)


def main():
    start((Keystone,))
