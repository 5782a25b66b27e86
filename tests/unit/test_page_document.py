"""The page's document has what the records say, and its size stays within bounds."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
import tomli_w
from hypothesis import example, given
from hypothesis import strategies as st

import scenarios
from gossip.page import numbers
from scenarios.reports import page as report
from scenarios.reports.document import happenings, of_run, peers, settings
from scenarios.reports.runs import Run
from scenarios.scenario import load
from tests.unit.test_run_folder import Page

OVERRIDES = {"scenario.peers": 5, "stop.rounds": 4, "data.train_max": 300, "model.name": "logistic"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("page") / "run"
    scenarios.run("quickstart", overrides=OVERRIDES, out=out)
    return report.read_run(out)


def test_curve_and_matrix_are_those_of_the_records(run: Run) -> None:
    shown = report.document([run])
    assert shown["curve"]["mean"] == [numbers.short(point["score_mean"]) for point in run.summary["curve"]]
    assert shown["curve"]["bytes"] == [point["bytes"] for point in run.summary["curve"]]
    for entry in run.metrics:
        row, column = (
            shown["peers"]["name"].index(entry["peer"]),
            shown["curve"]["round"].index(entry["round"]),
        )
        assert shown["matrix"][row][column] == numbers.short(entry["score"])
    assert shown["points"] == [0, 1, 2, 3]


def test_the_table_of_peers_and_the_bytes_are_those_of_the_records(run: Run) -> None:
    shown = report.document([run])
    assert shown["peers"]["sent"] == [peer["sent"]["total"] for peer in run.peers]
    assert shown["peers"]["score"] == [numbers.short(peer["score"]) for peer in run.peers]
    assert {entry["kind"]: entry["bytes"] for entry in shown["bytes"]} == run.summary["bytes"]["by_type"]
    links = {
        tuple(sorted((shown["peers"]["name"][a], shown["peers"]["name"][b])))
        for a, b in shown["network"]["links"]
    }
    assert links == {tuple(sorted(edge)) for edge in run.graph.edges}  # type: ignore[union-attr]


def test_whose_data_says_how_many_samples_of_each_class_a_peer_has(run: Run) -> None:
    data = report.document([run])["data"]
    assert data["classes"] == [str(digit) for digit in range(10)]
    assert [sum(counts) for counts in data["counts"]] == data["samples"]
    assert sum(data["samples"]) == 300
    assert report.document([replace(run, shards={})])["data"] is None


def test_what_differs_from_the_defaults_is_what_was_written_and_not_what_a_kind_brings_along() -> None:
    written = load("quickstart", values={"local.lr": 0.03, "merge.kind": "krum", "merge.f": 1})
    told = {entry["key"]: entry for entry in settings.changed(written.as_file())}
    assert told["local.lr"]["value"] == "0.03"
    assert told["local.lr"]["default"] == "0.1"
    assert told["merge.kind"] == {"key": "merge.kind", "value": "krum", "default": "average"}
    assert told["data.partition.kind"]["value"] == "dirichlet"
    assert "data.partition.attempts_max" not in told
    assert "local.momentum" not in told
    assert "scenario.seed" not in told


def test_settings_that_cannot_be_read_here_are_shown_as_they_are() -> None:
    assert settings.changed({"model": {"name": "python:/nowhere/gone.py:Net"}, "nonsense": {"a": 1}}) == []


def test_the_command_repeats_the_run_without_what_only_the_first_caller_wanted(run: Run) -> None:
    argv = [
        "/bin/gossip-scenario",
        "run",
        "wan",
        "--seed",
        "3",
        "--out",
        "/x/y",
        "--quiet",
        "--set",
        "local.lr=1",
    ]
    told = replace(run, environment={**run.environment, "command": argv})
    assert of_run.command(told) == "gossip-scenario run wan --seed 3 --set local.lr=1"
    other = replace(run, environment={**run.environment, "command": ["pytest"]})
    assert of_run.command(other) == f"gossip-scenario run {run.folder}/scenario.toml --engine virtual"


def test_learning_alone_is_shown_where_the_record_has_it_and_only_there(run: Run) -> None:
    assert report.document([run])["alone"] is None
    with_it = replace(
        run, summary={**run.summary, "alone": {"mean": 0.5, "min": 0.3, "max": 0.6, "worst": 0.3}}
    )
    shown = report.document([with_it])
    assert shown["alone"] == {"mean": 0.5, "worst": 0.3}
    assert [fact["value"] for fact in shown["facts"] if fact["what"] == "learning alone"] == ["50.0"]


def event(time: float, name: str, kind: str) -> dict[str, Any]:
    return {"time": time, "peer": name, "event": kind}


def test_who_was_away_when_and_what_the_marks_say(run: Run) -> None:
    times = [point["time"] for point in run.summary["curve"]]
    middle = (times[1] + times[2]) / 2
    events = [
        event(middle, "peer-01", "crashed"),
        event(middle, "peer-02", "crashed"),
        event(times[3], "peer-01", "restarted"),
    ]
    shown = report.document([replace(run, events=events)])
    assert shown["down"] == [[], [[2, 2]], [[2, 3]], [], []]
    (mark,) = shown["faults"]
    assert mark["text"] == "peer-01, peer-02 crashed"
    assert 2 < mark["round"] < 3
    texts = [line["text"] for line in shown["events"]["lines"]]
    assert "peer-01 back" in texts


@given(
    st.lists(st.tuples(st.floats(0, 10), st.one_of(st.none(), st.floats(0, 10))), max_size=4),
    st.lists(st.floats(0, 10), min_size=1, max_size=6).map(sorted),
)
def test_a_peer_is_away_at_the_points_within_its_absence(away: list[Any], times: list[float]) -> None:
    found = happenings.spans(away, [{"time": time} for time in times])
    marked = {place for first, last in found for place in range(first, last + 1)}
    assert marked == {
        place
        for place, time in enumerate(times)
        if any(start < time and (end is None or time < end) for start, end in away)
    }


@given(st.floats(allow_nan=True, allow_infinity=True))
@example(sys.float_info.max)
def test_a_documents_numbers_are_json_and_near_the_records(value: float) -> None:
    told = numbers.short(value)
    json.dumps(told, allow_nan=False)
    if told is not None:
        assert told == pytest.approx(value, rel=1e-4)


def many(run: Run, count: int, points: int) -> Run:
    """Return a run as if it had had so many peers and evaluations."""
    names = [f"peer-{index:05}" for index in range(count)]
    peer, entry, point = run.peers[0], run.metrics[0], run.summary["curve"][0]
    metrics = [
        {**entry, "peer": name, "round": at + 1, "time": float(at), "score": ((index * 37 + at) % 997) / 997}
        for at in range(points)
        for index, name in enumerate(names)
    ]
    peers_told = [{**peer, "peer": name, "score": (index % 991) / 991} for index, name in enumerate(names)]
    curve = [{**point, "round": at + 1, "time": float(at)} for at in range(points)]
    graph: nx.Graph[str] = nx.relabel_nodes(nx.circulant_graph(count, [1, 2, 5]), dict(enumerate(names)))
    shards = {"samples": [40] * count, "classes": list("0123456789"), "counts": [[4] * 10] * count}
    summary = {**run.summary, "peers": count, "curve": curve, "honest_peers": count}
    return Run(run.folder, summary, peers_told, metrics, run.settings, run.environment, graph, (), shards)


def test_the_page_of_a_thousand_peers_is_below_five_megabytes(run: Run) -> None:
    large = many(run, 1000, 60)
    text = report.render([large])
    assert len(text.encode()) < 5e6
    shown = Page(text).document
    assert len(shown["matrix"]) == 1000
    assert shown["sampled"] is None
    assert len(shown["curve"]["low"]) == 60


def test_of_ten_thousand_peers_the_page_shows_a_sample_and_says_so(run: Run) -> None:
    large = many(run, 10_000, 10)
    text = report.render([large])
    assert len(text.encode()) < 10e6
    shown = Page(text).document
    assert shown["sampled"] == {"shown": peers.PEERS_SAMPLED, "of": 10_000}
    assert shown["network"] is None
    assert min(shown["peers"]["score"]) == 0
    assert max(shown["peers"]["score"]) == numbers.short(990 / 991)


def test_of_long_runs_the_matrix_keeps_as_many_points_as_a_page_can_hold(run: Run) -> None:
    shown = report.document([many(run, 500, 1000)])
    assert len(shown["points"]) * 500 <= peers.CELLS_MAX
    assert shown["points"][0] == 0
    assert shown["points"][-1] == 999
    assert len(shown["curve"]["mean"]) == 1000


def test_words_are_the_objectives(run: Run, tmp_path: Path) -> None:
    objective = {"name": "r2", "higher_is_better": True, "percent": False}
    shown = report.document([replace(run, summary={**run.summary, "objective": objective})])
    assert shown["score"]["label"] == "R²"
    assert shown["facts"][0]["what"] == "R², mean of the peers’ own models"
    assert (
        "accuracy"
        not in json.dumps(shown, ensure_ascii=False).replace(tomli_w.dumps({}), "").partition('"settings"')[0]
    )


def test_learning_alone_is_measured_where_it_is_asked_for(run: Run, tmp_path: Path) -> None:
    asked = scenarios.run("quickstart", overrides={**OVERRIDES, "scenario.alone": True}, out=tmp_path / "run")
    found = asked.summary["alone"]
    local = {**OVERRIDES, "protocol.gossip_steps": 0}
    by_itself = scenarios.run("quickstart", overrides=local, out=tmp_path / "local", report=False).summary
    assert found["mean"] == by_itself["score"]["mean"]
    assert found["worst"] == by_itself["score"]["worst"]
    # The run itself is what it would have been.
    assert asked.summary["model_digest"] == run.summary["model_digest"]
    assert "alone" not in run.summary


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("topology.kind", "ring", ""),
        ("topology.kind", "pairs", "first round"),
        ("protocol.kind", "modest", "chooses who talks to whom"),
    ],
)
def test_the_networks_picture_says_what_it_is_not(run: Run, key: str, value: str, said: str) -> None:
    written = load("quickstart", values={key: value, "scenario.peers": 5}).as_file()
    note = report.document([replace(run, settings=tomli_w.dumps(written))])["network"]["note"]
    assert said in note
    assert bool(said) == bool(note)
