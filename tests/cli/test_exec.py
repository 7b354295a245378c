"""`cellstep exec` on real sshds, with nodes that fail, are off, or hang."""

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cellstep.cli.exec import account, exec_
from cellstep.errors import UsageError
from tests.support import mariadb, sshd

pytestmark = pytest.mark.sshd

ROOT = Path(__file__).parents[2]
app = typer.Typer()
app.command("exec")(exec_)
app.callback()(lambda: None)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cloud whose nodes are one sshd, each on a loopback address of its own, but for c02-n02, which is off."""
    directory = tmp_path_factory.mktemp("cloud")
    names = ("top-api01", "top-api02", "c01-ctl01", "c01-n01", "c01-n02", "c02-ctl01", "c02-n01")
    addresses = {name: f"127.0.0.{number}" for number, name in enumerate(names, 11)}
    try:
        server = sshd.start(directory, *(f"ListenAddress {address}" for address in addresses.values()))
    except sshd.SshdMissingError as error:
        pytest.skip(str(error))
    server.known_hosts.write_text(server.known_hosts.read_text().replace("127.0.0.1", "127.0.0.*"))
    lines = [f"  {name}: {{address: {address}, port: {server.port}}}" for name, address in addresses.items()]
    hosts = "\n".join(lines)
    (directory / "inventory.yaml").write_text(
        f"""
top:
  data_centre: geneva
  roles: {{controller: "top-api[01-02]", database: top-api01, queue: top-api01, loadbalancer: top-api01}}
cells:
  cell01:
    data_centre: geneva
    roles: {{controller: c01-ctl01, database: c01-ctl01, queue: c01-ctl01, compute: "c01-n[01-02]"}}
  cell02:
    data_centre: budapest
    roles: {{controller: c02-ctl01, database: c02-ctl01, queue: c02-ctl01, compute: "c02-n[01-02]"}}
hosts:
{hosts}
  c02-n02: {{address: 127.0.0.1, port: {mariadb.free_port()}}}
"""
    )
    text = (ROOT / "inventory" / "lab" / "cloud.yaml").read_text()
    kept = [line for line in text.splitlines() if not line.startswith("network_namespace")]
    text = "\n".join(kept).replace("username: root", f"username: {server.user}", 1)
    text = text.replace("/var/lib/cellstep/labs/lab/ssh/id_ed25519", str(server.key))
    text = text.replace("/var/lib/cellstep/labs/lab/ssh/known_hosts", str(server.known_hosts))
    text = text.replace("top-infra01", "top-api01")
    text = re.sub(r"^dashboard:.*\n(?:[ #].*\n)+", "dashboard: null\n", text, flags=re.MULTILINE)
    (directory / "cloud.yaml").write_text(text)
    yield directory
    server.stop()


def run(cloud: Path, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["exec", "--cloud", str(cloud), *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def test_equal_outputs_are_shown_once(cloud: Path) -> None:
    status, shown = run(cloud, "--on", "top,cell01", "--", "echo", "hello;", "echo err >&2")
    assert status == 0
    assert shown.splitlines()[0].startswith("---- c01-ctl01,c01-n[01-02],top-api[01-02] (5): exit 0 ---")
    assert shown.splitlines()[1:] == ["hello", "err", "5 nodes: 5 ok"]


def test_different_outputs_are_apart(cloud: Path) -> None:
    """The three odd ones are told apart by a folder only one of them can make."""
    status, shown = run(cloud, "--on", "cell01", "--", f"mkdir {cloud}/first 2>/dev/null && echo one || echo other")
    assert status == 0
    assert "(1): exit 0" in shown
    assert "(2): exit 0" in shown
    assert shown.endswith("3 nodes: 3 ok\n")


def test_failed_and_unreachable_nodes_are_listed_and_counted(cloud: Path) -> None:
    status, shown = run(cloud, "--on", "cell02", "--", "echo no >&2; exit 7")
    assert status == 3
    assert "---- c02-ctl01,c02-n01 (2): exit 7 ---" in shown
    assert "\nunreachable: c02-n02 (1): no TCP connection: Connection refused\n" in shown
    assert shown.endswith("3 nodes: 0 ok, 2 failed, 1 unreachable\n")
    assert "Traceback" not in shown


def test_a_command_that_does_not_end_is_unknown(cloud: Path) -> None:
    status, shown = run(cloud, "--on", "c01-n[01-02]", "--timeout", "0.5", "--", "sleep 20")
    assert status == 3
    assert "unknown: c01-n[01-02] (2): no end of `sleep 20` within 0.5 s" in shown
    assert shown.endswith("2 nodes: 0 ok, 2 unknown\n")


def test_no_colours_go_into_a_file(cloud: Path) -> None:
    assert "\x1b" not in run(cloud, "--on", "top", "--", "true")[1]


@pytest.mark.parametrize(("on", "word"), [("nobody", "nobody"), ("cell01,!cell01", "matches no node")])
def test_nodes_that_are_not_there_are_wrong_usage(cloud: Path, on: str, word: str) -> None:
    with pytest.raises(UsageError, match=word) as caught:
        run(cloud, "--on", on, "--", "true")
    assert caught.value.exit_code == 2


def test_a_missing_command_or_group_is_wrong_usage(cloud: Path) -> None:
    assert run(cloud, "--on", "top")[0] == 2
    assert run(cloud, "--", "true")[0] == 2


PROGRAM = """
import typer
from cellstep.cli.exec import exec_
app = typer.Typer()
app.command("exec")(exec_)
app.callback()(lambda: None)
app()
"""


@pytest.mark.parametrize(
    ("signals", "status", "account_line"),
    [
        ([signal.SIGINT], 130, "6 nodes: 2 ok, 4 not run"),
        ([signal.SIGTERM], 143, "6 nodes: 2 ok, 4 not run"),
        ([signal.SIGINT, signal.SIGINT], 130, "6 nodes: 0 ok, 2 unknown, 4 not run"),
    ],
    ids=["ctrl-c", "term", "twice"],
)
def test_ctrl_c_drains_and_the_second_ends(
    cloud: Path, tmp_path: Path, signals: list[signal.Signals], status: int, account_line: str
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    seconds = 2 if len(signals) == 1 else 30
    command = ["--on", "top,cell01,c02-ctl01", "--workers", "2", "--", f"echo > {fifo}; sleep {seconds}"]
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "exec", "--cloud", str(cloud), *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # Each of the two nodes writes a line; open for writing too, so that it does not end between them.
    with os.fdopen(os.open(fifo, os.O_RDWR), "rb", buffering=0) as started:
        seen = b""
        while len(seen) < 2:
            assert select.select([started], [], [], 20)[0], "the nodes do not run it within 20 s"
            seen += started.read(2)
    assert program.stderr is not None
    os.kill(program.pid, signals[0])
    for number in signals[1:]:
        program.stderr.readline()  # that the first was heard
        os.kill(program.pid, number)
    shown, _ = program.communicate(timeout=30)
    assert program.returncode == status
    assert shown.splitlines()[-1] == account_line


def test_the_account_names_every_state() -> None:
    counts = {"ok": 1, "failed": 0, "unreachable": 2, "unknown": 0, "not run": 1}
    assert account(counts) == "4 nodes: 1 ok, 2 unreachable, 1 not run"
    assert account({"ok": 1}) == "1 node: 1 ok"
