"""`cellstep keystone`: EC2 keys kept in step while two releases run, and the purge of expired tokens."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.text import Text

from cellstep.cli.options import CloudOption, JsonOption, reach_cloud
from cellstep.cli.output import console, errors, print_json
from cellstep.engine.dispatch import Dispatcher
from cellstep.errors import UsageError
from cellstep.keystone import Keystone, NotDone, summary, written
from plugins.runners.bounded import draining_on_signals
from tasks.keystone.ec2 import Standing
from tasks.keystone.probe import OK, as_rows
from tasks.keystone.tokens import Tally

SHOWN = 20
"""Keys that are listed; --json has all."""

LOG_EVERY_S = 60.0
"""Between two lines of a purge whose output is no terminal."""

app = typer.Typer(help="Keystone's EC2 keys, tokens and servers, around its upgrade.", no_args_is_help=True)


@app.command("sync-ec2")
def sync_ec2(
    cloud: CloudOption = None,
    apply: Annotated[bool, typer.Option("--apply", help="Copy what is missing; else it is only shown.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on until Ctrl-C; one line when something changed.")
    ] = False,
    every: Annotated[float, typer.Option(metavar="SECONDS", min=0.1, help="With --watch: between two looks.")] = 10,
    copy_back: Annotated[
        list[str] | None,
        typer.Option("--copy-back", metavar="KEY", help="A key deleted from one table: copy it there again."),
    ] = None,
    delete: Annotated[
        list[str] | None, typer.Option("--delete", metavar="KEY", help="Such a key: delete it from the other, too.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Keep EC2 keys in step while Grizzly and Havana run on one database: `ec2_credential` and `credential`.

    A key that one table lacks is copied from the other, both ways. Nothing is ever written over: keys that differ are
    listed, and so are those that were deleted from one table alone.

    Exit code 0 when the tables are in step, 3 when not.
    """
    if (copy_back or delete) and (watch or not apply):
        raise UsageError("--copy-back and --delete need --apply, without --watch")
    if watch and as_json:
        raise UsageError("--watch prints lines; --json goes without it")
    loaded = reach_cloud(cloud)
    stopping = threading.Event()
    with Dispatcher(loaded, stopping=stopping) as dispatcher:
        keystone = Keystone(loaded, dispatcher)
        if watch:
            with draining_on_signals(stopping):
                standing = keystone.watch(every, apply=apply, tell=_tell)
        elif apply:
            standing = keystone.bring_in_step(copy_back=copy_back or (), delete=delete or ())
        else:
            standing = keystone.look()
    if as_json:
        values = {name: value for name, value in asdict(standing).items() if name != "remembered"}
        print_json({"good": standing.good, **values})
    elif not watch:
        _print(standing)
    raise typer.Exit(0 if standing.good else 3)


def _tell(line: str, standing: Standing | None) -> None:
    """A line of the watch, with what is in the way below it."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    done = written(standing) if standing else ""
    console.print(Text(f"{now}  {'; '.join(filter(None, (done, line)))}"), soft_wrap=True)
    if standing:
        _print_findings(standing)


def _print(standing: Standing) -> None:
    console.print(Text("; ".join(filter(None, (written(standing), summary(standing))))), soft_wrap=True)
    for table, keys in standing.lacking.items():
        for key in keys[:SHOWN]:
            console.print(Text(f"  to be copied to {table}: {_plain(key)}"), soft_wrap=True)
        if len(keys) > SHOWN:
            console.print(f"  and {len(keys) - SHOWN:,} more", style="dim")
    _print_findings(standing)


def _print_findings(standing: Standing) -> None:
    for finding in standing.findings[:SHOWN]:
        user = f" of user {finding.user}" if finding.user else ""
        line = Text.assemble((f"  {finding.kind}", "red"), f"  {_plain(finding.access)}{_plain(user)}: {finding.what}")
        console.print(line, soft_wrap=True)
    if len(standing.findings) > SHOWN:
        console.print(f"  and {len(standing.findings) - SHOWN:,} more; --json has all", style="dim")


@app.command("probe")
def probe(cloud: CloudOption = None, as_json: JsonOption = False) -> None:
    """See whose tokens which server takes: a mixed fleet shows here first.

    Each server is asked for a token with the environment of the check-out tests, and each server of the same cell is
    asked what it says of it. Nothing else is changed.

    Exit code 0 when every server takes every token of its cell, 3 when not.
    """
    loaded = reach_cloud(cloud)
    with Dispatcher(loaded) as dispatcher:
        found, silent = Keystone(loaded, dispatcher).probe()
    rows = {cell: as_rows(matrix.plain()) for cell, matrix in found.items()}
    good = not silent and all(row["status"] == OK for each in rows.values() for row in each)
    if as_json:
        print_json({"good": good, "cells": rows, "silent": silent})
    else:
        for cell, each in rows.items():
            for row in each:
                who = f"{row['validator']} on {row['issuer']}'s" if row["validator"] else f"{row['issuer']} gives none"
                style = "green" if row["status"] == OK else "red"
                line = Text.assemble(f"{cell}  {who}: ", (row["status"], style), f"  {_plain(row['answer'])}".rstrip())
                console.print(line, soft_wrap=True)
        for cell, why in silent.items():
            console.print(Text(f"{cell}  not asked: {why}", style="red"), soft_wrap=True)
    raise typer.Exit(0 if good else 3)


def _plain(text: str) -> str:
    """A name that users choose, without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


