"""What happened in a run: faults as marks on its curve, who was away when, and the few lines worth reading."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gossip.learning.objectives.score import Score
from gossip.page.numbers import short
from scenarios.reports.runs import Run

GONE = {"crashed": "crashed", "left": "left", "died": "died"}
BACK = {"restarted": "back", "joined": "joined", "healed": "back"}
ROUTINE = ("started", "finished", "peer_up", "peer_down", "muted", "rejected", "adopted", "diverged")
"""Told together, or elsewhere on the page."""

TOGETHER = 0.01
"""Of the run's time: what happens to several peers within it is one line."""

EVENTS_MAX = 120
MARKS_MAX = 60
NAMED_MAX = 3
LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99)
"""Of a score that is a share, which of its mean are worth a line."""

Span = tuple[float, float | None]


def down(run: Run) -> dict[str, list[Span]]:
    """Return when each peer was away, (from, to) in seconds; None: to the end. Peers never away are left out."""
    found: dict[str, list[Span]] = defaultdict(list)
    last = {entry["peer"]: float(entry["time"]) for entry in run.metrics}
    joined = {event["peer"] for event in run.events if event["event"] == "joined"}
    for name in joined:
        found[name].append((0.0, None))
    for event in run.events:
        name, kind = event.get("peer"), event["event"]
        if name is None:
            continue
        spans = found[name]
        if kind in GONE and (not spans or spans[-1][1] is not None):
            spans.append((float(event["time"]), None))
        elif kind in BACK and spans and spans[-1][1] is None:
            spans[-1] = (spans[-1][0], float(event["time"]))
    for peer in run.peers:
        spans = found[peer["peer"]]
        if peer["state"] in ("crashed", "died", "left", "absent") and (not spans or spans[-1][1] is not None):
            spans.append((last.get(peer["peer"], 0.0), None))
    return {name: spans for name, spans in found.items() if spans}


