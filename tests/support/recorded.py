"""What tasks send to a node, whole, for a text that pins it."""

import contextlib
from collections.abc import Callable

from tasks import backout, downgrade, facts, packages, puppet, reboot, repositories, services, shell
from tasks.binding import Binding, bind
from tests.support.scripted import Scripted, said, task_on

OFF, UP = {"actual": "stopped", "boot": "off"}, {"actual": "running", "boot": "on"}
OLD, NEW = {"python-nova": "2013.1.4-1.el6"}, {"python-nova": "2013.2.1-1.el6", "python-novaclient": "1:2.15.0"}


class Enough(Exception):
    """A task has sent what was to be seen."""


def sent(call: Callable[..., object], *answers: str, platform: str | None = None, bound: bool = False) -> str:
    """All that a call sends, until the answers are over."""
    left = iter(answers)

    def answer(_command: str) -> object:
        found = next(left, None)
        return Enough() if found is None else said(found)

    node = Scripted([("", answer)])
    task = task_on(node)
    if platform:
        task.host.platform = platform
    if bound:
        bind(task, Binding("r1", "Step", token=7))
    with contextlib.suppress(Enough):
        call(task)
    return "\n--8<--\n".join(node.sent)


def everything(rpms: str = "python-nova 2013.1.4-1.el6\npython-novaclient 1:2.13.0-1.el6\n") -> dict[str, str]:
    """What the tasks send to a node with yum, by what they do."""
    rows = "python-nova 2013.2.1-1.el6 9\npython-x 2-1 9\npython-new 1-1 9\n"
    before = {"before": {**OLD, "gone": "1-1"}, "everything": {"python-x": ["1-1"], **{n: [e] for n, e in OLD.items()}}}
    back = {**before, "release": ["python-nova", "python-new"]}
    repository = {"repository": "havana", "baseurl": "http://repo/", "packages": ["a", "b"], "gpgcheck": False}
    return {
        "states": sent(lambda t: services.states(t, ["api", "cells"])),
        "stop": sent(lambda t: services.stop(t, prior={}, services=["api", "cells"]), "api 0 on\ncells 3 on\n"),
        "start": sent(
            lambda t: services.restore(t, prior={"api": UP, "cells": {**UP, "boot": "off"}}, services=[]),
            "api 3 off\ncells 3 off\n",
        ),
        "facts": sent(lambda t: facts.ask_node(t, ["api", "cells"])),
        "facts without services": sent(lambda t: facts.ask_node(t, [])),
        "versions": sent(lambda t: packages.versions(t, NEW)),
        "clean": sent(packages.clean),
        "download": sent(lambda t: packages.download(t, expected=NEW, kernel=True), rpms, "Complete!"),
        "resolve": sent(lambda t: packages.resolve(t, expected=NEW, owners={}), rpms),
        "update": sent(lambda t: packages.update(t, expected=NEW, kernel=True), rpms, "1 2.6.32-1\n", ""),
        "kernels": sent(packages.installed_kernels),
        "boot id": sent(reboot.boot_id),
        "kernel": sent(reboot.running_kernel),
        "reboot": sent(lambda t: reboot.restart(t, 0.0, 0.0), "b1\n"),
        "bound change": sent(lambda t: shell.change(t, "yum clean all 'x'"), bound=True),
        "fence": sent(lambda t: shell.fence(t, timeout=60), bound=True),
        "downgrade": sent(lambda t: downgrade.to_before(t, **back), rows),
        "download of before": sent(lambda t: downgrade.download(t, **back), rows, "", ""),
        "repositories": sent(lambda t: puppet.has_repository(t, "havana")),
        "repository": sent(lambda t: repositories.place(t, prior={"there": False}, **repository), "", ""),
        "idle": sent(lambda t: backout.wait_until_idle(t, sync="nova-manage db sync")),
    }


def text() -> str:
    """As one text."""
    return "".join(f"==== {name}\n{script}\n" for name, script in everything().items())
