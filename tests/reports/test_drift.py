"""What is another than in the audit before; and audits kept small."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.inventory.ranges import fold
from reports.compact import pack, unpack
from reports.drift import Side, changes
from reports.tables import TABLES, condition, quotas, rpms
from tests.support.facts import have, package

NEW, OLD = "2013.2.1-1.el6", "2013.1.4-1.el6"
NODES = ("h1", "h2", "h3")


def side(versions, silent=(), nodes=NODES, looked=()):
    """An audit of nodes with these versions of one package."""
    heard = [node for node in nodes if node not in silent]
    expected = pd.DataFrame([package(node) for node in nodes])
    installed = pd.DataFrame(
        [have(node, versions.get(node, NEW)) for node in heard], columns=["host", "package", "installed"]
    )
    rows = [
        {"cell": "top", "host": node, "what": "puppet", "expected": "", "actual": "enabled", "status": "ok"}
        for node in heard
    ]
    rows += [{"cell": "top", "expected": "", **row} for row in looked]
    tables = {"rpms": rpms.table(expected, installed, set(silent)), "condition": condition.table(rows)}
    packed = {name: unpack(pack(frame)) for name, frame in tables.items()}
    return Side(packed, dict.fromkeys(silent, "no answer"), frozenset(nodes))


def lines(before, after):
    return [(row.kind, row.table, row.where, row.text) for row in changes(before, after, "then", fold).rows]


def test_nothing_has_changed():
    assert lines(side({}), side({})) == []


def test_a_node_that_came_back_on_old_rpms_is_the_first_line():
    before = side({}, silent=["h2"])
    worse = {"host": "h1", "what": "clock", "actual": "+9 s", "status": "off"}
    after = side({"h2": OLD}, silent=["h3"], looked=[worse])
    found = lines(before, after)
    assert found[0] == ("worse", "rpms", "h2", f"came back on old RPMs: python-nova {OLD}")
    assert found[1:] == [
        ("worse", "answers", "h3", "answers no more: no answer"),
        ("new", "condition", "h1", "clock: off (+9 s)"),
        ("better", "answers", "h2", "answers again"),
    ]


def test_an_old_rpm_is_told_once_and_again_only_when_it_was_mended():
    assert lines(side({}), side({"h1": OLD, "h2": OLD})) == [
        ("worse", "rpms", "h[1-2]", f"is on old RPMs again: python-nova {OLD}")
    ]
    assert lines(side({"h1": OLD}), side({"h1": OLD})) == []
    assert lines(side({"h1": OLD}), side({})) == [
        ("better", "rpms", "h1", f"python-nova: older → ok; installed {OLD} → {NEW}")
    ]


def test_nodes_of_the_inventory_come_and_go():
    assert lines(side({}), side({}, nodes=("h1", "h3", "h4"))) == [
        ("gone", "inventory", "h2", "not in the inventory any more"),
        ("new", "inventory", "h4", "a new node"),
    ]


def test_what_passes_by_itself_is_no_change_and_a_new_boot_is_one():
    def looked(boot, uptime):
        return [
            {"host": "h1", "what": "boot", "actual": boot, "status": "ok"},
            {"host": "h1", "what": "uptime", "actual": uptime, "status": "ok"},
        ]

    before = side({}, looked=looked("a", "3 days"))
    assert lines(before, side({}, looked=looked("a", "4 days"))) == []
    assert lines(before, side({}, looked=looked("b", "0 hours"))) == [
        ("changed", "condition", "h1", "boot: actual a → b")
    ]


def test_a_table_that_only_one_audit_has_is_not_compared():
    alone = Side(
        {"quotas": quotas.table(pd.DataFrame(), pd.DataFrame(), pd.DataFrame(), per_user=True)}, {}, frozenset(NODES)
    )
    assert lines(alone, side({"h1": OLD})) == []


@given(
    st.dictionaries(st.sampled_from(NODES), st.sampled_from([NEW, OLD, "2014.1-1.el6"])),
    st.sets(st.sampled_from(NODES)),
)
def test_exactly_what_was_planted_is_named(versions, silent):
    after = side(versions, silent=sorted(silent))
    named = {name for row in changes(side({}), after, "then", str).rows for name in NODES if name in row.where}
    assert named == silent | {node for node, version in versions.items() if version != NEW and node not in silent}


CELLS = st.text(alphabet="ab=<é\n", max_size=3)


@given(st.lists(st.tuples(st.sampled_from(["h1", "h2", "h3"]), CELLS, CELLS), max_size=12))
def test_what_is_kept_comes_back(rows):
    frame = pd.DataFrame([("top", *row) for row in rows], columns=["cell", "host", "what", "status"], dtype="str")
    back = unpack(pack(frame))
    assert sorted(back[["cell", "host", "what", "status"]].itertuples(index=False, name=None)) == sorted(
        frame.itertuples(index=False, name=None)
    )


def test_ten_thousand_nodes_alike_are_kept_once():
    rows = [("cell01", f"c01-n{n:05d}", f"p{package}", "ok") for n in range(10_000) for package in range(5)]
    packed = pack(pd.DataFrame(rows, columns=["cell", "host", "package", "status"], dtype="str"))
    assert len(packed["sets"]) == 1
    assert len(packed["sets"][0]["hosts"]) == 10_000


@pytest.mark.parametrize("name", [name for name, kind in TABLES.items() if hasattr(kind, "KEY")])
def test_keys_are_columns(name):
    assert set(TABLES[name].KEY) <= set(TABLES[name].COLUMNS)
