"""Sanitising the merges of many peers at once: what a node's `Learner` does for one, with all norms in a few passes."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch

from gossip.learner import RecordedVerdict
from gossip.merging import sanitise
from gossip.merging.sanitise import WHOLE_ALL, Sanitiser, SanitiseSettings, Some
from gossip.protocols.base import Contribution
from scenarios.virtual.learning.arena import Arena, Handle
from scenarios.virtual.learning.processes import Processes

NONE: Mapping[tuple[int, int], Some] = MappingProxyType({})


class Norms(NamedTuple):
    """The norms of the models that some merges read."""

    of_row: Mapping[int, float]
    """NaN where a value is not finite."""
    longest: float
    """Infinite where one is not finite."""
    some: Mapping[tuple[int, int], Some] = NONE
    """(row of the own model, row of a partial one) -> how that is measured."""


class Screen:
    """All peers' sanitisers, for merges and adoptions that no `Learner` computes.

    Args:
        settings: `[sanitise]`.
        arena: where the models lie.
        processes: whose the sanitisers are.
        learned_size: L.
        chunk: models looked at in one go.
        tell: called with (peer, what became of a model), for models that were left out.
    """

    def __init__(
        self,
        settings: SanitiseSettings,
        arena: Arena,
        processes: Processes,
        *,
        learned_size: int,
        chunk: int,
        tell: Callable[[int, RecordedVerdict], None],
    ) -> None:
        self._settings = settings
        self._norm_factor = settings.norm_factor
        self._arena = arena
        self._processes = processes
        self._learned_size = learned_size
        self._chunk = chunk
        self._tell = tell

    def norms(self, models: Sequence[Handle]) -> Norms:
        """Return the norms of what is learned of the models."""
        known = {model.row: model.norm for model in models}
        norms = {row: norm for row, norm in known.items() if norm is not None}
        unknown = sorted(known.keys() - norms.keys())
        for start in range(0, len(unknown), self._chunk):
            part = unknown[start : start + self._chunk]
            learned = self._arena.at(part)[:, : self._learned_size]
            norms.update(zip(part, torch.linalg.vector_norm(learned, dim=1).tolist(), strict=True))
        for row in [row for row, norm in norms.items() if not math.isfinite(norm)]:
            norms[row] = sanitise.norm_of(self._arena.vectors[row, : self._learned_size])
        values = norms.values()
        return Norms(norms, math.inf if any(map(math.isnan, values)) else max(values, default=0.0))

    def some(self, pairs: Collection[tuple[int, int]]) -> dict[tuple[int, int], Some]:
        """Return how partial models are measured, of (row of the own model, row of the partial one)."""
        ordered = sorted(pairs)
        found: dict[tuple[int, int], Some] = {}
        for start in range(0, len(ordered), self._chunk):
            part = ordered[start : start + self._chunk]
            there = self._arena.there_of([row for _, row in part])
            own = self._arena.at([row for row, _ in part])[:, : self._learned_size]
            norms = torch.linalg.vector_norm(torch.where(there, own, 0.0), dim=1).tolist()
            shares = (there.sum(dim=1, dtype=torch.float64) / self._learned_size).tolist()
            found.update(zip(part, map(Some, norms, shares), strict=True))
        return found

    def merge(
        self,
        peer: int,
        own: Handle,
        own_weight: float,
        received: Sequence[Contribution],
        *,
        round: int | None,
        norms: Norms,
        bounded: bool = True,
    ) -> tuple[float, Sequence[Contribution]]:
        """Return the weights and contributions that are left of a merge; `bounded`: see `Sanitiser.judge`."""
        own_norm = norms.of_row[own.row]
        process = self._processes[peer]
        sanitiser = process.sanitiser
        spotless = sanitiser is None or sanitiser.spotless
        if spotless and not norms.some and norms.longest <= self._norm_factor * own_norm:
            # Nearly always nothing is wrong: the bound is at least this, and no model of anybody is longer.
            senders = {each[0] for each in received}
            if len(senders) == len(received):
                return own_weight, received
        some = (
            {each.sender: norms.some[own.row, each.model.row] for each in received if each.model.partial}
            if norms.some
            else WHOLE_ALL
        )
        if spotless and norms.some:
            good = norms.longest <= self._norm_factor * own_norm
            if some:
                good = all(
                    norms.of_row[each.model.row]
                    <= self._norm_factor * (some[each.sender].own_norm if each.sender in some else own_norm)
                    for each in received
                )
            if good and len({each.sender for each in received}) == len(received):
                return own_weight, received
        if sanitiser is None:
            sanitiser = process.sanitiser = Sanitiser(self._settings, self._learned_size)
        refusals = sanitiser.judge(
            own_norm,
            [(each.sender, norms.of_row[each.model.row]) for each in received],
            round=round,
            again=sanitise.judged_before(received),
            some=some,
            bounded=bounded,
        )
        for refusal in refusals:
            if refusal is not None:
                self._tell(peer, RecordedVerdict(sanitiser.round, refusal))
        return sanitise.without(own_weight, received, refusals)
