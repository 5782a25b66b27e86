"""What a caller in Python has of a run: records, a table, and what a notebook shows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import scenarios
from gossip.errors import SettingError

SMALL = {"scenario.peers": 3, "stop.rounds": 2, "scenario.algorithm": "dfedavg", "topology.kind": "full"}


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("runs") / "<b>run</b>"
    return scenarios.run("quickstart", overrides=SMALL, report=False, out=out)


def test_the_table_is_the_records(result: Any) -> None:
    table = result.to_pandas()
    assert len(table) == len(result.metrics) == 6
    assert table["accuracy"].tolist() == [entry["accuracy"] for entry in result.metrics]
    assert set(table["peer"]) == {"peer-00", "peer-01", "peer-02"}


def test_without_pandas_a_sentence_says_how_to_get_it(result: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(
        SettingError, match=r"pandas, which is not installed: pip install 'gossip-node\[pandas\]'"
    ):
        result.to_pandas()


def test_a_notebook_shows_what_the_terminal_does_and_the_score_over_rounds(result: Any) -> None:
    shown = result._repr_html_()
    ElementTree.fromstring(shown)  # nothing is left open, and no name of a folder is markup
    for told in ("peer-00", "own models", "consensus distance", "<polyline", "in round 2"):
        assert told in shown
    assert "<script" not in shown
    assert "http" not in shown.replace("http://www.w3.org", "")
    assert "report:" not in shown
    page = result.folder / "report.html"
    page.write_text("")
    linked = result._repr_html_()
    page.unlink()
    ElementTree.fromstring(linked)
    assert "report:" in linked


def test_a_run_of_one_round_has_no_curve(tmp_path: Path) -> None:
    overrides = {**SMALL, "stop.rounds": 1}
    shown = scenarios.run("quickstart", overrides=overrides, report=False, out=tmp_path / "run")._repr_html_()
    assert "peer-00" in shown
    assert "<svg" not in shown or "in round 1" in shown
