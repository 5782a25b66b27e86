"""One neighbour that lies, in gossip learning: what merge rules make of it, with and without a memory.

    python tools/reproduce/push_liars.py [--updates 200] [--seeds 0-2] [--partition iid | dirichlet] [--json]
                                         [--smoke]

Six peers that may all push to one another learn handwritten digits in the virtual engine, and each pushes to one
neighbour in a period (`fanout` 1), unless a row says otherwise. One of them lies: it trains nothing, knows the honest
peers' models, and pushes to all of them in each period, which is five times as often as they hear each other. Columns:

    none                nobody lies; the sixth peer is as honest as the others
    sign-flip, huge     the opposite of an honest model; huge: and says that it is 2^40 updates old, its 2^53th
    gaussian            N(0, 1) noise
    ipm                 minus a tenth of the honest mean, or minus the mean (ipm 1)
    alie                the honest mean less 1.5 standard deviations
    zeros               a model of zeros
    stale               the first model that an honest peer had trained, over and over, as old as the oldest

Figures are accuracies on the test set, mean over the five honest peers (those of the same places where nobody lies) and
the seeds, and that of the worst peer of all.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gossip.protocols.base import Context, Message, PeerId
from gossip.protocols.push.ages import AGE_MAX
from gossip.protocols.push.messages import PushMessage
from gossip.protocols.push.protocol import Push
from scenarios import scenario as scenario_files
from scenarios.processes.averages import load_task
from scenarios.sweep import parse_seeds
from scenarios.virtual.engine import VirtualRun
from scenarios.virtual.quiet import quiet_collector

PEERS = 6
HUGE = 2**53
ATTACKS = ("none", "sign-flip", "huge", "gaussian", "ipm", "ipm 1", "alie", "zeros", "stale")
PARTITIONS = {"iid": {"kind": "iid"}, "dirichlet": {"kind": "dirichlet", "alpha": 0.5}}
SCENARIO = {
    "scenario.peers": PEERS,
    "scenario.algorithm": "gossip-learning",
    "topology.kind": "full",
    "local.epochs": 1,
    "local.lr": 0.1,
}
MEMORY = {"protocol.memory": 10}
ROWS: dict[str, dict[str, Any]] = {
    "average": {},
    "average, memory": MEMORY,
    "median f=1, memory": {"merge.kind": "median", "merge.f": 1, **MEMORY},
    "trimmed-mean, memory": {"merge.kind": "trimmed-mean", "merge.f": 1, **MEMORY},
    "nnm+trimmed-mean, memory": {"merge.kind": "nnm+trimmed-mean", "merge.f": 1, **MEMORY},
    "nna, memory": {"merge.kind": "nna", "merge.f": 1, **MEMORY},
    "cs-plus, memory": {"merge.kind": "cs-plus", "merge.f": 1, **MEMORY},
    "nnm+trimmed-mean, fanout 0": {
        "merge.kind": "nnm+trimmed-mean",
        "merge.f": 1,
        "protocol.fanout": 0,
    },
}


class Unmeasured:
    """Evaluates nothing."""

    def round_completed(self, peer: object, event: object, now_s: float | None = None) -> bool:
        return False


class Liar(Push):
    """Trains nothing, and pushes to everybody once a period what is made of the honest peers' models."""

    run: VirtualRun
    attack: str
    rng: np.random.Generator
    lies = 0
    old: Any = None

    def on_start(self, ctx: Context) -> None:
        ctx.set_timer("lie", 0.3 * self._settings.period_s)

    def on_peer(self, ctx: Context, peer: PeerId, up: bool) -> None:
        pass

    def on_message(self, ctx: Context, sender: PeerId, message: Message) -> None:
        pass

    def on_timer(self, ctx: Context, key: str) -> None:
        honest = [peer.protocol for peer in self.run.simulation.peers if peer.protocol is not self]
        age = max(max(peer.ages) for peer in honest)  # type: ignore[attr-defined]
        if all(peer._finished for peer in honest):  # type: ignore[attr-defined]
            return
        self.lies += 1
        model = self._model_to_send([peer.model for peer in honest], age)  # type: ignore[attr-defined]
        if model is not None:
            huge = self.attack == "huge"
            message = PushMessage(
                round=HUGE if huge else self.lies, age=AGE_MAX if huge else age, model=model
            )
            for victim in sorted(ctx.contacts):
                ctx.send(victim, message)
        ctx.set_timer("lie", self._settings.period_s)

    def _model_to_send(self, models: list[Any], age: int) -> Any:
        if not age:
            return None
        if self.attack == "stale":
            self.old = self.old or models[0]
            return self.old
        # The own model only lends what never travels.
        return self.run.learning.craft(self.model, models, self._crafted())

    def _crafted(self) -> Callable[[Tensor], Tensor]:
        """Return the function of the honest models (5, L)."""
        attack, rng = self.attack, self.rng
        crafted: dict[str, Callable[[Tensor], Tensor]] = {
            "sign-flip": lambda honest: -honest[0],
            "huge": lambda honest: -honest[0],
            "gaussian": lambda honest: torch.from_numpy(
                rng.standard_normal(honest.shape[1], dtype=np.float32)
            ),
            "ipm": lambda honest: -0.1 * honest.mean(0),
            "ipm 1": lambda honest: -honest.mean(0),
            "alie": lambda honest: honest.mean(0) - 1.5 * honest.std(0),
            "zeros": lambda honest: torch.zeros_like(honest[0]),
        }
        return crafted[attack]


