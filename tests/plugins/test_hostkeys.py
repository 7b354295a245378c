"""known_hosts: names, patterns, hashed names, markers, and what is no line of it at all."""

import base64
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.connections import hostkeys, sshconfig
from plugins.connections.hostkeys import KnownHosts, fingerprint
from tests.support import sshd

BLOB = base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes(32)).decode()
OTHER = base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes([7] * 32)).decode()


@pytest.mark.parametrize(
    ("line", "name", "found"),
    [
        ("n1 ssh-ed25519 {}", "n1", True),
        ("n1,10.0.0.1 ssh-ed25519 {} a comment", "10.0.0.1", True),
        ("N1.Example ssh-ed25519 {}", "n1.example", True),
        ("n1 ssh-ed25519 {}", "N1", True),
        ("n1 ssh-ed25519 {}", "[n1]:2222", False),
        ("[n1]:2222 ssh-ed25519 {}", "[n1]:2222", True),
        ("[n1]:2222 ssh-ed25519 {}", "n1", False),
        ("*.example,!bad.example ssh-ed25519 {}", "a.example", True),
        ("*.example,!bad.example ssh-ed25519 {}", "bad.example", False),
        ("c?? ssh-ed25519 {}", "c01", True),
        ("c?? ssh-ed25519 {}", "c1", False),
        ("[10.0.0.*]:22 ssh-ed25519 {}", "[10.0.0.7]:22", True),
        ("[10.0.0.*]:22 ssh-ed25519 {}", "1:22", False),
        ("  n1\tssh-ed25519\t{}", "n1", True),
        ("#n1 ssh-ed25519 {}", "#n1", False),
        ("@cert-authority n1 ssh-ed25519 {}", "n1", False),
        ("@strange n1 ssh-ed25519 {}", "n1", False),
        ("n1 ssh-ed25519", "n1", False),
        ("n1 ssh-ed25519 {}!", "n1", False),
        ("|1|rubbish ssh-ed25519 {}", "n1", False),
        ("|1|YQ==|YQ== ssh-ed25519 {}", "n1", False),
    ],
)
def test_a_line_means_a_name(line: str, name: str, found: bool) -> None:
    keys = KnownHosts.parse(line.format(BLOB)).lookup(name)
    assert [key.blob for key in keys] == ([BLOB] if found else [])


def test_a_revoked_key_is_marked() -> None:
    keys = KnownHosts.parse(f"@revoked * ssh-ed25519 {BLOB}\nn1 ssh-ed25519 {OTHER}", "kh").lookup("n1")
    assert {(key.blob, key.revoked, key.place) for key in keys} == {(BLOB, True, "kh:1"), (OTHER, False, "kh:2")}


@given(st.text())
def test_no_text_breaks_the_parser(text: str) -> None:
    KnownHosts.parse(text).lookup("host")


@given(st.lists(st.sampled_from(["@revoked", "|1|", "*", "!", ",", "[", "]", "n1", "ssh-rsa", BLOB, " ", "\n"])))
def test_no_line_breaks_the_parser(parts: list[str]) -> None:
    KnownHosts.parse("".join(parts)).lookup("n1")


@given(st.lists(st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True), min_size=1, max_size=20, unique=True))
def test_each_name_finds_its_own_line_alone(names: list[str]) -> None:
    text = "\n".join(f"{name} ssh-ed25519 {BLOB}" for name in names)
    known = KnownHosts.parse(text, "kh")
    for number, name in enumerate(names, 1):
        assert [key.place for key in known.lookup(name)] == [f"kh:{number}"]
    assert known.lookup("0") == []


def test_openssh_finds_the_same(tmp_path: Path) -> None:
    """What ssh-keygen -H hashed and -F finds is found here, and its fingerprint is the same."""
    public = sshd.make_key(tmp_path / "key")
    file = tmp_path / "known_hosts"
    names = ["n1", "[n2]:2222", "10.0.0.1"]
    file.write_text("".join(f"{name} {public}\n" for name in names))
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(file)], check=True, capture_output=True)
    known = KnownHosts.parse(file.read_text(), str(file))
    assert not known.plain
    shown = subprocess.run(["ssh-keygen", "-lf", str(tmp_path / "key")], check=True, capture_output=True, text=True)
    for number, name in enumerate(names, 1):
        (key,) = known.lookup(name)
        assert key.place == f"{file}:{number}"
        assert key.fingerprint == shown.stdout.split()[1] == fingerprint(base64.b64decode(public.split()[1]))
    assert known.lookup("n2") == []


def test_a_file_is_read_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(f"n1 ssh-ed25519 {BLOB}\n")
    read: list[str] = []
    real = KnownHosts.parse

    def counted(text: str, file: str = "known_hosts") -> KnownHosts:
        read.append(file)
        return real(text, file)

    monkeypatch.setattr(KnownHosts, "parse", counted)
    settings = [sshconfig.settings(name, extras={"known_hosts": str(file)}) for name in ("n1", "n2") * 50]
    assert [len(hostkeys.known_keys(one)) for one in settings] == [1, 0] * 50
    assert len(read) == 1
    file.write_text(f"n1 ssh-ed25519 {BLOB}\nn2 ssh-ed25519 {BLOB}\n")
    assert [len(hostkeys.known_keys(one)) for one in settings[:2]] == [1, 1]
    file.unlink()
    assert [len(hostkeys.known_keys(one)) for one in settings[:2]] == [0, 0]
