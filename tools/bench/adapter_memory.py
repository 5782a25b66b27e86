"""What does a frozen base of a billion parameters cost a node that learns adapters beside it? Real nodes, over TLS.

    python tools/bench/adapter_memory.py [--parameters 1000] [--width 4096] [--rank 64] [--json] [--smoke]

A base of so many million parameters (linear layers one after another, random, bfloat16) is written as a file, 2 bytes
each; three `gossip-node` processes learn adapters (B with a frozen A) beside it for two rounds on a full graph, and
once more beside a base of one small layer. Of the node that takes most:

    file × base      pages of files in memory at the peak (RssFile) less those of the small run, over the base's bytes:
                     1 is the base once, which all processes of a machine share
    own × factors    memory of its own at the peak (RssAnon) less that of the small run, over the bytes of A and B

Simulated peers in one process (`Task`, `Learner`) share the base and A. Skipped where the disk has too little room. The
exit status is 1 where a node takes more than the base once and three times the factors. `--smoke` tells no ratios: a
base of half a megabyte is lost in what else a process takes. Linux only.

What a node has of its own, in terms of B, which is half of the factors:

    at the end of training    A, the own model, its gradient, and two neighbours' models that came meanwhile: 5, and the
                              model of before, where its checkpoint is still being written
    at the start              A, the network's B, a copy to put back and a gradient, or the first gradient, a vector and
                              the second one: 5, while the network is held against plain torch
    after the last round      A, the own model, two neighbours' models, the checkpoint that is being written: 5, and the
                              gradient's memory, which small blocks keep in the learning thread's heap for its next step

That is 2.5 to 3 times the factors. Vectors of less than 32 MB lie in heaps, too, whose gaps come on top.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from nodes import Nodes

from scenarios.processes.launcher import Launcher

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, inputs, classes, width, layers):
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.layers = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(layers))
        self.last = nn.Linear(width, classes)
    def forward(self, x):
        h = torch.tanh(self.first(x.flatten(1)))
        for layer in self.layers:
            h = h + torch.tanh(layer(h)) / 8
        return self.last(h)

def net(shape, classes, width, layers): return Net(shape[0] * shape[1] * shape[2], classes, width, layers)
"""
SMALL_WIDTH = 64
FILE_MAX, OWN_MAX = 1.1, 3.0
ROOM_SPARE = 2 * 2**30
ASKED_EVERY_S = 0.02
RUN_S_MAX = 3600.0
SIMULATED = 4


def write_base(path: Path, width: int, layers: int) -> int:
    """Write a random base, a layer at a time in memory twice at most; return its bytes."""
    rng = torch.Generator().manual_seed(0)
    tensors = {
        f"layers.{place}.weight": (torch.randn(width, width, generator=rng) / width**0.5).bfloat16()
        for place in range(layers)
    }
    safetensors.torch.save_file(tensors, path)
    return path.stat().st_size


def resident(pid: int | str) -> tuple[int, int]:
    """Return the bytes of own memory and of files' pages of a process; zeros where it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0, 0
    found = {
        key: int(value.split()[0]) * 1024
        for key, _, value in (line.partition(":") for line in lines)
        if key.startswith("Rss")
    }
    return found.get("RssAnon", 0), found.get("RssFile", 0)


def settings_of(folder: Path, width: int, layers: int, rank: int) -> dict[str, Any]:
    """Return what a node is told."""
    return {
        "data.train_max": 24,
        "data.test_max": 8,
        "local.batch_size": 2,
        "local.steps": 1,
        "stop.rounds": 2,
        "node.linger_s": 5,
        "node.start_timeout_s": 600,
        "model.name": f"python:{folder / 'net.py'}:net",
        "model.arguments.width": width,
        "model.arguments.layers": layers,
        "model.start": str(folder / "base.safetensors"),
        "model.adapter.kind": "lora",
        "model.adapter.train": "B",
        "model.adapter.rank": rank,
        "model.adapter.targets": '["layers.*"]',
    }


def run_nodes(folder: Path, settings: Mapping[str, Any], started: Launcher | None) -> tuple[int, int]:
    """Run three nodes to their end; return the most that one of them had of own memory and of files' pages."""
    own, file, begin_s = 0, 0, time.monotonic()
    with Nodes(folder, "dfedavg", settings, started=started) as nodes:
        while left := nodes.running(ASKED_EVERY_S):
            for _, pid in left:
                anonymous, mapped = resident(pid)
                own, file = max(own, anonymous), max(file, mapped)
            if time.monotonic() - begin_s > RUN_S_MAX:
                raise SystemExit(f"not done after {RUN_S_MAX:g} s")
    if any(nodes.codes.values()):
        raise SystemExit("\n".join(log.read_text()[-2000:] for log in nodes.logs))
    return own, file


