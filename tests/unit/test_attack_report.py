"""What a page shows of attacks: verdicts over time in one run, rules against attacks in many."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

import scenarios
from scenarios import report, verdict_figures
from scenarios.comparison import NOBODY, compare
from scenarios.run_folder import REPORT
from tests.unit.test_run_folder import Page, images

TEXT = """
[scenario]
name = "attacked"
peers = 6
algorithm = "d-psgd"
[data]
train_max = 300
[model]
name = "logistic"
[topology]
kind = "full"
[stop]
rounds = 6
[evaluate]
every = 2
[merge]
kind = "krum"
f = 1
[attack]
kind = "mixed"
kinds = ["nan", "sign-flip"]
count = 2
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("attacked") / "attacked.toml"
    path.write_text(TEXT)
    return scenarios.run(path, out=path.parent / "run").folder


def test_the_page_of_an_attacked_run_shows_who_attacked_and_what_became_of_it(folder: Path) -> None:
    page = Page((folder / REPORT).read_text(encoding="utf-8"))
    assert "6 peers, 2 of them attack (mixed)" in page.shown
    assert "Weight of each peer" in page.shown
    assert "Verdict on each peer" in page.shown
    # Four honest peers: three models are looked at, the others of the six rounds are muted.
    assert "peer-04 attacks240muted 12, non-finite 12" in page.shown
    assert "peer-05 attacks240far 24" in page.shown
    drawn = [image for image in images(page) if "left it out" in image or "an attacker each" in image]
    assert len(drawn) == 2


def test_without_attackers_or_verdicts_the_page_has_no_such_sections(folder: Path, tmp_path: Path) -> None:
    clean = scenarios.run(
        folder.parent / "attacked.toml",
        overrides={"attack.kind": "none", "merge.kind": "average", "stop.rounds": 2},
        out=tmp_path / "clean",
    ).folder
    shown = Page((clean / REPORT).read_text(encoding="utf-8")).shown
    for heading in ("Weight of each peer", "Verdict on each peer", "What became of each", "them attack"):
        assert heading not in shown


def summary(mean: float, worst: float, attack: str | None = None, attackers: int = 3) -> dict[str, Any]:
    said = None if attack is None else {"kind": attack, "attackers": ["x"] * attackers}
    return {"accuracy": {"mean": mean, "min": worst}, "attack": said}


def test_runs_are_gathered_by_rule_and_attack() -> None:
    krum, stock, hard = (
        {"merge": {"kind": "krum", "f": 3}},
        {"merge": {"kind": "bristle", "hardened": False}},
        {"merge": {"kind": "bristle", "hardened": True}},
    )
    found = compare(
        [
            (summary(0.8, 0.7, "ipm"), krum),
            (summary(0.6, 0.5, "ipm"), krum),
            (summary(0.9, 0.9), {"merge": {"kind": "krum", "f": 0}}),
            (summary(0.4, 0.3, "ipm", 5), stock),
            (summary(0.5, 0.3), {**hard, "protocol": {"gossip_steps": 0}}),
            (summary(0.85, 0.8), hard),
        ]
    )
    assert found.attacks == (NOBODY, "ipm × 3", "ipm × 5")
    assert found.rules == ("krum", "bristle (hardened = false)", "local", "bristle (hardened = true)")
    assert found.runs.tolist() == [[1, 2, 0], [0, 0, 1], [1, 0, 0], [1, 0, 0]]
    assert found.mean[0, 1] == pytest.approx(0.7)
    assert found.std[0, 1] == pytest.approx(0.1)
    assert found.worst[0, 1] == pytest.approx(0.6)
    assert found.worth_showing
    assert not compare([(summary(0.8, 0.7), krum)]).worth_showing


def test_many_runs_are_one_matrix(folder: Path, tmp_path: Path) -> None:
    other = scenarios.run(
        folder.parent / "attacked.toml",
        overrides={"attack.kind": "ipm"},
        out=tmp_path / "other",
        report=False,
    ).folder
    page = tmp_path / "page.html"
    report.write_report([folder, other] * 13, page)
    shown = Page(page.read_text(encoding="utf-8"))
    assert "Which rule stands which attack" in shown.shown
    assert "mixed × 2" in shown.shown
    assert "ipm × 2" in shown.shown
    # More runs than curves can be told apart: the matrix alone.
    assert len(images(shown)) == 1


def test_weights_and_verdicts_of_one_sender_are_means_over_the_honest() -> None:
    metrics = [
        {"peer": "a", "round": 1, "verdicts": {"x": [0.5, ""], "y": [0.0, "far"]}},
        {"peer": "b", "round": 1, "verdicts": {"x": [0.1, ""]}},
        {"peer": "c", "round": 1},
    ]
    told = verdict_figures.told_by(metrics)
    assert told == {("x", 1): [(0.5, ""), (0.1, "")], ("y", 1): [(0.0, "far")]}
    drawn = verdict_figures.weights(told, ["y"])
    assert drawn is not None
    assert base64.b64decode(drawn.partition(",")[2]).startswith(b"<?xml")
    assert verdict_figures.weights({}, []) is None
    assert verdict_figures.verdicts({}, []) is None
