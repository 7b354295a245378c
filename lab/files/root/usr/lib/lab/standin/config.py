"""A component's settings, as far as the stand-ins read them."""

import configparser
import socket
from urllib.parse import parse_qs, unquote, urlsplit

# Where the database's address stands, best first: (section, key). Grizzly does not know [database] connection.
KEYS = {
    "grizzly": (("DEFAULT", "sql_connection"),),
    "havana": (("database", "connection"), ("DEFAULT", "sql_connection")),
}


class Config:
    """One file of settings.

    Args:
        release: the component's module `release`.
        path: the file; /etc/COMPONENT/COMPONENT.conf by default.
        keys: as KEYS, for a component which calls the address otherwise; None where there is no database to know.

    Raises SystemExit with a line that says what is missing.
    """

    def __init__(self, release, path=None, keys=KEYS):
        self.path = path or f"/etc/{release.COMPONENT}/{release.COMPONENT}.conf"
        self._parser = configparser.RawConfigParser(strict=False)
        try:
            with open(self.path, encoding="utf-8") as file:
                self._parser.read_file(file)
        except (OSError, configparser.Error) as error:
            raise SystemExit(f"{self.path}: {error}") from error
        self.host = self.get("host") or socket.gethostname()
        self.database = self._database(keys[release.NAME]) if keys else None
        self.rabbit = {
            "host": self.get("rabbit_host", "localhost"),
            "port": int(self.get("rabbit_port", 5672)),
            "username": self.get("rabbit_userid", "guest"),
            "password": self.get("rabbit_password", "guest"),
            "virtual_host": self.get("rabbit_virtual_host", "/"),
        }

    def _database(self, keys):
        found = [self.get(key, section=section) for section, key in keys]
        url = next(filter(None, found), None)
        if not url:
            section, key = keys[0]
            raise SystemExit(f"{self.path}: no address of the database: set {key} in [{section}]")
        parts = urlsplit(url)
        database = {
            "host": parts.hostname,
            "port": parts.port or 3306,
            "user": unquote(parts.username or ""),
            "password": unquote(parts.password or ""),
            "database": unquote(parts.path.strip("/")),
        }
        for path in parse_qs(parts.query).get("unix_socket", ()):
            database["unix_socket"] = path
        return database

    def get(self, key, default=None, section="DEFAULT"):
        if section == "DEFAULT":
            return self._parser.defaults().get(key, default)
        return self._parser.get(section, key, fallback=default) if self._parser.has_section(section) else default