@app.command("purge-tokens")
def purge_tokens(
    cloud: CloudOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    batch: Annotated[int, typer.Option(min=1, max=10_000, help="Tokens a transaction.")] = 1000,
    pause: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, max=60, help="Between two transactions, at least.")
    ] = 0.1,
) -> None:
    """Delete expired tokens, a few at a time: no valid token is locked, and the rest of the cloud goes on.

    The first Ctrl-C ends it after the batch that is under way; called again, it goes on with what is left.

    Exit code 0 when it came to the end, 3 when tokens were left because they were locked, 130 when interrupted.
    """
    loaded = reach_cloud(cloud)
    stopping, tally, stopped_by = threading.Event(), Tally(), list[int]()

    def on_signal(number: int) -> None:
        stopped_by.append(number)
        # Not printed: a print from a handler fails where it interrupts another one.
        os.write(2, b"waiting for the batch that is under way; once more to end at once\n")

    with Dispatcher(loaded, stopping=stopping) as dispatcher, draining_on_signals(stopping, on_signal):
        keystone = Keystone(loaded, dispatcher)
        try:
            with _progress(tally) as progress:
                if dry_run:
                    keystone.count_tokens(tally, progress)
                else:
                    keystone.purge_tokens(tally, progress, batch=batch, pause_s=pause)
        except NotDone:
            if not stopped_by:
                raise
        finally:
            _print_tally(tally, batch, pause, dry_run=dry_run)
    if stopped_by:
        raise typer.Exit(128 + stopped_by[0])
    raise typer.Exit(3 if tally.locked else 0)


@contextmanager
def _progress(tally: Tally) -> Iterator[Callable[[], None]]:
    """Show how far it is, on a terminal all the time, in a log once a minute."""
    told = time.monotonic()

    def line() -> str:
        of = f" of about {tally.about:,}" if tally.about > tally.seen else ""
        return f"{tally.seen:,}{of} tokens seen, {tally.expired:,} expired, {tally.deleted:,} deleted"

    def log() -> None:
        nonlocal told
        if time.monotonic() - told >= LOG_EVERY_S:
            told = time.monotonic()
            errors.print(line())

    if errors.is_terminal:
        with errors.status("asking the database ...") as status:
            yield lambda: status.update(line())
    else:
        yield log


def _print_tally(tally: Tally, batch: int, pause: float, *, dry_run: bool) -> None:
    if not tally.until:
        return
    some = "" if tally.whole else " so far"
    endless = f", {tally.endless:,} never expire" if tally.endless else ""
    seen = f"{tally.seen:,} tokens{some}: {tally.expired:,} expired before {tally.until} UTC{endless}"
    if dry_run:
        batches = -(-tally.expired // batch)
        takes = f"; a purge takes {batches:,} batches of {batch:,}, with {batches * pause:,.0f} s of pauses at least"
        console.print(f"{seen}{takes if batches else ''}", soft_wrap=True)
        return
    console.print(f"{seen}; {tally.deleted:,} deleted", soft_wrap=True)
    if tally.locked:
        console.print(
            f"{tally.locked:,} were left: another session kept some of them locked; call again", style="yellow"
        )
    elif not tally.whole:
        console.print("not all: call again, it goes on with what is left", style="yellow")
