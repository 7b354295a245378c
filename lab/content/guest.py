"""The program that stands for a running guest: it keeps whatever arguments it was given, and waits."""

import platform
import struct

from lab.errors import LabError

_BASE = 0x400000
# Machine code of `for (;;) pause();`, and the ELF machine number.
_PROGRAMS = {
    "x86_64": (62, bytes.fromhex("b8220000000f05ebf7")),  # mov eax, 34; syscall; jmp back
    # mov x0..x4, 0; mov x8, 73 (ppoll); svc 0; b back
    "aarch64": (183, struct.pack("<8I", *(0xD2800000 | n for n in range(5)), 0xD2800928, 0xD4000001, 0x17FFFFF9)),
}


def program(machine: str | None = None) -> bytes:
    """A static ELF executable of 130-odd bytes, so that a guest costs next to nothing.

    Args:
        machine: as `uname -m` names it; this machine by default.

    Raises:
        LabError: there is no program for such a machine.
    """
    machine = machine or platform.machine()
    if machine not in _PROGRAMS:
        raise LabError(f"the lab's guests run on {' and '.join(_PROGRAMS)}, not on {machine}")
    number, code = _PROGRAMS[machine]
    headers = 64 + 56
    size = headers + len(code)
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = ident + struct.pack("<HHIQQQIHHHHHH", 2, number, 1, _BASE + headers, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return header + segment + code
