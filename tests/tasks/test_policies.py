"""Policy files: the rules looked for, and a rule added that keeps all else byte for byte."""

import json
import os
import re
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import policies
from tasks.errors import Refused
from tasks.policies import Policy, with_rules
from tests.support.scripted import Bash, task_on, told

RULE, VALUE = "context_is_admin", "role:admin"
GRIZZLY = '{\n    "default": "",\n    "manage_image_cache": "role:admin"\n}\n'
MENDED = '{\n    "context_is_admin": "role:admin",\n    "default": "",\n    "manage_image_cache": "role:admin"\n}\n'
DIFF = """\
--- {file}
+++ {file}
@@ -1,4 +1,5 @@
 {{
+    "context_is_admin": "role:admin",
     "default": "",
     "manage_image_cache": "role:admin"
 }}
"""


def policy(file="/etc/glance/policy.json"):
    return Policy(str(file), RULE, VALUE)


def added(text):
    return with_rules(text.encode(), [policy()]).decode()


@pytest.fixture
def node(tmp_path):
    return Bash(tmp_path / "bin")


@pytest.fixture
def file(tmp_path):
    (tmp_path / "etc").mkdir()
    found = tmp_path / "etc" / "policy.json"
    found.write_text(GRIZZLY)
    return found


def fix(node, *files, dry_run=False):
    result = policies.fix(task_on(node, dry_run=dry_run), policies=[policy(each) for each in files], run="R1")
    return told(type("R", (), {**vars(result), "result": result.result.words})), result.result.data


# --- the text ---


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (GRIZZLY, MENDED),
        ('{"default": ""}', '{"context_is_admin": "role:admin", "default": ""}'),
        ('{ "a": [] }\n', '{ "context_is_admin": "role:admin", "a": [] }\n'),
        ('{\r\n\t"a": ""\r\n}', '{\r\n\t"context_is_admin": "role:admin",\r\n\t"a": ""\r\n}'),
        ('\n {\n\n  "a": "{b}"}', '\n {\n\n  "context_is_admin": "role:admin",\n  "a": "{b}"}'),
        ("{}\n", '{\n    "context_is_admin": "role:admin"\n}\n'),
        ("{ \n }", '{\n    "context_is_admin": "role:admin"\n}'),
        ('{"default": "é"}', '{"context_is_admin": "role:admin", "default": "é"}'),
    ],
)
def test_a_rule_is_added_in_the_way_the_others_are_written(before, after):
    assert added(before) == after
    assert added(after) == after, "twice is once"


BLANKS = st.text(" \t\r\n", max_size=3)
VALUES = st.recursive(st.text(max_size=5), lambda inner: st.lists(inner, max_size=2), max_leaves=4)


@given(st.dictionaries(st.text(max_size=6), VALUES, max_size=5), BLANKS, BLANKS, st.sampled_from([None, 0, 2, "\t"]))
def test_whatever_else_is_in_the_file_stays(rules, before, after, indent):
    text = f"{before}{json.dumps(rules, indent=indent, ensure_ascii=False)}{after}"
    new = added(text)
    if RULE in rules:
        assert new == text
        return
    assert list(json.loads(new).items()) == [(RULE, VALUE), *rules.items()]
    if rules:  # all of it is there still, before and after the new rule
        at = new.index(f'"{RULE}": "{VALUE}",')
        rest = new[at + len(f'"{RULE}": "{VALUE}",') :]
        assert text.startswith(new[:at])
        assert text[at:].lstrip(" \t\r\n") == rest.lstrip(" \t\r\n")
        assert text.endswith(rest.lstrip(" \t\r\n"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b'{\n  # who\n  "default": ""\n}', "is no JSON (Expecting property name enclosed in double quotes: line 2"),
        (b"", "is no JSON (Expecting value: line 1 column 1"),
        (b'{"default": "",}', "is no JSON ("),
        (b'\xef\xbb\xbf{"default": ""}', "is no JSON (Unexpected UTF-8 BOM"),
        (b'{"default": "\xff"}', "is not UTF-8 (byte 13): mend it by hand"),
        (b'["default"]', "holds no rules: it must be one {...} of names and rules"),
        (b"[" * 100_000, "is no JSON (maximum recursion depth exceeded"),
    ],
)
def test_what_is_no_json_is_refused_in_one_line(node, file, text, why):
    file.write_bytes(text)
    with pytest.raises(Refused, match=re.escape(f"{file} {why}")) as caught:
        fix(node, file)
    assert "\n" not in str(caught.value)
    assert file.read_bytes() == text
    assert [each.name for each in file.parent.iterdir()] == ["policy.json"]


# --- the file ---


