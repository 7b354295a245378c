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
from cellstep.errors import JournalFailed, Locked, UsageError
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

    def frozen(self) -> bool:
        """Whether its process is on this machine, and stopped (SIGSTOP): it lives, and does nothing."""
        if self.host != socket.gethostname():
            return False
        try:
            after_name = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2]
        except OSError:
            return False
        return after_name.split()[:1] in (["T"], ["t"])


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
            # Shared: those who only look keep nobody out, and one who wants the lock sees that they only look.
            alive = not _try(file, fcntl.LOCK_SH)
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
            if not self._is(file):  # somebody took over from the one before, just now
                raise Locked("this cloud was taken over at this very moment; see `cellstep lock show`, then try again")
            try:
                yield mine
            finally:
                file.truncate(0)

    @contextmanager
    def _locked(self) -> Iterator[IO[str]]:
        patience = iter([NAMELESS_S / 10] * 10)
        while True:
            with self.path.open("a+", encoding="utf-8") as file:
                if _try(file):
                    # A take-over may have put another file in its place since this one was opened.
                    if self._is(file):
                        yield file
                        return
                    continue
                # One that only looks has it for a moment; without a name it is a holder that has just begun.
                looked_at = _try(file, fcntl.LOCK_SH)
                holder, pause = _read(file), next(patience, None)
            if pause is None or (holder and not looked_at):
                raise Locked(
                    f"this cloud is in use: {holder or 'another cellstep has just begun'}; wait until it ends,"
                    " or take over on purpose: `cellstep lock take-over --reason ...`"
                )
            threading.Event().wait(pause)

    def _is(self, file: IO[str]) -> bool:
        try:
            return os.path.samestat(os.fstat(file.fileno()), self.path.stat())
        except FileNotFoundError:
            return False

    def take_over(self, journal: Journal, reason: str, expected: Holder | None = None) -> Holder:
        """Take the cloud from a holder that lives: it changes nothing any more from now on, here or on a node.

        Its token is outdated in the journal, and the lock file is another; what it has under way on nodes is asked
        for by `cellstep resume`.

        Args:
            journal: the cloud's journal.
            reason: why; for the journal.
            expected: the holder that was looked at: another one is left alone.

        Returns:
            The holder that it was taken from.

        Raises:
            UsageError: nobody holds it, or another than expected.
            JournalFailed: it was frozen in the middle of a write to the journal, for instance.
        """
        holder, alive = self.holder()
        if holder is None or not alive:
            raise UsageError("nobody holds this cloud: there is nothing to take over, `cellstep resume` goes on")
        if expected is not None and holder.token != expected.token:
            raise UsageError(f"another holds this cloud by now: {holder}; look again, nothing was taken over")
        try:
            journal.take_token()
        except JournalFailed as error:
            raise JournalFailed(
                f"{error}. The holder may have been frozen while it wrote to the journal:"
                f" then end it on {holder.host} (`kill -9 {holder.pid}`), which frees the lock"
            ) from error
        journal.event("", f"took over from {holder}: {reason}")
        new = self.path.with_name(f"{self.path.name}.{os.getpid()}.new")
        new.open("w", encoding="utf-8").close()
        new.replace(self.path)  # at once: whoever looks finds the old name, or none
        return holder


def _myself(doing: str, token: int) -> Holder:
    return Holder(getpass.getuser(), socket.gethostname(), os.getpid(), now(), doing, token)


def _try(file: IO[str], kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
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
