"""A site's Python functions, as cloud.yaml names them: in the folder `site` beside it, or of an installed module."""

import functools
import hashlib
import importlib
import importlib.util
import inspect
import json
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nornir.core.task import Result, Task

from plugins.inventory.document import one_line
from plugins.inventory.validation import did_you_mean
from tasks.errors import Refused
from tasks.holds import Hold, HostTask

FOLDER = "site"
"""The folder beside cloud.yaml that has a site's own modules."""


class NotFound(Exception):
    """There is no such function, or it is none that a step can call; the message says what instead."""


class Functions:
    """The functions that the steps of one cloud name.

    Args:
        directory: the cloud's folder.
    """

    PREFIX = "cellstep_site_"

    def __init__(self, directory: Path) -> None:
        self.folder = directory / FOLDER

    def task(self, name: str, arguments: Mapping[str, Any]) -> HostTask:
        """A Nornir task, by `module:function`.

        Raises:
            NotFound: it cannot be imported, is none, or does not take these arguments.
        """
        found = self._find(name)
        if isinstance(found, Hold):
            raise NotFound(f"{name} is a hold; write kind: hold, and after or before which step it is lifted")
        if not callable(found) or isinstance(found, type):
            raise NotFound(f"{name} is no function; write the name of one that takes a Nornir task")
        _check_takes(found, name, dict(arguments))
        task: HostTask = found
        return task

    def hold(self, name: str, arguments: Mapping[str, Any]) -> Hold:
        """A hold, by `module:NAME`.

        Raises:
            NotFound: it cannot be imported, is none, or its tasks do not take these arguments.
        """
        found = self._find(name)
        if not isinstance(found, Hold):
            raise NotFound(f"{name} is no hold; write the name of a tasks.holds.Hold, or kind: do")
        _check_takes(found.read, f"read of {name}", dict(arguments))
        for what, function in (("place", found.place), ("lift", found.lift)):
            _check_takes(function, f"{what} of {name}", {"prior": None, **arguments})
        return Hold(found.name, plain(found.read), found.place, found.lift)

    def _find(self, name: str) -> object:
        module_name, _, wanted = name.partition(":")
        module, where = self._module(module_name)
        if not hasattr(module, wanted):
            own = [each for each, value in vars(module).items() if callable(value) or isinstance(value, Hold)]
            hint = did_you_mean(wanted, [each for each in own if not each.startswith("_")], "names")
            raise NotFound(f"{where} has no '{wanted}'{hint}")
        return getattr(module, wanted)

    def _module(self, name: str) -> tuple[types.ModuleType, str]:
        """The module, and the words for it; one in the folder goes before an installed one."""
        path = self.folder.joinpath(*name.split("."))
        here = next((each for each in (path.with_suffix(".py"), path / "__init__.py") if each.is_file()), None)
        where = f"{FOLDER}/{here.relative_to(self.folder)}" if here else f"module {name}"
        try:
            return importlib.import_module(f"{self.package()}.{name}" if here else name), where
        except ModuleNotFoundError as error:
            if here is None and error.name and name.startswith(error.name):
                known = [each.stem for each in self.folder.glob("*.py")]
                hint = did_you_mean(name.partition(".")[0], known, f"modules in {FOLDER}/")
                raise NotFound(f"there is no module '{name}' in {self.folder}, and none is installed{hint}") from error
            raise NotFound(f"{where} cannot be imported: {_told(error)}") from error
        except (Exception, SystemExit) as error:
            raise NotFound(f"{where} cannot be imported: {_told(error)}") from error

    def package(self) -> str:
        """The folder as a package of its own, so that a module in it hides none that is installed."""
        name = f"{self.PREFIX}{hashlib.sha256(str(self.folder).encode()).hexdigest()[:12]}"
        if name not in sys.modules:
            package = types.ModuleType(name)
            package.__path__ = [str(self.folder)]
            sys.modules[name] = package
        return name


def _told(error: BaseException) -> str:
    line = f" (line {error.lineno})" if isinstance(error, SyntaxError) else ""
    return one_line(f"{type(error).__name__}: {error.msg if isinstance(error, SyntaxError) else error}{line}")


def _check_takes(function: Callable[..., Any], name: str, arguments: Mapping[str, Any]) -> None:
    """Whether a function can be called with a task and these arguments.

    Raises:
        NotFound: it cannot.
    """
    try:
        inspect.signature(function).bind(None, **arguments)
    except TypeError as error:
        raise NotFound(f"{name} cannot be called with a task and these arguments: {error}") from error
    except ValueError:  # a function of C, of which the signature is not known
        return


def plain(read: HostTask) -> HostTask:
    """As `read`, refusing a prior state that the journal cannot keep."""

    @functools.wraps(read)
    def checked(task: Task, **arguments: Any) -> Result:
        result = read(task, **arguments)
        state = result.result if isinstance(result, Result) else result
        try:
            json.dumps(state)
        except (TypeError, ValueError) as error:
            raise Refused(f"its prior state is no plain value, and cannot be kept: {error}") from error
        return result

    return checked
