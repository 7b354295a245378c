"""What a fault is."""

from collections.abc import Callable
from dataclasses import dataclass

from lab.errors import LabUsageError


@dataclass(frozen=True)
class Amount:
    """How much of a fault there is.

    Attributes:
        default: when nothing is said.
        low: the least, included.
        high: the most, included.
        unit: for `--help` and messages.
    """

    default: int
    low: int
    high: int
    unit: str


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    Attributes:
        meaning: what it does, for `--help` and messages.
        place: makes it: called with the Machine, and the amount when the fault has one.
        undo: undoes it; called with the Machine; harmless when the fault is only half there or not at all.
        amount: None for a fault that is there or not.
        lasting: it stays while the host is off (in its network or on its disk), so that it has to be undone then, too.
            What hangs on a process or a mount of the host is gone by itself.
    """

    meaning: str
    place: Callable[..., None]
    undo: Callable[..., None]
    amount: Amount | None = None
    lasting: bool = False

    def amount_of(self, said: int | None) -> int | None:
        """The amount to use: what was said, or the default.

        Raises:
            LabUsageError: it is out of range, or the fault has none.
        """
        if self.amount is None:
            if said is not None:
                raise LabUsageError("this fault has no amount: leave --amount out")
            return None
        wanted = self.amount.default if said is None else said
        if not self.amount.low <= wanted <= self.amount.high:
            raise LabUsageError(f"--amount {wanted}: use {self.amount.low} to {self.amount.high} {self.amount.unit}")
        return wanted

    def help(self) -> str:
        """Its meaning, and its amount."""
        if self.amount is None:
            return self.meaning
        low, high = self.amount.low, self.amount.high
        return f"{self.meaning} (--amount, {low} to {high} {self.amount.unit}; {self.amount.default} by default)"
