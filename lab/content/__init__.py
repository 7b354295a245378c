"""What the lab's hosts run: packages, stand-in services, databases, Puppet, monit and HAProxy."""

from lab.content import components
from lab.content.base import install_base
from lab.content.components.schemas import PARSER, REFERENCES
from lab.content.provision import provision
from lab.content.repositories import build_repositories

__all__ = ["BESIDE", "DEBIAN_PACKAGES", "SECRETS", "build_repositories", "install_base", "provision"]

DEBIAN_PACKAGES = (
    "busybox",
    "curl",
    "haproxy",
    "mariadb-server",
    "monit",
    "puppet-agent",
    "python3-pika",
    "python3-pymysql",
    "rabbitmq-server",
    *components.debian(),
)
SECRETS = ("mysql", "nova", "rabbitmq", *components.secrets())
# Files elsewhere of which the packages are made.
BESIDE = (PARSER, *sorted(REFERENCES.glob("*.txt")))
