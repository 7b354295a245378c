"""How a script is given to bash, to a Mac's bash, and to PowerShell."""

import base64
import subprocess
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.connections.shells import LONGEST_FOR_CMD, POWERSHELL, SHELLS
from plugins.connections.sshconfig import settings

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)


def test_bash_is_given_as_it_always_was():
    assert SHELLS["bash"].line("echo 'a b'", 30.2).command == """timeout 33 bash -c 'echo '"'"'a b'"'"''"""


@pytest.mark.parametrize(("script", "status"), [("echo out; exit 7", 7), ("kill -9 $$", 137), ("exit 0", 0)])
def test_on_a_mac_perl_gives_the_scripts_own_status(script, status):
    ended = subprocess.run(
        ["bash", "-c", SHELLS["bash-perl"].line(script, 30).command], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (status, "out\n" if "echo" in script else "")


def test_on_a_mac_perl_ends_a_script_and_its_children_in_time(tmp_path):
    began = time.monotonic()
    script = f"(sleep 60; touch {tmp_path}/late) & sleep 60"
    ended = subprocess.run(["bash", "-c", SHELLS["bash-perl"].line(script, -1).command], check=False, timeout=30)
    assert ended.returncode == 124
    assert time.monotonic() - began < 20
    assert not subprocess.run(["pgrep", "-f", f"{tmp_path}/late"], capture_output=True, check=False).stdout


def decoded(line):
    assert line.command.startswith(POWERSHELL)
    return base64.b64decode(line.command.removeprefix(POWERSHELL)).decode("utf-16-le")


@given(text)
def test_powershell_gets_any_script_unchanged(script):
    """Within its own try, so that an error is one plain line and exit status 1."""
    line = SHELLS["powershell"].line(script, 30)
    assert line.prefix == ""
    assert f"try {{ \n{script}\n }}\ncatch {{" in decoded(line)
    assert "AddArgument(32)" in decoded(line)


@given(st.integers(2000, 60000), st.sampled_from("aü✓"))
def test_a_script_that_is_too_long_for_cmd_comes_first_by_standard_input(length, letter):
    script = letter * length
    line = SHELLS["powershell"].line(script, 30)
    assert len(line.command) <= LONGEST_FOR_CMD
    if line.prefix:
        first, rest = line.prefix.split("\n")
        assert (base64.b64decode(first).decode(), rest) == (script, "")
        assert "$cellstepInput=@($input)" in decoded(line)
    else:
        assert script in decoded(line)


def test_the_shell_is_an_option_of_the_connection():
    assert settings("c01-n01", extras={"ssh_config": None}).shell == "bash"
    assert settings("c01-n01", extras={"shell": "powershell"}).shell == "powershell"
    with pytest.raises(ValueError, match="shell is 'fish'; write one of bash, bash-perl, powershell"):
        settings("c01-n01", extras={"shell": "fish"})
