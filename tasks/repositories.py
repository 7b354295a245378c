"""The release's repository on a node before it is promoted for all: a hold for the time of one stage.

Only the stage's own packages and the clients can come from it, so that nothing else is upgraded by whoever calls yum.
"""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from nornir.core.task import Result, Task

from tasks.errors import Refused
from tasks.holds import Hold, changed, skipped, unchanged
from tasks.platforms import lacking, platform_of
from tasks.puppet import has_repository
from tasks.shell import change, sh

FIRST_LINE = "# Placed by cellstep for the time of an upgrade's stage."


def _path(task: Task, repository: str) -> str:
    """The file.

    Raises:
        tasks.platforms.Lacking: the node's platform has no place for it.
    """
    file = platform_of(task).packages.repository_file
    if not file:
        raise lacking(task, "place for a repository's file")
    return file % repository


def _ours(task: Task, repository: str) -> bool:
    path = shlex.quote(_path(task, repository))
    return sh(task, f"[ -e {path} ] && head -n 1 {path} || :").stdout.strip() == FIRST_LINE


def text(repository: str, baseurl: str, packages: Sequence[str], *, gpgcheck: bool) -> str:
    """The file: a repository of which only these packages count."""
    lines = [
        FIRST_LINE,
        f"[{repository}]",
        f"name={repository}, for one stage",
        f"baseurl={baseurl}",
        "enabled=1",
        f"gpgcheck={int(gpgcheck)}",
        f"includepkgs={' '.join(sorted(packages))}",
    ]
    return "\n".join(lines) + "\n"


def read(task: Task, *, repository: str, baseurl: str, packages: Sequence[str], gpgcheck: bool) -> Result:
    """Prior state: {there: whether the node has the repository by itself}."""
    del baseurl, packages, gpgcheck
    return unchanged(task, {"there": has_repository(task, repository) and not _ours(task, repository)})


def place(
    task: Task, *, prior: Mapping[str, Any], repository: str, baseurl: str, packages: Sequence[str], gpgcheck: bool
) -> Result:
    """Give the node the repository, with the stage's packages and no others.

    Raises:
        Refused: yum does not list it afterwards.
    """
    if prior["there"]:
        return skipped(task, f"has the repository {repository} by itself")
    if not task.is_dry_run():
        # In one piece: a yum that reads it meanwhile sees none of it or all.
        name, body = shlex.quote(_path(task, repository)), text(repository, baseurl, packages, gpgcheck=gpgcheck)
        script = f"set -e; umask 022; printf '%s' {shlex.quote(body)} > {name}.new; mv {name}.new {name}"
        change(task, script, what=f"writing {_path(task, repository)}")
        change(task, platform_of(task).packages.refresh(repository), timeout=120)
        if not has_repository(task, repository):
            listed = platform_of(task).packages.repolist
            raise Refused(f"`{listed}` lists no {repository}, although {_path(task, repository)} is there; see why")
    return changed(task, f"has the repository {repository}, for {len(packages)} packages")


def lift(
    task: Task, *, prior: Mapping[str, Any], repository: str, baseurl: str, packages: Sequence[str], gpgcheck: bool
) -> Result:
    """Take our file away; one that is not ours stays."""
    del prior, baseurl, packages, gpgcheck
    if not _ours(task, repository):
        return skipped(task, "not there")
    if not task.is_dry_run():
        change(task, f"rm -f -- {shlex.quote(_path(task, repository))}", what=f"removing {_path(task, repository)}")
    return changed(task, f"the repository {repository} is gone again")


STAGE_REPOSITORY = Hold("repository", read, place, lift)
"""The release's repository, for the packages of one stage."""
