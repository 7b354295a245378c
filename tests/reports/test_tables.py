"""The tables' columns, order and status rules."""

import datetime as dt

import pandas as pd
import pytest

from reports.reasons import Traces
from reports.tables import (
    TABLES,
    backups,
    condition,
    darktime,
    dashboard,
    findings,
    frames,
    guests,
    hazards,
    hosts,
    images,
    performance,
    policies,
    preflight,
    quarantine,
    quotas,
    rehearsals,
    rpms,
    schemas,
    services,
    tokens,
    volumes,
)
from tests.support.facts import beat, guest, have, host, package, service, state, statuses, usage, use, volume

Frame = pd.DataFrame


EMPTY = {
    "rpms": lambda: rpms.table(Frame(), Frame(), set()),
    "services": lambda: services.table(Frame(), Frame(), Frame(), set(), 60),
    "volumes": lambda: volumes.table(Frame(), Frame()),
    "quotas": lambda: quotas.table(Frame(), Frame(), Frame(), per_user=True),
    "guests": lambda: guests.table(Frame(), Frame(), set()),
    "hosts": lambda: hosts.table([]),
    "preflight": lambda: preflight.table([]),
    "hazards": lambda: hazards.table([]),
    "schemas": lambda: schemas.table([]),
    "quarantine": lambda: quarantine.table([], NOW),
    "backups": lambda: backups.table([]),
    "rehearsals": lambda: rehearsals.table([]),
    "darktime": lambda: darktime.table([]),
    "dashboard": lambda: dashboard.table({}),
    "images": lambda: images.table(Frame(), Frame()),
    "policies": lambda: policies.table([]),
    "tokens": lambda: tokens.table([]),
    "performance": lambda: performance.table(None, None, 1.5),
    "condition": lambda: condition.table([]),
}
FULL = {
    "rpms": lambda: rpms.table(Frame([package("h")]), Frame([have("h")]), set()),
    "services": lambda: services.table(Frame([service("h")]), Frame([state("h")]), Frame([beat("h", 1)]), set(), 60),
    "volumes": lambda: volumes.table(Frame([volume("v")]), Frame([volume("v")])),
    "quotas": lambda: quotas.table(
        Frame([usage(1, "cores", 1)]), Frame([use("cores", 1)]), Frame([{"usage_id": 1, "reserved": 0}]), per_user=True
    ),
    "guests": lambda: guests.table(Frame([guest("u")]), Frame([guest("u")]), set()),
    "hosts": lambda: hosts.table([host("s", "top", "h")]),
    "preflight": lambda: preflight.table([checked("h")]),
    "hazards": lambda: hazards.table([looked_for("h")]),
    "schemas": lambda: schemas.table([compared("h")]),
    "quarantine": lambda: quarantine.table([missed("h")], NOW),
    "backups": lambda: backups.table([dumped("h")]),
    "rehearsals": lambda: rehearsals.table([rehearsed("h")]),
    "darktime": lambda: darktime.table([dark((0.0, 2.5, 503))]),
    "dashboard": lambda: dashboard.table({"before": pressed()}),
    "images": lambda: images.table(Frame([image("i")]), Frame([image("i")])),
    "policies": lambda: policies.table([ruled("h")]),
    "tokens": lambda: tokens.table([crossing("top", "a", "b", "ok")]),
    "performance": lambda: performance.table(measured(list=[0.1]), measured(list=[0.1]), 1.5),
    "condition": lambda: condition.table([looked_at("h")]),
}


def pressed() -> dict[str, object]:
    counts = {"requests": 9, "errors": 0, "logins": 3, "failed_logins": 0}
    times = {"median_ms": 5.0, "p95_ms": 9.5}
    return {"machine": "h", "address": "http://x", **counts, **times, "statuses": {"200": 9}, "worse": []}


def crossing(cell, issuer, validator, status):
    return {"cell": cell, "issuer": issuer, "validator": validator, "status": status, "answer": ""}


