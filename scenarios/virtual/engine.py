"""The virtual engine: the same protocols in one process, under virtual time, their learning computed in batches."""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gossip import heap
from gossip.channels.samples import samples_of
from gossip.config.channels import protocol_of
from gossip.errors import SettingError
from gossip.inference.description import described
from gossip.inference.kept import said_of
from gossip.learner import RecordedVerdict
from gossip.learning.divergence import EVENT, Sign, cause_of, told
from gossip.learning.task import Task
from gossip.merging.sanitise import Refusal
from gossip.protocols.base import Model
from gossip.storage.atomic import write_atomically
from gossip.storage.models import BEST, MODEL, encode_model
from gossip.storage.run_record import SOURCE
from gossip.wire.messages import register_messages
from scenarios.attacks.base import success_rate
from scenarios.effects import nobody_left
from scenarios.processes.averages import load_task
from scenarios.progress import Looks, Progress, State
from scenarios.records import Average, PeerOutcome, Records, Traffic, own_of
from scenarios.reports.divergences import Divergences, look_at_inputs
from scenarios.scenario import ScenarioSettings
from scenarios.shards import told_shards
from scenarios.spending import planned
from scenarios.steps import doing
from scenarios.virtual import assembly
from scenarios.virtual.events.faults import FaultPlan
from scenarios.virtual.events.peer import VirtualPeer
from scenarios.virtual.events.seams import Measure
from scenarios.virtual.events.tally import traffic
from scenarios.virtual.learning.batched import BatchedLearning
from scenarios.virtual.learning.workers import Workers
from scenarios.virtual.logged import logged
from scenarios.virtual.measures.rounds import Measurements, ModelSum, finite
from scenarios.virtual.measures.scores import Scores
from scenarios.virtual.measures.timed import TimedMeasurements
from scenarios.virtual.quiet import quiet_collector, slow_operators_untold

PROGRESS_S = 0.25

EVENTS_MAX = 20_000
"""Between two looks at the clock; learning has its own."""

MANY_PEERS = 200
"""Runs of fewer make too little garbage for it to be worth putting aside what was there before."""

MODELS_SAVED_MAX = 256
"""Final models are written for so many peers at most."""


def run(
    scenario: ScenarioSettings, folder: Path, progress: Progress, /, *, workers: int | None = 1
) -> Records:
    """Run all peers of the scenario in this process, or `workers` beside it that compute; see `Workers`.

    Raises:
        UserError: data, model or a setting cannot be used.
    """
    if scenario.node.device != "cpu":
        raise SettingError(
            f"[node] device = '{scenario.node.device}' is for real nodes; here it is [virtual] device, or --device"
        )
    progress.begin(scenario)
    try:
        torch_threads = torch.get_num_threads()
        # Sums must not depend on how many cores a machine has.
        torch.set_num_threads(1)
        # An earlier run is a few objects to the collector, in cycles, and gigabytes of models to the machine.
        gc.collect()
        aside = len(scenario.peer_names) >= MANY_PEERS
        with slow_operators_untold(), Workers(workers) as processes:
            with quiet_collector(aside=False):
                virtual_run = VirtualRun(scenario, load_task(scenario), workers=processes)
            for sentence in (*planned(scenario, virtual_run.task), told_of(virtual_run.learning)):
                progress.say(sentence)
            with quiet_collector(aside=aside), logged(scenario, folder, virtual_run.measurements):
                records = virtual_run.run(progress)
                virtual_run.save_models(folder)
                return records
    finally:
        torch.set_num_threads(torch_threads)
        progress.end()


def told_of(learning: BatchedLearning) -> str:
    """Return a sentence about who computes the learning, and how."""
    count = learning.workers.count
    who = "this process" if count == 1 else f"{count} worker processes"
    return f"learning is computed by {who}: {learning.method} ({learning.reason})"


