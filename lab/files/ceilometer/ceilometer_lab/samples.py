"""Samples: made by the agents, signed, and written by the collector in the form of its release's schema."""

import hashlib
import hmac
import json
import time
import uuid

from ceilometer_lab import release

SOURCE = "openstack"


def signature(sample, secret):
    """HMAC of all of a sample but its signature, with the secret that agents and collectors share."""
    text = json.dumps({key: value for key, value in sample.items() if key != "message_signature"}, sort_keys=True)
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def sample(secret, name, volume, unit, resource, user, project, metadata):
    """One sample as it goes over the broker."""
    made = {
        "message_id": str(uuid.uuid4()),
        "source": SOURCE,
        "counter_name": name,
        "counter_type": "gauge",
        "counter_unit": unit,
        "counter_volume": volume,
        "resource_id": resource,
        "user_id": user,
        "project_id": project,
        "timestamp": int(time.time()),
        "resource_metadata": metadata,
    }
    return {**made, "message_signature": signature(made, secret)}


def write(cursor, row):
    """Put a sample into the database, and what it is of."""
    metadata = json.dumps(row["resource_metadata"])
    cursor.execute("INSERT IGNORE INTO source (id) VALUES (%s)", (row["source"],))
    for table, key in (("user", "user_id"), ("project", "project_id")):
        if row[key] and cursor.execute(f"INSERT IGNORE INTO `{table}` (id) VALUES (%s)", (row[key],)):
            cursor.execute(f"INSERT INTO sourceassoc (source_id, {key}) VALUES (%s, %s)", (row["source"], row[key]))
    new = cursor.execute(
        "INSERT INTO resource (id, resource_metadata, project_id, user_id) VALUES (%s, %s, %s, %s)"
        " ON DUPLICATE KEY UPDATE resource_metadata = VALUES(resource_metadata),"
        " project_id = VALUES(project_id), user_id = VALUES(user_id)",
        (row["resource_id"], metadata, row["project_id"], row["user_id"]),
    )
    if new == 1:
        cursor.execute(
            "INSERT INTO sourceassoc (source_id, resource_id) VALUES (%s, %s)", (row["source"], row["resource_id"])
        )
    stamp = "FROM_UNIXTIME(%s)" if release.NAME == "grizzly" else "%s"
    cursor.execute(
        "INSERT INTO meter (counter_name, user_id, project_id, resource_id, resource_metadata, counter_type,"
        " counter_volume, timestamp, message_signature, message_id, counter_unit)"
        f" VALUES (%s, %s, %s, %s, %s, %s, %s, {stamp}, %s, %s, %s)",
        (
            row["counter_name"],
            row["user_id"],
            row["project_id"],
            row["resource_id"],
            metadata,
            row["counter_type"],
            row["counter_volume"],
            row["timestamp"],
            row["message_signature"],
            row["message_id"],
            row["counter_unit"],
        ),
    )
    cursor.execute("INSERT INTO sourceassoc (source_id, meter_id) VALUES (%s, %s)", (row["source"], cursor.lastrowid))
