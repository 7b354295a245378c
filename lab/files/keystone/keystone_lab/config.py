"""Keystone's settings."""

from keystone_lab import release
from standin.config import Config

KEYS = {
    "grizzly": (("sql", "connection"),),
    "havana": (("database", "connection"), ("sql", "connection")),
}


def read(path=None):
    return Config(release, path, KEYS)
