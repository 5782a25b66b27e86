"""Codecs that need something of the receiver, beside others of equal bytes: top-change and CHOCO, on a ring.

    python tools/reproduce/small_links_partial.py [--seeds 0-4] [--out runs/small-links-partial] [--smoke] [--only NAME]

Twenty peers on a ring, digits, Dirichlet 0.3, ten steps a round, 60 rounds (`top-change`, `choco-int4`), in the virtual
engine. Each row is a function that says what must hold and what was measured. A quarter of the numbers by top-change
takes 1.125 bytes a number, and parts of four take 1: so the share that is set beside parts is a fifth, whose 0.925
bytes, with a first message that is whole, are below those of the parts. Finished runs are not done again. The exit
status is 1 where something does not hold.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from gossip.errors import SettingError
from scenarios import sweep
from scenarios.scenario import load

AHEAD_MIN = 3.0
"""Points by which top-change is to be above parts."""
BEHIND_MAX = 0.3
"""Points by which CHOCO may be below float32."""
KILLED = "faults.list=[{at = 200.0, do = 'crash', peers = [7]}, {at = 230.0, do = 'restart', peers = [7]}]"
SLOW = "compute.seconds_per_sample=0.05"
"""A round takes eight seconds: the peer is gone for some of them."""


class Row(NamedTuple):
    """One thing that is to hold."""

    name: str
    must: str
    measured: str
    ok: bool


class Runs:
    """The runs of one call.

    Args:
        seeds: of each setting.
        out: their folder.
        smoke: four rounds of eight peers: does it run?
    """

    def __init__(self, seeds: Sequence[int], out: Path, *, smoke: bool) -> None:
        self._seeds = seeds
        self._out = out
        self._more = ["stop.rounds=4", "scenario.peers=8"] if smoke else []
        self._smoke = smoke

    def of(self, scenario: str, *settings: str) -> dict[str, float]:
        """Return means over the seeds: accuracy of the peers' own models and of the worst, in %, and megabytes sent."""
        runs = sweep.plan(scenario, "virtual", [*settings, *self._more], self._seeds, self._out)
        for _ in sweep.carry_out(runs, jobs=0 if self._smoke else None, tell=sweep.tell_line):
            pass
        told: list[dict[str, Any]] = [json.loads((run.folder / "summary.json").read_text()) for run in runs]
        return {
            "mean": 100 * fmean(each["accuracy"]["mean"] for each in told),
            "worst": 100 * fmean(each["accuracy"]["min"] for each in told),
            "merged": 100 * fmean(each["accuracy_of_mean"] for each in told),
            "megabytes": fmean(each["bytes"]["payload"] for each in told) / 1e6,
        }


def shown(name: str, run: dict[str, float]) -> str:
    """Return a run for people."""
    return f"{name} {run['mean']:.1f} / {run['worst']:.1f} / {run['merged']:.1f} at {run['megabytes']:.1f} MB"


def top_change_beside_parts(runs: Runs) -> Row:
    """At no more bytes, the largest changes are worth more than a part in turn."""
    parts = runs.of("top-change", "codec.kind=float32", "protocol.parts=4")
    ours, quarter = runs.of("top-change", "codec.share=0.2"), runs.of("top-change")
    dense = runs.of("top-change", "codec.kind=float32")
    ahead = ours["mean"] - parts["mean"]
    told = [("a fifth", ours), ("a quarter", quarter), ("parts of four", parts), ("all numbers", dense)]
    return Row(
        "top-change beside parts",
        f">= {AHEAD_MIN:g} points above parts of four at no more bytes",
        f"{ahead:+.1f}; local / worst / merged: " + "; ".join(shown(*each) for each in told),
        ahead >= AHEAD_MIN and ours["megabytes"] <= parts["megabytes"],
    )


def top_change_with_a_median(runs: Runs) -> Row:
    """A median of rows that are mostly own mixes nothing."""
    try:
        load("top-change", values={"merge.kind": "median"})
        said = "taken"
    except SettingError as error:
        said = str(error)
    ok = "nothing to mix" in said and "\n" not in said and said.count(". ") == 0
    return Row("top-change with median", "refused in one sentence", said, ok)


def choco_beside_float32(runs: Runs) -> Row:
    """Four bits of every change end where float32 does."""
    ours, dense = runs.of("choco-int4"), runs.of("choco-int4", "codec.kind=float32")
    values = runs.of("choco-int4", "codec.kind=int4")
    behind = dense["mean"] - ours["mean"]
    told = [("choco", ours), ("float32", dense), ("int4 of the models", values)]
    return Row(
        "choco-int4 beside float32",
        f"within {BEHIND_MAX:g} points",
        f"{-behind:+.2f}; local / worst / merged: " + "; ".join(shown(*each) for each in told),
        behind <= BEHIND_MAX,
    )


def choco_with_a_kill(runs: Runs) -> Row:
    """A peer that is killed and comes back costs its links a whole model each, and nothing else."""
    ours = runs.of("choco-int4", KILLED, SLOW)
    dense = runs.of("choco-int4", "codec.kind=float32", KILLED, SLOW)
    behind = dense["mean"] - ours["mean"]
    return Row(
        "choco-int4, a peer killed and back",
        f"within {BEHIND_MAX:g} points of float32 with the same kill",
        f"{-behind:+.2f}; local / worst / merged: {shown('choco', ours)}; {shown('float32', dense)}",
        behind <= BEHIND_MAX,
    )


def choco_gamma(runs: Runs) -> Row:
    """What diverges is refused."""
    try:
        load("choco-int4", values={"codec.compress": "top", "codec.gamma": 1.0})
        said = "taken"
    except SettingError as error:
        said = str(error)
    return Row("choco, top with gamma = 1", "refused in one sentence", said, "diverges" in said)


ROWS: tuple[Callable[[Runs], Row], ...] = (
    top_change_beside_parts,
    top_change_with_a_median,
    choco_beside_float32,
    choco_with_a_kill,
    choco_gamma,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the rows; return 1 where one does not hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="0-4")
    parser.add_argument("--out", type=Path, default=Path("runs/small-links-partial"))
    parser.add_argument(
        "--smoke", action="store_true", help="four rounds, eight peers, one seed: does it run?"
    )
    parser.add_argument("--only", default="", help="rows whose function's name contains this")
    options = parser.parse_args(arguments)
    out = Path(tempfile.mkdtemp(prefix="small-links-")) if options.smoke else options.out
    runs = Runs(sweep.parse_seeds("0" if options.smoke else options.seeds), out, smoke=options.smoke)
    failed = 0
    for row in ROWS:
        if options.only not in row.__name__:
            continue
        name, must, measured, ok = row(runs)
        failed += not ok
        print(f"{'holds' if ok else 'FAILS'}  {name}: {must}\n       {measured}", flush=True)
    return 1 if failed and not options.smoke else 0


if __name__ == "__main__":
    sys.exit(main())
