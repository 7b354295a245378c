"""Options that several commands share."""

import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from cellstep.cloud.load import CLOUD_FILE, Cloud, load_cloud
from cellstep.errors import UsageError

CloudOption = Annotated[
    Path | None,
    typer.Option(
        "--cloud",
        envvar="CELLSTEP_CLOUD",
        metavar="DIR",
        help=f"The cloud's folder, with {CLOUD_FILE} in it; the current folder if it has one.",
        show_default=False,
    ),
]

LimitOption = Annotated[
    str,
    typer.Option(
        "--limit", metavar="NODES", help="Only these: nodes, groups, ranges; !NAME leaves out.", show_default=False
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output", metavar="DIR", help="Folder for reports; out/ beside cloud.yaml if not given.", show_default=False
    ),
]


def open_cloud(path: Path | None) -> Cloud:
    """Load the cloud that `--cloud` names, or the one of the current folder.

    Args:
        path: the cloud's folder, or its cloud.yaml; None if neither option nor environment variable was given.

    Raises:
        UsageError: none was given, and the current folder has no cloud.yaml.
        ConfigurationError: the cloud has faults.
    """
    if path is None:
        if not Path(CLOUD_FILE).is_file():
            raise UsageError(
                f"which cloud? There is no {CLOUD_FILE} here; give its folder with --cloud DIR or CELLSTEP_CLOUD"
            )
        path = Path()
    return load_cloud(path.parent if path.name == CLOUD_FILE and path.is_file() else path)


def reach_cloud(path: Path | None) -> Cloud:
    """As `open_cloud`, for a command that contacts nodes: enters the cloud's network namespace, where it has one.

    The command begins again inside: `ip netns exec` also shows the namespace's own hosts file
    (/etc/netns/NAME/hosts), so that its names resolve.

    Raises:
        UsageError: also where the namespace is not there, or cannot be entered.
    """
    cloud = open_cloud(path)
    name = cloud.config.network_namespace
    if name is None:
        return cloud
    namespace = Path("/run/netns") / name
    try:
        wanted = namespace.stat()
    except FileNotFoundError:
        raise UsageError(
            f"{cloud.config.name} lies in the network namespace {name}, which is not there: bring it up first"
            " (the lab: `cellstep lab up`)"
        ) from None
    here = Path("/proc/self/ns/net").stat()
    if (here.st_dev, here.st_ino) == (wanted.st_dev, wanted.st_ino):
        return cloud
    if os.geteuid() != 0:
        raise UsageError(
            f"{cloud.config.name} lies in the network namespace {name}: run cellstep as root (or with sudo)"
        )
    ip = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if ip is None:
        raise UsageError("the command `ip` is missing: install iproute2")
    sys.stdout.flush()
    again = [ip, "netns", "exec", name, sys.executable, "-P", "-m", "cellstep", *sys.argv[1:]]
    return os.execv(ip, again)  # noqa: S606 - no shell is wanted
