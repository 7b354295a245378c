"""Fixtures of several plugins' tests: a real sshd, and connections to it."""

from collections.abc import Iterator
from typing import Any

import pytest

from plugins.connections import sshconfig
from plugins.connections.ssh import Ssh
from tests.support import sshd
from tests.support.sshd import Connect


@pytest.fixture(scope="session")
def ssh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sshd.Sshd]:
    """One sshd for all tests that leave it as it is."""
    try:
        with sshd.running(tmp_path_factory.mktemp("ssh")) as server:
            yield server
    except sshd.SshdMissingError as error:
        pytest.skip(str(error))


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Makes an Ssh to a server; closes it at the end."""
    made: list[Ssh] = []

    def make(server: sshd.Sshd, **extras: Any) -> Ssh:
        ssh = Ssh(sshconfig.settings("127.0.0.1", server.user, None, server.port, server.extras(**extras)))
        made.append(ssh)
        return ssh

    yield make
    for ssh in made:
        ssh.close()
