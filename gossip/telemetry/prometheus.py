"""What a node says of itself, as Prometheus wants it: https://prometheus.io/docs/practices/naming/.

Counters end in `_total`, units are seconds and bytes, ratios lie between 0 and 1. Every label's values are bounded: by
the peers file, by our own words, or by `LABELS_MAX`.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

LABELS_MAX = 200
"""Reasons and message types are a few dozen. Should one ever come from outside, the rest is counted as one."""

OTHER = "other"

STATES = ("starting", "waiting", "running", "lingering", "unsaved", "leaving", "finished")


GAUGES = (
    ("gossip_round_in_progress", "The round that is being done", "round_in_progress"),
    ("gossip_rounds_target", "Rounds after which the node is done", "rounds"),
    (
        "gossip_training_loss",
        "Mean loss of the local update of the newest evaluated round",
        "training_loss",
    ),
    ("gossip_test_loss", "Mean loss of the own model on the common test set", "test_loss"),
    ("gossip_test_accuracy_ratio", "Accuracy of the own model on the common test set", "accuracy"),
    (
        "gossip_test_score",
        "What the objective scores the own model by, on the common test set",
        "score",
    ),
    ("gossip_own_test_loss", "Mean loss of the own model on own test samples", "own_test_loss"),
    (
        "gossip_own_test_score",
        "What the objective scores the own model by, on own test samples",
        "own_score",
    ),
    (
        "gossip_prototype_accuracy_ratio",
        "Accuracy of the nearest prototype of the own table on the common test set",
        "prototype_accuracy",
    ),
)
"""(name, what it is, key of the status); left out while there is none."""


class StatusCollector(Collector):
    """Metrics of the newest status (`gossip.node.report`), made when somebody asks, in the asker's thread."""

    def __init__(self, status: Callable[[], Mapping[str, Any]], *, version: str) -> None:
        self._status = status
        self._version = version

    def describe(self) -> Iterable[Metric]:
        """Return nothing: what there is depends on the status, and registering is not to ask for it."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield the families."""
        status = self._status()
        yield _info(
            "gossip_build", "What runs", {"version": self._version, "python": platform.python_version()}
        )
        yield _info(
            "gossip_run",
            "Who learns what with whom",
            {
                "peer": status["name"],
                "algorithm": status["algorithm"],
                "topology": status["topology"] or "none",
                "run_id": status["run_id"],
                "space_id": status["space_id"],
            },
        )
        yield _labelled(
            GaugeMetricFamily("gossip_state", "1 for the state that the node is in", labels=("state",)),
            {state: float(state == status["state"]) for state in STATES},
        )
        yield CounterMetricFamily(
            "gossip_rounds", "Rounds done whose checkpoint is on the disk", value=status["round"]
        )
        private = status.get("privacy")
        if private is not None:
            yield GaugeMetricFamily(
                "gossip_privacy_epsilon", "ε spent of the samples' privacy", private["epsilon"]
            )
            yield GaugeMetricFamily(
                "gossip_privacy_epsilon_max", "ε beyond which nothing is learnt", private["epsilon_max"]
            )
        for name, about, key in GAUGES:
            if status.get(key) is not None:
                yield GaugeMetricFamily(name, about, value=status[key])
        yield from _neighbours(status["neighbours"])
        yield from _traffic(status)
        yield _labelled(
            CounterMetricFamily("gossip_phase_seconds", "What the time went into", labels=("phase",)),
            status["phase_seconds"],
        )
        yield from _checkpoint(status["checkpoint"])
        yield _labelled(
            CounterMetricFamily(
                "gossip_contained_failures", "What failed without ending the learning", labels=("what",)
            ),
            status["failures"],
        )


def registry_of(status: Callable[[], Mapping[str, Any]], *, version: str) -> CollectorRegistry:
    """Return a registry of the node's metrics and those of its process: memory, descriptors, CPU."""
    registry = CollectorRegistry()
    registry.register(StatusCollector(status, version=version))
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def _neighbours(entries: Iterable[Mapping[str, Any]]) -> Iterator[Metric]:
    label = ("neighbour",)
    up = GaugeMetricFamily("gossip_neighbour_up", "1 while there is a connection", labels=label)
    rtt = GaugeMetricFamily("gossip_neighbour_rtt_seconds", "Round trip of the last heartbeat", labels=label)
    sent = CounterMetricFamily("gossip_neighbour_sent_bytes", "Bytes sent to it, before TLS", labels=label)
    received = CounterMetricFamily("gossip_neighbour_received_bytes", "Bytes of it, before TLS", labels=label)
    for entry in entries:
        name = (entry["name"],)
        up.add_metric(name, float(entry["up"]))
        if entry.get("rtt_ms") is not None:
            rtt.add_metric(name, entry["rtt_ms"] / 1e3)
        sent.add_metric(name, entry["sent_bytes"])
        received.add_metric(name, entry["received_bytes"])
    yield from (up, rtt, sent, received)


def _traffic(status: Mapping[str, Any]) -> Iterator[Metric]:
    for direction, suffix in (("sent", ""), ("received", "_received")):
        counted = status["bytes" + suffix]
        # Parts that add up: `protocol` in the accounting contains the payload.
        parts = {
            "payload": counted["payload"],
            "framing": counted["protocol"] - counted["payload"],
            "transport": counted["transport"],
        }
        bytes_of = CounterMetricFamily(f"gossip_{direction}_bytes", "Bytes, before TLS", labels=("kind",))
        yield _labelled(bytes_of, parts)
        messages = CounterMetricFamily(f"gossip_{direction}_messages", "Messages", labels=("type",))
        yield _labelled(messages, status["messages" + suffix]["by_type"])
    for name, about in (
        ("rejected", "Messages received and not used"),
        ("dropped", "Own messages that were not sent"),
    ):
        family = CounterMetricFamily(f"gossip_{name}_messages", about, labels=("reason",))
        yield _labelled(family, status[f"{name}_messages"])


def _checkpoint(said: Mapping[str, Any]) -> Iterator[Metric]:
    if said["age_s"] is not None:
        yield GaugeMetricFamily(
            "gossip_checkpoint_age_seconds",
            "Since the newest checkpoint reached the disk",
            value=said["age_s"],
        )
    yield GaugeMetricFamily(
        "gossip_checkpoint_writable",
        "Whether the last checkpoint could be written",
        value=said["error"] is None,
    )
    yield CounterMetricFamily(
        "gossip_checkpoint_failures", "Checkpoints that could not be written", value=said["failures"]
    )


def _labelled(
    family: GaugeMetricFamily | CounterMetricFamily, values: Mapping[str, float]
) -> GaugeMetricFamily | CounterMetricFamily:
    """Add a series per entry; those beyond `LABELS_MAX` together."""
    named = sorted(values.items())
    for label, value in named[:LABELS_MAX]:
        family.add_metric((label,), value)
    if len(named) > LABELS_MAX:
        family.add_metric((OTHER,), sum(value for _, value in named[LABELS_MAX:]))
    return family


def _info(name: str, about: str, labels: Mapping[str, str]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"{name}_info", about, labels=tuple(labels))
    family.add_metric(tuple(labels.values()), 1.0)
    return family
