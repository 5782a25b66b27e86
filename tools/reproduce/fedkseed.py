"""A base of five digits tuned to ten in a seed space of 1024 numbers: by gradients, and by two losses a step.

    python tools/reproduce/fedkseed.py [--seeds 0-2] [--out runs/fedkseed] [--base FILE] [--smoke] [--json]

The scenario `fedkseed` (10 peers, Dirichlet 1.0) in the virtual engine: ten steps a round by the network's gradient, or
200 by `spsa`, which passes forward alone.
Columns: mean accuracy of the peers' own models, of the worst peer, in %, means over the seeds; bytes a message and of
all that a peer sends in a round. Finished runs are not done again. With `--base` the base is trained anew, on the
training images of the digits 0 to 4, and written to FILE. The exit status is 1 where a message of the seed space has
more than 4200 bytes, or tuning does not come above what the base can know of ten digits by 20 points.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy

from gossip.learning import models
from gossip.learning.data.digits import digits
from gossip.learning.settings import ModelSettings
from scenarios import sweep

METHODS: Mapping[str, Mapping[str, str]] = {
    "gradients": {},
    "two losses a step": {
        "local.optimizer": "{ kind = 'spsa', epsilon = 0.01 }",
        "local.steps": "200",
        "local.lr": "3.0",
    },
}
SMOKE = {"stop.rounds": "2", "scenario.peers": "6", "model.adapter.size": "64", "local.steps": "3"}
BYTES_MAX = 4200
BASE_SHARE = 0.5
"""Of ten digits, of which the base knows five."""
POINTS_MIN = 20.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return 1 where messages are too large or tuning does too little."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="0-2")
    parser.add_argument("--out", type=Path, default=Path("runs/fedkseed"))
    parser.add_argument("--base", type=Path, help="train the base anew, and write it there")
    parser.add_argument("--smoke", action="store_true", help="two rounds of six peers: does it run?")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.base is not None:
        save_file(base(), options.base)
    out = Path(tempfile.mkdtemp(prefix="fedkseed-")) if options.smoke else options.out
    seeds = sweep.parse_seeds("0" if options.smoke else options.seeds)
    rows = {}
    for method, settings in METHODS.items():
        axes = {**settings, **(SMOKE if options.smoke else {})}
        said = [f"{key}={value}" for key, value in axes.items()]
        runs = sweep.plan("fedkseed", "virtual", said, seeds, out)
        for _ in sweep.carry_out(runs, jobs=0 if options.smoke else None, tell=sweep.tell_line):
            pass
        rows[method] = _row([json.loads((run.folder / "summary.json").read_text()) for run in runs])
    if options.json:
        print(json.dumps(rows))
    else:
        for method, row in rows.items():
            print(
                f"{method:24} mean {row['mean']:.1f}  worst {row['worst']:.1f}  {row['message_bytes']:.0f} bytes a "
                f"message, {row['round_bytes']:.0f} a round"
            )
    ours = rows["gradients"]
    held = ours["message_bytes"] <= BYTES_MAX and ours["mean"] >= 100 * BASE_SHARE + POINTS_MIN
    return 0 if held or options.smoke else 1


def base(steps: int = 300) -> dict[str, torch.Tensor]:
    """Return the tensors of the `mlp` trained on the digits 0 to 4, all of a mini-batch."""
    data = digits()
    known = data["y_train"] < 5
    x, y = torch.from_numpy(data["x_train"][known]), torch.from_numpy(data["y_train"][known])
    network = models.build(ModelSettings(), tuple(x.shape[1:]), 10, seed=0, folder=Path())
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropy(network(x), y).backward()
        optimizer.step()
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def _row(runs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    messages = [run["messages"]["by_type"]["model"] for run in runs]
    return {
        "mean": 100 * fmean(run["accuracy"]["mean"] for run in runs),
        "worst": 100 * fmean(run["accuracy"]["min"] for run in runs),
        "message_bytes": fmean(
            run["bytes"]["by_type"]["model"] / count for run, count in zip(runs, messages, strict=True)
        ),
        "round_bytes": fmean(run["bytes"]["per_peer_mean"] / run["rounds"] for run in runs),
    }


if __name__ == "__main__":
    sys.exit(main())
