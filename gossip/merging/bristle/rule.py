"""Bristle's merge (Verbraeken, de Vos and Pouwelse 2021): who is judged, how well they do, what is taken of each.

Models are output layers behind a common frozen extractor, one column per class. Of its *familiar* classes, those that
it has samples of, a peer can test what it receives; of the *foreign* ones it cannot.

* Familiar columns: W'[c] = (W[c] + Σ_j w_j[c] M_j[c]) / (1 + Σ_j w_j[c]), with weights that performance on this very
  class gives (`integrator`).
* Foreign columns, as published: the same with one weight per peer, which its familiar columns give. A peer that copies
  good familiar columns and poisons the others is then believed with up to six times own weight.
* Foreign columns, hardened: the median, coordinate by coordinate, of the models of those who declare samples of the
  class and have any such weight. Taken over all peers it would trim the good columns, because holders of a class are a
  minority. With fewer than three holders, as published: a class that few neighbours hold has to be learnt from others.

Hardened, what is averaged is also shortened first (`shortened`): a good layer times eight predicts what it predicted
before, so no test on samples sees it, and three such neighbours in twelve blow up everybody's columns within a few
rounds. Medians are taken of the layers as they came: against a few that are too long they need no help, and columns of
different holders fit each other better so.

At last every column is centred, as in CWR*, from which the paper takes its consolidated and scratch heads; the rest of
that is `[local] consolidate`.

What differs from the authors' program: columns of all familiar classes are merged, not only of the φ best; integration
starts from the consolidated head; scores of any size are finite; ties between senders are broken by what they sent.
An own layer without weight is none of the round: the median of those that came stands in its place.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gossip.errors import ProtocolMisuse, SettingError
from gossip.learning.output_layer import OutputLayer
from gossip.merging.base import Merge, MergeContext, Verdict, check_sizes
from gossip.merging.bristle import integrator, prioritiser
from gossip.merging.reference import reference
from gossip.merging.settings import BristleSettings
from gossip.parameters import ParameterSpace
from gossip.protocols.base import Contribution

HOLDERS_MIN = 3
"""Of two models the median is their mean: one of them could say anything."""


QUARTILE = 0.25


class Bristle(Merge):
    """Merge by performance on own validation samples; mixing weights are not asked."""

    needs_validation = True
    needs_classes = True

    def __init__(self, settings: BristleSettings | None = None) -> None:
        self.settings = settings or BristleSettings()
        self.declares_classes = self.settings.hardened
        self._layer: OutputLayer | None = None

    def check(self, space: ParameterSpace) -> None:
        """Raise `SettingError` unless the network learns an output layer only."""
        try:
            self._layer = OutputLayer(space)
        except SettingError as error:
            raise SettingError(f'[merge] kind = "bristle": {error}') from None

    def __call__(
        self, own: Tensor, own_weight: float, received: Sequence[Contribution], *, context: MergeContext
    ) -> Tensor:
        """Return the merged and centred output layer [L]; see `Merge`."""
        check_sizes(own, received)
        if received and not own_weight > 0:
            own = reference([each.model for each in received])
        layer = self._layer or OutputLayer(context.space)
        self._layer = layer
        judged = self._judged(own, received, context)
        merged = layer.rows(own).double()  # (classes, width)
        if judged:
            merged = self._integrated(own, judged, layer, context)
        merged = merged - merged.mean(dim=1, keepdim=True)
        return layer.vector(merged).to(own.dtype)

    def _judged(
        self, own: Tensor, received: Sequence[Contribution], context: MergeContext
    ) -> list[Contribution]:
        if not received:
            return []
        mine = own.double()
        distances = [float((each.model.double() - mine).norm()) for each in received]
        places = prioritiser.prioritise(
            distances,
            _ranks(received, distances, context),
            exploration=self.settings.exploration,
            budget=self.settings.budget,
            rng=context.rng(f"bristle, step {context.at.step}"),
        )
        chosen = set(places)
        for place, contribution in enumerate(received):
            if place not in chosen:
                context.judge(Verdict(contribution.sender, 0.0, "not drawn"))
        return [received[place] for place in places]

    def _integrated(
        self, own: Tensor, judged: list[Contribution], layer: OutputLayer, context: MergeContext
    ) -> Tensor:
        """Return own rows (classes, width), float64, merged with those of the judged."""
        x, y = context.x_validation, context.y_validation
        if x is None or y is None:
            raise ProtocolMisuse("bristle judges by validation samples, and was given none")
        familiar = layer.familiar(context.y)  # (classes,)
        known = familiar.nonzero().squeeze(1)  # (k,)
        raw = layer.rows(torch.stack([own, *(each.model for each in judged)])).double()
        rows = shortened(raw, known) if self.settings.hardened else raw  # (1 + n, classes, width)
        models = layer.vector(rows).to(own.dtype)
        predicted = torch.stack([context.predict(model, x).argmax(1) for model in models])  # (1 + n, m)
        f1 = integrator.f1_scores(predicted, y, known, of=layer.classes)
        mine, theirs = f1[0], f1[1:]
        score = integrator.scores(mine, theirs)
        best = integrator.best_classes(mine, theirs, self._best_counts(judged, known, context))
        certainty = integrator.certainty(theirs, best)
        w_foreign = integrator.foreign_weights(score, best, certainty)  # (n,)
        weights = w_foreign.unsqueeze(1).repeat(1, layer.classes)  # (n, classes)
        weights[:, known] = integrator.familiar_weights(score, certainty)
        shares = weights / (1 + weights.sum(0))
        merged = rows[0] * (1 - shares.sum(0)).unsqueeze(1) + torch.einsum("nc,ncw->cw", shares, rows[1:])
        if self.settings.hardened:
            self._take_medians(merged, shares, raw[1:], w_foreign, familiar, judged, context)
        for contribution, share in zip(judged, shares.mean(1).tolist(), strict=True):
            context.judge(Verdict(contribution.sender, share, "" if share else "worse"))
        return merged

    def _best_counts(self, judged: list[Contribution], known: Tensor, context: MergeContext) -> Tensor:
        """Return φ (n,): of how many familiar classes the sender declares samples, or as set where that is of none.

        Nobody is judged by classes that it cannot know: F1 scores of one and zero, of one class in common and another
        that is unknown, would make a certainty of zero.
        """
        mine = frozenset(known.tolist())
        declared = [context.declared.get(each.sender, frozenset()) for each in judged]
        counts = [len(mine & classes) or self.settings.best_classes for classes in declared]
        return torch.tensor(counts, device=known.device).clamp(max=len(mine))

    def _take_medians(
        self,
        merged: Tensor,
        shares: Tensor,
        rows: Tensor,
        w_foreign: Tensor,
        familiar: Tensor,
        judged: list[Contribution],
        context: MergeContext,
    ) -> None:
        """Put the holders' median in place of the foreign columns of `merged` (classes, width), and into `shares`."""
        trusted = [place for place, weight in enumerate(w_foreign.tolist()) if weight > 0]
        for c in (~familiar).nonzero().squeeze(1).tolist():
            holders = [
                place for place in trusted if c in context.declared.get(judged[place].sender, frozenset())
            ]
            if len(holders) >= HOLDERS_MIN:
                merged[c] = _median(rows[holders, c])
                shares[:, c] = 0
                shares[holders, c] = 1 / len(holders)


