"""Makes a cloud of hosts that have just booted: databases and queues, then packages and guests, then services."""

import time
from collections.abc import Callable

from lab.content import components, sample, schema, settings
from lab.errors import LabError
from lab.handle import LabHandle
from lab.spec import HostSpec

_REPORT_S = 120
_USERS = """\
CREATE DATABASE nova DEFAULT CHARACTER SET utf8;
CREATE DATABASE lab DEFAULT CHARACTER SET utf8;
CREATE TABLE lab.db_sync_runs (id int AUTO_INCREMENT PRIMARY KEY, at datetime, host varchar(64), from_version int,
  to_version int, `release` varchar(32), component varchar(32) NOT NULL DEFAULT 'nova');
CREATE USER 'nova'@'%' IDENTIFIED BY '{nova}';
GRANT ALL ON nova.* TO 'nova'@'%';
GRANT ALL ON lab.* TO 'nova'@'%';
GRANT ALL ON cinder.* TO 'nova'@'%';
CREATE USER 'cellstep'@'localhost' IDENTIFIED BY '{mysql}', 'cellstep'@'127.0.0.1' IDENTIFIED BY '{mysql}';
GRANT ALL ON *.* TO 'cellstep'@'localhost' WITH GRANT OPTION;
GRANT ALL ON *.* TO 'cellstep'@'127.0.0.1' WITH GRANT OPTION;
"""

# The staging node: Havana's own nova-manage and its like beside all else, in a root where no service finds them.
_STAGING = """\
mkdir -p /opt/havana
cd /srv/repositories/havana
rpm -i --root /opt/havana --nodeps --noscripts --nosignature {packages}
"""
# HAProxy's servers that are up, BACKEND/SERVER.
_SERVERS_UP = (
    "exec 3<>/dev/tcp/127.0.0.1/9999; echo 'show stat' >&3;"
    """ awk -F, '$18 == "UP" && $2 != "BACKEND" { print $1 "/" $2 }' <&3"""
)
_STAGED = ("python-nova", "openstack-nova-common")


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
    services = {tier: _services(lab, tier) for tier in settings.SERVICES}
    (folder / "manifests" / "site.pp").write_text(settings.site_manifest(services))
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
    chosen = components.chosen(lab.spec)
    if "loadbalancer" in host.roles:
        fronts = [front for component in chosen for front in component.fronts]
        script.append(settings.write("/etc/haproxy/haproxy.cfg", settings.haproxy_cfg(lab.spec, fronts)))
        script.append("chkconfig haproxy on\nsystemctl start --no-block haproxy\n")
    script += [component.prepare(lab.spec, host, lab.secrets) for component in chosen]
    if host == settings.infrastructure(lab.spec, "top"):
        staged = [*_STAGED, *(name for component in chosen for name in component.staging)]
        for component in chosen:
            own = component.staging_files(lab.spec, lab.secrets)
            script += [settings.write(path, content.text, content.mode) for path, content in own.items()]
        script.append(_STAGING.format(packages=" ".join(f"{name}-2*.rpm" for name in staged)))
    script.append(settings.write("/etc/yum.repos.d/grizzly.repo", settings.GRIZZLY_REPOSITORY))
    tier = settings.tier(host)
    packages = [*settings.EVERYWHERE, *settings.PACKAGES.get(tier or "", ())]
    packages += [name for component in chosen for name in component.packages.get(tier or "", ())]
    script.append(f"yum -y -q install {' '.join(packages)} >/var/log/lab-install.log 2>&1 </dev/null")
    script.append(" || { tail -n 20 /var/log/lab-install.log >&2; exit 1; }\n/usr/lib/lab/kernel-release\n")
    lab.run(host.name, "".join(script), stdin=sql, timeout=180)


