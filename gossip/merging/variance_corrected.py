"""Variance-corrected model averaging (arXiv 2404.04616): averages keep the variance of what was averaged.

m uncorrelated models of variance σ² have an average of variance σ²/m. Peers that start from independent models
therefore lose, merge by merge, the weight variance with which they were initialised, down to σ² ‖π‖² (π the left
stationary vector of W; 1/n where W is doubly stochastic): logits shrink with every layer, and nothing is learnt for
long. The correction scales each tensor ℓ of the average about its mean:

    out_ℓ ← (out_ℓ - μ_ℓ) · sqrt(T_ℓ / V_ℓ) + μ_ℓ,        μ_ℓ, V_ℓ = mean and variance of out_ℓ

T_ℓ is the weighted mean of the variances of the models that go in ("conservative", by the weights of the average, so
that the scale is never below one), of the received models alone ("others", the paper's), or the own variance ("self").

What the paper leaves open, and what is done here:

* Weights only. Biases begin at zero and have no variance to keep. A tensor without variance stays as it is: no ε is
  added, which would be larger than the variances of wide layers and would keep back some of them in every merge.
* No scale overshoots by a fixed factor, for errors multiply from merge to merge; there is a largest scale.
* Several gossip steps in a round are corrected together, after the last one, to the variances before the first.
* When models agree, scales are nearly one and the correction is off until they are not.
* Models may come in parts. Of each tensor, what lies within the part is then measured and corrected like a tensor; the
  rest, which is the same in all models, would dilute every scale. Each part is off or not by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from gossip.merging.average import Average, begin_mean, running_shares
from gossip.merging.base import Correction, Merge, MergeContext, check_sizes, check_weights
from gossip.merging.blocks import fresh_like, slices
from gossip.merging.moments import BLOCK_ELEMENTS, STACK_ELEMENTS, BlockSums, Moments, Scratch, moments
from gossip.merging.settings import VarianceCorrectedSettings
from gossip.parameters import ParameterSpace, Role, Slot
from gossip.protocols.base import WHOLE, Contribution, GossipStep, Part

NO_VARIANCE_RELATIVE = 1e-12
NO_VARIANCE = 1e-20
"""A variance below mean² · 1e-12 + 1e-20 is none: float32 cannot tell such elements from their mean."""


class VarianceCorrected(Merge):
    """The mixing matrix' average with the variance of the models that went in; one peer's instance."""

    retains = False

    def __init__(self, settings: VarianceCorrectedSettings | None = None) -> None:
        self.settings = settings or VarianceCorrectedSettings()
        self._average = Average()
        self._correction: VarianceCorrection | None = None
        self._memory: Memory = {}

    @classmethod
    def correction(cls, settings: VarianceCorrectedSettings, space: ParameterSpace) -> VarianceCorrection:
        """Return the correction of averages."""
        return VarianceCorrection(settings, space)

    def __call__(
        self, own: Tensor, own_weight: float, received: Sequence[Contribution], *, context: MergeContext
    ) -> Tensor:
        """Return the corrected average [L] as a fresh vector; see `Merge`."""
        if self._correction is None:
            self._correction = self.correction(self.settings, context.space)
        correction, memory, at = self._correction, self._memory, context.at
        measures_inputs, measures_average = correction.needs(memory, at), correction.corrects(memory, at)
        if not measures_inputs and not measures_average:
            correction.pass_over(memory, at)
            return self._average(own, own_weight, received)
        check_weights(own_weight, received)
        check_sizes(own, received)
        merged, variances, found = _average_measured(
            own,
            own_weight,
            received,
            correction.slots_in(at.part),
            correction.scratch,
            inputs=measures_inputs,
            average=measures_average,
        )
        weights = [own_weight, *(each.weight for each in received if each.weight)]
        correction.change(
            merged[None],
            variances[None],
            torch.tensor([weights], dtype=torch.float64, device=own.device),
            [memory],
            [at],
            found=found,
        )
        return merged


Memory: TypeAlias = "dict[Part, _Memory]"
"""What one peer keeps of each part from merge to merge."""


class VarianceCorrection(Correction):
    """The correction of averages. What is measured of a part of a model are the variances of the tensors that are
    corrected there (m,)."""

    def __init__(self, settings: VarianceCorrectedSettings, space: ParameterSpace) -> None:
        self.settings = settings
        self.scratch = Scratch()
        self._space = space
        self._slots: dict[Part, tuple[Slot, ...]] = {}

    def memory(self) -> Memory:
        """Return no targets, and no quiet merges."""
        return {}

    def slots_in(self, part: Part) -> tuple[Slot, ...]:
        """Return the tensors, or what the part has of them, that are corrected; others are only averaged."""
        slots = self._slots.get(part)
        if slots is None:
            slots = self._slots[part] = corrected_slots(self.settings, self._space, part)
        return slots

    def needs(self, memory: Memory, at: GossipStep) -> bool:
        """Return whether the targets come from this merge's models: the first of its round that is not passed over."""
        of_part = _of_part(memory, at)
        return bool(self.slots_in(at.part)) and of_part.round != at.round and not self._passes_over(of_part)

    def corrects(self, memory: Memory, at: GossipStep) -> bool:
        """Return whether the average is to be scaled: after the last gossip step, unless models agree."""
        return bool(self.slots_in(at.part)) and at.last and not self._passes_over(_of_part(memory, at))

    def pass_over(self, memory: Memory, at: GossipStep) -> None:
        """Note a merge for which nothing was to be measured."""
        if at.last:
            _of_part(memory, at).quiet += 1

    def measure(self, models: Tensor, part: Part) -> Tensor:
        """Return the variances (n, m) float64 of what is corrected in a part of `models` (n, L)."""
        slots = self.slots_in(part)
        return self._moments(models, slots).variance if slots else models.new_empty(len(models), 0).double()

    def change(
        self,
        averages: Tensor,
        measured: Tensor,
        weights: Tensor,
        memories: Sequence[Memory],
        steps: Sequence[GossipStep],
        *,
        found: Moments | None = None,
    ) -> None:
        """Scale the averages (n, L) in place; see `Correction`. `found` holds their moments if they are known."""
        merges = list(zip(memories, steps, strict=True))
        first = [place for place, merge in enumerate(merges) if self.needs(*merge)]
        last = [place for place, merge in enumerate(merges) if self.corrects(*merge)]
        for merge in merges:
            if not self.needs(*merge) and not self.corrects(*merge):
                self.pass_over(*merge)
        if first:
            fresh = target_variances(measured[first], weights[first], self.settings)  # (first, m)
            for place, target in zip(first, fresh, strict=True):
                _of_part(*merges[place]).remember(steps[place].round, target)
        if not last:
            return
        slots = self.slots_in(steps[0].part)
        of_parts = [_of_part(*merges[place]) for place in last]
        targets = torch.stack([of_part.take() for of_part in of_parts])
        if found is None:
            found = self._moments(averages if len(last) == len(averages) else averages[last], slots)
        scales = variance_scales(targets, found, scale_max=self.settings.scale_max)  # (last, m)
        strengths = self._strengths(of_parts, scales)
        _rescale(averages, last, slots, found.mean, 1 + strengths[:, None] * (scales - 1), self.scratch)

    def _moments(self, models: Tensor, slots: Sequence[Slot]) -> Moments:
        found = [moments(models[:, slot.offset : slot.end], self.scratch) for slot in slots]
        means, variances = (torch.stack(each, 1) for each in zip(*found, strict=True))  # (n, m)
        return Moments(means, variances)

    def _passes_over(self, memory: _Memory) -> bool:
        limit = self.settings.quiet_merges
        return bool(limit) and memory.quiet >= limit and memory.quiet % limit != 0

    def _strengths(self, memories: Sequence[_Memory], scales: Tensor) -> Tensor:
        """Return how much of its scale each peer applies (n,), and note whether its merge was quiet."""
        farthest = scales.log().abs().amax(1).exp().tolist()
        strengths = []
        for memory, scale in zip(memories, farthest, strict=True):
            quiet = scale < self.settings.quiet_scale
            off = quiet and 0 < self.settings.quiet_merges <= memory.quiet
            memory.quiet = memory.quiet + 1 if quiet else 0
            strengths.append(0.0 if off else self.settings.ratio)
        return torch.tensor(strengths, dtype=torch.float64, device=scales.device)


