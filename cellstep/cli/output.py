"""How results and errors are printed, and the exit code that each kind of error ends with."""

import json
import os
from collections.abc import Callable
from typing import Any

import typer
from rich.console import Console

from cellstep.errors import CellstepError, ConfigurationError

TRACEBACK = "CELLSTEP_TRACEBACK"
"""Set in the environment, an unexpected error shows its traceback."""

WIDE = 160
"""Columns where the output is no terminal: lines of a log are not broken for a screen that is not there."""

console = Console(highlight=False)
if not console.is_terminal:
    console = Console(highlight=False, width=WIDE)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print plain values for a machine."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def ended_by(error: CellstepError) -> int:
    """Print an error as the operator should read it, and return its exit code."""
    if isinstance(error, ConfigurationError):
        for fault in error.faults:
            errors.print(fault, markup=False)
    else:
        errors.print(f"cellstep: {error}", markup=False)
    return error.exit_code


def reported(call: Callable[[], int]) -> int:
    """Call, and turn what cellstep raises on purpose into one clear message and its exit code.

    Anything else is a fault of cellstep: one line that names it, exit code 1.
    """
    try:
        return call()
    except CellstepError as error:
        return ended_by(error)
    except KeyboardInterrupt:
        errors.print("cellstep: interrupted", markup=False)
        return 130
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        errors.print(f"cellstep: {error.strerror or error}{where}", markup=False)
        return 1
    except Exception as error:  # a fault of cellstep: one line for the operator, who gets the whole on request
        if os.environ.get(TRACEBACK):
            raise
        errors.print(f"cellstep: unexpected error: {type(error).__name__}: {error}", markup=False)
        errors.print(f"This is a fault of cellstep. {TRACEBACK}=1 shows where; `cellstep status` what was done.")
        return 1