def simulate(folder: Path, width: int, layers: int, rank: int) -> tuple[int, int]:
    """Train simulated peers in this process, one after another; return what it has then, and what it had before."""
    from gossip.learner import Learner
    from gossip.learning.adapter_settings import AdapterSettings
    from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings
    from gossip.learning.task import Task
    from gossip.merging.settings import AverageSettings

    before, _ = resident("self")
    model = ModelSettings(
        name=f"python:{folder / 'net.py'}:net",
        arguments={"width": width, "layers": layers},
        start=str(folder / "base.safetensors"),
        adapter=AdapterSettings(kind="lora", train="B", rank=rank, targets=("layers.*",)),
    )
    task = Task(
        data=DataSettings(train_max=24, test_max=8),
        model=model,
        local=LocalSettings(steps=1, batch_size=2),
        seed=0,
        folder=folder,
    )
    choice = AverageSettings()
    kept = []
    for place in range(SIMULATED):
        learner = Learner(
            task, peer=f"p{place}", position=place, peers=SIMULATED, merge=choice.load()(choice)
        )
        kept.append(learner.train(learner.initial(), round=0).model)
    return resident("self")[0], before


def main(arguments: Sequence[str], started: Launcher | None = None) -> int:
    """Measure and print the table; `started` as in `memory`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--parameters", type=float, default=1000.0, help="in millions")
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="a small base: to see that it works")
    parser.add_argument("--simulated", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.smoke:
        options.parameters, options.width, options.rank = 0.2, 256, 4
    width, rank = options.width, options.rank
    layers = max(1, round(options.parameters * 1e6 / width**2))
    if options.simulated is not None:
        print(json.dumps(simulate(options.simulated, width, layers, rank)))
        return 0
    if shutil.disk_usage(tempfile.gettempdir()).free < 2 * layers * width**2 + ROOM_SPARE:
        print(
            f"skipped: {tempfile.gettempdir()} has too little room for a base of {2 * layers * width**2:,} bytes"
        )
        return 0
    with tempfile.TemporaryDirectory(prefix="gossip-adapters-") as name:
        row = measure(Path(name), width, layers, rank, started, smoke=options.smoke)
    print(json.dumps(row) if options.json else " · ".join(f"{key} {value}" for key, value in row.items()))
    return 0 if options.smoke or (row["file × base"] <= FILE_MAX and row["own × factors"] <= OWN_MAX) else 1


def measure(
    folder: Path, width: int, layers: int, rank: int, started: Launcher | None, *, smoke: bool
) -> dict[str, Any]:
    """Return the figures."""
    found = []
    sizes = {"small": (SMALL_WIDTH, 1, 1), "large": (width, layers, rank)}
    for kind in (
        ("large",) if smoke else ("small", "large")
    ):  # without the small run there is nothing to subtract
        wide, deep, low = sizes[kind]
        (folder / kind).mkdir()
        (folder / kind / "net.py").write_text(NET)
        base = write_base(folder / kind / "base.safetensors", wide, deep)
        found.append(run_nodes(folder / kind, settings_of(folder / kind, wide, deep, low), started))
    factors = 2 * 4 * layers * width * rank
    if smoke:
        simulated = simulate(folder / "large", width, layers, rank)
    else:
        command = [sys.executable, __file__, "--simulated", str(folder / "large")]
        command += ["--parameters", str(layers * width**2 / 1e6), "--width", str(width), "--rank", str(rank)]
        simulated = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    (small_own, small_file), (own, file) = found[0], found[-1]
    row: dict[str, Any] = {
        "parameters": layers * width**2,
        "base MB": round(base / 1e6, 1),
        "factors MB": round(factors / 1e6, 2),
        "node's files MB": round(file / 1e6),
        "node's own MB": round(own / 1e6),
    }
    if smoke:
        return row
    return row | {
        "small run's own MB": round(small_own / 1e6),
        "file × base": round((file - small_file) / base, 2),
        "own × factors": round((own - small_own) / factors, 2),
        f"{SIMULATED} simulated peers × factors": round((simulated[0] - simulated[1]) / factors, 2),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
