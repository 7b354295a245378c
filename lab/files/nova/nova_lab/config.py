"""nova.conf, as far as the stand-ins read it. Grizzly knows only [DEFAULT] sql_connection; Havana both names."""

import configparser
import os
import socket
from urllib.parse import parse_qs, unquote, urlsplit

from nova_lab import release

PATH = os.environ.get("NOVA_CONF", "/etc/nova/nova.conf")


class Config:
    def __init__(self, path=PATH):
        parser = configparser.RawConfigParser(strict=False)
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
        self._parser = parser
        self.host = self.get("host") or socket.gethostname()
        url = self.get("sql_connection")
        if release.NAME != "grizzly":
            url = self.get("connection", section="database") or url
        if not url:
            raise SystemExit(f"{path}: no sql_connection")
        parts = urlsplit(url)
        self.database = {
            "host": parts.hostname,
            "port": parts.port or 3306,
            "user": unquote(parts.username or ""),
            "password": unquote(parts.password or ""),
            "database": unquote(parts.path.strip("/")),
        }
        for path in parse_qs(parts.query).get("unix_socket", ()):
            self.database["unix_socket"] = path
        self.rabbit = {
            "host": self.get("rabbit_host", "localhost"),
            "port": int(self.get("rabbit_port", 5672)),
            "username": self.get("rabbit_userid", "guest"),
            "password": self.get("rabbit_password", "guest"),
            "virtual_host": self.get("rabbit_virtual_host", "/"),
        }
        self.cell_name = self.get("name", "nova", section="cells")
        self.is_top = self.get("compute_api_class", "").endswith("ComputeCellsAPI") or (
            self.get("cell_type", section="cells") == "api"
        )

    def get(self, key, default=None, section="DEFAULT"):
        if section == "DEFAULT":
            return self._parser.defaults().get(key, default)
        return self._parser.get(section, key, fallback=default) if self._parser.has_section(section) else default
