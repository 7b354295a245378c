"""Horizon on a lab: refused, brought back under load, switched for good; with Apache, memcached, cron and Chromium."""

import json
from collections.abc import Iterator

import pytest

from tests.support.labs import TestLab, lab_up
from tests.support.stories import eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

OLD, NEW, ALIAS = "dash01", "dash02", "top-infra01"
SHARE = "/usr/share/openstack-dashboard"
CSS, LOGO = f"{SHARE}/static/dashboard.css", f"{SHARE}/static/site/logo.png"
# A log-in as a browser does it; its cookies stay in /tmp/jar.
LOG_IN = """
password=$(python3 -c 'import json; print(json.load(open("/etc/lab/dashboard-users.json"))["cellstep-test"])')
site=http://localhost/dashboard
curl -s -c /tmp/jar -o /dev/null $site/auth/login/
token=$(awk '$6 == "csrftoken" { print $7 }' /tmp/jar)
curl -s -b /tmp/jar -c /tmp/jar -o /dev/null --data "username=cellstep-test&csrfmiddlewaretoken=$token" \
  --data-urlencode "password=$password" $site/auth/login/
"""
LIST = "curl -s -b /tmp/jar -o /tmp/page -w '%{http_code} ' http://localhost/dashboard/project/instances/"


@pytest.fixture(scope="module")
def lab() -> Iterator[TestLab]:
    with lab_up("horizon", 1, 1, ("horizon",)) as up:
        settings = up.cloud / "cloud.yaml"
        text = settings.read_text(encoding="utf-8")
        for old, new in (
            ("browser: false", "browser: true "),
            ("watch_s: 10 ", "watch_s: 5  "),
            ("every_min: 30", "every_min: 1"),
        ):
            assert old in text
            text = text.replace(old, new)
        settings.write_text(text, encoding="utf-8")
        yield up


def serving(lab: TestLab) -> str:
    """The machine that users come to, as the site's command says, and as the pages of the alias say."""
    name = lab.on(ALIAS, "dashboard-alias").strip()
    release = {OLD: "2013.1.4", NEW: "2013.2.1"}[name]
    page = lab.on("c01-ctl01", f"curl -s http://{ALIAS}/dashboard/auth/login/")
    assert f"<title>OpenStack Dashboard {release}</title>" in page
    return name


def as_it_was(lab: TestLab) -> str:
    """What an upgrade changes on the new machine."""
    return lab.on(NEW, "rpm -qa | sort; ls /etc/yum.repos.d /etc/cron.d; cat /srv/lab/transactions")


def test_what_is_changed_and_not_listed_stops_it_before_anything_is_done(lab: TestLab):
    before = as_it_was(lab)
    lab.on(OLD, f"cp -p {CSS} /root/ && echo '.site {{ color: red }}' >> {CSS}")
    said = lab.cellstep("run", "horizon", "--yes", expect=4)
    assert f"{CSS} is changed on the old machine, and not in dashboard.customisations" in " ".join(said.split())
    assert as_it_was(lab) == before
    assert serving(lab) == OLD
    assert json.loads(lab.cellstep("status", "--json"))["holds"] == {}


def test_500_under_load_brings_users_back(lab: TestLab):
    lab.on(OLD, f"mv /root/dashboard.css {CSS}")
    lab.fault(NEW, "500-under-load")
    said = " ".join(lab.cellstep("resume", "--yes", expect=4).split())
    assert "dash02 is worse than dash01" in said
    assert "requests without an answer or with HTTP 500 and above" in said
    assert "failed log-ins" in said
    assert "is undone: users come to dash01" in said
    assert serving(lab) == OLD
    holds = json.loads(lab.cellstep("status", "--json"))["holds"]
    assert "dashboard-switch" not in holds
    assert set(holds) == {"repository", "puppet-updates", "puppet", "dashboard-restarts"}
    assert "2013.2.1-1.el6" in lab.on(NEW, "rpm -q openstack-dashboard"), "it stays for a look"


def test_resumed_when_mended_users_stay_with_the_new_one(lab: TestLab):
    lab.clear(NEW)
    assert "done, and compliant" in lab.cellstep("resume", "--yes")
    assert serving(lab) == NEW
    assert json.loads(lab.cellstep("status", "--json"))["holds"] == {}
    table = lab.table("dashboard", stage="horizon").set_index("when")
    assert list(table["machine"]) == [OLD, NEW]
    assert list(table["status"]) == ["before", "as before"]
    assert (table["requests"] > 10).all()
    assert not table[["errors", "failed_logins"]].to_numpy().any()
    assert set(lab.table("rpms", stage="horizon")["host"]) == {NEW}


def test_the_customisations_are_on_the_new_machine_and_no_more(lab: TestLab):
    changed = "rpm -V openstack-dashboard python-django-horizon | awk '$1 ~ /5/ { print $NF }'"
    assert lab.on(NEW, changed, expect=None).splitlines() == [
        "/etc/openstack-dashboard/local_settings",
        f"{SHARE}/openstack_dashboard/templates/auth/_login.html",
    ]
    assert lab.on(NEW, f"sha256sum {LOGO}") == lab.on(OLD, f"sha256sum {LOGO}")
    page = lab.on(NEW, "curl -s http://localhost/dashboard/auth/login/")
    assert "<h3>Log In</h3>" in page, "the release's own page"
    assert ">Help</a>" in page
    assert ">Subscribe</a>" in page
    assert "cellstep-" not in lab.on(NEW, "ls /etc/yum.repos.d")
    assert 'ENABLED="true"' in lab.on(NEW, "cat /etc/sysconfig/yum-autoupdate")
    assert "2013.1.4-1.el6" in lab.on(OLD, "rpm -q openstack-dashboard"), "the old machine is only looked at"


def test_the_regular_restart_happens_and_logs_nobody_out(lab: TestLab):
    count = "grep -c 'SIGUSR1 received' /var/log/httpd/error_log"
    before = int(lab.on(NEW, f"{LOG_IN}{count}", expect=None).split()[-1])
    assert lab.on(NEW, LIST) == "200 "
    eventually(lab, NEW, f"[ $({count}) -gt {before} ]", seconds=90)
    assert lab.on(NEW, f"{LIST}; grep -c instances__row__ /tmp/page").split() == ["200", "1"]
    assert "dashboard-probe" in lab.on(NEW, "cat /tmp/page")


def test_a_second_run_changes_nothing(lab: TestLab):
    before, load = as_it_was(lab), "grep -c 'POST /dashboard/auth/login/' /var/log/httpd/access_log"
    asked = int(lab.on(OLD, load))
    assert "done, and compliant" in lab.cellstep("run", "horizon", "--yes")
    assert as_it_was(lab) == before
    assert serving(lab) == NEW
    assert int(lab.on(OLD, load)) == asked, "no load where users have come to the new one"
    lab.verify(expect=0, stage="horizon")
