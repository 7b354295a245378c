"""A lab without content: hosts as they boot, for tests of the lab's own machinery."""

import importlib
from pathlib import Path
from types import ModuleType

from lab.cgroups import Group


def standin(host: str) -> ModuleType:
    """Content that leaves the hosts as they boot, on the same cached base as the real one."""
    content = importlib.import_module("lab.content")
    module = ModuleType("standin")
    module.__file__ = __file__
    module.DEBIAN_PACKAGES = content.DEBIAN_PACKAGES
    module.SECRETS = ("mysql",)
    module.install_base = lambda root: (root / "etc/lab-content").write_text("installed\n", encoding="utf-8")
    module.build_repositories = lambda to: [(to / name).mkdir() for name in ("grizzly", "havana")]
    module.provision = lambda handle: handle.put(host, "/root/a place/file", "put\n", 0o640)
    return module


def nothing_left(name: str) -> bool:
    """Whether a lab that was taken down left no mount, namespace, process, control group or file."""
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    namespaces = [n.name for n in Path("/run/netns").glob("*")]
    return (
        f"/labs/{name}" not in mounts
        and not [n for n in namespaces if n.startswith(f"cellstep-{name}")]
        and not Group(f"cellstep-{name}").members()
        and not any(path.exists() for path in Group(f"cellstep-{name}").paths)
        and not Path(f"/var/lib/cellstep/labs/{name}").exists()
        and not Path(f"/etc/netns/cellstep-{name}").exists()
    )
