"""What a site has changed in the dashboard: found on the old machine, and re-applied on the new one or refused.

`rpm -V` tells which of a package's files are not as the package brought them. A file that no package has is known only
where the site names it.
"""

import hashlib
import re
import shlex
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nornir.core.task import Result, Task

from tasks.errors import Refused
from tasks.holds import Noted, changed, skipped, unchanged
from tasks.peers import connection
from tasks.shell import change, sh, taken

LARGEST = 16 * 1024 * 1024
"""Bytes of a file that is copied."""

_LINE = re.compile(r"(?P<tests>[A-Za-z0-9.?]{8,9}|missing) +(?:(?P<kind>[cdglra]) +)?(?P<path>/.*)")

# paths. A line each: path, sha256 and kind of what is there, mode, owner, group; nothing for what is not there.
_LOOK = r"""
for path in {paths}; do
  [ -e "$path" ] || [ -L "$path" ] || continue
  if [ -f "$path" ]; then kind=file sum=$(sha256sum < "$path" | cut -d' ' -f1); else kind=other sum=-; fi
  [ ! -L "$path" ] || kind=link
  printf '%s\t%s\t%s\t%s\n' "$path" "$kind" "$sum" "$(stat -c '%a %u %g %s' -- "$path")"
done
"""

# packages. A line each: path and digest of every file that they bring.
_OWN = r"""rpm -q --qf '[%{{FILENAMES}}\t%{{FILEMD5S}}\n]' {packages} 2> /dev/null"""


@dataclass(frozen=True)
class Wish:
    """How the new machine gets one file, in the words of cloud.yaml's `dashboard.customisations`."""

    path: str
    how: str
    what: str
    patch: Path | None = None
    command: str = ""
    done: str = ""


@dataclass(frozen=True)
class File:
    """A path on a node: file, link or other (a folder, a device); its sha256, mode, owner, group and bytes."""

    kind: str
    digest: str
    mode: str
    owner: str
    group: str
    size: int


def parse_verify(said: str) -> dict[str, str]:
    """Read `rpm -V`: path to `changed` or `missing`, of the files whose content is not the package's.

    A file of which only the time, the mode or the owner is another is not in it: that is no customisation. Lines that
    are about no file (dependencies, scripts) are left out.
    """
    found = {}
    for line in said.splitlines():
        match = _LINE.fullmatch(line.rstrip())
        if not match:
            continue
        tests = match["tests"]
        if tests == "missing":
            found[match["path"]] = "missing"
        elif not {"5", "S", "L", "?"}.isdisjoint(tests):
            found[match["path"]] = "changed"
    return found


def save(task: Task, *, packages: Sequence[str], wishes: Sequence[Wish]) -> Result:
    """See what the site has changed on the old machine.

    Returns:
        A `Noted` with {changed: {path: changed|missing}, absent: [paths of wishes that are not there]}.

    Raises:
        Refused: a package is not installed: what is changed cannot be told.
    """
    names = " ".join(map(shlex.quote, packages))
    sh(task, f"rpm -q {names} > /dev/null", what=f"looking for {' '.join(packages)}")
    differs = parse_verify(sh(task, f"rpm -V {names}", what="rpm -V", ok=None, timeout=300).stdout)
    needed = [wish.path for wish in wishes if wish.how in {"copy", "replace"}]
    there = _look(task, needed)
    absent = [path for path in needed if path not in there]
    words = f"{len(differs)} files of the packages are not as they brought them" if differs else "nothing is changed"
    return unchanged(task, Noted(words, {"changed": differs, "absent": absent}))


def faults(found: Mapping[str, Any], wishes: Sequence[Wish]) -> list[str]:
    """What of the old machine would not come to the new one, in words: one line each."""
    listed = {wish.path for wish in wishes}
    words = [
        f"{path} is {how} on the old machine, and not in dashboard.customisations: say there how the new one gets it"
        f" ({'copy, replace, patch, command' if how == 'changed' else 'command'} or leave)"
        for path, how in sorted(found["changed"].items())
        if path not in listed
    ]
    return words + [f"{path} of dashboard.customisations is not there on the old machine" for path in found["absent"]]


def _look(task: Task, paths: Iterable[str]) -> dict[str, File]:
    names = " ".join(map(shlex.quote, paths))
    if not names:
        return {}
    return _parse_look(sh(task, _LOOK.format(paths=names), what="looking at files").stdout)


def _parse_look(said: str) -> dict[str, File]:
    found = {}
    for line in said.splitlines():
        path, kind, digest, numbers = line.rsplit("\t", 3)
        mode, owner, group, size = numbers.split()
        found[path] = File(kind, digest, mode, owner, group, int(size))
    return found


def _own(said: str) -> dict[str, str]:
    """The digests of a package's own files; folders have none."""
    rows = (line.split("\t") for line in said.splitlines() if line.count("\t") == 1)
    return {path: digest for path, digest in rows if digest}


class _Old:
    """The old machine, asked while the new one is worked on."""

    def __init__(self, task: Task, name: str) -> None:
        self.name, self._ssh = name, connection(task, name)

    def ask(self, script: str, what: str) -> str:
        return taken(self._ssh.run(script), f"{self.name}: {what}", (0,)).stdout


