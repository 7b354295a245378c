"""`cellstep config`: what may stand in a cloud's files, and whether it is right."""

import enum
import json
from typing import Annotated

import typer
from pydantic import BaseModel

from cellstep.cli.options import CloudOption, open_cloud
from cellstep.cloud.model import CloudConfig
from cellstep.stages import check_steps
from plugins.inventory.model import InventoryFile

app = typer.Typer(help="Look at cloud.yaml and inventory.yaml: their schema, and their faults.", no_args_is_help=True)

_MODELS: dict[str, type[BaseModel]] = {"cloud.yaml": CloudConfig, "inventory.yaml": InventoryFile}


class SchemaOf(enum.StrEnum):
    """The files that have a schema."""

    CLOUD = "cloud.yaml"
    INVENTORY = "inventory.yaml"


@app.command()
def schema(
    file: Annotated[
        SchemaOf | None, typer.Argument(help="One of the two files; both, by name, if left out.", show_default=False)
    ] = None,
) -> None:
    """Print the JSON Schema of cloud.yaml and inventory.yaml, for editors and other programs."""
    schemas = {
        name: {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema()}
        for name, model in _MODELS.items()
    }
    typer.echo(json.dumps(schemas[file] if file else schemas, indent=2))


@app.command()
def check(cloud: CloudOption = None) -> None:
    """Say ok, or list every fault of the cloud's files, one a line: file, line, what is wrong, what to write."""
    loaded = open_cloud(cloud)
    check_steps(loaded)
    typer.echo(
        f"{loaded.directory}: ok, {len(loaded.nodes):,} nodes in {len(loaded.cells) + 1} cells, "
        f"release {loaded.release.name}"
    )
