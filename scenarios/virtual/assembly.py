"""From a scenario to the parts of its run: who attacks and how, all peers' learning, and the world they live in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from gossip.channels.samples import PrototypeSamples
from gossip.config.channels import prepare_table, protocol_of
from gossip.config.final import prepare_end
from gossip.config.stopping import stop_rule
from gossip.learning.batches import batch_sizes
from gossip.learning.steps_by_deadline import StepsByDeadline
from gossip.learning.task import Shard, Task
from gossip.net.settings import sent_chunk_bytes
from gossip.protocols.base import Model, PeerId, Protocol
from gossip.protocols.tables import Own
from scenarios.attacks import base
from scenarios.attacks.base import Attack, poisoned_shard
from scenarios.scenario import ScenarioSettings
from scenarios.traces import Trace
from scenarios.virtual.adversary import AttackedSimulation, scene_of
from scenarios.virtual.events.compute import ComputeTimes
from scenarios.virtual.events.frame_sizes import FrameSizes
from scenarios.virtual.events.network import Network
from scenarios.virtual.events.paces import Paces
from scenarios.virtual.events.seams import Measure, State
from scenarios.virtual.events.simulation import Simulation
from scenarios.virtual.learning.batched import BatchedLearning
from scenarios.virtual.learning.workers import Workers
from scenarios.virtual.measures.prototypes import PrototypeScores
from topologies import Topology


def attack_of(
    scenario: ScenarioSettings, task: Task, topology: Topology
) -> tuple[Attack[Any] | None, Mapping[int, Shard]]:
    """Return the attack, None where nobody attacks, and what attackers learn from instead of their samples."""
    if not scenario.attackers:
        return None, {}
    attack = base.attack_of(scenario.attack, scene_of(scenario, task, topology))
    base.try_success(attack)
    return attack, {
        peer: poisoned_shard(attack, peer, name=scenario.peer_names[peer], seed=scenario.seed)
        for peer in scenario.attackers
    }


def learning_of(
    scenario: ScenarioSettings, task: Task, poisoned: Mapping[int, Shard], workers: Workers
) -> BatchedLearning:
    """Return the learning of all peers."""
    names = scenario.peer_names
    learning = BatchedLearning(
        task,
        names,
        scenario.merge,
        outgoing=scenario.outgoing,
        codec=scenario.codec,
        sanitise=scenario.sanitise,
        shards=poisoned,
        attackers=scenario.attackers,
        device=scenario.virtual.device,
        method=scenario.virtual.method,
        workers=workers,
        evaluated=-(-scenario.stop.rounds // scenario.evaluate.every) * len(names) * len(task.dataset.y_test),
    )
    for peer in scenario.attackers if learning.declares else ():
        # Whatever it has: who is asked about more is heard more.
        learning.declared[names[peer]] = frozenset(range(task.dataset.classes))
    return learning


def shards_of(
    scenario: ScenarioSettings, task: Task, poisoned: Mapping[int, Shard]
) -> Callable[[int], Shard]:
    """Return what says which samples a peer learns from."""
    peers = len(scenario.peer_names)
    return lambda index: poisoned[index] if index in poisoned else task.shard(index, peers)


def prototype_scores(
    samples: PrototypeSamples | None,
    scenario: ScenarioSettings,
    task: Task,
    poisoned: Mapping[int, Shard],
) -> PrototypeScores | None:
    """Return what evaluates peers' tables; None where there are none."""
    return None if samples is None else PrototypeScores(samples, shards_of(scenario, task, poisoned))


