"""Seeded runs of gossip learning on numbers: one number decides graph, network, settings, and who is killed when.

    python -m tests.simulation.push_swarm --seed 17       one run, told in detail
    python -m tests.simulation.push_swarm --seeds 0-999   many; from 10000 on, with models that walk

What must never happen is looked for at every event. At some time all faults end; then everybody must finish, and no
later than its own period allows, because nobody waits for anybody.

In some runs a few peers lie: about ages, rounds and being done, to everybody and all the time. They are fewer than the
witnesses that the others ask for, and no honest peer's age may then rise because of them by more than one in a merge.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gossip.protocols import Contribution, GossipStep, Message, Protocol, RoundCompleted
from gossip.protocols.base import Context, FinishedMessage, Part, Ticket
from gossip.protocols.push.ages import AGE_MAX
from gossip.protocols.push.inbox import ReceivedModel
from gossip.protocols.push.merge_update import MergeUpdate
from gossip.protocols.push.messages import PushMessage
from gossip.protocols.push.protocol import Push
from gossip.protocols.push.settings import PushSettings
from gossip.protocols.push.variant import News, Variant
from gossip.protocols.push.walks import RandomWalk, UpdateMerge
from gossip.wire.messages import type_of
from scenarios.sections import Fault, FaultSettings, NetworkSettings
from scenarios.virtual.events.faults import FaultPlan
from scenarios.virtual.events.network import Network
from scenarios.virtual.events.peer import VirtualPeer
from scenarios.virtual.events.simulation import Simulation
from topologies import Topology, TopologyError

Vector = NDArray[np.float64]

MODEL_BYTES, SMALL_BYTES = 20_000, 120
WALKS_FROM = 10_000
"""From this seed on models walk: random walks under even numbers, and under odd ones they are updated and merged."""
KNOWN_TO_WALKS = (
    *("period_s", "jitter", "fanout", "age_limit", "witnesses"),
    *("tokens", "token_reach", "token_capacity"),
)
KINDS = ("ring", "regular", "full", "star", "exponential", "erdos-renyi", "random-neighbours")


class Vectors:
    """Models are one number for each part; a local update draws all of them to the peer's own target, 0 or 1."""

    def __init__(self, parts: int) -> None:
        self._parts = parts

    codes = remembers = False

    def initial(self, peer: int) -> Vector:
        return np.full(self._parts, 0.5)

    def train(self, model: Vector, peer: int, *, round: int) -> Vector:
        return 0.9 * model + 0.1 * (peer % 2)

    def begin_anew(self, peer: int) -> None:
        pass

    def merge(
        self,
        own: Vector,
        own_weight: float,
        received: Sequence[Contribution],
        *,
        peer: int,
        at: GossipStep,
    ) -> Vector:
        assert received
        assert at.part.of == self._parts
        for each in received:
            apart = np.flatnonzero(each.model != own)
            assert set(apart) <= {at.part.place}, "what was not received is the own model's"
        assert own_weight >= 0
        assert min(each.weight for each in received) > 0
        assert abs(own_weight + sum(each.weight for each in received) - 1) < 1e-9
        assert len({each.sender for each in received}) == len(received)
        merged: Vector = own_weight * own + sum(each.weight * each.model for each in received)
        return merged

    def graft(self, base: Vector, source: Vector, part: Part) -> Vector:
        grafted = base.copy()
        grafted[part.place] = source[part.place]
        return grafted

    def adopt(self, own: Vector, received: Sequence[Contribution]) -> Vector:
        model: Vector = received[0].model
        return model


def _travelling(message: PushMessage) -> Vector:
    """Return the model with nothing but what travels of it."""
    if message.piece is None:
        model: Vector = message.model
        return model
    travelling = np.full(message.parts, np.nan)
    travelling[message.part] = message.model[message.part]
    return travelling


