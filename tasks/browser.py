"""The dashboard in headless Chromium, from the operator's machine: the log-in page as a browser shows it.

Playwright is an optional extra; without it, or without a browser, the test is skipped with words.
"""

import importlib
import shutil
from collections.abc import Callable
from typing import Any

from nornir.core.task import Result, Task

from tasks.dashboard import GUESTS, LOG_IN
from tasks.holds import Noted, skipped, unchanged

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE_MS = 30_000
ARGUMENTS = ("--no-sandbox", "--disable-dev-shm-usage")
"""As root there is no sandbox to be had; and in containers /dev/shm is small."""


def lacking() -> str:
    """Why there is no browser to test with; "" where there is one."""
    try:
        importlib.import_module("playwright.sync_api")
    except ImportError:
        return "playwright is not installed here: install cellstep[browser]"
    return "" if program() else f"no browser here: install one of {', '.join(PROGRAMS)}"


def program() -> str:
    """The browser's program, "" where there is none."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), "")


def test(task: Task, *, base: str, username: str, password: Callable[[], str], wanted: bool) -> Result:
    """Log in and list the guests, in a browser.

    Args:
        task: the Nornir task; nothing is sent to its node but what a browser sends.
        base: the new machine's address, as this machine reaches it.
        username: a user of the dashboard.
        password: reads the user's password.
        wanted: whether the site wants it.

    Returns:
        A `Noted` with a list of faults as words, None where it was not tested.
    """
    why = lacking() if wanted else "dashboard.browser is off"
    if why or task.is_dry_run():
        return skipped(task, Noted(f"not tested in a browser: {why}" if why else f"would open {base}", None))
    found = _look(base.rstrip("/"), username, password())
    words = "; ".join(found) or "log-in and list of guests, no error of a script or a file"
    return unchanged(task, Noted(words, found))


def _look(base: str, username: str, password: str) -> list[str]:
    api: Any = importlib.import_module("playwright.sync_api")
    found: list[str] = []
    with api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=program(), args=ARGUMENTS)
        except api.Error as error:
            return [f"the browser {program()} does not start: {_first_line(error)}"]
        try:
            page = browser.new_page(ignore_https_errors=True)
            page.set_default_timeout(PATIENCE_MS)
            page.on("pageerror", lambda error: found.append(f"a script fails: {_first_line(error)}"))
            page.on("response", lambda answer: _note(found, answer.status, answer.url))
            page.goto(base + LOG_IN)
            page.fill("input[name=username]", username)
            page.fill("input[name=password]", password)
            with page.expect_navigation(wait_until="networkidle"):  # it may begin only after the key press returns
                page.press("input[name=password]", "Enter")
            if LOG_IN in page.url:
                return list(dict.fromkeys([*found, "the log-in does not leave the log-in page"]))
            page.goto(base + GUESTS, wait_until="networkidle")
            if not page.query_selector("[id^=instances__row__]"):
                found.append("the list of guests has no guest in it")
        except api.Error as error:
            found.append(_first_line(error))
        finally:
            browser.close()
    return list(dict.fromkeys(found))  # a file that is missing is so on each page


def _first_line(error: object) -> str:
    return (str(error).splitlines() or ["no reason given"])[0]


def _note(found: list[str], status: int, url: str) -> None:
    if status >= 400 and not url.endswith("/favicon.ico"):
        found.append(f"HTTP {status} for {url.partition('?')[0]}")
