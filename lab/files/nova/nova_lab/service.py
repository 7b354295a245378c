"""What every stand-in daemon does: the schema gate, the pid file, the broker, the heartbeat.

The process keeps the code it was started with: everything is imported at the start, so that a package update
changes nothing until the service is restarted.
"""

import json
import logging
import os
import signal
import socket
import sys
import time

import pymysql

from nova_lab import db, messages, release
from nova_lab.config import Config

HEARTBEAT_S = 5
RETRY_S = 2
DATABASE_PATIENCE_S = 15
FROZEN = "/etc/lab/frozen-heartbeat"  # while it is there: runs, works, and does not report


def notify(text):
    """Tell systemd, when it started us."""
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.sendto(text.encode(), "\0" + path[1:] if path.startswith("@") else path)


class TryLater(Exception):
    """The message cannot be passed on now; it goes to the end of its queue."""


class Service:
    binary = ""
    topic = None  # None: neither broker nor heartbeat

    def __init__(self):
        self.name = self.binary.removeprefix("nova-")
        self._open_log()
        self.config = Config()
        self.host = self.config.host
        self.channel = None
        self._connection = None

    def _open_log(self):
        handler = logging.FileHandler(f"/var/log/nova/{self.name}.log", encoding="utf-8")
        line = logging.Formatter(
            "%(asctime)s.%(msecs)03d %(process)d %(levelname)s nova.%(name)s [-] %(message)s", "%Y-%m-%d %H:%M:%S"
        )
        line.converter = time.gmtime
        handler.setFormatter(line)
        self.log = logging.getLogger(self.name)
        self.log.setLevel(logging.INFO)
        self.log.addHandler(handler)

    # what a service may have

    def queues(self):
        """Queues to listen on besides the topic's own."""
        return []

    def started(self):
        """Once, before the broker is asked for."""

    def tick(self):
        """About once a second while the broker is there."""

    # the database

    @property
    def database(self):
        if self._connection is None:
            self._connection = db.connect(self.config)
        else:
            self._connection.ping(reconnect=True)
        return self._connection

    def query(self, sql, args=()):
        return db.rows(self.database, sql, args)

    def execute(self, sql, args=()):
        return db.execute(self.database, sql, args)

    def gate(self):
        """End the process on a schema that is not this release's; a database that is away raises."""
        try:
            db.gate(self.database)
        except db.WrongSchema as error:
            self.refuse(str(error))

    def refuse(self, reason):
        self.log.critical("%s cannot run: %s", self.binary, reason)
        print(f"{self.binary} cannot run: {reason}", file=sys.stderr, flush=True)
        raise SystemExit(1)

    def _first_gate(self):
        end = time.monotonic() + DATABASE_PATIENCE_S
        while True:
            try:
                return self.gate()
            except pymysql.MySQLError as error:
                place = self.config.database["host"]
                if time.monotonic() > end:
                    self.refuse(f"database server on {place} is unreachable: {error}")
                self.log.warning("SQL connection to %s failed (%s). Trying again.", place, error)
                time.sleep(1)  # a server that is down tells nobody when it is back

    def heartbeat(self):
        self.gate()
        if os.path.exists(FROZEN):
            return
        changed = self.execute(
            "UPDATE services SET report_count = report_count + 1, updated_at = UTC_TIMESTAMP()"
            " WHERE host = %s AND `binary` = %s AND deleted = 0",
            (self.host, self.binary),
        )
        if not changed:
            self.execute(
                "INSERT INTO services (created_at, updated_at, host, `binary`, topic, report_count, disabled, deleted)"
                " VALUES (UTC_TIMESTAMP(), UTC_TIMESTAMP(), %s, %s, %s, 1, 0, 0)",
                (self.host, self.binary, self.topic),
            )

    # the broker

    def cast(self, queue, method, **args):
        messages.publish(self.channel, queue, method, **args)

    def reply(self, properties, result):
        self.channel.basic_publish(
            "", properties.reply_to, json.dumps(result, default=str), messages.pika.BasicProperties()
        )

    def _receive(self, channel, delivery, properties, body):
        message = json.loads(body)
        handler = getattr(self, f"do_{message['method']}", None)
        try:
            if handler is None:
                self.log.error("No such method: %s", message["method"])
            else:
                handler(properties, **message["args"])
        except (pymysql.OperationalError, *messages.AWAY):
            raise  # the message stays with the broker and comes again
        except TryLater as error:
            self.log.warning("%s", error)
            time.sleep(1)  # the message is tried again later, as oslo does
            channel.basic_publish("", delivery.routing_key, body, properties)
        except Exception:  # as nova: logged, and the service goes on with the next message
            self.log.exception("Exception during message handling: %s", message["method"])
        channel.basic_ack(delivery.delivery_tag)

    def _serve(self):
        connection = messages.pika.BlockingConnection(messages.parameters(self.config.rabbit))
        try:
            self.channel = connection.channel()
            self.channel.basic_qos(prefetch_count=1)
            for queue in [self.topic, f"{self.topic}.{self.host}", *self.queues()]:
                self.channel.queue_declare(queue, durable=True)
                self.channel.basic_consume(queue, self._receive)
            self.log.info("Connected to AMQP server on %s:%d", self.config.rabbit["host"], self.config.rabbit["port"])
            due = 0.0
            while True:
                if time.monotonic() >= due:
                    self.heartbeat()
                    due = time.monotonic() + HEARTBEAT_S
                connection.process_data_events(time_limit=1)
                self.tick()
        finally:
            self.channel = None
            if connection.is_open:
                connection.close()

    def run(self):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        self.log.info("Starting %s node (version %s, %s)", self.name, release.VERSION, release.NAME)
        self._first_gate()
        self.started()
        with open(f"/var/run/nova/{self.binary}.pid", "w", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")
        notify("READY=1")
        while True:
            try:
                self.work()
            except messages.AWAY as error:
                place = self.config.rabbit
                self.log.error(
                    "AMQP server on %s:%d is unreachable: %s. Trying again in %d seconds.",
                    place["host"],
                    place["port"],
                    messages.why(error),
                    RETRY_S,
                )
            except pymysql.MySQLError as error:
                self.log.error("Database error: %s. Trying again in %d seconds.", error, RETRY_S)
            time.sleep(RETRY_S)  # the rate of its periodic task
            try:
                self.gate()
            except pymysql.MySQLError as error:
                self.log.error("Database error: %s", error)

    def work(self):
        """Serve until something breaks."""
        self._serve()


class Conductor(Service):
    """Writes what compute nodes tell into the cell's database, and has nova-cells pass it up."""

    binary, topic = "nova-conductor", "conductor"

    def do_instance_update(self, _properties, uuid, values):
        update_instance(self, uuid, values)
        self.cast("cells", "up_instance_update", uuid=uuid, values=values)

    def do_instance_destroy(self, _properties, uuid):
        destroy_instance(self, uuid)
        self.cast("cells", "up_instance_destroy", uuid=uuid)


class Scheduler(Service):
    """Chooses the compute node with the fewest instances among those whose heartbeat is fresh."""

    binary, topic = "nova-scheduler", "scheduler"

    def do_run_instance(self, _properties, uuid):
        hosts = self.query(
            "SELECT s.host, COUNT(i.id) AS instances FROM services s LEFT JOIN instances i ON i.host = s.host AND"
            " i.deleted = 0 WHERE s.topic = 'compute' AND s.deleted = 0 AND s.disabled = 0 AND"
            " s.updated_at >= UTC_TIMESTAMP() - INTERVAL 60 SECOND GROUP BY s.host ORDER BY instances, RAND() LIMIT 1"
        )
        if not hosts:
            self.log.error("No valid host was found for instance %s", uuid)
            self.cast("conductor", "instance_update", uuid=uuid, values={"vm_state": "error", "task_state": None})
            return
        host = hosts[0]["host"]
        self.log.info("Instance %s goes to %s", uuid, host)
        values = {"host": host, "node": host, "task_state": "spawning"}
        self.cast("conductor", "instance_update", uuid=uuid, values=values)
        self.cast(f"compute.{host}", "run_instance", uuid=uuid)


class ConsoleAuth(Service):
    binary, topic = "nova-consoleauth", "consoleauth"


UPDATABLE = {"host", "node", "vm_state", "task_state", "power_state", "launched_at", "cell_name", "updated_at"}


def update_instance(service, uuid, values):
    wanted = {key: value for key, value in values.items() if key in UPDATABLE}
    columns = ", ".join(f"{key} = %s" for key in wanted)
    service.execute(
        f"UPDATE instances SET {columns}, updated_at = UTC_TIMESTAMP() WHERE uuid = %s AND deleted = 0",
        (*wanted.values(), uuid),
    )


def destroy_instance(service, uuid):
    service.execute(
        "UPDATE instances SET deleted = id, deleted_at = UTC_TIMESTAMP(), terminated_at = UTC_TIMESTAMP(),"
        " vm_state = 'deleted', task_state = NULL, power_state = 0 WHERE uuid = %s AND deleted = 0",
        (uuid,),
    )
