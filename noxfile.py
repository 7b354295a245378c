"""What must pass, and the benchmarks: `bin/test` runs the first three sessions.

Sessions run in the environment that bin/setup made from the lock file, and install nothing: what passes here is
what was locked.
"""

import os
import pathlib
import sys

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.error_on_external_run = False

PYTHON = sys.executable
ENVIRONMENT = {"PATH": str(pathlib.Path(PYTHON).parent) + os.pathsep + os.environ.get("PATH", "")}


@nox.session
def lint(session: nox.Session) -> None:
    """Style and likely mistakes: ruff."""
    session.run("ruff", "check", env=ENVIRONMENT)
    session.run("ruff", "format", "--check", env=ENVIRONMENT)


@nox.session
def types(session: nox.Session) -> None:
    """Types: mypy, strict."""
    session.run("mypy", env=ENVIRONMENT)


@nox.session
def tests(session: nox.Session) -> None:
    """Unit tests, tests with real servers, and tests on the lab; those that lack root or a program say so and skip."""
    # Labs mostly wait: two workers, each with whole files, because the tests of one file are one story.
    arguments = session.posargs or ["--numprocesses", "2", "--dist", "loadfile"]
    session.run("pytest", *arguments, env=ENVIRONMENT)


@nox.session
def bench(session: nox.Session) -> None:
    """Benchmarks: print what they measured; `nox -s bench -- NAME` for one."""
    wanted = session.posargs or sorted(path.stem for path in pathlib.Path("bench").glob("[a-z]*.py"))
    for name in wanted:
        session.log(name)
        session.run(PYTHON, f"bench/{name}.py", env=ENVIRONMENT)
