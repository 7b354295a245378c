"""The command `cellstep`: its groups, and how it ends."""

import sys

import typer

from cellstep import __version__
from cellstep.cli import lab as lab_commands
from cellstep.cli import preflight, prepare, quota, run, verify
from cellstep.cli.audit import app as audit_app
from cellstep.cli.backout import backout
from cellstep.cli.check import check
from cellstep.cli.config import app as config_app
from cellstep.cli.exec import exec_
from cellstep.cli.holds import abandon
from cellstep.cli.holds import app as holds_app
from cellstep.cli.inventory import inventory
from cellstep.cli.keystone import app as keystone_app
from cellstep.cli.lock import app as lock_app
from cellstep.cli.measure import measure
from cellstep.cli.output import reported
from cellstep.cli.reach import scheduler, worker
from cellstep.cli.report import report
from cellstep.cli.restore import restore
from cellstep.cli.schema import app as schema_app
from cellstep.cli.status import status
from cellstep.cli.watch import watch

app = typer.Typer(
    name="cellstep",
    help="In-place upgrades of OpenStack clouds: one checked step after another, and the reports that prove it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cellstep {__version__}")
        raise typer.Exit


@app.callback()
def cellstep(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Show the version."),
) -> None:
    """In-place upgrades of OpenStack clouds: one checked step after another, and the reports that prove it.

    A cloud is a folder with cloud.yaml and its inventory, named with --cloud or CELLSTEP_CLOUD. Begin with
    `cellstep plan nova`; `cellstep lab up` makes a small real cloud to try things on.
    """


UPGRADE, LOOK, REACH, TRY = "Upgrade", "Look", "Reach", "Try"
app.command(rich_help_panel=UPGRADE)(run.plan)
app.command(rich_help_panel=UPGRADE)(preflight.preflight)
app.command(rich_help_panel=UPGRADE)(check)
app.command(rich_help_panel=UPGRADE)(prepare.backup)
app.command(rich_help_panel=UPGRADE)(prepare.rehearse)
app.command(rich_help_panel=UPGRADE)(run.run)
app.command(rich_help_panel=UPGRADE)(run.resume)
app.command(rich_help_panel=UPGRADE)(backout)
app.command(rich_help_panel=UPGRADE)(restore)
app.command(rich_help_panel=UPGRADE)(status)
app.command(rich_help_panel=UPGRADE)(watch)
app.add_typer(holds_app, name="holds", rich_help_panel=UPGRADE)
app.command(rich_help_panel=UPGRADE)(abandon)
app.add_typer(lock_app, name="lock", rich_help_panel=UPGRADE)
app.command(rich_help_panel=UPGRADE)(verify.verify)
app.command(rich_help_panel=UPGRADE)(measure)
app.command(rich_help_panel=UPGRADE)(report)
app.add_typer(quota.app, name="quota", rich_help_panel=UPGRADE)
app.add_typer(keystone_app, name="keystone", rich_help_panel=UPGRADE)
app.command(rich_help_panel=LOOK)(inventory)
app.add_typer(audit_app, name="audit", rich_help_panel=LOOK)
app.add_typer(config_app, name="config", rich_help_panel=LOOK)
app.add_typer(schema_app, name="schema", rich_help_panel=LOOK)
app.command(name="exec", rich_help_panel=LOOK)(exec_)
app.command(rich_help_panel=REACH)(scheduler)
app.command(rich_help_panel=REACH)(worker)
app.add_typer(lab_commands.app, name="lab", rich_help_panel=TRY)


def main() -> None:
    """Run the command; every way to end has its exit code (see `cellstep run --help`)."""
    sys.exit(reported(_call))


def _call() -> int:
    app()  # ends by SystemExit
    return 0