class Liar(Push):
    """Trains nothing, and says anything to everybody: of an age above or between those of the honest, or below."""

    world: PushWorld
    claims: np.random.Generator

    def on_start(self, ctx: Context) -> None:
        ctx.set_timer("lie", self._settings.period_s)

    def on_trained(self, ctx: Context, ticket: Ticket, model: Vector) -> None:
        raise AssertionError("it trains nothing")

    def on_peer(self, ctx: Context, peer: str, up: bool) -> None:
        pass

    def on_message(self, ctx: Context, sender: str, message: Message) -> None:
        pass

    def on_timer(self, ctx: Context, key: str) -> None:
        draws, oldest = self.claims, self.world.oldest
        said = [AGE_MAX + 1, AGE_MAX, oldest + 1, max(1, oldest), int(draws.integers(1, oldest + 2)), 1]
        parts = self._settings.parts
        for peer in ctx.contacts:
            if draws.random() < 0.1:
                ctx.send(peer, FinishedMessage(round=int(draws.integers(2**40))))
            ctx.send(
                peer,
                PushMessage(
                    round=int(draws.choice([0, 3, 2**53])),
                    age=said[int(draws.integers(len(said)))],
                    part=int(draws.integers(parts)),
                    parts=parts,
                    model=np.full(parts, draws.random()),
                ),
            )
        ctx.set_timer("lie", self._settings.period_s * draws.random())


class Watching(Variant):
    """An honest peer in the presence of liars: no age that it comes to is more than they can make of it."""

    world: PushWorld

    def look(self, ages: Sequence[int]) -> None:
        """Look at ages that a peer has come to: by an update of its own, or by others' words."""
        assert max(ages) <= self.world.oldest + 1, "one update more than vouched for"
        self.world.note_age(max(ages))

    def trained(self, ctx: Context, model: Vector) -> bool:
        done = super().trained(ctx, model)  # type: ignore[safe-super]
        self.look(self.ages)
        return done

    def catch_up(self, ctx: Context, part: int) -> None:
        ahead = self.inboxes[part].ahead_of(self.ages[part] + self.limit())
        before = self.ages[part]
        super().catch_up(ctx, part)
        if self.ages[part] == before:
            return
        assert self.ages[part] <= self.world.oldest, "nobody catches up beyond the oldest honest model"
        lies = sum(each.sender in self.world.names_of_liars for each in ahead)
        with_own = len(ahead) < self._settings.models_to_begin_from
        assert 2 * lies < len(ahead) + with_own, "no liars have the most of what a peer begins from"
        self.world.begun_with_lies += bool(lies)


class WatchedMergeUpdate(Watching, MergeUpdate):
    def _merge_part(self, ctx: Context, part: int, fresh: Sequence[ReceivedModel]) -> bool:
        news = super()._merge_part(ctx, part, fresh)
        self.look(self.ages)
        return news


class WatchedRandomWalk(Watching, RandomWalk):
    def prepare(self, ctx: Context) -> News:
        news = super().prepare(ctx)
        self.look(self.ages)
        return news


class WatchedUpdateMerge(Watching, UpdateMerge):
    def prepare(self, ctx: Context) -> News:
        news = super().prepare(ctx)
        self.look([age for _, age in self._pair])
        return news


class Watched(Push):
    """An honest peer in the presence of liars."""

    variants: ClassVar[Mapping[str, type[Variant]]] = {
        "merge-update": WatchedMergeUpdate,
        "update-merge": WatchedUpdateMerge,
        "random-walk": WatchedRandomWalk,
    }


