"""Makes a cloud of hosts that have just booted: databases and queues, then packages and guests, then services."""

import time
from collections.abc import Callable

from lab.content import sample, schema, settings
from lab.content.packages import FILES
from lab.errors import LabError
from lab.handle import LabHandle
from lab.spec import HostSpec

_REPORT_S = 120
_USERS = """\
CREATE DATABASE nova DEFAULT CHARACTER SET utf8;
CREATE DATABASE lab DEFAULT CHARACTER SET utf8;
CREATE TABLE lab.db_sync_runs (id int AUTO_INCREMENT PRIMARY KEY, at datetime, host varchar(64), from_version int,
  to_version int, `release` varchar(32));
CREATE USER 'nova'@'%' IDENTIFIED BY '{nova}';
GRANT ALL ON nova.* TO 'nova'@'%';
GRANT ALL ON lab.* TO 'nova'@'%';
GRANT ALL ON cinder.* TO 'nova'@'%';
CREATE USER 'cellstep'@'localhost' IDENTIFIED BY '{mysql}', 'cellstep'@'127.0.0.1' IDENTIFIED BY '{mysql}';
GRANT ALL ON *.* TO 'cellstep'@'localhost' WITH GRANT OPTION;
GRANT ALL ON *.* TO 'cellstep'@'127.0.0.1' WITH GRANT OPTION;
"""

# The staging node: Havana's own nova-manage beside all else, in a root of its own, where no service finds it.
_STAGING = """\
mkdir -p /opt/havana
cd /srv/repositories/havana
rpm -i --root /opt/havana --nodeps --noscripts --nosignature python-nova-2*.rpm openstack-nova-common-2*.rpm
"""


def provision(lab: LabHandle) -> None:
    """Bring the lab's cloud into being on Grizzly; returns when every service reports.

    Args:
        lab: hosts that answer on SSH.

    Raises:
        LabError: a step failed on a host, or a service did not report in time; says which.
    """
    hosts = {host.name: host for host in lab.spec.hosts()}
    _manifest(lab)
    lab.progress("databases, queues and packages")
    lab.each(hosts, _with(lab, hosts, _first))
    lab.progress("services and guests")
    lab.each(hosts, _with(lab, hosts, _second))
    lab.progress("waiting until every service reports")
    databases = [host.name for host in hosts.values() if "database" in host.roles]
    lab.each(databases, _with(lab, hosts, _wait_reported))
    lab.each(hosts, lambda name: lab.run(name, "systemctl enable --quiet --now puppet-run.timer"))


def _with(
    lab: LabHandle, hosts: dict[str, HostSpec], function: Callable[[LabHandle, HostSpec], None]
) -> Callable[[str], None]:
    return lambda name: function(lab, hosts[name])


def _manifest(lab: LabHandle) -> None:
    """Puppet's master branch, which every host sees: Grizzly's repository alone is on it."""
    folder = lab.shared / "puppet"
    (folder / "manifests").mkdir(parents=True, exist_ok=True)
    (folder / "manifests" / "site.pp").write_text((FILES / "puppet" / "site.pp").read_text())
    for name in ("promoted", "withdrawn"):
        (folder / name).write_text("")


def _first(lab: LabHandle, host: HostSpec) -> None:
    """The servers (RabbitMQ first: it takes longest), then the packages."""
    script = ["set -e\n"]
    sql = ""
    if "queue" in host.roles:
        definitions = settings.rabbit_definitions(host.cell, lab.secrets["rabbitmq"])
        script.append(settings.write("/etc/rabbitmq/definitions.json", definitions, 0o640, "rabbitmq"))
        script.append("chkconfig rabbitmq-server on\nsystemctl start --no-block rabbitmq-server\n")
    if "database" in host.roles:
        script.append("chkconfig mariadb on\nsystemctl start mariadb\nmysql\n")
        sql = _databases(lab, host)
    if "loadbalancer" in host.roles:
        script.append(settings.write("/etc/haproxy/haproxy.cfg", settings.haproxy_cfg(lab.spec)))
        script.append("chkconfig haproxy on\nsystemctl start --no-block haproxy\n")
    if host == settings.infrastructure(lab.spec, "top"):
        script.append(_STAGING)
    script.append(settings.write("/etc/yum.repos.d/grizzly.repo", settings.GRIZZLY_REPOSITORY))
    tier = settings.tier(host)
    packages = [*settings.EVERYWHERE, *(settings.PACKAGES[tier] if tier else ())]
    script.append(f"yum -y -q install {' '.join(packages)} >/var/log/lab-install.log 2>&1 </dev/null")
    script.append(" || { tail -n 20 /var/log/lab-install.log >&2; exit 1; }\n/usr/lib/lab/kernel-release\n")
    lab.run(host.name, "".join(script), stdin=sql, timeout=180)


def _databases(lab: LabHandle, host: HostSpec) -> str:
    password = lab.secrets["rabbitmq"]
    sql = _USERS.format(nova=lab.secrets["nova"], mysql=lab.secrets["mysql"]) + "USE nova;\n" + schema.nova()
    if host.cell != "top":
        return sql + sample.cell_rows(lab.spec, host.cell, password)
    sql += sample.top_rows(lab.spec, password)
    return (
        sql
        + "CREATE DATABASE cinder DEFAULT CHARACTER SET utf8;\nUSE cinder;\n"
        + schema.cinder()
        + sample.cinder_rows(lab.spec)
    )


def _second(lab: LabHandle, host: HostSpec) -> None:
    """Guests, nova's services, and monit over them."""
    tier = settings.tier(host)
    if tier is None:
        lab.run(host.name, "systemctl is-active --quiet haproxy || systemctl start haproxy", timeout=60)
        return
    services = settings.SERVICES[tier]
    script = [
        "set -e\n",
        settings.write("/etc/nova/nova.conf", settings.nova_conf(lab.spec, host, lab.secrets), 0o640),
        settings.write("/etc/monit/conf.d/openstack-nova", settings.monit_checks(services)),
    ]
    if tier == "top":
        script.append(settings.write("/root/openrc", settings.OPENRC, 0o600))
    script += [
        f"/usr/libexec/nova-guest start {guest.uuid} {guest.libvirt_name} {guest.memory} {guest.vcpus}\n"
        for guest in sample.instances(lab.spec)
        if guest.host == host.name and guest.state == "active"
    ]
    script += [f"chkconfig {service} on\n" for service in services]
    units = " ".join(f"{service}.service" for service in services)
    script.append(f"systemctl start {units}\nchkconfig monit on\nsystemctl start monit\n")
    lab.run(host.name, "".join(script), timeout=120)


def _wait_reported(lab: LabHandle, host: HostSpec) -> None:
    """Wait until each service of the cell has a fresh heartbeat in its database."""
    wanted = {
        (member.name, service.removeprefix("openstack-"))
        for member in lab.spec.hosts()
        if member.cell == host.cell
        for service in settings.SERVICES.get(settings.tier(member) or "", ())
        if service not in settings.WITHOUT_HEARTBEAT
    }
    query = "mysql -BN nova -e 'SELECT host, `binary` FROM services WHERE deleted = 0'"
    end = time.monotonic() + _REPORT_S
    while True:
        seen = {tuple(line.split("\t")) for line in lab.run(host.name, query).splitlines()}
        missing = sorted(wanted - seen)
        if not missing:
            return
        if time.monotonic() > end:
            names = ", ".join(f"{binary} on {name}" for name, binary in missing)
            raise LabError(f"no heartbeat within {_REPORT_S} s in the database on {host.name}: {names}")
        time.sleep(0.5)  # nothing tells when a row appears
