"""The engine of real processes: a `gossip-node` per peer, over mutual TLS, on this machine's loopback or on several."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gossip.errors import SettingError
from scenarios.effects import nobody_left
from scenarios.errors import RunFailed
from scenarios.processes import homes as preparation
from scenarios.processes.deaths import Deaths
from scenarios.processes.faults import ProcessFaults
from scenarios.processes.launcher import Exit, Launcher
from scenarios.processes.links import PORT, Links, says_something
from scenarios.processes.outcomes import lost, read_outcome
from scenarios.processes.server import last_line
from scenarios.processes.watch import Watch, finite, read_all
from scenarios.progress import Progress, State
from scenarios.records import Average, PeerOutcome, Records, own_of
from scenarios.scenario import ScenarioSettings
from scenarios.shards import told_shards
from scenarios.steps import doing

if TYPE_CHECKING:
    from scenarios.machines.machines import Machines
    from scenarios.processes.averages import Averages

POLL_S = 0.1

EVENTS_MAX = 100_000
"""Kept to be shown while the run goes on; its folder gets them all."""

PORT_ATTEMPTS_MAX = 3
"""Two engines that start together may choose the same port; a third collision in a row has another reason."""


def run(
    scenario: ScenarioSettings,
    folder: Path,
    progress: Progress,
    /,
    *,
    workers: int | None = 1,
    reach: Callable[[], Machines] | None = None,
) -> Records:
    """Run every peer of the scenario as a process, to the end of all: here, or on the machines that `reach` returns.

    Raises:
        RunFailed: no honest peer is left, or nobody got on any more; with `[scenario] strict`, any peer failed. One
            sentence that names a peer and its log.
        UserError: data or model cannot be used.
        KeyboardInterrupt: as it came; all processes are gone then.
    """
    linked = scenario.processes.links == "namespaces"
    _refuse(scenario, workers, elsewhere=reach is not None)
    if not linked and says_something(scenario.network):
        scenario.note(
            "[network] is not obeyed: real processes have the loopback, or the links between machines, unless "
            "[processes] links = 'namespaces' gives each a link as it says"
        )
    progress.begin(scenario)
    try:
        # Nodes end before their links do.
        with (
            Links(scenario) if linked else nullcontext() as links,
            Launcher(folder / "launcher.log") if reach is None else reach() as launcher,
        ):
            # Imports torch, unless that is done, while the launcher does the same on another core.
            from scenarios.processes.averages import load_task, try_attack
            from scenarios.reports.divergences import look_at_inputs
            from scenarios.spending import planned

            task = load_task(scenario)
            try_attack(scenario, task)
            for sentence in planned(scenario, task):
                progress.say(sentence)
            _, warnings = look_at_inputs(task)
            for attempt in range(PORT_ATTEMPTS_MAX):
                processes = _Processes(scenario, folder, launcher, progress, links)
                try:
                    return processes.run(task, warnings)
                except PortTaken as taken:
                    if attempt == PORT_ATTEMPTS_MAX - 1:
                        raise RunFailed(str(taken)) from None
        raise AssertionError("unreachable")
    finally:
        progress.end()


def _refuse(scenario: ScenarioSettings, workers: int | None, *, elsewhere: bool) -> None:
    """Raise `SettingError` for what real processes cannot do."""
    if workers is not None and workers != 1:
        raise SettingError(f"--workers {workers}: with --engine processes every peer is a process already")
    if scenario.protocol.load().scenarios_only:
        raise SettingError(
            f"algorithm '{scenario.algorithm}' needs a central peer, which no node is; use --engine virtual"
        )
    if scenario.attackers and scenario.attack.sees_all:
        raise SettingError(
            f"[attack] kind = '{scenario.attack.kind}' with these settings must see the honest peers' models, which "
            "real nodes show nobody; use --engine virtual"
        )
    if elsewhere and scenario.processes.links == "namespaces":
        raise SettingError(
            f"{scenario.where('processes')} links = 'namespaces' are made on one machine; leave out --cluster, --hosts"
        )


class PortTaken(RunFailed):
    """A peer found its port taken by another program that was faster."""


class _Processes:
    def __init__(
        self,
        scenario: ScenarioSettings,
        folder: Path,
        launcher: Launcher | Machines,
        progress: Progress,
        links: Links | None,
    ) -> None:
        self._scenario = scenario
        self._launcher = launcher
        self._progress = progress
        self._folder = folder
        self._links = links
        self._folder_of: Callable[[str], Path]
        self._homes = self._prepared(launcher)
        self._began = time.time()
        self._faults = ProcessFaults(scenario, launcher, self._start)
        self._begun_s: float | None = None
        self._honest = {name: self._homes[name] for name in scenario.honest_names}
        self._watch = Watch(self._honest, began=self._began)
        self._deaths = Deaths(self._honest, strict=scenario.scenario.strict)
        self._ended_well: set[str] = set()
        self._events: list[dict[str, Any]] = []

    def _prepared(self, launcher: Launcher | Machines) -> dict[str, Path]:
        if not isinstance(launcher, Launcher):
            self._folder_of = launcher.folder_of
            return launcher.prepare(self._scenario, self._folder)
        self._folder_of = lambda _: self._folder
        addresses = None
        if self._links is not None:
            addresses = {name: f"{address}:{PORT}" for name, address in self._links.addresses.items()}
        return preparation.prepare(self._scenario, self._folder, addresses)

    def run(self, task: Any, warnings: Sequence[str]) -> Records:
        from scenarios.processes.averages import Averages
        from scenarios.reports.divergences import Divergences

        scenario = self._scenario
        self._divergences = Divergences(self._honest, attackers=len(scenario.attackers), lr=scenario.local.lr)
        averages = Averages(task, self._honest, keep=self._scenario.evaluate.snapshots)
        self._shards = told_shards(task, len(self._homes))
        try:
            doing(
                f"starting {len(self._homes) - len(self._faults.absent)} processes, which load torch and their data"
            )
            for name in self._homes:
                if name not in self._faults.absent:
                    self._start(name, True)
            self._follow(averages)
        except BaseException:
            # Whatever the reason, a second Ctrl-C included: nothing is left running.
            self._launcher.stop(self._scenario.processes.stop_timeout_s)
            raise
        averages.finish()
        for name in self._homes.keys() - self._honest.keys():
            shutil.rmtree(self._homes[name] / "snapshots", ignore_errors=True)
        return self._records(averages, warnings)

    def _start(self, name: str, fresh: bool) -> None:
        # Where its machine has it; what it writes there is here, too.
        folder = self._folder_of(name)
        home = folder / "peers" / name
        self._deaths.started_again(name)
        self._ended_well.discard(name)
        if name in self._honest:
            own = preparation.own_settings(self._scenario, name)
            program, argv = "gossip.cli", preparation.arguments(folder, home, fresh=fresh, own=own)
        else:
            program = "scenarios.attacks.node"
            argv = preparation.attacker_arguments(self._scenario, folder, name, fresh=fresh)
        self._launcher.start(
            name,
            argv,
            stdout=home / "progress.jsonl",
            stderr=home / "node.log",
            program=program,
            namespace=None if self._links is None else self._links.namespace(name),
        )

    def _follow(self, averages: Averages) -> None:
        """Watch until every process has ended."""
        stop_s = self._scenario.processes.stop_timeout_s
        stall_s = self._scenario.processes.stall_timeout_s
        moved_s = time.monotonic()
        while self._goes_on():
            for exit in self._launcher.wait(POLL_S):
                moved_s = time.monotonic()
                self._ended(exit)
            may_come = self._faults.absent | self._faults.down if self._faults.pending else set()
            self._deaths.check(self._launcher.running.keys() | self._ended_well | may_come)
            if self._watch.look():
                moved_s = time.monotonic()
                averages.advance(self._passed())
                self._look_for_divergence()
            if self._begun_s is None and self._watch.begun(self._honest.keys() - self._faults.absent):
                self._begun_s = time.monotonic()
            if self._begun_s is not None:
                self._faults.apply(time.monotonic() - self._begun_s)
            self._progress.update(self._state(averages))
            if time.monotonic() - moved_s > stall_s:
                raise self._stalled(stall_s)
        if self._launcher.running:  # attackers, or who is just leaving
            self._launcher.stop(stop_s)
        self._deaths.check(self._ended_well)
        self._watch.look()
        averages.advance(self._passed())
        self._look_for_divergence()
        self._progress.update(self._state(averages))

    def _goes_on(self) -> bool:
        """Whether a process runs, or all are away and one is still to start; not without honest peers."""
        if self._nobody_left():
            return False
        return bool(self._launcher.running) or (not self._ended_well and bool(self._faults.coming))

    def _nobody_left(self) -> bool:
        """Whether faults have taken all honest peers away for good."""
        away = (self._faults.down | self._faults.absent) - self._faults.coming
        return self._honest.keys() <= away

    def _look_for_divergence(self) -> None:
        for event in self._watch.events():
            self._divergences.note(event)
            if len(self._events) < EVENTS_MAX:
                self._events.append(event)

    def _ended(self, exit: Exit) -> None:
        """Note how a process has ended.

        Raises:
            PortTaken: before it began. RunFailed: the run cannot go on, or shall not.
        """
        if exit.name in self._faults.down:
            return
        if exit.code == 0:
            self._ended_well.add(exit.name)
            return
        log = self._homes[exit.name] / "node.log"
        if (
            exit.code == 2
            and exit.name not in self._watch.latest
            and _is_about_a_port(said := last_line(log))
        ):
            raise PortTaken(f"{exit.name} could not start: {said}; see {log}")
        self._deaths.note(exit, log, time=time.time() - self._began)

    def _passed(self) -> Mapping[str, int]:
        """Return the last round that each peer is known to have done; nobody waits for those who come no more."""
        gone = self._honest.keys() & (self._faults.gone | self._deaths.now.keys())
        return {**self._watch.rounds(), **dict.fromkeys(gone, self._scenario.stop.rounds)}

    def _stalled(self, seconds: float) -> RunFailed:
        rounds = self._watch.rounds()
        living = [name for name in self._honest if name in self._launcher.running] or list(self._honest)
        slowest = min(living, key=lambda name: rounds.get(name, 0))
        log = self._homes[slowest] / "node.log"
        return RunFailed(
            f"no peer has got on for {seconds:g} s; the furthest behind is {slowest} in round "
            f"{rounds.get(slowest, 0)}: {last_line(log)}; see {log} ([processes] stall_timeout_s waits longer)"
        )

    def _state(self, averages: Averages) -> State:
        latest = self._watch.latest
        rounds = self._watch.rounds()
        scored = averages.task.objective.score
        scores = [entry["score"] for entry in latest.values() if entry.get("score") is not None]
        last = averages.by_round[max(averages.by_round)] if averages.by_round else None
        return State(
            seconds=time.time() - self._began,
            running=len(self._launcher.running),
            died=len(self._deaths.now),
            rounds_mean=sum(rounds.values()) / len(self._honest),
            rounds_min=min(rounds.values()) if len(rounds) == len(self._honest) else 0,
            scored=scored,
            score_mean=sum(scores) / len(scores) if scores else None,
            score_worst=scored.worst(scores),
            score_of_mean=None if last is None else last.score,
            bytes_sent=sum(entry["bytes_sent"] for entry in latest.values()),
            consensus=None if last is None else last.consensus_distance,
            so_far=lambda: self._so_far(averages),
        )

    def _so_far(self, averages: Averages) -> Records:
        """Return what is known by now: without final models; a peer that has not ended is "running"."""
        last = averages.by_round[max(averages.by_round)] if averages.by_round else None
        return Records(
            peers=[self._going_on(name) for name in self._homes],
            metrics=list(self._watch.metrics),
            events=self._timed(self._events),
            averages={number: _finite(average) for number, average in averages.by_round.items()},
            final=None if last is None else _finite(last),
            seconds=time.time() - self._began,
            faults={**self._faults.counts, "died": len(self._deaths.all)},
            scored=averages.task.objective.score,
            shards=self._shards,
        )

    def _going_on(self, name: str) -> PeerOutcome:
        """Return what is known of a peer while the run goes on."""
        if name in self._deaths.now or name in self._faults.down | self._faults.absent:
            return replace(self._said_by(name), honest=name in self._honest)
        last = self._watch.latest.get(name)
        known = lost(name, last, started=True)
        return replace(
            known,
            state="finished" if name in self._ended_well else "running",
            score=None if last is None else last.get("score"),
            test_loss=None if last is None else last.get("test_loss"),
            own=own_of(last),
            honest=name in self._honest,
            divergence=self._divergences.of.get(name),
        )

    def _timed(self, said: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return events of the peers and of the run's faults and deaths by time, which counts from the run's start."""
        events = [
            {**each, "time": round(each["time"] - self._began, 3)} for each in (*said, *self._faults.done)
        ]
        events += [dict(death.event) for death in self._deaths.all]
        return [finite(event) for event in sorted(events, key=lambda event: (event["time"], event["peer"]))]

    def _records(self, averages: Averages, warnings: Sequence[str]) -> Records:
        metrics = sorted(self._watch.metrics, key=lambda entry: (entry["round"], entry["peer"]))
        events = [event for home in self._homes.values() for event in read_all(home / "events.jsonl")]
        final, digest = averages.final()
        return Records(
            peers=[self._outcome(name) for name in self._homes],
            metrics=metrics,
            events=self._timed(events),
            averages={number: _finite(average) for number, average in averages.by_round.items()},
            final=None if final is None else _finite(final),
            seconds=max((entry["time"] for entry in metrics), default=0.0),
            attack=self._success(averages),
            warnings=(*warnings, *self._faults.effects.told(listed=len(self._scenario.faults.list))),
            nobody_left=nobody_left(self._honest) if self._nobody_left() else None,
            scored=averages.task.objective.score,
            shards=self._shards,
            model_digest=digest,
            faults={**self._faults.counts, "died": len(self._deaths.all)},
        )

    def _success(self, averages: Averages) -> dict[str, Any] | None:
        """Return how far the honest peers' models do what a backdoor is for."""
        if not self._scenario.attackers:
            return None
        from scenarios.attacks.base import Scene, attack_of, success_rate

        scene = Scene(task=averages.task, peers=len(self._homes), attackers=self._scenario.attackers)
        return success_rate(attack_of(self._scenario.attack, scene), averages.final_models())

    def _outcome(self, name: str) -> PeerOutcome:
        divergence = self._divergences.of.get(name)
        return replace(self._said_by(name), honest=name in self._honest, divergence=divergence)

    def _said_by(self, name: str) -> PeerOutcome:
        path = self._homes[name] / "summary.json"
        if name in self._deaths.now:
            death = self._deaths.now[name]
            known = lost(name, self._watch.latest.get(name), started=True)
            return replace(known, state="died", last_words=f"ended {death.how}: {death.words}")
        if name in self._faults.down | self._faults.absent and not path.exists():
            last = self._watch.latest.get(name)
            return lost(name, last, started=name not in self._faults.absent)
        outcome = read_outcome(name, path)
        # A model that its peer took away with it is none of the end of the run.
        return replace(outcome, score=None, own={}, state="left") if name in self._faults.down else outcome


def _is_about_a_port(sentence: str) -> bool:
    return "in use" in sentence or "already listens" in sentence


def _finite(average: Average) -> Average:
    return Average(**finite({field.name: getattr(average, field.name) for field in fields(Average)}))
