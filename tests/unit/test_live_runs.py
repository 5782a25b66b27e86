"""What a live page is told of a run while it goes on, of both engines' records and of sweeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import scenarios
from gossip.errors import SettingError
from gossip.page import numbers
from gossip.page.rendering import encoded
from gossip.telemetry.containment import Containment
from gossip.telemetry.pace import TimeLeft
from scenarios import standings
from scenarios.cli import call
from scenarios.progress import Quiet, State
from scenarios.records import PeerOutcome, Records, Traffic
from scenarios.reports import live, live_sweep, page
from scenarios.reports.live import Going, Watched, complete
from scenarios.running import USUAL, addressed
from scenarios.scenario import ScenarioSettings, load
from scenarios.standings import Standings, Told
from scenarios.sweep import carry_out, plan
from tests.integration.homes import eventually

OVERRIDES = {"scenario.peers": 4, "stop.rounds": 3, "data.train_max": 300, "model.name": "logistic"}
FEW = [f"{key}={value}" for key, value in OVERRIDES.items()]


class Kept:
    """A page that somebody always looks at, and that keeps what it is offered."""

    wanted = True
    url = "http://nowhere/"

    def __init__(self) -> None:
        self.contained = Containment()
        self.documents: list[Any] = []
        self.ended = False

    @property
    def text(self) -> str:
        return encoded(self.documents[-1])

    def offer(self, make: Callable[[], Any], *, took_s: float = 0.0, last: bool = False) -> None:
        assert not self.ended
        self.ended = last
        with self.contained("not drawn"):
            self.documents.append(make())
            encoded(self.documents[-1])

    def close(self) -> None:
        pass


def test_what_is_shown_at_the_last_round_is_what_the_report_shows(tmp_path: Path) -> None:
    kept = Kept()
    watched = Watched(Quiet(), kept, engine="virtual")  # type: ignore[arg-type]
    result = scenarios.run("quickstart", overrides=OVERRIDES, out=tmp_path / "run", progress=watched)
    watched.finished(result.folder)
    first, *_, shown, last = kept.documents
    assert kept.contained.counts() == {"not drawn": 0} or not any(kept.contained.counts().values())
    assert first["state"] == "starting"
    assert shown["state"] == "running"
    assert last == page.document([page.read_run(result.folder)])
    assert kept.ended
    for key in (
        "curve",
        "matrix",
        "points",
        "network",
        "data",
        "bytes",
        "title",
        "lead",
        "settings",
        "score",
    ):
        assert shown[key] == last[key], key
    assert shown["progress"]["done"] == shown["progress"]["of"] == 3


def test_a_page_that_cannot_be_drawn_is_counted_and_the_run_goes_on(tmp_path: Path) -> None:
    class Broken(Kept):
        def offer(self, make: Callable[[], Any], *, took_s: float = 0.0, last: bool = False) -> None:
            raise RuntimeError("no")

    kept = Broken()

    class Silent(Watched):
        def begin(self, scenario: ScenarioSettings) -> None:
            self._going = Going(scenario, "virtual", began_s=0.0)

    watched = Silent(Quiet(), kept, engine="virtual")  # type: ignore[arg-type]
    result = scenarios.run("quickstart", overrides=OVERRIDES, out=tmp_path / "run", progress=watched)
    assert result.summary["rounds"] == 3
    assert kept.contained.counts()[live.UNDRAWN] >= 1


def peer(name: str, state: str = "running") -> PeerOutcome:
    none = Traffic()
    return PeerOutcome(
        peer=name,
        state=state,
        rounds=1,
        score=0.5,
        test_loss=1.0,
        sent=none,
        received=none,
        messages={},
        rejected_messages={},
        adopted=0,
    )


def records(peers: Sequence[PeerOutcome], measured: Sequence[tuple[str, int]]) -> Records:
    metrics = [
        {
            "peer": name,
            "round": round,
            "time": float(round),
            "score": 0.5,
            "bytes_sent": round,
            "heard": 1,
            "expected": 1,
        }
        for name, round in measured
    ]
    return Records(peers=peers, metrics=metrics, events=[], averages={}, final=None, seconds=1.0)


def test_a_point_is_shown_once_all_who_are_there_have_come_to_it() -> None:
    a, b, dead = peer("a"), peer("b"), peer("c", "died")
    ahead = [("a", 1), ("b", 1), ("c", 1), ("a", 2), ("b", 2), ("a", 3)]
    assert {entry["round"] for entry in complete(records([a, b, dead], ahead))} == {1, 2}
    assert {entry["round"] for entry in complete(records([a, peer("b", "crashed")], ahead))} == {1, 2, 3}
    # As long as nobody waits for anybody there is something to see.
    assert len(complete(records([a, b], [("a", 1)]))) == 1


def test_a_killed_peer_is_gone_in_the_next_document() -> None:
    settings = load("quickstart", values={"scenario.peers": 3})
    names = settings.peer_names
    going = Going(settings, "processes", began_s=0.0)
    measured = [(name, number) for number in (1, 2) for name in names]
    events = [{"time": 2.5, "peer": names[1], "event": "died"}]
    outcomes = [peer(names[0]), peer(names[1], "died"), peer(names[2])]
    state = State(
        seconds=3.0,
        running=2,
        rounds_mean=2.0,
        rounds_min=2,
        score_mean=0.5,
        score_worst=0.5,
        score_of_mean=None,
        bytes_sent=1,
    )
    shown = going.document(replace(records(outcomes, measured), events=events), state)
    assert shown["peers"]["up"] == [True, False, True]
    assert [mark["text"] for mark in shown["faults"]] == [f"{names[1]} died"]
    assert shown["progress"] == {"done": 2, "of": settings.stop.rounds, "left": None, "took": ""}
    encoded(shown)


def test_a_sweep_shows_the_runs_that_have_ended_and_where_the_others_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept()
    monkeypatch.setattr(live_sweep, "opened", lambda address, first: kept.offer(lambda: first) or kept)
    monkeypatch.setattr(live_sweep, "LOOK_S", 0.001)
    monkeypatch.setattr(standings, "EVERY_S", 0.0)
    tell = Told.update

    def lines() -> list[dict[str, Any]]:
        return [line for document in kept.documents for line in document.get("running", ())]

    def update(self: Told, state: State) -> None:
        tell(self, state)
        if state.rounds_mean == 2:
            # It waits here until somebody who looks has seen it.
            standing = self._standing
            seen = {"round": 2, "rounds": 3, "score": numbers.short(standing["score"]), "step": None}
            eventually(lambda: any(seen.items() <= line.items() for line in lines()), "the run is seen")

    monkeypatch.setattr(Told, "update", update)
    runs = plan("quickstart", "virtual", ["local.lr=0.1,0.2", *FEW], [0], tmp_path)
    said: list[str] = []
    with live_sweep.shown("0", runs, title="quickstart", say=said.append) as shown:
        for each in carry_out(runs, jobs=0, standings=shown.standings):
            shown.ended(each)
    assert said == ["live page: http://nowhere/"]
    assert {line["label"] for line in lines()} == {"local.lr=0.1", "local.lr=0.2"}
    # What has ended goes on no more.
    first = [each for each in kept.documents if each["progress"] and each["progress"]["done"] == 1]
    assert {line["label"] for each in first for line in each["running"]} == {"local.lr=0.2"}
    progresses = [each["progress"] for each in kept.documents if each["kind"] == "runs"]
    done = [(each["done"], each["of"], each["what"]) for each in progresses]
    assert list(dict.fromkeys(done)) == [(1, 2, "runs"), (2, 2, "runs")]
    assert kept.documents[-1]["state"] == "finished"
    assert kept.documents[-1]["running"] == []
    assert len(kept.documents[-1]["rows"]) == 2
    assert kept.ended
    assert not any(kept.contained.counts().values())


@pytest.mark.parametrize("found", ["", "[]", "{", "nul", '"' + "x" * standings.BYTES_MAX + '"'])
def test_what_is_no_standing_is_none(tmp_path: Path, found: str) -> None:
    told = Standings(tmp_path)
    told.file(tmp_path).write_text(found)
    assert told.of(tmp_path) is None


def test_a_run_whose_standing_cannot_be_told_goes_on(tmp_path: Path) -> None:
    told = Told(tmp_path / "nowhere" / "file.json")
    result = scenarios.run("quickstart", overrides=OVERRIDES, out=tmp_path / "run", progress=told)
    assert result.summary["rounds"] == 3


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ("run quickstart --live", f"run quickstart --live {USUAL}"),
        ("run --live quickstart -q", f"run --live {USUAL} quickstart -q"),
        ("run --live --quiet quickstart", f"run --live {USUAL} --quiet quickstart"),
        ("run quickstart --live 9000", "run quickstart --live 9000"),
        ("run quickstart --live :9000 -q", "run quickstart --live :9000 -q"),
        ("run quickstart --live [::1]:9000", "run quickstart --live [::1]:9000"),
        ("run quickstart --live=pi:9000", "run quickstart --live=pi:9000"),
        ("list", "list"),
    ],
)
def test_who_gives_no_address_means_the_usual_one(argv: str, told: str) -> None:
    assert addressed(argv.split()) == told.split()


@pytest.mark.parametrize(
    "argv", ["run quickstart --live {}", "run --live {} quickstart", "sweep quickstart --live {} -q"]
)
@pytest.mark.parametrize("word", ["nonsense", "localhost:http", "127.0.0.1"])
def test_what_is_no_address_is_one_sentence_that_says_what_is(
    argv: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(argv.format(word).split()) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert f"--live {word}: must be HOST:PORT" in sentence


def test_two_scenarios_are_no_matter_of_the_address(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["run", "--live", "quickstart", "wan"]) == 2
    assert "unexpected extra argument" in capsys.readouterr().err


def test_only_the_usual_address_gives_way_to_whoever_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def taken(address: str, **about: Any) -> str:
        asked.append(address)
        if not address.endswith(":0"):
            raise SettingError("taken")
        return "elsewhere"

    monkeypatch.setattr(live, "Live", taken)
    assert live.opened(USUAL, {}) == "elsewhere"  # type: ignore[comparison-overlap]
    with pytest.raises(SettingError):
        live.opened("127.0.0.1:9000", {})
    assert asked == [USUAL, "127.0.0.1:0", "127.0.0.1:9000"]


def test_time_left_goes_by_the_pace_since_the_first_round(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 10.0, 12.0, 14.0])
    monkeypatch.setattr("gossip.telemetry.pace.time.monotonic", clock.__next__)
    left = TimeLeft(10)
    left.note(0.0)  # ten seconds of preparation are no pace
    left.note(1.0)
    assert left.seconds is None
    left.note(2.0)
    assert left.seconds == 16.0
    left.note(3.0)
    assert left.seconds == 14.0
