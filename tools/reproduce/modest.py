"""What MoDeST costs and what it survives: one table per part.

    python tools/reproduce/modest.py [cost parity samples staged instant join shrink processes scale]
                                     [--seeds 0-19] [--jobs 2] [--smoke]

Digits, 100 peers, samples of 10, virtual engine, unless a part says otherwise. Without names, all parts are done.

cost       bytes until 95 % of the best mean accuracy of D-PSGD, learning rates tuned for each method; messages; control
parity     rounds until that accuracy, beside FedAvg with the same samples
samples    how often peers that draw the same sample get the same one, and how evenly load falls
staged     80 of 100 peers crash, five a minute from 300 s on, beside 20 peers alone
instant    80 of 100 peers vanish at once: their processes end, or they fall silent and no connection is closed
join       ten peers join, one a minute: with turns (the scenario's sampler) and drawn anew each round (the paper's)
shrink     a small window and no faults, with and without signs of life
processes  12 real nodes, 6 killed in the middle, 2 of them started again
scale      1,000 peers, samples of 13, 200 rounds
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scenarios.sweep import parse_seeds

MODELS = ("modest-train", "modest-aggregate")
RATES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
SPLITS = {
    "i.i.d.": "data.partition={kind='iid'}",
    "Dirichlet 0.3": "data.partition={kind='dirichlet',alpha=0.3}",
}
COST_ROUNDS = 1000
VANISHING = ",".join(map(str, range(20, 100)))
HIDDEN_50K = "model.hidden=[256,128]"


class Wanted(NamedTuple):
    """One run in the virtual engine."""

    scenario: str
    seed: int
    overrides: tuple[str, ...] = ()


Drawn = tuple[str, int, str, frozenset[str]]
"""(aggregators or participants, round, who drew, the sample)."""


def record_samples() -> tuple[list[Drawn], Callable[[], None]]:
    """Have every sample that is drawn in this process noted; return the list, and what ends it."""
    from gossip.protocols.modest.core import Core

    drawn: list[Drawn] = []
    draw = Core.sample

    def sample(self: Core, ctx: Any, purpose: str, round: int, wanted: int, then: Any) -> None:
        def noted(ctx: Any, found: list[str]) -> None:
            drawn.append((purpose, round, self.me, frozenset(found)))
            then(ctx, found)

        draw(self, ctx, purpose, round, wanted, noted)

    def end() -> None:
        Core.sample = draw  # type: ignore[method-assign]

    Core.sample = sample  # type: ignore[method-assign]
    return drawn, end


def virtual(wanted: Wanted) -> dict[str, Any]:
    """Do a run and return what the tables need; runs in a process of its own."""
    import torch

    from scenarios.processes.averages import load_task
    from scenarios.progress import Quiet
    from scenarios.scenario import load
    from scenarios.summary import curve
    from scenarios.virtual.engine import VirtualRun
    from scenarios.virtual.quiet import quiet_collector

    torch.set_num_threads(1)
    began = time.monotonic()
    scenario = load(wanted.scenario, seed=wanted.seed, overrides=wanted.overrides)
    drawn, end = record_samples()
    with quiet_collector():
        run = VirtualRun(scenario, load_task(scenario))
        records = run.run(Quiet())
    end()
    sent: Counter[str] = Counter()
    nbytes: Counter[str] = Counter()
    payload: Counter[str] = Counter()
    for peer in run.simulation.peers:
        for kind, (messages, total, tensors) in run.simulation.traffic_of(peer.index)[0].items():
            sent[kind] += messages
            nbytes[kind] += total
            payload[kind] += tensors
    first = [getattr(peer.protocol, "first_participation", 0) for peer in run.simulation.peers]
    last = [getattr(peer.protocol, "last_participation", 0) for peer in run.simulation.peers]
    came = [
        (note["time"], run.simulation.by_name[note["peer"]].index)
        for note in records.events
        if note["event"] == "joined"
    ]
    return {
        "curve": curve(records),
        "sent": dict(sent),
        "bytes": dict(nbytes),
        "payload": dict(payload),
        "first": first,
        "last": last,
        "participations": [getattr(peer.protocol, "participations", 0) for peer in run.simulation.peers],
        "alive": [peer.alive and not peer.paused for peer in run.simulation.peers],
        "joined": came,
        "bytes_of_peers": list(run.simulation.traffic.sent_bytes),
        "agreement": {purpose: agreement(drawn, purpose) for purpose in ("aggregators", "participants")},
        "seconds": time.monotonic() - began,
    }


def agreement(drawn: Sequence[Drawn], purpose: str) -> tuple[int, int]:
    """Return in how many rounds all that drew got the same sample, and how many rounds two or more drew in."""
    rounds: dict[int, dict[str, frozenset[str]]] = {}
    for why, round, peer, sample in drawn:
        if why == purpose:
            rounds.setdefault(round, {}).setdefault(
                peer, sample
            )  # what is drawn again later need not be the same
    shared = [set(samples.values()) for samples in rounds.values() if len(samples) > 1]
    return sum(len(samples) == 1 for samples in shared), len(shared)


class Bench:
    """Runs things, several at a time; with no jobs one after another in this process. `more` are settings of all."""

    def __init__(self, jobs: int, seeds: Sequence[int], more: Sequence[str] = ()) -> None:
        self._jobs = jobs
        self._more = tuple(more)
        self.seeds = seeds

    def run(self, wanted: Sequence[Wanted]) -> list[dict[str, Any]]:
        """Do all runs; results in their order."""
        wanted = [each._replace(overrides=(*each.overrides, *self._more)) for each in wanted]
        if not self._jobs:
            return [virtual(each) for each in wanted]
        os.environ["OMP_NUM_THREADS"] = "1"
        with ProcessPoolExecutor(self._jobs, mp_context=get_context("spawn")) as pool:
            return list(pool.map(virtual, wanted))


def accuracy_at_end(result: dict[str, Any]) -> float:
    return max(point["accuracy_mean"] for point in result["curve"][-5:])


def best_accuracy(result: dict[str, Any]) -> float:
    return float(max(point["accuracy_mean"] for point in result["curve"]))


def first_at(result: dict[str, Any], target: float) -> dict[str, Any] | None:
    return next((point for point in result["curve"] if point["accuracy_mean"] >= target), None)


def cheapest(results: Sequence[dict[str, Any]], target: float) -> float:
    """Return the rate of `RATES` whose run reaches the target with the fewest bytes; the best one where none does."""
    points = [first_at(result, target) for result in results]
    if not any(points):
        return RATES[int(np.argmax([best_accuracy(result) for result in results]))]
    return RATES[int(np.argmin([point["bytes"] if point else np.inf for point in points]))]


def gaps(result: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.diff([point["time"] for point in result["curve"]])


# --- cost, parity -------------------------------------------------------------------------------------

DPSGD = {
    "one-peer": ("topology.kind=one-peer-exponential",),
    "4-regular": ("topology.kind=regular", "topology.degree=4"),
}


def dpsgd(kind: str, split: str, rate: float, seed: int) -> Wanted:
    # The same world as the scenario `modest`, another algorithm.
    return Wanted(
        "modest",
        seed,
        (
            "scenario.algorithm=d-psgd",
            "protocol={kind='rounds',gossip_steps=1}",
            "local.steps=5",
            f"local.lr={rate}",
            f"stop.rounds={COST_ROUNDS}",
            "evaluate.every=4",
            SPLITS[split],
            *DPSGD[kind],
        ),
    )


def modest(split: str, rate: float, seed: int, *more: str) -> Wanted:
    return Wanted(
        "modest",
        seed,
        (f"local.lr={rate}", "stop.rounds=100", "evaluate.every=1", SPLITS[split], *more),
    )


def cost(bench: Bench) -> Iterator[str]:
    """E1."""
    seeds = bench.seeds[:3]
    for split in SPLITS:
        pairs = [(kind, rate) for kind in DPSGD for rate in RATES]
        wanted = [dpsgd(kind, split, rate, seeds[0]) for kind, rate in pairs]
        found = dict(zip(pairs, bench.run(wanted), strict=True))
        best = {kind: max(RATES, key=lambda r: best_accuracy(found[kind, r])) for kind in DPSGD}
        tops = {kind: best_accuracy(found[kind, best[kind]]) for kind in DPSGD}
        tried = bench.run([modest(split, rate, seeds[0]) for rate in RATES])
        yield f"{split}: best mean accuracy {shown(tops)} %, with learning rates {best}"
        # Where one-peer never comes near the best, what it reaches itself is compared, too.
        for words, target in (
            ("best of both", 0.95 * max(tops.values())),
            ("one-peer's best", 0.95 * tops["one-peer"]),
        ):
            yield f"  to {100 * target:.1f} %, 95 % of the {words}:"
            rates = {"MoDeST": cheapest(tried, target)}
            for kind in DPSGD:
                rates[kind] = cheapest([found[kind, rate] for rate in RATES], target)
            runs = bench.run(
                [modest(split, rates["MoDeST"], seed) for seed in seeds]
                + [dpsgd(kind, split, rates[kind], seed) for kind in DPSGD for seed in seeds]
            )
            yield from _cost_table(
                dict(zip(rates, np.array(runs).reshape(3, -1), strict=True)), rates, target
            )
    rounds = 100
    (large,) = bench.run([Wanted("modest", 0, (HIDDEN_50K, f"stop.rounds={rounds}", "evaluate.every=50"))])
    per_round = sum(large["sent"][kind] for kind in MODELS) / rounds
    total = sum(large["bytes"].values())
    rest = total - sum(large["payload"].values())
    yield f"models per round {per_round:.2f}; 2·a·s - 1.1·a = 18.9 ({100 * (per_round / 18.9 - 1):+.1f} %)"
    yield f"control and view bytes with 50,826 parameters: {100 * rest / total:.2f} % of {total / 1e6:.0f} MB"


def _cost_table(
    runs: dict[str, Sequence[dict[str, Any]]], rates: dict[str, float], target: float
) -> Iterator[str]:
    means: dict[str, float] = {}
    for name, results in runs.items():
        reached = [first_at(result, target) for result in results]
        # What a run has sent in vain is a lower bound of what it would need.
        points = [point or result["curve"][-1] for point, result in zip(reached, results, strict=True)]
        means[name] = float(np.mean([point["bytes"] for point in points]))
        missed = sum(point is None for point in reached)
        words = f", and {missed} of {len(reached)} seeds did not reach it" if missed else ""
        bound = "more than " if missed else ""
        rounds = np.mean([point["round"] for point in points])
        yield (
            f"    {name:10} lr {rates[name]:4} {bound}{means[name] / 1e6:.1f} MB in {rounds:.1f} rounds{words}: "
            f"{bound}{means[name] / means['MoDeST']:.1f} times MoDeST's"
        )


def shown(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} {100 * share:.1f}" for name, share in shares.items())


def parity(bench: Bench) -> Iterator[str]:
    """E2."""
    seeds = bench.seeds[:5]
    target = 0.9
    for split in SPLITS:
        results = bench.run(
            [
                modest(split, 0.2, seed, *more)
                for more in ((), ("scenario.algorithm=fedavg", "protocol.kind=fedavg"))
                for seed in seeds
            ]
        )
        rounds = [(first_at(result, target) or {"round": np.nan})["round"] for result in results]
        ours, theirs = np.array(rounds).reshape(2, len(seeds))
        yield (
            f"{split}: {100 * target:.0f} % after {ours.mean():.1f} rounds, FedAvg after {theirs.mean():.1f} "
            f"({100 * (ours.mean() / theirs.mean() - 1):+.1f} %); by seed {ours.tolist()} and {theirs.tolist()}"
        )


# --- crashes -------------------------------------------------------------------------------------------


def staged(bench: Bench) -> Iterator[str]:
    """E3."""
    # The others' data are out of reach in the control, too, from the beginning.
    gone = f"faults.list=[{{at=0,do='crash',peers=[{VANISHING}]}}]"
    control = bench.run([Wanted("modest-crash-staged", seed, (gone,)) for seed in bench.seeds])
    alone = np.array([accuracy_at_end(result) for result in control])
    yield f"20 peers alone: accuracy {100 * alone.mean():.2f} ± {100 * alone.std():.2f} %"
    for how, words in (("crash", "processes end"), ("pause", "silence")):
        batches = ",".join(
            f"{{at={300 + 60 * batch},do='{how}',peers={list(range(20 + 5 * batch, 25 + 5 * batch))}}}"
            for batch in range(16)
        )
        overrides = (f"faults.list=[{batches}]", "stop.virtual_seconds=3000")
        results = bench.run([Wanted("modest-crash-staged", seed, overrides) for seed in bench.seeds])
        yield f"{words}:"
        yield from _staged_table(results)


def _staged_table(results: Sequence[dict[str, Any]]) -> Iterator[str]:
    normal, longest, sampled = [], [], []
    for result in results:
        normal.append(np.diff([point["time"] for point in result["curve"] if point["time"] < 300]).mean())
        longest.append(gaps(result).max())
        # After the last crash at 1,200 s, and some time for the views to follow.
        after = next((point["round"] for point in result["curve"] if point["time"] > 1250), 300)
        sampled.append(sum(last > after for last in result["last"][:20]))
    done = sum(result["curve"][-1]["round"] == 300 for result in results)
    yield f"  {done} of {len(results)} runs reach round 300"
    yield (
        f"  longest gap: mean {np.mean(longest):.1f} s = {np.mean(np.array(longest) / normal):.1f} normal rounds of "
        f"{np.mean(normal):.1f} s; worst {np.max(longest):.1f} s"
    )
    yield f"  survivors that are sampled after the crashes: at least {min(sampled)} of 20"
    ours = [accuracy_at_end(result) for result in results]
    yield f"  accuracy {100 * np.mean(ours):.2f} ± {100 * np.std(ours):.2f} %"


def instant(bench: Bench) -> Iterator[str]:
    """E4."""
    for how, words in (("crash", "processes end"), ("pause", "silence")):
        fault = f"faults.list=[{{at=300,do='{how}',peers=[{VANISHING}]}}]"
        limit = "stop.virtual_seconds=1500"
        for aggregators, hardening in ((2, "all"), (1, "all"), (2, "none")):
            overrides = (
                fault,
                limit,
                f"protocol.aggregators={aggregators}",
                f"protocol.hardening='{hardening}'",
            )
            results = bench.run([Wanted("modest-crash-instant", seed, overrides) for seed in bench.seeds])
            finished = [result["curve"][-1]["round"] == 150 for result in results]
            gap = [gaps(result).max() if ok else np.inf for result, ok in zip(results, finished, strict=True)]
            quick = sum(one < 90 for one in gap)
            going = [one for one in gap if np.isfinite(one)]
            longest = f"longest gap {np.mean(going):.0f} s, worst {np.max(going):.0f} s" if going else ""
            yield (
                f"{words:14} a = {aggregators}, hardening {hardening:4}: {sum(finished):2} of {len(results)} finish, "
                f"{quick} within 90 s; {longest}"
            )


# --- samples ---------------------------------------------------------------------------------------------


def samples(bench: Bench) -> Iterator[str]:
    """E8, E9."""
    worlds = {
        "no faults": ("modest", ("stop.rounds=300",)),
        "staged crash": ("modest-crash-staged", ("stop.virtual_seconds=3000",)),
        "joining": ("modest-join", ("protocol.success_fraction=0.9",)),
        "churn": ("modest-churn", ()),
    }
    seeds = bench.seeds[:5]
    for words, (name, overrides) in worlds.items():
        for sampler in ("uniform", "permutation"):
            more = (*overrides, f"protocol.sampler={sampler}", "protocol.aggregators=2", "evaluate.every=50")
            results = bench.run([Wanted(name, seed, more) for seed in seeds])
            shares = {}
            for purpose in ("aggregators", "participants"):
                equal, rounds = np.sum([result["agreement"][purpose] for result in results], axis=0)
                shares[purpose] = equal / rounds
            yield f"{words:12} {sampler:11} rounds in which all draw the same: {shown(shares)} %"
    for sampler in ("uniform", "permutation"):
        more = (f"protocol.sampler={sampler}", "stop.rounds=400", "evaluate.every=100")
        for result in bench.run([Wanted("modest", seeds[0], more)]):
            counts, nbytes = np.array(result["participations"]), np.array(result["bytes_of_peers"])
            chi_square = ((counts - 40) ** 2 / (40 * 0.9)).sum()
            yield (
                f"load, {sampler}: trained {counts.min()} to {counts.max()} of 400 rounds, χ² {chi_square:.0f} "
                f"(uniform: 99.9 % below 148); bytes sent, most / mean {nbytes.max() / nbytes.mean():.2f}; "
                "an aggregator takes in and sends 2·s models at once"
            )


# --- membership ------------------------------------------------------------------------------------------


def join(bench: Bench) -> Iterator[str]:
    """E5."""
    for sampler in ("permutation", "uniform"):
        wanted = [Wanted("modest-join", seed, (f"protocol.sampler={sampler}",)) for seed in bench.seeds]
        worst, waits, lost, parts = [], [], 0, []
        for result in bench.run(wanted):
            lost += 200 - len({point["round"] for point in result["curve"]})
            parts.append(sum(result["participations"][index] > 0 for _, index in result["joined"]))
            own = []
            for time_s, index in result["joined"]:
                came = next(point["round"] for point in result["curve"] if point["time"] > time_s)
                own.append(result["first"][index] - came if result["first"][index] else 999)
            waits += own
            worst.append(max(own))
        yield (
            f"{sampler:11} joiners that take part: at least {min(parts)} of 10; rounds lost: {lost}; all ten within "
            f"3·n/s = 30 rounds: {sum(wait <= 30 for wait in worst)} of {len(worst)} seeds"
        )
        quick = np.mean(np.array(waits) <= 30)
        yield (
            f"            rounds from joining to first training: mean {np.mean(waits):.1f}, 95 % quantile "
            f"{np.quantile(waits, 0.95):.0f}, worst {max(waits)}; within 30 {100 * quick:.1f} %"
        )
    one = 1 - 0.9**30
    yield f"drawing 10 of 100 anew each round gives {100 * one:.1f} % for each, {100 * one**10:.0f} % for all ten"


def shrink(bench: Bench) -> Iterator[str]:
    """E7."""
    for window in (20, 200):
        for hardening in ("'none'", "['H5']", "'all'"):
            overrides = (
                f"protocol.activity_window={window}",
                f"protocol.hardening={hardening}",
                "stop.rounds=300",
                "evaluate.every=100",
            )
            results = bench.run([Wanted("modest", seed, overrides) for seed in bench.seeds[:3]])
            late = [sum(last > 200 for last in result["last"]) for result in results]
            yield f"window {window:3}, hardening {hardening:7}: {late} of 100 peers trained in rounds 201 to 300"


# --- real nodes, scale -----------------------------------------------------------------------------------

PROCESSES = """
[scenario]
name = "modest-processes"
peers = 12
algorithm = "modest"
[data]
source = "digits"
partition = { kind = "iid" }
[model]
name = "mlp"
[local]
steps = 200
[protocol]
kind = "modest"
sample_size = 4
aggregators = 2
success_fraction = 0.75
ping_timeout_s = 1.0
ping_again_s = 0.5
activity_window = 30
aggregate_timeout_s = 3.0
send_again_s = 4.0
stall_s = 8.0
refresh_s = 3.0
[faults]
list = [
  { at = 5, do = "crash", peers = [6, 7, 8, 9, 10, 11] },
  { at = 15, do = "restart", peers = [6, 7] },
]
[stop]
rounds = 150
"""


def processes(bench: Bench) -> Iterator[str]:
    """Six of twelve nodes killed, two back."""
    import scenarios

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "modest-processes.toml"
        path.write_text(PROCESSES, encoding="utf-8")
        result = scenarios.run(str(path), engine="processes", out=Path(folder) / "run")
        summary = result.summary
        events = {}
        for index in (6, 7):
            home = Path(folder) / "run" / "peers" / f"peer-{index:02d}"
            lines = [json.loads(line) for line in (home / "events.jsonl").read_text().splitlines()]
            started = [line for line in lines if line["event"] == "started"]
            averaged = [json.loads(line) for line in (home / "metrics.jsonl").read_text().splitlines()]
            later = [entry["round"] for entry in averaged if entry["time"] > started[-1]["time"]]
            sent = json.loads((home / "summary.json").read_text())["messages"]["by_type"]
            events[f"peer-{index:02d}"] = (
                f"came back after round {started[-1]['round']}, averaged {len(later) - 1} rounds since, sent "
                f"{sent.get('modest-aggregate', 0)} trained models"
            )
    faults, accuracy = summary["faults"], 100 * summary["accuracy"]["mean"]
    yield f"rounds {summary['rounds']} of 150, accuracy {accuracy:.1f} %, {summary['time']:.1f} s"
    yield f"crashed {faults['crashed']}, restarted {faults['restarted']}"
    yield from (f"{peer}: {words}" for peer, words in events.items())


def scale(bench: Bench) -> Iterator[str]:
    """A thousand peers."""
    overrides = (
        "scenario.peers=1000",
        "protocol.sample_size=13",
        "protocol.activity_window=600",
        "stop.rounds=200",
        "evaluate.every=10",
    )
    (result,) = bench.run([Wanted("modest", 0, overrides)])
    per_round = sum(result["sent"][kind] for kind in MODELS) / 200
    yield (
        f"200 rounds in {result['seconds']:.1f} s on one core; {per_round:.1f} models per round (24.9 expected); "
        f"accuracy {100 * result['curve'][-1]['accuracy_mean']:.1f} %"
    )


PARTS: dict[str, Callable[[Bench], Iterator[str]]] = {
    part.__name__: part for part in (cost, parity, samples, staged, instant, join, shrink, processes, scale)
}


SMOKE = ("parity",)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--seeds", default="0-19")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--smoke", action="store_true", help="one part, two rounds: to see that it works")
    options = parser.parse_args(arguments)
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    bench = Bench(options.jobs, parse_seeds(options.seeds))
    if options.smoke:
        options.parts, bench = SMOKE, Bench(0, [0], ["stop.rounds=2", "evaluate.every=1"])
    for name in options.parts or PARTS:
        began = time.monotonic()
        print(f"--- {name}", flush=True)
        for line in PARTS[name](bench):
            print(line, flush=True)
        print(f"    ({time.monotonic() - began:.0f} s)", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
