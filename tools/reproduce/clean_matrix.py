"""Every merge rule under every protocol where nobody lies: what robustness costs, in one table.

    python tools/reproduce/clean_matrix.py [PROTOCOL ...] [--rules RULE ...] [--rounds 40] [--seed 0] [--json]

Handwritten digits, i.i.d., five steps of SGD a round, in the virtual engine. Under `modest` and `fedavg` 40 peers, of
which 4 are sampled; under `rounds` and `push` 12 on a 4-regular graph, and pushes go to all neighbours. Rules that may
be told f are told 1. A cell is the mean accuracy of the peers' own models in %, and how far it is from the average's
under the same protocol; "refused" where such a run does not begin, with the sentence below the table. A rule that is
more than three points below the average is marked with a star, and the exit status is then 1. Krum alone may be five
below: it takes one peer's model, and gives up what averaging gains.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import scenarios
from gossip.errors import SettingError
from gossip.merging.settings import MERGES

ALLOWED = 0.03
ALLOWED_FOR: Mapping[str, float] = {"krum": 0.05}
SAMPLED = {"scenario.peers": 40, "protocol.sample_size": 4}
GRAPH = {"scenario.peers": 12, "topology.kind": "regular", "topology.degree": 4}
PROTOCOLS: Mapping[str, Mapping[str, Any]] = {
    "rounds": GRAPH,
    "push": {**GRAPH, "protocol.fanout": 0},
    "modest": SAMPLED,
    "fedavg": SAMPLED,
}
COMPOSED = ("nnm+trimmed-mean", "arc+nna", "clipping+median", "bucketing+geometric-median")
ALIASES = ("monna", "mozi")
RULES = (*(kind for kind in MERGES.kinds() if kind not in ALIASES), *COMPOSED)
WITHOUT_F = ("average", "variance-corrected", "bristle", "ubar")
EXTRACTOR = {
    "model.name": "linear",
    "model.extractor": "random-features",
    "data.validation_per_class": 3,
}
"""Bristle judges an output layer behind a frozen extractor; the average beside it has the same."""
TOLD: Mapping[str, Mapping[str, Any]] = {
    "centered-clipping": {"tau": 1.0},
    "self-centered-clipping": {"tau": 1.0},
    "clipping+median": {"clip_norm": 1.0},
}


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
        if self.accuracy is None or self.beside is None:
            return False
        return self.accuracy < self.beside - ALLOWED_FOR.get(self.rule, ALLOWED)


def settings_of(rule: str, *, rounds: int) -> dict[str, Any]:
    """Return `[merge]`, and what else the rule needs."""
    told: dict[str, Any] = {"merge.kind": rule}
    if rule not in WITHOUT_F:
        told["merge.f"] = 1
    if rule == "balance":
        told["merge.horizon"] = rounds
    told |= {f"merge.{key}": value for key, value in TOLD.get(rule, {}).items()}
    return told | (EXTRACTOR if rule == "bristle" else {})


def accuracy(protocol: str, values: Mapping[str, Any], *, rounds: int, seed: int) -> float:
    """Return the mean accuracy of the peers' own models at the end of a run."""
    overrides = {
        "protocol.kind": protocol,
        "stop.rounds": rounds,
        "evaluate.every": rounds,
        **PROTOCOLS[protocol],
        **values,
    }
    with tempfile.TemporaryDirectory() as folder:
        result = scenarios.run(
            "modest", overrides=overrides, seed=seed, out=Path(folder) / "run", report=False
        )
    return float(result.summary["accuracy"]["mean"])


def cells(
    protocols: Iterable[str], rules: Sequence[str], *, rounds: int, seed: int, more: Mapping[str, Any]
) -> Iterable[Cell]:
    """Yield a cell for each rule and protocol; `more` are settings of all runs."""
    for protocol in protocols:
        averages: dict[bool, float] = {}
        for rule in rules:
            behind = rule == "bristle"
            if behind not in averages:
                plain = {"merge.kind": "average", **(EXTRACTOR if behind else {}), **more}
                averages[behind] = accuracy(protocol, plain, rounds=rounds, seed=seed)
            beside = averages[behind]
            if rule == "average":
                yield Cell(rule, protocol, beside, beside)
                continue
            try:
                values = {**settings_of(rule, rounds=rounds), **more}
                yield Cell(rule, protocol, accuracy(protocol, values, rounds=rounds, seed=seed), beside)
            except SettingError as error:
                yield Cell(rule, protocol, beside=beside, refusal=str(error))


def shown(found: Sequence[Cell]) -> str:
    """Return the table, and the sentences of what was refused."""
    protocols = list(dict.fromkeys(cell.protocol for cell in found))
    lines = [f"{'':28}" + "".join(f"{protocol:>16}" for protocol in protocols)]
    for rule in dict.fromkeys(cell.rule for cell in found):
        row = {cell.protocol: cell for cell in found if cell.rule == rule}
        lines.append(f"{rule:28}" + "".join(f"{_text(row[protocol]):>16}" for protocol in protocols))
    lines += [f"{cell.rule} under {cell.protocol}: {cell.refusal}" for cell in found if cell.refusal]
    return "\n".join(lines)


def _text(cell: Cell) -> str:
    if cell.accuracy is None or cell.beside is None:
        return "refused"
    return f"{100 * cell.accuracy:.1f} {100 * (cell.accuracy - cell.beside):+.1f}{'*' if cell.fell else ' '}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return 1 where a rule falls behind."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("protocols", nargs="*", metavar="PROTOCOL", help=", ".join(PROTOCOLS))
    parser.add_argument("--rules", nargs="+", choices=RULES, default=RULES, metavar="RULE")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    unknown = set(options.protocols) - set(PROTOCOLS)
    if unknown:
        parser.error(f"unknown protocol {', '.join(sorted(unknown))}; valid: {', '.join(PROTOCOLS)}")
    found = []
    for cell in cells(
        options.protocols or PROTOCOLS, options.rules, rounds=options.rounds, seed=options.seed, more={}
    ):
        found.append(cell)
        print(f"{cell.protocol} {cell.rule}: {_text(cell)}", file=sys.stderr, flush=True)
    print(json.dumps([asdict(cell) for cell in found]) if options.json else shown(found))
    return int(any(cell.fell for cell in found))


if __name__ == "__main__":
    sys.exit(main())
