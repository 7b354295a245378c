"""EC2 keys: Grizzly's table, Havana's, and how migration 33 moves them from the one to the other."""

import hashlib
import json
import uuid

from keystone_lab import release
from standin.sync import Conflict


def create(request, user, tenant):
    """A new key of a user in a project."""
    key = {"access": uuid.uuid4().hex, "secret": uuid.uuid4().hex, "user_id": user, "tenant_id": tenant}
    if release.NAME == "grizzly":
        request.execute(
            "INSERT INTO ec2_credential (access, secret, user_id, tenant_id) VALUES (%s, %s, %s, %s)",
            (key["access"], key["secret"], user, tenant),
        )
    else:
        blob = json.dumps({"access": key["access"], "secret": key["secret"], "trust_id": None})
        request.execute(
            "INSERT INTO credential (id, user_id, project_id, `blob`, type, extra) VALUES (%s, %s, %s, %s, 'ec2', '{}')",
            (identifier(key["access"]), user, tenant, blob),
        )
    return key


def keys(request, user):
    """The keys of a user."""
    if release.NAME == "grizzly":
        return request.rows("SELECT access, secret, user_id, tenant_id FROM ec2_credential WHERE user_id = %s", (user,))
    rows = request.rows("SELECT user_id, project_id, `blob` FROM credential WHERE type = 'ec2' AND user_id = %s", (user,))
    return [
        {
            "access": json.loads(row["blob"])["access"],
            "secret": json.loads(row["blob"])["secret"],
            "user_id": row["user_id"],
            "tenant_id": row["project_id"],
        }
        for row in rows
    ]


def identifier(access):
    return hashlib.sha256(access.encode()).hexdigest()


def move(cursor):
    """Migration 33, before it drops Grizzly's table: a key that is there already must be the same."""
    cursor.execute("SELECT access, secret, user_id, tenant_id FROM ec2_credential")
    for access, secret, user, tenant in cursor.fetchall():
        cursor.execute("SELECT user_id, project_id, `blob` FROM credential WHERE id = %s", (identifier(access),))
        found = cursor.fetchone()
        if found is None:
            cursor.execute(
                "INSERT INTO credential (id, user_id, project_id, `blob`, type, extra)"
                " VALUES (%s, %s, %s, %s, 'ec2', '{}')",
                (identifier(access), user, tenant, json.dumps({"access": access, "secret": secret})),
            )
        elif json.loads(found[2]).get("secret") != secret:
            raise Conflict("Credential", f"Conflict occurred attempting to store credential: {access} is there already")
