"""Options that several commands share."""

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
