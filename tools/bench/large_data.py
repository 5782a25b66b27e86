"""How much memory, and how much time, does a local update over data larger than memory take?

    python tools/bench/large_data.py [--gigabytes 4] [--side 64] [--batch-size 128] [--model mlp] [--threads 1]
                                     [--baseline 0.25] [--folder /tmp] [--json] [--smoke]

Bytes of images (uint8, 3 × side × side) are written into a temporary folder as `x_train.npy` and so on, and removed
afterwards. A fresh process then does what a node does with `--data FOLDER`: it makes the task and its learner, and one
local update of one epoch over all of them. Others do the same in a loop of plain torch, with the same network,
mini-batches and step, over a `DataLoader` of a dataset that maps the file and prepares one sample at a time.

    peak      peak resident memory (VmHWM) of the process, which has interpreter and torch in it
    samples/s of the training alone, from its first step to its last; of a loop over the share `--baseline`
    ratio     of the node's samples/s to the loop's: 1 is as fast

Linux only, because of /proc.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from memory import peak_bytes

CLASSES = 10
TESTED = 256
WRITTEN_BYTES = 64 * 2**20
LR = 0.01
PEAK_BYTES_MAX = 1.5e9
RATIO_MIN = 0.9


class Job(NamedTuple):
    """What every process trains on, and how."""

    folder: str
    batch_size: int
    model: str
    threads: int
    share: float
    """Of the epoch."""


class Measured(NamedTuple):
    """What one process took."""

    samples_per_s: float
    peak_bytes: int


def write(folder: Path, *, gigabytes: float, side: int) -> int:
    """Write images of that size in all, and return how many there are."""
    sample_bytes = 3 * side * side
    count = max(2 * CLASSES, int(gigabytes * 1e9 / sample_bytes))
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, count)
    np.save(folder / "y_train.npy", labels)
    np.save(folder / "x_test.npy", rng.integers(0, 256, (TESTED, 3, side, side), dtype=np.uint8))
    np.save(folder / "y_test.npy", np.arange(TESTED) % CLASSES)
    at_once = max(1, WRITTEN_BYTES // sample_bytes)
    with (folder / "x_train.npy").open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, 3, side, side)}
        np.lib.format.write_array_header_1_0(file, header)
        for first in range(0, count, at_once):
            some = min(at_once, count - first)
            file.write(rng.integers(0, 256, some * sample_bytes, dtype=np.uint8).data)
    return count


def task_of(job: Job) -> Any:
    """Return the task of a node with `--data FOLDER`."""
    from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings, OwnPartition
    from gossip.learning.task import Task

    return Task(
        data=DataSettings(source=job.folder, partition=OwnPartition(), mapped=True),
        model=ModelSettings(name=job.model),
        local=LocalSettings(lr=LR, batch_size=job.batch_size, epochs=1),
        seed=1,
        folder=Path(),
    )


def as_a_node(job: Job) -> Measured:
    """Do one local update of one epoch."""
    import torch

    from gossip.inference.description import hash_of
    from gossip.learner import Learner
    from gossip.merging.settings import AverageSettings

    torch.set_num_threads(job.threads)
    settings = AverageSettings()
    learner = Learner(task_of(job), peer="a", position=0, peers=1, merge=settings.load()(settings))
    assert type(learner.shard.x).__name__ == "Mapped"
    model = learner.initial()
    began_s = time.perf_counter()
    trained = learner.train(model, round=0)
    seconds = time.perf_counter() - began_s
    # What else looks at samples must not take more memory.
    learner.evaluate(trained.model), learner.scales, hash_of(learner.shard.x)
    return Measured(trained.samples / seconds, peak_bytes(os.getpid()))


def as_a_loop(job: Job, workers: int) -> Measured:
    """Do the same steps in plain torch."""
    import torch
    from torch.nn.functional import cross_entropy
    from torch.utils.data import DataLoader, Dataset

    class Images(Dataset[tuple[torch.Tensor, int]]):
        def __init__(self) -> None:
            self.x = np.load(f"{job.folder}/x_train.npy", mmap_mode="r")
            self.y = np.load(f"{job.folder}/y_train.npy")

        def __len__(self) -> int:
            return len(self.y)

        def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
            return torch.from_numpy(self.x[number].astype(np.float32)).div_(255), int(self.y[number])

    torch.set_num_threads(job.threads)
    network = task_of(job).module.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=LR)
    images = Images()
    loader = DataLoader(
        images,
        batch_size=job.batch_size,
        shuffle=True,
        num_workers=workers,
        multiprocessing_context="fork"
        if workers
        else None,  # its default on Linux, but for who was spawned himself
        generator=torch.Generator().manual_seed(1),
    )
    wanted = max(1, int(job.share * len(images)))
    seen, began_s = 0, time.perf_counter()
    for x, y in loader:
        optimizer.zero_grad()
        cross_entropy(network(x), y).backward()
        optimizer.step()
        seen += len(y)
        if seen >= wanted:
            break
    seconds = time.perf_counter() - began_s
    return Measured(seen / seconds, peak_bytes(os.getpid()))


def in_a_process(function: Callable[..., Measured], *arguments: Any) -> Measured:
    """Measure in a fresh process, whose peak is its own."""
    # Not a `Pool`: its processes may have none of their own, as a DataLoader's workers are.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def here(function: Callable[..., Measured], *arguments: Any) -> Measured:
    """Measure in this process: it is quicker, and its peak tells nothing."""
    return function(*arguments)


def measure(job: Job, run: Callable[..., Measured], workers: Sequence[int]) -> list[dict[str, Any]]:
    """Return a row for the node and one for each loop."""
    node = run(as_a_node, job)
    rows = [_row("node", node, node)]
    for number in workers:
        loop = run(as_a_loop, job, number)
        rows.append(_row(f"DataLoader, num_workers={number}", loop, node))
    return rows


def _row(who: str, measured: Measured, node: Measured) -> dict[str, Any]:
    return {
        "who": who,
        "samples/s": round(measured.samples_per_s),
        "peak MB": round(measured.peak_bytes / 1e6),
        "ratio": round(node.samples_per_s / measured.samples_per_s, 2),
    }


def main(arguments: Sequence[str]) -> int:
    """Measure and print; 1 where the node takes more memory or more time than it may."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--gigabytes", type=float, default=4.0)
    parser.add_argument("--side", type=int, default=64, help="pixels")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--model", default="mlp")
    parser.add_argument("--threads", type=int, default=1, help="of torch, in each process")
    parser.add_argument("--baseline", type=float, default=0.25, help="share of the epoch that the loops do")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where the images are written")
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--smoke", action="store_true", help="a few MB, in this process: to see that it works"
    )
    options = parser.parse_args(arguments)
    run, workers = in_a_process, (0, 1)
    if options.smoke:
        options.gigabytes, options.side, options.batch_size, options.baseline = 0.002, 16, 64, 1.0
        run, workers = here, (0,)
    free, needed = shutil.disk_usage(options.folder).free, 2 * options.gigabytes * 1e9
    if free < needed:
        raise SystemExit(
            f"--folder {options.folder}: {free / 1e9:.1f} GB are free, and {needed / 1e9:.1f} GB should be"
        )
    with tempfile.TemporaryDirectory(prefix="gossip-large-", dir=options.folder) as folder:
        count = write(Path(folder), gigabytes=options.gigabytes, side=options.side)
        job = Job(folder, options.batch_size, options.model, options.threads, options.baseline)
        rows = measure(job, run, workers)
    if options.json:
        json.dump(rows, sys.stdout, indent=1)
        print()
    else:
        print(f"{count} samples, {options.gigabytes:g} GB of bytes, batches of {options.batch_size}")
        for row in rows:
            print(" · ".join(f"{key} {value}" for key, value in row.items()))
    if options.smoke:
        return 0
    fits = rows[0]["peak MB"] * 1e6 < PEAK_BYTES_MAX
    return int(not (fits and all(row["ratio"] >= RATIO_MIN for row in rows)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