class _Memory:
    """What one peer keeps of one part from merge to merge."""

    __slots__ = ("quiet", "round", "target")

    def __init__(self) -> None:
        self.quiet = 0
        """Merges in a row, last gossip steps only, that needed hardly any correction."""
        self.round = -1
        self.target: Tensor | None = None
        """T (m,) of round `round`, from before its first gossip step."""

    def remember(self, round: int, target: Tensor) -> None:
        self.round, self.target = round, target

    def take(self) -> Tensor:
        assert self.target is not None, "a correction without a target"
        target, self.round, self.target = self.target, -1, None
        return target


def _of_part(memory: Memory, at: GossipStep) -> _Memory:
    found = memory.get(at.part)
    if found is None:
        found = memory[at.part] = _Memory()
    return found


def corrected_slots(
    settings: VarianceCorrectedSettings, space: ParameterSpace, part: Part = WHOLE
) -> tuple[Slot, ...]:
    """Return the learned slots that are corrected, by default weights, not biases; those cut short by a part flat."""
    first, end = part.bounds(space.learned_size)
    found = []
    for slot in space.slots_of(Role.LEARNED):
        start, stop = max(slot.offset, first), min(slot.end, end)
        if len(slot.shape) >= settings.ndim_min and stop - start >= settings.numel_min:
            cut = stop - start < slot.size
            found.append(replace(slot, offset=start, shape=(stop - start,)) if cut else slot)
    return tuple(found)