def protocols_of(
    scenario: ScenarioSettings,
    topology: Topology,
    *,
    better: Callable[[float, float], bool],
    samples: PrototypeSamples | None = None,
    shard: Callable[[int], Shard] | None = None,
) -> Callable[[Model, State], Protocol]:
    """Return what makes a peer's protocol of a model and of what a checkpoint holds.

    Args:
        scenario: the settings.
        topology: the graphs.
        better: is the score's.
        samples: what `[channel]` needs to know of samples.
        shard: returns those that a peer learns from, where it does.
    """
    protocol, make_protocol = scenario.protocol, protocol_of(scenario)
    rule = stop_rule(scenario.task(), topology, better=better)

    def own(peer: PeerId) -> Own:
        assert samples is not None
        assert shard is not None
        return samples.own(shard(scenario.peer_names.index(peer)))

    def resumed(model: Model, state: State) -> Protocol:
        made: Protocol = make_protocol.resume(protocol, rounds=scenario.stop.rounds, model=model, state=state)
        prepare_end(made, scenario, topology)
        if rule is not None:
            made.stop_early(rule, state)
        if samples is not None and shard is not None:
            prepare_table(made, scenario, samples.shape, own, state)
        return made

    return resumed


def simulation_of(
    scenario: ScenarioSettings,
    learning: BatchedLearning,
    *,
    topology: Topology,
    trace: Trace,
    attack: Attack[Any] | None,
    poisoned: Mapping[int, Shard],
    measure: Measure,
    samples: PrototypeSamples | None = None,
) -> Simulation:
    """Return the peers in their world: protocols, network, machines, and frames as the wire would have them."""
    task, names, seed = learning.task, scenario.peer_names, scenario.seed
    resumed = protocols_of(
        scenario,
        topology,
        better=task.objective.score.better,
        samples=samples,
        shard=shards_of(scenario, task, poisoned),
    )
    make: Callable[..., Simulation] = Simulation
    if attack is not None:
        make = partial(
            AttackedSimulation,
            attack=attack,
            from_round=scenario.attack.from_round,
            rounds=scenario.stop.rounds,
        )
    return make(
        names=names,
        topology=topology,
        make_protocol=resumed,
        learning=learning,
        make_network=lambda schedule: Network(
            scenario.network,
            peers=len(names),
            seed=seed,
            schedule=schedule,
            queue_models_max=scenario.net.queue_models_max,
            trace=trace,
            uploads_mbps=scenario.uploads_mbps(),
        ),
        training_s=_training_times(scenario, task, trace, poisoned),
        frame_bytes=_frame_sizes(scenario, learning),
        measure=measure,
        seed=seed,
        paces=None
        if scenario.local.deadline_s is None
        else Paces(lambda: StepsByDeadline.of(scenario.local)),
    )


def _training_times(
    scenario: ScenarioSettings, task: Task, trace: Trace, poisoned: Mapping[int, Shard]
) -> ComputeTimes:
    """Return how long local updates take, of as many samples as each peer learns from."""
    shards = task.partition(len(scenario.peer_names))
    sizes = [len(poisoned.get(peer, shard)) for peer, shard in enumerate(shards)]
    return ComputeTimes(
        scenario.compute,
        samples=[_samples_per_round(size, scenario) for size in sizes],
        steps=[_steps_per_round(size, scenario) for size in sizes],
        sam=bool(scenario.local.sam_rho),
        seed=scenario.seed,
        seconds_per_sample=trace.seconds_per_sample,
    )


def _frame_sizes(scenario: ScenarioSettings, learning: BatchedLearning) -> FrameSizes:
    """Return how many bytes messages have on the wire."""
    space = learning.task.space
    return FrameSizes(
        scenario.peer_names,
        run_id=scenario.task().run_id(),
        space_id=space.space_id,
        codec=scenario.codec.load()(scenario.codec),
        learned_size=space.learned_size,
        chunk_bytes=[sent_chunk_bytes(scenario.net.chunk_bytes, mbps) for mbps in scenario.uploads_mbps()],
        declared=learning.declared if learning.declares else None,
        specs_sent=learning.specs_sent if learning.varies else None,
    )


def _steps_per_round(shard: int, scenario: ScenarioSettings) -> int:
    local = scenario.local
    return local.steps or (local.epochs or 1) * len(batch_sizes(shard, local.batch_size))


def _samples_per_round(shard: int, scenario: ScenarioSettings) -> int:
    local = scenario.local
    if local.steps is not None:
        return local.steps * min(local.batch_size, shard)
    return shard * (local.epochs or 1)
