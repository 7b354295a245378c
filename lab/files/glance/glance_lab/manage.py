"""glance-manage: db_sync, db_version."""

import importlib.util
import sys

from glance_lab import release
from glance_lab.settings import config
from standin import sync

USAGE = "usage: glance-manage [--config-file FILE] db_sync | db_version | --version"


def main(arguments=None):
    path, words = sync.config_file(sys.argv[1:] if arguments is None else arguments)
    path = path or "/etc/glance/glance-registry.conf"
    if words == ["db_sync"]:
        known = importlib.util.find_spec("glance_lab.migrations")  # Grizzly has none to go on with
        migrations = importlib.import_module("glance_lab.migrations") if known else None
        return sync.ended("glance", sync.sync, config(path), release, migrations)
    if words == ["db_version"]:
        return sync.ended("glance", sync.print_version, config(path), release)
    if words in (["version"], ["--version"]):
        print(release.VERSION)
        return 0
    print(USAGE, file=sys.stderr)
    return 2
