"""Glance: API and registry on the top and the cell controllers, one database for all on the top cell's server."""

from urllib.parse import quote

from lab.content import sample
from lab.content.components import schemas
from lab.content.components.building import Release, code, daemons, program, settings
from lab.content.components.component import Component, Front, Secrets
from lab.content.packages import Content, Package, Source
from lab.content.settings import infrastructure, tier
from lab.spec import HostSpec, LabSpec

NAME, REPOSITORY = "glance", "Glance Migrations"
BEFORE, AFTER = 22, 29
SERVICES = ("openstack-glance-api", "openstack-glance-registry")
USER = ("alice", "atlas")
"""The ordinary user of `/root/openrc-user`, and the project."""
_PACKAGES = ("openstack-glance", "python-glance")
_OPENRC = f"""\
# An ordinary user. The addresses are this controller's own APIs, past the load balancer.
export OS_USERNAME={USER[0]}
export OS_TENANT_NAME={USER[1]}
export OS_AUTH_URL=http://127.0.0.1:8774/v2
export NOVACLIENT_BYPASS_URL=http://127.0.0.1:8774/v2
export OS_IMAGE_URL=http://127.0.0.1:9292
"""
IMAGES = (
    # name, project, public, status
    ("cirros", "operations", True, "active"),
    ("slc6-server", "operations", True, "active"),
    ("atlas-analysis", "atlas", False, "active"),
    ("cms-reconstruction", "cms", False, "active"),
    ("cms-shared", "cms", False, "active"),
    ("it-secrets", "it-services", False, "active"),
    ("upload-in-error", "it-services", False, "killed"),
    ("slc5-server", "operations", True, "deleted"),
)
SHARED = (("cms-shared", "atlas"),)


def _release(name: str) -> Release:
    if name == "grizzly":
        return Release(NAME, name, "2013.1.4", BEFORE, REPOSITORY)
    changes = schemas.migrations(schemas.reference(NAME, BEFORE), schemas.reference(NAME, AFTER), AFTER)
    return Release(NAME, name, "2013.2.1", AFTER, REPOSITORY, changes, BEFORE)


def _sources(name: str) -> tuple[Source, ...]:
    release = _release(name)
    contents = {
        **daemons(NAME, SERVICES),
        **settings(release, "glance-api.conf", "glance-registry.conf", "policy.json"),
        "/usr/bin/glance-manage": program(NAME, "manage"),
    }
    packages = (
        Package("openstack-glance", requires=(f"python-glance = {release.evr}",), contents=contents, services=SERVICES),
        Package("python-glance", contents=code(release)),
    )
    return (Source(f"glance-{name}", release.version, "1.el6", packages, installed_on=release.installed_on),)


def _conf(spec: LabSpec, secrets: Secrets) -> str:
    place = infrastructure(spec, "top").name
    return f"[DEFAULT]\nsql_connection = mysql://glance:{quote(secrets[NAME], safe='')}@{place}/glance\n"


def _files(spec: LabSpec, host: HostSpec, secrets: Secrets) -> dict[str, Content]:
    text = _conf(spec, secrets)
    own = {f"/etc/glance/glance-{name}.conf": Content(text, 0o640) for name in ("api", "registry")}
    return {**own, **({"/root/openrc-user": Content(_OPENRC, 0o600)} if tier(host) == "top" else {})}


def _staging_files(spec: LabSpec, secrets: Secrets) -> dict[str, Content]:
    """For the change of the live schema from the staging node."""
    return {"/etc/glance-staging.conf": Content(_conf(spec, secrets), 0o600)}


def identifier(name: str) -> str:
    """An image's id; nova's guests were made of the first."""
    return sample.IMAGE if name == IMAGES[0][0] else sample.identifier("image", name)


def _databases(_spec: LabSpec, host: HostSpec, secrets: Secrets) -> str:
    if host.cell != "top":
        return ""
    return schemas.database(NAME, BEFORE, REPOSITORY, secrets[NAME]) + _rows()


def _rows() -> str:
    """Public images and projects' own, one that another project may see, one in error, one deleted."""
    statements: list[str] = []
    for number, (name, owner, public, status) in enumerate(IMAGES, 1):
        deleted = status == "deleted"
        row = {"created_at": sample.MADE, "updated_at": sample.MADE, "deleted": deleted}
        key = identifier(name)
        formats = {"disk_format": "qcow2", "container_format": "bare", "min_disk": 0, "min_ram": 0, "protected": False}
        facts = {"name": name, "size": number * 13_167_616, "status": status, "is_public": public, "owner": owner}
        checksum = sample.identifier("checksum", name).replace("-", "")
        when = {"deleted_at": sample.MADE if deleted else None}
        statements += [
            sample.insert("images", id=key, checksum=checksum, **facts, **formats, **row, **when),
            sample.insert("image_locations", image_id=key, value=f"rbd://images/{key}/snap", **row, **when),
            sample.insert("image_properties", image_id=key, name="os", value="LINUX", **row, **when),
        ]
    for name, member in SHARED:
        facts = {"created_at": sample.MADE, "updated_at": sample.MADE, "deleted": False, "status": "accepted"}
        statements.append(
            sample.insert("image_members", image_id=identifier(name), member=member, can_share=False, **facts)
        )
    return "".join(statements)


GLANCE = Component(
    name=NAME,
    sources=_sources,
    packages={"top": _PACKAGES, "cell": _PACKAGES},
    services={"top": SERVICES, "cell": SERVICES},
    files=_files,
    databases=_databases,
    fronts=(Front("glance-api", 9292),),
    secrets=(NAME,),
    staging=_PACKAGES,
    staging_files=_staging_files,
)
