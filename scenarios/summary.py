"""From an engine's records to `summary.json`: the same keys for every engine, null where one does not apply."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from gossip.learning.objectives.score import ACCURACY, Score
from gossip.merging.sanitise import NON_FINITE
from scenarios.records import Counts, PeerOutcome, Records, point_of
from scenarios.scenario import ScenarioSettings

FAULTS = ("crashed", "restarted", "left", "joined", "died")


def summarise(
    scenario: ScenarioSettings, records: Records, *, engine: str, wall_seconds: float
) -> dict[str, Any]:
    """Return the run's summary, ready for JSON."""
    final = records.final
    honest = [peer for peer in records.peers if peer.honest]
    points = curve(records)
    score = records.scored
    stop = scenario.stop
    target = reached(
        points, stop.target_score if stop.target_accuracy is None else stop.target_accuracy, score=score
    )
    scores = spread([peer.score for peer in honest if peer.score is not None])
    of_mean = None if final is None else final.score
    diverged = divergence(honest)
    return {
        "scenario": scenario.scenario.name,
        "engine": engine,
        "algorithm": scenario.algorithm,
        "seed": scenario.seed,
        "peers": len(records.peers),
        "honest_peers": len(honest),
        "rounds": max((peer.rounds for peer in records.peers), default=0),
        **stopped(honest),
        "objective": score._asdict(),
        "score": {**scores, "worst": scores["min" if score.higher_is_better else "max"], **_unknown(honest)},
        "score_of_mean": of_mean,
        "accuracy": scores if score == ACCURACY else spread(()),
        "accuracy_of_mean": of_mean if score == ACCURACY else None,
        **_own(honest, score),
        **_prototypes(honest),
        "consensus_distance": None if final is None else final.consensus_distance,
        "final_steps": final_steps(records, honest),
        "curve": points,
        "rounds_to_target": target.get("round"),
        "time_to_target": target.get("time"),
        "bytes": _bytes(records.peers),
        "bytes_to_target": target.get("bytes"),
        "messages": {"by_type": _added(peer.messages for peer in records.peers)},
        "time": round(records.seconds, 3),
        "wall_seconds": round(wall_seconds, 3),
        "event_digest": records.event_digest,
        "model_digest": records.model_digest,
        "faults": {
            **{fault: records.faults.get(fault, 0) for fault in FAULTS},
            "adopted": sum(peer.adopted for peer in records.peers),
            "rejected_messages": _added(peer.rejected_messages for peer in honest),
        },
        **privacy(honest),
        "skipped": sum(peer.skipped for peer in honest),
        "divergence": diverged,
        "warnings": [*records.warnings, *([diverged["sentence"]] if diverged else [])],
        "merge": scenario.merge.kind,
        "verdicts": _added(counts for peer in honest for counts in peer.verdicts.values()),
        "attack": _attack(scenario, records, honest),
    }


def _unknown(honest: Sequence[PeerOutcome]) -> dict[str, int]:
    """Return how many honest peers finished with a score that is not finite, which no mean counts; {} for none."""
    count = sum(peer.score is None and peer.state == "finished" and peer.rounds > 0 for peer in honest)
    return {"unknown": count} if count else {}


def _own(honest: Sequence[PeerOutcome], score: Score) -> dict[str, Any]:
    """Return the scores on own test samples, each honest peer's on its own; {} where no peer keeps any."""
    own = [peer.own for peer in honest if "own_score" in peer.own]
    if not own:
        return {}
    scores = spread([each["own_score"] for each in own if each["own_score"] is not None])
    return {
        "own_score": {**scores, "worst": scores["min" if score.higher_is_better else "max"]},
        "own_accuracy": scores if score == ACCURACY else spread(()),
        "own_test_samples": sum(each["own_test_samples"] for each in own),
    }


def _prototypes(honest: Sequence[PeerOutcome]) -> dict[str, Any]:
    """Return how well the honest peers' nearest prototypes tell the test samples; {} without a table of them."""
    told = [peer.own for peer in honest if "prototype_accuracy" in peer.own]
    if not told:
        return {}
    return {
        "prototype_accuracy": spread([each["prototype_accuracy"] for each in told]),
        "prototype_classes": min(each["prototype_classes"] for each in told),
    }