def checked(host: str, cell: str = "top", check: str = "clock") -> dict[str, str]:
    return {"cell": cell, "host": host, "check": check, "status": "ok", "cause": "", "detail": "+0.01 s"}


def looked_for(host: str) -> dict[str, object]:
    place = {"cell": "top", "host": host, "database": "nova"}
    return {**place, "check": "orphans", "status": "note", "what": "w", "rows": 3, "remedy": ""}


def compared(host: str) -> dict[str, str]:
    place = {"cell": "top", "host": host, "database": "nova"}
    return {**place, "check": "local", "what": "table t", "status": "kept", "before": "1 row", "after": "1 row"}


NOW = "2014-02-24T16:00:00Z"


def missed(host: str, since: str = "2014-02-24T12:30:00.250Z", state: str = "failed") -> dict[str, str]:
    placed = {"cell": "cell1", "host": host, "since": since, "stage": "nova", "run": "r", "step": "s", "state": state}
    return {**placed, "reason": "yum: exit status 1", "scheduling_disabled": "yes"}


def dumped(node: str, cell: str = "top", **proof: list[str]) -> dict[str, object]:
    """A dump, with a proof where its lists are given."""
    its = {
        "cell": cell,
        "node": node,
        "database": "nova",
        "head": 161,
        "server": {"hostname": node, "version": "10.11"},
    }
    what = {"replica_of": "", "tables": 111, "rows": 67, "size": 10811, "sha256": "0" * 64}
    when = {"began": "2014-02-24T08:00:00Z", "ended": "2014-02-24T08:01:00Z"}
    return {**its, **what, **when, "proof": {"differences": [], "unsteady": [], **proof} if proof else None}


def rehearsed(node: str, error: str = "") -> dict[str, object]:
    steps = [{"version": 162 + n, "seconds": 0.5, "written": n, "changed": 1, "deleted": 0} for n in range(2)]
    what = {"start": 161, "end": 163, "seconds": 1.25, "steps": steps, "error": error}
    return {"cell": "top", "place": f"{node}/nova", **what}


def dark(*spans: tuple[float, float | None, int], whole: bool = True) -> dict[str, object]:
    """An API that was looked at for a minute."""
    rows = [dict(zip(("began", "ended", "status"), span, strict=True)) for span in spans]
    return {"api": "cinder", "url": "http://x/", "began": 0.0, "ended": 60.0, "whole": whole, "spans": rows}


def measured(failed: int = 0, guests: list[float] | None = None, **calls: list[float]) -> dict[str, object]:
    """Calls with their seconds, and guests."""
    timed = {name: {"seconds": seconds, "failed": failed, "said": "boom"} for name, seconds in calls.items()}
    made = None if guests is None else {"seconds": guests, "failed": 0, "said": ""}
    return {"calls": timed, "guests": made, "rate": None if guests is None else 60.0 / max(guests)}


# --- all tables ---


@pytest.mark.parametrize("name", sorted(TABLES))
def test_an_empty_table_has_the_columns_and_types_of_a_full_one(name):
    empty, full = EMPTY[name](), FULL[name]()
    assert empty.empty
    assert list(empty.columns) == list(full.columns) == TABLES[name].COLUMNS
    assert empty.dtypes.tolist() == full.dtypes.tolist()
    assert findings(name, full).empty == (name != "quarantine")  # none of its rows is good


@pytest.mark.parametrize("name", sorted(TABLES))
def test_good_statuses_are_not_findings(name):
    kind = TABLES[name]
    rows = Frame({kind.STATUS: [*sorted(kind.GOOD), "a status nobody knows"]})
    assert findings(name, rows)[kind.STATUS].tolist() == ["a status nobody knows"]


def test_a_column_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="not there: role, expected"):
        rpms.table(Frame([{"cell": "top", "host": "h", "package": "p"}]), Frame(), set())


def test_the_preflights_checks_keep_their_order_and_what_is_in_no_cell_is_last():
    rows = [checked("here", ""), checked("c1-n1", "cell1"), checked("a", check="space"), checked("a")]
    table = preflight.table(rows)
    assert table[["host", "check"]].values.tolist() == [
        ["a", "space"],
        ["a", "clock"],
        ["c1-n1", "clock"],
        ["here", "clock"],
    ]


