"""How simulated peers' models become others: averages of many at once, and rules that are computed one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gossip import plugins
from gossip.learner import Learner, RecordedVerdict
from gossip.merging.agreement import agreed
from gossip.merging.base import WEIGHT_TOLERANCE, check_weights
from gossip.partial import Partial, Received, completed
from gossip.protocols.base import Contribution, PeerId
from scenarios.virtual.learning.arena import Arena, Handle
from scenarios.virtual.learning.corrections import Corrections
from scenarios.virtual.learning.screening import Norms, Screen


class Exchanges:
    """Computes everything but training, for handles whose inputs exist.

    Args:
        arena: where the models lie.
        screen: refuses models before any rule sees them.
        learned: L.
        chunk: models that make a stack.
        rank: a peer's place among those that are trained together.
        corrections: of averages; None where the rule has none.
        learner_of: a peer's own learner, with its instance of the rule.
        retains: whether the rule keeps what it is given.
        declared: what each peer declares.
        tell: called with (peer, what became of a model).
    """

    def __init__(
        self,
        arena: Arena,
        screen: Screen,
        *,
        learned: int,
        chunk: int,
        rank: Mapping[int, int] | Sequence[int],
        corrections: Corrections | None,
        learner_of: Callable[[int], Learner],
        retains: bool,
        declared: Mapping[PeerId, frozenset[int]],
        tell: Callable[[int, RecordedVerdict], None],
    ) -> None:
        self._arena = arena
        self._screen = screen
        self._learned = learned
        self._chunk = chunk
        self._rank = rank
        self._corrections = corrections
        self._learner_of = learner_of
        self._retains = retains
        self._declared = declared
        self._tell = tell

    def average(self, handles: list[Handle]) -> None:
        """Average all at once: a sparse matrix of weights times the arena. Some rules then correct the averages.

        A node's `Average` goes through one peer's models block by block, which for thousands of small models would be
        thousands of walks through Python; both are the same up to rounding.
        """
        rank = self._rank
        handles.sort(key=lambda handle: rank[handle.peer])  # as they will be trained
        norms = self._norms(handles)
        rows = self._arena.take(len(handles))
        learned = self._learned
        if self._corrections is not None:
            handles.sort(key=lambda handle: handle.request.at.part)  # as they are corrected together
            with plugins.blamed(self._corrections.rule, "[merge]"):
                self._corrections.measure(handles)
        for start in range(0, len(handles), self._chunk):
            part = handles[start : start + self._chunk]
            inputs: list[int] = []
            weights: list[float] = []
            firsts: list[int] = []
            screened: list[tuple[float, Sequence[Contribution]]] = []
            screen, add_input, add_weight = self._screen.merge, inputs.append, weights.append
            for handle in part:
                own, own_weight, received, at = handle.request
                left = screen(handle.peer, own, own_weight, received, round=at.round, norms=norms)
                screened.append(left)
                firsts.append(len(inputs))
                add_input(own.row)
                add_weight(left[0])
                for _, model, weight, _ in left[1]:
                    add_input(model.row)
                    add_weight(weight)
            merged = self._weighted_sums(part, inputs, weights, firsts)
            self._fill_in(merged, part, screened)
            if self._corrections is not None:
                with plugins.blamed(self._corrections.rule, "[merge]"):
                    self._corrections.change(part, screened, merged[:, :learned])
            if learned < merged.shape[1]:
                own_rows = self._arena.indices([handle.request.own.row for handle in part])
                merged[:, learned:] = self._arena.vectors[:, learned:].index_select(0, own_rows)
            part_rows = rows[start : start + len(part)]
            self._arena.put(part_rows, merged)
            for handle, row in zip(part, part_rows, strict=True):
                handle.place(row)

    def _weighted_sums(
        self, handles: list[Handle], inputs: list[int], weights: list[float], firsts: list[int]
    ) -> Tensor:
        weights_exact = torch.from_numpy(np.array(weights, dtype=np.float64))
        firsts_and_end = torch.from_numpy(np.array([*firsts, len(inputs)], dtype=np.int64))
        bounds, ends = firsts_and_end[:-1], firsts_and_end[1:]
        sums = torch.cat([weights_exact.new_zeros(1), weights_exact.cumsum(0)])
        off_by = (sums[ends] - sums[bounds] - 1).abs()
        if float(off_by.max()) > WEIGHT_TOLERANCE / 2 or min(weights) < 0 or bool(off_by.isnan().any()):
            for handle in handles:
                check_weights(handle.request.own_weight, handle.request.received)
        return functional.embedding_bag(
            self._arena.indices(inputs),
            self._arena.vectors,
            bounds.to(self._arena.vectors.device),
            mode="sum",
            per_sample_weights=weights_exact.to(torch.float32).to(self._arena.vectors.device),
        )

    def _fill_in(
        self,
        sums: Tensor,
        handles: Sequence[Handle],
        screened: Sequence[tuple[float, Sequence[Contribution]]],
    ) -> None:
        """Add to weighted sums (n, P) own numbers, with the weight of all partial models that have none there."""
        if self._arena.there is None:
            return
        rows: list[int] = []
        weights: list[float] = []
        firsts: list[int] = []
        for _, received in screened:
            firsts.append(len(rows))
            for each in received:
                if each.model.partial:
                    rows.append(each.model.row)
                    weights.append(each.weight)
        if not rows:
            return
        device, learned = sums.device, self._learned
        unique = sorted(set(rows))
        place = {row: place for place, row in enumerate(unique)}
        missing = functional.embedding_bag(
            torch.tensor([place[row] for row in rows]).to(device),
            (~self._arena.there_of(unique)).to(torch.float32),
            torch.tensor(firsts).to(device),
            mode="sum",
            per_sample_weights=torch.tensor(weights, dtype=torch.float32).to(device),
        )
        own = self._indices([handle.request.own for handle in handles])
        sums[:, :learned] += missing * self._arena.vectors[:, :learned].index_select(0, own)

    def _received(self, model: Handle) -> Received:
        """Return what has come of a model, as a node holds it."""
        vector = self._arena.vectors[model.row, : self._learned]
        if not model.partial:
            return vector
        places = self._arena.there_of([model.row])[0].nonzero().flatten()
        return Partial(vector[places], places, self._learned)

    def _completed(self, own: Handle, model: Handle) -> Tensor:
        """Return the learned slots of a received model, with own ones where none came."""
        return completed(self._arena.vectors[own.row, : self._learned], self._received(model))

    def merge_alone(self, handles: list[Handle]) -> None:
        """Merge one by one, each by its peer's own instance of the rule."""
        rows = self._arena.take(len(handles))
        vectors = self._arena.vectors
        for handle, row in zip(handles, rows, strict=True):
            own, own_weight, received, at = handle.request
            contributions = [
                each._replace(model=self._handed(self._received(each.model))) for each in received
            ]
            mine = self._own_to_keep(vectors[own.row])
            learner = self._learner_of(handle.peer)
            vectors[row] = learner.merge(
                mine,
                own_weight,
                contributions,
                at=at,
                declared=self._declared,
            )
            for judged in learner.take_judged():
                self._tell(handle.peer, judged)
            handle.place(row)

    def _handed(self, received: Received) -> Received:
        """Return what came as a peer's own instance of the rule may have it."""
        if isinstance(received, Partial):
            return received._replace(values=received.values.cpu(), places=received.places.cpu())
        return self._own_to_keep(received)

    def _own_to_keep(self, vector: Tensor) -> Tensor:
        """Return a row on the CPU, where rules compute; a copy where they keep it, for it is written again."""
        return vector.clone() if self._retains and vector.device.type == "cpu" else vector.cpu()

    def _norms(self, handles: list[Handle]) -> Norms:
        """Return the norms of everything that merges read, by row."""
        models = [handle.request.own for handle in handles]
        for handle in handles:
            models += [model for _, model, _, _ in handle.request.received]
        norms = self._screen.norms(models)
        if self._arena.there is None:
            return norms
        pairs = {
            (handle.request.own.row, each.model.row)
            for handle in handles
            for each in handle.request.received
            if each.model.partial
        }
        return norms._replace(some=self._screen.some(pairs))

    def adopt(self, handles: list[Handle]) -> None:
        """Take over what travels of other models."""
        norms = self._norms(handles)
        rows = self._arena.take(len(handles))
        sources = []
        for handle in handles:
            own, received = handle.request
            _, accepted = self._screen.merge(handle.peer, own, 0.0, received, round=None, norms=norms)
            sources.append(accepted[0].model if accepted else own)
        adopted = self._arena.vectors.index_select(0, self._indices(sources))
        learned = self._learned
        for place, (handle, source) in enumerate(zip(handles, sources, strict=True)):
            if source.partial:
                adopted[place, :learned] = self._completed(handle.request.own, source)
        own = self._indices([handle.request.own for handle in handles])
        adopted[:, learned:] = self._arena.vectors[:, learned:].index_select(0, own)
        self._arena.put(rows, adopted)
        for handle, row in zip(handles, rows, strict=True):
            handle.place(row)

    def agree(self, handles: list[Handle]) -> None:
        """Find what most of other models agree on."""
        norms = self._norms(handles)
        rows = self._arena.take(len(handles))
        learned = self._learned
        vectors = self._arena.vectors
        for handle, row in zip(handles, rows, strict=True):
            own, received = handle.request
            _, accepted = self._screen.merge(
                handle.peer, own, 0.0, received, round=None, norms=norms, bounded=False
            )
            models = [self._completed(own, each.model) for each in accepted]
            vectors[row, :learned] = agreed(vectors[own.row, :learned], models)
            vectors[row, learned:] = vectors[own.row, learned:]
            handle.place(row)

    def graft(self, handles: list[Handle]) -> None:
        """Put parts of models into others."""
        rows = self._arena.take(len(handles))
        vectors = self._arena.vectors
        for handle, row in zip(handles, rows, strict=True):
            base, source, part = handle.request
            start, stop = part.bounds(self._learned)
            vectors[row] = vectors[base.row]
            vectors[row, start:stop] = vectors[source.row, start:stop]
            handle.place(row)

    def move(self, handles: list[Handle]) -> None:
        """Add what updates have made of models to others: base + (after - before)."""
        rows = self._arena.take(len(handles))
        vectors, learned = self._arena.vectors, self._learned
        for start in range(0, len(handles), self._chunk):
            part = handles[start : start + self._chunk]
            base, before, after = (
                self._indices([getattr(handle.request, name) for handle in part])
                for name in ("own", "before", "after")
            )
            moved = vectors.index_select(0, after)
            moved[:, :learned] -= vectors.index_select(0, before)[:, :learned]
            rates = [handle.request.rate for handle in part]
            if any(rate != 1 for rate in rates):
                moved[:, :learned] *= torch.tensor(rates, device=moved.device)[:, None]
            moved[:, :learned] += vectors.index_select(0, base)[:, :learned]
            part_rows = rows[start : start + len(part)]
            self._arena.put(part_rows, moved)
            for handle, row in zip(part, part_rows, strict=True):
                handle.place(row)

    def craft(self, handles: list[Handle]) -> None:
        """Compute what attackers make of other models."""
        rows = self._arena.take(len(handles))
        learned = self._learned
        vectors = self._arena.vectors
        for handle, row in zip(handles, rows, strict=True):
            own, inputs, function = handle.request
            crafted = function(vectors.index_select(0, self._indices(inputs))[:, :learned])
            vectors[row] = vectors[own.row]
            vectors[row, :learned] = crafted
            handle.place(row)

    def _indices(self, handles: Sequence[Handle]) -> Tensor:
        return self._arena.indices([handle.row for handle in handles])
