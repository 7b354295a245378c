"""JSON of tables, in parts."""

import json

import pandas as pd
import pytest

from reports import writers

AGES = pd.array([1, None, 3], dtype="Int64")
ROWS = pd.DataFrame({"host": ["n1", 'a "b"', "ü"], "age_s": AGES, "status": ["ok"] * 3})


@pytest.mark.parametrize("at_once", [1, 2, 10])
def test_the_parts_are_one_object(monkeypatch, at_once):
    monkeypatch.setattr(writers, "_ROWS", at_once)
    tables = {"services": ROWS, "rpms": ROWS.iloc[:0], "more": ROWS}
    said = json.loads("".join(writers.json_parts({"name": "a", "counts": {"ok": 3}}, tables)))
    ages = [{"host": host, "age_s": age, "status": "ok"} for host, age in (("n1", 1), ('a "b"', None), ("ü", 3))]
    assert said == {"name": "a", "counts": {"ok": 3}, "tables": {"services": ages, "rpms": [], "more": ages}}


def test_no_tables():
    assert json.loads("".join(writers.json_parts({"name": "a"}, {}))) == {"name": "a", "tables": {}}
