"""The process that keeps a scripted cloud alive, and starts its controllers.

It is the first of its own process and mount namespaces (`unshare --pid --mount`): what is mounted and what runs in
there goes when it goes. A controller is a fork of it, so that Python and its modules are loaded once for all of them;
what the hosts run outlives its controller. One JSON line in is a request, one JSON line out an answer.
"""

import contextlib
import ctypes
import importlib
import json
import os
import pkgutil
import select
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import openpyxl  # noqa: F401 - loaded once, for all controllers
import pandas as pd  # noqa: F401 - the same

import cellstep
import cellstep.cli.main
import plugins
import reports
import tasks
from tasks import checkout, jobs, rabbitmq, reboot
from tests.chaos.hosts import World, register
from tests.chaos.strikes import Strike

MS_BIND = 4096
PROGRAMS = Path(__file__).parent / "programs"


def mount(source: Path | str, target: Path, kind: str = "", flags: int = MS_BIND, options: str = "") -> None:
    """Mount something, as the system call does."""
    libc = ctypes.CDLL(None, use_errno=True)
    texts = [str(text).encode() for text in (source, target, kind)]
    if libc.mount(*texts, flags, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), f"mount {source} on {target}: {os.strerror(ctypes.get_errno())}")


def furnish(cloud: Path) -> None:
    """Give every host the programs of this machine, the stand-ins before them, and sight of the whole cloud."""
    world = cloud / "world"
    for root in (world / "hosts").iterdir():
        for source, place in ((Path("/usr"), "usr"), (Path("/dev"), "dev"), (Path("/proc"), "opt/proc")):
            mount(source, root / place)
        mount(PROGRAMS, root / "opt/node")
        mount(world, root / "opt/cloud")


def control(cloud: Path, request: dict[str, Any]) -> None:
    """Be a controller: the command `cellstep`, with the scripted hosts' connections, until it ends or is struck."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    out = os.open(request["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    strike = Strike(**json.loads(request["strike"]))
    register(World(cloud / "world", strike))
    strike.install(cloud / "state")
    jobs.ASK_EVERY_S = reboot.ASK_EVERY_S = checkout.ASK_EVERY_S = rabbitmq.ASK_EVERY_S = 0.1
    sys.argv = ["cellstep", *request["arguments"]]
    os.environ["CELLSTEP_CLOUD"] = str(cloud)
    code: Any = 1
    try:
        cellstep.cli.main.main()
    except SystemExit as ended:
        code = ended.code
    except BaseException:  # noqa: BLE001 - the test sees it in what was printed
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    Path(request["out"]).with_suffix(".counts").write_text(json.dumps(strike.reached))
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


class Keeper:
    """Serves requests until its standard input ends."""

    def __init__(self, cloud: Path) -> None:
        self.cloud = cloud
        self.controllers: set[int] = set()

    def say(self, **answer: Any) -> None:
        """Answer."""
        os.write(1, (json.dumps(answer) + "\n").encode())

    def busy(self) -> bool:
        """Whether anything but controllers still runs: what they, or dead ones, sent to hosts."""
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                state = stat.read_text().rpartition(")")[2].split()[0]
                if state != "Z" and int(stat.parent.name) not in {os.getpid(), *self.controllers}:
                    return True
        return False

    def reap(self) -> None:
        """Tell of controllers that have ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in self.controllers:
                self.controllers.discard(pid)
                self.say(ended=pid, code=os.waitstatus_to_exitcode(status))

    def serve(self) -> None:
        """Until there is nobody any more to serve."""
        wake, waker = os.pipe()
        os.set_blocking(waker, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        pending = b""
        resting = False
        while True:
            ready, _, _ = select.select([0, wake], [], [], 0.05 if resting else 1.0)
            if wake in ready:
                os.read(wake, 1000)
            self.reap()
            if resting and not self.busy():
                resting = False
                self.say(rests=True)
            if 0 not in ready:
                continue
            read = os.read(0, 1 << 16)
            if not read:
                return
            *lines, pending = (pending + read).split(b"\n")
            for line in lines:
                resting = self.obey(json.loads(line)) or resting

    def obey(self, request: dict[str, Any]) -> bool:
        """Do what was asked; whether it is to be told when nothing runs any more."""
        match request["do"]:
            case "start":
                pid = os.fork()
                if pid == 0:
                    control(self.cloud, request)
                self.controllers.add(pid)
                self.say(started=pid)
            case "signal":
                os.kill(request["pid"], request["number"])
                self.say(signalled=True)
            case "disk":
                mount("tmpfs", self.cloud / "state", "tmpfs", 0, f"size={request['size']}")
                self.say(mounted=True)
            case "rest":
                return True
        return False


def main() -> None:
    """`python keeper.py CLOUD`, inside its namespaces."""
    cloud = Path(sys.argv[1])
    furnish(cloud)
    for package in (cellstep, reports, tasks, plugins):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    keeper = Keeper(cloud)
    keeper.say(ready=os.getpid())
    keeper.serve()


if __name__ == "__main__":
    main()