def test_quarantine_says_for_how_long_a_node_lacks_what_it_missed():
    table = quarantine.table([missed("n10"), missed("n9", "2014-02-20T15:00:00.000Z")], NOW)
    assert table[["host", "since", "age"]].values.tolist() == [
        ["n9", "2014-02-20T15:00:00Z", "4 days 1 h"],
        ["n10", "2014-02-24T12:30:00Z", "3 h 29 min"],
    ]


def test_a_dump_is_proven_only_where_restoring_it_showed_no_difference():
    table = backups.table(
        [
            dumped("c1-n2", "cell1", differences=["instances has 1 row, not 2"]),
            dumped("h", unsteady=["services"]),
            dumped("i"),
        ]
    )
    assert table[["host", "status", "detail"]].values.tolist() == [
        ["h", "proven", "services was written to while it was dumped"],
        ["i", "dumped", ""],
        ["c1-n2", "not proven", "instances has 1 row, not 2"],
    ]
    assert findings("backups", table)["host"].tolist() == ["c1-n2"]


def test_a_rehearsal_has_a_row_for_each_version_and_one_for_all():
    table = rehearsals.table([rehearsed("h"), rehearsed("i", "it stopped at version 163: 1060")])
    assert table[["host", "version", "seconds", "written", "status"]].values.tolist() == [
        *[["h", 162, 0.5, 0, "ok"], ["h", 163, 0.5, 1, "ok"], ["h", 163, 1.25, 1, "ok"]],
        *[["i", 162, 0.5, 0, "ok"], ["i", 163, 0.5, 1, "ok"], ["i", 163, 1.25, 1, "stopped"]],
    ]
    assert findings("rehearsals", table)["detail"].tolist() == ["it stopped at version 163: 1060"]


def test_top_is_first_and_numbers_sort_as_numbers():
    rows = [("cell10", "c10-n1"), ("cell2", "c2-n10"), ("cell2", "c2-n9"), ("top", "top-api01"), ("cell2", "a")]
    table = rpms.table(Frame([package(name, cell) for cell, name in rows]), Frame(), set())
    assert table["host"].tolist() == ["top-api01", "a", "c2-n9", "c2-n10", "c10-n1"]


def test_times_are_iso_8601_in_utc():
    berlin = dt.timezone(dt.timedelta(hours=1))
    mixed = pd.Series(
        [
            "2026-01-31T02:03:04",
            None,
            "2026-01-31 03:03:04.9+01:00",
            dt.datetime(2026, 1, 31, 3, 3, 4, tzinfo=berlin),
            "",
        ],
        dtype=object,
    )
    same = "2026-01-31T02:03:04Z"
    assert frames.iso_utc(mixed).tolist() == [same, "", same, same, ""]
    assert frames.iso_utc(pd.Series([1769824984, None])).tolist() == [same, ""]


# --- rpms ---


def test_rpm_statuses():
    expected = [
        *(package(name) for name in ("same", "old", "new", "absent", "silent", "off")),
        package("client", expected="2.15.0"),
        package("epoch", expected="2.15.0"),
    ]
    installed = [
        have("same"),
        have("old", "2013.1.4-1.el6"),
        have("new", "2013.2.2-1.el6"),
        have("absent", name="another"),
        have("off"),
        have("client", "0:2.15.0-7.el6"),
        have("epoch", "1:2.15.0-7.el6"),
    ]
    table = rpms.table(Frame(expected), Frame(installed), {"off"})
    assert statuses(table, "host") == {
        "same": "ok",
        "old": "older",
        "new": "newer",
        "absent": "missing",
        "silent": "missing",  # nothing known of it is not ok
        "off": "unreachable",
        "client": "ok",
        "epoch": "newer",
    }
    shown = dict(zip(table["host"], table["installed"], strict=True))
    assert (shown["off"], shown["absent"], shown["client"], shown["epoch"]) == (
        "",
        "",
        "2.15.0-7.el6",
        "1:2.15.0-7.el6",
    )


