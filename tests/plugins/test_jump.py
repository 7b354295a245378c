"""How jump hosts are written, and which way ssh_config, the inventory and cloud.yaml make of it."""

import contextlib
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nornir.plugins.runners import SerialRunner

from cellstep.cloud.load import load_cloud
from cellstep.errors import ConfigurationError
from plugins.connections import jump, sshconfig
from plugins.connections.errors import Unreachable
from plugins.connections.jump import Hop, JumpError
from plugins.connections.sshconfig import Settings
from tests.support import clouds

NAMES = st.from_regex(r"[a-z0-9][a-z0-9.-]{0,20}", fullmatch=True).filter(lambda name: name != "none")
HOPS = st.builds(
    Hop,
    NAMES | st.ip_addresses().map(str),
    st.none() | st.from_regex(r"[a-z_][a-z0-9_.@-]{0,10}", fullmatch=True),
    st.none() | st.integers(1, 65535),
)


@settings(deadline=None)  # the machine may be busy
@given(st.lists(HOPS, max_size=4))
def test_what_is_written_is_read_again(hops: list[Hop]) -> None:
    assert jump.parse(jump.written(hops)) == tuple(hops)


@settings(deadline=None)  # the machine may be busy
@given(
    st.text() | st.text(alphabet="ab@:[],%hn1/ #-.").map(lambda text: f"ssh://{text}") | st.text(alphabet="a@:[],%h1-")
)
def test_any_text_is_either_jump_hosts_or_refused(text: str) -> None:
    with contextlib.suppress(JumpError):
        hops = jump.parse(text)
        assert jump.parse(jump.written(hops)) == hops
        assert all(hop.expanded(dict.fromkeys("hnpr", "x")).host for hop in hops)


WRITTEN = [
    "bastion",
    "a,b",
    "u@a:2222,b",
    "ssh://u@a:22/",
    "ssh://a",
    "[::1]:22",
    "u@[fe80::1]",
    "u@domain@host",
    "[fe80::1%eth0]",
    "b-%h",
]


