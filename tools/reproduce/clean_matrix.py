"""Every merge rule under every protocol where nobody lies: what robustness costs, in one table.

    python tools/reproduce/clean_matrix.py [PROTOCOL ...] [--rules RULE ...] [--compositions] [--rounds 40]
                                           [--seeds 0-2] [--json] [--smoke]

Handwritten digits, i.i.d., five steps of SGD a round, in the virtual engine. Under `modest` and `fedavg` 40 peers, of
which 4 are sampled; under `rounds` and `push` 12 on a 4-regular graph, and pushes go to all neighbours. Rules that may
be told f are told 1. A cell is the mean accuracy of the peers' own models in %, over the seeds, and how far it is from
the average's under the same protocol; "refused" where such a run does not begin, with the sentence below the table. A
rule that is more than three points below the average is marked with a star, and the exit status is then 1.

Rows: all rules and their second names, some with settings of their own (`VARIANTS`), and some compositions; with
`--compositions`, each pre-aggregation before each rule that takes it, and nothing else.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import scenarios
from gossip.errors import SettingError
from gossip.merging.robust.settings import PRE_AGGREGATION_NAMES, RobustSettings
from gossip.merging.settings import MERGES
from scenarios.sweep import parse_seeds

ALLOWED = 0.03
SAMPLED = {"scenario.peers": 40, "protocol.sample_size": 4}
GRAPH = {"scenario.peers": 12, "topology.kind": "regular", "topology.degree": 4}
PROTOCOLS: Mapping[str, Mapping[str, Any]] = {
    "rounds": GRAPH,
    "push": {**GRAPH, "protocol.fanout": 0},
    "modest": SAMPLED,
    "fedavg": SAMPLED,
}
WITHOUT_F = ("average", "variance-corrected", "bristle", "ubar", "mozi", "product", "lora-fair")
EXTRACTOR = {
    "model.name": "linear",
    "model.extractor": "random-features",
    "data.validation_per_class": 3,
}
"""Bristle judges an output layer behind a frozen extractor; the average beside it has the same."""
COMPOSED = (
    "nnm+trimmed-mean",
    "nnm+krum",
    "arc+trimmed-mean",
    "arc+nna",
    "clipping+median",
    "nnm+clipping+median",
    "bucketing+krum",
    "bucketing+geometric-median",
)
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "krum, half of own": {"kind": "krum", "own_share": 0.5},
    "centered-clipping, 3 steps": {"kind": "centered-clipping", "iterations": 3},
    "self-centered-clipping, tau 1": {"kind": "self-centered-clipping", "tau": 1.0},
    "cs-plus, half a step": {"kind": "cs-plus", "eta": 0.5},
    "ubar, nothing of own": {"kind": "ubar", "alpha": 0.0},
    "balance, nothing of own": {"kind": "balance", "alpha": 0.0},
}
RULES: Mapping[str, Mapping[str, Any]] = {
    **{kind: {"kind": kind} for kind in (*MERGES.kinds(), *COMPOSED)},
    **VARIANTS,
}
"""Row -> what `[merge]` says in it, beside what `settings_of` adds."""


SMOKE = ["multi-krum", "bucketing+geometric-median"]
"""One that is merged, and one that is refused."""


def compositions() -> tuple[str, ...]:
    """Return each pre-aggregation before each rule that takes it."""
    return tuple(
        f"{name}+{rule}"
        for name in PRE_AGGREGATION_NAMES
        for rule in MERGES.kinds()
        if issubclass(chosen := MERGES.settings_for(rule), RobustSettings) and name in chosen.takes
    )


@dataclass(frozen=True, slots=True)
class Cell:
    """One run, or why there was none."""

    rule: str
    protocol: str
    accuracy: float | None = None
    beside: float | None = None
    """The average's accuracy."""
    refusal: str = ""

    @property
    def fell(self) -> bool:
        """Whether the rule costs more than is allowed."""
        return self.accuracy is not None and self.beside is not None and self.accuracy < self.beside - ALLOWED


def settings_of(rule: str, *, rounds: int) -> dict[str, Any]:
    """Return `[merge]` of a row, or of any kind, and what else the rule needs."""
    merge = dict(RULES.get(rule, {"kind": rule}))
    *before, last = merge["kind"].split("+")
    if last not in WITHOUT_F:
        merge["f"] = 1
    if last == "balance":
        merge["horizon"] = rounds
    if last == "centered-clipping":
        merge["tau"] = 1.0
    if "clipping" in before:
        merge["clip_norm"] = 1.0
    told = {f"merge.{key}": value for key, value in merge.items()}
    return told | (EXTRACTOR if last == "bristle" else {})


