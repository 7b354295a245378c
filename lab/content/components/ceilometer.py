"""Ceilometer: collector, central agent and API on the top controllers, an agent on every compute node."""

from urllib.parse import quote

from lab.content import sample
from lab.content.components import schemas
from lab.content.components.building import Release, code, daemons, program, settings
from lab.content.components.component import Component, Front, Secrets
from lab.content.packages import PAUSE, Content, Package, Source
from lab.content.settings import infrastructure, tier
from lab.spec import HostSpec, LabSpec

NAME = "ceilometer"
BEFORE, AFTER = 6, 19
TOP = ("api", "central", "collector")
_KEY = "metering_secret"


def _release(name: str) -> Release:
    if name == "grizzly":
        return Release(NAME, name, "2013.1.4", BEFORE, NAME)
    changes = schemas.migrations(
        schemas.reference(NAME, BEFORE),
        schemas.reference(NAME, AFTER),
        AFTER,
        conversions={"meter.timestamp": "UNIX_TIMESTAMP(`timestamp`)"},
    )
    return Release(NAME, name, "2013.2.1", AFTER, NAME, changes, BEFORE)


def _sources(name: str) -> tuple[Source, ...]:
    release = _release(name)
    common = {
        **settings(release, "ceilometer.conf", "policy.json"),
        "/usr/bin/ceilometer-dbsync": program(NAME, "dbsync"),
    }

    def daemon(which: str) -> Package:
        service = f"openstack-ceilometer-{which}"
        needs = (f"openstack-ceilometer-common = {release.evr}",)
        return Package(service, requires=needs, contents=daemons(NAME, (service,)), services=(service,))

    packages = (
        Package("openstack-ceilometer-common", requires=(f"python-ceilometer = {release.evr}",), contents=common),
        Package("python-ceilometer", contents=code(release), post=PAUSE),
        *map(daemon, (*TOP, "compute")),
    )
    return (Source(f"ceilometer-{name}", release.version, "1.el6", packages, installed_on=release.installed_on),)


def _files(spec: LabSpec, host: HostSpec, secrets: Secrets) -> dict[str, Content]:
    place = infrastructure(spec, "top").name
    lines = [
        "[DEFAULT]",
        "log_dir = /var/log/ceilometer",
        f"host = {host.name}",
        f"metering_secret = {secrets[_KEY]}",
        f"rabbit_host = {place}",
        "rabbit_userid = nova",
        f"rabbit_password = {secrets['rabbitmq']}",
        f"nova_url = http://{place}:8774/v2",
    ]
    if tier(host) == "top":
        address = f"ceilometer:{quote(secrets[NAME], safe='')}@{place}/ceilometer"
        lines.append(f"database_connection = mysql://{address}")
    return {"/etc/ceilometer/ceilometer.conf": Content("\n".join(lines) + "\n", 0o640)}


def _rows(spec: LabSpec) -> str:
    """A sample of each guest there is, from before the upgrade."""
    running = [row for row in sample.instances(spec) if row.state == "active"]
    statements = [sample.insert("source", id="openstack")]
    statements += [sample.insert("`user`", id=user) for user in sorted({row.user for row in running})]
    statements += [sample.insert("project", id=project) for project in sorted({row.project for row in running})]
    for row in running:
        owner = {"user_id": row.user, "project_id": row.project, "resource_metadata": f'{{"host": "{row.host}"}}'}
        statements += [
            sample.insert("resource", id=row.uuid, **owner),
            sample.insert("sourceassoc", source_id="openstack", resource_id=row.uuid),
            sample.insert(
                "meter",
                counter_name="instance",
                counter_type="gauge",
                counter_unit="instance",
                counter_volume=1,
                timestamp=sample.MADE,
                resource_id=row.uuid,
                message_id=sample.identifier("sample", row.uuid),
                **owner,
            ),
            "INSERT INTO sourceassoc (source_id, meter_id) VALUES ('openstack', LAST_INSERT_ID());\n",
        ]
    return "".join(statements)


def _databases(spec: LabSpec, host: HostSpec, secrets: Secrets) -> str:
    return schemas.database(NAME, BEFORE, NAME, secrets[NAME]) + _rows(spec) if host.cell == "top" else ""


CEILOMETER = Component(
    name=NAME,
    sources=_sources,
    packages={
        "top": ("openstack-ceilometer-common", "python-ceilometer", *(f"openstack-ceilometer-{each}" for each in TOP)),
        "compute": ("openstack-ceilometer-common", "python-ceilometer", "openstack-ceilometer-compute"),
    },
    services={
        "top": tuple(f"openstack-ceilometer-{each}" for each in TOP),
        "compute": ("openstack-ceilometer-compute",),
    },
    files=_files,
    databases=_databases,
    fronts=(Front("ceilometer-api", 8777),),
    secrets=(NAME, _KEY),
    staging=("openstack-ceilometer-common", "python-ceilometer"),
)