class VirtualRun:
    """A scenario, ready to run; benchmarks and tests take it apart."""

    def __init__(
        self,
        scenario: ScenarioSettings,
        task: Task,
        *,
        measure: Measure | None = None,
        workers: Workers | None = None,
    ) -> None:
        heap.keep()
        self.scenario = scenario
        self.task = task
        self._attackers = frozenset(scenario.attackers)
        topology, trace = scenario.graphs(), scenario.trace()
        self.attack, poisoned = assembly.attack_of(scenario, task, topology)
        doing("choosing how all peers are computed together")
        self.learning = assembly.learning_of(scenario, task, poisoned, workers or Workers())
        doing("making peers and network")
        protocol = protocol_of(scenario)
        register_messages(protocol)
        samples = samples_of(scenario, task, peers=len(scenario.peer_names))
        self.measurements = self._measurements(protocol.update_period_s(scenario.protocol))
        self.measurements.prototypes = assembly.prototype_scores(samples, scenario, task, poisoned)
        self.simulation = assembly.simulation_of(
            scenario,
            self.learning,
            topology=topology,
            trace=trace,
            attack=self.attack,
            poisoned=poisoned,
            measure=measure or self.measurements,
            samples=samples,
        )
        early, keeps = scenario.stop.early, len(scenario.peer_names) <= MODELS_SAVED_MAX
        self.scores = Scores(
            self.learning,
            peers=len(scenario.peer_names),
            every=scenario.evaluate.every,
            rounds=scenario.stop.rounds,
            told=early,
            keep=keeps and (early or scenario.evaluate.keep_best),
        )
        if early or scenario.evaluate.keep_best:
            self.scores.attend(self.simulation)
        self.learning.on_judged = self._judged
        self.learning.watches.on_sign = self._diverged
        self.divergences = Divergences(
            scenario.honest_names, attackers=len(scenario.attackers), lr=scenario.local.lr
        )
        self._scales, self._warnings = look_at_inputs(task)
        if protocol.everybody:
            self.measurements.sent_by_all = self.simulation.traffic.bytes_sent
        faults = scenario.faults.with_more(trace.faults())
        self.faults = FaultPlan(faults, self.simulation, detected_s=scenario.net.heartbeat_timeout_s)
        if measure is None and isinstance(self.measurements, TimedMeasurements):
            self.measurements.attend(self.simulation)

    @cached_property
    def _shards(self) -> dict[str, Any]:
        return told_shards(self.task, len(self.simulation.peers))

    def _measurements(self, update_period_s: float | None) -> Measurements:
        """Return what measures by rounds, or by time where peers have no rounds in common."""
        peers, rounds = len(self.scenario.peer_names), self.scenario.stop.rounds
        every, attackers = self.scenario.evaluate.every, self.scenario.attackers
        if update_period_s is None:
            return Measurements(self.learning, peers=peers, every=every, rounds=rounds, attackers=attackers)
        return TimedMeasurements(
            self.learning,
            peers=peers,
            every=every,
            rounds=rounds,
            interval_s=every * update_period_s,
            attackers=attackers,
        )

    def run(self, progress: Progress) -> Records:
        """Run to the end and return the records."""
        simulation = self.simulation
        doing(
            "compiling the network, then the first round"
            if self.scenario.local.compile
            else "the first round"
        )
        simulation.start()
        until_s = self.scenario.stop.virtual_seconds or float("inf")
        look = Looks(
            lambda: progress.update(self._state(self.learning.deferred.computed)), every_s=PROGRESS_S
        )
        # The events of rounds are there long before their learning, which waits until there is enough of it.
        self.learning.deferred.on_computed = look
        while simulation.run(until_s=until_s, events_max=EVENTS_MAX):
            look()
        self.measurements.finish()
        self.learning.flush()  # what no measurement has asked for: nothing is told behind the last state
        progress.update(self._state())
        return self.records()

    def _judged(self, peer: int, judged: RecordedVerdict) -> None:
        """Note what became of a received model, when the merge is computed."""
        round, verdict = judged
        if isinstance(verdict, Refusal):
            self.simulation.peers[peer].note_rejected(verdict.reason)
        self.measurements.verdicts[peer].note(round, verdict.sender, verdict.weight, verdict.reason)

    def _diverged(self, index: int, sign: Sign) -> None:
        """Note the first sign of a peer's divergence."""
        peer = self.simulation.peers[index]
        lr, rule = self.scenario.local.lr, self.learning.blamed(index)
        said = told(peer.peer, sign, cause_of(sign, lr=lr, scales=self._scales, rule=rule))
        self.simulation.note(EVENT, peer, **said)
        self.divergences.note(self.simulation.notes[-1])

    def _state(self, computed: float = 1.0) -> State:
        """Return where the run stands, of whose learning so much is `computed`."""
        latest = self.measurements.latest.values()
        peers = self.simulation.peers
        scored = self.task.objective.score
        scores = [entry["score"] for entry in latest if entry["score"] is not None]
        averages = self.measurements.averages
        return State(
            seconds=self.simulation.now,
            # Whose last events are there has not finished before its learning is.
            running=sum(peer.alive and (computed < 1 or not peer.finished) for peer in peers),
            rounds_mean=computed * sum(peer.round for peer in peers) / len(peers),
            rounds_min=int(computed * min(peer.round for peer in peers)),
            scored=scored,
            score_mean=sum(scores) / len(scores) if scores else None,
            score_worst=scored.worst(scores),
            score_of_mean=averages[max(averages)].score if averages else None,
            bytes_sent=self.simulation.traffic.bytes_sent(),
            consensus=averages[max(averages)].consensus_distance if averages else None,
            so_far=self.so_far,
        )

    def so_far(self) -> Records:
        """Return what is known by now: without final models; a peer that has not ended is "running"."""
        averages = dict(self.measurements.averages)
        outcomes = [self._outcome(peer) for peer in self.simulation.peers]
        return Records(
            peers=[
                replace(each, state="running") if each.state == "interrupted" else each for each in outcomes
            ],
            metrics=list(self.measurements.metrics),
            events=list(self.simulation.notes),
            averages=averages,
            final=averages[max(averages)] if averages else None,
            seconds=self.simulation.now,
            faults=dict(self.simulation.faults),
            warnings=self._warnings,
            scored=self.task.objective.score,
            shards=self._shards,
        )

    def records(self) -> Records:
        peers = self.simulation.peers
        living = [peer for peer in peers if peer.alive and peer.checkpoint is not None]
        honest = [peer for peer in living if peer.index not in self._attackers]
        metrics = sorted(self.measurements.metrics, key=lambda entry: (entry["round"], entry["peer"]))
        final, digest = self._final(honest)
        return Records(
            peers=[self._outcome(peer) for peer in peers],
            metrics=metrics,
            events=self.simulation.notes,
            averages=self.measurements.averages,
            final=final,
            seconds=max((entry["time"] for entry in metrics), default=0.0),
            faults=self.simulation.faults,
            attack=self._success(honest),
            warnings=(*self._warnings, *self.faults.effects.told(listed=len(self.scenario.faults.list))),
            nobody_left=self._nobody_left(),
            scored=self.task.objective.score,
            shards=self._shards,
            event_digest=self.simulation.log.hexdigest(),
            model_digest=digest,
        )

    def _nobody_left(self) -> str | None:
        """Return a sentence where faults have taken all honest peers away for good."""
        living = any(peer.alive for peer in self.simulation.peers if peer.index not in self._attackers)
        return None if living or self.simulation.returns else nobody_left(self.scenario.honest_names)

    def _final(self, living: list[VirtualPeer]) -> tuple[Average | None, str | None]:
        """Return the average of the honest living peers' models, and the SHA-256 of them in peer order."""
        if not living:
            return None, None
        digest, total = hashlib.sha256(), ModelSum()
        for start in range(0, len(living), 256):
            models = [peer.checkpoint[1] for peer in living[start : start + 256] if peer.checkpoint]
            vectors = np.ascontiguousarray(self.learning.stack(models).cpu().numpy(), dtype="<f4")
            digest.update(vectors.data)
            total.add(vectors, self.task.space.learned_size)
        evaluation = self.task.evaluate(torch.from_numpy(total.average()))
        average = Average(
            consensus_distance=total.consensus_distance(self.task.space.learned_size),
            score=finite(evaluation.score),
            test_loss=finite(evaluation.loss) or 0.0,
            peers=total.count,
        )
        return average, digest.hexdigest()

    def _success(self, honest: list[VirtualPeer]) -> dict[str, Any] | None:
        """Return how far the honest peers' models do what a backdoor is for."""
        if self.attack is None:
            return None
        models = (self.learning.vector(peer.checkpoint[1]) for peer in honest if peer.checkpoint is not None)
        return success_rate(self.attack, models)

    def save_models(self, folder: Path) -> None:
        """Write peers/NAME/model.safetensors as real nodes do, where there are not too many."""
        if len(self.simulation.peers) > MODELS_SAVED_MAX:
            return
        for peer in self.simulation.peers:
            if peer.checkpoint is not None:
                home = folder / "peers" / peer.peer
                home.mkdir(parents=True)
                self._save_model(home / MODEL, peer, peer.checkpoint[1], self._provenance(peer))
                said = said_of(self.task, position=peer.index, peers=len(self.simulation.peers))
                write_atomically(home / SOURCE, json.dumps(said, indent=1).encode(), durable=False)
                if self.measurements.prototypes is not None:
                    self.measurements.prototypes.write(home, peer.index)
            if peer.index in self.scores.best:
                score, round, model = self.scores.best[peer.index]
                came = {**self._provenance(peer), "rounds": round, "score": score}
                self._save_model(folder / "peers" / peer.peer / BEST, peer, model, came)

    def _save_model(self, path: Path, peer: VirtualPeer, model: Model, came: Mapping[str, Any]) -> None:
        vector, about = self.learning.vector(model).cpu(), described(self.task, provenance=came)
        data = encode_model(
            self.task.space,
            vector,
            frozen=self.task.frozen,
            peer=peer.peer,
            about=about,
            without=self.task.in_base,
        )
        write_atomically(path, data, durable=False)

    def _provenance(self, peer: VirtualPeer) -> dict[str, Any]:
        scenario = self.scenario
        return {
            "peer": peer.peer,
            "peers": list(scenario.peer_names),
            "algorithm": scenario.algorithm,
            "rounds": peer.round,
            "run_id": scenario.task().run_id(),
            "scenario": scenario.scenario.name,
        }

    def _outcome(self, peer: VirtualPeer) -> PeerOutcome:
        sent, received = self.simulation.traffic_of(peer.index)
        last = self.measurements.latest.get(peer.index)
        state = "finished" if peer.finished else "interrupted"
        return PeerOutcome(
            peer=peer.peer,
            state=state if peer.alive else "crashed",
            rounds=peer.round,
            stopped=peer.protocol.why_stopped() if peer.alive and peer.finished else None,
            score=None if last is None or not peer.alive else last["score"],
            test_loss=None if last is None or not peer.alive else last["test_loss"],
            own=own_of(last) if peer.alive else {},
            sent=Traffic(**traffic(sent)),
            received=Traffic(**traffic(received)),
            messages={kind: counts[0] for kind, counts in sorted(sent.items())},
            rejected_messages=dict(sorted(peer.rejected.items())),
            adopted=peer.adopted,
            honest=peer.index not in self._attackers,
            verdicts=self.measurements.verdicts[peer.index].as_dict(),
            weights=self.measurements.verdicts[peer.index].weights(),
            verdicts_on_others=self.measurements.verdicts[peer.index].others_as_dict(),
            skipped=self.learning.watches.skipped[peer.index],
            divergence=self.divergences.of.get(peer.peer),
            privacy=self.learning.budgets[peer.index].as_dict() if self.learning.budgets else None,
        )
