"""Who is told of an audit: a webhook and mail of new problems only, and metrics for node_exporter.

Nothing here can take an audit's result away: what cannot be told is a line that says so.
"""

import json
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from cellstep.auditing.audit import Audit, problems
from cellstep.cloud.audit import NotifyConfig
from cellstep.cloud.cloud import read_secret
from cellstep.cloud.load import Cloud
from cellstep.errors import ConfigurationError
from reports.writers import replacing

LINES = 20
"""Problems that a message tells; the report has all."""

UNTOLD = "untold.json"
UNTOLD_LINES = 200
"""Problems that are kept for a way that does not work; the reports have all."""
LATE = ", told late)"


@dataclass(frozen=True)
class Message:
    """What is told.

    Attributes:
        cloud: the cloud's name.
        audit: the audit's name.
        verdict: one line.
        problems: those that are new, a line each.
        report: the report's folder.
    """

    cloud: str
    audit: str
    verdict: str
    problems: Sequence[str]
    report: str

    @property
    def title(self) -> str:
        """One line."""
        count = len(self.problems)
        return f"{self.cloud}: {count:,} new {'problem' if count == 1 else 'problems'}"

    @property
    def text(self) -> str:
        """All of it, as plain text."""
        shown = [f"- {line}" for line in self.problems[:LINES]]
        more = len(self.problems) - len(shown)
        if more:
            shown.append(f"and {more:,} more")
        return "\n".join([self.title, "", *shown, "", self.verdict, f"{self.audit}: {self.report}"])


def message_of(cloud: Cloud, found: Audit) -> Message | None:
    """What there is to tell; None where no problem is new."""
    if found.changes is None:
        # The first audit: all that it finds is new.
        from reports.tables import findings  # noqa: PLC0415 - the same

        judged = {name: len(findings(name, frame)) for name, frame in found.tables.items()}
        lines = [f"{name}: {count:,} rows are not as they should be" for name, count in judged.items() if count]
        lines += [f"{host}: could not be asked: {why}" for host, why in found.silent.items()]
    else:
        lines = list(problems(found.changes))
    lines += [f"{what}: gave no answer: {why}" for what, why in found.deaf.items()]
    if not lines:
        return None
    return _message(cloud, found, lines)


def tell(cloud: Cloud, found: Audit) -> list[str]:
    """Tell whom cloud.yaml names, if there is something new, and write the metrics.

    What could not be told is kept, and told with the next audit: nobody is told twice, and nothing is lost.

    Returns:
        What could not be told or written, a line each.
    """
    config = cloud.config.audit
    message = message_of(cloud, found)
    ways: dict[str, Callable[[Message], None]] = {}
    if config.notify.webhook_file is not None:
        ways["the webhook"] = lambda told: post(config.notify, told)
    if config.notify.mail:
        ways["mail"] = lambda told: mail(config.notify, told)
    failed = _by(cloud, found, message, ways)
    if config.metrics is not None:
        path = config.metrics
        failed += _tried(f"{path}", lambda: write_metrics(path, cloud, found))
    return failed


def _by(
    cloud: Cloud, found: Audit, message: Message | None, ways: Mapping[str, Callable[[Message], None]]
) -> list[str]:
    """Tell by each way what it has to tell, and keep what it could not. Returns what went wrong, a line each."""
    path = cloud.directory / "state" / UNTOLD
    before = _untold(path)
    left: dict[str, list[str]] = {}
    failed = []
    for way, send in ways.items():
        lines = [*before.get(way, ()), *(message.problems if message else ())]
        if not lines:
            continue
        if why := _tried(way, partial(send, _message(cloud, found, lines))):
            failed += why
            late = (line if line.endswith(LATE) else f"{line} ({found.name}{LATE}" for line in lines)
            left[way] = list(late)[-UNTOLD_LINES:]
    if left != before:
        failed += _tried("what is left for the next audit", lambda: _keep(path, left))
    return failed


