"""A run's folder, its summary from known numbers, and the page made of it."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import networkx as nx
import pytest

from gossip.errors import SettingError
from gossip.learning.objectives.score import ACCURACY
from scenarios import scenario
from scenarios.records import Average, PeerOutcome, Records, Traffic, told_peer
from scenarios.reports import page as report
from scenarios.reports.papers import write_figures
from scenarios.run_folder import RunFolder
from scenarios.scenario import ScenarioSettings
from scenarios.summary import spread, summarise

NAMES = ("peer-00", "peer-01", "peer-02")


def outcome(name: str, accuracy: float | None, total: int) -> PeerOutcome:
    sent = Traffic(
        payload=total - 30,
        protocol=total - 10,
        transport=10,
        total=total,
        by_type={"model": total - 10, "hello": 10},
    )
    return PeerOutcome(
        peer=name,
        state="finished",
        rounds=2,
        score=accuracy,
        test_loss=0.5,
        sent=sent,
        received=sent,
        messages={"model": 4, "hello": 1},
        rejected_messages={"stale": 1} if name == "peer-02" else {},
        adopted=int(name == "peer-01"),
    )


def test_a_peers_end_is_told_as_plain_values_of_its_own():
    peer = replace(
        outcome("peer-02", 0.5, 100),
        own={"own_score": 0.25},
        verdicts={"peer-00": {"accepted": 3}},
        divergence={"signs": ["loss", ("rms", 2.0)]},
    )
    told, plain = told_peer(peer, ACCURACY), asdict(peer)
    assert told == {
        **plain,
        **plain.pop("own"),
        "accuracy": 0.5,
        "divergence": {"signs": ["loss", ["rms", 2.0]]},
    }
    told["verdicts"]["peer-00"]["accepted"] = told["sent"]["by_type"]["model"] = 0
    assert (peer.verdicts["peer-00"]["accepted"], peer.sent.by_type["model"]) == (3, 90)


def measured(name: str, round: int, accuracy: float, time: float, sent: int) -> dict[str, object]:
    return {
        "peer": name,
        "round": round,
        "time": time,
        "loss": 1.0,
        "test_loss": 0.5 * round,
        "accuracy": accuracy,
        "score": accuracy,
        "bytes_sent": sent,
        "bytes_received": sent,
    }


@pytest.fixture
def settings() -> ScenarioSettings:
    return scenario.load(
        "quickstart", values={"scenario.peers": 3, "scenario.description": "<script>alert(1)</script>"}
    )


@pytest.fixture
def records() -> Records:
    return Records(
        peers=[
            outcome(name, accuracy, 1000 + 100 * i)
            for i, (name, accuracy) in enumerate(zip(NAMES, (0.9, 0.8, 0.7), strict=True))
        ],
        metrics=[
            measured("peer-00", 1, 0.5, 1.0, 100),
            measured("peer-01", 1, 0.4, 1.5, 200),
            measured("peer-02", 1, 0.3, 1.2, 300),
            measured("peer-00", 2, 0.9, 2.0, 1000),
            measured("peer-01", 2, 0.8, 3.5, 1100),
        ],
        events=[{"time": 0.5, "peer": "peer-00", "event": "started"}],
        averages={1: Average(consensus_distance=2.0, score=0.6, test_loss=0.4, peers=3)},
        final=Average(consensus_distance=0.25, score=0.95, test_loss=0.2, peers=3),
        seconds=3.5,
        model_digest="abc",
    )


def test_the_summary_of_known_numbers(settings: ScenarioSettings, records: Records) -> None:
    summary = summarise(settings, records, engine="processes", wall_seconds=9.0)
    assert summary == json.loads(json.dumps(summary, allow_nan=False))
    curve = summary.pop("curve")
    assert summary == {
        "scenario": "quickstart",
        "engine": "processes",
        "algorithm": "dfedsam-mgs",
        "seed": 0,
        "peers": 3,
        "honest_peers": 3,
        "rounds": 2,
        "stopped": None,
        "final_steps": None,
        "stopped_round": None,
        "accuracy": {
            "mean": pytest.approx(0.8),
            "std": pytest.approx((0.02 / 3) ** 0.5),
            "min": 0.7,
            "max": 0.9,
        },
        "accuracy_of_mean": 0.95,
        "objective": {"name": "accuracy", "higher_is_better": True, "percent": True},
        "score": {
            "mean": pytest.approx(0.8),
            "std": pytest.approx((0.02 / 3) ** 0.5),
            "min": 0.7,
            "max": 0.9,
            "worst": 0.7,
        },
        "score_of_mean": 0.95,
        "consensus_distance": 0.25,
        "rounds_to_target": None,
        "time_to_target": None,
        "bytes_to_target": None,
        "bytes": {
            "payload": 3210,
            "protocol": 3270,
            "transport": 30,
            "total": 3300,
            "per_peer_mean": 1100,
            "per_peer_max": 1200,
            "by_type": {"hello": 30, "model": 3270},
        },
        "messages": {"by_type": {"hello": 3, "model": 12}},
        "time": 3.5,
        "wall_seconds": 9.0,
        "event_digest": None,
        "model_digest": "abc",
        "faults": {
            "crashed": 0,
            "restarted": 0,
            "left": 0,
            "joined": 0,
            "died": 0,
            "adopted": 1,
            "rejected_messages": {"stale": 1},
        },
        "skipped": 0,
        "divergence": None,
        "warnings": [],
        "merge": "average",
        "verdicts": {},
        "attack": None,
    }
    first, second = curve
    assert first == {
        "round": 1,
        "time": 1.5,
        "peers": 3,
        "score_mean": pytest.approx(0.4),
        "score_min": 0.3,
        "score_max": 0.5,
        "score_of_mean": 0.6,
        "accuracy_mean": pytest.approx(0.4),
        "accuracy_min": 0.3,
        "accuracy_max": 0.5,
        "accuracy_of_mean": 0.6,
        "test_loss_mean": 0.5,
        "consensus_distance": 2.0,
        "consensus_before": None,
        "bytes": 600,
    }
    assert (second["peers"], second["accuracy_mean"], second["consensus_distance"]) == (
        2,
        pytest.approx(0.85),
        None,
    )


def test_a_run_without_any_measurement_has_nulls_and_no_crash(
    settings: ScenarioSettings, records: Records
) -> None:
    nothing = replace(records, peers=[], metrics=[], averages={}, final=None)
    summary = summarise(settings, nothing, engine="processes", wall_seconds=0.1)
    assert summary["accuracy"] == {"mean": None, "std": None, "min": None, "max": None}
    assert summary["accuracy_of_mean"] is None
    assert summary["curve"] == []
    assert spread([0.5]) == {"mean": 0.5, "std": 0.0, "min": 0.5, "max": 0.5}


def finished(folder: Path, settings: ScenarioSettings, records: Records, *, force: bool = False) -> Path:
    run = RunFolder(folder, force=force)
    run.begin(settings)
    run.finish(records, summarise(settings, records, engine="processes", wall_seconds=9.0))
    run.release()
    return folder


def test_a_finished_run_is_replaced_only_with_force(
    tmp_path: Path, settings: ScenarioSettings, records: Records
) -> None:
    folder = finished(tmp_path / "runs" / "one", settings, records)
    (folder / "peers").mkdir()
    with pytest.raises(SettingError, match="holds a finished run; give --force"):
        RunFolder(folder)
    assert (folder / "summary.json").exists()
    RunFolder(folder, force=True).release()
    assert list(folder.iterdir()) == []


def test_an_unfinished_run_is_replaced_without_asking(tmp_path: Path, settings: ScenarioSettings) -> None:
    first = RunFolder(tmp_path / "one")
    first.begin(settings)
    first.release()
    RunFolder(tmp_path / "one").release()
    assert list((tmp_path / "one").iterdir()) == []


def test_a_folder_that_holds_no_run_is_never_emptied(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(SettingError, match="holds other files and no run"):
        RunFolder(tmp_path, force=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    with pytest.raises(SettingError, match="is a file"):
        RunFolder(tmp_path / "thesis.tex", force=True)


@pytest.mark.parametrize("environment", [None, "", "[1]", '{"packages": []}'])
def test_a_scenario_of_ones_own_makes_no_folder_a_run(tmp_path: Path, environment: str | None) -> None:
    (tmp_path / "scenario.toml").write_text("mine")
    (tmp_path / "photos").mkdir()
    if environment is not None:
        (tmp_path / "environment.json").write_text(environment)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(SettingError, match="holds other files and no run"):
        RunFolder(tmp_path, force=True)
    assert sorted(tmp_path.iterdir()) == before


def test_a_run_that_was_killed_at_its_first_file_is_replaced(
    tmp_path: Path, settings: ScenarioSettings
) -> None:
    (tmp_path / ".environment.json.tmp").write_text('{"star')
    RunFolder(tmp_path).release()
    assert list(tmp_path.iterdir()) == []
    first = RunFolder(tmp_path)
    first.begin(settings)
    first.release()
    (tmp_path / "scenario.toml").unlink()
    RunFolder(tmp_path).release()
    assert list(tmp_path.iterdir()) == []


def test_two_runs_never_write_into_one_folder(tmp_path: Path, settings: ScenarioSettings) -> None:
    first = RunFolder(tmp_path / "one")
    first.begin(settings)
    with pytest.raises(SettingError, match="another run is writing there"):
        RunFolder(tmp_path / "one", force=True)
    assert (tmp_path / "one" / "scenario.toml").exists()
    first.release()


def test_the_folder_tells_scenario_graph_and_measurements(
    tmp_path: Path, settings: ScenarioSettings, records: Records
) -> None:
    folder = finished(tmp_path / "one", settings, records)
    assert scenario.load(folder / "scenario.toml") == settings
    assert set(nx.read_graphml(folder / "topology.graphml").edges) == {
        ("peer-00", "peer-01"),
        ("peer-00", "peer-02"),
        ("peer-01", "peer-02"),
    }
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert lines == records.metrics
    assert json.loads((folder / "environment.json").read_text())["packages"]["torch"]
    assert json.loads((folder / "peers.json").read_text())[2]["rejected_messages"] == {"stale": 1}


class Page(HTMLParser):
    """Collects what a browser would load, and the document that the page draws."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.scripts: list[str] = []
        self.document: dict[str, Any] = {}
        self.policy = ""
        self.words = text
        self._within = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        self._within = f"{tag} {said.get('type', '')}".strip()
        self.loaded += [
            value or "" for key, value in attrs if key in {"src", "href", "srcset", "data", "action"}
        ]
        if said.get("http-equiv") == "Content-Security-Policy":
            self.policy = said["content"] or ""

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within == "script":
            self.scripts.append(data)
        elif self._within == "script application/json":
            self.document = json.loads(data)


