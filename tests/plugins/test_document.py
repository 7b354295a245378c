"""YAML files with their lines, and what is wrong with them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.inventory.document import read


def faults(tmp_path, content):
    path = tmp_path / "some.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [str(fault) for fault in read(path).faults]


def test_values_and_lines(tmp_path):
    path = tmp_path / "some.yaml"
    path.write_text("a: 1\nb:\n  c: [x, off]\n  d: 2014-01-23\ne: ~\nf: 0x10\ng: 1.5\nh: true\n", encoding="utf-8")
    document = read(path)
    assert document.faults == []
    assert document.data == {
        "a": 1,
        "b": {"c": ["x", "off"], "d": "2014-01-23"},
        "e": None,
        "f": 16,
        "g": 1.5,
        "h": True,
    }
    assert [document.line(place) for place in [("a",), ("b",), ("b", "c", 1), ("b", "d"), ("h",)]] == [1, 2, 3, 4, 8]
    assert document.line(("b", "c", 7, "deeper")) == 3, "the nearest value around it"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("", "some.yaml: is empty; write the description into it"),
        ("# only a comment\n", "some.yaml: is empty; write the description into it"),
        (b"a: 1\nb: \xff\n", "some.yaml:2: is not UTF-8 text; save it as UTF-8"),
        ("a: 1\nb: 2\na: 3\n", "some.yaml:3: key 'a' stands twice (first in line 1); keep one"),
        ("a: 1\nb: [1, 2\nc: 3\n", "some.yaml:3: is not YAML"),
        ("a: 1\n\tb: 2\n", "some.yaml:2: is not YAML"),
        ("a: b: c\n", "some.yaml:1: is not YAML"),
        ("a: *nothing\n", "some.yaml:1: is not YAML"),
        ("a: 1\n---\nb: 2\n", "some.yaml:2: is not YAML"),
        ("a: !!python/object:os.system x\n", "some.yaml:1: 'python/object:os.system' values are not known"),
        ("a: !!int x\n", "some.yaml:1: 'x' is not a proper int"),
        ("1: a\n", "some.yaml:1: a key must be a word, not '1'; write it in quotes"),
        ("? [a, b]\n: c\n", "some.yaml:1: a key must be a word, not a list"),
        ("a: &x [*x]\n", "some.yaml: is not YAML (an alias that contains itself)"),
        ("a: \0\n", "some.yaml"),
        ("[" * 1000, "some.yaml"),
    ],
)
def test_what_is_no_proper_yaml_is_one_line(tmp_path, content, line):
    found = faults(tmp_path, content)
    assert len(found) == 1
    assert found[0].startswith(line)
    assert "\n" not in found[0]


def test_aliases_that_multiply_are_stopped(tmp_path):
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "aliases repeat too much" in faults(tmp_path, "\n".join(rows))[0]


def test_a_missing_file_a_folder_and_a_nul_are_faults(tmp_path):
    assert "there is no such file" in str(read(tmp_path / "none.yaml").faults[0])
    assert "cannot be read: is a directory" in str(read(tmp_path).faults[0])
    assert "cannot be read" in str(read(tmp_path / "a\0b").faults[0])
    assert "cannot be read: file name too long" in str(read(tmp_path / ("x" * 5000)).faults[0])


@given(st.binary(max_size=200) | st.text(alphabet="ab:-[]{}*&!|>%@`'\"#,? \n\t0.\\x", max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    document = read(path)
    assert all("\n" not in str(fault) for fault in document.faults)
    assert document.data is not None or document.faults or content.strip()
