"""The code blocks of a page of docs/, as its readers copy them."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of one language, in order."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def customise(folder: Path) -> None:
    """Put the example of docs/customising.md into a cloud's folder, word for word."""
    (steps,), (network,) = blocks("customising.md", "yaml"), blocks("customising.md", "python")
    cloud = folder / "cloud.yaml"
    text = cloud.read_text(encoding="utf-8")
    cloud.write_text("".join(line for line in text.splitlines(True) if not line.startswith("steps:")) + steps)
    (folder / "site").mkdir()
    (folder / "site" / "network.py").write_text(network)
