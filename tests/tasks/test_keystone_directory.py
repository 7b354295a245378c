"""The directory behind keystone: what is read of it, as whom, and that its password is nowhere; in a real bash."""

import pytest

from tasks.errors import CommandFailed, Refused
from tasks.keystone import directory
from tests.support.scripted import Bash, task_on

CONF = """\
[identity]
driver = keystone.identity.backends.ldap.Identity
[ldap]
url = ldap://ad.example.org
user = cn=keystone,dc=example
password = hidden = word
suffix = dc=example
user_tree_dn = ou=users,dc=example
"""
ALICE = "dn: cn=alice,ou=users,dc=example\nmodifyTimestamp: 20131101080000Z\nmodifiersName: cn=boss,dc=example\n"
# A long name is broken, as LDIF does it, and one that is not ASCII is in base64.
LONG = "dn: cn=a very long name that goes on and on until it is broken,ou=users,dc=exam\n ple\nmodifyTimestamp:\n  "
BOB = "dn:: Y249Ym9i\nmodifyTimestamp: 20131105120000.0Z\nentryCSN: 2013110512#0\n"
BASE = "dn: dc=example\ncontextCSN: 20131201000000.000000Z#000000#000#000000\n"


class Node(Bash):
    """A keystone server whose ldapsearch shows what is in a file, and notes how it was called."""

    def __init__(self, home, conf=CONF):
        super().__init__(home / "bin")
        self.home = home
        (home / "keystone.conf").write_text(conf)
        self.shows(f"{ALICE}\n{BOB}\n")
        (home / "context.ldif").write_text(BASE)
        self.program(
            "ldapsearch",
            f'echo "$@" >> {home}/called; env >> {home}/called\n'
            'while [ $# -gt 0 ]; do [ "$1" != -y ] || cat "$2" > ' + f"{home}/given; shift; done\n"
            f"case $(tail -n 50 {home}/called) in *contextCSN*) name=context;; *) name=users;; esac\n"
            f"cat {home}/$name.ldif\n"
            f"exit $(cat {home}/status 2> /dev/null || echo 0)",
        )

    def shows(self, ldif):
        (self.home / "users.ldif").write_text(ldif)
        (self.home / "called").unlink(missing_ok=True)

    def answer(self, command, stdin, timeout):
        command = command.replace("/etc/keystone/keystone.conf", str(self.home / "keystone.conf"))
        return super().answer(command, stdin, timeout)


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


def look(node, since=""):
    return directory.look(task_on(node), since=since).result


def test_what_a_directory_has_is_counted_and_digested(node):
    noted = look(node)
    assert noted.words == "2 entries below ou=users,dc=example of ldap://ad.example.org"
    found = noted.data
    assert (found.entries, found.newest, found.account) == (2, "20131105120000", "cn=keystone,dc=example")
    assert found.context == "20131201000000.000000Z#000000#000#000000"
    assert directory.Directory.of(found.plain()) == found


def test_the_order_of_the_answer_is_the_same_to_it_and_any_change_is_not(node):
    first = look(node).data
    node.shows(f"{BOB}\n{ALICE}\n")
    assert look(node).data == first
    node.shows(f"{BOB}\n{ALICE.replace('080000', '080001')}\n")
    assert look(node).data.digest != first.digest
    node.shows(f"{BOB}\n{ALICE}\n{LONG}20131101080000Z\n\n")
    later = look(node).data
    assert (later.entries, later.digest != first.digest) == (3, True)


def test_what_changed_since_then_is_told_with_who_did_it(node):
    was = look(node).data
    node.shows(f"{BOB}\n{ALICE.replace('20131101', '20131206')}\n{LONG}20131207080000Z\n\n")
    assert sorted(look(node, was.newest).data.changed) == [
        ("", "cn=a very long name that goes on and on until it is broken,ou=users,dc=example"),
        ("cn=boss,dc=example", "cn=alice,ou=users,dc=example"),
    ]


def test_it_logs_in_as_keystone_does_and_the_password_is_no_argument_and_in_no_environment(node):
    look(node)
    assert (node.home / "given").read_text() == "hidden = word"
    called = (node.home / "called").read_text()
    assert "-D cn=keystone,dc=example" in called
    assert "hidden" not in called
    assert not [command for command in node.sent if "hidden" in command]


def test_users_in_keystones_own_database_are_no_directory(tmp_path):
    node = Node(tmp_path, "[identity]\ndriver = keystone.identity.backends.sql.Identity\n")
    result = directory.look(task_on(node))
    assert result.skipped
    said = "keystone.conf names no directory: the identity backend is keystone.identity.backends.sql.Identity"
    assert result.result.words == said
    bare = Node(tmp_path, "[ldap]\nurl = ldap://x\n")
    assert look(bare).words.endswith("the identity backend is none that is set")
    assert not (tmp_path / "called").exists()


def test_a_directory_that_does_not_answer_or_shows_nothing_is_no_proof(node):
    (node.home / "status").write_text("49")
    with pytest.raises(CommandFailed, match="the search below ou=users,dc=example failed"):
        look(node)
    (node.home / "status").write_text("0")
    node.shows("")
    with pytest.raises(
        Refused, match=r"ldap://ad\.example\.org shows no entry below ou=users,dc=example to cn=keystone"
    ):
        look(node)


def test_a_conf_without_an_address_and_a_time_that_is_none_are_refused(node):
    (node.home / "keystone.conf").write_text(CONF.replace("url", "#url"))
    with pytest.raises(CommandFailed, match=r"keystone\.conf has no url and no suffix in \[ldap\]"):
        look(node)
    with pytest.raises(Refused, match="'1; reboot' is no time of a directory"):
        look(node, "1; reboot")
