"""What a page shows of attacks: verdicts over time in one run, rules against attacks in many."""

from __future__ import annotations

import copy
import io
import itertools
import json
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import scenarios
from gossip.learning.objectives.score import ACCURACY, Score
from gossip.telemetry import verdicts
from scenarios.reports import page as report
from scenarios.reports import terminal as tables
from scenarios.reports import verdict_figures
from scenarios.reports.comparison import compare
from scenarios.reports.differences import NOBODY, experiments, labels
from scenarios.reports.document import of_runs
from scenarios.reports.document.attacks import told_by
from scenarios.reports.overview import overview
from scenarios.reports.repetitions import pooled_curve
from scenarios.run_folder import REPORT
from tests.unit.test_run_folder import Page

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
    shown = Page((folder / REPORT).read_text(encoding="utf-8")).document
    assert "6 peers, 2 of them attack (mixed)" in shown["lead"]
    attack = shown["attack"]
    assert attack["attackers"] == ["peer-04", "peer-05"]
    # Four honest peers: three models are looked at, the others of the six rounds are muted.
    first, second = attack["senders"][:2]
    assert first == {
        "sender": "peer-04",
        "attacks": True,
        "models": 24,
        "accepted": 0,
        "reasons": "muted 12, non-finite 12",
    }
    assert (second["sender"], second["reasons"]) == ("peer-05", "far 24")
    judged = attack["verdicts"]
    assert judged["senders"][-2:] == ["peer-04", "peer-05"]
    assert judged["attacks"][-2:] == [True, True]
    assert set(judged["left_out"][-1]) == {1}
    assert set(judged["weight"][-1]) == {0}


