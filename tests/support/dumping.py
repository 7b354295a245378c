"""A database node for tests of backups: a real MariaDB, and the real clients of the node's root."""

import shutil

from plugins.connections.mysql import Mysql
from tasks import backup
from tasks.binding import Binding, bind
from tests.support.scripted import Bash, task_on

CLOUD = r"""
DROP DATABASE IF EXISTS nova; DROP DATABASE IF EXISTS cinder;
CREATE DATABASE nova CHARACTER SET utf8; CREATE DATABASE cinder CHARACTER SET utf8;
CREATE TABLE nova.migrate_version (repository_id varchar(250) PRIMARY KEY, repository_path text, version int);
INSERT INTO nova.migrate_version VALUES ('nova', '/usr/lib', 161), ('cern', '/opt', 2);
CREATE TABLE nova.instances (id int AUTO_INCREMENT PRIMARY KEY, name varchar(64), memory float);
INSERT INTO nova.instances (name, memory) VALUES ('one\n-- no comment', 0.1), ('zwei ü', 1e30);
CREATE TABLE nova.cern_network (id int, netcluster varchar(9)); INSERT INTO nova.cern_network VALUES (1, 'a'), (1, 'a');
CREATE TABLE cinder.volumes (id int PRIMARY KEY); INSERT INTO cinder.volumes VALUES (1);
"""


def files(folder):
    """The names of the files in a folder."""
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


class Node(Bash):
    """A database node: the real clients of its root, a folder for dumps, and our copies of them.

    Args:
        folder: for its programs and both sides' dumps.
        server: a running `tests.support.mariadb.Server`.
    """

    def __init__(self, folder, server):
        super().__init__(folder / "bin")
        self.server, self.there, self.here = server, folder / "node's dumps" / "r1", folder / "here"
        self.mysql = Mysql("scratch", "root", "", "127.0.0.1", server.port)
        for name in ("mysql", "mysqldump"):
            self.client(name)

    def client(self, name, before="", after=""):
        """Put a client on the PATH, with bash before it, and after it in its pipe."""
        path = shutil.which(name, path="/usr/bin:/bin")
        self.program(name, f'{before}\n{path} --no-defaults --socket={self.server.socket} -uroot "$@" {after}')

    def task(self, **more):
        """A task on this node."""
        return task_on(self, database=self.mysql, **more)

    def bound(self, **more):
        """A task of the run r1 on this node; `more` is its binding's."""
        task = self.task()
        bind(task, Binding(**{"run": "r1", "step": "Back up", "token": 1} | more))
        return task

    def back_up(self, *others, task=None, **more):
        """Back up Nova's database and others; what it said."""
        arguments = {"database": "nova", "others": others, "folder": str(self.there), "here": self.here, **more}
        return backup.back_up(task or self.task(), **{"repositories": {"nova": "nova"}} | arguments).result

    def files(self):
        """The names of the files in the node's folder for dumps."""
        return files(self.there)
