"""What differs from host to host: packages, services, and the text of their settings."""

import base64
import hashlib
import json
import secrets
import shlex
from collections.abc import Iterable, Mapping
from urllib.parse import quote

from lab.content.components.component import Front
from lab.content.packages import FILES
from lab.spec import DASHBOARD, HostSpec, LabSpec

_CLIENTS = ("python-novaclient", "python-cinderclient", "python-glanceclient")
PACKAGES = {
    "top": (
        "openstack-nova-common",
        "openstack-nova-api",
        "openstack-nova-cells",
        "openstack-nova-console",
        "openstack-nova-novncproxy",
        "python-nova",
        *_CLIENTS,
    ),
    "cell": (
        "openstack-nova-common",
        "openstack-nova-cells",
        "openstack-nova-conductor",
        "openstack-nova-scheduler",
        "python-nova",
        *_CLIENTS,
    ),
    "compute": ("openstack-nova-common", "openstack-nova-compute", "python-nova", *_CLIENTS),
    "client": _CLIENTS,
}
SERVICES = {
    "top": (
        "openstack-nova-api",
        "openstack-nova-cells",
        "openstack-nova-consoleauth",
        "openstack-nova-novncproxy",
    ),
    "cell": ("openstack-nova-cells", "openstack-nova-conductor", "openstack-nova-scheduler"),
    "compute": ("openstack-nova-compute",),
}
WITHOUT_HEARTBEAT = ("openstack-nova-api", "openstack-nova-novncproxy")
EVERYWHERE = ("el6-base", "kernel")
OPENRC = """\
# The operator's own project and user. The URL is this controller's own API, past the load balancer.
export OS_USERNAME=operator
export OS_TENANT_NAME=operations
export OS_AUTH_URL=http://127.0.0.1:8774/v2
export NOVACLIENT_BYPASS_URL=http://127.0.0.1:8774/v2
"""
CLIENT_OPENRC = OPENRC.replace("127.0.0.1", "top-infra01").replace("this controller's own API, past", "the API behind")
# Requests for images are apart from the others, so that they can be blocked alone.
FRONTS = (Front("nova-api", 8774), Front("nova-images", 8774, path="/images"))
_NODES = {"top": "^top-api", "cell": r"-ctl\d+$", "compute": r"^c\d+-n\d+$"}
_HAPROXY = """\
global
    maxconn 256
    nbthread 1
    stats socket ipv4@127.0.0.1:9999 level admin
    stats timeout 30s
defaults
    mode http
    timeout connect 3s
    timeout client 60s
    timeout server 60s
    timeout check 3s
"""
GRIZZLY_REPOSITORY = """\
[grizzly]
name=OpenStack grizzly
baseurl=http://127.0.0.1:8081/grizzly
enabled=1
gpgcheck=0
"""


def tier(host: HostSpec) -> str | None:
    """The tier of a host: top, cell, compute, client, dashboard, or None for one with the servers alone, or bare."""
    if "compute" in host.roles:
        return "compute"
    if "controller" in host.roles:
        return "top" if host.cell == "top" else "cell"
    if DASHBOARD in host.roles:
        return DASHBOARD if host.name == "dash01" else None  # the other one is bare
    return "client" if "client" in host.roles else None


def infrastructure(spec: LabSpec, cell: str) -> HostSpec:
    """The host with a cell's database and queue."""
    return next(host for host in spec.hosts() if host.cell == cell and "database" in host.roles)


def virtual_host(cell: str) -> str:
    """A cell's virtual host in its RabbitMQ; its slash has to be quoted in a URL."""
    return "/" if cell == "top" else f"/{cell}"


