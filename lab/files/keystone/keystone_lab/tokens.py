"""Tokens of version 2 as the two releases keep and validate them, in the table `token`.

Grizzly keeps user, tenant and metadata. Havana keeps `token_data` beside them, with what was given out under `access`.
Grizzly takes `token_data` for a token of version 3, whose content is under `token`: so it fails on Havana's.
"""

import json
import time
import uuid
from datetime import datetime, timedelta

from keystone_lab import release
from standin import http

EXPIRATION_S = 86_400
DEFAULT_DOMAIN_ID = "default"


def isotime(when):
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


class Tokens:
    """What one request does with tokens."""

    def __init__(self, request):
        self.request = request

    # Issue

    def issue(self, user, tenant):
        """Give a token out; the body of the answer."""
        roles = self._roles(user["id"], tenant["id"]) if tenant else []
        if tenant and not roles:
            raise http.Problem(401, f"User {user['id']} is unauthorized for tenant {tenant['id']}")
        identifier = uuid.uuid4().hex
        expires = datetime.fromtimestamp(time.time() + EXPIRATION_S)  # hosts are on UTC
        expires = expires.replace(microsecond=0)
        ref = {
            "id": identifier,
            "user": user,
            "tenant": tenant,
            "metadata": {"roles": [role["id"] for role in roles]},
        }
        body = self._format(ref, roles, expires)
        body["access"]["serviceCatalog"] = self._catalogue(tenant)
        if release.NAME != "grizzly":
            ref["token_data"] = body
        self.request.execute(
            "INSERT INTO token (id, expires, extra, valid, trust_id, user_id) VALUES (%s, %s, %s, 1, NULL, %s)",
            (identifier, expires, json.dumps(ref), user["id"]),
        )
        return body

    def _roles(self, user, tenant):
        rows = self.request.rows(
            "SELECT data FROM user_project_metadata WHERE user_id = %s AND project_id = %s", (user, tenant)
        )
        ids = json.loads(rows[0]["data"] or "{}").get("roles", []) if rows else []
        known = {row["id"]: row for row in self.request.rows("SELECT id, name FROM role")}
        return [known[each] for each in ids if each in known]

    def _catalogue(self, tenant):
        if not tenant:
            return []
        rows = self.request.rows(
            "SELECT s.type, s.extra, e.id, e.region, e.url FROM service AS s JOIN endpoint AS e ON e.service_id = s.id"
            " WHERE e.interface = 'public' ORDER BY s.type"
        )
        return [
            {
                "type": row["type"],
                "name": json.loads(row["extra"] or "{}").get("name", row["type"]),
                "endpoints_links": [],
                "endpoints": [
                    {
                        "id": row["id"],
                        "region": row["region"],
                        "publicURL": row["url"].replace("$(tenant_id)s", tenant["id"]),
                    }
                ],
            }
            for row in rows
        ]

    @staticmethod
    def _format(ref, roles, expires):
        token = {"id": ref["id"], "expires": isotime(expires)}
        if ref["tenant"]:
            token["tenant"] = {**ref["tenant"], "enabled": True}
        user = {
            "id": ref["user"]["id"],
            "name": ref["user"]["name"],
            "username": ref["user"]["name"],
            "roles": [{"name": role["name"]} for role in roles],
            "roles_links": [],
        }
        return {"access": {"token": token, "user": user, "metadata": {"is_admin": 0, **ref["metadata"]}}}

    # Validate

    def find(self, identifier, status=404):
        """A token that is valid: what is kept of it, and when it expires."""
        rows = self.request.rows(
            "SELECT extra, expires FROM token WHERE id = %s AND valid = 1 AND expires > UTC_TIMESTAMP()", (identifier,)
        )
        if not rows:
            words = "The request you have made requires authentication."
            raise http.Problem(status, words if status == 401 else f"Could not find token, {identifier}.")
        return json.loads(rows[0]["extra"]), rows[0]["expires"]

    def assert_admin(self, identifier):
        """Who asks must have the role admin in the project of its own token."""
        ref, _ = self.find(identifier or "", status=401)
        roles = self._roles(ref["user"]["id"], ref["tenant"]["id"]) if ref.get("tenant") else []
        if "admin" not in [role["name"] for role in roles]:
            raise http.Problem(403, "You are not authorized to perform the requested action: admin_required")

    def validate_token(self, identifier):
        ref, expires = self.find(identifier)
        if release.NAME == "grizzly":
            self._assert_default_domain(ref)
        roles = self._roles(ref["user"]["id"], ref["tenant"]["id"]) if ref.get("tenant") else []
        body = self._format(ref, roles, expires)
        body["access"]["serviceCatalog"] = self._catalogue(ref.get("tenant"))
        return body

    @staticmethod
    def _assert_default_domain(token_ref):
        if token_ref.get("token_data"):
            # it takes it for a token of version 3
            if token_ref["token_data"]["token"]["user"]["domain"]["id"] != DEFAULT_DOMAIN_ID:
                raise http.Problem(401, "Non-default domain is not supported")
