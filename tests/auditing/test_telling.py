"""Who is told of an audit: only of what is new, by a webhook that may hang, by sendmail, by metrics."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from cellstep.auditing.asking import Scope
from cellstep.auditing.audit import Audit
from cellstep.auditing.telling import Message, body_of, message_of, metrics, tell
from cellstep.cloud.load import load_cloud
from reports.story import Change, Changes
from reports.tables import condition
from tests.support import clouds

WORSE = Change("worse", "condition", "c01-n01", "puppet: ok → disabled", "bad")
BETTER = Change("better", "condition", "c01-n02", "puppet: disabled → ok", "good")


def found(*changes: Change, first: bool = False) -> Audit:
    row = {
        "cell": "cell01",
        "host": "c01-n01",
        "what": "puppet",
        "expected": "enabled",
        "actual": "",
        "status": "disabled",
    }
    tables = {"condition": condition.table([row])}
    told = None if first else Changes("then", changes)
    audit = Audit("audit-20260131T020304Z", tables, Path("/out"), {}, {}, told, False, Scope(), 1.5)
    return replace(audit, tones={"bad": 1}, made_at=1_800_000_000.0)


@contextmanager
def receiver(status: int = 200) -> Iterator[tuple[int, list[bytes]]]:
    """A webhook on loopback: its port, and what it was sent."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port, bodies
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def cloud(folder: Path, text: str, port: int = 0):
    hook = folder / "hook"
    hook.write_text(f"http://127.0.0.1:{port}/secret-token\n")
    hook.chmod(0o600)
    return load_cloud(clouds.write(folder, clouds.CLOUD + text))


HOOK = "audit: {notify: {webhook_file: hook, timeout_s: 1}}\n"


def test_only_new_problems_are_told(tmp_path):
    its = cloud(tmp_path, "")
    assert message_of(its, found(BETTER)) is None
    message = message_of(its, found(WORSE, BETTER))
    assert message is not None
    assert message.title == "test: 1 new problem"
    assert message.problems == ["c01-n01: puppet: ok → disabled"]
    first = message_of(its, found(first=True))
    assert first is not None
    assert first.problems == ["condition: 1 rows are not as they should be"]


def test_a_webhook_gets_what_its_form_wants(tmp_path):
    with receiver() as (port, bodies):
        assert tell(cloud(tmp_path, HOOK, port), found(WORSE)) == []
    (body,) = bodies
    assert json.loads(body)["new_problems"] == ["c01-n01: puppet: ok → disabled"]
    message = Message("test", "audit-1", "Not compliant", ["one"] * 30, "/out")
    for form in ("slack", "mattermost"):
        assert json.loads(body_of(form, message)).keys() == {"text"}
    assert "and 10 more" in message.text


def test_a_webhook_that_hangs_or_refuses_takes_nothing_away_and_shows_no_address(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        said = tell(cloud(tmp_path, HOOK, silent.getsockname()[1]), found(WORSE))
    assert said == ["the webhook: no answer within 1 s"] or "timed out" in said[0]
    with receiver(500) as (port, _):
        assert tell(cloud(tmp_path, HOOK, port), found(WORSE)) == ["the webhook: answered HTTP 500"]
    (refused,) = tell(cloud(tmp_path, HOOK, 1), found(WORSE))
    assert "refused" in refused
    assert "secret-token" not in refused + said[0]


def test_what_a_webhook_did_not_take_is_told_by_the_next_audit_once(tmp_path):
    with receiver(500) as (port, _):
        assert tell(cloud(tmp_path, HOOK, port), found(WORSE)) == ["the webhook: answered HTTP 500"]
        # The next audit finds nothing new, and it fails again.
        assert tell(cloud(tmp_path, HOOK, port), found()) == ["the webhook: answered HTTP 500"]
    with receiver() as (port, bodies):
        assert tell(cloud(tmp_path, HOOK, port), found()) == []
        assert tell(cloud(tmp_path, HOOK, port), found()) == []
    (body,) = bodies
    assert json.loads(body)["new_problems"] == ["c01-n01: puppet: ok → disabled (audit-20260131T020304Z, told late)"]


def test_a_broken_file_of_what_is_to_be_told_holds_nothing_up(tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "untold.json").write_text("{")
    with receiver() as (port, bodies):
        assert tell(cloud(tmp_path, HOOK, port), found(WORSE)) == []
    assert len(bodies) == 1


@pytest.mark.parametrize(("mode", "words"), [(0o644, "open to others"), (None, "cannot be read")])
def test_an_address_that_others_may_read_is_refused(tmp_path, mode, words):
    its = cloud(tmp_path, HOOK)
    if mode is None:
        (tmp_path / "hook").unlink()
    else:
        (tmp_path / "hook").chmod(mode)
    (said,) = tell(its, found(WORSE))
    assert words in said


def test_mail_goes_to_sendmail_and_its_failure_is_a_line(tmp_path):
    program = tmp_path / "sendmail"
    program.write_text(f'#!/bin/sh\nprintf "%s " "$@" > {tmp_path}/words\ncat > {tmp_path}/letter\n')
    program.chmod(0o755)
    text = f"audit: {{notify: {{mail: [ops@example.org], sendmail: {program}, timeout_s: 5}}}}\n"
    assert tell(cloud(tmp_path, text), found(WORSE)) == []
    letter = (tmp_path / "letter").read_text()
    assert "Subject: cellstep: test: 1 new problem" in letter
    assert "To: ops@example.org" in letter
    assert (tmp_path / "words").read_text() == "-i -t "
    program.write_text("#!/bin/sh\ncat > /dev/null\necho no relay >&2\nexit 75\n")
    (said,) = tell(cloud(tmp_path, text), found(WORSE))
    assert said.endswith("ended with 75: no relay")


def test_metrics_are_written_whole_for_another_user(tmp_path):
    its = cloud(tmp_path, "audit: {metrics: node/cellstep.prom}\n")
    assert tell(its, found(WORSE)) == []
    path = tmp_path / "node" / "cellstep.prom"
    assert path.stat().st_mode & 0o777 == 0o644
    lines = path.read_text().splitlines()
    assert 'cellstep_audit_compliant{cloud="test"} 0' in lines
    assert 'cellstep_audit_time_seconds{cloud="test"} 1800000000' in lines
    assert 'cellstep_audit_nodes{cloud="test",state="bad"} 1' in lines
    assert 'cellstep_audit_rows{cloud="test",table="condition",status="disabled"} 1' in lines
    assert 'cellstep_audit_new_problems{cloud="test"} 1' in lines
    assert [path.name for path in path.parent.iterdir()] == ["cellstep.prom"]
    assert metrics(its, found()).count("# TYPE") == 6