def spans(away: Sequence[Span], points: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """Return the same as [first, last] place on the curve."""
    times = [float(point["time"]) for point in points]
    found = []
    for start, end in away:
        first = int(np.searchsorted(times, start, side="right"))
        last = len(times) - 1 if end is None else int(np.searchsorted(times, end, side="left")) - 1
        if first <= last:
            found.append([first, last])
    return found


def marks(run: Run) -> list[dict[str, Any]]:
    """Return the faults as {round, time, bytes, text}, those at one time together."""
    lines = [line for line in _grouped(run) if line["kind"] == "bad"]
    points = run.summary["curve"]
    if not points or len(lines) > MARKS_MAX:
        return []
    times = [float(point["time"]) for point in points]
    return [
        {
            "time": line["time"],
            "round": short(float(np.interp(line["time"], times, [point["round"] for point in points]))),
            "bytes": short(float(np.interp(line["time"], times, [point["bytes"] for point in points]))),
            "text": line["text"],
        }
        for line in lines
    ]


def events(run: Run, score: Score) -> dict[str, Any]:
    """Return {lines: [{time, text, detail, kind}], more}: the last first; `kind` is good, bad or plain."""
    lines = [*_grouped(run), *_others(run), *_milestones(run, score)]
    ended = [peer for peer in run.peers if peer["state"] == "finished"]
    if ended:
        why = run.summary.get("stopped")
        detail = f"{len(ended)} of {len(run.peers)} peers to the end" + (
            f"; ended by {why}" if why not in (None, "rounds") else ""
        )
        lines.append(_line(run.summary["time"], "finished", detail, "good"))
    lines.sort(key=lambda line: line["time"])
    lines.reverse()
    return {"lines": lines[:EVENTS_MAX], "more": max(0, len(lines) - EVENTS_MAX)}


def _grouped(run: Run) -> list[dict[str, Any]]:
    """Return a line for each fault and return, of several peers together where they came together."""
    width = TOGETHER * float(run.summary["time"] or 1)
    groups: list[tuple[str, float, list[str]]] = []
    open_groups: dict[str, int] = {}
    for event in sorted(run.events, key=lambda each: each["time"]):
        kind, name = event["event"], event.get("peer")
        if kind not in GONE and kind not in BACK:
            continue
        at = open_groups.get(kind)
        if at is None or event["time"] - groups[at][1] > width:
            open_groups[kind] = len(groups)
            groups.append((kind, float(event["time"]), []))
        groups[open_groups[kind]][2].append(str(name))
    lines = []
    for kind, time, names in groups:
        word = GONE.get(kind) or BACK[kind]
        detail = f"{len(names)} peers" if len(names) > NAMED_MAX else ""
        lines.append(_line(time, f"{_names(names)} {word}", detail, "bad" if kind in GONE else "good"))
    for event in run.events:
        if event["event"] == "partition":
            text = f"the network parts: {len(event.get('peers', ()))} peers on one side"
            lines.append(_line(event["time"], text, "", "bad"))
        elif event["event"] == "heal":
            lines.append(_line(event["time"], "the network is whole again", "", "good"))
    return lines


def _others(run: Run) -> list[dict[str, Any]]:
    """Return what else there is: connections once, divergence in its words, the rest counted by kind."""
    lines = []
    links = [float(event["time"]) for event in run.events if event["event"] == "peer_up"]
    if links:
        pairs = {
            tuple(sorted((str(e["peer"]), str(e["other"])))) for e in run.events if e["event"] == "peer_up"
        }
        start = sorted(links)[min(len(links), 2 * len(pairs)) - 1]
        lines.append(
            _line(start, f"{len(run.peers)} peers connected", f"mutual TLS, {len(pairs)} links", "good")
        )
    counted: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for event in run.events:
        kind = event["event"]
        if kind == "diverged":
            first = not counted["diverged"]
            counted["diverged"].append(event)
            if first:
                lines.append(
                    _line(event["time"], f"{event['peer']} diverged", str(event.get("sentence", "")), "bad")
                )
        elif kind in ("adopted", "rejected", "muted") or (
            kind not in ROUTINE
            and kind not in GONE
            and kind not in BACK
            and kind not in ("partition", "heal")
        ):
            counted[kind].append(event)
    for kind, found in counted.items():
        if kind != "diverged" and found:
            lines.append(_counted(kind, found))
    return lines


def _counted(kind: str, found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    last, count = found[-1], len(found)
    names = _names(list(dict.fromkeys(str(event.get("peer", "")) for event in found)))
    if kind == "adopted":
        others = list(dict.fromkeys(str(event.get("other", "")) for event in found))
        text, often = f"{names} caught up", f", {count} times in all" if count > 1 else ""
        return _line(last["time"], text, f"took over a model of {_names(others)}{often}", "good")
    if kind == "rejected":
        reasons = ", ".join(dict.fromkeys(str(event.get("reason", "")) for event in found))
        total = sum(int(event.get("count", 1)) for event in found)
        return _line(last["time"], f"{total} messages refused", reasons, "bad")
    return _line(
        last["time"], f"{kind.replace('_', ' ')}: {names}", f"{count} times" if count > 1 else "", "plain"
    )


def _milestones(run: Run, score: Score) -> list[dict[str, Any]]:
    if not score.percent or not score.higher_is_better:
        return []
    lines, left = [], list(LEVELS)
    for point in run.summary["curve"]:
        mean = point.get("score_mean")
        passed = [level for level in left if mean is not None and mean >= level]
        if passed:
            text = f"{100 * passed[-1]:.0f} % reached by the mean"
            lines.append(_line(point["time"], f"round {point['round']}", text, "plain"))
            left = [level for level in left if level > passed[-1]]
    return lines


def _names(names: Sequence[str]) -> str:
    if len(names) <= NAMED_MAX:
        return ", ".join(names)
    return f"{', '.join(names[: NAMED_MAX - 1])} and {len(names) - NAMED_MAX + 1} more"


def _line(time: float, text: str, detail: str, kind: str) -> dict[str, Any]:
    return {"time": short(float(time)), "text": text, "detail": detail, "kind": kind}
