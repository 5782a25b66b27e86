"""The mini-batches of many peers at once, in the order in which each node would draw them for itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, repeat
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gossip.learning import batches
from gossip.learning.data.mapped import Mapped, Samples
from gossip.learning.local_training import PADDING
from gossip.learning.task import Shard, Task
from gossip.privacy.entropy import Entropy

KEPT_BYTES_MAX = 64 * 2**20
"""Samples gathered once and kept, where the same peers train together round after round."""


class Piece(NamedTuple):
    """One step's mini-batches of the models `start` … `stop - 1` of a stack."""

    start: int
    stop: int
    x: Tensor  # (stop - start, b, *input_shape)
    y: Tensor  # (stop - start, b, …); where classes: PADDING where a mini-batch is smaller than b
    sizes: Tensor  # (stop - start,) samples without padding

    @property
    def counted(self) -> Tensor:
        """Which samples do not pad, (stop - start, b) bool."""
        return torch.arange(self.x.shape[1], device=self.sizes.device) < self.sizes[:, None]


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """How a shard of some size is cut in one round; the same in every round."""

    samples: int
    sizes: tuple[int, ...]
    """Mini-batch sizes of all steps of a round."""
    firsts: tuple[int, ...]
    """Where each mini-batch begins among all samples of the round."""
    whole: bool
    """Every mini-batch is the whole shard, so that the order of samples only matters to rounding."""


def _together(parts: list[Samples]) -> Tensor:
    """Return samples in a row; of mapped ones nothing, which are trained on by each peer alone (`choose`)."""
    if any(isinstance(part, Mapped) for part in parts):
        return torch.empty(0)
    tensors = [part for part in parts if isinstance(part, Tensor)]
    return torch.cat(tensors) if len(tensors) > 1 else tensors[0]


