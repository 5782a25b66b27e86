"""Models in parts, a quarter in each exchange: what must hold of bytes, of mixing, and of a robust rule under attack.

    python tools/reproduce/small_links_parts.py [--engine virtual] [--seeds 0-4] [--out runs/parts] [--smoke] [--json]

Rows:

    payload   `parts-4` sends a quarter of what `ring-dfedavg` sends
    turns     with as many gossip steps as parts, models are those of one step of whole models, to the bit: in the
              virtual engine after one round (later local updates are computed in other stacks, which rounds otherwise),
              with real processes after all
    robust    nnm+trimmed-mean with f = 4 among 20 peers, four of which send ALIE's models (real processes: the opposite
              of theirs, for they know nobody else's): four parts in four steps are as good as whole models in one
    quarter   the same with four parts in one step, a quarter of the bytes: less is mixed, and the attack costs no more

The exit status is 1 where a row does not hold.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import safetensors.torch
import torch

import scenarios
from scenarios import sweep

RATIO_MIN = 3.9
WITHIN = 1.0
"""Points of accuracy."""

Values = Mapping[str, Any]
SMALL: Values = {"scenario.peers": 8}
"""Of runs whose bytes or bits are compared: their figures do not depend on how many peers there are."""


class Row(NamedTuple):
    """One line of the table."""

    name: str
    must: str
    measured: str
    ok: bool


class Runs(NamedTuple):
    """Where and how scenarios are run."""

    engine: str
    seeds: Sequence[int]
    out: Path
    smoke: bool

    def folder(self, name: str, seed: int) -> Path:
        """Return where a run lies."""
        return self.out / f"{name}-{seed}-{self.engine}"

    def run(self, name: str, values: Values, *, seed: int) -> dict[str, Any]:
        """Run `ring-dfedavg` with other values and return its summary; one that is finished is not run again."""
        folder = self.folder(name, seed)
        told = folder / "summary.json"
        if not told.exists():
            scenarios.run(
                "ring-dfedavg",
                engine=self.engine,
                seed=seed,
                out=folder,
                force=True,
                report=False,
                overrides=dict(values),
            )
        summary: dict[str, Any] = json.loads(told.read_text())
        return summary

    def models(self, name: str, *, seed: int) -> list[torch.Tensor]:
        """Return the peers' models of a run, by name, as vectors."""
        found = []
        for peer in sorted((self.folder(name, seed) / "peers").iterdir()):
            saved = safetensors.torch.load_file(peer / "model.safetensors")
            found.append(torch.cat([saved[key].flatten() for key in sorted(saved)]))
        return found


def payload(runs: Runs) -> Row:
    """Bytes of tensors, all peers together."""
    few = {**SMALL, "stop.rounds": 4, "local.epochs": 1}
    seed = runs.seeds[0]
    whole = runs.run("whole", few, seed=seed)["bytes"]["payload"]
    parts = runs.run("parts", {**few, "protocol.parts": 4}, seed=seed)["bytes"]["payload"]
    ratio = whole / parts
    return Row("payload", f"at least {RATIO_MIN} times less", f"{ratio:.2f} times less", ratio >= RATIO_MIN)


def turns(runs: Runs) -> Row:
    """The largest difference between any two numbers of the models."""
    values = {**SMALL, "local.epochs": 1, "stop.rounds": 1 if runs.engine == "virtual" else 4}
    seed = runs.seeds[0]
    runs.run("one-step", values, seed=seed)
    runs.run("in-turn", {**values, "protocol.parts": 4, "protocol.gossip_steps": 4}, seed=seed)
    apart = max(
        float((one - other).abs().max())
        for one, other in zip(
            runs.models("one-step", seed=seed), runs.models("in-turn", seed=seed), strict=True
        )
    )
    return Row("turns", "no difference", f"largest difference {apart:g}", apart == 0)


def attacked(runs: Runs, name: str, *, attackers: int = 4, **more: Any) -> float:
    """Return the mean accuracy of the honest peers in %, over the seeds."""
    values = {
        "topology.kind": "full",
        "merge.kind": "nnm+trimmed-mean",
        "merge.f": 4,
        "local.epochs": 1,
        "stop.rounds": 4 if runs.smoke else 60,
        **{f"protocol.{key}": value for key, value in more.items()},
    }
    if runs.engine == "processes":
        # Twenty processes on a few cores are late now and then, which is not what is compared.
        values |= {"protocol.deadline_floor_s": 30.0, "protocol.deadline_share": 1.0}
    if attackers:
        values["attack.kind"] = "alie" if runs.engine == "virtual" else "sign-flip"
        values["attack.count"] = attackers
    told = [runs.run(name, values, seed=seed) for seed in runs.seeds]
    return 100 * fmean(each["accuracy"]["mean"] for each in told)


def robust(runs: Runs) -> Row:
    """The rule judges each part by itself: for the bytes of whole models it is as good."""
    whole = attacked(runs, "robust-whole")
    parts = attacked(runs, "robust-turns", parts=4, gossip_steps=4)
    return Row(
        "robust",
        f"within {WITHIN:g} point of whole models",
        f"whole {whole:.1f} %, parts {parts:.1f} %",
        parts >= whole - WITHIN,
    )


def quarter(runs: Runs) -> Row:
    """For a quarter of the bytes there is less mixing, attack or not; the attack costs no more for it."""
    costs = []
    for name, more in (("whole", {}), ("parts", {"parts": 4})):
        calm = attacked(runs, f"calm-{name}", attackers=0, **more)
        costs.append((calm, attacked(runs, f"robust-{name}", **more)))
    (calm, whole), (calm_parts, parts) = costs
    return Row(
        "quarter",
        f"the attack costs at most {WITHIN:g} point more than with whole models",
        f"whole {calm:.1f} to {whole:.1f} %, parts {calm_parts:.1f} to {parts:.1f} %",
        calm_parts - parts <= calm - whole + WITHIN,
    )


ROWS: Sequence[Callable[[Runs], Row]] = (payload, turns, robust, quarter)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the rows; return 1 where one does not hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", choices=("virtual", "processes"), default="virtual")
    parser.add_argument("--seeds", default="0-4")
    parser.add_argument("--out", type=Path, default=Path("runs/parts"))
    parser.add_argument("--smoke", action="store_true", help="one seed, few rounds: does it run?")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    out = Path(tempfile.mkdtemp(prefix="parts-")) if options.smoke else options.out
    seeds = sweep.parse_seeds("0" if options.smoke else options.seeds)
    rows = []
    for row in ROWS:
        rows.append(row(Runs(options.engine, seeds, out, options.smoke)))
        if not options.json:
            print(
                f"{rows[-1].name:10}{'ok' if rows[-1].ok else 'FAILS':7}{rows[-1].must}: {rows[-1].measured}"
            )
    if options.json:
        print(json.dumps([row._asdict() for row in rows]))
    return 0 if options.smoke or all(row.ok for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