def _attack(
    scenario: ScenarioSettings, records: Records, honest: Sequence[PeerOutcome]
) -> dict[str, Any] | None:
    """Return who attacked how, and what became of their models and of those of the honest, at honest peers.

    Of more senders than a peer keeps apart nobody knows which of both they were.
    """
    attackers = sorted(peer.peer for peer in records.peers if not peer.honest)
    if not attackers:
        return None
    lying = frozenset(attackers)
    of: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    weight = {True: 0.0, False: 0.0}
    for peer in honest:
        for sender, counts in peer.verdicts.items():
            of[sender in lying].update(counts)
            weight[sender in lying] += peer.weights[sender] * sum(counts.values())
    return {
        "kind": scenario.attack.kind,
        "attackers": attackers,
        "attackers_models": dict(sorted(of[True].items())),
        "honest_models": dict(sorted(of[False].items())),
        "unnamed_models": _added(peer.verdicts_on_others for peer in honest),
        "attackers_weight": weight[True] / of[True].total() if of[True] else None,
        "honest_weight": weight[False] / of[False].total() if of[False] else None,
        **(records.attack or {}),
    }


def stopped(honest: Sequence[PeerOutcome]) -> dict[str, Any]:
    """Return why the honest peers have ended, most of them if not all, and after which rounds; null where none has."""
    ended = [peer for peer in honest if peer.stopped is not None]
    if not ended:
        return {"stopped": None, "stopped_round": None}
    whys = Counter(peer.stopped for peer in ended)
    rounds = [peer.rounds for peer in ended]
    why = max(sorted(whys, key=str), key=whys.__getitem__)
    return {"stopped": why, "stopped_round": {"min": min(rounds), "max": max(rounds)}}


def privacy(honest: Sequence[PeerOutcome]) -> dict[str, Any]:
    """Return what the honest peers have spent under `[privacy]`; {} without."""
    told = [peer.privacy for peer in honest if peer.privacy is not None]
    if not told:
        return {}
    return {
        "privacy": {
            "epsilon": spread([each["epsilon"] for each in told]),
            "epsilon_max": told[0]["epsilon_max"],
            "delta": told[0]["delta"],
            "spent": sum(each["refused"] == "spent" for each in told),
        }
    }


def divergence(honest: Sequence[PeerOutcome]) -> dict[str, Any] | None:
    """Return which honest peers' models have diverged, and what was said of the first; null for none.

    One may show it to others only: whoever trains with few and is told nothing of what it sent.
    """
    told = {peer.peer: peer.divergence for peer in honest if peer.divergence is not None}
    names = {each.peer for each in honest}
    refused = {
        sender
        for peer in honest
        for sender, counts in peer.verdicts.items()
        if counts.get(NON_FINITE) and sender in names
    }
    peers = sorted({*told, *refused})
    if not peers:
        return None
    first = min(told.values(), key=lambda entry: (entry["round"], entry["peer"]), default=None)
    count = f"{len(peers)} of {len(honest)} peers diverged"
    if first is None:
        sentence = f"{count}: others have refused models of {peers[0]} whose values are not finite"
    else:
        sentence = f"{count}; {'the first' if len(peers) > 1 else 'it was so'}: {first['sentence']}"
    return {"peers": peers, "first": first, "sentence": sentence}


def final_steps(records: Records, honest: Sequence[PeerOutcome]) -> dict[str, Any] | None:
    """Return what the final steps of `[final]` made of the honest peers' scores; null where there were none.

    `before` is their models' after the last round's own steps; `gain` is how much the mean score has changed since.
    """
    names = {peer.peer for peer in honest}
    ended = {
        entry["peer"]: entry
        for entry in records.metrics
        if entry.get("score_before_final") is not None and entry["peer"] in names
    }
    if not ended:
        return None
    before = spread([entry["score_before_final"] for entry in ended.values()])
    after = spread([entry["score"] for entry in ended.values() if entry.get("score") is not None])
    means = before["mean"], after["mean"]
    gain = None if means[0] is None or means[1] is None else means[1] - means[0]
    return {"before": before, "after": after, "gain": gain}


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """Return mean, population standard deviation, minimum and maximum; null for no values."""
    if not values:
        return dict.fromkeys(("mean", "std", "min", "max"))
    array = np.asarray(values, dtype=np.float64)
    return {
        "mean": float(array.mean()),
        "std": float(array.std()),
        "min": float(array.min()),
        "max": float(array.max()),
    }