def test_the_page_of_one_run_holds_all_it_shows(
    tmp_path: Path, settings: ScenarioSettings, records: Records
) -> None:
    folder = finished(tmp_path / "one", settings, records)
    path = tmp_path / "report.html"
    report.write_report([folder], path)
    page = Page(path.read_text(encoding="utf-8"))
    # Nothing but places on the page itself is referred to, and a browser is told to load nothing.
    assert all(address.startswith("#") for address in page.loaded)
    assert page.policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "http" not in page.policy
    for script in page.scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in page.policy
    assert len(page.scripts) == 3
    assert page.document == report.document([report.read_run(folder)])
    # What a scenario says is data, never markup.
    assert page.document["settings"]["description"] == "<script>alert(1)</script>"
    assert "<script>alert(1)" not in page.words


def test_the_page_of_several_runs_overlays_and_tells_them_apart(
    tmp_path: Path, settings: ScenarioSettings, records: Records
) -> None:
    folders = [finished(tmp_path / name, settings, records) for name in ("one", "two")]
    path = tmp_path / "report.html"
    report.write_report(folders, path)
    rows = Page(path.read_text(encoding="utf-8")).document["rows"]
    assert [row["label"] for row in rows] == ["seed 0 (one)", "seed 0 (two)"]
    assert len({(row["colour"], row["dash"]) for row in rows}) == 2
    assert [row["rank"] for row in rows] == [1, 1]


