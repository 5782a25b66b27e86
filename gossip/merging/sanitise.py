"""What a received model must be before any rule sees it, and what becomes of peers that send what is not.

A rule may then rely on vectors that are finite, of the right shape, at most one for each sender, and of a length that
an honest model can have. What is left out is counted by its reason; its weight goes to the own model.

The bound on the norm. An honest model is about as long as the own one, or as those of the others:

    ‖x_j‖ <= norm_factor · max(‖x_i‖, min(median_{k≠j} ‖x_k‖, √L))

The own norm is what no attacker chooses. The median over the other senders of the same merge lets in the honest models
around a peer that starts late, or from a zero head; it is the lower one, and does not count beyond √L (a root mean
square of one per parameter, which trained networks do not come near), so that no majority of attackers can lift the
bound at will. Where there is no other sender, √L stands for the median. Models drawn independently by one initialiser
have norms within a few percent of each other: with the default factor of ten none of them is ever refused.

Who sends `offences_max` refused models, and not as many good ones between, is muted for `mute_rounds` rounds, and
twice as long each time it goes on after that: its models are then not decoded, looked at or kept.

Of a model of which only some numbers came, at the places S, those are judged against the own ones there, and k stands
for L: ‖v‖ <= norm_factor · max(‖x_i,S‖, min(median, √k)), the others' norms being scaled to k numbers. Measured whole,
completed by the receiver's own numbers, ten models' length could hide in a tenth of the numbers.

What needs no look at the numbers is refused before: another model, task or run (`space_id`) and a sequence number that
does not rise by the wire, which ends the connection; models of rounds past, of no neighbour or sent twice by the
protocols.

Free of torch, of clocks and of the network: rounds are the only time there is, so that a node and a simulation with the
same models mute the same peers.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Container, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from pydantic import Field

from gossip.partial import Partial
from gossip.protocols.base import Contribution, PeerId
from gossip.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

NON_FINITE, NORM, SHAPE, SAME_SENDER, MUTED_SENDER = "non-finite", "norm", "shape", "same-sender", "muted"
"""Why a model is left out."""

UNSEEN = -1.0
"""Stands for the norm of a model that was not decoded."""

MUTE_DOUBLINGS_MAX = 5
"""After so many the time no longer grows: a peer whose operator has mended it is heard again within a run."""


class _Muted:
    """Stands for a model that was not even decoded."""

    def __repr__(self) -> str:
        return "MUTED"


MUTED: Final = _Muted()
"""What a world hands on as the model of a muted peer's message: protocols do not look at models."""


class SanitiseSettings(Settings):
    """`[sanitise]`: what is refused before any rule sees it. Each peer decides for itself."""

    norm_factor: float = Field(
        10.0,
        ge=1,
        description="a model may be so many times as long as the own one or as most others' are; smaller: tighter, but "
        "late joiners may find everybody too long",
    )
    offences_max: int = Field(3, ge=1, description="so many refused models mute their sender")
    mute_rounds: int = Field(10, ge=0, description="for how long, the first time; 0 never mutes")


class Some(NamedTuple):
    """What a model is measured by of which only some numbers came."""

    own_norm: float
    """Of the own model, at the places that came."""
    share: float
    """Of all numbers, k / L."""


WHOLE_ALL: Final[Mapping[PeerId, Some]] = MappingProxyType({})
"""All numbers have come of all models."""


class Refusal(NamedTuple):
    """One received model that no rule has seen."""

    sender: PeerId
    reason: str
    muted_rounds: int = 0
    """For how long its sender is muted because of it."""

    @property
    def weight(self) -> float:
        """None of the merge is its."""
        return 0.0


class _Offender:
    __slots__ = ("mutes", "offences", "until_round")

    def __init__(self) -> None:
        self.offences = 0
        self.mutes = 0
        self.until_round = -1


