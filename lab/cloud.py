"""The cloud folder of a lab: cloud.yaml and inventory.yaml, as text, for any size."""

from lab.spec import LabSpec
from lab.state import LabFolder

_INVENTORY_HEAD = """\
# The nodes of the lab's cloud: the top cell, and below it the child cells.
#
# A role lists its nodes as one range, or as a list of ranges: `c01-n[01-02]` is c01-n01 and c01-n02.
# A node may have several roles. Roles the runbook knows: controller, compute, database, queue, loadbalancer.

# What holds for every node that does not say otherwise under `hosts`.
defaults:
  platform: el6

# The cell that users' requests reach; its controllers run the APIs.
top:
  data_centre: geneva
  roles:
    controller: top-api[01-02]
    loadbalancer: top-infra01
    database: top-infra01
    queue: top-infra01

# Each child cell has a controller of its own (here it is its database and message queue as well) and compute nodes.
cells:
"""

_INVENTORY_TAIL = """
# Exceptions, a node or range each: address, port, username, platform, legacy_algorithms. The lab has none: its
# names resolve inside its network namespace.
hosts: {}
"""


def render(spec: LabSpec) -> dict[str, str]:
    """The files of a lab's cloud folder.

    Args:
        spec: the lab.

    Returns:
        Text by file name: cloud.yaml and inventory.yaml.
    """
    return {"cloud.yaml": _cloud(spec), "inventory.yaml": _inventory(spec)}


def _inventory(spec: LabSpec) -> str:
    cells: list[str] = []
    hosts = spec.hosts()
    for name in spec.cell_names():
        members = [host for host in hosts if host.cell == name]
        controller = members[0].name
        computes = [host.name for host in members if "compute" in host.roles]
        cells.append(
            f"  {name}:\n"
            f"    data_centre: {members[0].data_centre}\n"
            f"    roles:\n"
            f"      controller: {controller}\n"
            f"      database: {controller}\n"
            f"      queue: {controller}\n"
            f"      compute: {_fold(computes)}\n"
        )
    return _INVENTORY_HEAD + "".join(cells) + _INVENTORY_TAIL


def _fold(names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    width = len(names[0]) - len(names[0].rstrip("0123456789"))
    return f"{names[0][:-width]}[{names[0][-width:]}-{names[-1][-width:]}]"


def _cloud(spec: LabSpec) -> str:
    folder = LabFolder(spec.name).path
    return f"""\
# The lab's cloud: how cellstep reaches it, and what it finds there. `cellstep config schema` describes every key.

name: {spec.name}

# The pair of releases this upgrade goes between: a file of cellstep/releases, or a path.
release: grizzly-havana

# Where the nodes are listed: the plugin that reads them, and its options (paths are relative to this folder).
inventory:
  plugin: cellstep_cells
  options:
    path: inventory.yaml

# The network namespace the hosts are reached from; cellstep enters it by itself. Leave it out for a real cloud.
network_namespace: {spec.namespace}

ssh:
  username: root
  key: {folder}/ssh/id_ed25519        # without it, the keys of the SSH agent
  known_hosts: {folder}/ssh/known_hosts
  config: null                # path of an ssh_config, if the nodes need one
  host_keys: strict           # strict: an unknown key is refused; accept-new: it is taken at the first meeting
  sudo: false                 # true: commands run under `sudo -n`
  connect_timeout_s: 5
  banner_timeout_s: 10
  auth_timeout_s: 10
  command_timeout_s: 60

workers: 20                   # nodes worked on at once, in all
workers_per_cell: null        # and of one cell; null: no limit but `workers`

# How the databases on the nodes with the role `database` are reached.
databases:
  via: ssh                    # ssh: through the node's own SSH connection; direct: to port 3306 of the node
  port: 3306
  username: cellstep
  password_file: {folder}/secrets/mysql      # or password_env: NAME
  names:                      # component: its schema
    nova: nova
    cinder: cinder

# How user requests are kept away from the APIs: HAProxy on the nodes with the role `loadbalancer`.
fence:
  socket: 127.0.0.1:9999      # its admin socket: host:port on the balancer, or the path of a Unix socket
  backends: [nova-api]

puppet:
  run: /usr/local/sbin/puppet-run           # one forced run
  updates:                                  # the switch of automatic software updating
    file: /etc/sysconfig/yum-autoupdate
    key: ENABLED
    off: "false"
  lock: /var/lib/puppet/state/agent_disabled.lock

# The target release's packages: the repository as `yum repolist` names it, and how it is promoted from QA to master.
repository:
  name: havana
  promote:
    on: top-infra01
    command: /usr/local/sbin/promote-repository havana

monitoring:
  kind: monit                               # monit | none
  mask_alarms: /usr/local/sbin/alarms mask
  unmask_alarms: /usr/local/sbin/alarms unmask
  alarms_masked: /usr/local/sbin/alarms masked          # exits 0 when they are masked already

# Check-out tests after the upgrade, run on the first top controller.
checkout:
  environment: /root/openrc                 # sourced before each command
  create: nova boot --flavor m1.tiny --image cirros --hint target_cell='{{cell_path}}' {{name}}
  show: nova show {{name}}
  delete: nova delete {{name}}
  services: nova service-list               # lists the services of every cell, over RabbitMQ
  commands: []                              # the site's own, each {{on: GROUP, command: ...}}

stale_after_s: 60             # a service whose heartbeat is older is stale
packages: {{}}                  # versions this site runs instead of the release's: {{name: epoch:version-release}}
"""
