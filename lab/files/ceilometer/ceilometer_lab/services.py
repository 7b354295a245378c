"""Ceilometer's services: agents on compute nodes, the central agent, the collector, and the API on port 8777.

Agents ask nova's API whose their guests are, and send a sample of each to the top cell's broker; the collectors write
what they find there. While no collector runs, samples wait in the queue `metering`.
"""

import json
import subprocess
import time
import urllib.error
import urllib.request

from ceilometer_lab import release
from ceilometer_lab.samples import sample, signature, write
from ceilometer_lab.settings import EVERY_S, KEYS, QUEUE
from standin import broker, http
from standin.config import Config
from standin.daemon import Daemon, start

GUESTS = ("/usr/libexec/nova-guest", "list")
TENANT = "operations"
NOVA_S = 5


class Agent(Daemon):
    """Sends samples at intervals; it has no database."""

    release, has_database = release, False

    def make_config(self):
        return Config(release, keys=None)

    def started(self):
        self.queue = broker.Queue(self.config, QUEUE)
        self.secret = self.config.get("metering_secret", "")
        self.due = 0.0

    def samples(self):
        """(name, volume, unit, resource, user, project, metadata) of each."""
        return ()

    def nova(self, path):
        """What nova's API answers, as a trusted caller; None when it does not."""
        url = f"{self.config.get('nova_url', 'http://localhost:8774/v2')}/{TENANT}/{path}"
        request = urllib.request.Request(url, headers={"X-Auth-Token": f"ceilometer:{TENANT}"})
        try:
            with urllib.request.urlopen(request, timeout=NOVA_S) as answer:
                return json.load(answer)
        except (OSError, ValueError) as error:
            self.log.warning("nova's API did not answer: %s", error)
            return None

    def tick(self):
        if time.monotonic() < self.due:
            return
        self.due = time.monotonic() + EVERY_S
        for row in self.samples():
            try:
                self.queue.put(sample(self.secret, *row))
            except broker.AWAY as error:
                place = self.config.rabbit
                reason = repr(error) if not str(error) else error
                self.log.error("AMQP server on %s:%d is unreachable: %s", place["host"], place["port"], reason)
                return


class Compute(Agent):
    """A sample of each guest on the host, whether nova knows it or not."""

    binary = "ceilometer-compute"

    def started(self):
        super().started()
        self.known = {}

    def samples(self):
        listed = subprocess.run(GUESTS, capture_output=True, text=True, timeout=20, check=True).stdout.split()
        if set(listed) - set(self.known):
            answer = self.nova("servers/detail?all_tenants=1") or {"servers": []}
            self.known |= {server["id"]: server for server in answer["servers"] if server["id"] in listed}
        for identifier in listed:
            server = self.known.get(identifier, {})
            metadata = {"host": self.host, "display_name": server.get("name")}
            owner = (server.get("user_id"), server.get("tenant_id"))
            yield ("instance", 1, "instance", identifier, *owner, metadata)


class Central(Agent):
    """What is counted once for the whole cloud: the addresses that nova's API tells of."""

    binary = "ceilometer-central"

    def samples(self):
        answer = self.nova("limits")
        if answer:
            used = answer["limits"]["absolute"]["totalFloatingIpsUsed"]
            yield ("ip.floating", used, "ip", f"{TENANT}-floating", None, TENANT, {"host": self.host})


class Collector(Daemon):
    binary, release = "ceilometer-collector", release

    def make_config(self):
        return Config(release, keys=KEYS)

    def started(self):
        self.queue = broker.Queue(self.config, QUEUE)
        self.secret = self.config.get("metering_secret", "")
        self.due = 0.0

    def keep(self, row):
        if signature(row, self.secret) != row.get("message_signature"):
            self.log.warning("message signature is invalid, discarding sample of %s", row.get("resource_id"))
            return
        connection = self.database
        connection.begin()
        try:
            with connection.cursor() as cursor:
                write(cursor, row)
            connection.commit()
        except BaseException:  # raised again: a sample is written whole or not at all
            connection.rollback()
            raise

    def tick(self):
        if time.monotonic() < self.due:
            return
        try:
            self.queue.take(self.keep)
        except broker.AWAY as error:
            place = self.config.rabbit
            reason = repr(error) if not str(error) else error
            self.log.error("AMQP server on %s:%d is unreachable: %s", place["host"], place["port"], reason)
            self.due = time.monotonic() + EVERY_S


class Api(http.Api):
    binary, release, port = "ceilometer-api", release, 8777
    routes = (
        ("GET", r"/?", "versions"),
        ("GET", r"/v2/meters", "meters"),
        ("GET", r"/v2/meters/([^/]+)", "samples"),
    )

    def make_config(self):
        return Config(release, keys=KEYS)

    def versions(self, _request):
        return 200, {"versions": [{"id": "v2", "status": "CURRENT", "release": release.VERSION}]}

    def meters(self, request):
        rows = request.rows(
            "SELECT DISTINCT counter_name AS name, counter_type AS type, counter_unit AS unit, resource_id, user_id,"
            " project_id FROM meter ORDER BY name, resource_id"
        )
        return 200, rows

    def samples(self, request, name):
        limit = request.query.get("limit", "100")
        if not limit.isdigit():
            raise http.Problem(400, f"Invalid input for field/attribute limit. Value: '{limit}'")
        rows = request.rows(
            "SELECT counter_name, counter_type, counter_unit, counter_volume, resource_id, user_id, project_id,"
            " resource_metadata, message_id, timestamp FROM meter WHERE counter_name = %s ORDER BY id DESC LIMIT %s",
            (name, int(limit)),
        )
        for row in rows:
            row["resource_metadata"] = json.loads(row["resource_metadata"] or "{}")
            if release.NAME != "grizzly":
                row["timestamp"] = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(float(row["timestamp"])))
        return 200, rows


def main():
    start((Compute, Central, Collector, Api))
