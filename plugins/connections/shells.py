"""How a script is given to a host's sshd, so that the host itself ends it in time: one entry a kind of shell.

sshd sends no signals for us: OpenSSH before 7.9 cannot, later ones refuse to for root. So the host ends a command by
itself, also when the connection is lost before that.
"""

import base64
import math
import shlex
from collections.abc import Callable
from dataclasses import dataclass

GRACE_S = 2

# execve(2) takes 128 KiB in one argument, and the login shell gets the whole command line as one.
LONGEST_ARGUMENT = 120_000
# cmd.exe, the login shell of OpenSSH for Windows unless its registry says otherwise, takes 8,191 characters.
LONGEST_FOR_CMD = 8_000


@dataclass(frozen=True)
class Line:
    """What is sent.

    Attributes:
        command: for the host's login shell.
        prefix: what its standard input begins with.
    """

    command: str
    prefix: str = ""


@dataclass(frozen=True)
class Shell:
    """A kind of shell.

    Attributes:
        line: the script, and seconds that it may take, as they are sent.
        sudo: whether the login may have to become root with sudo.
    """

    line: Callable[[str, float], Line]
    sudo: bool = True


def _timeout(script: str, seconds: float) -> Line:
    """GNU coreutils' `timeout` ends it, with its process group."""
    return Line(f"timeout {math.ceil(seconds) + GRACE_S} bash -c {shlex.quote(script)}")


# A Mac has no `timeout`, but perl: the script gets a process group of its own, and 124 says that its time was over.
_ALARM = (
    "my $s = shift; my $p = fork() // die; if (!$p) { setpgrp; exec @ARGV or exit 127 } "
    '$SIG{ALRM} = sub { kill "TERM", -$p; sleep 2; kill "KILL", -$p; exit 124 }; '
    "alarm $s; waitpid $p, 0; exit($? & 127 ? 128 + ($? & 127) : $? >> 8)"
)


def _alarm(script: str, seconds: float) -> Line:
    return Line(f"perl -e {shlex.quote(_ALARM)} {math.ceil(seconds) + GRACE_S} bash -c {shlex.quote(script)}")


POWERSHELL = "powershell -NoProfile -NonInteractive -OutputFormat Text -EncodedCommand "

# What goes before each script. A second runspace of the same process ends it, and all it has started, when its time is
# over. The progress bar would be printed as XML into standard error.
_PROLOGUE = """$ErrorActionPreference='Stop'; $ProgressPreference='SilentlyContinue'
[Console]::OutputEncoding=New-Object System.Text.UTF8Encoding $false
$cellstepWatch=[powershell]::Create().AddScript({param($s,$p) Start-Sleep -Seconds $s
& taskkill.exe /T /F /PID $p}).AddArgument(%d).AddArgument($PID)
[void]$cellstepWatch.BeginInvoke()
"""

# A script that is too long for cmd.exe is the first line of standard input, in base64. PowerShell itself reads that and
# gives it as $input: [Console]::In would race with it.
_LOADER = (
    "$cellstepInput=@($input); "
    "$cellstepScript=[Text.Encoding]::UTF8.GetString([Convert]::FromBase64String([string]$cellstepInput[0]))"
)

# An error that nothing catches is told in plain words, and is exit status 1; `exit N` leaves at once with N.
_BODY = """try { %s }
catch { [Console]::Error.WriteLine([string]$_.Exception.Message); exit 1 }
exit 0
"""


def encoded(script: str) -> str:
    """A script as `-EncodedCommand` takes it: UTF-16 little-endian, in base64."""
    return base64.b64encode(script.encode("utf-16-le", "replace")).decode()


def _powershell(script: str, seconds: float) -> Line:
    prologue = _PROLOGUE % (math.ceil(seconds) + GRACE_S)
    command = POWERSHELL + encoded(prologue + _BODY.replace("%s", f"\n{script}\n"))
    if len(command) <= LONGEST_FOR_CMD:
        return Line(command)
    loader = prologue + _BODY.replace("%s", f"{_LOADER}\n. ([scriptblock]::Create($cellstepScript))")
    line = base64.b64encode(script.encode("utf-8", "replace")).decode()
    return Line(POWERSHELL + encoded(loader), f"{line}\n")


SHELLS = {
    "bash": Shell(_timeout),
    "bash-perl": Shell(_alarm),
    "powershell": Shell(_powershell, sudo=False),
}
"""Linux; Mac; Windows."""