def target_variances(variances: Tensor, weights: Tensor, settings: VarianceCorrectedSettings) -> Tensor:
    """Return T (n, m) of n merges.

    Args:
        variances: of own and received models (n, k, m), own first.
        weights: of the average (n, k); models of weight 0 have no say.
        settings: target, and whether mean or median.
    """
    own = variances[:, 0]
    has_own = weights[:, :1] > 0
    if settings.target == "self" and bool(has_own.all()):
        return own
    counts = weights > 0
    if settings.target == "others":
        counts = counts.clone()
        counts[:, 0] = False
    if settings.over == "median":
        voices = torch.where(counts[:, :, None], variances, torch.nan)
        target = torch.nanquantile(voices, 0.5, dim=1)
    else:
        shares = torch.where(counts, weights, 0.0)
        # Not a product with zero: what has no say may be infinite.
        voices = torch.where(counts[:, :, None], variances, 0.0)
        target = (shares[:, :, None] * voices).sum(1) / shares.sum(1, keepdim=True)
    # An own model without weight is none of the round, and has no variance to keep.
    keeps_own = has_own if settings.target == "self" else ~counts.any(1, keepdim=True)
    return torch.where(keeps_own, own, target)


def variance_scales(targets: Tensor, found: Moments, *, scale_max: float) -> Tensor:
    """Return sqrt(T / V) (n, m) within [1 / scale_max, scale_max]; 1 where there is no variance to speak of."""
    mean, variance = found
    none = NO_VARIANCE_RELATIVE * mean.square() + NO_VARIANCE
    usable = (variance > none) & (targets > none) & variance.isfinite() & targets.isfinite()
    scales = (targets / variance).sqrt().clamp(1 / scale_max, scale_max)
    return torch.where(usable, scales, 1.0)


def _rescale(
    averages: Tensor,
    rows: Sequence[int],
    slots: Sequence[Slot],
    means: Tensor,
    scales: Tensor,
    scratch: Scratch,
) -> None:
    """Scale the tensors of some rows of `averages` (n, L) about their means; `means` and `scales` are (rows, m)."""
    whole = len(rows) == len(averages)
    excess = (scales - 1).to(averages.dtype)
    # What is not scaled may have overflowed, and infinity times zero is no number.
    means = torch.where(excess != 0, means.to(averages.dtype), 0.0)
    for slot, mean, more, any_more in zip(
        slots, means.T[:, :, None], excess.T[:, :, None], excess.any(0).tolist(), strict=True
    ):
        if not any_more:
            continue
        tensors = averages[:, slot.offset : slot.end]
        if len(averages) == 1:
            tensors.lerp_(mean[0, 0], -float(more))  # x + more · (x - mean), in one pass
            continue
        part = tensors if whole else tensors[list(rows)]
        for block in torch.split(part, max(1, STACK_ELEMENTS // len(part)), dim=1):
            block += torch.sub(block, mean, out=scratch.like(block)).mul_(more)
        if not whole:
            tensors[list(rows)] = part


def _average_measured(
    own: Tensor,
    own_weight: float,
    received: Sequence[Contribution],
    slots: Sequence[Slot],
    scratch: Scratch,
    *,
    inputs: bool,
    average: bool,
) -> tuple[Tensor, Tensor, Moments]:
    """Average block by block, and measure what is in the cache anyway.

    Returns:
        The average [L] as `Average` computes it, the variances (k, m) of own and received models that have a weight,
        and the average's moments (1, m); of what was not asked for, none: (0, m).
    """
    shares = running_shares(own_weight, received)
    merged = fresh_like(own)
    found: list[Moments] = []
    count = len(shares) + 1 if inputs else 0
    end = 0
    for slot in slots:
        _average_block(merged, own, shares, end, slot.offset)
        end = slot.end
        sums = BlockSums(count + average, scratch)
        with np.errstate(over="ignore"):  # sums are infinite, then, and nothing is corrected
            for here in slices(slot.size, BLOCK_ELEMENTS):
                start, stop = slot.offset + here.start, slot.offset + here.stop
                _average_block(merged, own, shares, start, stop, sums if inputs else None)
                if average:
                    sums.add(merged[start:stop])
        found.append(sums.joined())
    _average_block(merged, own, shares, end, len(own))
    means, variances = (torch.stack(each, 1) for each in zip(*found, strict=True))  # (count + average, m)
    return merged, variances[:count], Moments(means[count:], variances[count:])


def _average_block(
    merged: Tensor,
    own: Tensor,
    shares: Sequence[tuple[Tensor, float]],
    start: int,
    stop: int,
    sums: BlockSums | None = None,
) -> None:
    """Write ``merged[start:stop]``; `sums` measure own and received blocks on the way."""
    if start == stop:
        return
    out = merged[start:stop]
    if not shares:
        out.copy_(own[start:stop])
    if sums is not None:
        sums.add(own[start:stop])
    for place, (model, share) in enumerate(shares):
        block = model[start:stop]
        if place == 0:
            begin_mean(own[start:stop], block, share, out=out)
        else:
            out.lerp_(block, share)
        if sums is not None:
            sums.add(block)