class Sanitiser:
    """One peer's: judges norms, which its caller has measured, and remembers offenders.

    Args:
        settings: `[sanitise]`.
        learned_size: L.
    """

    def __init__(self, settings: SanitiseSettings, learned_size: int) -> None:
        self.settings = settings
        self._root_size = math.sqrt(learned_size)
        self._offenders: dict[PeerId, _Offender] = {}
        self.round = -1
        """The newest that it has heard of."""

    @property
    def spotless(self) -> bool:
        """Whether nobody has offended: then models within the own norm's bound pass without further ado."""
        return not self._offenders

    def is_muted(self, sender: PeerId) -> bool:
        """Return whether `sender`'s models are dropped unseen at present."""
        offender = self._offenders.get(sender)
        return offender is not None and self.round < offender.until_round

    def judge(
        self,
        own_norm: float,
        norms: Sequence[tuple[PeerId, float | None]],
        *,
        round: int | None = None,
        again: Container[PeerId] = (),
        some: Mapping[PeerId, Some] = WHOLE_ALL,
        bounded: bool = True,
    ) -> list[Refusal | None]:
        """Return for each received model why it is left out, or None.

        Args:
            own_norm: ‖x_i‖.
            norms: sender and ‖x_j‖; NaN where values are not finite, None where the shape is wrong, `UNSEEN`.
            round: of the merge; by default the newest one.
            again: senders whose model was judged in an earlier merge. Once more is no further offence, nor does it
                make up for one.
            some: of whose models only some numbers came; `norms` are of those.
            bounded: whether one may be too long. What is made of a majority needs no such bound, and an own model that
                a liar has made short would set it too low for the honest.
        """
        if round is not None:
            self.round = max(self.round, round)
        seen: set[PeerId] = set()
        reasons = []
        finite = {
            sender: norm / math.sqrt(some[sender].share) if sender in some else norm
            for sender, norm in norms
            if norm is not None and norm >= 0
        }
        for sender, norm in norms:
            if norm == UNSEEN or self.is_muted(sender):
                reasons.append(MUTED_SENDER)
            elif sender in seen:
                reasons.append(SAME_SENDER)
            elif norm is None:
                reasons.append(SHAPE)
            elif math.isnan(norm):
                reasons.append(NON_FINITE)
            elif bounded and norm > self._bound(
                own_norm, (finite[other] for other in finite if other != sender), some.get(sender)
            ):
                reasons.append(NORM)
            else:
                reasons.append("")
            seen.add(sender)
        return [
            (Refusal(sender, reason) if reason else None) if sender in again else self._note(sender, reason)
            for (sender, _), reason in zip(norms, reasons, strict=True)
        ]

    def _bound(self, own_norm: float, others: Iterable[float], some: Some | None) -> float:
        known = sorted(others)
        median = statistics.median_low(known) if known else self._root_size
        usual = min(median, self._root_size)
        if some is not None:
            own_norm, usual = some.own_norm, usual * math.sqrt(some.share)
        return self.settings.norm_factor * max(own_norm, usual)

    def _note(self, sender: PeerId, reason: str) -> Refusal | None:
        settings = self.settings
        offender = self._offenders.get(sender)
        if not reason:
            if offender is not None and offender.offences:
                offender.offences -= 1
                if not offender.offences and not offender.mutes:
                    del self._offenders[sender]
            return None
        if reason == MUTED_SENDER:
            return Refusal(sender, reason)
        if offender is None:
            offender = self._offenders[sender] = _Offender()
        offender.offences = min(offender.offences + 1, settings.offences_max)
        if offender.offences < settings.offences_max or not settings.mute_rounds:
            return Refusal(sender, reason)
        # Once is enough the next time: a good model or more must come between.
        offender.offences -= 1
        muted_rounds = settings.mute_rounds << min(offender.mutes, MUTE_DOUBLINGS_MAX)
        offender.mutes += 1
        offender.until_round = max(self.round, 0) + 1 + muted_rounds
        return Refusal(sender, reason, muted_rounds)


def norm_of(model: Tensor) -> float:
    """Return ‖x‖ of a float32 vector [L]: NaN where a value is not finite, and exact beyond float32's range."""
    norm = float(model.norm())
    if math.isfinite(norm):
        return norm
    if not bool(model.isfinite().all()):
        return math.nan
    return float(model.double().norm())


def norms_of(own: Tensor, received: Sequence[Contribution]) -> list[tuple[PeerId, float | None]]:
    """Return sender and norm of each received model, as `Sanitiser.judge` wants them."""
    norms: list[tuple[PeerId, float | None]] = []
    for contribution in received:
        model = contribution.model
        if model is MUTED:
            norms.append((contribution.sender, UNSEEN))
        elif isinstance(model, Partial):
            fits = model.of == len(own)
            norms.append((contribution.sender, norm_of(model.values) if fits else None))
        elif model.shape != own.shape or model.dtype != own.dtype:
            norms.append((contribution.sender, None))
        else:
            norms.append((contribution.sender, norm_of(model)))
    return norms


def some_of(own: Tensor, received: Sequence[Contribution]) -> dict[PeerId, Some]:
    """Return how models are measured of which only some numbers came."""
    return {
        each.sender: Some(norm_of(own[each.model.places]), len(each.model.places) / each.model.of)
        for each in received
        if isinstance(each.model, Partial) and each.model.of == len(own)
    }


def judged_before(received: Sequence[Contribution]) -> frozenset[PeerId]:
    """Return the senders whose model an earlier merge had."""
    return frozenset(each.sender for each in received if each.again)


def without(
    own_weight: float, received: Sequence[Contribution], refusals: Sequence[Refusal | None]
) -> tuple[float, list[Contribution]]:
    """Return the own weight and the contributions that are left; weights still sum to one.

    What was left out is the own model's weight. Where that has none (an aggregator averages other peers' models and
    not its own), the models that are left share it as they share the rest.
    """
    kept = [each for each, refusal in zip(received, refusals, strict=True) if refusal is None]
    if len(kept) == len(received):
        return own_weight, list(received)
    weight = math.fsum(each.weight for each in kept)
    if own_weight > 0 or not weight > 0:
        return 1.0 - weight, kept
    return 0.0, [each._replace(weight=each.weight / weight) for each in kept]