def measure(values: dict[str, Any], attack: str, seed: int) -> list[float]:
    """Return the accuracies of the five honest peers at the end of one run."""
    settings = scenario_files.load("quickstart", values={**SCENARIO, "scenario.seed": seed, **values})
    run = VirtualRun(settings, load_task(settings), measure=Unmeasured())
    *honest, last = run.simulation.peers
    if attack != "none":
        assert isinstance(last.protocol, Push)
        liar = Liar(settings.protocol, rounds=settings.stop.rounds, model=last.protocol.model)
        liar.run, liar.attack, liar.rng = run, attack, np.random.default_rng(seed)
        last.protocol = liar
    with quiet_collector():
        run.simulation.start()
        run.simulation.run(until_s=2.0 * (settings.stop.rounds + 10) * settings.protocol.period_s)
        assert all(peer.finished for peer in honest)
        evaluations = run.learning.evaluate([peer.protocol.model for peer in honest])  # type: ignore[attr-defined]
    return [evaluation.score for evaluation in evaluations]


def main(arguments: Sequence[str]) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--seeds", default="0-2")
    parser.add_argument("--partition", choices=sorted(PARTITIONS), default="dirichlet")
    parser.add_argument("--attacks", nargs="+", choices=ATTACKS, default=ATTACKS)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="one row, two updates: to see that it works")
    options = parser.parse_args(arguments)
    if options.smoke:
        options.updates, options.seeds, options.attacks = 2, "0", ATTACKS
        options.rows = ["nnm+trimmed-mean, memory"]
    torch.set_num_threads(1)
    seeds = parse_seeds(options.seeds)
    results = []
    if not options.json:
        print(f"{'':28}" + "".join(f"{attack:>14}" for attack in options.attacks))
    for row in options.rows:
        shown = f"{row:28}"
        for attack in options.attacks:
            values = {
                "data.partition": PARTITIONS[options.partition],
                "stop.rounds": options.updates,
                **ROWS[row],
            }
            found = [measure(values, attack, seed) for seed in seeds]
            mean, least = fmean(map(fmean, found)), min(map(min, found))
            results.append({"row": row, "attack": attack, "mean": mean, "min": least})
            shown += f"   {mean:.3f}/{least:.3f}"
        if not options.json:
            print(shown, flush=True)
    if options.json:
        print(json.dumps(results))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
