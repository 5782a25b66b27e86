"""Where prototypes meet samples: own sums for the table, and how well the nearest prototype tells the test samples.

f(x) is what the network takes for a sample: the features of the frozen `[model] extractor`, or, without one, the sample
itself. That is the same function on all peers, and stays it; what learned layers make of a sample is not, so sums of
that could not be added up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from gossip.channels.prototypes import LENGTH_FACTOR, Prototypes, believed, prototypes_of
from gossip.config.channels import liars_told
from gossip.config.task import TaskSettings
from gossip.errors import DataError, SettingError
from gossip.learning.data.mapped import Samples, pieces
from gossip.learning.task import Shard, Task
from gossip.protocols.tables import NUMBER_MAX, WIDTH_MAX, Own, Row, Shape

BATCH = 1024
TABLE_BYTES_MAX = 16 * 2**20
"""Of a table's sums: every peer holds all of it, and writes it with each checkpoint."""
ROWS_MAX = 100_000
"""Of a table: what stands beside its sum takes more than half a KiB of a row's memory."""
TOLD_MAX = 256
"""Tables whose accuracy is remembered: once all has been passed on, all peers have the same."""


class PrototypeSamples:
    """What a task's samples are to prototypes.

    Args:
        task: what is learnt.
        peers: how many may have rows in the table.
        run: names the run.
        robust: whether some of them may lie, by `[merge] f`.

    Raises:
        SettingError: the task has no classes, or no features that prototypes can be of, or too many.
    """

    def __init__(self, task: Task, *, peers: int, run: str, robust: bool) -> None:
        key = "[channel] kind = 'prototypes'"
        if not task.objective.classifies:
            raise SettingError(
                f"{key} tells classes apart, and the objective '{task.objective_settings.kind}' has none; valid: "
                "[objective] kind = 'classification', or no [channel]"
            )
        if task.extractor is None and task.takes_whole_numbers:
            raise SettingError(
                f"{key} takes means of samples, and these are whole numbers that stand for something, such as tokens; "
                "valid: samples of real numbers, or [model] extractor"
            )
        width, classes = int(np.prod(task.taken_shape)), task.dataset.classes
        if width > WIDTH_MAX:
            raise SettingError(
                f"{key}: what the network takes of a sample are {width} numbers, and a row of the table has at most "
                f"{WIDTH_MAX}; valid: an [model] extractor with fewer features"
            )
        if 4 * classes * peers * width > TABLE_BYTES_MAX:
            raise SettingError(
                f"{key}: {classes} classes of {peers} peers with {width} numbers each are a table of "
                f"{4 * classes * peers * width / 2**20:.0f} MiB that every peer would hold; valid: at most "
                f"{TABLE_BYTES_MAX // 2**20} MiB, by fewer [model] features, classes or peers"
            )
        if classes * peers > ROWS_MAX:
            raise SettingError(
                f"{key}: {classes} classes of {peers} peers are a table of {classes * peers} rows that every peer "
                f"would hold; valid: at most {ROWS_MAX}, by fewer classes or peers"
            )
        self._task = task
        self._robust = robust
        self._told: dict[bytes, Mapping[str, float | int]] = {}
        """By a hash of the rows, which are not kept for it: a liar's may be others each time."""
        self.shape = Shape(run=run, classes=classes, width=width)

    def own(self, shard: Shard) -> Own:
        """Return how many samples of each class a shard has, and their sum.

        Raises:
            DataError: a number is too large to be summed up.
        """
        sums = np.zeros((self.shape.classes, self.shape.width))
        for x, y in zip(pieces(shard.x, BATCH), torch.split(shard.y, BATCH), strict=True):
            np.add.at(sums, y.numpy(), _flat(x))
        counts = np.bincount(shard.y.numpy(), minlength=self.shape.classes)
        with np.errstate(over="ignore"):
            written = sums.astype("<f4")
        # Class by class, as whoever is told of it looks at it.
        if not (np.abs(written).max(axis=1) <= NUMBER_MAX * counts).all():
            raise DataError(
                f"[channel] kind = 'prototypes': samples have numbers beyond {NUMBER_MAX:g}; standardise them "
                '([data] standardise = "given")'
            )
        return {
            int(label): (int(counts[label]), written[label].tobytes()) for label in np.flatnonzero(counts)
        }

    def length_max(self, x: Samples) -> float:
        """Return how long a mean may be, to a peer that has the samples `x`."""
        longest = max(float(np.linalg.norm(_flat(each), axis=1).max()) for each in pieces(x, BATCH))
        return LENGTH_FACTOR * longest

    def told(self, rows: Iterable[Row], *, length_max: float) -> Mapping[str, float | int]:
        """Return what measurements say of a table: the nearest prototype's accuracy, and how many classes have one."""
        kept = believed(rows, length_max=length_max)
        name = _hash_of(kept)
        if name not in self._told:
            if len(self._told) >= TOLD_MAX:
                self._told.clear()
            prototypes = self.prototypes(kept)
            self._told[name] = {
                "prototype_accuracy": self.accuracy(prototypes),
                "prototype_classes": int(prototypes.known.sum()),
            }
        return self._told[name]

    def file(self, rows: Iterable[Row], *, length_max: float) -> bytes:
        """Return a safetensors file of the layer whose largest output is the nearest prototype's: weight and bias.

        It takes what the network takes: the features of the extractor, or samples, flat. A class
        without a prototype has the bias -inf.
        """
        weights, biases = self.prototypes(believed(rows, length_max=length_max)).layer()
        tensors = {
            "weight": torch.from_numpy(weights.astype(np.float32)),
            "bias": torch.from_numpy(biases.astype(np.float32)),
        }
        return safetensors.torch.save(tensors, metadata={"space_id": self._task.space.space_id})

    def prototypes(self, rows: Iterable[Row]) -> Prototypes:
        """Return the prototypes that the rows give which are believed."""
        shape = self.shape
        return prototypes_of(rows, classes=shape.classes, width=shape.width, robust=self._robust)

    def accuracy(self, prototypes: Prototypes) -> float:
        """Return which share of the common test samples is nearest to the prototype of its own class.

        A sample of a class without a prototype is told wrongly.
        """
        weights, biases = prototypes.layer()
        if not prototypes.known.any():
            return 0.0
        right, y_test = 0, self._task.dataset.y_test
        for x, y in zip(pieces(self._task.x_test, BATCH), torch.split(y_test, BATCH), strict=True):
            right += int(((_flat(x) @ weights.T + biases).argmax(axis=1) == y.numpy()).sum())
        return right / len(y_test)


def _hash_of(rows: Iterable[Row]) -> bytes:
    found = hashlib.blake2b(digest_size=32)
    for row in rows:
        found.update(repr((*row.key, row.samples, len(row.sums))).encode())
        found.update(row.sums)
    return found.digest()


def _flat(x: Tensor) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return np.asarray(x.flatten(1).cpu().numpy(), dtype=np.float64)


def samples_of(settings: TaskSettings, task: Task, *, peers: int) -> PrototypeSamples | None:
    """Return what `[channel]` needs to know of samples; None where it asks for nothing.

    Raises:
        SettingError: as `PrototypeSamples`.
    """
    if settings.channel.nothing:
        return None
    return PrototypeSamples(task, peers=peers, run=settings.run_id(), robust=liars_told(settings))
