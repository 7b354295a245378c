"""`cellstep restore`: a dump put to the proof beside the cloud, or a database put back from it for real."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.text import Text

from cellstep import restoring, runs
from cellstep.cli.asking import ask, typed
from cellstep.cli.options import CloudOption, reach_cloud
from cellstep.cli.output import console
from cellstep.cloud.load import Cloud
from cellstep.engine.dispatch import Dispatcher
from cellstep.errors import UsageError
from cellstep.folding import names
from cellstep.rehearsals import took
from cellstep.restoring import Kept, Restorer, Standing, Verdict


def restore(
    node: Annotated[str, typer.Argument(metavar="NODE", help="The database's node; with --verify also `all`.")],
    cloud: CloudOption = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Restore into a scratch server on the staging node, and compare.")
    ] = False,
    apply: Annotated[
        bool, typer.Option("--apply", help="Put the database back: what was written since the dump is lost.")
    ] = False,
    run: Annotated[
        str, typer.Option("--from", metavar="RUN", help="The dump of this run; the newest if left out.")
    ] = "",
    component: Annotated[str, typer.Option("--component", help="Whose database.")] = "nova",
    accept: Annotated[
        str, typer.Option("--accept", metavar="NODE", help="Do not ask; the node's name once more, for --apply.")
    ] = "",
) -> None:
    """Prove dumps by restoring them beside the cloud (--verify), or put a database back from one (--apply).

    --apply takes the newest dump of a schema version that the release starts from, drops the database, loads the dump,
    and compares the result. It is refused for a dump that was not proven, or is another server's, and while services of
    the component run. It asks twice.

    Exit code 3 where a dump is not what its manifest says, 4 where the database was not put back.
    """
    if verify == apply:
        raise UsageError("say --verify, or --apply")
    if apply and node == restoring.EVERYWHERE:
        raise UsageError("one database is put back at a time: name its node")
    if accept and accept != node:
        raise UsageError(f"--accept {accept} is not {node}: nothing was done")
    loaded = reach_cloud(cloud)
    lock, journal = runs.lock_of(loaded), runs.open_journal(loaded)
    found = restoring.find(loaded, journal, component, node, run, before=apply)
    with lock.held(journal, f"restore {node} {'--apply' if apply else '--verify'}") as holder, Dispatcher(
        loaded
    ) as dispatcher:  # fmt: skip
        restorer = Restorer(loaded, journal, dispatcher, holder.token, lambda line: console.print(Text(line)))
        if apply:
            _apply(restorer, component, found[0], accept)
            return
        verdicts = _verify(restorer, component, found)
    raise typer.Exit(0 if all(verdict.ok for verdict in verdicts) else 3)


def _verify(restorer: Restorer, component: str, found: Sequence[Kept]) -> list[Verdict]:
    on = restorer.cloud.config.staging.on or "its own node"
    for kept in found:
        console.print(Text(f"restoring {kept}, on {on}"), soft_wrap=True)
    verdicts = restorer.verify(component, found)
    for verdict in verdicts:
        _tell(verdict)
    return verdicts


def _tell(verdict: Verdict) -> None:
    place, proof = verdict.kept.place, verdict.proof
    if proof is None:
        console.print(Text(f"{place}: not proven: {verdict.why}", style="red"), soft_wrap=True)
    elif proof.ok:
        said = f"{place}: proven: {proof.tables} tables, {proof.rows:,} rows as dumped; loaded in {took(proof.seconds)}"
        console.print(Text(said, style="green"), soft_wrap=True)
    else:
        console.print(Text(f"{place}: not proven:", style="red"))
        for line in proof.differences:
            console.print(Text(f"  {line}", style="red"), soft_wrap=True)
    if proof and proof.unsteady:
        tables = ", ".join(proof.unsteady)
        console.print(
            Text(f"  written to while it was dumped, and not compared: {tables}", style="yellow"), soft_wrap=True
        )


def _apply(restorer: Restorer, component: str, kept: Kept, accept: str) -> None:
    standing = restorer.refuse(component, kept)
    _warn(restorer.cloud, kept, standing)
    if not accept:
        _ask(kept)
    said = restorer.apply(component, kept)
    console.print(Text(f"{kept.place}: {said}", style="green"), soft_wrap=True)


def _warn(cloud: Cloud, kept: Kept, standing: Standing) -> None:
    console.print(Text(f"The database {kept.place} is dropped, and comes back as the dump has it: {kept}."))
    console.print(Text("What was written to it since is lost.", style="bold red"))
    for line in standing.unfinished:
        console.print(Text(line, style="yellow"))
    if standing.silent:
        silent = names(cloud, standing.silent)
        console.print(Text(f"did not tell whether a service runs there: {silent}", style="yellow"))


def _ask(kept: Kept) -> None:
    """Twice: whether at all, and for the node's name."""
    if not sys.stdin.isatty():
        raise UsageError(f"there is no terminal to ask on: say --accept {kept.place.node.name}")
    ask("Go on?")
    typed(f"Its node's name, to drop {kept.place.database} there", kept.place.node.name)