def shortened(rows: Tensor, known: Tensor) -> Tensor:
    """Return the layers (1 + n, classes, width), own first, with those received no longer than they may be.

    A whole layer is scaled down until its familiar columns, `known`, are together no longer than own ones or than the
    lower quartile of those received, whichever is more; the quartile is for peers that are new or far behind. Then its
    foreign columns are cut to the length of its longest familiar one, or own longest of all. The first changes no
    prediction, the second none of a layer of honest proportions. So merging makes nobody's layer longer than the
    longest honest one, unless more than three quarters of the neighbours attack.
    """
    norms = rows[:, known].flatten(1).norm(dim=1)  # (1 + n,)
    limit = torch.maximum(norms[0], norms[1:].quantile(QUARTILE, interpolation="lower"))
    scale = (limit / norms.clamp(min=torch.finfo(torch.float64).tiny)).clamp(max=1)
    scale[0] = 1
    scaled = rows * scale[:, None, None]
    columns = scaled.norm(dim=2)  # (1 + n, classes)
    longest = torch.maximum(columns[:, known].amax(1), columns[0].max()).unsqueeze(1)  # (1 + n, 1)
    cut = (longest / columns.clamp(min=torch.finfo(torch.float64).tiny)).clamp(max=1)
    cut[0] = 1
    short: Tensor = scaled * cut.unsqueeze(2)
    return short


def _ranks(
    received: Sequence[Contribution], distances: Sequence[float], context: MergeContext
) -> Sequence[int]:
    """Return each model's place (n,) in the order of their numbers, then of the classes that are declared with them.

    Asked only between equally far ones, so where there are none it is any order.
    """
    if len(set(distances)) == len(distances):
        return range(len(received))

    def content(place: int) -> tuple[list[float], list[int]]:
        each = received[place]
        return each.model.tolist(), sorted(context.declared.get(each.sender, ()))

    ranks = [0] * len(received)
    for rank, place in enumerate(sorted(range(len(received)), key=content)):
        ranks[place] = rank
    return ranks


def _median(rows: Tensor) -> Tensor:
    """Return the median (width,) of rows (n, width): of an even number, the mean of the two in the middle."""
    ordered = rows.sort(dim=0).values
    return (ordered[(len(rows) - 1) // 2] + ordered[len(rows) // 2]) / 2
