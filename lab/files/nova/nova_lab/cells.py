"""nova-cells: passes work down to child cells and news up to the parent, each over the other cell's own RabbitMQ."""

import random
import time

from nova_lab import messages, release
from nova_lab.service import Service, TryLater, destroy_instance, update_instance

GATHER_S = 6
INTERCELL = "cells.intercell"
INSTANCE_COLUMNS = (
    "created_at user_id project_id image_ref launch_index power_state vm_state memory_mb vcpus hostname"
    " reservation_id display_name locked instance_type_id uuid task_state root_gb ephemeral_gb cell_name deleted"
).split()


def local_services(service, path):
    """This cell's services as `nova service-list` shows them."""
    found = service.query(
        "SELECT `binary`, host, topic, disabled, updated_at, TIMESTAMPDIFF(SECOND, COALESCE(updated_at, created_at),"
        " UTC_TIMESTAMP()) AS age FROM services WHERE deleted = 0 ORDER BY id"
    )
    return [
        {
            "binary": row["binary"],
            "host": f"{path}@{row['host']}",
            "zone": "nova" if row["topic"] == "compute" else "internal",
            "status": "disabled" if row["disabled"] else "enabled",
            "state": "up" if row["age"] is not None and row["age"] <= 60 else "down",
            "updated_at": row["updated_at"].strftime("%Y-%m-%dT%H:%M:%S.000000") if row["updated_at"] else None,
        }
        for row in found
    ]


class Cells(Service):
    binary, topic = "nova-cells", "cells"

    def __init__(self):
        super().__init__()
        self.answers = f"{INTERCELL}.response.{self.host}"
        self.pending = {}

    def queues(self):
        return [INTERCELL, self.answers]

    def peers(self, *, parents):
        """The other cells' brokers, by the columns this release knows."""
        found = self.query("SELECT * FROM cells WHERE deleted = 0 AND is_parent = %s ORDER BY name", (int(parents),))
        places = {}
        for row in found:
            if release.NAME == "grizzly":
                places[row["name"]] = {
                    "host": row["rpc_host"],
                    "port": row["rpc_port"],
                    "username": row["username"],
                    "password": row["password"],
                    "virtual_host": row["rpc_virtual_host"],
                }
            else:
                places[row["name"]] = messages.from_url(row["transport_url"])
        return places

    def to_cell(self, name, place, method, queue=INTERCELL, **args):
        try:
            messages.cast(place, queue, method, **args)
        except messages.AWAY as error:
            self.log.error("Cell %s: AMQP server on %s is unreachable: %s", name, place["host"], messages.why(error))
            return False
        return True

    def until_sent(self, name, place, method, **args):
        """As long as the other cell's broker is away, the message stays in this cell and is tried again."""
        if not self.to_cell(name, place, method, **args):
            raise TryLater(f"message for cell {name} waits until {place['host']} is back")

    # at the top: from nova-api

    def do_build(self, _properties, uuid, target=None):
        children = self.peers(parents=False)
        name = (target or "").split("!")[-1] or random.choice(sorted(children) or [""])
        if name not in children:
            self.log.error("No cell %r for instance %s", target or name, uuid)
            update_instance(self, uuid, {"vm_state": "error", "task_state": None})
            return
        path = f"{self.config.cell_name}!{name}"
        update_instance(self, uuid, {"cell_name": path})
        rows = self.query(f"SELECT {', '.join(INSTANCE_COLUMNS)} FROM instances WHERE uuid = %s", (uuid,))
        if rows:
            instance = {key: str(value) if hasattr(value, "year") else value for key, value in rows[0].items()}
            self.until_sent(name, children[name], "down_build", instance=instance)
            self.log.info("Instance %s sent to cell %s over %s", uuid, path, children[name]["host"])

    def do_delete(self, _properties, uuid):
        rows = self.query("SELECT cell_name FROM instances WHERE uuid = %s AND deleted = 0", (uuid,))
        if not rows:
            return
        name = (rows[0]["cell_name"] or "").split("!")[-1]
        children = self.peers(parents=False)
        if name not in children:
            destroy_instance(self, uuid)
            return
        self.until_sent(name, children[name], "down_delete", uuid=uuid)

    def do_service_list(self, properties):
        children = self.peers(parents=False)
        token = f"{time.monotonic_ns()}"
        wait = {
            "properties": properties,
            "missing": set(children),
            "services": local_services(self, self.config.cell_name),
            "end": time.monotonic() + GATHER_S,
        }
        self.pending[token] = wait
        for name, place in children.items():
            self.to_cell(name, place, "down_service_list", token=token, child=name, answers=self.answers)
        self._finish(token)

    def do_service_list_answer(self, _properties, token, child, services):
        wait = self.pending.get(token)
        if wait:
            wait["missing"].discard(child)
            wait["services"].extend(services)
            self._finish(token)

    def _finish(self, token):
        wait = self.pending[token]
        if wait["missing"] and time.monotonic() < wait["end"]:
            return
        del self.pending[token]
        late = sorted(wait["missing"])
        error = f"Timed out waiting for a response from cell {', '.join(late)}" if late else None
        if error:
            self.log.error(error)
        self.reply(wait["properties"], {"services": wait["services"], "error": error})

    def tick(self):
        for token in list(self.pending):
            self._finish(token)

    # in a child: from the parent

    def do_down_build(self, _properties, instance):
        if not self.query("SELECT 1 FROM instances WHERE uuid = %s", (instance["uuid"],)):
            self.execute(
                f"INSERT INTO instances ({', '.join(instance)}) VALUES ({', '.join(['%s'] * len(instance))})",
                tuple(instance.values()),
            )
        self.cast("scheduler", "run_instance", uuid=instance["uuid"])

    def do_down_delete(self, _properties, uuid):
        rows = self.query("SELECT host, vm_state FROM instances WHERE uuid = %s AND deleted = 0", (uuid,))
        if rows and not rows[0]["host"] and rows[0]["vm_state"] == "building":
            raise TryLater(f"instance {uuid} is on its way to a host")  # else it would start after it was deleted
        if rows and rows[0]["host"]:
            update_instance(self, uuid, {"task_state": "deleting"})
            self.cast(f"compute.{rows[0]['host']}", "terminate_instance", uuid=uuid)
        else:
            self.cast("conductor", "instance_destroy", uuid=uuid)

    def do_down_service_list(self, _properties, token, child, answers):
        for parent, place in self.peers(parents=True).items():
            services = local_services(self, f"{parent}!{child}")
            self.to_cell(parent, place, "service_list_answer", queue=answers, token=token, child=child, services=services)

    # in a child: from its conductor; at the top: from a child

    def do_up_instance_update(self, _properties, uuid, values):
        for parent, place in self.peers(parents=True).items():
            self.until_sent(parent, place, "instance_update", uuid=uuid, values=values)

    def do_up_instance_destroy(self, _properties, uuid):
        for parent, place in self.peers(parents=True).items():
            self.until_sent(parent, place, "instance_destroy", uuid=uuid)

    def do_instance_update(self, _properties, uuid, values):
        update_instance(self, uuid, values)

    def do_instance_destroy(self, _properties, uuid):
        destroy_instance(self, uuid)
