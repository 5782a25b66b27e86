"""The document of one node: itself, and what it knows of its neighbours."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gossip.learning.objectives.score import Score
from gossip.page.numbers import short, shorts
from gossip.page.rendering import FORMAT, told_score
from gossip.storage.growing_lines import GrowingLines

POINTS_MAX = 2000
"""Of the curve; of a longer one every second point is forgotten."""

EVENTS_MAX = 300
LINES_MAX = 120
MARKS_MAX = 60

Status = Mapping[str, Any]
Entry = Mapping[str, Any]

TOLD = {
    "started": ("started", "good"),
    "finished": ("finished", "good"),
    "interrupted": ("asked to end", "plain"),
    "peer_up": ("{other} connected", "good"),
    "peer_down": ("{other} lost", "bad"),
    "muted": ("{other} muted", "bad"),
    "rejected": ("a message of {other} refused", "bad"),
    "adopted": ("caught up with {other}", "good"),
    "diverged": ("diverged", "bad"),
    "peers_read_again": ("peers file read again", "plain"),
}
"""Event -> what is written of it, and whether it is good or bad."""

DETAILS = ("sentence", "reason", "signal")


class NodeStory:
    """What a home's records tell, read as they grow, and the newest status: together a document.

    Not thread-safe: the page's thread has it to itself.
    """

    def __init__(self, home: Path, *, lead: str) -> None:
        self._measured = GrowingLines(home / "metrics.jsonl")
        self._happened = GrowingLines(home / "events.jsonl")
        self._lead = lead
        self._points: list[Entry] = []
        self._events: deque[Entry] = deque(maxlen=EVENTS_MAX)
        self._more = 0
        self._began_s: float | None = None

    def document(self, status: Status) -> dict[str, Any]:
        """Return what the page shows now."""
        self._read()
        score = Score(**status["objective"])
        names, rows = _rows(status, self._points)
        curve = self._curve()
        return {
            "format": FORMAT,
            "kind": "run",
            "title": status["name"],
            "lead": self._lead,
            "state": _state(status),
            "score": told_score(score),
            "words": WORDS,
            "progress": self._progress(status),
            "facts": _facts(status, self._points, score),
            "warnings": _warnings(status),
            "curve": curve,
            "senders": "this node",
            "alone": None,
            "faults": self._marks(),
            "peers": rows,
            "points": list(range(len(curve["round"]))),
            "matrix": [curve["mean"], *([None] * len(curve["mean"]) for _ in names[1:])],
            "down": [[] for _ in names],
            "sampled": None,
            "network": _network(status, len(names)),
            "data": None,
            "events": self._story(),
            "phases": _phases(status),
            "bytes": _kinds(status),
            "payload": _share(status["bytes"]),
            "attack": None,
            "settings": None,
            "command": None,
            "machines": [
                f"run {status['run_id'][:12]}, model {status['space_id'][:12]}, computed on {status['device']}."
            ],
        }

    def _read(self) -> None:
        measured, happened = self._measured.new(), self._happened.new()
        if self._measured.replaced:
            self._points = []
        self._points += [entry for entry in measured if _is_measured(entry)]
        while len(self._points) > POINTS_MAX:
            # The newest stays.
            self._points = self._points[-1::-2][::-1]
        if self._happened.replaced:
            self._events.clear()
            self._more = 0
        found = [
            event
            for event in happened
            if _is_number(event.get("time")) and isinstance(event.get("event"), str)
        ]
        self._more += max(0, len(self._events) + len(found) - EVENTS_MAX)
        self._events.extend(found)
        if self._began_s is None:
            firsts = [entry["time"] for entry in (*found[:1], *self._points[:1])]
            self._began_s = min(firsts) if firsts else None

    def _since(self, time_s: float) -> float:
        return 0.0 if self._began_s is None else max(0.0, time_s - self._began_s)

    def _curve(self) -> dict[str, list[Any]]:
        points = self._points
        own = shorts(entry.get("own_score") for entry in points)
        prototypes = shorts(entry.get("prototype_accuracy") for entry in points)
        return {
            "round": [entry["round"] for entry in points],
            "time": shorts(self._since(entry["time"]) for entry in points),
            "bytes": [entry.get("bytes_sent", 0) for entry in points],
            "mean": shorts(entry.get("score", entry.get("accuracy")) for entry in points),
            "min": [],
            "max": [],
            "of_mean": [],
            "own": own if any(value is not None for value in own) else [],
            "prototypes": prototypes if any(value is not None for value in prototypes) else [],
            "consensus": [],
            "before": [],
        }

    def _progress(self, status: Status) -> dict[str, Any]:
        done, of = status["round"], status["rounds"]
        recent = self._points[-20:]
        left = None
        if status["state"] == "running" and len(recent) > 1 and recent[-1]["round"] > recent[0]["round"]:
            pace = (recent[-1]["time"] - recent[0]["time"]) / (recent[-1]["round"] - recent[0]["round"])
            left = max(0.0, pace * (of - done))
        return {"done": done, "of": of, "left": None if left is None else short(left), "took": ""}

    def _marks(self) -> list[dict[str, Any]]:
        lost = [event for event in self._events if event["event"] == "peer_down"][-MARKS_MAX:]
        marks = []
        for event in lost if self._points else ():
            before = [entry for entry in self._points if entry["time"] <= event["time"]]
            at = before[-1] if before else self._points[0]
            marks.append(
                {
                    "round": at["round"],
                    "time": short(self._since(event["time"])),
                    "bytes": at.get("bytes_sent", 0),
                    "text": f"{event.get('other')} lost",
                }
            )
        return marks

    def _story(self) -> dict[str, Any]:
        lines = [_line(event, self._since(event["time"])) for event in reversed(self._events)]
        return {"lines": lines[:LINES_MAX], "more": self._more + max(0, len(lines) - LINES_MAX)}


WORDS = {
    "mean": "own model",
    "curve": "Of this node’s own model on the test set, told once its checkpoint is on the disk.",
    "phases": "Mean, since the process began to learn.",
    "network": "Who this node talks to, as it knows; width of a line: what went over it. Hatched: not connected.",
    "peers": "This node, and what it knows of its neighbours: their scores it does not.",
}


def _state(status: Status) -> str:
    waiting = status.get("waiting_for") or []
    if status["state"] == "running" and waiting:
        return f"waiting for {', '.join(waiting[:3])}{' …' if len(waiting) > 3 else ''}"
    return str(status["state"])


def _rows(status: Status, points: Sequence[Entry]) -> tuple[list[str], dict[str, list[Any]]]:
    others, last = status["neighbours"], points[-1] if points else {}
    names = [status["name"], *(each["name"] for each in others)]
    nothing = [None] * len(others)
    heard = f"{last['heard']} of {last['expected']}" if last.get("expected") else None
    columns = {
        "name": names,
        "attacks": [False] * len(names),
        "up": [True, *(each["up"] for each in others)],
        "score": [short(status.get("score")), *nothing],
        "own_score": [short(status.get("own_score")), *nothing],
        "test_loss": [short(status.get("test_loss")), *nothing],
        "sent": [status["bytes"]["total"], *(each["sent_bytes"] for each in others)],
        "received": [status["bytes_received"]["total"], *(each["received_bytes"] for each in others)],
        "heard": [heard, *nothing],
        "rounds": [status["round"], *nothing],
        "state": [status["state"], *(_link(each) for each in others)],
    }
    kept = ("name", "attacks", "up", "score")
    return names, {key: values for key, values in columns.items() if key in kept or any(values)}


def _link(each: Entry) -> str:
    if not each["up"]:
        return f"not connected{': ' + str(each['error']) if each.get('error') else ''}"
    rtt = "" if each.get("rtt_ms") is None else f", {each['rtt_ms']:.3g} ms away"
    return f"connected{rtt}"


def _facts(status: Status, points: Sequence[Entry], score: Score) -> list[dict[str, Any]]:
    after = f"after round {points[-1]['round']}" if points else "not evaluated yet"
    found = [_fact(f"{score.label} of the own model", score.told(status.get("score")), after, spark="mean")]
    if status.get("own_score") is not None:
        found.append(_fact(f"{score.label} on own tests", score.told(status["own_score"])))
    if points and points[-1].get("prototype_accuracy") is not None:
        told, classes = score.told(points[-1]["prototype_accuracy"]), points[-1]["prototype_classes"]
        found.append(_fact("nearest prototypes", told, f"of {classes} classes"))
    for what, key in (("training loss", "training_loss"), ("test loss", "test_loss")):
        if status.get(key) is not None:
            found.append(_fact(what, f"{status[key]:.3g}"))
    # The scripts write bytes as they do everywhere.
    moved = {"bytes": status["bytes"]["total"], "received": status["bytes_received"]["total"]}
    return [*found, {"what": "sent", **moved, "value": "", "unit": ""}]


def _fact(what: str, value: str, note: str = "", spark: str | None = None) -> dict[str, Any]:
    number, _, unit = value.partition(" ")
    return {"what": what, "value": number, "unit": unit, "note": note, "spark": spark}


def _warnings(status: Status) -> list[str]:
    said = [f"{what}: {sentence}" for what, sentence in status.get("troubles", {}).items()]
    if status.get("divergence"):
        said.append(str(status["divergence"].get("sentence", "the model diverged")))
    if status.get("insecure"):
        said.append("--insecure: anybody can read and forge what these peers say")
    return said


def _network(status: Status, count: int) -> dict[str, Any] | None:
    if count < 2:
        return None
    others = count - 1
    angles = [math.pi / 2 - 2 * math.pi * place / others for place in range(others)]
    return {
        "x": [0, *shorts(math.cos(angle) for angle in angles)],
        "y": [0, *shorts(math.sin(angle) for angle in angles)],
        "links": [[0, row] for row in range(1, count)],
        "traffic": [each["sent_bytes"] + each["received_bytes"] for each in status["neighbours"]],
        "note": "",
    }


def _phases(status: Status) -> list[dict[str, Any]]:
    rounds = status.get("rounds_here")
    if not rounds:
        return []
    return [
        {"phase": name, "seconds": short(spent / rounds)} for name, spent in status["phase_seconds"].items()
    ]


def _kinds(status: Status) -> list[dict[str, Any]]:
    counted = status["bytes"].get("by_type", {})
    return [
        {"kind": kind, "bytes": count}
        for kind, count in sorted(counted.items(), key=lambda item: -item[1])
        if count
    ]


def _share(counted: Mapping[str, int]) -> float | None:
    return (
        counted["payload"] / counted["protocol"]
        if counted.get("payload") and counted.get("protocol")
        else None
    )


def _line(event: Entry, since_s: float) -> dict[str, Any]:
    how, kind = TOLD.get(event["event"], (event["event"].replace("_", " "), "plain"))
    text = how.format(other=event.get("other", "somebody"))
    detail = next((str(event[key]) for key in DETAILS if event.get(key)), "")
    if event["event"] == "adopted" and "round" in event:
        detail = f"round {event['round']}"
    return {"time": short(since_s), "text": text, "detail": detail[:300], "kind": kind}


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_measured(entry: Entry) -> bool:
    return isinstance(entry.get("round"), int) and _is_number(entry.get("time"))