def accuracy(protocol: str, values: Mapping[str, Any], *, rounds: int, seeds: Sequence[int]) -> float:
    """Return the mean accuracy of the peers' own models at the end of a run, over the seeds.

    Raises:
        SettingError: there is no such run.
    """
    overrides = {
        "protocol.kind": protocol,
        "stop.rounds": rounds,
        "evaluate.every": rounds,
        **PROTOCOLS[protocol],
        **values,
    }
    found = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            result = scenarios.run(
                "modest", overrides=overrides, seed=seed, out=Path(folder) / "run", report=False
            )
        found.append(float(result.summary["accuracy"]["mean"]))
    return fmean(found)


def cells(
    protocols: Iterable[str],
    rules: Sequence[str],
    *,
    rounds: int,
    seeds: Sequence[int],
    more: Mapping[str, Any] | None = None,
) -> Iterator[Cell]:
    """Yield a cell for each rule and protocol; `more` are settings of all runs."""
    for protocol in protocols:
        averages: dict[bool, float] = {}
        for rule in rules:
            behind = rule == "bristle"
            if behind not in averages:
                plain = {"merge.kind": "average", **(EXTRACTOR if behind else {}), **(more or {})}
                averages[behind] = accuracy(protocol, plain, rounds=rounds, seeds=seeds)
            beside = averages[behind]
            if rule == "average":
                yield Cell(rule, protocol, beside, beside)
                continue
            values = {**settings_of(rule, rounds=rounds), **(more or {})}
            try:
                yield Cell(rule, protocol, accuracy(protocol, values, rounds=rounds, seeds=seeds), beside)
            except SettingError as error:
                yield Cell(rule, protocol, beside=beside, refusal=str(error))


def shown(found: Sequence[Cell]) -> str:
    """Return the table, and the sentences of what was refused."""
    protocols = list(dict.fromkeys(cell.protocol for cell in found))
    lines = [f"{'':36}" + "".join(f"{protocol:>16}" for protocol in protocols)]
    for rule in dict.fromkeys(cell.rule for cell in found):
        row = {cell.protocol: cell for cell in found if cell.rule == rule}
        lines.append(f"{rule:36}" + "".join(f"{_text(row[protocol]):>16}" for protocol in protocols))
    lines += [f"{cell.rule} under {cell.protocol}: {cell.refusal}" for cell in found if cell.refusal]
    return "\n".join(lines)


def _text(cell: Cell) -> str:
    if cell.accuracy is None or cell.beside is None:
        return "refused"
    return f"{100 * cell.accuracy:.1f} {100 * (cell.accuracy - cell.beside):+.1f}{'*' if cell.fell else ' '}"


def main(arguments: Sequence[str]) -> int:
    """Print the table; return 1 where a rule falls behind."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("protocols", nargs="*", metavar="PROTOCOL", help=", ".join(PROTOCOLS))
    parser.add_argument("--rules", nargs="+", default=list(RULES), metavar="RULE", help="rows, or any kind")
    parser.add_argument("--compositions", action="store_true")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seeds", default="0-2")
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--smoke", action="store_true", help="two rows, two protocols, one round: to see that it works"
    )
    options = parser.parse_args(arguments)
    unknown = set(options.protocols) - set(PROTOCOLS)
    if unknown:
        parser.error(f"unknown protocol {', '.join(sorted(unknown))}; valid: {', '.join(PROTOCOLS)}")
    unknown = {
        rule for rule in options.rules if rule not in RULES and MERGES.choice_of(rule) not in MERGES.kinds()
    }
    if unknown:
        parser.error(
            f"unknown rule {', '.join(sorted(unknown))}; valid: {', '.join(RULES)}, and any composition"
        )
    more: Mapping[str, Any] = {}
    if options.smoke:
        options.rules, options.rounds, options.seeds, more = SMOKE, 1, "0", {"scenario.peers": 8}
        options.protocols = options.protocols or ["rounds", "fedavg"]
    rules = compositions() if options.compositions else options.rules
    found = []
    for cell in cells(
        options.protocols or PROTOCOLS,
        rules,
        rounds=options.rounds,
        seeds=parse_seeds(options.seeds),
        more=more,
    ):
        found.append(cell)
        print(f"{cell.protocol} {cell.rule}: {_text(cell)}", file=sys.stderr, flush=True)
    print(json.dumps([asdict(cell) for cell in found]) if options.json else shown(found))
    # One round says nothing of what a rule costs.
    return int(any(cell.fell for cell in found) and not options.smoke)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
