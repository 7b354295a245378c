"""Plain progress lines on stderr, with the time since the start."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

STILL_EVERY_S = 10.0


class Progress:
    """Says what goes on, one line at a time.

    Args:
        quiet: say nothing (tests).
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._started = time.monotonic()

    def say(self, text: str) -> None:
        """Write one line."""
        if not self._quiet:
            sys.stderr.write(f"[{time.monotonic() - self._started:6.1f} s] {text}\n")
            sys.stderr.flush()

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Say that a step begins, every 10 seconds that it still goes on, and how long it took."""
        self.say(f"{text} ...")
        began = time.monotonic()
        ended = threading.Event()

        def still() -> None:
            while not ended.wait(STILL_EVERY_S):
                self.say(f"{text}: still at it after {time.monotonic() - began:.0f} s")

        teller = threading.Thread(target=still, daemon=True)
        teller.start()
        try:
            yield
        finally:
            ended.set()
            teller.join()
        self.say(f"{text}: done in {time.monotonic() - began:.1f} s")
