"""Cinder: API, scheduler and volume service on the top controllers, its database on the top cell's server."""

from urllib.parse import quote

from lab.content import sample
from lab.content.components import schemas
from lab.content.components.building import Release, code, daemons, program, settings
from lab.content.components.component import Component, Front, Secrets
from lab.content.packages import PAUSE, Content, Package, Source
from lab.content.settings import infrastructure
from lab.spec import HostSpec, LabSpec

NAME = "cinder"
BEFORE, AFTER = 9, 20
SERVICES = ("openstack-cinder-api", "openstack-cinder-scheduler", "openstack-cinder-volume")
_BACKUP = "openstack-cinder-backup"


def _release(name: str) -> Release:
    if name == "grizzly":
        return Release(NAME, name, "2013.1.4", BEFORE, NAME)
    # 12 fails with 1060 where volumes.attached_host was backported.
    changes = schemas.migrations(
        schemas.reference(NAME, BEFORE), schemas.reference(NAME, AFTER), AFTER, at={"volumes.attached_host": 12}
    )
    return Release(NAME, name, "2013.2.1", AFTER, NAME, changes, BEFORE)


def _sources(name: str) -> tuple[Source, ...]:
    release = _release(name)
    havana = name == "havana"
    services = (*SERVICES, *([_BACKUP] if havana else []))
    contents = {
        **daemons(NAME, services),
        **settings(release, "cinder.conf", "policy.json"),
        "/usr/bin/cinder-manage": program(NAME, "manage"),
    }
    if havana:
        contents["/usr/share/cinder/cinder-dist.conf"] = Content("[DEFAULT]\nlogdir = /var/log/cinder\n")
    needs = (f"python-cinder = {release.evr}", *(["python-cinderclient >= 1.0.6"] if havana else []))
    packages = (
        Package("openstack-cinder", requires=needs, contents=contents, services=services),
        Package("python-cinder", contents=code(release), post=PAUSE),
    )
    return (Source(f"cinder-{name}", release.version, "1.el6", packages, installed_on=release.installed_on),)


def _files(spec: LabSpec, host: HostSpec, secrets: Secrets) -> dict[str, Content]:
    place = infrastructure(spec, "top").name
    text = (
        "[DEFAULT]\nlogdir = /var/log/cinder\nstate_path = /var/lib/cinder\nauth_strategy = noauth\n"
        f"host = {host.name}\nsql_connection = mysql://cinder:{quote(secrets[NAME], safe='')}@{place}/cinder\n"
    )
    return {"/etc/cinder/cinder.conf": Content(text, 0o640)}


def _databases(spec: LabSpec, host: HostSpec, secrets: Secrets) -> str:
    if host.cell != "top":
        return ""
    return schemas.database(NAME, BEFORE, NAME, secrets[NAME]) + sample.cinder_rows(spec)


CINDER = Component(
    name=NAME,
    sources=_sources,
    packages={"top": ("openstack-cinder", "python-cinder")},
    services={"top": SERVICES},
    files=_files,
    databases=_databases,
    heartbeats={service: service.removeprefix("openstack-") for service in SERVICES[1:]},
    fronts=(Front("cinder-api", 8776),),
    secrets=(NAME,),
    staging=("openstack-cinder", "python-cinder"),
)
