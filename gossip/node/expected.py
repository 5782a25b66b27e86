"""What a run will cost here, as far as it can be told before: bytes and seconds of a usual round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gossip.learning.pace import Pace, measure
from gossip.net.settings import bytes_per_second, sent_chunk_bytes
from gossip.telemetry.progress import human_bytes
from gossip.wire.codecs.base import anew_specs, part_specs
from gossip.wire.documents import Envelope
from gossip.wire.frames import writer
from gossip.wire.messages import register_messages

if TYPE_CHECKING:
    from gossip.node.setup import Setup
    from gossip.protocols.base import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What this peer sends in a usual round: frames of models, without TLS and heartbeats."""

    models: float
    """A part of a model is one, too."""
    frame_bytes: float
    neighbours: int
    """That a model may go to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What `gossip-node check` tells of cost."""

    sent: Sent | None
    """None: the protocol, which is a user's own, does not say."""
    pace: Pace
    period_s: float | None
    """Between a peer's local updates, where that is fixed."""
    upload_mbps_max: float | None = None
    """Mbit/s that it sends at most; None: no limit of its own."""

    @property
    def sending_s(self) -> float | None:
        """Seconds that sending takes in a usual round; None where it is not known, or has no limit."""
        if self.sent is None or self.upload_mbps_max is None:
            return None
        return self.sent.frame_bytes / bytes_per_second(self.upload_mbps_max)

    @property
    def round_s(self) -> float:
        """Seconds of a round that waits for nobody."""
        return max(self.pace.seconds_per_round + (self.sending_s or 0.0), self.period_s or 0.0)

    def as_dict(self) -> dict[str, Any]:
        """Return it as `check --json` names it."""
        sent, pace = self.sent, self.pace
        return {
            "bytes_per_round": None if sent is None else sent.frame_bytes,
            "models_per_round": None if sent is None else sent.models,
            "neighbours_per_round": None if sent is None else sent.neighbours,
            "seconds_per_round": self.round_s,
            "sending_seconds_per_round": self.sending_s,
            "measured": {
                "steps": pace.steps,
                "seconds": pace.seconds,
                "steps_per_round": pace.steps_per_round,
            },
        }

    def lines(self) -> tuple[str, str]:
        """Return what is sent and what a round takes, for people."""
        sent, pace = self.sent, self.pace
        if sent is None:
            sends = "not known: the protocol does not tell what it sends in a usual round"
        else:
            models = f"{sent.models:.3g} model{'s' * (sent.models != 1)}"
            among = f"{sent.neighbours} neighbour{'s' * (sent.neighbours != 1)}"
            sends = f"{human_bytes(sent.frame_bytes)} per round: {models} among {among}"
            if self.sending_s is not None:
                sends += f", {self.sending_s:.2g} s of it at {self.upload_mbps_max:g} Mbit/s ([net] upload_mbps_max)"
        seconds = (
            f"{pace.seconds_per_round:{'.2g' if pace.seconds_per_round < 99 else '.0f'}}"  # never 2.1e+02
        )
        takes = (
            f"about {seconds} s of training per round, by {pace.steps} of its "
            f"{pace.steps_per_round} steps on own samples in {pace.seconds:.2g} s; transfer, merging, evaluation and "
            "waiting come on top"
        )
        if self.period_s is not None:
            takes += f"; a round begins every {self.period_s:g} s at most ([protocol] period_s)"
        return sends, takes


def expect(setup: Setup) -> Expected:
    """Return what a run would cost; takes about two seconds of training, of which nothing is kept."""
    settings, learner = setup.membership.settings, setup.learner
    protocol: type[Protocol] = settings.protocol.load()
    return Expected(
        sent=_sent(setup, protocol),
        pace=measure(setup.task, learner.shard, device=learner.device),
        period_s=protocol.update_period_s(settings.protocol),
        upload_mbps_max=settings.net.upload_mbps_max,
    )


def _sent(setup: Setup, protocol: type[Protocol]) -> Sent | None:
    membership, settings = setup.membership, setup.membership.settings
    row = membership.contacts if membership.everybody else membership.topology.row(membership.position)
    neighbours = len(row)
    usual = protocol.usual_messages(settings.protocol, neighbours=neighbours, peers=len(membership.peers))
    if usual is None:
        return None
    register_messages(protocol)
    codec, learned = settings.codec.load()(settings.codec), setup.task.space.learned_size
    frames = writer(
        Envelope(settings.run_id(), setup.task.space.space_id, membership.me.name),
        codec.name,
        codec.specs(learned),
        part_specs=part_specs(codec, learned),
        learned=learned,
        anew=anew_specs(codec, learned),
        declared=setup.learner.classes if setup.learner.declares_classes else None,
        checksum=setup.options.insecure,
        chunk_bytes=sent_chunk_bytes(settings.net.chunk_bytes, settings.net.upload_mbps_max),
    )
    return Sent(
        models=sum(usual.values()),
        frame_bytes=sum(count * frames.frame_bytes(message)[0] for message, count in usual.items()),
        neighbours=neighbours,
    )
