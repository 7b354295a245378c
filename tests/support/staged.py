"""What tests of staging need: a dump of a real database with its manifest, and the stand-in nova-manage of the lab."""

import gzip
import hashlib
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from lab.content import schema
from tasks import contents
from tasks.manifest import Entry, Manifest, Server
from tasks.restore import MYSQLDUMP
from tests.support import mariadb
from tests.support.scripted import Bash

FILES = Path(__file__).parents[2] / "lab" / "files" / "nova"
NODE = "c01-n01"  # as `scripted.task_on` names its host
HAVANA = 216

SMALL = r"""
DROP DATABASE IF EXISTS nova;
CREATE DATABASE nova CHARACTER SET utf8;
USE nova;
CREATE TABLE instances (id int AUTO_INCREMENT PRIMARY KEY, name varchar(64), memory float);
CREATE TABLE migrate_version (repository_id varchar(64) PRIMARY KEY, repository_path text, version int);
CREATE TABLE `odd ``name` (raw varbinary(16), word varchar(20) CHARACTER SET latin1, at timestamp NULL);
INSERT INTO instances (name, memory) VALUES ('one\n-- no comment', 0.1), ('zwei ü', 1e30), ('', NULL), (NULL, NULL);
INSERT INTO migrate_version VALUES ('nova', '/usr/lib/it\'s (here)', 161), ('other', 'x', 7);
INSERT INTO `odd ``name` VALUES (x'00ff0a27', 'ü', '2014-01-30 09:00:00'), (NULL, NULL, NULL), (NULL, NULL, NULL);
CREATE TRIGGER t BEFORE INSERT ON instances FOR EACH ROW SET NEW.name = UPPER(NEW.name);
CREATE PROCEDURE p() SELECT 1;
CREATE EVENT e ON SCHEDULE EVERY 1 SECOND DO DELETE FROM instances;
CREATE VIEW v AS SELECT name FROM instances;
"""


def nova_161() -> str:
    """SQL that makes nova's whole schema at 161."""
    return f"DROP DATABASE IF EXISTS nova; CREATE DATABASE nova CHARACTER SET utf8; USE nova; {schema.nova()}"


def client(server: mariadb.Server, name: str) -> str:
    """The `mysql` or `mysqldump` of this machine, for one server alone."""
    path = shutil.which(name, path="/usr/bin:/bin")
    return f"{path} --no-defaults --socket={server.socket} -uroot"


def dump(server: mariadb.Server, path: Path) -> None:
    """Dump nova's database into a compressed file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    command = MYSQLDUMP.replace("mysqldump", client(server, "mysqldump"), 1)
    sql = subprocess.run([*command.split(), "nova"], check=True, capture_output=True, timeout=30).stdout
    path.write_bytes(gzip.compress(sql, mtime=0))


def digest(path: Path) -> str:
    """A file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def manifest(server: mariadb.Server, path: Path, *, node: str = NODE) -> Manifest:
    """What stands beside a dump of the server's database nova as it is now."""
    script = f"ask() {{ {client(server, 'mysql')} -N -B; }}\n{contents.SCRIPT}\ncontents nova"
    said = subprocess.run(["bash", "-c", script], check=True, capture_output=True, text=True, timeout=30).stdout
    tables = {name: Entry(table.rows, table.checksum, steady=True) for name, table in contents.parse(said).items()}
    rows = server.execute("SELECT version FROM nova.migrate_version WHERE repository_id='nova'")
    told = server.execute("SELECT @@hostname AS h, @@datadir AS d, VERSION() AS v")[0]
    origin = Server("", told["h"], told["d"], server.port, told["v"], 1)
    return Manifest(
        run="20140130-090000",
        node=node,
        database="nova",
        repository_id="nova",
        head=rows[0]["version"],
        server=origin,
        replica_of="",
        origin=origin,
        settings={"sql_mode": "", "character_set_server": "utf8"},
        tables=tables,
        file=path.name,
        size=path.stat().st_size,
        sha256=digest(path),
        began="2014-01-30T09:00:00Z",
        ended="2014-01-30T09:00:05Z",
    )


def resigned(old: Manifest, path: Path) -> Manifest:
    """The manifest of a dump that was changed: it says the same of what is in it."""
    return replace(old, sha256=digest(path), size=path.stat().st_size)


def nova_manage(node: Bash, folder: Path) -> None:
    """Put Havana's stand-in nova-manage on a node's PATH."""
    package = folder / "havana" / "nova_lab"
    if not package.exists():
        shutil.copytree(FILES / "nova_lab", package)
        shutil.copy(FILES / "release_havana.py", package / "release.py")
    code = "import sys; from nova_lab.manage import main; sys.exit(main(sys.argv[1:]))"
    node.program("nova-manage", f"PYTHONPATH={package.parent} exec {sys.executable} -c '{code}' \"$@\"")


def empty_servers(node: Bash, folder: Path) -> None:
    """Let mariadb-install-db copy system tables that were made once: it takes a second of its own."""
    made = folder / "system-tables"
    if not made.exists():
        install = shutil.which("mariadb-install-db")
        options = "--no-defaults --user=root --auth-root-authentication-method=normal --skip-test-db"
        subprocess.run([str(install), *options.split(), f"--datadir={made}"], check=True, capture_output=True)
    node.program("mariadb-install-db", f'for o; do case "$o" in --datadir=*) cp -r {made} "${{o#*=}}";; esac; done')
