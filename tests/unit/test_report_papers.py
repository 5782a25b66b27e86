"""Figures for papers: every figure of a run as SVG files or one PDF, the same bytes each time."""

from __future__ import annotations

from pathlib import Path

import pytest

import scenarios
from scenarios import cli

OVERRIDES = {
    "scenario.peers": 5,
    "stop.rounds": 3,
    "data.train_max": 300,
    "model.name": "logistic",
    "topology.kind": "ring",
}
ATTACKED = {"attack.kind": "nan", "attack.count": 1, "merge.kind": "median", "topology.kind": "full"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("papers")
    scenarios.run("quickstart", overrides=OVERRIDES, out=out / "calm", report=False)
    scenarios.run("quickstart", overrides={**OVERRIDES, **ATTACKED}, out=out / "attacked", report=False)
    return out


def names(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.svg")}


def test_svg_has_a_file_for_each_figure_and_those_of_attacks_only_where_there_are(
    folder: Path, tmp_path: Path
) -> None:
    for run in ("calm", "attacked"):
        assert cli.call(["report", str(folder / run), "--svg", str(tmp_path / run)]) == 0
    calm = {"score", "agreement", "cost", "traffic", "peers", "network"}
    assert names(tmp_path / "calm") == calm
    assert names(tmp_path / "attacked") >= {"weights", "verdicts"}
    assert not (folder / "calm" / "report.html").exists()
    again = tmp_path / "again"
    assert cli.call(["report", str(folder / "calm"), "--svg", str(again)]) == 0
    assert all(
        (again / f"{name}.svg").read_bytes() == (tmp_path / "calm" / f"{name}.svg").read_bytes()
        for name in calm
    )


def test_several_runs_are_told_apart_in_one_pdf_and_the_page_comes_where_it_is_named(
    folder: Path, tmp_path: Path
) -> None:
    runs = [str(folder / name) for name in ("calm", "attacked")]
    pdf, page = tmp_path / "all.pdf", tmp_path / "all.html"
    assert (
        cli.call(["report", *runs, "--pdf", str(pdf), "--svg", str(tmp_path / "all"), "--out", str(page)])
        == 0
    )
    assert pdf.read_bytes().startswith(b"%PDF")
    assert page.exists()
    assert {"score", "rules-and-attacks"} <= names(tmp_path / "all")


def test_a_pdf_has_the_name_of_one(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.call(["report", str(folder / "calm"), "--pdf", str(tmp_path / "figures.png")]) == 2
    assert "must end in .pdf" in capsys.readouterr().err
