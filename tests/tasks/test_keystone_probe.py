"""Whose tokens which server takes: real bash and curl, against servers that answer as the two releases do."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.errors import CommandFailed, Refused
from tasks.keystone import probe, server
from tasks.keystone.probe import as_rows, crossed
from tests.support.keystones import PASSWORD, USER, Fleet, Keystone, conf, nodes
from tests.support.scripted import Bash


class OnNode(Bash):
    """A node with files of its own, where keystone's are."""

    def __init__(self, home: Path):
        super().__init__(home / "bin")
        self.home = home

    def answer(self, command, stdin, timeout):
        command = command.replace("/etc/keystone/keystone.conf", str(self.home / "keystone.conf"))
        command = command.replace("/usr/share/keystone/keystone-dist.conf", str(self.home / "dist.conf"))
        command = command.replace("/var/log/keystone/keystone.log", str(self.home / "keystone.log"))
        return super().answer(command.replace("/root/openrc", str(self.home / "openrc")), stdin, timeout)


def openrc(home: Path, password: str = PASSWORD) -> None:
    quoted = password.replace("'", "'\\''")
    (home / "openrc").write_text(f"export OS_USERNAME={USER}\nexport OS_PASSWORD='{quoted}'\nOS_TENANT_NAME=admin\n")


@pytest.fixture
def fleet(tmp_path):
    """Two main servers with one database, of the releases that a test says."""
    made = []

    def make(*releases: str) -> Fleet:
        tokens: dict[str, str] = {}
        servers, hosts = {}, {}
        for number, release in enumerate(releases, 1):
            name = f"top-api0{number}"
            home = tmp_path / name
            home.mkdir()
            servers[name] = Keystone(release, tokens)
            conf(home, servers[name].server.server_port)
            openrc(home)
            hosts[name] = OnNode(home)
        made.extend(servers.values())
        return Fleet(servers=servers, hosts=hosts, task=nodes(hosts), names=list(servers))

    yield make
    for each in made:
        each.close()


def statuses(matrix):
    return {(each.issuer, each.validator): each.status for each in matrix.crossings}


def probed(fleet, **more):
    return crossed(fleet.task, servers=fleet.names, environment="/root/openrc", **more).result


def test_servers_of_one_release_take_each_others_tokens(fleet):
    noted = probed(fleet("grizzly", "grizzly"))
    assert noted.words == "4 of 4 pairs of servers take each other's tokens"
    assert set(statuses(noted.data).values()) == {"ok"}
    assert [(each.status, each.shape, each.services) for each in noted.data.issues] == [("ok", "uuid", 1)] * 2


def test_a_mixed_fleet_shows_where_grizzly_gets_havanas_token(fleet):
    mixed = fleet("havana", "grizzly")
    trace = "  File \"controllers.py\", line 482, in _assert_default_domain\n2013-12-10 ERROR KeyError: 'token'\n"
    (mixed.hosts["top-api02"].home / "keystone.log").write_text(f"Traceback (most recent call last):\n{trace}")
    noted = probed(mixed)
    assert noted.words.startswith("3 of 4 ")
    assert statuses(noted.data) == {
        ("top-api01", "top-api01"): "ok",
        ("top-api01", "top-api02"): "error",
        ("top-api02", "top-api01"): "ok",
        ("top-api02", "top-api02"): "ok",
    }
    (row,) = [row for row in as_rows(noted.data.plain()) if row["status"] != "ok"]
    assert row["answer"].startswith("HTTP 500: An unexpected error")
    assert row["answer"].endswith("; its log: KeyError: 'token'")


def test_no_secret_is_in_a_command_or_in_what_is_told(fleet):
    mixed = fleet("havana", "grizzly")
    mixed.servers["top-api01"].users = {}
    noted = probed(mixed)
    secrets = [PASSWORD, "hidden-admin-token", "hidden-sql", *mixed.servers["top-api01"].tokens]
    assert len(secrets) == 4, "one server gave a token"
    told = f"{noted.data!r}{noted.data.plain()}{noted.words}"
    for node in mixed.hosts.values():
        assert node.sent
        assert not [secret for secret in secrets for command in node.sent if secret in command]
    assert not [secret for secret in secrets if secret in told]
    assert PASSWORD not in repr(probe.Credentials("a", PASSWORD, ""))


def test_the_programs_that_are_run_get_no_secret_as_argument_or_in_their_environment(fleet, tmp_path):
    one = fleet("grizzly")
    seen = tmp_path / "seen"
    one.hosts["top-api01"].program("curl", f'echo "$@" >> {seen}; env >> {seen}; exec /usr/bin/curl "$@"')
    assert set(statuses(probed(one).data).values()) == {"ok"}
    text = seen.read_text()
    assert "-K" in text
    assert PASSWORD not in text
    assert "OS_PASSWORD" not in text
    assert not [token for token in one.servers["top-api01"].tokens if token in text]


def test_a_wrong_password_is_refused_and_the_answer_says_so(fleet):
    one = fleet("grizzly")
    openrc(one.hosts["top-api01"].home, "wrong")
    matrix = probed(one).data
    assert [(each.status, each.answer) for each in matrix.issues] == [("refused", "HTTP 401: Invalid user / password")]
    assert matrix.crossings == ()
    assert as_rows(matrix.plain())[0]["validator"] == ""


