"""What must pass, and the benchmarks: `bin/test` runs the first three sessions.

Sessions run in the environment that bin/setup made from the lock file, and install nothing: what passes here is what
was locked. Tools are called as modules of this very Python, so that no other of the same name can be meant.
"""

import pathlib
import sys

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "tests"]


def _module(session: nox.Session, *arguments: str) -> None:
    session.run(sys.executable, "-m", *arguments, external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and likely mistakes: ruff."""
    _module(session, "ruff", "check")
    _module(session, "ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Types: mypy, strict."""
    _module(session, "mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """Unit tests, tests with real servers, and tests on the lab; those that lack root or a program say so and skip."""
    # Labs mostly wait: three workers, each with whole files, because the tests of one file are one story; the longest
    # first, as tests/conftest.py has them.
    default = ["--numprocesses", "3", "--dist", "loadfile", "--no-loadscope-reorder"]
    _module(session, "pytest", *(session.posargs or default))


@nox.session
def chaos(session: nox.Session) -> None:
    """Breaks things for minutes and says what came of it; `nox -s chaos -- --seed 7 --points 60` at other places."""
    _module(session, "pytest", "tests/chaos", "--chaos", "--numprocesses", "0", "--capture", "no", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Benchmarks: print what they measured; `nox -s bench -- NAME` for one."""
    for name in session.posargs or sorted(path.stem for path in pathlib.Path("bench").glob("[a-z]*.py")):
        session.log(name)
        session.run(sys.executable, f"bench/{name}.py", external=True)