class PushWorld(Simulation):
    """A simulation that checks what is always true.

    Args:
        topology: the graph.
        settings: of all peers.
        rounds: after which a peer is done.
        network: what it is like.
        training_s: of each peer.
        seed: of everything.
        liars: positions of peers that lie.
    """

    def __init__(
        self,
        topology: Topology,
        settings: PushSettings,
        *,
        rounds: int,
        network: NetworkSettings,
        training_s: list[float],
        seed: int,
        liars: Sequence[int] = (),
    ) -> None:
        peers = topology.peers
        self.liars = frozenset(liars)
        self.names_of_liars = frozenset(f"p{index:02d}" for index in liars)
        self.begun_with_lies = 0
        self.oldest = 0
        """The largest age that an honest model had so far."""
        self.rounds = rounds
        self.settings = settings
        self.ended_s: dict[int, float] = {}
        self._round_of: dict[tuple[int, int], int] = {}

        def make_protocol(model: Vector, state: Mapping[str, int | float | str]) -> Protocol:
            kind = Watched if self.liars else Push
            made = kind.resume(settings, rounds=rounds, model=model, state=state)
            if isinstance(made.variant, Watching):
                made.variant.world = self
            return made

        super().__init__(
            names=[f"p{index:02d}" for index in range(peers)],
            topology=topology,
            make_protocol=make_protocol,
            learning=Vectors(settings.parts),
            make_network=lambda schedule: Network(network, peers=peers, seed=seed, schedule=schedule),
            training_s=lambda peer, round: training_s[peer],
            frame_bytes=lambda peer, message: (
                (MODEL_BYTES, MODEL_BYTES - 200) if message.carries_model else (SMALL_BYTES, 0)
            ),
            measure=self,  # type: ignore[arg-type]
            seed=seed,
        )
        for index in liars:
            self._corrupt(self.peers[index])

    def note_age(self, age: int) -> None:
        """Note that an honest model is so old."""
        self.oldest = max(self.oldest, age)

    def _corrupt(self, peer: VirtualPeer) -> None:
        liar = Liar(self.settings, rounds=self.rounds, model=np.zeros(self.settings.parts))
        liar.world, liar.claims = self, np.random.default_rng([self.seed, peer.index, peer.life])
        peer.protocol = liar
        # The run does not wait for it.
        peer.finished = True
        self._running -= 1

    def absent(self, peer: VirtualPeer) -> None:
        if peer.alive and peer.index in self.liars:
            self._running += 1  # it was never waited for
        super().absent(peer)

    def restart(self, peer: VirtualPeer) -> None:
        returns = not peer.alive
        super().restart(peer)
        if returns and peer.index in self.liars:
            self._corrupt(peer)

    def transmit(self, sender: VirtualPeer, name: str, message: Message, connection: int) -> None:
        assert sender.alive
        assert not sender.paused
        assert name in sender.contacts
        registered = type_of(message.kind)
        assert registered is not None
        registered.plain_fields(message)  # fits the wire
        if isinstance(message, PushMessage):
            assert message.age > 0, "nothing that was never trained is pushed"
            assert message.parts == self.settings.parts
            message = dataclasses.replace(message, model=_travelling(message))
        super().transmit(sender, name, message, connection)

    def round_completed(  # type: ignore[override]
        self, peer: VirtualPeer, event: RoundCompleted, now_s: float | None = None
    ) -> bool:
        if now_s is not None:
            return False
        key = (peer.index, peer.life)
        before = self._round_of.get(key, int(peer.state.get("round", 0)))
        assert event.round == before + 1, "own updates are counted one by one, and go on after a restart"
        assert event.round <= self.rounds
        assert event.heard <= len(peer.contacts)
        assert 0 <= event.model.min() <= event.model.max() <= 1, f"a model of {event.model}"
        self._round_of[key] = event.round
        super().round_completed(peer, event)
        return False

    def finished(self, peer: VirtualPeer, model: Vector) -> None:
        self.ended_s[peer.index] = self.now
        super().finished(peer, model)

    def check(self) -> None:
        """Look at what every living protocol holds."""
        settings = self.settings
        for peer in self.peers:
            protocol = peer.protocol
            assert isinstance(protocol, Push)
            if not peer.alive or peer.index in self.liars:
                continue
            status = protocol.status()
            assert int(status["buffered"]) <= settings.parts * len(peer.contacts), "buffers are bounded"
            assert int(status["remembered"]) <= settings.parts * len(peer.contacts) * bool(settings.memory)
            most = settings.parts * settings.token_capacity
            assert 0 <= int(status["tokens"]) <= most
            wake_ups = int(status["wake_ups"]) - int(peer.state.get("wake-ups", 0))
            assert int(status["pushes"]) <= wake_ups + most, "one push a period, but for what was saved"


