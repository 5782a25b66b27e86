"""Seeded runs of the virtual engine: one number decides everything, from the graph to who is killed when.

    python -m tests.simulation.swarm --seed 17       one run, told in detail
    python -m tests.simulation.swarm --seeds 0-999   many, and a summary

Each run has two phases. In the first whatever was drawn goes wrong, and only safety is demanded: the checkers look
at every event. Then all faults end, everybody comes back, links heal, and progress is demanded: all peers finish, and
within the time that their deadlines allow. A failure names the seed and the command that replays it.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gossip.protocols import FinishedMessage, Message
from gossip.protocols.rounds.final import FinalSteps
from gossip.protocols.rounds.parts import MODELS, Parts, PieceMessage
from gossip.protocols.settings import RoundsSettings
from scenarios.sections import Churn, ComputeSettings, Fault, FaultSettings, NetworkSettings
from scenarios.virtual.events.compute import ComputeTimes
from scenarios.virtual.events.faults import FaultPlan
from tests.simulation.checkers import Violation
from tests.simulation.watched import MODEL_BYTES, WatchedSimulation
from topologies import Topology, TopologyError

PEERS_MAX = 30
WEIGHTED_MERGES_MAX = 8_000
"""Messages of the faultless run at most, so that no seed takes long."""
KINDS = (
    "ring",
    "regular",
    "torus",
    "full",
    "star",
    "exponential",
    "one-peer-exponential",
    "erdos-renyi",
    "random-neighbours",
)
LIES = ("ahead", "end", "mixed", "silent")
FAULT_KINDS = ("crash", "leave", "join", "pause", "partition", "churn")


class SwarmFailure(AssertionError):
    """A run failed; the text says which and how to see it again."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a seed decides."""

    seed: int
    topology: Topology
    rounds: int
    protocol: RoundsSettings
    network: NetworkSettings
    compute: ComputeSettings
    seconds_per_round: float
    faults: FaultSettings
    detected_s: float
    heal_s: float
    """When all faults end; 0 where there are none."""
    liars: dict[int, str]
    """Who lies about rounds, and how."""

    @property
    def calm(self) -> bool:
        """Whether no fault can happen."""
        return not self.faults.list and self.faults.churn is None

    @property
    def patient(self) -> bool:
        """Whether moreover nobody is ever so late that a deadline could pass."""
        return (
            not self.liars
            and self.calm
            and not (
                self.network.jitter_ms
                or self.network.loss
                or self.network.bandwidth_mbps
                or self.compute.stragglers
                or self.compute.spread
            )
        )

    def __str__(self) -> str:
        network = self.network.model_dump(exclude_defaults=True)
        kinds = Counter(fault.do for fault in self.faults.list)
        return (
            f"seed {self.seed}: {self.topology.peers} peers, {self.topology.kind}"
            f"{' (varying)' if self.topology.time_varying else ''}, {self.rounds} rounds, "
            f"Q = {self.protocol.gossip_steps}, {self.seconds_per_round:.3f} s per update, "
            f"network {network or 'ideal'}, compute {self.compute.model_dump(exclude_defaults=True)}, "
            f"liars {self.liars or 'none'}, faults {dict(kinds) or 'none'}, churn {self.faults.churn}, "
            f"until {self.heal_s:.1f} s"
        )


@dataclass(slots=True)
class Outcome:
    """What is to be told of a run that went well."""

    plan: Plan
    digest: str
    events: int
    ended_s: float
    longest_wait_s: float
    faults: dict[str, int] = field(default_factory=dict)
    rejected: Counter[str] = field(default_factory=Counter)
    adopted: int = 0
    replaced: int = 0


