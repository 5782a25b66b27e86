"""Every pair of methods at once, in tiny runs: each combination runs, or is refused with one sentence.

    python tools/torture/combinations.py [--seed 0] [--every 1] [--random 0] [--processes 12] [--json] [--smoke]

Codec, protocol, parts, outer steps, final steps, graph, merge rule, privacy and adapter have been made one by one, and
meet in people's files. Each choice of one table meets each choice of every other, with what is usual elsewhere;
`--random` adds combinations of all tables. Five peers do three rounds on digits in the virtual engine. A row breaks
where there is a traceback, a refusal of more than one line or with another exit code than 2, a number that is not
finite, or nothing sent. Of those that run, `--processes` are run by real nodes too, and must send as many payload
bytes where nothing hangs on the clock.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import math
import random
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from verdicts import Row, Verdicts

import scenarios
from gossip.errors import ExitCode, UserError

Choice = Mapping[str, Any]

PEERS, ROUNDS = 5, 3
BASE: Choice = {
    "scenario.peers": PEERS,
    "scenario.algorithm": "dfedavg",
    "data.train_max": 150,
    "data.test_max": 60,
    "data.partition": {"kind": "iid"},
    "model.hidden": (8,),
    "local.epochs": 1,
    "stop.rounds": ROUNDS,
}

TABLES: Mapping[str, Mapping[str, Choice]] = {
    "codec": {
        "float32": {},
        "float16": {"codec.kind": "float16"},
        "bfloat16": {"codec.kind": "bfloat16"},
        "int8": {"codec.kind": "int8"},
        "int8, coded": {"codec.kind": "int8", "codec.own": "coded"},
        "int8, zstd": {"codec.kind": "int8", "codec.compress": "zstd"},
        "int4": {"codec.kind": "int4"},
        "int4, nearest, coded, zstd": {
            "codec.kind": "int4",
            "codec.rounding": "nearest",
            "codec.own": "coded",
            "codec.compress": "zstd",
        },
        "float16, coded": {"codec.kind": "float16", "codec.own": "coded"},
        "top-change": {"codec.kind": "top-change"},
        "top-change, int8": {"codec.kind": "top-change", "codec.share": 0.03, "codec.values": "int8"},
        "choco": {"codec.kind": "choco"},
        "choco, int8": {"codec.kind": "choco", "codec.compress": "int8", "codec.gamma": 0.5},
        "choco, top": {"codec.kind": "choco", "codec.compress": "top", "codec.share": 0.05},
    },
    "protocol": {
        "rounds": {},
        "rounds, Q = 0": {"protocol.gossip_steps": 0},
        "rounds, Q = 3": {"protocol.gossip_steps": 3},
        "rounds, combine first": {"protocol.order": "combine-then-adapt"},
        "push": {"scenario.algorithm": "gossip-learning"},
        "push, full": {"scenario.algorithm": "gossip-learning", "protocol.fanout": 0, "protocol.memory": 5},
        "push, random-walk": {"scenario.algorithm": "gossip-learning", "protocol.variant": "random-walk"},
        "push, update-merge": {"scenario.algorithm": "gossip-learning", "protocol.variant": "update-merge"},
        "push, tokens": {"scenario.algorithm": "gossip-learning", "protocol.tokens": "randomised"},
        "modest": {
            "scenario.algorithm": "modest",
            "protocol.sample_size": 3,
            "protocol.aggregators": 1,
        },
        "fedavg": {"scenario.algorithm": "fedavg", "protocol.sample_size": 3},
    },
    "parts": {"1": {}, "3": {"protocol.parts": 3}, "more than numbers": {"protocol.parts": 4096}},
    "outer": {
        "none": {},
        "heavy-ball": {"outer.kind": "heavy-ball"},
        "nesterov": {"outer.kind": "nesterov", "outer.momentum": 0.5},
        "lerp": {"outer.kind": "lerp"},
        "quasi-global": {"local.optimizer": {"kind": "quasi-global"}},
    },
    "final": {
        "none": {},
        "base": {"final.steps": "period"},
        "base, coded": {"final.steps": "period", "final.exact": False},
        "pairs": {"final.topology": "pairs", "final.steps": 2},
        "full": {"final.topology": "full", "final.steps": 1},
    },
    "topology": {
        "ring": {"topology.kind": "ring"},
        "full": {"topology.kind": "full"},
        "exponential": {"topology.kind": "exponential"},
        "pairs": {"topology.kind": "pairs"},
        "pairs, some": {"topology.kind": "pairs", "topology.probability": 0.5},
        "base": {"topology.kind": "base", "topology.degree": 1},
        "groups": {"topology.kind": "groups"},
        "epidemic-push": {"topology.kind": "epidemic-push", "topology.degree": 2},
        "epidemic-pull": {"topology.kind": "epidemic-pull", "topology.degree": 2},
        "one-peer": {"topology.kind": "one-peer-exponential"},
        "random": {"topology.kind": "random-neighbours", "topology.degree": 2},
        "star": {"topology.kind": "star"},
    },
    "merge": {
        "average": {},
        "variance-corrected": {"merge.kind": "variance-corrected"},
        "bristle": {
            "merge.kind": "bristle",
            "data.validation_per_class": 1,
            "model.name": "linear",
            "model.extractor": "random-features",
            "model.features": 20,
            "model.hidden": None,
        },
        "median": {"merge.kind": "median"},
        "krum": {"merge.kind": "krum", "merge.f": 0},
        "nnm+trimmed-mean": {"merge.kind": "nnm+trimmed-mean", "merge.f": 0},
        "nna": {"merge.kind": "nna", "merge.f": 0},
        "centered-clipping": {"merge.kind": "centered-clipping", "merge.tau": 1.0},
        "geometric-median": {"merge.kind": "geometric-median"},
        "balance": {"merge.kind": "balance", "merge.horizon": 100},
        "ubar": {"merge.kind": "ubar"},
        "product": {"merge.kind": "product"},
        "lora-fair": {"merge.kind": "lora-fair"},
    },
    "privacy": {
        "none": {},
        "dp-sgd": {"privacy.kind": "dp-sgd", "privacy.epsilon_max": 1e6, "privacy.delta": 1e-3},
        "dp-sgd, spent": {"privacy.kind": "dp-sgd", "privacy.epsilon_max": 1e-3, "privacy.delta": 1e-9},
        "noise on models": {"outgoing.kind": "noise"},
        "zero-sum noise": {"outgoing.kind": "zero-sum-noise"},
    },
    "adapter": {
        "none": {},
        "R": {"model.adapter": {"kind": "r-only", "rank": 4}},
        "B": {"model.adapter": {"kind": "lora", "train": "B", "rank": 4}},
        "A and B": {"model.adapter": {"kind": "lora", "train": "AB", "rank": 4}},
        "seed space": {"model.adapter": {"kind": "seed-space", "size": 64}},
        "seed space, spsa": {
            "model.adapter": {"kind": "seed-space", "size": 64},
            "local.optimizer": {"kind": "spsa"},
        },
    },
    "else": {
        "nothing": {},
        "upload": {"net.upload_mbps_max": 5.0},
        "stop early": {"stop.target": 0.9},
        "own tests": {"data.own_test": 0.2},
        "crash": {
            "faults.list": [
                {"at": 0.5, "do": "crash", "peers": [2]},
                {"at": 0.9, "do": "restart", "peers": [2]},
            ]
        },
    },
}

SILENT = ("rounds, Q = 0", "push, tokens")
"""Protocols that may send nothing in three rounds."""

Combination = tuple[str, ...]
"""A name of each table."""


def combinations(seed: int, *, extra: int = 0, every: int = 1) -> list[Combination]:
    """Return combinations in which each two names of different tables meet, and `extra` drawn from all.

    What is not of the pair is the first of its table, so that a refusal is of the pair.
    """
    rng = random.Random(seed)
    names = [list(table) for table in TABLES.values()]
    usual = tuple(table[0] for table in names)
    pairs: list[Combination] = [usual]
    for one, two in itertools.combinations(range(len(names)), 2):
        for first, second in itertools.product(names[one], names[two]):
            row = list(usual)
            row[one], row[two] = first, second
            pairs.append(tuple(row))
    pairs = list(dict.fromkeys(pairs))
    drawn = [tuple(rng.choice(table) for table in names) for _ in range(extra)]
    return list(dict.fromkeys(pairs[seed % every :: every] + drawn))


def overrides_of(row: Combination) -> dict[str, Any]:
    """Return the settings of a combination."""
    found = dict(BASE)
    for table, name in zip(TABLES.values(), row, strict=True):
        found |= table[name]
    if found["scenario.algorithm"] in ("modest", "fedavg"):
        del found["local.epochs"]
        if found["scenario.algorithm"] == "fedavg":
            (
                found.pop("topology.kind"),
                found.pop("topology.degree", None),
                found.pop("topology.probability", None),
            )
    return {key: value for key, value in found.items() if value is not None}


def tried(row: Combination, folder: Path, engine: str = "virtual") -> tuple[str, Any]:
    """Return ("ran", summary), ("refused", sentence) or ("broken", what)."""
    try:
        result = scenarios.run(
            "quickstart",
            engine=engine,
            out=folder,
            force=True,
            seed=1,
            overrides=overrides_of(row),
            report=False,
        )
    except UserError as error:
        sentence = str(error)
        if error.exit_code != ExitCode.USAGE or "\n" in sentence or not sentence:
            return "broken", f"exit code {int(error.exit_code)}: {sentence}"
        return "refused", sentence
    except Exception:
        return "broken", traceback.format_exc(limit=-4)
    wrong = not_finite(result.summary, "summary")
    if wrong:
        return "broken", f"not finite: {', '.join(wrong)}"
    if result.summary["bytes"]["payload"] <= 0 and row[1] not in SILENT:
        return "broken", "nothing was sent"
    return "ran", result.summary


def not_finite(value: Any, where: str) -> list[str]:
    """Return where in a summary numbers are not finite."""
    if isinstance(value, Mapping):
        return [found for key, each in value.items() for found in not_finite(each, f"{where}.{key}")]
    if isinstance(value, (list, tuple)):
        return [found for each in value for found in not_finite(each, where)]
    return [where] if isinstance(value, float) and not math.isfinite(value) else []


def settled(row: Combination) -> bool:
    """Return whether what is sent hangs on nothing but the seed: rounds, in which nobody is late.

    Noise is another in every run, and takes other room where codes are compressed.
    """
    of = dict(zip(TABLES, row, strict=True))
    noisy = of["privacy"] not in ("none", "dp-sgd, spent") and "zstd" in of["codec"]
    return of["protocol"].startswith("rounds") and of["else"] in ("nothing", "own tests") and not noisy


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
    parser.add_argument("--every", type=int, default=1, help="try every so-manieth pair only")
    parser.add_argument("--random", type=int, default=0, help="combinations beside those of pairs")
    parser.add_argument("--processes", type=int, default=12, help="how many are run by real nodes, too")
    parser.add_argument("--json", action="store_true", help="rows as JSON")
    parser.add_argument("--smoke", action="store_true", help="a few in the virtual engine: does it run?")
    given = parser.parse_args(arguments)
    if given.smoke:
        given.every, given.random, given.processes = 400, 2, 0
    logging.disable(logging.WARNING)
    try:
        return _walk(given)
    finally:
        logging.disable(logging.NOTSET)


def _walk(given: argparse.Namespace) -> int:
    rows = combinations(given.seed, extra=given.random, every=given.every)
    verdicts, ran, counts = Verdicts("combinations"), [], Counter()
    with tempfile.TemporaryDirectory() as folder:
        for row in rows:
            what, said = tried(row, Path(folder) / "virtual")
            counts[what] += 1
            if what == "ran":
                ran.append((row, said))
            elif what == "broken":
                verdicts.add(Row(" | ".join(row), {}, [said]))
        verdicts.add(Row("in the virtual engine", {key: str(counts[key]) for key in ("ran", "refused")}))
        ran = [(row, said) for row, said in ran if row[1] != "fedavg"]  # which no real node runs
        chosen = random.Random(given.seed).sample(ran, min(given.processes, len(ran)))
        for row, virtual in chosen:
            verdicts.add(beside(row, virtual, Path(folder) / "processes"))
    return verdicts.show(as_json=given.json)


def beside(row: Combination, virtual: Mapping[str, Any], folder: Path) -> Row:
    """Run a combination by real nodes, and compare."""
    what, said = tried(row, folder, "processes")
    name = f"processes: {' | '.join(row)}"
    if what != "ran":
        return Row(name, {}, [f"{what}: {said}"])
    mine, theirs = (int(summary["bytes"]["payload"]) for summary in (virtual, said))
    apart = settled(row) and mine != theirs
    return Row(
        name, {"payload": str(theirs)}, [f"{mine} payload bytes in the virtual engine"] if apart else []
    )


if __name__ == "__main__":
    sys.exit(main())
