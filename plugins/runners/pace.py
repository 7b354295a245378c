"""How fast a runner hands out hosts: a canary first, then a window that grows while all goes well."""

import time
from collections.abc import Callable


class Pace:
    """How many hosts may run at once, and how many may begin in a second.

    The first `canary` hosts run alone. Each time as many hosts as the window is wide have ended well, it is widened
    by `growth`; a host in trouble halves it, and never below `canary`. Nothing waits for the last host of a batch.

    Args:
        canary: hosts in the first batch, 1 or more; 0 for no such bound.
        growth: factor of the window, 1 or more.
        per_second: hosts that may begin in a second; None for no such bound.
        clock: seconds, growing.
    """

    def __init__(
        self,
        canary: int = 0,
        growth: float = 2.0,
        per_second: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if canary < 0 or growth < 1 or (per_second is not None and per_second <= 0):
            raise ValueError(f"canary ({canary}), growth ({growth}) and per_second ({per_second}) cannot be so")
        self.canary, self.growth, self.per_second, self._clock = canary, growth, per_second, clock
        self._window = float(canary)
        self._well = 0
        self._next = 0.0

    @property
    def window(self) -> int | None:
        """Hosts that may run at once; None for no bound."""
        return int(self._window) if self.canary else None

    def room(self, busy: int, free: int) -> int:
        """How many more may begin now, of `free`, while `busy` run."""
        if self.canary:
            free = min(free, int(self._window) - busy)
        if self.per_second is not None and free > 0:
            free = 1 if self._clock() >= self._next else 0
        return max(free, 0)

    def began(self, hosts: int) -> None:
        """So many began now."""
        if self.per_second is not None:
            self._next = max(self._next, self._clock()) + hosts / self.per_second

    def wait_s(self, busy: int, free: int) -> float | None:
        """Seconds until one more may begin for the rate's sake; None where only an end can make room."""
        full = free <= 0 or (self.canary and int(self._window) <= busy)
        if self.per_second is None or full:
            return None
        return max(self._next - self._clock(), 0.0)

    def ended(self, *, well: bool) -> None:
        """A host has ended."""
        if not self.canary:
            return
        if not well:
            self._window, self._well = max(self._window / 2, float(self.canary)), 0
            return
        self._well += 1
        if self._well >= int(self._window):
            self._window, self._well = self._window * self.growth, 0
