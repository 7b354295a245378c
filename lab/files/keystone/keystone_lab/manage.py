"""keystone-manage: db_sync; of Havana db_version and token_flush, too."""

import sys

from keystone_lab import config, ec2, release
from standin import db, sync

USAGE = "usage: keystone-manage [--config-file FILE] [db_sync|{}]"
HAVANAS = ("db_version", "token_flush")


def flush(settings):
    """One statement, as Havana's is."""
    db.execute(db.connect(settings), "DELETE FROM token WHERE expires < UTC_TIMESTAMP()")


def main(arguments=None):
    path, words = sync.config_file(sys.argv[1:] if arguments is None else arguments)
    havana = release.NAME != "grizzly"
    if words == ["db_sync"]:
        migrations = None
        if havana:
            from keystone_lab import migrations
        return sync.ended("keystone", sync.sync, config.read(path), release, migrations, {33: ec2.move})
    if words == ["db_version"] and havana:
        return sync.ended("keystone", sync.print_version, config.read(path), release)
    if words == ["token_flush"] and havana:
        return sync.ended("keystone", flush, config.read(path))
    if words == ["--version"]:
        print(release.VERSION)
        return 0
    print(USAGE.format("|".join(HAVANAS) if havana else "..."), file=sys.stderr)
    return 2