def draw(seed: int) -> tuple[PushWorld, float, float, str]:
    """Draw a run: the world with its faults, when they end, until when it must be over, and words for it."""
    rng = np.random.default_rng([seed, 0x50])
    hostile = np.random.default_rng([seed, 0x51])
    settings = _draw_settings(rng, hostile, seed)
    topology = _draw_topology(rng, seed)
    rounds = int(rng.integers(2, 25))
    network = NetworkSettings(
        latency_ms=(5.0, float(rng.choice([10.0, 300.0]))),
        jitter_ms=float(rng.choice([0.0, 200.0])),  # small messages pass models then
        loss=float(rng.choice([0.0, 0.05])),
        bandwidth_mbps=None if rng.random() < 0.5 else 1.0,
    )
    slowest_s = settings.period_s * float(rng.choice([0.1, 0.9, 5.0]))
    training_s = rng.uniform(0, slowest_s, size=topology.peers).tolist()
    # Who asks for more witnesses than it has contacts asks for all of them.
    witnesses = min(settings.witnesses, *(len(topology.contacts(peer)) for peer in range(topology.peers)))
    liars = hostile.permutation(topology.peers)[: max(0, witnesses - 1)].tolist()
    world = PushWorld(
        topology,
        settings,
        rounds=rounds,
        network=network,
        training_s=training_s,
        seed=seed,
        liars=liars if hostile.random() < 0.5 else (),
    )
    heal_s = float(rng.uniform(0.2, 1.5)) * rounds * settings.period_s
    faults = _draw_faults(rng, heal_s)
    FaultPlan(FaultSettings(list=faults), world, detected_s=3.0)
    # Each update takes one period, or as many as it lasts, and its wake-up.
    updates_at_once = 2 if settings.variant == "update-merge" else 1
    update_s = updates_at_once * max(training_s) + 2 * settings.period_s * (1 + settings.jitter)
    end_s = heal_s + 30 + (rounds + 1) * update_s
    words = (
        f"seed {seed}: {topology.peers} peers ({sorted(world.liars)} lie), {topology.kind}, {rounds} updates, "
        f"{settings.model_dump(exclude_defaults=True)}, {network.model_dump(exclude_defaults=True)}, "
        f"{[(f.do, round(f.at, 1), f.peers) for f in faults]}"
    )
    return world, heal_s, end_s, words


def _draw_settings(rng: np.random.Generator, hostile: np.random.Generator, seed: int) -> PushSettings:
    settings = PushSettings(
        period_s=float(rng.choice([0.5, 2.0])),
        jitter=float(rng.choice([0.0, 0.2, 0.8])),
        fanout=int(rng.integers(0, 4)),
        order=rng.choice(["update-then-merge", "merge-then-update"]).item(),
        merge_when=rng.choice(["wake-up", "received", "full"]).item(),
        buffer_rounds=int(rng.integers(1, 3)),
        weighting=rng.choice(["age", "uniform"]).item(),
        self_weight=None if rng.random() < 0.5 else float(rng.random()),
        age_limit=int(rng.choice([0, 2, 10, 1000])),
        witnesses=int(rng.integers(1, 4)),
        parts=int(rng.choice([1, 1, 3])),
        tokens=rng.choice(["proactive", "simple", "generalised", "randomised"]).item(),
        token_reach=2,
        token_capacity=int(rng.integers(2, 6)),
    )
    if hostile.random() < 0.4:
        settings = settings.model_copy(
            update={"memory": min(settings.age_limit, int(hostile.integers(1, 12)))}
        )
    if seed >= WALKS_FROM:
        # Nothing that only merges know.
        return PushSettings(
            variant="update-merge" if seed % 2 else "random-walk",
            weighting=settings.weighting if seed % 2 else "age",
            **{key: getattr(settings, key) for key in KNOWN_TO_WALKS},
        )
    return settings