def test_a_missing_rule_is_added_with_backup_and_diff(node, file):
    file.chmod(0o640)
    os.chown(file, 65534, 65534)
    backup = f"{file}.cellstep-R1"
    said, data = fix(node, file)
    assert said == f"changed: {file}: context_is_admin added, as it was: {backup}"
    assert data == [{"file": str(file), "rule": RULE, "backup": backup, "diff": DIFF.format(file=file)}]
    assert file.read_text() == MENDED
    assert Path(backup).read_text() == GRIZZLY
    for path in (file, backup):
        known = Path(path).stat()
        assert (known.st_mode & 0o7777, known.st_uid, known.st_gid) == (0o640, 65534, 65534)
    assert sorted(each.name for each in file.parent.iterdir()) == ["policy.json", "policy.json.cellstep-R1"]


def test_a_second_time_changes_nothing_and_still_tells(node, file):
    fix(node, file)
    before = file.stat().st_mtime_ns
    said, data = fix(node, file)
    assert said.startswith(f"skipped: {file}: context_is_admin added")
    assert [each["diff"] for each in data] == [DIFF.format(file=file)]
    assert file.stat().st_mtime_ns == before


def test_a_rule_of_the_sites_own_stays(node, file):
    text = '{"context_is_admin": [["role:cloud"]], "default": ""}'
    file.write_text(text)
    assert fix(node, file) == ("skipped: the rules are there already", [])
    assert file.read_text() == text


def test_both_files_and_one_that_is_not_there(node, file, tmp_path):
    other = tmp_path / "etc" / "nova.json"
    assert fix(node, other) == ("skipped: none of the policy files is here", [])
    other.write_text('{"default": ""}')
    said, data = fix(node, tmp_path / "none.json", file, other)
    assert said.count("context_is_admin added") == 2
    assert [each["file"] for each in data] == [str(file), str(other)]
    assert "\\ No newline at end of file" in data[1]["diff"]


def test_a_link_stays_one(node, file, tmp_path):
    link = tmp_path / "policy.json"
    link.symlink_to(file)
    fix(node, link)
    assert link.is_symlink()
    assert file.read_text() == MENDED
    assert (tmp_path / "policy.json.cellstep-R1").read_text() == GRIZZLY


def test_one_that_somebody_else_changes_meanwhile_is_left_to_them(node, file):
    """Between reading and writing: the digest tells."""
    node.program("sha256sum", f"printf ' ' >> {shlex.quote(str(file))}; exec /usr/bin/sha256sum")
    with pytest.raises(Exception, match="was changed meanwhile by somebody else"):
        fix(node, file)
    assert file.read_text().startswith(GRIZZLY)
    assert RULE not in file.read_text()


def test_a_full_disk_leaves_the_file_as_it_was(node, file):
    """The new text is written beside it, and only then put in its place."""
    node.program("base64", 'case "$1" in -d) echo "no space left" >&2; exit 1;; esac; exec /usr/bin/base64 "$@"')
    with pytest.raises(Exception, match="no space left"):
        fix(node, file)
    assert file.read_text() == GRIZZLY


def test_a_connection_that_breaks_leaves_no_half_a_file(node, file):
    """Standard input then ends early, and `base64 -d` is content with what it got."""
    node.program("base64", 'case "$1" in -d) head -c 24 | /usr/bin/base64 -d;; *) exec /usr/bin/base64 "$@";; esac')
    with pytest.raises(Exception, match="did not come whole: nothing was written"):
        fix(node, file)
    assert file.read_text() == GRIZZLY


def test_a_dry_run_writes_nothing(node, file):
    said, data = fix(node, file, dry_run=True)
    assert said.startswith(f"changed: {file}: context_is_admin added")
    assert len(data) == 1
    assert file.read_text() == GRIZZLY
    assert len(list(file.parent.iterdir())) == 1


# --- the look ---


@pytest.mark.parametrize(
    ("text", "actual", "open_", "fallback"),
    [
        (GRIZZLY, None, False, '""'),
        (MENDED, '"role:admin"', False, '""'),
        ('{"context_is_admin": ""}', '""', True, None),
        ('{"context_is_admin": [[]], "default": "!"}', "[[]]", True, '"!"'),
        ('{"context_is_admin": "role:x or role:y"}', '"role:x or role:y"', False, None),
        ("{}", None, False, None),
    ],
)
def test_how_a_rule_stands(node, file, text, actual, open_, fallback):
    file.write_text(text)
    (row,) = policies.look(task_on(node), [policy(file), policy("/nowhere/policy.json")])
    assert row == {
        "file": str(file),
        "rule": RULE,
        "expected": '"role:admin"',
        "actual": actual,
        "open": open_,
        "fallback": fallback,
        "error": "",
    }


def test_a_file_that_is_no_json_is_told(node, file):
    file.write_text("// comment\n{}")
    (row,) = policies.look(task_on(node), [policy(file)])
    assert row["error"].startswith(f"{file} is no JSON (Expecting value: line 1 column 1")
    assert (row["actual"], row["open"]) == (None, False)