def test_a_server_that_loses_tokens_is_told(fleet):
    pair = fleet("grizzly", "grizzly")
    pair.servers["top-api02"].tokens = {}  # a database of its own
    matrix = probed(pair).data
    assert not [token for each in pair.servers.values() for token in each.tokens if token in str(matrix.plain())]
    assert "HTTP 404: Could not find token, (a token)." in [each.answer for each in matrix.crossings]
    assert statuses(matrix) == {
        ("top-api01", "top-api01"): "ok",
        ("top-api01", "top-api02"): "refused",
        ("top-api02", "top-api01"): "refused",
        ("top-api02", "top-api02"): "ok",
    }


def test_one_servers_credentials_serve_for_the_others(fleet):
    pair = fleet("grizzly", "grizzly")
    (pair.hosts["top-api02"].home / "openrc").unlink()
    assert set(statuses(probed(pair).data).values()) == {"ok"}


def test_without_credentials_nobody_can_log_in(fleet):
    pair = fleet("grizzly", "grizzly")
    for node in pair.hosts.values():
        (node.home / "openrc").write_text("# nothing\n")
    with pytest.raises(Refused, match=r"no OS_USERNAME.* in /root/openrc on top-api01, top-api02: nobody can log in"):
        probed(pair)
    with pytest.raises(Refused, match=r"in checkout.environment on"):
        crossed(pair.task, servers=pair.names, environment="")


def test_a_dry_run_makes_no_token(fleet):
    one = fleet("grizzly")
    one.task.global_dry_run = True
    noted = probed(one)
    assert (noted.data, one.servers["top-api01"].tokens) == (probe.Matrix(), {})
    assert one.hosts["top-api01"].sent == []


def test_settings_are_read_without_what_is_secret(fleet):
    one = fleet("grizzly")
    port = one.servers["top-api01"].server.server_port
    found = server.look(one.task).result
    assert found == server.Settings(
        "uuid", "", "", ("v2.0", "v3.0"), dict.fromkeys(("public", "admin"), f"http://127.0.0.1:{port}/")
    )


@pytest.mark.parametrize(
    ("more", "dist", "format_", "identity"),
    [
        ("[token]\nprovider = keystone.token.providers.uuid.Provider\n", "", "uuid", ""),
        ("[token]\nprovider = keystone.token.providers.pki.Provider\n", "", "pki", ""),
        ("[token]\nprovider = site.tokens.Provider\n", "", "site.tokens.Provider", ""),
        ("[identity]\ndriver=own\n", "[identity]\ndriver = of the package\n", "uuid", "own"),
        ("", "[identity]\ndriver = of the package\n[signing]\ntoken_format = PKI\n", "uuid", "of the package"),
    ],
)
def test_what_the_site_wrote_goes_before_what_the_package_brings(fleet, more, dist, format_, identity):
    one = fleet("havana")
    home = one.hosts["top-api01"].home
    conf(home, one.servers["top-api01"].server.server_port, more)
    (home / "dist.conf").write_text(dist)
    found = server.look(one.task).result
    assert (found.format, found.identity) == (format_, identity)


def test_a_conf_with_a_port_that_is_none_or_no_conf_is_told(fleet):
    one = fleet("grizzly")
    home = one.hosts["top-api01"].home
    conf(home, "5000 # public")
    with pytest.raises(Refused, match=r"top-api01: public_port in keystone.conf is '5000 # public', which is no port"):
        server.look(one.task)
    (home / "keystone.conf").unlink()
    with pytest.raises(CommandFailed, match=r"there is no .*keystone.conf"):
        server.look(one.task)


def test_a_server_that_does_not_listen_is_waited_for_and_then_named(fleet):
    one = fleet("grizzly")
    keystone = one.servers["top-api01"]
    home, port = one.hosts["top-api01"].home, keystone.server.server_port
    keystone.close()
    with pytest.raises(
        Refused, match=rf"http://127.0.0.1:{port}/ does not list the versions.*no answer: curl: .*Failed to connect"
    ):
        server.look(one.task)
    late = []
    timer = threading.Timer(0.7, lambda: late.append(Keystone("grizzly", {})) or conf(home, late[0].server.server_port))
    conf(home, port)
    began = time.monotonic()
    timer.start()
    with pytest.raises(Refused):
        server.look(one.task, timeout_s=1.5)  # it goes on asking where it began
    assert time.monotonic() - began >= 1.5
    assert server.look(one.task, timeout_s=1.5).result.versions == ("v2.0", "v3.0")
    late[0].close()


def test_a_page_that_is_no_keystone_is_told(fleet):
    one = fleet("grizzly")
    one.servers["top-api01"].versions = ()
    found = server.look(one.task).result
    assert found.versions == ()
    assert replace(found, format="pki").plain()["format"] == "pki"
    assert server.Answer(502, None).words == "HTTP 502"
    assert server.Answer(0).words == "no answer: curl does not say why"


def test_a_node_without_curl_is_told(fleet):
    one = fleet("grizzly")
    node = one.hosts["top-api01"]
    real = node.answer
    node.answer = lambda command, stdin, timeout: real(command.replace("command -v curl", "false"), stdin, timeout)
    with pytest.raises(CommandFailed, match=r"there is no curl on"):
        server.look(one.task)
