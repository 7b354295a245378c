"""One operator at a time: the lock of a cloud."""

import fcntl
import getpass
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cellstep.engine.journal import now
from cellstep.errors import Locked


@contextmanager
def locked(path: Path, doing: str) -> Iterator[None]:
    """Hold the cloud's lock; the kernel gives it back when this process ends, however it ends.

    Args:
        path: the lock file; it names its holder.
        doing: what the holder does, for those who are refused.

    Raises:
        Locked: another process holds it; the message names it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise Locked(f"this cloud is in use: {_words(file.read())}; wait until it ends") from None
        holder = {
            "operator": getpass.getuser(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": now(),
            "doing": doing,
        }
        file.truncate(0)
        file.write(json.dumps(holder))
        file.flush()
        yield


def _words(text: str) -> str:
    try:
        holder = json.loads(text)
        who = f"{holder['operator']} on {holder['host']}, pid {holder['pid']}"
        return f"{holder['doing']} by {who}, since {holder['since']}"
    except (ValueError, KeyError):  # the holder is just about to write its name
        return "another cellstep has just begun"