@pytest.mark.parametrize("text", WRITTEN)
def test_openssh_reads_the_same(text: str) -> None:
    if shutil.which("ssh") is None:
        pytest.skip("openssh-client is not installed: apt-get install openssh-client")
    command = ["ssh", "-G", "-F", "/dev/null", "-o", f"ProxyJump={text}", "node"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
    assert f"proxyjump {jump.written(jump.parse(text))}\n" in said


@pytest.mark.parametrize(
    "text",
    ["", "a,", "-oX", "a b", "a:0", "a:65536", ":22", "@a", "a,none", "fe80::1", "[::1", "a:22:22", "b-%z", "b%"],
)
def test_what_is_no_jump_host_is_refused(text: str) -> None:
    with pytest.raises(JumpError, match="write \\[user@\\]host"):
        jump.parse(text)


# The way


def hops(settings: Settings) -> list[str]:
    """The jump hosts in the order in which they are gone through: `user@address:port`."""
    way: list[str] = []
    at = settings.jump
    while at is not None:
        way.insert(0, f"{at.username}@{at.address}:{at.port}")
        at = at.jump
    return way


@pytest.fixture
def to(tmp_path: Path) -> Any:
    """`to("ssh_config's text", "node", jump=...)`: the jump hosts on the way to node."""

    def find(text: str, node: str = "node", **extras: Any) -> list[str]:
        config = tmp_path / "config"
        config.write_text(text)
        sshconfig._configs.clear()
        return hops(sshconfig.settings(node, "root", None, None, {"ssh_config": str(config), **extras}))

    return find


CONFIG = """\
Host node
  HostName 10.0.0.9
  ProxyJump one,deep@two:2200
Host one
  HostName 192.0.2.1
  User first
  Port 2201
Host two
  User ignored
  Port 99
  ProxyJump nowhere
"""


def test_each_jump_host_has_its_own_user_and_port_from_ssh_config(to: Any) -> None:
    assert to(CONFIG) == ["first@192.0.2.1:2201", "deep@two:2200"]


def test_the_first_jump_host_may_have_one_before_it(to: Any) -> None:
    assert to(CONFIG + "Host last\n ProxyJump me@node\n", "last")[-1] == "me@10.0.0.9:22"
    assert len(to(CONFIG + "Host last\n ProxyJump me@node\n", "last")) == 3


def test_the_tokens_of_openssh(to: Any) -> None:
    config = "Host node\n HostName 10.0.0.9\n Port 77\n ProxyJump %r@b-%h,x-%n:%%22\n"
    with pytest.raises(Unreachable, match="'x-%n:%%22' is no jump host"):
        to(config)
    assert to("Host node\n HostName n9\n ProxyJump %r@b-%h,u@x-%n-%p # via both\n") == [
        "root@b-n9:22",
        "u@x-node-22:22",
    ]


def test_what_the_inventory_says_goes_before_ssh_config(to: Any) -> None:
    assert to(CONFIG, jump="u@other") == ["u@other:22"]
    assert to(CONFIG, jump="none") == []
    assert to("Host *\n ProxyCommand nc %h %p\n", jump="none") == []


def test_the_user_of_jump_hosts_that_have_none(to: Any) -> None:
    assert to(CONFIG, jump="one,other", jump_username="ops") == ["first@192.0.2.1:2201", "ops@other:22"]


def test_none_and_the_first_of_two_rules_count(to: Any) -> None:
    assert to("Host node\n ProxyJump none\nHost *\n ProxyJump a\n ProxyCommand nc %h\n") == []
    assert to("Host node\n ProxyCommand none\nHost *\n ProxyJump a\n") == []
    assert to("Host *\n ProxyJump u@a\n ProxyCommand nc %h %p\nHost a\n ProxyJump none\n")[-1:] == ["u@a:22"]


def test_a_proxy_command_is_refused_and_not_passed_over(to: Any) -> None:
    with pytest.raises(
        Unreachable, match=r"^node: .*config has a ProxyCommand for it, which is not supported; write Pr"
    ):
        to("Host *\n ProxyCommand ssh -W %h:%p bastion\n")
    with pytest.raises(Unreachable, match=r"^b: .*has a ProxyCommand"):
        to("Host b\n ProxyCommand nc %h %p\nHost node\n ProxyJump b\n")


def test_a_host_that_is_its_own_jump_host_is_reached_by_those_before_it(to: Any) -> None:
    config = "Host *\n ProxyJump u@bastion\n"
    assert (to(config, "bastion"), to(config)) == ([], ["u@bastion:22"])
    assert to("", "b", jump="u@a,u@b,u@c") == ["u@a:22"]


def test_a_circle_is_told(to: Any) -> None:
    with pytest.raises(Unreachable, match=r"round in a circle \(node, a, b, a\); mend ProxyJump"):
        to("Host node\n ProxyJump a\nHost a\n ProxyJump b\nHost b\n ProxyJump a\n")


def test_a_jump_host_gets_no_password_and_its_own_keys_first(tmp_path: Path) -> None:
    own, common = tmp_path / "own", tmp_path / "common"
    own.touch()
    config = tmp_path / "config"
    config.write_text(f"Host b\n IdentityFile {own}\n KexAlgorithms +diffie-hellman-group14-sha1\n")
    extras = {"ssh_config": str(config), "key_file": str(common), "jump": "b", "sudo": True, "jump_connections": 7}
    one = sshconfig.settings("n", "root", "s3cret", 22, extras)
    assert one.jump is not None
    assert (one.jump.password, one.jump.key_files, one.jump.sudo) == (None, (own, common), False)
    assert (one.jump.legacy_algorithms, one.legacy_algorithms, one.jump.jump_connections) == (True, False, 7)


@pytest.mark.parametrize(
    ("extras", "word"), [({"jump": "a b"}, "no jump host"), ({"jump_connections": 0}, "1 or more")]
)
def test_options_that_cannot_be_are_refused(extras: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        sshconfig.settings("n", extras=extras)


# In the cloud's files

INVENTORY = """\
defaults: {jump: everywhere}
top:
  data_centre: geneva
  jump: none
  roles: {controller: "top-ctl[01-02]"}
cells:
  cell01:
    data_centre: geneva
    jump: bastion-c01
    roles: {controller: c01-ctl01, compute: "c01-n[01-10]"}
  cell02:
    data_centre: budapest
    roles: {controller: c02-ctl01, compute: "c02-n[1-10]"}
hosts:
  "c01-n[01-02]": {jump: "ops@bastion-b:2222"}
"""


def extras_of(folder: Path, name: str) -> dict[str, Any]:
    host = load_cloud(folder).nornir(SerialRunner()).inventory.hosts[name]
    return dict(host.get_connection_parameters("cellstep_ssh").extras or {})


def jumps(folder: Path, *names: str) -> list[str | None]:
    return [extras_of(folder, name)["jump"] for name in names]


def test_a_node_before_its_cell_before_the_defaults(tmp_path: Path) -> None:
    folder = clouds.write(tmp_path, clouds.CLOUD + "ssh: {jump: last}\n", INVENTORY)
    names = ("top-ctl01", "c01-ctl01", "c01-n01", "c01-n03", "c02-n1")
    assert jumps(folder, *names) == ["none", "bastion-c01", "ops@bastion-b:2222", "bastion-c01", "everywhere"]


def test_cloud_yaml_where_the_inventory_says_nothing(tmp_path: Path) -> None:
    cloud = clouds.CLOUD + "ssh: {jump: 'bastion:2222', jump_connections: 9, username: ops}\n"
    folder = clouds.write(tmp_path, cloud, INVENTORY.replace("defaults: {jump: everywhere}\n", ""))
    assert jumps(folder, "c02-n1", "c01-ctl01") == ["bastion:2222", "bastion-c01"]
    way = sshconfig.settings("c02-n1", "root", None, 22, extras_of(folder, "c02-n1"))
    assert hops(way) == ["ops@bastion:2222"]
    assert way.jump is not None
    assert way.jump.jump_connections == 9


def test_a_simple_inventory_says_it_in_a_groups_options(tmp_path: Path) -> None:
    folder = clouds.write(tmp_path, clouds.CLOUD + "inventory: {plugin: SimpleInventory}\n", None)
    (folder / "hosts.yaml").write_text(
        "top-ctl01: {groups: [all], data: {cell: top, roles: [controller]}}\n"
        "c01-ctl01: {groups: [all, one], data: {cell: cell01, roles: [controller]}}\n"
    )
    (folder / "groups.yaml").write_text(
        "all: {data: {data_centre: geneva}}\none: {connection_options: {cellstep_ssh: {extras: {jump: bastion-c01}}}}\n"
    )
    assert jumps(folder, "top-ctl01", "c01-ctl01") == [None, "bastion-c01"]


def test_faults_name_their_line(tmp_path: Path) -> None:
    text = INVENTORY.replace("bastion-c01", "bastion c01").replace("bastion-b:2222", "bastion-b:")
    with pytest.raises(ConfigurationError) as caught:
        load_cloud(clouds.write(tmp_path, clouds.CLOUD + "ssh: {jump: 'a,'}\n", text))
    assert caught.value.faults == [
        f"cloud.yaml:5: ssh.jump: '' is no jump host; {jump.HOW}",
        f"inventory.yaml:9: cell01.jump: 'bastion c01' is no jump host; {jump.HOW}",
        f"inventory.yaml:15: hosts.c01-n[01-02].jump: 'ops@bastion-b:' is no jump host; {jump.HOW}",
    ]