def test_models_of_more_senders_than_a_peer_keeps_apart_are_shown_together(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = json.loads((folder / "summary.json").read_text())["attack"]
    monkeypatch.setattr(verdicts, "SENDERS_MAX", 3)
    result = scenarios.run(folder.parent / "attacked.toml", out=tmp_path / "few")
    attack = result.summary["attack"]
    names = ("attackers_models", "honest_models", "unnamed_models")
    together = sum((Counter(attack[name]) for name in names), Counter())
    assert plain["unnamed_models"] == {}
    assert sum(attack["unnamed_models"].values()) > 0
    assert together == sum((Counter(plain[name]) for name in names), Counter())
    few = Page((result.folder / REPORT).read_text(encoding="utf-8")).document["attack"]
    assert few["others"]["models"] == sum(attack["unnamed_models"].values())
    assert Page((folder / REPORT).read_text(encoding="utf-8")).document["attack"]["others"] is None
    console = Console(file=io.StringIO(), width=120)
    tables.print_result(console, result.summary, result.peers, report="r")
    assert "further models" in console.file.getvalue()  # type: ignore[attr-defined]


def test_bytes_of_honest_peers_are_not_called_those_of_all(folder: Path) -> None:
    run = report.read_run(folder)
    assert report.document([run])["senders"] == "the honest peers"
    calm = replace(run, peers=[{**peer, "honest": True} for peer in run.peers])
    assert report.document([calm])["senders"] == "all peers"


def test_without_attackers_or_verdicts_the_page_has_no_such_sections(folder: Path, tmp_path: Path) -> None:
    clean = scenarios.run(
        folder.parent / "attacked.toml",
        overrides={"attack.kind": "none", "merge.kind": "average", "stop.rounds": 2},
        out=tmp_path / "clean",
    ).folder
    shown = Page((clean / REPORT).read_text(encoding="utf-8")).document
    assert shown["attack"] is None
    assert "attack" not in shown["lead"]
    assert not any(shown["peers"]["attacks"])


def summary(
    mean: float,
    worst: float,
    attack: str | None = None,
    attackers: int = 3,
    *,
    seed: int = 0,
    honest: int = 10,
) -> dict[str, Any]:
    said = None if attack is None else {"kind": attack, "attackers": ["x"] * attackers}
    return {
        "score": {"mean": mean, "worst": worst},
        "attack": said,
        "seed": seed,
        "honest_peers": honest,
        "engine": "virtual",
    }


def test_runs_are_pooled_over_seeds_by_rule_and_attack() -> None:
    krum, stock, hard = (
        {"merge": {"kind": "krum", "f": 3}},
        {"merge": {"kind": "bristle", "hardened": False}},
        {"merge": {"kind": "bristle", "hardened": True}},
    )
    found = compare(
        [
            (summary(0.8, 0.7, "ipm"), krum),
            (summary(0.6, 0.5, "ipm", seed=1), krum),
            (summary(0.6, 0.5, "ipm", seed=1), krum),  # given twice, it counts once
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
    # f goes with the attack here: no row of its own, and still told.
    assert found.told == ("krum: f = 3 (ipm × 3); f = 0 (no attack)",)
    assert found.worth_showing
    assert not compare([(summary(0.8, 0.7), krum)]).worth_showing


def test_what_f_a_rule_was_told_and_how_an_attack_was_made_are_cells_of_their_own() -> None:
    accuracies = (4.2, 12.0, 5.4, 16.6, 62.9, 59.6)
    settings = [
        {
            "merge": {"kind": "trimmed-mean", "f": f},
            "attack": {"kind": "label-flip", "count": 4, "flip": flip},
        }
        for f in (0, 1, 4)
        for flip in ("previous", "mirror")
    ]
    found = compare(
        [
            (summary(accuracy / 100, 0.0, "label-flip", 4), tables)
            for accuracy, tables in zip(accuracies, settings, strict=True)
        ]
    )
    assert found.rules == tuple(f"trimmed-mean (f = {f})" for f in (0, 1, 4))
    assert found.attacks == ("label-flip × 4 (flip = previous)", "label-flip × 4 (flip = mirror)")
    assert (100 * found.mean).tolist() == [pytest.approx(accuracies[i : i + 2]) for i in (0, 2, 4)]
    assert found.runs.max() == 1
    assert found.worth_showing


def test_other_settings_that_differ_are_named_in_the_row() -> None:
    merge = {"merge": {"kind": "median"}}
    runs = [
        {**merge, "local": {"lr": 0.1}, "topology": {"kind": "ring"}, "network": {"loss": 0.0}},
        {**merge, "local": {"lr": 0.2}, "topology": {"kind": "ring"}, "network": {"loss": 0.0}},
        {
            **merge,
            "local": {"lr": 0.1},
            "topology": {"kind": "regular", "degree": 4},
            "network": {"loss": 0.0},
        },
    ]
    found = compare([(summary(0.5, 0.4), tables) for tables in runs])
    assert found.rules == (
        "median, lr = 0.1, topology = ring",
        "median, lr = 0.2, topology = ring",
        "median, lr = 0.1, topology = regular",
    )
    assert found.runs.tolist() == [[1], [1], [1]]
    # Neither attacks nor rules are compared: the table of the runs says it all.
    assert not found.worth_showing
    attacked = [(summary(0.5, 0.4, "ipm"), tables) for tables in runs]
    assert compare(attacked + [(summary(0.5, 0.4), tables) for tables in runs]).worth_showing
    with_rule = compare(
        [(summary(0.5, 0.4), {"scenario": {"algorithm": name}, **merge}) for name in ("d-psgd", "dfedavg")]
    )
    assert with_rule.rules == ("d-psgd: median", "dfedavg: median")


def test_different_numbers_of_honest_peers_are_named_in_the_column() -> None:
    none = {"attack": {"kind": "none", "count": 3}}
    found = compare(
        [
            (summary(0.5, 0.4, "ipm", honest=10), {"attack": {"kind": "ipm", "count": 3}}),
            (summary(0.9, 0.8, honest=13), none),
            # The settings of attackers that are not there are no difference.
            (summary(0.7, 0.6, honest=13, seed=1), {"attack": {"kind": "none", "count": 2}}),
        ]
    )
    assert found.attacks == ("no attack, 13 honest", "ipm × 3, 10 honest")
    assert found.runs.tolist() == [[2, 1]]


@given(
    choices=st.lists(
        st.tuples(
            st.sampled_from(["krum", "median"]),
            st.sampled_from([0, 1, 2]),
            st.sampled_from(["none", "ipm", "label-flip"]),
            st.sampled_from(["own", "all"]),
            st.sampled_from([0.1, 0.2]),
            st.sampled_from([5, 6]),
            st.integers(0, 2),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_runs_share_a_name_only_where_nothing_but_the_seed_differs(choices: list[tuple[Any, ...]]) -> None:
    runs, meant = [], []
    for rule, f, attack, data, lr, honest, seed in choices:
        attacked = attack != "none"
        tables = {
            "scenario": {"seed": seed},
            "merge": {"kind": rule, **({"f": f} if rule == "krum" else {})},
            "attack": {"kind": attack, "data": data},
            "local": {"lr": lr},
        }
        runs.append((summary(0.5, 0.4, attack if attacked else None, seed=seed, honest=honest), tables))
        meant.append((rule, f if rule == "krum" else 0, attack, data if attacked else "", lr, honest))
    found = experiments(runs)
    cells = [(experiment.row, experiment.column) for experiment in found]
    for names in (found, cells, labels(found)):
        assert len(set(names)) == len(set(meant)) == len(set(zip(names, meant, strict=True)))


def test_labels_say_what_varies_and_no_more() -> None:
    def labelled(*runs: tuple[dict[str, Any], dict[str, Any]]) -> list[str]:
        return labels(experiments(runs))

    flip = {"merge": {"kind": "krum", "f": 1}, "attack": {"kind": "label-flip", "flip": "mirror"}}
    ring = {"topology": {"kind": "ring"}, "merge": {"kind": "krum", "f": 1}}
    assert labelled((summary(0.5, 0.4), ring), (summary(0.5, 0.4, seed=1), ring)) == ["", ""]
    assert labelled((summary(0.5, 0.4, "label-flip"), flip), (summary(0.5, 0.4, honest=13), flip)) == [
        "label-flip × 3",
        NOBODY,
    ]
    same = {"local": {"lr": 0.1, "steps": 2}, "data": {"partition": {"kind": "iid"}}}
    other = {"local": {"lr": 0.3, "steps": 2}, "data": {"partition": {"kind": "dirichlet", "alpha": 0.3}}}
    assert labelled((summary(0.5, 0.4), same), (summary(0.5, 0.4), other)) == [
        "lr = 0.1 · partition = iid",
        "lr = 0.3 · partition = dirichlet",
    ]


def test_many_runs_are_one_matrix(folder: Path, tmp_path: Path) -> None:
    other = scenarios.run(
        folder.parent / "attacked.toml",
        overrides={"attack.kind": "ipm"},
        out=tmp_path / "other",
        report=False,
    ).folder
    page = tmp_path / "page.html"
    report.write_report([folder, other] * 13, page)
    text = page.read_text(encoding="utf-8")
    shown = Page(text).document
    assert shown["comparison"]["attacks"] == ["mixed × 2", "ipm × 2"]
    assert shown["comparison"]["rules"] == ["krum"]
    # A run that is given many times is one row: of the runs, and of the matrix.
    assert len(shown["rows"]) == 2
    assert shown["comparison"]["runs"] == [[1, 1]]


def runs_like(folder: Path, **values: Sequence[Any]) -> list[report.Run]:
    """Return copies of a run as if it had been made with each combination of settings ("section__key")."""
    run = report.read_run(folder)
    tables = tomllib.loads(run.settings)
    runs = []
    for combination in itertools.product(*values.values()):
        changed = copy.deepcopy(tables)
        for key, value in zip(values, combination, strict=True):
            section, _, name = key.partition("__")
            changed[section][name] = value
        attack, seed = changed["attack"]["kind"], changed["scenario"]["seed"]
        told = {**run.summary, "seed": seed, "attack": {**run.summary["attack"], "kind": attack}}
        runs.append(replace(run, settings=tomli_w.dumps(changed), summary=told))
    return runs


def test_the_page_of_a_sweep_has_one_short_row_and_one_curve_for_each_experiment(folder: Path) -> None:
    runs = runs_like(
        folder,
        merge__kind=["krum", "multi-krum", "nna"],
        attack__kind=["ipm", "label-flip"],
        local__lr=[0.1, 0.2],
        scenario__seed=[0, 1],
    )
    shown = report.document(runs)
    assert shown["headings"] == ["merge rule", "attack", "lr"]
    assert [row["label"] for row in shown["rows"]][:1] == ["krum · ipm × 2 · lr = 0.1"]
    assert "multi-krum, lr = 0.2" in shown["comparison"]["rules"]
    assert shown["pooled"]
    assert shown["seeds"]
    seen = overview([(run.summary, tomllib.loads(run.settings)) for run in runs], [folder] * len(runs))
    assert seen.headings == ("merge rule", "attack", "lr")
    assert len(seen.rows) == 12
    assert {row.seeds for row in seen.rows} == {2}
    assert len({(row.series.colour, row.series.dash) for row in seen.rows}) == 12
    assert seen.rows[0].label == "krum · ipm × 2 · lr = 0.1"


def test_ranks_follow_the_objective_and_equal_scores_share_one() -> None:
    assert of_runs.ranks([0.9, 0.7, None, 0.9], ACCURACY) == [1, 3, None, 1]
    assert of_runs.ranks([0.9, 0.7, 0.8], Score("loss", higher_is_better=False)) == [3, 1, 2]


def test_a_pooled_curve_is_the_mean_of_its_seeds_and_its_band_their_range() -> None:
    def seeded(seed: int, *accuracies: float) -> dict[str, Any]:
        curve = [{"round": i, "score_mean": a, "bytes": 10} for i, a in enumerate(accuracies)]
        return {"seed": seed, "curve": curve}

    first, second = pooled_curve([seeded(0, 0.2, 0.4), seeded(1, 0.4, 0.8, 0.9)])
    assert (first["round"], first["score_mean"]) == (0, pytest.approx(0.3))
    assert (second["score_mean"], second["score_min"], second["score_max"]) == (
        pytest.approx(0.6),
        0.4,
        0.8,
    )
    assert second["consensus_distance"] is None
    assert second["bytes"] == 10


def test_weights_and_verdicts_of_one_sender_are_means_over_the_honest() -> None:
    metrics = [
        {"peer": "a", "round": 1, "verdicts": {"x": [0.5, ""], "y": [0.0, "far"]}},
        {"peer": "b", "round": 1, "verdicts": {"x": [0.1, ""]}},
        {"peer": "c", "round": 1},
    ]
    told = told_by(metrics)
    assert told == {("x", 1): [(0.5, ""), (0.1, "")], ("y", 1): [(0.0, "far")]}
    drawn = verdict_figures.weights(told, ["y"])
    assert drawn is not None
    assert len(drawn.axes[0].lines) == 2
    assert verdict_figures.weights({}, []) is None
    assert verdict_figures.verdicts({}, []) is None
