"""Nornir over a cloud: connection options of each host's own, and the database password only when it is needed."""

import logging

import pytest
from nornir.core.plugins.connections import ConnectionPluginRegister
from nornir.plugins.runners import SerialRunner

from cellstep.cloud.load import load_cloud
from cellstep.errors import ConfigurationError
from tests.support import clouds

SSH = """\
ssh: {username: ops, key: id, known_hosts: known, host_keys: accept-new, sudo: true, connect_timeout_s: 3}
"""


@pytest.fixture
def cloud(tmp_path):
    exceptions = "hosts: {c01-n03: {address: 10.0.0.3, port: 2222, username: root, legacy_algorithms: true}}\n"
    return load_cloud(clouds.write(tmp_path, clouds.CLOUD + SSH, clouds.INVENTORY + exceptions))


def secret(cloud, text="hunter2\n", mode=0o600):
    path = cloud.directory / "secret"
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def test_ssh_options_are_complete(cloud):
    options = cloud.nornir(SerialRunner()).inventory.hosts["c01-n01"].get_connection_parameters("cellstep_ssh")
    assert (options.hostname, options.username, options.port, options.platform) == ("c01-n01", "ops", None, "el6")
    assert options.extras == {
        "key_file": str(cloud.directory / "id"),
        "known_hosts": str(cloud.directory / "known"),
        "ssh_config": None,
        "host_keys": "accept-new",
        "sudo": True,
        "connect_timeout": 3.0,
        "banner_timeout": 10.0,
        "auth_timeout": 10.0,
        "command_timeout": 60.0,
        "legacy_algorithms": False,
        "shell": "bash",
        "jump": None,
        "jump_connections": 50,
        "jump_username": "ops",
    }


def test_exceptions_reach_the_connection(cloud):
    options = cloud.nornir(SerialRunner()).inventory.hosts["c01-n03"].get_connection_parameters("cellstep_ssh")
    assert (options.hostname, options.username, options.port) == ("10.0.0.3", "root", 2222)
    assert options.extras["legacy_algorithms"] is True
    assert options.extras["sudo"] is True


def test_the_connection_plugin_takes_every_option(cloud):
    from plugins.connections.sshconfig import settings  # noqa: PLC0415 - of the plugin, which this test holds us to

    options = cloud.nornir(SerialRunner()).inventory.hosts["c01-n01"].get_connection_parameters("cellstep_ssh")
    known = settings(options.hostname, options.username, options.password, options.port, options.extras)
    assert (known.sudo, known.accept_new, known.connect_timeout) == (True, True, 3.0)
    assert {"cellstep_ssh", "cellstep_mysql"} <= set(ConnectionPluginRegister.available)


def test_no_two_hosts_and_no_two_nornirs_share_options(cloud):
    one, two = cloud.nornir(SerialRunner()).inventory.hosts, cloud.nornir(SerialRunner()).inventory.hosts
    one["c01-n01"].connection_options["cellstep_ssh"].extras["sudo"] = "changed"
    one["c01-n01"].data["cell"] = "changed"
    for host in (one["c01-n02"], two["c01-n01"]):
        assert host.connection_options["cellstep_ssh"].extras["sudo"] is True
        assert host.data["cell"] == "cell01"


def test_host_data_and_groups(cloud):
    nornir = cloud.nornir(SerialRunner())
    assert nornir.inventory.hosts["c01-ctl01"].data == {
        "cell": "cell01", "roles": ["controller", "database"], "data_centre": "geneva"
    }  # fmt: skip
    computes = nornir.filter(filter_func=lambda host: host.has_parent_group("compute"))
    assert len(computes.inventory.hosts) == 20


def test_logging_stays_as_it_is(cloud, monkeypatch):
    monkeypatch.setenv("NORNIR_CORE_RAISE_ON_ERROR", "true")
    before = (logging.getLogger().handlers[:], logging.getLogger("nornir").handlers[:])
    nornir = cloud.nornir(SerialRunner())
    assert (logging.getLogger().handlers[:], logging.getLogger("nornir").handlers[:]) == before
    assert nornir.config.logging.enabled is False
    assert nornir.config.core.raise_on_error is False


def test_database_nodes_alone_have_mysql_options_and_the_password_is_read_late(cloud):
    hosts = cloud.nornir(SerialRunner()).inventory.hosts  # there is no password file yet
    assert "cellstep_mysql" not in hosts["c01-n01"].connection_options
    secret(cloud)
    options = hosts["c01-ctl01"].get_connection_parameters("cellstep_mysql")
    assert (options.username, options.password) == ("cellstep", "hunter2")
    assert options.extras == {"via": "ssh", "port": 3306}


def test_the_password_is_in_no_repr(cloud):
    secret(cloud)
    assert "hunter2" not in repr(cloud.database_password())
    assert cloud.database_password().get_secret_value() == "hunter2"
    assert "hunter2" not in repr(cloud)
    assert "hunter2" not in repr(vars(cloud))


@pytest.mark.parametrize(
    ("text", "mode", "hint"),
    [
        (None, 0, "no such file or directory; write it, mode 600"),
        ("x", 0o644, "is open to others (mode 0644); chmod 600 it"),
        ("x", 0o620, "is open to others (mode 0620); chmod 600 it"),
        ("", 0o600, "must have just one line"),
        ("a\nb\n", 0o600, "must have just one line"),
    ],
)
def test_a_password_file_that_will_not_do(cloud, text, mode, hint):
    if text is not None:
        secret(cloud, text, mode)
    with pytest.raises(ConfigurationError) as caught:
        cloud.database_password()
    assert hint in str(caught.value)
    assert len(caught.value.faults) == 1


def test_a_password_from_the_environment(tmp_path, monkeypatch):
    text = clouds.CLOUD.replace("password_file: secret", "password_env: TEST_SECRET")
    cloud = load_cloud(clouds.write(tmp_path, text))
    monkeypatch.delenv("TEST_SECRET", raising=False)
    with pytest.raises(ConfigurationError, match="TEST_SECRET is not set"):
        cloud.database_password()
    monkeypatch.setenv("TEST_SECRET", "hunter2")
    assert cloud.database_password().get_secret_value() == "hunter2"


def test_no_password_at_all_says_what_to_write(tmp_path):
    cloud = load_cloud(clouds.write(tmp_path, clouds.CLOUD.replace("databases: {password_file: secret}\n", "")))
    with pytest.raises(ConfigurationError, match="write password_file or password_env"):
        cloud.database_password()
