"""Where Glance's settings are: a file for each service, and the address of the database in the same place in both."""

from glance_lab import release
from standin.config import Config

KEYS = {name: (("DEFAULT", "sql_connection"),) for name in ("grizzly", "havana")}


def config(path):
    return Config(release, path, KEYS)