def _draw_topology(rng: np.random.Generator, seed: int) -> Topology:
    while True:
        kind = str(rng.choice(KINDS))
        options: dict[str, Any] = {}
        if kind == "regular":
            options["degree"] = int(rng.choice([2, 3, 4]))
        if kind == "erdos-renyi":
            options["time_varying"] = bool(rng.integers(2))
        try:
            return Topology(kind, int(rng.integers(2, 21)), seed=seed, **options)
        except TopologyError:
            continue  # there is none of that kind with so many peers


def _draw_faults(rng: np.random.Generator, heal_s: float) -> tuple[Fault, ...]:
    faults: list[Fault] = []
    for _ in range(int(rng.integers(0, 6))):
        kind: Any = str(rng.choice(["crash", "leave", "pause", "partition"]))
        share = float(rng.choice([0.2, 0.5, 0.8]))
        faults.append(Fault(at=float(rng.uniform(0, heal_s)), do=kind, peers=share))
        if rng.random() < 0.5:
            back: Any = {"crash": "restart", "leave": "restart", "pause": "resume", "partition": "heal"}[kind]
            faults.append(Fault(at=float(rng.uniform(0, heal_s)), do=back))
    if faults and rng.random() < 0.3:
        faults.append(Fault(at=float(rng.uniform(0, heal_s)), do="join", peers=0.3))
    kinds: tuple[Any, ...] = ("heal", "resume", "restart")
    faults += [Fault(at=heal_s + number, do=kind) for number, kind in enumerate(kinds)]
    return tuple(faults)


def run(seed: int) -> PushWorld:
    """Run one seed; fail where anything is not as it must be."""
    world, _, end_s, words = draw(seed)
    try:
        world.start()
        for _ in range(20_000):
            if not world.run(until_s=end_s, events_max=50):
                break
            world.check()
        else:
            raise AssertionError("too many events")
        late = [peer.peer for peer in world.peers if not peer.finished]
        assert not late, f"{late} have not finished at {world.now:.1f} s of {end_s:.1f}"
        for peer in world.peers:
            assert peer.index in world.liars or peer.round == world.rounds
    except AssertionError as failure:
        raise AssertionError(
            f"{words}\n{failure}\nreplay: python -m tests.simulation.push_swarm --seed {seed}"
        ) from failure
    return world


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seeds", default="0-99")
    options = parser.parse_args()
    first, _, last = (str(options.seed) if options.seed is not None else options.seeds).partition("-")
    failed, totals = 0, Counter[str]()
    for seed in range(int(first), int(last or first) + 1):
        try:
            world = run(seed)
        except Exception as failure:  # a summary of all is wanted
            failed += 1
            print(f"FAILED {failure!r}" if not str(failure) else f"FAILED {failure}")
        else:
            totals.update(world.faults)
            totals["runs with liars"] += bool(world.liars)
            totals["runs with a memory"] += bool(world.settings.memory)
            totals["begun from models, lies among them"] += world.begun_with_lies
            totals["adopted"] += sum(peer.adopted for peer in world.peers)
            for peer in world.peers:
                totals.update({f"rejected {reason}": count for reason, count in peer.rejected.items()})
            if options.seed is not None:
                print(f"{draw(seed)[3]}\nended at {world.now:.1f} s after {world.processed} events")
    print(f"{failed} failed; {dict(sorted(totals.items()))}")


if __name__ == "__main__":
    main()