def test_the_oldest_of_several_installed_versions_counts():
    installed = [have("h", text) for text in ("2.6.32-9.el6", "2.6.32-10.el6", "2.6.32-8.el6")]
    table = rpms.table(Frame([package("h", expected="2.6.32-10.el6")]), Frame(installed), set())
    assert table.loc[0, ["installed", "status"]].tolist() == ["2.6.32-8.el6", "older"]


def test_an_unreachable_host_has_a_row_for_each_expected_package():
    table = rpms.table(Frame([package("h", name=name) for name in "abc"]), Frame(), ["h"])
    assert table["status"].tolist() == ["unreachable"] * 3


# --- services ---


def test_service_statuses():
    expected = [
        service("ok"),
        service("off"),
        service("silent"),
        service("down"),
        service("unknown"),
        service("held", expected="stopped"),
        service("runs", expected="stopped"),
        service("none"),
        service("late"),
        service("never"),
        service("edge"),
        service("web", binary=""),
    ]
    actual = [state(row["host"]) for row in expected if row["host"] not in ("silent", "down", "held", "unknown")]
    actual += [state("down", "stopped", boot="off"), state("held", "stopped"), state("unknown", "dead")]
    beats = [beat("ok", 3), beat("off", 3), beat("down", 3), beat("late", 61), beat("never", None), beat("edge", 60)]
    table = services.table(Frame(expected), Frame(actual), Frame(beats), {"off"}, 60)
    assert statuses(table, "host") == {
        "ok": "ok",
        "off": "unreachable",
        "silent": "unreachable",
        "down": "stopped",
        "unknown": "stopped",
        "held": "ok",  # what is to be stopped owes no heartbeat
        "runs": "running",
        "none": "unregistered",
        "late": "stale",
        "never": "stale",
        "edge": "ok",
        "web": "ok",
    }
    row = table.set_index("host")
    assert row.loc["down", ["actual", "boot", "heartbeat_age_s"]].tolist() == ["stopped", "off", 3]
    assert row.loc["off", ["actual", "boot"]].tolist() == ["", ""]
    assert pd.isna(row.loc["web", "heartbeat_age_s"])


def test_heartbeats_match_short_and_full_names_within_the_cell():
    expected = [service("a"), service("b.cern.ch"), service("c.cern.ch"), service("d"), service("E")]
    beats = [
        beat("a.cern.ch", 1),
        beat("b", 2),
        beat("c.example.org", 3),
        beat("d", 4, cell="cell01"),
        beat("e", 500),
        beat("e", 5),  # of two rows the freshest
    ]
    table = services.table(Frame(expected), Frame([state(row["host"]) for row in expected]), Frame(beats), set(), 60)
    assert statuses(table, "host") == {
        "a": "ok",
        "b.cern.ch": "ok",
        "c.cern.ch": "unregistered",
        "d": "unregistered",
        "E": "ok",
    }
    assert table.set_index("host")["heartbeat_age_s"].dropna().to_dict() == {"a": 1, "b.cern.ch": 2, "E": 5}


# --- volumes ---


def test_volume_statuses_and_explanations():
    before = [volume("a"), volume("b"), volume("c"), volume("d", size=2)]
    after = [volume("a"), volume("b", status="in-use", attached="i-1"), volume("d", "data2", "q", size=3), volume("e")]
    table = volumes.table(Frame(before), Frame(after)).set_index("id")
    assert table["status"].to_dict() == {"a": "same", "b": "changed", "c": "lost", "d": "changed", "e": "new"}
    assert table["explanation"].to_dict() == {
        "a": "",
        "b": "status available -> in-use; attached to none -> i-1",
        "c": "in the list before, not in the list now",
        "d": "size in GiB 2 -> 3; name data -> data2; project p -> q",
        "e": "not in the list before",
    }
    assert (table.loc["c", "name"], table.loc["c", "before_size_gib"]) == ("data", 1)
    assert table.loc["d", "name"] == "data2"
    assert pd.isna(table.loc["c", "after_size_gib"])


