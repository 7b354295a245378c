"""Policy files (policy.json) of services: whether a rule is there, and adding one that is not.

A rule is added as text, as the first in the file: whatever else is in it stays byte for byte.
"""

import base64
import binascii
import difflib
import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nornir.core.task import Result, Task

from tasks.errors import Refused
from tasks.holds import Noted, changed, skipped
from tasks.shell import change, sh

OPEN: tuple[Any, ...] = ("", "@", [], [[]])
"""Values of a rule that let everybody pass."""

# Files. A line each: its path, and what is in it as base64, or `-` where it is not there.
_READ = r"""
set -e
for file in {files}; do
  if [ -e "$file" ]; then echo "$file =$(base64 -w 0 -- "$file")"; else echo "$file -"; fi
done
"""

# Path, the SHA-256 that it was read with and that of the new text, the backup's suffix; the new text on standard input,
# as base64: where the connection breaks, standard input ends early, and half a text is none. Copies are
# made with owner, mode, ACLs and SELinux context (`cp -a` of EL6 goes on where there is no SELinux), and written into.
_WRITE = r"""
set -e
named={file}
file=$(readlink -f -- "$named")
if [ "$(sha256sum < "$file")" != "{digest}  -" ]; then
  echo "$file was changed meanwhile by somebody else" >&2
  exit 3
fi
if [ ! -e "$named{suffix}" ]; then
  cp -a -- "$file" "$named.cellstep-new"
  mv -f -- "$named.cellstep-new" "$named{suffix}"
fi
cp -a -- "$file" "$file.cellstep-new"
base64 -d > "$file.cellstep-new"
if [ "$(sha256sum < "$file.cellstep-new")" != "{after}  -" ]; then
  echo "the new text of $file did not come whole: nothing was written to it" >&2
  exit 4
fi
mv -f -- "$file.cellstep-new" "$file"
"""


@dataclass(frozen=True)
class Policy:
    """A rule that a policy file must have.

    Attributes:
        file: its path.
        rule: the rule's name.
        value: what it is where the site has no rule of its own.
    """

    file: str
    rule: str
    value: str


@dataclass(frozen=True)
class Mended:
    """A rule that was added.

    Attributes:
        file: where.
        rule: which.
        backup: the file as it was.
        diff: what was changed, as a unified diff.
    """

    file: str
    rule: str
    backup: str
    diff: str


def look(task: Task, policies: Sequence[Policy]) -> list[dict[str, Any]]:
    """How the rules stand in those of the files that the node has.

    Returns:
        A row a rule: file, rule, expected, actual (its value as JSON; None: it is not there), open (it lets everybody
        pass), fallback (the value of `default` as JSON, which then counts; None: not there), error ("", or why the file
        cannot be read as JSON).
    """
    texts = _texts(task, [policy.file for policy in policies])
    return [_row(policy, texts[policy.file]) for policy in policies if texts[policy.file] is not None]


def fix(task: Task, *, policies: Sequence[Policy], run: str) -> Result:
    """Add the rules that are not there; a rule that is there stays, whatever it says.

    Args:
        task: the Nornir task.
        policies: the rules.
        run: the run's id: the file as it was is kept beside it, as `policy.json.cellstep-RUN`.

    Returns:
        A `Noted` whose data is a list of `Mended`, as JSON values.

    Raises:
        Refused: a file is no JSON, or holds no rules; or it was changed by somebody else meanwhile. Nothing was
            written to it.
    """
    suffix = f".cellstep-{run}"
    files = list(dict.fromkeys(policy.file for policy in policies))
    texts = _texts(task, [*files, *(file + suffix for file in files)])
    mended: list[Mended] = []
    done = 0
    for file in files:
        raw = texts[file]
        if raw is None:
            continue
        mine = [policy for policy in policies if policy.file == file]
        new = with_rules(raw, mine)
        if new != raw and not task.is_dry_run():
            digest, after = (hashlib.sha256(text).hexdigest() for text in (raw, new))
            script = _WRITE.format(file=shlex.quote(file), digest=digest, after=after, suffix=suffix)
            change(task, script, what=f"writing {file}", stdin=base64.b64encode(new).decode())
            if _texts(task, [file])[file] != new:
                raise Refused(f"{file} is not what was written into it: what writes it, too?")
        done += new != raw
        # After a try that was cut off it is the backup that tells what was before.
        before = texts[file + suffix] or raw
        mended += [
            Mended(file, policy.rule, file + suffix, difference(file, before, new))
            for policy in mine
            if before != new and policy.rule not in rules_of(before, file) and policy.rule in rules_of(new, file)
        ]
    if not any(texts[file] is not None for file in files):
        return skipped(task, Noted("none of the policy files is here", []))
    words = "; ".join(f"{each.file}: {each.rule} added, as it was: {each.backup}" for each in mended)
    noted = Noted(words or "the rules are there already", [asdict(each) for each in mended])
    return changed(task, noted) if done else skipped(task, noted)