def nova_conf(spec: LabSpec, host: HostSpec, passwords: dict[str, str]) -> str:
    """A Grizzly nova.conf.

    Args:
        spec: the lab.
        host: whose it is.
        passwords: with the keys nova (database) and rabbitmq.
    """
    place = infrastructure(spec, host.cell).name
    top = host.cell == "top"
    lines = [
        "[DEFAULT]",
        "logdir = /var/log/nova",
        "state_path = /var/lib/nova",
        f"host = {host.name}",
        "auth_strategy = noauth",
        f"sql_connection = mysql://nova:{quote(passwords['nova'], safe='')}@{place}/nova",
        f"rabbit_host = {place}",
        "rabbit_port = 5672",
        "rabbit_userid = nova",
        f"rabbit_password = {passwords['rabbitmq']}",
        f"rabbit_virtual_host = {virtual_host(host.cell)}",
        *([f"glance_api_servers = {infrastructure(spec, 'top').name}:9292"] if "glance" in spec.components else []),
        "compute_api_class = nova.compute.cells_api.ComputeCellsAPI"
        if top
        else "quota_driver = nova.quota.NoopQuotaDriver",
        "",
        "[cells]",
        "enable = True",
        f"name = {'api' if top else host.cell}",
        "",
    ]
    return "\n".join(lines)


def rabbit_definitions(cell: str, password: str) -> str:
    """Users, virtual hosts and permissions, in the form RabbitMQ reads at its start; the password only hashed."""
    salt = secrets.token_bytes(4)
    digest = base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
    vhosts = sorted({"/", virtual_host(cell)})
    return json.dumps(
        {
            "users": [
                {
                    "name": "nova",
                    "password_hash": digest,
                    "hashing_algorithm": "rabbit_password_hashing_sha256",
                    "tags": ["administrator"],
                }
            ],
            "vhosts": [{"name": vhost} for vhost in vhosts],
            "permissions": [
                {"user": "nova", "vhost": vhost, "configure": ".*", "write": ".*", "read": ".*"} for vhost in vhosts
            ],
        },
        indent=1,
    )


def haproxy_cfg(spec: LabSpec, fronts: Iterable[Front] = ()) -> str:
    """The load balancer before the top controllers.

    Args:
        spec: the lab.
        fronts: the components' own, beside nova's.
    """
    everything = [*FRONTS, *fronts]
    text = _HAPROXY
    for front in everything:
        if front.path:
            continue
        apart = [other for other in everything if other.path and other.port == front.port]
        rules = "".join(f"    use_backend {other.name} if {{ path_sub {other.path} }}\n" for other in apart)
        title = "nova" if front.name == "nova-api" else front.name
        text += f"frontend {title}\n    bind *:{front.port}\n{rules}    default_backend {front.name}\n"
    for front in everything:
        text += f"backend {front.name}\n    balance roundrobin\n    option httpchk GET {front.check}\n"
        for number, host in enumerate(servers(spec, front)):
            spare = " disabled" if front.role and number else ""
            text += f"    server {host.name} {host.address}:{front.port} check inter 2s fall 2 rise 1{spare}\n"
    return text


def servers(spec: LabSpec, front: Front) -> list[HostSpec]:
    """The hosts behind a front."""
    return [host for host in spec.hosts() if (front.role in host.roles if front.role else tier(host) == "top")]


def monit_checks(pid_files: Mapping[str, str]) -> str:
    """The checks of monit: a service that does not run is started.

    Args:
        pid_files: service to its pid file.
    """
    return "".join(
        f"check process {name} with pidfile {path}\n"
        f'    start program = "/usr/sbin/service {name} start" with timeout 30 seconds\n'
        f'    stop program = "/usr/sbin/service {name} stop"\n'
        for name, path in pid_files.items()
    )


def site_manifest(services: Mapping[str, Iterable[str]]) -> str:
    """Puppet's manifest: what holds for every node, and that each tier's services run.

    Args:
        services: tier to its services.
    """
    text = (FILES / "puppet" / "site.pp").read_text()
    for name, own in services.items():
        titles = ", ".join(f"'{service}'" for service in own)
        text += (
            f"node /{_NODES[name]}/ {{\n  service {{ [{titles}]:\n    ensure  => running,\n"
            "    require => Exec['update packages'],\n  }\n}\n"
        )
    return text + "node default { }\n"


def write(path: str, text: str, mode: int = 0o644, owner: str = "root") -> str:
    """A bash command that writes a file; the text is part of the script, which is on no command line."""
    name = shlex.quote(path)
    end = "end-of-" + hashlib.sha256(text.encode()).hexdigest()[:12]
    return (
        f"mkdir -p \"$(dirname {name})\" && install -m {mode:04o} -o {owner} -g {owner} /dev/stdin {name} <<'{end}'\n"
        f"{text.rstrip()}\n{end}\n"
    )
