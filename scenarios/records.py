"""What an engine hands over when a run is done, whatever world it ran in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from gossip.channels.settings import MEASURED
from gossip.learning.objectives.score import ACCURACY, Score

Counts = Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Bytes in one direction. Protocol messages contain their payload; total is protocol and transport."""

    payload: int = 0
    """Tensor data."""
    protocol: int = 0
    """Messages of the protocol with their framing."""
    transport: int = 0
    """Hello, heartbeats."""
    total: int = 0
    by_type: Counts = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerOutcome:
    """One peer at the end of the run."""

    peer: str
    state: str
    """"finished", "interrupted", "died" where nobody wanted it to end, or how else it ended."""
    rounds: int
    score: float | None
    """Of its own model on the common test set, as the objective scores."""
    test_loss: float | None
    own: Mapping[str, Any] = field(default_factory=dict)
    """own_score, own_test_loss, …: the same on its own test samples, where it keeps some; and prototype_accuracy, …: of
    its table of prototypes, where there is one."""
    sent: Traffic
    received: Traffic
    messages: Counts
    """Sent, by type."""
    rejected_messages: Counts
    """By reason."""
    adopted: int
    """How often it took over a neighbour's model."""
    honest: bool = True
    stopped: str | None = None
    """Why it has finished: "rounds", or "patience" or "target" where peers agreed to stop early."""
    verdicts: Mapping[str, Counts] = field(default_factory=dict)
    """Sender -> "accepted" or a reason -> models, where the rule tells or they were refused."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Sender -> mean weight of those models."""
    verdicts_on_others: Counts = field(default_factory=dict)
    """Those on the models of senders of whom there were too many to name."""
    skipped: int = 0
    """Mini-batches that gave a gradient that was not finite; of a real process those of its last life."""
    divergence: Mapping[str, Any] | None = None
    """What showed that its model has diverged, when, and the likely cause; see `gossip.learning.divergence`."""
    privacy: Mapping[str, Any] | None = None
    """What it has spent of its samples' privacy, as `gossip.privacy.budget.Budget.as_dict`; None: without."""
    last_words: str | None = None
    """How one that died has ended, and the last line of its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Average:
    """The mean x̄ of the honest peers' models after a round, and how far they are from it."""

    consensus_distance: float | None
    """sqrt(mean_i ‖x_i - x̄‖²) over what is learned; None where models are not finite."""
    score: float | None
    test_loss: float
    peers: int
    """How many models there were."""
    consensus_before: float | None = None
    """The same distance after the local updates and before the round's gossip, where the engine sees it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """A run: its measurements, its end, its counters."""

    peers: Sequence[PeerOutcome]
    metrics: Sequence[Mapping[str, Any]]
    """One per peer and evaluation, sorted by round and peer; `time` in seconds since the start."""
    events: Sequence[Mapping[str, Any]]
    averages: Mapping[int, Average]
    """By round (by point of the curve, see `point_of`), where there were models to average."""
    final: Average | None
    seconds: float
    """From the start to the last evaluation: virtual, or on the wall."""
    faults: Counts = field(default_factory=dict)
    attack: Mapping[str, Any] | None = None
    """What the engine measured of the attack's own aim."""
    warnings: Sequence[str] = ()
    """What was said at the start of what may be a mistake, and at the end of faults that had no effect."""
    nobody_left: str | None = None
    """Where no honest peer is: the sentence that says so."""
    scored: Score = ACCURACY
    """What the score is."""
    shards: Mapping[str, Any] | None = None
    """Whose data, see `scenarios.shards`."""
    event_digest: str | None = None
    model_digest: str | None = None


def told_peer(peer: PeerOutcome, scored: Score) -> dict[str, Any]:
    """Return a peer's end as plain values."""
    told = _plain(peer, _OF_PEER)
    told["sent"], told["received"] = _plain(peer.sent, _OF_TRAFFIC), _plain(peer.received, _OF_TRAFFIC)
    return {**told, **scored.recorded(peer.score), **told.pop("own")}


_OF_PEER, _OF_TRAFFIC = (tuple(field.name for field in fields(each)) for each in (PeerOutcome, Traffic))


def _plain(of: PeerOutcome | Traffic, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the fields as `dataclasses.asdict`, which takes twice as long: there may be many peers."""
    return {name: _copied(getattr(of, name)) for name in names}


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(each) for key, each in value.items()}
    return [_copied(each) for each in value] if isinstance(value, (list, tuple)) else value


def own_of(entry: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what a measurement, or a node's summary, says of own test samples and prototypes; {} without either."""
    said = {} if entry is None else entry
    keys = ("own_score", "own_accuracy", "own_test_loss", "own_test_samples", *MEASURED)
    return {key: said[key] for key in keys if key in said}


def point_of(entry: Mapping[str, Any]) -> int:
    """Return which point of the curve a measurement belongs to: its round, where peers have rounds in common."""
    return int(entry.get("point", entry["round"]))


@dataclass(frozen=True, slots=True)
class SweepRow:
    """All seeds of one combination of settings in a sweep."""

    settings: tuple[str, ...]
    """KEY=VALUE of what was varied."""
    runs: int
    measures: Mapping[str, Mapping[str, float | None]]
    """Measure -> {mean, std, min, max} over the seeds."""
    scored: Score = ACCURACY
