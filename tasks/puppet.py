"""Puppet: the agent, and its automatic software updating."""

import shlex
from collections.abc import Mapping
from typing import Any

from nornir.core.task import Result, Task

from tasks.errors import CommandFailed, Refused
from tasks.holds import Hold, changed, skipped, unchanged
from tasks.packages import installed
from tasks.platforms import lacking, platform_of
from tasks.shell import change, sh

REASON = "cellstep: an upgrade is running"
RUN_TIMEOUT_S = 600.0
PUPPET_WENT_WELL = (0, 2)
"""Exit statuses of `puppet apply --detailed-exitcodes`: nothing to do, changes made."""


def read_agent(task: Task, *, lock: str) -> Result:
    """Prior state: {enabled: bool, reason: what the lock file says}."""
    found = sh(task, f"cat -- {shlex.quote(lock)} 2>/dev/null", ok=(0, 1))
    return unchanged(task, {"enabled": found.exit_status != 0, "reason": found.stdout.strip()})


def disable_agent(task: Task, *, prior: Mapping[str, Any], lock: str) -> Result:
    """`puppet agent --disable`, then wait until a run that was under way has ended."""
    if not prior["enabled"] or not read_agent(task, lock=lock).result["enabled"]:
        _wait_for_run(task, lock)
        return skipped(task, f"disabled already: {prior['reason'] or REASON}")
    if not task.is_dry_run():
        change(task, f"puppet agent --disable {shlex.quote(REASON)}", timeout=RUN_TIMEOUT_S)
        if read_agent(task, lock=lock).result["enabled"]:
            raise Refused(f"puppet agent --disable wrote no {lock}; is this its agent_disabled_lockfile?")
    _wait_for_run(task, lock)
    return changed(task, "Puppet stopped")


def _wait_for_run(task: Task, lock: str) -> None:
    """Wait until no Puppet run is under way; a lock whose process is gone was left by a crash."""
    if task.is_dry_run():
        return
    run_lock = shlex.quote(lock.rsplit("/", 1)[0] + "/agent_catalog_run.lock")
    script = f"""
for ((i = 0; i < {RUN_TIMEOUT_S:.0f}; i++)); do
  pid=$(cat {run_lock} 2>/dev/null) && kill -0 "$pid" 2>/dev/null || exit 0
  sleep 1  # the lock is a plain file: nothing tells when it goes
done
exit 1"""
    sh(task, script, what=f"waiting for the Puppet run that was under way ({run_lock})", timeout=RUN_TIMEOUT_S + 10)


def enable_agent(task: Task, *, prior: Mapping[str, Any], lock: str) -> Result:
    """`puppet agent --enable`, unless somebody had disabled it before."""
    if not prior["enabled"]:
        return skipped(task, f"was disabled before: left so ({prior['reason']})")
    if read_agent(task, lock=lock).result["enabled"]:
        return skipped(task, "enabled already")
    if not task.is_dry_run():
        change(task, "puppet agent --enable", timeout=RUN_TIMEOUT_S)
    return changed(task, "Puppet enabled")


AGENT = Hold("puppet", read_agent, disable_agent, enable_agent)
"""The Puppet agent."""


def read_updates(task: Task, *, file: str, key: str, off: str, lock: str) -> Result:
    """Prior state: {line: the last line that sets the key, as it stands, "" where none does}."""
    del off, lock
    pattern = shlex.quote(f"^[[:space:]]*{key}=")
    return unchanged(task, {"line": sh(task, f"grep {pattern} {shlex.quote(file)} | tail -n 1").stdout.rstrip("\n")})


def _value(line: str) -> str:
    words = shlex.split(line.partition("=")[2], comments=True)
    return words[0] if words else ""


def _set(task: Task, file: str, key: str, line: str) -> None:
    name, pattern = shlex.quote(file), shlex.quote(f"^[[:space:]]*{key}=")
    script = (
        f'set -e; new=$(mktemp {name}.XXXXXX); trap \'rm -f "$new"\' EXIT; cp -p {name} "$new";'
        f' {{ grep -v {pattern} {name} || true; printf \'%s\\n\' {shlex.quote(line)}; }} > "$new"; mv "$new" {name}'
    )
    change(task, script, what=f"setting {key} in {file}")


