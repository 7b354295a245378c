"""A cloud's folder on disk: the lab's shape, with every node at a port of loopback where nobody listens."""

import shutil
from pathlib import Path

from cellstep.cloud.load import load_cloud

ROOT = Path(__file__).parents[2]


def lab_folder(folder: Path) -> Path:
    """Make it, and return it."""
    shutil.copytree(ROOT / "inventory" / "lab", folder, ignore=shutil.ignore_patterns("out", "state"))
    (folder / "password").write_text("secret-of-this-test\n", encoding="utf-8")
    (folder / "password").chmod(0o600)
    text = (folder / "cloud.yaml").read_text(encoding="utf-8")
    text = text.replace("network_namespace: cellstep-lab", "network_namespace: null")
    text = text.replace("/var/lib/cellstep/labs/lab/secrets/mysql", "password")
    text = text.replace("/var/lib/cellstep/labs/lab/ssh/known_hosts", "known_hosts")
    text = "\n".join(line for line in text.splitlines() if "ssh/id_ed25519" not in line)
    (folder / "cloud.yaml").write_text(text + "\n", encoding="utf-8")
    names = [node.name for node in load_cloud(folder).nodes]
    with (folder / "inventory.yaml").open("a", encoding="utf-8") as file:
        file.write("\nhosts:\n")
        file.writelines(f"  {name}: {{address: 127.0.1.{n}, port: 9}}\n" for n, name in enumerate(names, 1))
    return folder
