"""Keystone: on every controller, each cell's with its own database, and the directory with the users on top-infra01."""

import base64
import hashlib
from collections.abc import Mapping
from urllib.parse import quote

from lab.content import sample
from lab.content.components import schemas
from lab.content.components.building import Release, code, program, settings
from lab.content.components.component import Component, Front, Secrets
from lab.content.packages import FILES, Content, Package, Source
from lab.content.settings import infrastructure, tier, write
from lab.spec import HostSpec, LabSpec

NAME = "keystone"
BEFORE, AFTER = 22, 34
SERVICE = "openstack-keystone"
OPERATOR, DIRECTORY = "keystone-operator", "keystone-directory"
"""Secrets beside the database's: of the user `operator`, and of keystone's own account in the directory."""

SUFFIX = "dc=example,dc=org"
USERS, ACCOUNT = f"ou=users,{SUFFIX}", f"uid=keystone,ou=services,{SUFFIX}"
EXPIRED, VALID = 500, 20
"""Tokens in each database."""

_UNIT = """\
[Unit]
Description=keystone (stand-in)
After=network.target mariadb.service

[Service]
Type=notify
ExecStart=/usr/bin/keystone-all
RuntimeDirectory=keystone
RuntimeDirectoryPreserve=yes
LogsDirectory=keystone
TimeoutStartSec=40
TimeoutStopSec=10

[Install]
WantedBy=multi-user.target
"""
_OPENRC = """\
# The operator's own project and user, in the directory; the URLs are this controller's own, past the load balancer.
export OS_USERNAME=operator
export OS_TENANT_NAME=operations
# Not exported: the stand-ins of the clients need none, and every program would have it in its environment.
OS_PASSWORD={password}
export OS_AUTH_URL={url}
"""
_NOVA = "http://127.0.0.1:8774/v2"


def _release(name: str) -> Release:
    if name == "grizzly":
        # It looks at no table that the migrations change but that of EC2 keys: so it runs on the new schema, too.
        return Release(NAME, name, "2013.1.4", BEFORE, NAME, schemas_known=tuple(range(BEFORE, AFTER + 1)))
    changes = schemas.migrations(
        schemas.reference(NAME, BEFORE), schemas.reference(NAME, AFTER), AFTER, at={"ec2_credential": 33}
    )
    # EC2 keys of users that are in the directory alone: the table has lost its foreign keys before 33 moves them.
    unbound = [each for each in changes[AFTER] if each.startswith("ALTER TABLE `credential` DROP FOREIGN KEY")]
    changes[AFTER] = [each for each in changes[AFTER] if each not in unbound]
    return Release(NAME, name, "2013.2", AFTER, NAME, {30: unbound, **changes}, BEFORE)


def _sources(name: str) -> tuple[Source, ...]:
    release = _release(name)
    contents = {
        "/usr/bin/keystone-all": program(NAME, "services"),
        "/usr/bin/keystone-manage": program(NAME, "manage"),
        f"/usr/lib/systemd/system/{SERVICE}.service": Content(_UNIT),
        **settings(release, "keystone.conf"),
    }
    if name == "havana":
        contents["/usr/share/keystone/keystone-dist.conf"] = Content(
            "[DEFAULT]\nlog_file = /var/log/keystone/keystone.log\n\n[database]\nmax_retries = -1\n"
        )
    packages = (
        Package(
            "openstack-keystone", requires=(f"python-keystone = {release.evr}",), contents=contents, services=(SERVICE,)
        ),
        Package("python-keystone", contents=code(release)),
    )
    return (Source(f"keystone-{name}", release.version, "1.el6", packages, installed_on=release.installed_on),)


def _files(spec: LabSpec, host: HostSpec, secrets: Secrets) -> dict[str, Content]:
    place, directory = infrastructure(spec, host.cell).name, infrastructure(spec, "top").name
    conf = (
        "[DEFAULT]\nbind_host = 0.0.0.0\npublic_port = 5000\nadmin_port = 35357\n"
        f"host = {host.name}\nlog_file = /var/log/keystone/keystone.log\n\n"
        f"[sql]\nconnection = mysql://keystone:{quote(secrets[NAME], safe='')}@{place}/keystone\n\n"
        "[identity]\ndriver = keystone.identity.backends.ldap.Identity\n\n"
        "[token]\ndriver = keystone.token.backends.sql.Token\n\n[signing]\ntoken_format = UUID\n\n"
        f"[ldap]\nurl = ldap://{directory}\nuser = {ACCOUNT}\npassword = {secrets[DIRECTORY]}\nsuffix = {SUFFIX}\n"
        f"user_tree_dn = {USERS}\nuser_id_attribute = uid\nuser_allow_create = False\nuser_allow_update = False\n"
        "user_allow_delete = False\n"
    )
    url = _NOVA if tier(host) == "top" else "http://127.0.0.1:5000/v2.0"
    openrc = _OPENRC.format(password=secrets[OPERATOR], url=url)
    openrc += f"export NOVACLIENT_BYPASS_URL={_NOVA}\n" if tier(host) == "top" else ""
    return {"/etc/keystone/keystone.conf": Content(conf, 0o640), "/root/openrc": Content(openrc, 0o600)}


# The database