def test_a_folder_without_a_finished_run_is_refused(
    tmp_path: Path, settings: ScenarioSettings, records: Records
) -> None:
    with pytest.raises(SettingError, match=r"holds no finished run, summary.json is missing"):
        report.write_report([tmp_path], tmp_path / "report.html")
    folder = finished(tmp_path / "one", settings, records)
    (folder / "summary.json").write_text("{")
    with pytest.raises(SettingError, match="cannot be read as a run"):
        report.write_report([folder], tmp_path / "report.html")


FILES = (
    "summary.json",
    "metrics.jsonl",
    "events.jsonl",
    "peers.json",
    "shards.json",
    "environment.json",
    "scenario.toml",
    "topology.graphml",
)
DAMAGES = {
    "cut": lambda whole: whole[: len(whole) // 2 + 3],
    "list": lambda whole: b"[1, 2]\n",
    "nested": lambda whole: b"[" * 100_000,
    "other": lambda whole: b'{"a": 1}\n',
    "noise": lambda whole: bytes(range(256)),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", FILES)
def test_a_file_of_a_run_that_is_none_is_named_in_one_sentence(
    tmp_path: Path, settings: ScenarioSettings, records: Records, file: str, damage: str
) -> None:
    events = [
        {"event": "peer_up", "time": 0.5 * place, "peer": "peer-00", "other": "peer-01"} for place in (1, 2)
    ]
    shards = {"samples": [3, 3, 3], "classes": ["0"], "counts": [[3], [3], [3]]}
    folder = finished(tmp_path / "one", settings, replace(records, events=events, shards=shards))
    report.write_report([folder], tmp_path / "whole.html")
    (folder / file).write_bytes(DAMAGES[damage]((folder / file).read_bytes()))
    with pytest.raises(SettingError) as caught:
        report.write_report([folder], tmp_path / "report.html")
    assert str(caught.value).startswith(f"{folder}: cannot be read as a run: {file}")
    assert "\n" not in str(caught.value)
    with pytest.raises(SettingError, match=file):
        report.write_report([folder, folder], tmp_path / "report.html")
    with pytest.raises(SettingError, match=file):
        write_figures([folder], svg=tmp_path / "svg", pdf=None)


@pytest.mark.parametrize("peers", [1, 2, 500])
def test_the_page_copes_with_few_and_many_peers(
    tmp_path: Path, settings: ScenarioSettings, records: Records, peers: int
) -> None:
    settings = scenario.load("quickstart", values={"scenario.peers": peers, "topology.kind": "ring"})
    records = replace(
        records,
        peers=[outcome(name, 0.5, 1000) for name in settings.peer_names],
        metrics=[measured(name, 1, 0.5, 1.0, 10) for name in settings.peer_names],
        averages={1: Average(consensus_distance=0.0, score=0.5, test_loss=0.4, peers=peers)},
    )
    folder = finished(tmp_path / "one", settings, records)
    report.write_report([folder], tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.document["peers"]["name"] == list(settings.peer_names)