def _databases(lab: LabHandle, host: HostSpec) -> str:
    password = lab.secrets["rabbitmq"]
    sql = _USERS.format(nova=lab.secrets["nova"], mysql=lab.secrets["mysql"]) + "USE nova;\n" + schema.nova()
    top = host.cell == "top"
    sql += sample.top_rows(lab.spec, password) if top else sample.cell_rows(lab.spec, host.cell, password)
    kept = components.with_databases(lab.spec)
    return sql + "".join(component.databases(lab.spec, host, lab.secrets) for component in kept)


def _services(lab: LabHandle, tier: str) -> dict[str, str]:
    """All services of a tier, nova's first, to their pid files."""
    found = {name: f"/run/nova/{name.removeprefix('openstack-')}.pid" for name in settings.SERVICES[tier]}
    for component in components.chosen(lab.spec):
        found |= {name: component.pid_file(name) for name in component.services.get(tier, ())}
    return found


def _second(lab: LabHandle, host: HostSpec) -> None:
    """Guests, the services with their settings, and monit over them."""
    tier = settings.tier(host)
    if tier not in settings.SERVICES:
        script = [component.settle(lab.spec, host, lab.secrets) for component in components.chosen(lab.spec)]
        if "loadbalancer" in host.roles:
            script.append("systemctl is-active --quiet haproxy || systemctl start haproxy\n")
        if tier == "client":
            script.append(settings.write("/root/openrc", settings.CLIENT_OPENRC, 0o600))
        lab.run(host.name, "".join(script) or ":", timeout=60)
        return
    services = _services(lab, tier)
    script = [
        "set -e\n",
        settings.write("/etc/nova/nova.conf", settings.nova_conf(lab.spec, host, lab.secrets), 0o640),
        settings.write("/etc/monit/conf.d/openstack", settings.monit_checks(services)),
    ]
    if tier == "top":
        script.append(settings.write("/root/openrc", settings.OPENRC, 0o600))
    for component in components.chosen(lab.spec):
        if component.services.get(tier):
            own = component.files(lab.spec, host, lab.secrets)
            script += [settings.write(path, content.text, content.mode) for path, content in own.items()]
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
    """Wait until each service of the cell has a heartbeat in its database, and the balancer sends to every server."""
    wanted: dict[str, set[str]] = {"nova": set()}
    for member in (each for each in lab.spec.hosts() if each.cell == host.cell):
        tier = settings.tier(member) or ""
        for service in settings.SERVICES.get(tier, ()):
            if service not in settings.WITHOUT_HEARTBEAT:
                wanted["nova"].add(f"{service.removeprefix('openstack-')} on {member.name}")
    for component in components.chosen(lab.spec) if host.cell == "top" else ():
        wanted[component.name] = {
            f"{component.heartbeats[service]} on {member.name}"
            for member in lab.spec.hosts()
            for service in component.services.get(settings.tier(member) or "", ())
            if service in component.heartbeats
        }
    query = "SELECT CONCAT(`binary`, ' on ', host) FROM services WHERE deleted = 0"
    for database in filter(wanted.get, wanted):
        command = f'mysql -BN {database} -e "{query.replace("`", chr(92) + "`")}"'
        what = f"no heartbeat in the database {database} on {host.name}"
        _wait(lab, host, wanted[database], command, what)
    if "loadbalancer" in host.roles:
        fronts = [*settings.FRONTS, *(front for each in components.chosen(lab.spec) for front in each.fronts)]
        servers = {
            f"{front.name}/{member.name}"
            for front in fronts
            for member in settings.servers(lab.spec, front)[: 1 if front.role else None]
        }
        _wait(lab, host, servers, _SERVERS_UP, "HAProxy sends nothing to")


def _wait(lab: LabHandle, host: HostSpec, wanted: set[str], command: str, what: str) -> None:
    """Wait until a command prints every line that is wanted."""
    end = time.monotonic() + _REPORT_S
    while missing := sorted(wanted - set(lab.run(host.name, command).splitlines())):
        if time.monotonic() > end:
            raise LabError(f"{what} within {_REPORT_S} s: {', '.join(missing)}")
        time.sleep(0.5)  # nothing tells when a line appears
