"""A user's machine with the client CLIs, and euca2ools over a boto that is too old in Grizzly's repository."""

from lab.content.components.component import Component
from lab.content.packages import FILES, Content, Package, Source
from lab.spec import CLIENTS as NAME

_VERSIONS = {
    "grizzly": ("2.0", "2.1.4"),
    "havana": ("2.6.0", "2.1.4"),
}  # boto's, euca2ools': boto's are the lab's choice


def _sources(release: str) -> tuple[Source, ...]:
    boto, euca = _VERSIONS[release]
    code = (FILES / NAME / "euca-run-instances").read_text(encoding="utf-8")
    version = {"/usr/lib/boto/version": Content(f"{boto}\n")}
    found = [Source(f"boto-{release}", boto, "1.el6", (Package("python-boto", contents=version),))]
    if release == "grizzly":
        names = ("euca-run-instances", "euca-terminate-instances")
        programs = {f"/usr/bin/{name}": Content(code, 0o755) for name in names}
        program = Package("euca2ools", ("python-boto",), contents=programs)
        found.append(Source("euca2ools", euca, "1.el6", (program,)))
    return tuple(found)


CLIENTS = Component(
    name=NAME,
    sources=_sources,
    packages={
        "client": ("python-novaclient", "python-cinderclient", "python-glanceclient", "euca2ools", "python-boto")
    },
    services={},
    files=lambda _spec, _host, _secrets: {},
    databases=lambda _spec, _host, _secrets: "",
)