# --- images ---


def image(number: str, **changes: object) -> dict[str, object]:
    known = {"id": number, "name": "cirros", "status": "active", "is_public": 0, "owner": "p", "size": 10}
    return {**known, "checksum": "c", "protected": 0, **changes}


def touched(number: str, **times: str) -> dict[str, object]:
    """What Glance's database says of an image, and since when that counts."""
    made = {"created_at": "2013-11-05T00:00:00Z", "updated_at": "", "deleted_at": "", "deleted": 0}
    return {"id": number, "status": "active", "owner": "p", **made, **times, "since": "2014-02-24T16:00:00Z"}


def test_image_statuses_with_and_without_the_rows_own_times():
    before = [image("a"), image("b"), image("c"), image("d"), image("e", size=None)]
    after = [image("a"), image("b", is_public=1), image("d", name=""), image("e", size=0), image("f"), image("g")]
    late = "2014-02-24T16:00:01Z"
    traces = Traces(
        images=[
            touched("b", updated_at=late),
            touched("c", deleted_at="2014-02-24T15:59:59Z", deleted=1),
            touched("d", updated_at="2014-02-24T15:59:59Z"),
            touched("f", created_at=late),
        ]
    )
    table = images.table(Frame(before), Frame(after), traces).set_index("id")
    assert table["status"].to_dict() == {
        "a": "ok",
        "b": "changed by user",
        "c": "missing",
        "d": "changed",
        "e": "changed",
        "f": "created by user",
        "g": "appeared",
    }
    assert table.loc["b", ["explained_by", "action", "when"]].tolist() == ["user", "change", late]
    assert table.loc["c", ["name", "explained_by", "before_status", "after_status"]].tolist() == [
        *("cirros", "unexplained", "active", "")
    ]
    assert table["explanation"].to_dict() == {
        "a": "",
        "b": "public 0 -> 1",
        "c": "in the list before, not in the list now",
        "d": "name cirros -> none",
        "e": "size in bytes none -> 0",
        "f": "not in the list before",
        "g": "not in the list before",
    }
    assert images.table(Frame(), Frame([image("a")]))["status"].tolist() == ["new"]


def test_an_image_that_its_user_deleted():
    traces = Traces(images=[touched("a", deleted_at="2014-02-24T16:00:00Z", deleted=1)])
    table = images.table(Frame([image("a")]), Frame(), traces)
    assert table[["status", "action", "when"]].values.tolist() == [
        ["deleted by user", "delete", "2014-02-24T16:00:00Z"]
    ]
    assert findings("images", table).empty


# --- policies ---


def looked_at(host: str, **changes: object) -> dict[str, object]:
    seen = {"cell": "top", "host": host, "what": "kernel", "expected": "2.6.32", "actual": "2.6.32", "status": "ok"}
    return {**seen, **changes}


def ruled(host: str, **changes: object) -> dict[str, object]:
    rule = {"cell": "top", "host": host, "file": "/etc/glance/policy.json", "rule": "r", "expected": '"role:admin"'}
    return {**rule, "actual": '"role:admin"', "open": False, "fallback": '""', "error": "", **changes}


def test_policy_statuses():
    rows = [
        ruled("a"),
        ruled("b", actual='"role:cloud"'),
        ruled("c", actual='""', open=True),
        ruled("d", actual=None),
        ruled("e", actual=None, fallback='"role:admin"'),
        ruled("f", actual=None, fallback=None),
        ruled("g", actual=None, error="no JSON"),
    ]
    table = policies.table(rows, [{"cell": "top", "host": "h"}])
    assert statuses(table, "host") == {
        "a": "ok",
        "b": "own",
        "c": "open",
        "d": "missing",
        "e": "missing",
        "f": "missing",
        "g": "unreadable",
        "h": "unreachable",
    }
    assert table["explanation"].tolist() == [
        "",
        "the site's own rule",
        'r is "": whoever asks passes; write "role:admin"',
        'there is no r, so that default counts (""): whoever asks counts as one',
        'there is no r, so that default counts ("role:admin")',
        "there is no r, and no default",
        "no JSON",
        "",
    ]
    assert findings("policies", table)["host"].tolist() == ["c", "d", "e", "f", "g", "h"]