class MiniBatches:
    """Every peer's mini-batches.

    Args:
        task: data, partition and `[local]`.
        names: the peers, sorted; a peer's position is its number.
        pad: pad smaller mini-batches instead of keeping sizes apart. Only where samples do not act on each other,
            as they do under batch normalisation.
        device: where the samples lie.
        shards: samples of peers whose own are not the partition's.
    """

    def __init__(
        self,
        task: Task,
        names: Sequence[str],
        *,
        pad: bool,
        device: torch.device,
        shards: Mapping[int, Shard] | None = None,
    ) -> None:
        self._settings = task.local_settings
        self._seed = task.seed
        self.names = names
        self._pad = pad
        self._batch_min = task.batch_min
        self.device = device
        x: list[Samples] = [task.x_train]
        y = [task.dataset.y_train]
        self._shards = list(task.partition(len(names)))
        behind = len(y[0])
        for peer, own in sorted((shards or {}).items()):
            x.append(own.x)
            y.append(own.y)
            self._shards[peer] = np.arange(behind, behind + len(own), dtype=np.int64)
            behind += len(own)
        self._x = _together(x).to(device)
        self._y = (torch.cat(y) if shards else y[0]).to(device)
        self._plans: dict[tuple[int, int | None], Plan] = {}
        self.plans = [self._plan(len(shard)) for shard in self._shards]
        by_plan = sorted(range(len(names)), key=self._stack_order)
        self.rank = [0] * len(names)
        """A peer's place in a stack: more steps first, then larger shards; those still active are then a prefix."""
        for place, peer in enumerate(by_plan):
            self.rank[peer] = place
        self.familiar = torch.zeros(len(names), task.dataset.classes, dtype=torch.bool, device=device)
        """Of which classes each peer has samples, (peers, classes)."""
        for peer, shard in enumerate(self._shards if task.objective.classifies else ()):
            self.familiar[peer, self._y[torch.from_numpy(shard).to(device)]] = True
        self._kept: dict[tuple[int, ...], list[Piece]] = {}
        self._kept_bytes = 0

    def samples(self, peer: int) -> int:
        """Return how many samples the peer sees in a round, repetitions counted."""
        return sum(self.plans[peer].sizes)

    def place(self, peer: int, steps: int | None) -> tuple[int, int]:
        """Return what stacks are sorted by: more steps first, of the plan or instead of it, then by `rank`."""
        return (-(len(self.plans[peer].sizes) if steps is None else steps), self.rank[peer])

    def steps(
        self, peers: Sequence[int], rounds: Sequence[int], steps: Sequence[int | None] | None = None
    ) -> Iterator[list[Piece]]:
        """Yield, for each step, the pieces that cover the models still active, a prefix of the stack.

        `peers` are in the order of `place`; the model at place k is trained for ``rounds[k]``, with ``steps[k]``
        mini-batches where that is not None.
        """
        plans = self._plans_of(peers, steps)
        if all(plan.whole and len(plan.sizes) == len(plans[0].sizes) for plan in plans):
            pieces = self._whole(tuple(peers), plans)
            yield from repeat(pieces, len(plans[0].sizes))
            return
        orders = [
            self._order(peer, plan, round) for peer, plan, round in zip(peers, plans, rounds, strict=True)
        ]
        for step in range(len(plans[0].sizes)):
            active = sum(len(plan.sizes) > step for plan in plans)
            yield self._pieces(plans[:active], orders[:active], step)

    def _plans_of(self, peers: Sequence[int], steps: Sequence[int | None] | None) -> list[Plan]:
        plans = [self.plans[peer] for peer in peers]
        if steps is None:
            return plans
        return [
            plan if count is None else self._plan(plan.samples, count)
            for plan, count in zip(plans, steps, strict=True)
        ]

    def _plan(self, samples: int, steps: int | None = None) -> Plan:
        plan = self._plans.get((samples, steps))
        if plan is None:
            epochs = batches.epochs(
                samples,
                self._settings,
                seed=0,
                peer="",
                round=0,
                batch_min=self._batch_min,
                steps=steps,
            )
            sizes = tuple(size for epoch in epochs for size in epoch.sizes)
            firsts = tuple(accumulate(sizes, initial=0))
            plan = Plan(samples, sizes, firsts, whole=all(size == samples for size in sizes))
            self._plans[samples, steps] = plan
        return plan

    def secret_steps(
        self,
        peers: Sequence[int],
        secrets: Sequence[Entropy],
        rates: Sequence[float],
        steps: Sequence[int | None] | None = None,
    ) -> Iterator[list[Piece]]:
        """Yield the same where only a peer's own secret says which of its samples a step takes, each with its rate."""
        plans = self._plans_of(peers, steps)
        shards = [self._shards[peer] for peer in peers]
        for step in range(len(plans[0].sizes)):
            active = sum(len(plan.sizes) > step for plan in plans)
            drawn = [
                shard[secret.chosen(len(shard), rate)]
                for shard, secret, rate in zip(shards[:active], secrets, rates, strict=False)
            ]
            yield [self._gathered(drawn, [int(shard[0]) for shard in shards[:active]], 0)]

    def _stack_order(self, peer: int) -> tuple[int, int, int]:
        plan = self.plans[peer]
        return (-len(plan.sizes), -plan.samples, peer)

    def _order(self, peer: int, plan: Plan, round: int) -> npt.NDArray[np.int64]:
        """Return the samples of the peer's round one after another."""
        shard = self._shards[peer]
        if plan.whole:
            return np.tile(shard, len(plan.sizes))
        epochs = batches.epochs(
            plan.samples,
            self._settings,
            seed=self._seed,
            peer=self.names[peer],
            round=round,
            batch_min=self._batch_min,
            steps=len(plan.sizes),
        )
        return np.take(shard, np.concatenate([epoch.order for epoch in epochs]))

    def _whole(self, peers: tuple[int, ...], plans: list[Plan]) -> list[Piece]:
        kept = self._kept.get(peers)
        if kept is not None:
            return kept
        pieces = self._pieces(plans, [self._shards[peer] for peer in peers], 0)
        nbytes = sum(piece.x.nbytes + piece.y.nbytes for piece in pieces)
        if self._kept_bytes + nbytes > KEPT_BYTES_MAX:
            self._kept.clear()
            self._kept_bytes = 0
        if nbytes <= KEPT_BYTES_MAX:
            self._kept[peers] = pieces
            self._kept_bytes += nbytes
        return pieces

    def _pieces(self, plans: list[Plan], orders: list[npt.NDArray[np.int64]], step: int) -> list[Piece]:
        sizes = [plan.sizes[step] for plan in plans]
        if self._pad:
            return [self._piece(plans, orders, step, sizes, 0)]
        pieces, start = [], 0
        for _, group in groupby(sizes):
            stop = start + len(list(group))
            pieces.append(self._piece(plans[start:stop], orders[start:stop], step, sizes[start:stop], start))
            start = stop
        return pieces

    def _piece(
        self,
        plans: list[Plan],
        orders: list[npt.NDArray[np.int64]],
        step: int,
        sizes: list[int],
        start: int,
    ) -> Piece:
        drawn = [
            order[plan.firsts[step] : plan.firsts[step] + size]
            for plan, order, size in zip(plans, orders, sizes, strict=True)
        ]
        # A sample of the same mini-batch pads: what is infinite for it is so in that mini-batch anyway.
        return self._gathered(drawn, [int(each[0]) for each in drawn], start)

    def _gathered(self, drawn: list[npt.NDArray[np.int64]], padding: list[int], start: int) -> Piece:
        """Return mini-batches of the samples `drawn`, padded to one size by one of each."""
        sizes = [len(each) for each in drawn]
        width = max(1, *sizes)
        chosen = np.empty((len(drawn), width), dtype=np.int64)
        for k, each in enumerate(drawn):
            chosen[k, : sizes[k]] = each
            chosen[k, sizes[k] :] = padding[k]
        indices = torch.from_numpy(chosen).to(self.device)
        x = self._x.index_select(0, indices.view(-1)).view(*chosen.shape, *self._x.shape[1:])
        y = self._y[indices]
        sizes_of = torch.tensor(sizes, device=self.device)
        if min(sizes) < width and self._pad:
            y.masked_fill_(torch.arange(width, device=self.device) >= sizes_of[:, None], PADDING)
        return Piece(start, start + len(drawn), x, y, sizes_of)