def draw(seed: int) -> Plan:
    """Draw a run."""
    rng = np.random.default_rng([seed, 0x5A])
    protocol = RoundsSettings(
        gossip_steps=int(rng.choice([0, 1, 1, 2, 3, 5])),
        deadline_k=float(rng.uniform(1, 8)),
        deadline_floor_s=float(rng.uniform(0.2, 3)),
        deadline_cap_s=float(rng.uniform(3, 20)),
        catch_up_rounds=int(rng.integers(1, 5)),
    )
    topology = _draw_topology(rng, seed)
    rounds = int(rng.integers(1, 25))
    degree = sum(len(topology.contacts(i)) for i in range(topology.peers))
    rounds = max(2, min(rounds, WEIGHTED_MERGES_MAX // (1 + degree * protocol.gossip_steps)))
    seconds_per_round = float(10 ** rng.uniform(-1, 0.5))
    network = _draw_network(rng)
    compute = ComputeSettings(
        seconds_per_sample=1e-3,
        spread=float(rng.choice([0.0, 0.0, 0.3, 1.0])),
        stragglers=float(rng.choice([0.0, 0.0, 0.2])),
        slowdown=float(rng.uniform(1, 10)),
    )
    horizon_s = rounds * seconds_per_round * float(rng.uniform(0.5, 3))
    faults = _draw_faults(rng, topology.peers, horizon_s)
    calm = not faults.list and faults.churn is None
    return Plan(
        seed=seed,
        topology=topology,
        rounds=rounds,
        protocol=protocol,
        network=network,
        compute=compute,
        seconds_per_round=seconds_per_round,
        faults=faults,
        detected_s=float(rng.uniform(0.5, 10)),
        heal_s=0.0 if calm else horizon_s,
        liars=_draw_liars(np.random.default_rng([seed, 0x11A6]), topology),
    )


def _draw_topology(rng: np.random.Generator, seed: int) -> Topology:
    while True:
        kind = str(rng.choice(KINDS))
        options: dict[str, Any] = {}
        if kind == "regular":
            options["degree"] = int(rng.choice([2, 3, 4]))
        if kind == "erdos-renyi":
            options["time_varying"] = bool(rng.integers(2))
        try:
            return Topology(kind, int(rng.integers(2, PEERS_MAX + 1)), seed=seed, **options)
        except TopologyError:
            continue  # there is none of that kind with so many peers


def _draw_network(rng: np.random.Generator) -> NetworkSettings:
    low = float(rng.choice([0.0, 1.0, 50.0]))
    return NetworkSettings(
        latency_ms=low if rng.random() < 0.5 else (low, low + float(rng.uniform(0, 300))),
        jitter_ms=float(rng.choice([0.0, 0.0, 5.0, 200.0])),
        bandwidth_mbps=None if rng.random() < 0.6 else float(10 ** rng.uniform(-0.5, 2)),
        loss=float(rng.choice([0.0, 0.0, 0.0, 0.02, 0.3])),
    )


def _draw_faults(rng: np.random.Generator, peers: int, horizon_s: float) -> FaultSettings:
    if rng.random() < 0.2:
        return FaultSettings()
    on = {kind for kind in FAULT_KINDS if rng.random() < 0.4}
    wildness = float(10 ** rng.uniform(-1, 0.3))
    entries: list[Fault] = []

    def times(count: int) -> list[float]:
        """Some of the times are round, so that things meet at one moment."""
        drawn = np.sort(rng.uniform(0, horizon_s, size=count))
        return [float(np.round(t, 1) if rng.random() < 0.3 else t) for t in drawn]

    def somebody() -> Any:
        if rng.random() < 0.3:
            return float(rng.uniform(0.05, 0.6))
        size = int(rng.integers(1, max(2, round(wildness * peers / 2)) + 1))
        return tuple(int(i) for i in rng.choice(peers, size=min(size, peers), replace=False))

    pairs = {"crash": "restart", "pause": "resume", "partition": "heal", "leave": "restart"}
    for kind in sorted(on - {"churn"}):
        for _ in range(1 + int(rng.poisson(wildness))):
            begin_s, end_s = times(2)
            who = somebody()
            if kind == "join":
                entries.append(Fault(at=begin_s, do="join", peers=who))
                continue
            entries.append(Fault(at=begin_s, do=kind, peers=who))  # type: ignore[arg-type]
            if rng.random() < 0.7:
                back = None if kind == "partition" or rng.random() < 0.5 else who
                entries.append(Fault(at=max(begin_s, end_s), do=pairs[kind], peers=back))  # type: ignore[arg-type]
    rng.shuffle(entries)  # type: ignore[arg-type]
    churn = None
    if "churn" in on:
        churn = Churn(
            online_s=horizon_s * float(rng.uniform(0.1, 2)),
            offline_s=horizon_s * float(rng.uniform(0.01, 0.5)),
            shape=float(rng.uniform(0.4, 2)),
        )
    return FaultSettings(list=tuple(entries), churn=churn)


def _draw_liars(rng: np.random.Generator, topology: Topology) -> dict[int, str]:
    """Draw liars so that no honest peer has two beside it: whoever else dies, one is no majority of three."""
    liars: dict[int, str] = {}
    if rng.random() < 0.5:
        return liars
    for candidate in rng.permutation(topology.peers).tolist():
        beside = set(topology.contacts(candidate))
        if len(liars) < topology.peers / 4 and not any(
            beside & set(topology.contacts(other)) or other in beside for other in liars
        ):
            liars[candidate] = str(rng.choice(LIES))
    return liars


def _lie(how: str, rng: np.random.Generator, plan: Plan) -> Callable[[Message], Message | None]:
    """Return what one liar sends instead of a message: its own model, of a round that it chooses."""
    last, steps = plan.rounds, max(1, plan.protocol.gossip_steps)
    parts = Parts(plan.protocol, FinalSteps(plan.protocol.gossip_steps))

    def tagged(message: Any, round: int, step: int) -> Message:
        if isinstance(message, PieceMessage) and rng.random() < 0.9:
            return parts.message(round, step, message.model, whole=step == 0 and rng.random() < 0.1)
        return replace(message, round=round, step=step)

    def said(message: Message) -> Message | None:
        if not isinstance(message, MODELS):
            return FinishedMessage(round=last) if how == "end" else message
        if how == "silent" or (how == "mixed" and rng.random() < 0.2):
            return None
        if how == "mixed" and rng.random() < 0.4:
            return message
        if how == "end" or rng.random() < 0.2:
            return tagged(message, last, 0)
        # Senseless ones are among them.
        return tagged(message, int(rng.integers(message.round, last + 2)), int(rng.integers(steps)))

    return said


def simulate(plan: Plan) -> Outcome:
    """Run a plan through both phases; raise at the first thing that is not as it must be."""
    samples = [max(1, round(1000 * plan.seconds_per_round))] * plan.topology.peers
    times = ComputeTimes(plan.compute, samples=samples, sam=False, seed=plan.seed)
    training_s = [times(peer, 0) for peer in range(plan.topology.peers)]
    simulation = WatchedSimulation(
        plan.topology,
        rounds=plan.rounds,
        protocol=plan.protocol,
        network=plan.network,
        training_s=times,
        training_min_s=min(training_s),
        faults=not plan.calm,
        detected_s=plan.detected_s,
        seed=plan.seed,
        liars={
            peer: _lie(how, np.random.default_rng([plan.seed, 0x11A7, peer]), plan)
            for peer, how in plan.liars.items()
        },
    )
    FaultPlan(plan.faults, simulation, detected_s=plan.detected_s)
    if not plan.calm:
        simulation.returns += 1
        simulation.schedule(plan.heal_s, _heal, simulation)
    simulation.start()
    simulation.run_checked(until_s=plan.heal_s)
    longest_s = plan.heal_s + _progress_bound_s(plan, max(training_s))
    simulation.run_checked(until_s=longest_s)
    _check_progress(plan, simulation, longest_s)
    simulation.checkers.tell("ended")
    if plan.calm and not plan.liars:
        _check_calm(plan, simulation)
    return Outcome(
        plan=plan,
        digest=simulation.log.hexdigest(),
        events=simulation.processed,
        ended_s=max(simulation.finished_s.values()),
        longest_wait_s=simulation.checkers.longest_wait_s,
        faults=dict(simulation.faults),
        rejected=sum((Counter(peer.rejected) for peer in simulation.peers), Counter()),
        adopted=simulation.adopted(),
        replaced=simulation.network.replaced,
    )


def _heal(simulation: WatchedSimulation) -> None:
    """End all faults: links are given back, stopped processes go on, dead ones begin again."""
    simulation.calm = True
    for peer in simulation.peers:
        for name in peer.contacts:
            other = simulation.by_name[name]
            if peer.index < other.index and simulation.connections.is_cut(peer, other):
                simulation.connections.heal(peer, other, delay_s=1.0)
    for peer in simulation.peers:
        simulation.resume(peer)
        simulation.restart(peer)
    simulation.returns -= 1
    simulation.check_over()


def _progress_bound_s(plan: Plan, training_s: float) -> float:
    """Every round trains once and waits for at most one deadline in each step; connecting takes a moment."""
    per_round_s = training_s + plan.protocol.gossip_steps * plan.protocol.deadline_cap_s
    return 20.0 + training_s + plan.rounds * per_round_s


def _check_progress(plan: Plan, simulation: WatchedSimulation, longest_s: float) -> None:
    for peer in simulation.peers:
        if not peer.alive or peer.paused:
            raise Violation(f"{peer.peer} did not come back")
        if not peer.finished:
            raise Violation(
                f"{peer.peer} has not finished after {longest_s:.1f} s: it is in round {peer.round}"
            )
        if peer.round != plan.rounds:
            raise Violation(f"{peer.peer} finished with round {peer.round} of {plan.rounds}")


def _check_calm(plan: Plan, simulation: WatchedSimulation) -> None:
    """Without faults the models are what the mixing matrices make of them, wherever all were heard."""
    events = [event for done in simulation.completed for _, event in done]
    all_heard = all(event.heard == event.expected for event in events)
    if plan.patient and not all_heard:
        raise Violation("somebody was not heard, though nothing is late and nothing fails")
    if not all_heard or simulation.adopted():
        return
    expected = np.arange(float(plan.topology.peers))
    of = plan.protocol.parts
    if of > 1:
        expected = np.repeat(expected[:, None], of, axis=1)  # (peers, parts)
    for round in range(plan.rounds):
        mixing = plan.topology.matrix(round)
        for step in range(plan.protocol.gossip_steps):
            turn = ... if of == 1 else (slice(None), (round * plan.protocol.gossip_steps + step) % of)
            expected[turn] = mixing @ expected[turn]
    distance = float(np.abs(simulation.values() - expected).max())
    if distance > 1e-9:
        raise Violation(f"models are {distance:g} from Π W^Q x")
    mean = (plan.topology.peers - 1) / 2
    if not math.isclose(float(simulation.values().mean()), mean, abs_tol=1e-9):
        raise Violation(f"the mean moved from {mean} to {simulation.values().mean()}")


def run_seed(seed: int, order: str = "adapt-then-combine", *, parts: int = 1) -> Outcome:
    """Draw and run, rounds in another order than the usual one, or in parts, if so wanted.

    A failure says how to see it again.
    """
    plan = draw(seed)
    if order != plan.protocol.order or parts > 1:
        steps = max(1, plan.protocol.gossip_steps)
        protocol = plan.protocol.model_dump() | {"order": order, "gossip_steps": steps, "parts": parts}
        plan = replace(plan, protocol=RoundsSettings.model_validate(protocol))
    try:
        return simulate(plan)
    except Exception as error:
        raise SwarmFailure(
            f"{plan}\n{type(error).__name__}: {error}\nreplay: python -m tests.simulation.swarm --seed {seed}"
            + ("" if order == "adapt-then-combine" else f" --order {order}")
            + ("" if parts == 1 else f" --parts {parts}")
        ) from error


def _seeds(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--seed", type=int)
    which.add_argument("--seeds", type=_seeds, help="FIRST-LAST")
    parser.add_argument("--order", default="adapt-then-combine")
    parser.add_argument("--parts", type=int, default=1)
    options = parser.parse_args()
    if options.seed is not None:
        print(draw(options.seed))
        print(f"messages of {MODEL_BYTES} bytes")
        outcome = run_seed(options.seed, options.order, parts=options.parts)
        print(
            f"ended at {outcome.ended_s:.3f} s after {outcome.events} events; longest wait "
            f"{outcome.longest_wait_s:.3f} s; done to it {outcome.faults}; rejected {dict(outcome.rejected)}; "
            f"adopted {outcome.adopted}; replaced {outcome.replaced}; digest {outcome.digest[:16]}"
        )
        return 0
    return _run_many(options.seeds, options.order, options.parts)


def _run_many(seeds: range, order: str, parts: int) -> int:
    failed, events, totals = [], 0, Counter[str]()
    began = time.perf_counter()
    for seed in seeds:
        try:
            outcome = run_seed(seed, order, parts=parts)
        except SwarmFailure as failure:
            failed.append(seed)
            print(failure, file=sys.stderr)
            continue
        events += outcome.events
        totals.update(outcome.faults)
        totals["adopted"] += outcome.adopted
        totals["replaced"] += outcome.replaced
        totals["without faults"] += outcome.plan.calm
        totals.update(f"liars {how}" for how in outcome.plan.liars.values())
        totals.update({f"rejected {reason}": count for reason, count in outcome.rejected.items()})
    seconds = time.perf_counter() - began
    print(f"{len(seeds)} seeds, {events} events in {seconds:.1f} s; {len(failed)} failed {failed[:20]}")
    for name, count in sorted(totals.items()):
        print(f"  {name:24} {count}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
