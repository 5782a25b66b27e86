"""A node's page: what its status and its records say, and nothing that would end the node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gossip.page.of_node import EVENTS_MAX, POINTS_MAX, NodeStory
from gossip.page.rendering import encoded
from tests.unit.test_web import status


def told(**other: Any) -> dict[str, Any]:
    objective = {"name": "accuracy", "higher_is_better": True, "percent": True}
    usual = {"troubles": {}, "waiting_for": [], "divergence": None, "insecure": False, "device": "cpu"}
    return status(**{**usual, "objective": objective, "score": 0.5, "rounds_here": 7, **other})


def measured(round: int) -> dict[str, Any]:
    return {
        "peer": "alice",
        "round": round,
        "time": 100.0 + round,
        "score": round / 10,
        "heard": 1,
        "expected": 2,
        "bytes_sent": 10 * round,
    }


def write(path: Path, entries: list[Any]) -> None:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def test_it_shows_the_node_its_curve_its_neighbours_and_what_it_lost(tmp_path: Path) -> None:
    write(tmp_path / "metrics.jsonl", [measured(1), measured(2), measured(3)])
    events = [
        {"time": 100.0, "event": "started"},
        {"time": 102.5, "event": "peer_down", "other": "carol"},
        {"time": 103.0, "event": "adopted", "other": "bob", "round": 3},
    ]
    write(tmp_path / "events.jsonl", events)
    shown = NodeStory(tmp_path, lead="ours").document(told())
    assert shown["curve"]["mean"] == [0.1, 0.2, 0.3]
    assert shown["curve"]["time"] == [1, 2, 3]
    assert shown["peers"]["name"] == ["alice", "bob", "carol"]
    assert shown["peers"]["up"] == [True, True, False]
    assert shown["peers"]["score"] == [0.5, None, None]
    assert shown["network"]["links"] == [[0, 1], [0, 2]]
    assert shown["network"]["traffic"] == [11, 0]
    assert [mark["round"] for mark in shown["faults"]] == [2]
    assert [line["text"] for line in shown["events"]["lines"]] == [
        "caught up with bob",
        "carol lost",
        "started",
    ]
    assert {each["kind"]: each["bytes"] for each in shown["bytes"]} == {"model": 1000, "heartbeat": 10}
    assert shown["progress"]["left"] == 23
    encoded(shown)


def test_it_follows_records_as_they_grow_and_starts_anew_with_a_resume(tmp_path: Path) -> None:
    story = NodeStory(tmp_path, lead="")
    assert story.document(told())["curve"]["round"] == []
    write(tmp_path / "metrics.jsonl", [measured(1), measured(2)])
    assert story.document(told())["curve"]["round"] == [1, 2]
    # What a resume puts back is another file.
    write(tmp_path / "other", [measured(1)])
    (tmp_path / "other").replace(tmp_path / "metrics.jsonl")
    assert story.document(told())["curve"]["round"] == [1]


def test_of_a_long_run_it_keeps_so_many_points_and_events_the_newest_among_them(tmp_path: Path) -> None:
    write(tmp_path / "metrics.jsonl", [measured(number) for number in range(1, 3 * POINTS_MAX)])
    events = [{"time": float(number), "event": "peer_up", "other": "bob"} for number in range(2 * EVENTS_MAX)]
    write(tmp_path / "events.jsonl", events)
    shown = NodeStory(tmp_path, lead="").document(told())
    assert len(shown["curve"]["round"]) <= POINTS_MAX
    assert shown["curve"]["round"][-1] == 3 * POINTS_MAX - 1
    assert shown["events"]["lines"][0]["time"] == 2 * EVENTS_MAX - 1
    assert len(shown["events"]["lines"]) + shown["events"]["more"] == 2 * EVENTS_MAX


def test_nonsense_on_the_disk_is_left_out(tmp_path: Path) -> None:
    nonsense = [
        [],
        {"round": "1"},
        {"round": 1},
        {"time": None, "round": 1},
        {"event": 7, "time": 1},
        measured(4),
    ]
    write(tmp_path / "metrics.jsonl", nonsense)
    write(
        tmp_path / "events.jsonl",
        [*nonsense, {"event": "peer_up", "time": "now"}, {"event": "odd_one", "time": 1}],
    )
    shown = NodeStory(tmp_path, lead="").document(told(waiting_for=["bob"], troubles={"disk": "full"}))
    assert shown["curve"]["round"] == [4]
    assert [line["text"] for line in shown["events"]["lines"]] == ["odd one"]
    assert shown["state"] == "waiting for bob"
    assert shown["warnings"] == ["disk: full"]