def curve(records: Records) -> list[dict[str, Any]]:
    """Return one point per evaluated round, over the peers that have it.

    `time` is when the last of them had it; `bytes` is what they had sent together by then. Where peers have no rounds
    in common a point is a moment, and `round` the median of the updates that they had done.
    """
    by_round: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for entry in records.metrics:
        by_round[point_of(entry)].append(entry)
    points = []
    for number, entries in sorted(by_round.items()):
        average = records.averages.get(number)
        scores = spread([entry["score"] for entry in entries if entry.get("score") is not None])
        of_mean = None if average is None else average.score
        told = scores if records.scored == ACCURACY else spread(())
        points.append(
            {
                "round": int(np.median([entry["round"] for entry in entries])),
                "time": max(entry["time"] for entry in entries),
                "peers": len(entries),
                "score_mean": scores["mean"],
                "score_min": scores["min"],
                "score_max": scores["max"],
                "score_of_mean": of_mean,
                "accuracy_mean": told["mean"],
                "accuracy_min": told["min"],
                "accuracy_max": told["max"],
                "accuracy_of_mean": of_mean if records.scored == ACCURACY else None,
                "test_loss_mean": _mean(entry.get("test_loss") for entry in entries),
                **_own_point(entries),
                **_prototypes_point(entries),
                "consensus_distance": None if average is None else average.consensus_distance,
                "consensus_before": None if average is None else average.consensus_before,
                "bytes": _bytes_by_then(entries),
            }
        )
    return points


def _own_point(entries: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Return what a point of the curve says of own test samples; {} where there are none."""
    if not any("own_score" in entry for entry in entries):
        return {}
    scores = spread([entry["own_score"] for entry in entries if entry.get("own_score") is not None])
    return {f"own_score_{key}": scores[key] for key in ("mean", "min", "max")}


def _prototypes_point(entries: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Return what a point of the curve says of prototypes; {} where there are none."""
    told = [entry["prototype_accuracy"] for entry in entries if "prototype_accuracy" in entry]
    return {"prototype_accuracy_mean": spread(told)["mean"]} if told else {}


def _bytes_by_then(entries: Sequence[Mapping[str, Any]]) -> int:
    """Where a few peers complete a round for all, theirs are not the only bytes; the first to do so counts."""
    of_all = [int(entry["bytes_sent_by_all"]) for entry in entries if "bytes_sent_by_all" in entry]
    return min(of_all) if of_all else sum(entry["bytes_sent"] for entry in entries)


def reached(
    points: Sequence[Mapping[str, Any]], target: float | None, *, score: Score = ACCURACY
) -> Mapping[str, Any]:
    """Return the first point of a curve whose mean score is `target` or better; {} where there is none."""
    if target is None:
        return {}
    scored = (point for point in points if point["score_mean"] is not None)
    return next((point for point in scored if not score.better(target, point["score_mean"])), {})


def _bytes(peers: Sequence[PeerOutcome]) -> dict[str, Any]:
    totals = [peer.sent.total for peer in peers]
    return {
        "payload": sum(peer.sent.payload for peer in peers),
        "protocol": sum(peer.sent.protocol for peer in peers),
        "transport": sum(peer.sent.transport for peer in peers),
        "total": sum(totals),
        "per_peer_mean": sum(totals) / len(totals) if totals else None,
        "per_peer_max": max(totals, default=None),
        "by_type": _added(peer.sent.by_type for peer in peers),
    }


def _added(counts: Iterable[Counts]) -> dict[str, int]:
    added: Counter[str] = Counter()
    for count in counts:
        added.update(count)
    return dict(sorted(added.items()))


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
