"""ceilometer-dbsync."""

import importlib
import importlib.util
import sys

from ceilometer_lab import release
from ceilometer_lab.settings import KEYS
from standin import sync
from standin.config import Config


def main(arguments=None):
    path, words = sync.config_file(sys.argv[1:] if arguments is None else arguments)
    if words == ["--version"]:
        print(release.VERSION)
        return 0
    if words:
        print("usage: ceilometer-dbsync [--config-file FILE] | --version", file=sys.stderr)
        return 2
    known = importlib.util.find_spec("ceilometer_lab.migrations")  # Grizzly has none to go on with
    migrations = importlib.import_module("ceilometer_lab.migrations") if known else None
    return sync.ended("ceilometer", sync.sync, Config(release, path, KEYS), release, migrations)
