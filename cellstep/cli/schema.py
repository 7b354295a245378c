"""`cellstep schema`: a database's schema described, and compared."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from cellstep import schemas
from cellstep.cli.options import CloudOption, JsonOption, reach_cloud
from cellstep.cli.output import console, print_json
from cellstep.errors import UsageError
from tasks.differences import compare
from tasks.schemas import Schema

app = typer.Typer(help="Describe the schema of a database, and compare schemas.", no_args_is_help=True)
COLOURS = {"+": "green", "-": "red", "!": "yellow"}


@app.command()
def snapshot(
    place: Annotated[str, typer.Argument(help="NODE/DATABASE of the cloud; with --socket the database's name.")],
    cloud: CloudOption = None,
    socket: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Ask this machine's server, with the `mysql` client.")
    ] = None,
) -> None:
    """Print the description of a live database's tables, columns and keys; changes nothing."""
    schema = schemas.of_socket(socket, place) if socket else schemas.of_place(reach_cloud(cloud), place)
    if not schema.tables:
        raise UsageError(f"{place} has no tables: is it the right database?")
    typer.echo("# The tables of a database, as `cellstep schema snapshot` describes them.\n")
    typer.echo(schema, nl=False)


@app.command()
def diff(
    one: Annotated[str, typer.Argument(help="NODE/DATABASE, a file that snapshot wrote, or a reference: nova-161.")],
    other: Annotated[str, typer.Argument(help="The same; what it has besides is shown with +.")],
    cloud: CloudOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what differs between two schemas; changes nothing.

    `-` only the first has it, `+` only the second, `!` each has it otherwise.

    Exit code 0 when they are the same, 3 when not.
    """
    found = compare(*(_schema(name, cloud) for name in (one, other)))
    if as_json:
        print_json(
            [{name: getattr(each, name) for name in ("kind", "table", "name", "one", "other")} for each in found]
        )
    else:
        for each in found:
            console.print(Text(str(each), style=COLOURS[str(each)[0]]), soft_wrap=True)
        if not found:
            console.print("no differences")
    raise typer.Exit(3 if found else 0)


def _schema(name: str, cloud: Path | None) -> Schema:
    """A schema by whatever names one: a file goes before a place, and a reference before both."""
    if schemas.is_reference(name):
        return schemas.of_reference(name)
    if Path(name).is_file():
        return schemas.of_file(Path(name))
    if "/" not in name or name.startswith(("/", ".")):
        known = ", ".join(schemas.references())
        raise UsageError(f"“{name}” is no file, no NODE/DATABASE and no reference; the references are: {known}")
    return schemas.of_place(reach_cloud(cloud), name)
