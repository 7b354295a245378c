"""A report as JUnit XML, for pipelines: a suite a table, and a case for each node, or for each row without one.

A case fails where a row of it is neither compliant nor merely worth a look; rows worth a look are in its output. A
node that could not be asked is an error.
"""

from collections.abc import Mapping
from xml.etree.ElementTree import Element, ElementTree, SubElement

import pandas as pd

from reports.judgement import judged, tone
from reports.story import Story
from reports.tables import TABLES

LINES = 50
"""Rows that a failure tells; the CSV has all."""

_NOT_XML = {code: "�" for code in range(32) if chr(code) not in "\t\n\r"} | {0xFFFE: "�", 0xFFFF: "�"}


def junit(tables: Mapping[str, pd.DataFrame], story: Story) -> ElementTree:
    """Make the document.

    Args:
        tables: frames of `reports.tables`, by name; `hosts` is left out, as it tells what happened.
        story: its title and the nodes that could not be asked.
    """
    suites = Element("testsuites", name=_text(story.title))
    for name, frame in judged(tables).items():
        _suite(suites, name, frame)
    if story.silent:
        suite = SubElement(suites, "testsuite", name="answers")
        for host, why in story.silent.items():
            case = SubElement(suite, "testcase", name=_text(host), classname="answers")
            SubElement(case, "error", message=_text(why))
        suite.attrib |= {"tests": str(len(story.silent)), "failures": "0", "errors": str(len(story.silent))}
    for count in ("tests", "failures", "errors"):
        suites.set(count, str(sum(int(suite.get(count, "0")) for suite in suites)))
    return ElementTree(suites)


def _suite(suites: Element, name: str, frame: pd.DataFrame) -> None:
    suite = SubElement(suites, "testsuite", name=name)
    status = str(TABLES[name].STATUS)
    texts = frame.astype("str").fillna("").replace("<NA>", "")
    tones = texts[status].map({word: tone(name, word) for word in texts[status].unique()})
    cases = texts["host"] if "host" in texts.columns else _named(texts, status)
    failures = 0
    for case, rows in texts.groupby(cases, sort=False):
        made = SubElement(suite, "testcase", name=_text(str(case)), classname=name)
        its = tones[rows.index]
        if (its == "bad").any():
            failures += 1
            said = _lines(rows[its == "bad"])
            SubElement(made, "failure", message=_text(said[0])).text = _text("\n".join(said))
        if (its == "warn").any():
            SubElement(made, "system-out").text = _text("\n".join(_lines(rows[its == "warn"])))
    suite.attrib |= {"tests": str(len(suite)), "failures": str(failures), "errors": "0"}


def _named(texts: pd.DataFrame, status: str) -> pd.Series:
    """A case's name where rows are not about nodes: the columns before the status, as far as they have three words."""
    columns = [column for column in texts.columns if column != status][:3]
    if not columns or texts.empty:
        return pd.Series("", index=texts.index, dtype="str")
    return texts[columns].agg(" ".join, axis=1).str.strip()


def _lines(rows: pd.DataFrame) -> list[str]:
    told = [
        ", ".join(f"{column} {value}" for column, value in row.items() if value)
        for row in rows.head(LINES).to_dict("records")
    ]
    return told + ([f"and {len(rows) - LINES:,} more"] if len(rows) > LINES else [])


def _text(text: str) -> str:
    """Without what XML cannot hold."""
    return text.translate(_NOT_XML)