def _keep(path: Path, left: Mapping[str, Sequence[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as scratch:
        scratch.write_text(json.dumps(left, ensure_ascii=False), encoding="utf-8")


def _untold(path: Path) -> dict[str, list[str]]:
    """What could not be told so far, by way. A file that cannot be read holds nothing up."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _message(cloud: Cloud, found: Audit, lines: Sequence[str]) -> Message:
    from reports.judgement import verdict  # noqa: PLC0415 - brings pandas, 0.6 s

    words, _ = verdict(found.tables, found.silent)
    return Message(cloud.config.name, found.name, words, lines, str(found.folder))


def _tried(what: str, call: Callable[[], None]) -> list[str]:
    try:
        call()
    except (OSError, subprocess.SubprocessError, ConfigurationError, ValueError) as error:
        return [f"{what}: {error}"]
    return []


def body_of(form: str, message: Message) -> bytes:
    """What a webhook is sent: Slack and Mattermost take the text alone."""
    if form in {"slack", "mattermost"}:
        return json.dumps({"text": message.text}).encode()
    values = {
        "cloud": message.cloud,
        "audit": message.audit,
        "verdict": message.verdict,
        "new_problems": list(message.problems),
        "report": message.report,
    }
    return json.dumps(values).encode()


def post(config: NotifyConfig, message: Message) -> None:
    """Post to the webhook.

    Raises:
        OSError: it cannot be reached, refuses, or does not answer in `timeout_s`. The address is in no message.
        ConfigurationError: its file cannot be read.
    """
    assert config.webhook_file is not None  # noqa: S101 - the caller has asked
    url = read_secret(config.webhook_file, "audit.notify.webhook_file").get_secret_value()
    if urlsplit(url).scheme not in {"http", "https"}:
        raise ValueError("its file has no address of http or https in it")
    said: list[str] = []

    def send() -> None:
        request = urllib.request.Request(  # noqa: S310 - http or https, as was just seen
            url, body_of(config.form, message), {"Content-Type": "application/json", "User-Agent": "cellstep"}
        )
        try:
            with urllib.request.urlopen(request, timeout=config.timeout_s):  # noqa: S310 - the same
                pass
        except urllib.error.HTTPError as error:
            said.append(f"answered HTTP {error.code}")
        except OSError as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            said.append(str(reason).replace(url, "the address"))
        else:
            said.append("")

    # The library's timeout is for each packet: one that trickles would keep the audit for ever.
    sending = threading.Thread(target=send, name="webhook", daemon=True)
    sending.start()
    sending.join(config.timeout_s)
    if not said:
        raise OSError(f"no answer within {config.timeout_s:g} s")
    if said[0]:
        raise OSError(said[0])


def mail(config: NotifyConfig, message: Message) -> None:
    """Hand a mail to the machine's sendmail.

    Raises:
        OSError: it is not there, or refuses.
        subprocess.SubprocessError: it does not end in `timeout_s`.
    """
    letter = EmailMessage()
    letter["Subject"] = f"cellstep: {message.title}"
    letter["To"] = ", ".join(config.mail)
    letter.set_content(message.text)
    done = subprocess.run(  # noqa: S603 - the site's own sendmail
        [config.sendmail, "-i", "-t"],
        input=letter.as_bytes(),
        capture_output=True,
        timeout=config.timeout_s,
        check=False,
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise OSError(f"{config.sendmail} ended with {done.returncode}{': ' if said else ''}{''.join(said)}")


def write_metrics(path: Path, cloud: Cloud, found: Audit) -> None:
    """Write the figures for node_exporter's textfile collector, at once.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as scratch:
        scratch.write_text(metrics(cloud, found), encoding="utf-8")
        scratch.chmod(0o644)  # node_exporter is another user


def metrics(cloud: Cloud, found: Audit) -> str:
    """The figures, in the text format of Prometheus."""
    from reports.judgement import counts  # noqa: PLC0415 - brings pandas, 0.6 s

    label = _label(cloud.config.name)
    lines = []

    def figure(name: str, about: str, values: Sequence[tuple[str, float]]) -> None:
        lines.append(f"# HELP cellstep_audit_{name} {about}")
        lines.append(f"# TYPE cellstep_audit_{name} gauge")
        lines.extend(f"cellstep_audit_{name}{{cloud={label}{more}}} {value:g}" for more, value in values)

    figure("compliant", "1 where everything is as it should be and answered.", [("", float(found.compliant))])
    lines.append("# HELP cellstep_audit_time_seconds When it was made, in seconds since 1970.")
    lines.append("# TYPE cellstep_audit_time_seconds gauge")
    lines.append(f"cellstep_audit_time_seconds{{cloud={label}}} {found.made_at:.0f}")
    figure("duration_seconds", "How long the asking took.", [("", found.seconds)])
    figure("nodes", "Nodes by state.", [(f",state={_label(tone)}", n) for tone, n in sorted(found.tones.items())])
    rows = [
        (f",table={_label(name)},status={_label(status)}", count)
        for name, frame in found.tables.items()
        for status, count in counts(name, frame).items()
    ]
    figure("rows", "Rows of each table by status.", rows)
    figure("new_problems", "Problems that the audit before did not find.", [("", len(problems(found.changes)))])
    return "\n".join(lines) + "\n"


def _label(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
