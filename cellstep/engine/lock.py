"""One operator at a time: the lock of a cloud, who holds it, and taking it over on purpose."""

import fcntl
import getpass
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from cellstep.engine.journal import Journal
from cellstep.engine.store import now
from cellstep.errors import Locked, UsageError
from tasks.errors import Fenced

NAMELESS_S = 1.0
"""How long to wait for a holder to write its name."""


@dataclass(frozen=True)
class Holder:
    """Who holds a cloud's lock."""

    operator: str
    host: str
    pid: int
    since: str
    doing: str
    token: int

    def __str__(self) -> str:
        return f"{self.doing} by {self.operator} on {self.host}, pid {self.pid}, since {self.since}"


class Lock:
    """A cloud's lock file: held by the kernel's lock on it while its holder lives, with the holder's name inside.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def holder(self) -> tuple[Holder | None, bool]:
        """Who is named in the file, and whether that holder lives; (None, False) where it is free.

        A name without a living holder is that of one that crashed.
        """
        try:
            file = self.path.open("r", encoding="utf-8")
        except FileNotFoundError:
            return None, False
        with file:
            alive = not _try(file)
            return _read(file), alive

    def check(self, token: int) -> None:
        """See that the cloud is still ours; called from any thread right before something is sent.

        Raises:
            Fenced: another operator has taken over since.
        """
        try:
            with self.path.open("r", encoding="utf-8") as file:
                holder = _read(file)
        except FileNotFoundError:
            holder = None
        if holder is None or holder.token != token:
            raise Fenced(f"this cloud was taken over{f': {holder}' if holder else ''}; nothing more is sent from here")

    @contextmanager
    def held(self, journal: Journal, doing: str) -> Iterator[Holder]:
        """Hold the lock, with a new token; the kernel gives it back when this process ends, however it ends.

        Args:
            journal: the cloud's journal, which from now on refuses every writer with an older token.
            doing: what the holder does, for those who are refused.

        Raises:
            Locked: another process holds it; the message names it.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked() as file:
            crashed = _read(file)
            mine = _myself(doing, journal.take_token())
            if crashed:
                journal.event("", f"the holder of the lock had crashed: {crashed}")
            _write(file, mine)
            try:
                yield mine
            finally:
                file.truncate(0)

    @contextmanager
    def _locked(self) -> Iterator[IO[str]]:
        patience = iter([NAMELESS_S / 10] * 10)
        while True:
            with self.path.open("a+", encoding="utf-8") as file:
                if not _try(file):
                    # Without a name it is one that has just begun, or `lock show` that looks.
                    holder, pause = _read(file), next(patience, None)
                    if holder is None and pause is not None:
                        threading.Event().wait(pause)
                        continue
                    raise Locked(
                        f"this cloud is in use: {holder or 'another cellstep has just begun'}; wait until it ends,"
                        " or take over on purpose: `cellstep lock take-over --reason ...`"
                    )
                # A take-over may have put another file in its place since this one was opened.
                if self.path.exists() and os.path.samestat(os.fstat(file.fileno()), self.path.stat()):
                    yield file
                    return

    def take_over(self, journal: Journal, reason: str) -> Holder:
        """Take the cloud from a holder that lives: it changes nothing any more from now on, here or on a node.

        Its token is outdated in the journal, and the lock file is another; what it has under way on nodes is asked
        for by `cellstep resume`.

        Returns:
            The holder that it was taken from.

        Raises:
            UsageError: nobody holds it.
        """
        holder, alive = self.holder()
        if holder is None or not alive:
            raise UsageError("nobody holds this cloud: there is nothing to take over, `cellstep resume` goes on")
        token = journal.take_token()
        journal.event("", f"took over from {holder}: {reason}")
        new = self.path.with_suffix(".new")
        with new.open("w", encoding="utf-8") as file:
            _write(file, _myself("a take-over", token))
        new.replace(self.path)
        self.path.open("w", encoding="utf-8").close()
        return holder


def _myself(doing: str, token: int) -> Holder:
    return Holder(getpass.getuser(), socket.gethostname(), os.getpid(), now(), doing, token)


def _try(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(file: IO[str]) -> Holder | None:
    file.seek(0)
    try:
        return Holder(**json.loads(file.read()))
    except (ValueError, TypeError):  # empty, or its holder is just about to write its name
        return None


def _write(file: IO[str], holder: Holder) -> None:
    file.seek(0)
    file.truncate(0)
    file.write(json.dumps(asdict(holder)))
    file.flush()