# --- guests ---


def test_guest_statuses():
    before = [guest("same"), guest("ticks"), guest("boot"), guest("gone"), guest("moved"), guest("off", "h9")]
    after = [
        guest("same", ticks=100.0),
        guest("ticks", ticks=101, started=1391500000),
        guest("boot", boot="b2"),
        guest("moved", "h2", boot="b7"),
        guest("fresh"),
    ]
    table = guests.table(Frame(before), Frame(after), {"h9"})
    assert statuses(table, "uuid") == {
        "same": "running",
        "ticks": "restarted",
        "boot": "restarted",
        "gone": "lost",
        "moved": "moved",
        "fresh": "new",
        "off": "unreachable",
    }
    row = table.set_index("uuid")
    assert row.loc["ticks", ["before_started", "after_started"]].tolist() == [
        "2014-02-03T04:00:00Z",
        "2014-02-04T07:46:40Z",
    ]
    assert row.loc["moved", "host"] == "h2"
    assert row.loc["gone", "after_started"] == row.loc["fresh", "before_started"] == ""


def test_a_guest_without_proof_is_not_called_running():
    """No boot id on either side: nothing was proven."""
    table = guests.table(Frame([guest("u", boot="")]), Frame([guest("u", boot="")]), set())
    assert table["status"].tolist() == ["restarted"]


# --- quotas ---


def test_quota_statuses_the_first_that_applies():
    usages = [
        usage(1, "cores", 1),
        usage(2, "ram", 1, project=None, user=None),
        usage(3, "instances", 1),
        usage(4, "instances", 2),
        usage(5, "ram", 9, reserved=1),
        usage(6, "fixed_ips", 2, user=None, reserved=3),
        usage(7, "networks", 5, user=None),  # cannot be counted from the database
        usage(8, "fixed_ips", 1, user=""),  # not the row of the project: its user is an empty text
        usage(9, "security_groups", 0, user=None),  # counted by user, and nothing is without one
    ]
    actual = [
        use("cores", 1),
        use("instances", 1),
        use("ram", 1),
        use("fixed_ips", 2, user=None),
        use("cores", 4, user="v"),
    ]
    reserved = [{"usage_id": 6, "reserved": 1}, {"usage_id": 6, "reserved": 1}]
    rows = quotas.records(Frame(usages), Frame(actual), Frame(reserved), per_user=True)
    assert {(row["id"], row["status"]) for row in rows} == {
        (1, "ok"),
        (2, "orphan"),
        (3, "duplicate"),
        (4, "duplicate"),
        (5, "wrong"),
        (6, "leaked"),
        (7, "uncounted"),
        (8, "orphan"),
        (9, "orphan"),
        (None, "missing"),
    }
    missing = next(row for row in rows if row["status"] == "missing")
    assert (missing["user_id"], missing["in_use"], missing["actual"], missing["reserved"]) == ("v", None, 4, None)
    table = quotas.table(Frame(usages), Frame(actual), Frame(reserved), per_user=True)
    leaked = table[table["status"] == "leaked"].iloc[0]
    assert leaked[["user_id", "in_use", "reserved", "reserved_actual"]].tolist() == ["", 2, 3, 2]
    assert table["cell"].unique().tolist() == ["top"]
    ordered = table[["project_id", "user_id", "resource"]].apply(tuple, axis=1).tolist()
    assert ordered == sorted(ordered)


@pytest.mark.parametrize(
    ("in_use", "until_refresh", "heals"),
    [
        (5, None, "never"),
        (5, 3, "in 3 reservations"),
        (5, 1, "at the next reservation"),
        (5, 0, "at the next reservation"),
        (-1, None, "at the next reservation"),
        (-1, 7, "at the next reservation"),
    ],
)
def test_a_wrong_row_tells_when_the_release_counts_it_again(in_use, until_refresh, heals):
    row = {**usage(1, "cores", in_use), "until_refresh": until_refresh}
    table = quotas.table(Frame([row]), Frame([use("cores", 2)]), Frame(), per_user=True)
    assert table[["status", "heals"]].to_numpy().tolist() == [["wrong", heals]]