def _databases(_spec: LabSpec, host: HostSpec, secrets: Secrets) -> str:
    """Each cell has one: the same users and projects, tokens and EC2 keys of its own."""
    sql = schemas.database(NAME, BEFORE, NAME, secrets[NAME])
    sql += sample.insert("domain", id="default", name="Default", enabled=True, extra="{}")
    projects = dict.fromkeys(("operations", *(project for _, project in sample.OWNERS)))
    for project in projects:
        sql += sample.insert("project", id=project, name=project, extra="{}", enabled=True, domain_id="default")
    for role in ("admin", "_member_"):
        sql += sample.insert("role", id=f"role-{role}", name=role, extra="{}")
    for user, project in (("operator", "operations"), *sample.OWNERS):
        sql += sample.insert("`user`", id=user, name=user, extra="{}", enabled=True, domain_id="default")
        role = "admin" if user == "operator" else "_member_"
        data = f'{{"roles": ["role-{role}"]}}'
        sql += sample.insert("user_project_metadata", user_id=user, project_id=project, data=data)
    for kind, name, url in _ENDPOINTS:
        sql += sample.insert("service", id=f"service-{kind}", type=kind, extra=f'{{"name": "{name}"}}')
        for interface in ("public", "internal", "admin"):
            sql += sample.insert(
                "endpoint",
                id=sample.identifier(kind, interface)[:32],
                interface=interface,
                region="geneva",
                service_id=f"service-{kind}",
                url=url,
                extra="{}",
            )
    return sql + _keys(host.cell) + _tokens(host.cell)


_ENDPOINTS = (
    ("compute", "nova", "http://top-infra01:8774/v2/$(tenant_id)s"),
    ("identity", "keystone", "http://top-infra01:5000/v2.0"),
    ("image", "glance", "http://top-infra01:9292/v1"),
    ("volume", "cinder", "http://top-infra01:8776/v1/$(tenant_id)s"),
)


def keys(cell: str) -> dict[str, tuple[str, str, str]]:
    """The EC2 keys of a cell's keystone: access key to secret, user and project. The first is in both tables."""
    return {
        sample.identifier("access", cell, user).replace("-", ""): (
            sample.identifier("secret", cell, user).replace("-", ""),
            user,
            project,
        )
        for user, project in sample.OWNERS
    }


def _keys(cell: str) -> str:
    sql = ""
    for number, (access, (secret, user, project)) in enumerate(keys(cell).items()):
        sql += sample.insert("ec2_credential", access=access, secret=secret, user_id=user, tenant_id=project)
        if number == 0:
            number_of = hashlib.sha256(access.encode()).hexdigest()
            blob = f'{{"access": "{access}", "secret": "{secret}"}}'
            row = {"id": number_of, "user_id": user, "project_id": project, "type": "ec2", "extra": "{}"}
            sql += sample.insert("credential", **row, blob=blob)
    return sql


def _tokens(cell: str) -> str:
    """Months of expired ones that nobody has deleted, and some that are valid."""
    # No value comes from outside.
    return "".join(
        f"INSERT INTO token (id, expires, extra, valid, user_id) SELECT MD5(CONCAT('{cell}', '{what}', seq)),"  # noqa: S608
        f" UTC_TIMESTAMP() {sign} INTERVAL seq HOUR, '{{}}', 1, 'alice' FROM seq_1_to_{count};\n"
        for what, sign, count in (("old", "-", EXPIRED), ("new", "+ INTERVAL 30 DAY +", VALID))
    )


# The directory


def _prepare(spec: LabSpec, host: HostSpec, secrets: Secrets) -> str:
    """The directory's server: a bash script for the host that has it, "" for others."""
    if host != infrastructure(spec, "top"):
        return ""
    own = FILES / NAME / "directory"
    ldif = (own / "base.ldif").read_text()
    people = ("operator", *(user for user, _ in sample.OWNERS))
    ldif += _person(ACCOUNT, "keystone", _hashed(secrets[DIRECTORY], "keystone"))
    for user in people:
        # Only the operator logs in: the others are who owns what.
        password = secrets[OPERATOR] if user == "operator" else secrets[DIRECTORY] + user
        ldif += _person(f"uid={user},{USERS}", user, _hashed(password, user))
    return (
        write("/etc/ldap/lab-directory.conf", (own / "slapd.conf").read_text())
        + write("/etc/systemd/system/lab-directory.service", (own / "lab-directory.service").read_text())
        + write("/etc/ldap/lab-directory.ldif", ldif, 0o600, "openldap")
        + "install -d -m 700 -o openldap -g openldap /var/lib/lab-directory\n"
        "setpriv --reuid=openldap --regid=openldap --init-groups"
        " slapadd -q -f /etc/ldap/lab-directory.conf -l /etc/ldap/lab-directory.ldif\n"
        "systemctl daemon-reload\nsystemctl enable --quiet --now lab-directory.service\n"
    )


def _person(name: str, user: str, password: str) -> str:
    return f"dn: {name}\nobjectClass: inetOrgPerson\nuid: {user}\ncn: {user}\nsn: {user}\nuserPassword: {password}\n\n"


def _hashed(password: str, salt: str) -> str:
    """A salted hash as slapd knows it; the directory has no password itself."""
    digest = hashlib.sha1(password.encode() + salt.encode()).digest()  # noqa: S324 - what slapd has built in
    return "{SSHA}" + base64.b64encode(digest + salt.encode()).decode()


_PACKAGES = ("openstack-keystone", "python-keystone")
_EVERY: Mapping[str, tuple[str, ...]] = {"top": _PACKAGES, "cell": _PACKAGES}

KEYSTONE = Component(
    name=NAME,
    sources=_sources,
    packages=_EVERY,
    services={"top": (SERVICE,), "cell": (SERVICE,)},
    files=_files,
    databases=_databases,
    fronts=(Front("keystone-api", 5000),),
    secrets=(NAME, OPERATOR, DIRECTORY),
    debian=("ldap-utils", "python3-ldap3", "slapd"),
    staging=_PACKAGES,
    pid_files={SERVICE: "/run/keystone/keystone-all.pid"},
    prepare=_prepare,
)
