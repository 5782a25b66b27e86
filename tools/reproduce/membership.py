"""Was this sample among its data? An attack on what a peer sends, with noise and without.

    python tools/reproduce/membership.py [--rounds 30] [--samples 40] [--seeds 0-2] [--json] [--smoke]

Ten peers on a ring learn handwritten digits, each from few samples of its own, so that its models fit these better than
others. A neighbour sees the model that a peer sends in the last round, and says of a sample "it was among yours" where
its loss is below a threshold (Yeom, Giacomelli, Fredrikson, Jha, CSF 2018). Members are the peer's training samples;
the others are as many of every peer's on which nobody trains, drawn from the same digits: the common test samples are
other writers', and harder for any model. Columns:

    advantage   true positive rate less false positive rate. The threshold is the best one on the peers of even places,
                and the figure is of those of odd places: 0 is a guess, 1 is certainty
    AUC         the chance that a member's loss is below a non-member's, over all peers: 0.5 is a guess
    accuracy    of the peers' models on the test samples
    ε           that the ledger tells at the end, at δ = 1e-3
    bound       on the advantage of any attack at all on one sample, by that ε and δ: (e^ε - 1 + 2δ) / (e^ε + 1), which
                the definition of differential privacy leaves (Kairouz, Oh, Viswanath, ICML 2015)

The attack is a weak one, and what it fails at proves nothing: the bound does. Rows differ between two runs of one seed,
since noise is nobody's to repeat.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from gossip.learner import Learner
from gossip.learning.settings import DataSettings, IidPartition, LocalSettings, ModelSettings
from gossip.learning.task import Task
from gossip.merging.settings import AverageSettings
from gossip.privacy.settings import PrivacySettings
from gossip.protocols.base import Contribution, GossipStep
from scenarios.sweep import parse_seeds

PEERS = 10
DELTA = 1e-3
LOCAL = LocalSettings(lr=0.3, steps=20, batch_size=8)
ROWS: dict[str, dict[str, Any]] = {
    "plain": {},
    "clipped only": {"clip": 1.0, "noise": 1e-6},
    "σ = 0.5": {"clip": 1.0, "noise": 0.5},
    "σ = 1": {"clip": 1.0, "noise": 1.0},
    "σ = 2": {"clip": 1.0, "noise": 2.0},
    "σ = 4": {"clip": 1.0, "noise": 4.0},
    "σ = 8": {"clip": 1.0, "noise": 8.0},
}


class Losses(NamedTuple):
    """Of one peer's last model."""

    members: np.ndarray
    others: np.ndarray
    accuracy: float
    epsilon: float | None


def learn(privacy: PrivacySettings, *, seed: int, rounds: int, samples: int) -> list[Losses]:
    """Return the losses by the model that each peer sends in the last round."""
    task = Task(
        data=DataSettings(partition=IidPartition(), train_max=2 * PEERS * samples, own_test=0.5),
        model=ModelSettings(hidden=(64,)),
        local=LOCAL,
        seed=seed,
        folder=Path.cwd(),
        rounds=rounds,
        privacy=privacy,
    )
    merge = AverageSettings()
    group = [
        Learner(task, peer=f"p{k}", position=k, peers=PEERS, merge=merge.load()(merge)) for k in range(PEERS)
    ]
    models = [learner.initial() for learner in group]
    sent: list[Tensor] = []
    learned = task.space.learned_size
    for round in range(rounds):
        sent = [learner.train(own, round=round).model for learner, own in zip(group, models, strict=True)]
        models = [
            learner.merge(
                sent[k],
                1 / 3,
                [Contribution(f"p{j % PEERS}", sent[j % PEERS][:learned], 1 / 3) for j in (k - 1, k + 1)],
                at=GossipStep(round),
            )
            for k, learner in enumerate(group)
        ]
    kept = [learner.own_test for learner in group if learner.own_test is not None]
    x, y = torch.cat([each.x[:] for each in kept]), torch.cat([each.y for each in kept])
    return [losses_of(task, learner, model, x, y) for learner, model in zip(group, sent, strict=True)]