@pytest.mark.parametrize(
    ("in_use", "deltas", "status"),
    [
        (4, [2], "busy"),
        (3, [2], "busy"),
        (2, [2], "wrong"),
        (6, [2], "wrong"),
        (7, [-2], "busy"),
        (8, [-2], "wrong"),
        (4, [-2], "wrong"),
        (5, [2, -2], "ok"),
        (3, [1, 1, -1], "busy"),
    ],
)
def test_what_a_request_under_way_explains_is_busy(in_use, deltas, status):
    """5 are in use: a request may have made what it reserved for, or deleted it, and not have said so yet."""
    held = [{"usage_id": 1, "reserved": max(d, 0), "delta": d, "under_way": True} for d in deltas]
    row = usage(1, "cores", in_use, reserved=sum(max(d, 0) for d in deltas))
    frames = Frame([row]), Frame([use("cores", 5)]), Frame(held)
    assert quotas.table(*frames, per_user=True)["status"].tolist() == [status]
    over = Frame([{**row, "under_way": False} for row in held])
    expected = "ok" if in_use == 5 else "wrong"
    assert quotas.table(frames[0], frames[1], over, per_user=True)["status"].tolist() == [expected]


def test_a_byte_by_byte_collation_keeps_names_apart():
    usages = Frame([usage(1, "cores", 1, project="p"), usage(2, "cores", 1, project="P")])
    rules = quotas.Rules(per_user=False, counted=["cores"], exact=True)
    actual = Frame([use("cores", 1, project="p"), use("cores", 1, project="P ")])
    assert quotas.table(usages, actual, Frame(), per_user=False, rules=rules)["status"].tolist() == ["ok", "ok"]
    table = quotas.table(usages, Frame(), Frame(), per_user=False)
    assert table["status"].tolist() == ["duplicate", "duplicate"]


def test_quotas_by_project_leave_the_user_aside():
    table = quotas.table(Frame([usage(1, "cores", 2)]), Frame([use("cores", 2, user=None)]), Frame(), per_user=False)
    assert table[["user_id", "status"]].to_numpy().tolist() == [["", "ok"]]


# --- hosts ---


def test_hosts_keep_the_order_of_the_steps():
    rows = [
        host("stop", "cell01", "c01-n2", "unreachable", attempts=2, detail="no answer"),
        host("stop", "top", "t1", "changed", started_at="2026-01-31T02:03:04Z"),
        host("back up", "top", "t1", "not_run"),
        host("stop", "cell01", "c01-n1", "skipped"),
    ]
    table = hosts.table(rows)
    assert table[["step", "host"]].to_numpy().tolist() == [
        ["stop", "t1"],
        ["stop", "c01-n1"],
        ["stop", "c01-n2"],
        ["back up", "t1"],
    ]
    assert findings("hosts", table)["state"].tolist() == ["unreachable", "not_run"]
    assert table.loc[2, "attempts"] == 2
    assert table.loc[0, ["started_at", "finished_at", "detail"]].tolist() == ["2026-01-31T02:03:04Z", "", ""]


# --- dark times ---


def test_each_time_without_service_is_a_row_and_one_that_did_not_end_is_not_good():
    table = darktime.table([dark((1.0, 3.5, 503), (50.0, None, 0))])
    assert table[["dark_from", "dark_until", "seconds", "answer", "status"]].values.tolist() == [
        ["1970-01-01T00:00:01+00:00", "1970-01-01T00:00:03+00:00", 2.5, "HTTP 503", "dark"],
        ["1970-01-01T00:00:50+00:00", "", 10.0, "none", "not back"],
    ]
    assert findings("darktime", table)["status"].tolist() == ["not back"]


