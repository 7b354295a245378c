"""Parts of the lab's content that need no host: sample data, settings, the guest's program, the kernel's name."""

import base64
import hashlib
import json
import subprocess
import time
from pathlib import Path

import pytest

from lab.content import components, sample, settings
from lab.content.components import COMPONENTS, Front, named
from lab.content.guest import program
from lab.content.schema import render
from lab.errors import LabUsageError
from lab.spec import LabSpec


def test_a_guest_keeps_its_arguments_and_waits(tmp_path: Path) -> None:
    """The stand-in for qemu shows -uuid in its command line, and ends on SIGTERM."""
    path = tmp_path / "qemu-kvm"
    path.write_bytes(program())
    path.chmod(0o755)
    with subprocess.Popen([path, "-name", "instance-1", "-uuid", "u"]) as guest:
        # For a moment after exec the kernel shows no arguments yet.
        end = time.monotonic() + 5
        while not (line := Path(f"/proc/{guest.pid}/cmdline").read_bytes()) and time.monotonic() < end:
            pass
        words = line.split(b"\0")
        assert words[1:-1] == [b"-name", b"instance-1", b"-uuid", b"u"]
        with pytest.raises(subprocess.TimeoutExpired):
            guest.wait(0.3)
        guest.terminate()
        assert guest.wait(5) == -15


def test_every_compute_node_has_two_guests() -> None:
    """Whatever the lab's size, and each with an identifier of its own."""
    for spec in (LabSpec(), LabSpec(cells=1, computes=1), LabSpec(cells=3, computes=12)):
        running = [row for row in sample.instances(spec) if row.state == "active"]
        nodes = [host.name for host in spec.hosts() if "compute" in host.roles]
        assert sorted(row.host or "" for row in running) == sorted(nodes * 2)
        assert len({row.uuid for row in sample.instances(spec)}) == len(sample.instances(spec))
        per_cell = [(row.cell, row.number) for row in sample.instances(spec)]
        assert len(set(per_cell)) == len(per_cell)


def test_quota_usage_agrees_with_the_instances() -> None:
    """Before the upgrade nothing is wrong: each project's row says what its live instances say."""
    spec = LabSpec()
    sql = sample.top_rows(spec, "x")
    live = [row for row in sample.instances(spec) if row.state != "deleted" and row.project == "atlas"]
    assert f"'atlas', 'instances', {len(live)}, 0, 0);" in sql
    assert f"'atlas', 'ram', {sum(row.memory for row in live)}, 0, 0);" in sql


def test_a_value_with_quotes_stays_a_value() -> None:
    """SQL text is quoted."""
    assert sample.insert("t", a="o'r\\x", b=None, c=True) == (
        "INSERT INTO t (`a`, `b`, `c`) VALUES ('o''r\\\\x', NULL, 1);\n"
    )


def test_a_written_file_is_the_text(tmp_path: Path) -> None:
    """The bash that writes a file keeps every character of it, and its mode."""
    path = tmp_path / "a b" / "file"
    text = "a $HOME `id` \"x\" 'y' \\n\nend\n"
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    subprocess.run(["bash", "-c", settings.write(str(path), text, 0o640, user)], check=True)
    assert path.read_text() == text
    assert path.stat().st_mode & 0o777 == 0o640


def test_rabbitmq_gets_only_the_password_hash() -> None:
    """Four bytes of salt, then SHA-256 of salt and password, as RabbitMQ checks it."""
    text = settings.rabbit_definitions("cell01", "secret-word")
    assert "secret-word" not in text
    definitions = json.loads(text)
    raw = base64.b64decode(definitions["users"][0]["password_hash"])
    assert raw[4:] == hashlib.sha256(raw[:4] + b"secret-word").digest()
    assert [row["name"] for row in definitions["vhosts"]] == ["/", "/cell01"]


def test_nova_conf_points_to_its_own_cell() -> None:
    """A compute node talks to its cell's database and broker alone."""
    spec = LabSpec()
    text = settings.nova_conf(spec, spec.host("c02-n01"), {"nova": "p@ss", "rabbitmq": "r"})
    assert "sql_connection = mysql://nova:p%40ss@c02-ctl01/nova" in text
    assert "rabbit_virtual_host = /cell02" in text
    assert "NoopQuotaDriver" in text


def test_a_bad_schema_line_is_refused() -> None:
    """The notation has no silent gaps."""
    with pytest.raises(ValueError, match="not a constraint"):
        render("t: id\n    nonsense (x)\n", shadows=False)
    with pytest.raises(ValueError, match="not a table"):
        render("nonsense\n", shadows=False)


def test_components_are_asked_for_by_name() -> None:
    """Nova is always there; without a list it is all of them, in one order."""
    assert named(None) == tuple(COMPONENTS)
    assert named("nova") == ()
    assert named("cinder, nova,ceilometer") == ("ceilometer", "cinder")
    for text in ("cinder,nuva", "", ","):
        with pytest.raises(LabUsageError, match="it has nova, ceilometer"):
            named(text)


def test_a_lab_without_cinder_has_its_database() -> None:
    """Nova lists its volumes; what does not run has no other trace."""
    spec = LabSpec()
    assert components.chosen(spec) == []
    assert [component.name for component in components.with_databases(spec)] == ["cinder"]
    passwords = dict.fromkeys(components.secrets(), "x")
    sql = COMPONENTS["cinder"].databases(spec, spec.host("top-infra01"), passwords)
    assert "CREATE DATABASE cinder" in sql
    assert COMPONENTS["cinder"].databases(spec, spec.host("c01-ctl01"), passwords) == ""


def test_every_component_has_what_it_names() -> None:
    """Services come with a unit, a program and a restart on update; each is of a tier that has its package."""
    for component in COMPONENTS.values():
        for release in ("grizzly", "havana"):
            packages = {each.name: each for source in component.sources(release) for each in source.packages}
            for tier, services in component.services.items():
                installed = [packages[name] for name in component.packages[tier]]
                paths = {path for package in installed for path in package.contents}
                restarted = {name for package in installed for name in package.services}
                assert {f"/usr/lib/systemd/system/{name}.service" for name in services} <= paths
                assert set(services) <= restarted
            assert set(component.staging) <= set(packages)
        assert set(component.heartbeats) <= {name for names in component.services.values() for name in names}


def test_haproxy_has_a_frontend_a_port() -> None:
    """A front with a path is another backend behind the frontend that is there."""
    text = settings.haproxy_cfg(LabSpec(), [Front("cinder-api", 8776, check="/v1/")])
    assert text.count("bind *:8774") == 1
    assert "    use_backend nova-images if { path_sub /images }\n    default_backend nova-api\n" in text
    assert "frontend cinder-api\n    bind *:8776\n    default_backend cinder-api\n" in text
    backend = text.partition("backend cinder-api\n    balance")[2]
    assert "option httpchk GET /v1/" in backend
    assert "server top-api02 10.90.0.2:8776 check" in backend


def test_puppets_manifest_keeps_each_tiers_services_running() -> None:
    text = settings.site_manifest({"top": ["a", "b"], "compute": ["c"]})
    assert "node /^top-api/ {\n  service { ['a', 'b']:\n    ensure  => running,\n" in text
    assert "node /^c\\d+-n\\d+$/ {\n  service { ['c']:" in text
    assert "ctl" not in text
    assert text.endswith("node default { }\n")