def disable_updates(task: Task, *, prior: Mapping[str, Any], file: str, key: str, off: str, lock: str) -> Result:
    """Automatic software updating off; Puppet itself still runs. Waits for a run under way, which may still update."""
    if not prior["line"]:
        return skipped(task, f"{file} does not set {key}: no automatic updating here")
    if _value(read_updates(task, file=file, key=key, off=off, lock=lock).result["line"]) == off:
        _wait_for_run(task, lock)
        return skipped(task, "automatic updating is off already")
    if not task.is_dry_run():
        _set(task, file, key, f'{key}="{off}"')
    _wait_for_run(task, lock)
    return changed(task, f"automatic updating off (was {prior['line'].strip()})")


def enable_updates(task: Task, *, prior: Mapping[str, Any], file: str, key: str, off: str, lock: str) -> Result:
    """Automatic software updating back as it was, letter by letter."""
    now = read_updates(task, file=file, key=key, off=off, lock=lock).result["line"]
    if not prior["line"] or now == prior["line"]:
        return skipped(task, "as before already")
    if not task.is_dry_run():
        _set(task, file, key, prior["line"])
    return changed(task, f"automatic updating back to {prior['line'].strip()}")


UPDATES = Hold("puppet-updates", read_updates, disable_updates, enable_updates)
"""Puppet's automatic software updating."""


def promote(task: Task, *, command: str, already: str) -> Result:
    """Move the release's repository to the environment that every node follows, with the site's own command."""
    if already and sh(task, already, what="asking whether the repository is promoted", ok=None).exit_status == 0:
        return skipped(task, "promoted already")
    if not task.is_dry_run():
        change(task, command, timeout=RUN_TIMEOUT_S)
    return changed(task, f"ran: {command}")


def receive_repository(task: Task, *, repository: str, run: str, before: Mapping[str, str]) -> Result:
    """See that the node has the release's repository, by one forced run where it has not; nothing may be upgraded.

    Args:
        task: the Nornir task.
        repository: its id, as `yum repolist` prints it.
        run: the command for one forced Puppet run.
        before: package to the version that it had before the repository was promoted.

    Raises:
        CommandFailed: the Puppet run failed, and the repository is not there.
        Refused: the repository is still not there, or one of the packages is another than before.
    """
    said = f"has the repository {repository}"
    if not has_repository(task, repository):
        if task.is_dry_run():
            return changed(task, f"has no repository {repository} yet: would run Puppet once")
        # It may fail in parts that are no matter here (a service that cannot start yet): the repository is the proof.
        ended = change(task, run, what="the forced Puppet run", timeout=RUN_TIMEOUT_S, ok=None)
        if not has_repository(task, repository):
            if ended.exit_status not in PUPPET_WENT_WELL:
                raise CommandFailed("the forced Puppet run", ended)
            listed = platform_of(task).packages.repolist
            raise Refused(f"`{listed}` lists no {repository} after a Puppet run; is this node in its group?")
        said = f"got the repository {repository} by a forced Puppet run"
    now = installed(task, before)
    other = [f"{name} {evr} to {now.get(name, 'nothing')}" for name, evr in before.items() if now.get(name) != evr]
    if other:
        log = platform_of(task).packages.log
        raise Refused(f"changed although automatic updating is off: {', '.join(other)}; compare with {log}")
    said += "; nothing was upgraded" if before else "; no versions were saved to compare with"
    return changed(task, said) if "forced" in said else unchanged(task, said)


def has_repository(task: Task, repository: str) -> bool:
    """Whether the node has the repository enabled.

    Raises:
        tasks.platforms.Lacking: its platform has no repositories.
    """
    mine = platform_of(task).packages
    if not mine.repositories:
        raise lacking(task, "repositories of packages")
    return repository in mine.parse_repositories(sh(task, mine.repositories, timeout=120).stdout)