def test_an_api_that_served_all_the_time_has_a_row_too():
    assert darktime.table([dark()])["status"].tolist() == ["served"]
    assert darktime.table([dark(whole=False)])["status"].tolist() == ["cut off"]


# --- performance ---


def test_a_call_is_slower_by_its_median_and_one_that_fails_says_why():
    table = performance.table(
        measured(a=[0.1] * 20, b=[0.1, 0.1, 9.0], c=[0.1], guests=[2.0, 3.0]),
        measured(a=[0.16] * 20, b=[0.1, 0.12, 0.11], d=[0.2], guests=[2.0, 6.0]),
        1.5,
    )
    assert table[["what", "before", "after", "ratio", "status"]].fillna(-1).values.tolist() == [
        ["a", 100.0, 160.0, 1.6, "slower"],
        ["b", 100.0, 110.0, 1.1, "ok"],
        ["c", 100.0, -1, -1, "not after"],
        [performance.GUESTS, 2500.0, 4000.0, 1.6, "slower"],
        ["d", -1, 200.0, -1, "not before"],
        [performance.RATE, 20.0, 10.0, 0.5, "slower"],
    ]
    failing = performance.table(measured(a=[0.1]), measured(failed=1, a=[0.1]), 1.5)
    assert failing[["status", "detail"]].values.tolist() == [["failing", "boom"]]


def test_names_of_several_guests_that_are_wrong_fail_whatever_was_before():
    def side(*faults):
        return {**measured(), "several": {"count": 2, "names": ["a", "b"], "faults": list(faults)}}

    assert performance.table(side(), side(), 1.5)["status"].tolist() == ["ok"]
    wrong = performance.table(side(), side("2 guests have the same name a"), 1.5)
    assert wrong[["status", "detail"]].values.tolist() == [["failing", "2 guests have the same name a"]]
    assert performance.table(side("x"), side("x"), 1.5)["status"].tolist() == ["failing"]
    alone = performance.table(side("x"), None, 1.5)
    assert alone[["status", "detail"]].values.tolist() == [["failing", "x (before the upgrade)"]]
    assert performance.regressed(performance.table(side(), None, 1.5)).empty


# Tokens


def test_tokens_are_in_the_order_of_cells_and_only_ok_is_good():
    rows = [
        crossing("cell10", "c", "c", "ok"),
        crossing("cell2", "b", "", "refused"),
        crossing("top", "t2", "t1", "error"),
        crossing("top", "t1", "t2", "silent"),
    ]
    table = tokens.table(rows)
    assert table["issuer"].tolist() == ["t1", "t2", "b", "c"]
    assert findings("tokens", table)["status"].tolist() == ["silent", "error", "refused"]


def test_a_volume_whose_device_or_attachment_is_another_has_changed():
    before = Frame(
        [{**volume("v", attached="g", status="in-use"), "attach_status": "attached", "mountpoint": "/dev/vdb"}]
    )
    after = Frame([{**volume("v", attached="g", status="in-use"), "attach_status": "detached", "mountpoint": ""}])
    made = volumes.table(before, after, Traces())
    assert made["status"].tolist() == ["changed"]
    assert made["explanation"].tolist() == ["attachment attached -> detached; device /dev/vdb -> none"]
    assert made["explained_by"].tolist() == ["unexplained"]


def test_a_list_of_an_earlier_cellstep_is_compared_by_what_it_has():
    after = Frame([{**volume("v"), "attach_status": "detached", "mountpoint": ""}])
    assert volumes.table(Frame([volume("v")]), after, Traces())["status"].tolist() == ["same"]
    assert volumes.table(Frame([volume("v", size=2)]), after, Traces())["explanation"].tolist() == [
        "size in GiB 2 -> 1"
    ]


def test_a_node_that_gave_no_answer_is_one_row():
    made = condition.table(
        [looked_at("h"), looked_at("h", what="clock", status="off")], [{"cell": "c1", "host": "away"}]
    )
    assert made[["host", "what", "status"]].to_numpy().tolist() == [
        ["h", "kernel", "ok"],
        ["h", "clock", "off"],
        ["away", "node", "unreachable"],
    ]