def losses_of(task: Task, learner: Learner, model: Tensor, x_others: Tensor, y_others: Tensor) -> Losses:
    """Return what an attacker sees of one peer; the others are samples on which nobody trains."""
    forward = task.forward_on("cpu")
    forward.module.eval()
    split = task.space.trained_size

    def by_sample(x: Tensor, y: Tensor) -> np.ndarray:
        with torch.no_grad():
            return cross_entropy(forward(model[:split], model[split:], x), y, reduction="none").numpy()

    x, y = learner.shard.x[:], learner.shard.y
    return Losses(
        by_sample(x, y),
        by_sample(x_others, y_others),
        task.evaluate(model).score,
        None if learner.budget is None else learner.budget.epsilon,
    )


def advantage(chosen_by: Sequence[Losses], judged: Sequence[Losses]) -> float:
    """Return TPR - FPR on `judged` of the threshold that is best on `chosen_by`."""
    members = np.concatenate([each.members for each in chosen_by])
    others = np.concatenate([each.others for each in chosen_by])
    thresholds = np.concatenate([members, others])
    rates = [(members <= t).mean() - (others <= t).mean() for t in thresholds]
    best = thresholds[int(np.argmax(rates))]
    return fmean((each.members <= best).mean() - (each.others <= best).mean() for each in judged)


def auc(losses: Losses) -> float:
    """Return how often a member's loss is below a non-member's."""
    below = losses.members[:, None] < losses.others[None]
    even = losses.members[:, None] == losses.others[None]
    return float(below.mean() + even.mean() / 2)


def bound(epsilon: float) -> float:
    """Return the largest advantage that (ε, δ) leaves anybody."""
    return 1.0 if epsilon > 50 else min(1.0, (math.expm1(epsilon) + 2 * DELTA) / (math.exp(epsilon) + 1))


def row_of(name: str, found: Sequence[Sequence[Losses]]) -> dict[str, Any]:
    """Return the figures of a row, of the runs of all seeds."""
    everybody = [each for run in found for each in run]
    epsilon = everybody[0].epsilon
    return {
        "row": name,
        "advantage": fmean(advantage(run[::2], run[1::2]) for run in found),
        "auc": fmean(map(auc, everybody)),
        "accuracy": fmean(each.accuracy for each in everybody),
        "epsilon": epsilon,
        "bound": 1.0 if epsilon is None else bound(epsilon),
    }


def main(arguments: Sequence[str]) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--samples", type=int, default=40, help="of each peer")
    parser.add_argument("--seeds", default="0-2")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="two rows, one round: to see that it works")
    options = parser.parse_args(arguments)
    rows = dict(ROWS)
    if options.smoke:
        options.rounds, options.seeds = 1, "0"
        rows = {name: ROWS[name] for name in ("plain", "σ = 1")}
    torch.set_num_threads(1)
    results = []
    if not options.json:
        print(f"{'':14}{'advantage':>10}{'AUC':>8}{'accuracy':>10}{'ε':>12}{'bound':>8}")
    for name, settings in rows.items():
        privacy = PrivacySettings(
            **({"kind": "dp-sgd", "delta": DELTA, "epsilon_max": 1e60, **settings} if settings else {})
        )
        found = [
            learn(privacy, seed=seed, rounds=options.rounds, samples=options.samples)
            for seed in parse_seeds(options.seeds)
        ]
        row = row_of(name, found)
        results.append(row)
        if not options.json:
            spent = "–" if row["epsilon"] is None else f"{row['epsilon']:.3g}"
            print(
                f"{name:14}{row['advantage']:10.3f}{row['auc']:8.3f}{row['accuracy']:10.3f}{spent:>12}{row['bound']:8.3f}",
                flush=True,
            )
    if options.json:
        print(json.dumps(results))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
