"""Running the machine's own tools, and waiting for what cannot be waited for otherwise."""

import subprocess
import threading
import time
from collections.abc import Callable, Sequence

from lab.errors import LabError


def run(command: Sequence[str], *, stdin: str = "", timeout: float = 60, what: str = "") -> str:
    """Run one tool of this machine.

    Args:
        command: the program and its arguments.
        stdin: what it reads; secrets go here and never among the arguments.
        timeout: in seconds.
        what: what it is for, said when it fails; the command itself otherwise.

    Returns:
        What it wrote to stdout.

    Raises:
        LabError: it is missing, failed, or did not end in time.
    """
    shown = what or " ".join(command[:6])
    try:
        done = subprocess.run(
            list(command), input=stdin, capture_output=True, text=True, errors="replace", timeout=timeout, check=False
        )
    except FileNotFoundError as error:
        raise LabError(f"{command[0]} is not installed on this machine (wanted for: {shown})") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{shown}: did not end within {timeout:.0f} s") from error
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise LabError(f"{shown}: exit {done.returncode}: {said}")
    return done.stdout


def wait_until(ready: Callable[[], bool], *, timeout: float, what: str, every: float = 0.05) -> None:
    """Look again and again until something is so; for what gives no event to wait on.

    Args:
        ready: looks.
        timeout: in seconds.
        what: what is waited for, in the error's words: "host c01-n01 to boot".
        every: seconds between two looks.

    Raises:
        LabError: it was not so in time.
    """
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while not ready():
        if time.monotonic() > deadline:
            raise LabError(f"waited {timeout:.0f} s in vain for {what}")
        pause.wait(every)
