"""This machine's own apt sources, as far as they carry the hosts' Debian release."""

from pathlib import Path

from lab.errors import LabError

_APT = Path("/etc/apt")


def apt_sources(suite: str, apt: Path = _APT) -> str:
    """One-line sources for a suite, its updates and its security fixes, from what this machine uses.

    Other sources of the machine (vendors' repositories) are left out: the hosts' packages are Debian's.

    Args:
        suite: Debian code name.
        apt: folder to read sources.list and sources.list.d from.

    Raises:
        LabError: the machine has no source of that suite.
    """
    wanted = {suite, f"{suite}-updates", f"{suite}-security", f"{suite}/updates"}
    lines: list[str] = []
    for file in [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*.list"))]:
        if file.exists():
            lines += [line for line in _one_line(file.read_text(encoding="utf-8")) if set(line.split()) & wanted]
    for file in sorted((apt / "sources.list.d").glob("*.sources")):
        for stanza in _stanzas(file.read_text(encoding="utf-8")):
            lines += _from_stanza(stanza, wanted)
    if not any(suite in line.split() for line in lines):
        raise LabError(
            f"no apt source of this machine carries Debian {suite}, which the lab's hosts are made of: "
            f"add one to {apt}/sources.list.d and call again"
        )
    return "\n".join(dict.fromkeys(lines)) + "\n"


def _one_line(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip().startswith(("deb ", "deb\t"))]


def _stanzas(text: str) -> list[dict[str, str]]:
    """The paragraphs of a deb822 file, keys in lower case; comments and folded lines as deb822(5) has them."""
    stanzas: list[dict[str, str]] = [{}]
    key = ""
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        if not line.strip():
            stanzas.append({})
        elif line[0] in " \t":
            stanzas[-1][key] = f"{stanzas[-1].get(key, '')}\n{line.strip()}"
        else:
            key, _, value = line.partition(":")
            key = key.strip().lower()
            stanzas[-1][key] = value.strip()
    return [stanza for stanza in stanzas if stanza]


def _from_stanza(stanza: dict[str, str], wanted: set[str]) -> list[str]:
    if stanza.get("enabled", "yes").lower() == "no" or "deb" not in stanza.get("types", "").split():
        return []
    signed_by = stanza.get("signed-by", "")
    option = f" [signed-by={signed_by}]" if signed_by.startswith("/") and "\n" not in signed_by else ""
    return [
        f"deb{option} {uri} {suite} {' '.join(stanza.get('components', '').split())}".rstrip()
        for uri in stanza.get("uris", "").split()
        for suite in stanza.get("suites", "").split()
        if suite in wanted
    ]
