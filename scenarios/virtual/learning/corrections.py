"""Merge rules that correct an average, for many peers at once: what they measure of a model is measured once.

A model is received by all its sender's neighbours. Each of their nodes has to measure it; here they share one list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gossip.merging.base import Correction
from gossip.protocols.base import Contribution, Part
from scenarios.virtual.learning.arena import Arena, Handle
from scenarios.virtual.learning.processes import Processes


class Corrections:
    """Puts a rule between the averages and the arena.

    Args:
        rule: what it makes of averages.
        processes: where its peers remember.
        arena: where the models lie.
        learned: how many columns of it are merged.
        chunk: how many models make a stack.
    """

    def __init__(
        self, rule: Correction, processes: Processes, arena: Arena, learned: int, *, chunk: int
    ) -> None:
        self.rule = rule
        self._processes = processes
        self._arena = arena
        self._learned = learned
        self._chunk = chunk
        self._measured: dict[Part, Tensor] = {}
        """What the rule knows of a part of the model in each row of the arena, (rows, m_part), where the handle says
        that it does."""

    def measure(self, merges: Sequence[Handle]) -> None:
        """Let the rule measure the models that it needs and has not seen."""
        unknown: dict[Part, set[Handle]] = {}
        for merge in merges:
            if self.rule.needs(self._memory(merge), merge.request.at):
                part = merge.request.at.part
                inputs = [merge.request.own, *(each.model for each in merge.request.received)]
                unknown.setdefault(part, set()).update(
                    model for model in inputs if part not in model.measured
                )
        for part, models in unknown.items():
            ordered = sorted(models, key=lambda model: model.row)
            for start in range(0, len(ordered), self._chunk):
                stack = ordered[start : start + self._chunk]
                rows = [model.row for model in stack]
                found = self.rule.measure(self._arena.at(rows)[:, : self._learned], part)
                self._table(part, found)[self._arena.indices(rows)] = found
                for model in stack:
                    model.measured += (part,)

    def change(
        self, merges: Sequence[Handle], rows: Sequence[tuple[float, Sequence[Contribution]]], averages: Tensor
    ) -> None:
        """Let the rule change the `averages` (n, L) of as many merges, in place; their inputs were measured.

        `rows` are their rows of W, (W_ii, what was received), as far as they were averaged.
        """
        places: dict[Part, list[int]] = {}
        for place, merge in enumerate(merges):
            places.setdefault(merge.request.at.part, []).append(place)
        if len(places) == 1:
            self._change(merges, rows, averages)
            return
        for chosen in places.values():
            group = averages[chosen]
            self._change([merges[place] for place in chosen], [rows[place] for place in chosen], group)
            averages[chosen] = group

    def _change(
        self, merges: Sequence[Handle], rows: Sequence[tuple[float, Sequence[Contribution]]], averages: Tensor
    ) -> None:
        """Do so for merges of the same part."""
        most = max(len(received) for _, received in rows)
        inputs: list[list[int]] = []
        weights: list[list[float]] = []
        for merge, (own_weight, received) in zip(merges, rows, strict=True):
            own = merge.request.own.row
            missing = most - len(received)
            inputs.append([own, *(each.model.row for each in received)] + missing * [own])
            weights.append([own_weight, *(each.weight for each in received)] + missing * [0.0])
        table = self._table(merges[0].request.at.part, averages[:, :0])
        self.rule.change(
            averages,
            table[self._arena.indices(inputs)],
            torch.tensor(weights, dtype=torch.float64).to(averages.device),
            [self._memory(merge) for merge in merges],
            [merge.request.at for merge in merges],
        )

    def _table(self, part: Part, like: Tensor) -> Tensor:
        """Return the table of a part, as long as the arena; before anything was measured it has no columns."""
        columns = like.shape[1]
        table = self._measured.get(part)
        arena_rows = len(self._arena.vectors)
        if table is None or (columns and not table.shape[1]):
            table = like.new_empty(arena_rows, columns, dtype=torch.float64)
        elif len(table) < arena_rows:
            table = torch.cat([table, table.new_empty(arena_rows - len(table), table.shape[1])])
        self._measured[part] = table
        return table

    def _memory(self, merge: Handle) -> Any:
        process = self._processes[merge.peer]
        if process.correction is None:
            process.correction = self.rule.memory()
        return process.correction
