"""cellstep on a host of a lab, as an operator would have it there: its packages, a cloud's folder, keys and secrets."""

import subprocess
from pathlib import Path

import paramiko

from lab.handle import ssh_command
from lab.state import LabFolder
from tests.support.labs import TestLab

ROOT = Path(__file__).parents[2]
CLOUD = "/opt/cloud"
OURS = ("cellstep", "tasks", "plugins", "reports", "lab")
# What only developers use, and the largest of it.
LEFT_OUT = (
    "playwright",
    "mypy",
    "mypyc",
    "pip",
    "setuptools",
    "hypothesis",
    "distributed",
    "ruff",
    "__pycache__",
    "tests",
)


def install(lab: TestLab, host: str) -> str:
    """Put it there; the lab's hosts have the Python that Debian has.

    Returns:
        What calls cellstep there.
    """
    site = Path(paramiko.__file__).parents[1]
    left_out = [f"--exclude={name}" for name in LEFT_OUT]
    there = "/usr/local/lib/python3.11/dist-packages"
    _copy(lab, host, ["-C", str(site), *left_out, "."], there)
    _copy(lab, host, ["-C", str(ROOT), "--exclude=__pycache__", *OURS], there)
    folder = LabFolder(lab.name).path
    _copy(lab, host, ["-C", "/", str(folder / "ssh").lstrip("/"), str(folder / "secrets").lstrip("/")], "/")
    _copy(lab, host, ["-C", str(lab.cloud), "--exclude=./state", "--exclude=./out", "."], CLOUD)
    lab.on(host, f"sed -i 's/^\\( *network_namespace:\\).*/\\1 null/' {CLOUD}/cloud.yaml")
    return "python3 -P -m cellstep"


def _copy(lab: TestLab, host: str, what: list[str], where: str) -> None:
    spec = lab.spec
    with subprocess.Popen(["tar", "-cf", "-", *what], stdout=subprocess.PIPE) as packing:
        ssh = [*ssh_command(spec, LabFolder(lab.name).path), host, f"mkdir -p {where} && tar -xf - -C {where}"]
        subprocess.run(ssh, stdin=packing.stdout, check=True, timeout=300)
    assert packing.returncode == 0
