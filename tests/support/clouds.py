"""Clouds on disk for tests: a sound one, and changes to it."""

from pathlib import Path

CLOUD = """\
name: test
release: grizzly-havana
repository: {name: havana, promote: {on: top-ctl01, command: promote}}
databases: {password_file: secret}
"""
INVENTORY = """\
top:
  data_centre: geneva
  roles: {controller: "top-ctl[01-02]", database: top-db01}
cells:
  cell01:
    data_centre: geneva
    roles: {controller: c01-ctl01, database: c01-ctl01, compute: "c01-n[01-10]"}
  cell02:
    data_centre: budapest
    roles: {controller: c02-ctl01, compute: "c02-n[1-10]"}
"""


def write(directory: Path, cloud: str | bytes | None = CLOUD, inventory: str | bytes | None = INVENTORY) -> Path:
    """Write the two files into a folder; None leaves one out."""
    for name, text in (("cloud.yaml", cloud), ("inventory.yaml", inventory)):
        if text is not None:
            (directory / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return directory