def rules_of(raw: bytes, file: str) -> dict[str, Any]:
    """The rules of a policy file.

    Raises:
        Refused: it is no JSON, or no object of rules.
    """
    try:
        rules = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise Refused(f"{file} is not UTF-8 (byte {error.start}): mend it by hand") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise Refused(f"{file} is no JSON ({error}); JSON has no comments: mend it by hand") from error
    if not isinstance(rules, dict):
        raise Refused(f"{file} holds no rules: it must be one {{...}} of names and rules")
    return rules


def with_rules(raw: bytes, policies: Sequence[Policy]) -> bytes:
    """A policy file's text with the rules that it does not have, before all others and in the way they are written.

    Raises:
        Refused: it is no JSON, or holds no rules.
    """
    for policy in reversed(policies):
        rules = rules_of(raw, policy.file)
        if policy.rule not in rules:
            raw = _added(raw, f"{json.dumps(policy.rule)}: {json.dumps(policy.value)}", first=not rules)
    return raw


def _added(raw: bytes, rule: str, *, first: bool) -> bytes:
    # It is an object, as JSON has it: its first character but white space is the brace.
    end = len(raw) - len(raw[raw.index(b"{") + 1 :].lstrip(b" \t\r\n"))
    head, rest = raw[:end], raw[end:]
    blank = head[head.rindex(b"{") + 1 :]
    if first:
        return head[: len(head) - len(blank)] + b"\n    " + rule.encode() + b"\n" + rest
    # What stands before the first rule, from its last line break on: `\n    `; all in one line: a blank.
    line_break = re.search(rb"\r?\n[ \t]*\Z", blank)
    return head + rule.encode() + b"," + (line_break.group() if line_break else b" ") + rest


def difference(file: str, before: bytes, after: bytes) -> str:
    """What was changed, as a unified diff."""
    old, new = (text.decode("utf-8").splitlines(keepends=True) for text in (before, after))
    lines = [
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
        for line in difflib.unified_diff(old, new, file, file)
    ]
    return "".join(lines)


def _texts(task: Task, files: Sequence[str]) -> dict[str, bytes | None]:
    """What is in the files; None where one is not there."""
    script = _READ.format(files=" ".join(map(shlex.quote, dict.fromkeys(files))))
    found: dict[str, bytes | None] = {}
    for line in sh(task, script, what=f"reading {', '.join(files)}").stdout.splitlines():
        file, _, said = line.rpartition(" ")
        try:
            found[file] = None if said == "-" else base64.b64decode(said.removeprefix("="), validate=True)
        except binascii.Error as error:
            raise Refused(f"reading {file}: `base64` printed something else") from error
    return found


def _row(policy: Policy, raw: bytes | None) -> dict[str, Any]:
    rules: Mapping[str, Any] = {}
    error = ""
    try:
        rules = rules_of(raw or b"", policy.file)
    except Refused as refused:
        error = str(refused)
    value = rules.get(policy.rule)
    return {
        "file": policy.file,
        "rule": policy.rule,
        "expected": json.dumps(policy.value),
        "actual": json.dumps(value) if policy.rule in rules else None,
        "open": policy.rule in rules and value in OPEN,
        "fallback": json.dumps(rules["default"]) if "default" in rules else None,
        "error": error,
    }
