"""Passwords that a command prints, masked before its output is kept or shown."""

import re

_IN_ADDRESS = re.compile(r"(://[^/\s:@]*:)[^@\s]+@")
_NAMED = re.compile(r"(?i)((?:pass(?:word|wd|phrase)?|secret|token)[\"']?\s*[=:|]\s*)([^\s|]+)")


def masked(text: str) -> str:
    """The text with passwords as stars: in addresses (`://user:...@`) and after names such as `adminPass |`."""
    return _NAMED.sub(r"\1***", _IN_ADDRESS.sub(r"\1***@", text))
