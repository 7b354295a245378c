"""Horizon: the old dashboard, as its site has it, and a bare machine for the new one, behind one alias."""

import base64
import json
import shlex
import struct
import zlib

from lab.content import sample
from lab.content.components.building import GRIZZLY, HAVANA
from lab.content.components.component import Component, Front, Secrets
from lab.content.packages import FILES, Content, Package, Source
from lab.content.settings import write
from lab.spec import DASHBOARD, HostSpec, LabSpec
from lab.spec import HORIZON as NAME

_VERSIONS = {"grizzly": "2013.1.4", "havana": "2013.2.1"}
_OWN = FILES / NAME
_SHARE = "/usr/share/openstack-dashboard"
_TEMPLATE = f"{_SHARE}/openstack_dashboard/templates/auth/_login.html"
_PATHS = {
    "local_settings": "/etc/openstack-dashboard/local_settings",
    "_login": _TEMPLATE,
    "wsgi": f"{_SHARE}/openstack_dashboard/wsgi/django.wsgi",
    "css": f"{_SHARE}/static/dashboard.css",
    "virtual host": "/etc/httpd/conf.d/openstack-dashboard.conf",
}
_WSGI = (
    "import sys\n\nsys.path[:0] = ['/usr/lib/horizon']\nfrom horizon_lab.wsgi import application  # noqa: E402, F401\n"
)
_KEY = "dashboard"
_USER, _PROBE = "cellstep-test", "dashboard-probe"
_HELP = """\
<p class="site"><img src="{{ base }}/static/site/logo.png" alt="our logo">
<a class="btn" href="https://help.example.org/cloud">Help</a>
<a class="btn" href="https://subscribe.example.org/cloud">Subscribe</a>
</p>
"""


def _text(name: str) -> str:
    return (_OWN / name).read_text(encoding="utf-8")


def _httpd() -> Source:
    """Debian's apache2 under EL6's name and paths."""
    contents = {
        "/etc/httpd/conf/httpd.conf": Content(_text("httpd/httpd.conf"), config=True),
        "/usr/lib/systemd/system/httpd.service": Content(_text("httpd/httpd.service")),
    }
    package = Package("httpd", provides=("mod_wsgi",), contents=contents, services=("httpd",))
    return Source("httpd", "2.2.15", "30.el6", (package,))


def _sources(release: str) -> tuple[Source, ...]:
    version = _VERSIONS[release]
    modules = sorted((_OWN / "horizon_lab").glob("*.py"))
    code = {f"/usr/lib/horizon/horizon_lab/{path.name}": Content(path.read_text(encoding="utf-8")) for path in modules}
    what = f'"""What this package is."""\n\nNAME = {release!r}\nVERSION = {version!r}\n'
    code["/usr/lib/horizon/horizon_lab/release.py"] = Content(what)
    pages = {
        _PATHS["local_settings"]: Content(_text(f"local_settings_{release}"), config=True),
        _PATHS["virtual host"]: Content(_text("httpd/openstack-dashboard.conf"), config=True),
        _PATHS["_login"]: Content(_text(f"_login_{release}.html")),
        _PATHS["wsgi"]: Content(_WSGI),
        _PATHS["css"]: Content("/* The stand-in's pages are plain. */\n"),
    }
    needs = (f"python-django-horizon = {version}-1.el6", "httpd", "mod_wsgi")
    packages = (
        Package("openstack-dashboard", requires=needs, contents=pages, services=("httpd",)),
        Package("python-django-horizon", contents=code),
    )
    stamp = GRIZZLY if release == "grizzly" else HAVANA
    dashboard = Source(f"horizon-{release}", version, "1.el6", packages, installed_on=stamp)
    return (dashboard, _httpd()) if release == "grizzly" else (dashboard,)


def _logo() -> bytes:
    """A picture: 16 x 16 points of one colour, as PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + b"\x2a\x6e\xb0" * 16) * 16
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def _guests() -> dict[str, tuple[str, str]]:
    names = {_PROBE: "ACTIVE", "web01": "ACTIVE", "web02": "SHUTOFF"}
    return {sample.identifier("dashboard", name): (name, status) for name, status in names.items()}


def _settle(_spec: LabSpec, host: HostSpec, secrets: Secrets) -> str:
    """Both machines: memcached, cron, the users. The old one: the guests, what the site has changed, the web server."""
    if DASHBOARD not in host.roles:
        return ""
    users = json.dumps({_USER: secrets[_KEY]})
    script = [
        "set -e\n",
        write("/etc/lab/dashboard-users.json", users, 0o400, "www-data"),
        "for name in memcached cron; do chkconfig $name on; systemctl start $name; done\n",
    ]
    if host.name == "dash01":
        folder = f"{_SHARE}/static/site"
        script += [
            "install -d -o www-data -g www-data /srv/shared/dashboard\n",
            write("/srv/shared/dashboard/guests.json", json.dumps(_guests()), 0o644, "www-data"),
            write(_PATHS["local_settings"], _text("local_settings_site")),
            write(_TEMPLATE, _text("_login_grizzly.html") + _HELP),
            f"mkdir -p {folder}; echo {base64.b64encode(_logo()).decode()} | base64 -d > {folder}/logo.png\n",
            # Its site leaves it as it is, also when the new release is there for all.
            "sed -i 's/^ENABLED=.*/ENABLED=\"false\"/' /etc/sysconfig/yum-autoupdate\n",
            "chkconfig httpd on\nservice httpd start\n",
            f"curl -sf -o /dev/null --retry 5 --retry-connrefused {shlex.quote('http://localhost/dashboard/auth/login/')}\n",
        ]
    return "".join(script)


HORIZON = Component(
    name=NAME,
    sources=_sources,
    packages={"dashboard": ("openstack-dashboard", "python-django-horizon")},
    services={},
    files=lambda _spec, _host, _secrets: {},
    databases=lambda _spec, _host, _secrets: "",
    fronts=(Front("dashboard", 80, check="/dashboard/static/dashboard.css", role=DASHBOARD),),
    secrets=(_KEY,),
    debian=("apache2-bin", "cron", "libapache2-mod-wsgi-py3", "memcached", "patch"),
    settle=_settle,
)
