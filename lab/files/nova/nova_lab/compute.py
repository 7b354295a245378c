"""nova-compute: keeps guests as processes that outlive it, and that do not come back after a reboot of the host."""

import subprocess

from nova_lab import release
from nova_lab.service import Service

GUEST = "/usr/libexec/nova-guest"  # start UUID NAME MEMORY VCPUS | stop UUID | list


def guests():
    return set(subprocess.run([GUEST, "list"], capture_output=True, text=True, timeout=20, check=True).stdout.split())


class Compute(Service):
    binary, topic = "nova-compute", "compute"

    def started(self):
        running = guests()
        for row in self.query(
            "SELECT uuid FROM instances WHERE host = %s AND deleted = 0 AND vm_state = 'active'", (self.host,)
        ):
            if row["uuid"] not in running:
                self.log.warning("Instance %s is not running on this host and is not started again", row["uuid"])

    def heartbeat(self):
        super().heartbeat()
        self._resources()

    def _resources(self):
        """The row in compute_nodes, made once."""
        if self.query(
            "SELECT 1 FROM compute_nodes WHERE hypervisor_hostname = %s AND deleted = 0", (self.host,)
        ):
            return
        columns = "created_at, service_id, vcpus, memory_mb, local_gb, vcpus_used, memory_mb_used, local_gb_used,"
        columns += " hypervisor_type, hypervisor_version, cpu_info, hypervisor_hostname, deleted"
        extra, values = ("", "") if release.NAME == "grizzly" else (", host_ip, supported_instances", ", '0.0.0.0', '[]'")
        self.execute(
            f"INSERT INTO compute_nodes ({columns}{extra}) SELECT UTC_TIMESTAMP(), id, 16, 65536, 500, 0, 0, 0, 'QEMU',"
            f" 1000000, '{{}}', host, 0{values} FROM services WHERE host = %s AND `binary` = 'nova-compute' AND deleted = 0",
            (self.host,),
        )

    def tell(self, uuid, **values):
        self.cast("conductor", "instance_update", uuid=uuid, values=values)

    def do_run_instance(self, _properties, uuid):
        rows = self.query("SELECT id, memory_mb, vcpus FROM instances WHERE uuid = %s AND deleted = 0", (uuid,))
        if not rows:
            return
        name = f"instance-{rows[0]['id']:08x}"
        result = subprocess.run(
            [GUEST, "start", uuid, name, str(rows[0]["memory_mb"]), str(rows[0]["vcpus"])],
            capture_output=True,
            text=True,
            timeout=20,
        )
        if result.returncode:
            self.log.error("Instance %s failed to spawn: %s", uuid, result.stderr.strip())
            self.tell(uuid, vm_state="error", task_state=None)
            return
        self.log.info("Instance %s spawned as %s", uuid, name)
        self.tell(uuid, vm_state="active", task_state=None, power_state=1, host=self.host, node=self.host)

    def do_terminate_instance(self, _properties, uuid):
        subprocess.run([GUEST, "stop", uuid], capture_output=True, timeout=20)
        self.log.info("Instance %s destroyed", uuid)
        self.cast("conductor", "instance_destroy", uuid=uuid)
