"""cinder-manage: db sync, db version, service list."""

import importlib.util
import sys

from cinder_lab import release
from standin import sync
from standin.config import Config

USAGE = "usage: cinder-manage [--config-file FILE] db sync | db version | service list | version"


def main(arguments=None):
    path, words = sync.config_file(sys.argv[1:] if arguments is None else arguments)
    if words == ["db", "sync"]:
        known = importlib.util.find_spec("cinder_lab.migrations")  # Grizzly has none to go on with
        migrations = importlib.import_module("cinder_lab.migrations") if known else None
        return sync.ended("cinder", sync.sync, Config(release, path), release, migrations)
    if words == ["db", "version"]:
        return sync.ended("cinder", sync.print_version, Config(release, path), release)
    if words == ["service", "list"]:
        return sync.ended("cinder", sync.service_list, Config(release, path))
    if words in (["version"], ["--version"]):
        print(release.VERSION)
        return 0
    print(USAGE, file=sys.stderr)
    return 2