def reapply(task: Task, *, old: str, packages: Sequence[str], wishes: Sequence[Wish]) -> Result:
    """Give the new machine what the site has changed on the old one; before anything is done, all is looked at.

    Args:
        task: the Nornir task, on the new machine.
        old: the old machine's name.
        packages: the dashboard's.
        wishes: the site's list.

    Raises:
        CommandFailed: a command of the site's failed.
        Refused: one or more cannot be re-applied; each is named, with what to do, and none was.
    """
    due = [wish for wish in wishes if wish.how != "leave"]
    if not due:
        return skipped(task, "nothing is to be re-applied")
    copies = _Copies(task, _Old(task, old), packages, [wish for wish in due if wish.how in {"copy", "replace"}])
    patches = [(wish, _patched(task, wish)) for wish in due if wish.how == "patch"]
    commands = [wish for wish in due if wish.how == "command"]
    refused = [*copies.refused, *(said for _, said in patches if said not in {"done", "due"})]
    if refused and task.is_dry_run():  # a patch fits nothing while nothing is installed
        return changed(task, f"would re-apply {', '.join(wish.path for wish in due)}; now: {'; '.join(refused)}")
    if refused:
        raise Refused("; ".join(refused))
    todo = [*copies.bring(), *_apply(task, [wish for wish, said in patches if said == "due"]), *_run(task, commands)]
    words = f"{len(wishes) - len(due)} left" if len(due) < len(wishes) else ""
    if not todo:
        return skipped(task, f"all there already{f', {words}' if words else ''}")
    return changed(task, f"re-applied: {', '.join(todo)}{f'; {words}' if words else ''}")


class _Copies:
    """Files that come from the old machine as they are."""

    def __init__(self, task: Task, old: _Old, packages: Sequence[str], wishes: Sequence[Wish]) -> None:
        self.task, self.old = task, old
        self.due: list[Wish] = []
        self.refused: list[str] = []
        self._there: dict[str, File] = {}
        if not wishes:
            return
        paths = [wish.path for wish in wishes]
        look = _LOOK.format(paths=" ".join(map(shlex.quote, paths)))
        own = _OWN.format(packages=" ".join(map(shlex.quote, packages)))
        self._there = _parse_look(old.ask(look, "looking at files"))
        here = _look(task, paths)
        was, is_ = _own(old.ask(f"{own} || :", "asking rpm")), _own(sh(task, f"{own} || :").stdout)
        for wish in wishes:
            there = self._there.get(wish.path)
            if why := self._why_not(wish, there, was.get(wish.path), is_.get(wish.path)):
                self.refused.append(f"{wish.path} ({wish.what}): {why}")
            elif there != here.get(wish.path):
                self.due.append(wish)

    def _why_not(self, wish: Wish, there: File | None, was: str | None, is_: str | None) -> str:
        if there is None:
            return f"it is not there on {self.old.name}"
        if there.kind != "file":
            return "it is no plain file: write how: command"
        if there.size > LARGEST:
            return f"it has {there.size:,} bytes, more than {LARGEST:,}: write how: command"
        if wish.how == "copy" and is_ is not None and is_ != was:
            return (
                "the release's own file is another than before, and a copy would lose what is new in it: merge it, and"
                " write how: patch, or how: replace"
            )
        return ""

    def bring(self) -> list[str]:
        """Copy the files that are due, each with its mode and owner; returns their paths."""
        if not self.task.is_dry_run():
            for wish in self.due:
                self._bring(wish.path, self._there[wish.path])
        return [wish.path for wish in self.due]

    def _bring(self, name: str, file: File) -> None:
        path, folder = shlex.quote(name), shlex.quote(name.rpartition("/")[0] or "/")
        body = b64decode(self.old.ask(f"base64 -- {path}", f"reading {name}"))
        if hashlib.sha256(body).hexdigest() != file.digest:
            raise Refused(f"{name} changed on {self.old.name} while it was read; resume does it again")
        script = (
            f"set -e; umask 077; [ -d {folder} ] || (umask 022; mkdir -p {folder})\n"
            f"base64 -d > {path}.cellstep\n"
            f"chown {file.owner}:{file.group} {path}.cellstep; chmod {file.mode} {path}.cellstep\n"
            f"mv -f {path}.cellstep {path}; if command -v restorecon > /dev/null; then restorecon {path}; fi"
        )
        change(self.task, script, what=f"writing {name}", stdin=b64encode(body).decode())


# Without fuzz: with it, a patch goes into a file that has nothing of what it is about.
_PATCH = "patch -p1 -d / -s -f -F 0 --no-backup-if-mismatch -r -"


def _patched(task: Task, wish: Wish) -> str:
    """How it is with a patch: `done`, `due`, or why it cannot be."""
    text = _patch_of(wish)
    if not sh(task, f"{_PATCH} -R --dry-run", stdin=text, ok=None).exit_status:
        return "done"
    tried = sh(task, f"{_PATCH} -N --dry-run 2>&1", stdin=text, ok=None)
    if not tried.exit_status:
        return "due"
    said = " | ".join(tried.stdout.strip().splitlines()[-2:])
    return f"{wish.path} ({wish.what}): {wish.patch} does not fit the release's file ({said}): mend the patch"


def _patch_of(wish: Wish) -> str:
    try:
        return Path(wish.patch or "").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{wish.path} ({wish.what}): {wish.patch} cannot be read: {error}") from None


def _apply(task: Task, wishes: Sequence[Wish]) -> list[str]:
    for wish in () if task.is_dry_run() else wishes:
        change(task, f"{_PATCH} -N", what=f"patching {wish.path}", stdin=_patch_of(wish))
    return [wish.path for wish in wishes]


def _run(task: Task, wishes: Sequence[Wish]) -> list[str]:
    due = [wish for wish in wishes if sh(task, wish.done, what=f"done, of {wish.path}", ok=None).exit_status]
    for wish in () if task.is_dry_run() else due:
        change(task, wish.command, what=f"command, of {wish.path}", timeout=300)
        if sh(task, wish.done, ok=None).exit_status:
            raise Refused(f"{wish.path} ({wish.what}): the command ended well, and `done` says that it is not done")
    return [wish.path for wish in due]
