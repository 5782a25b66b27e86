"""Which part of a model a gossip step sends and mixes, where models travel in parts.

With S parts, step q of round t is of part (t·Q + q) mod S, contiguous and as large as the others: all peers of a step
know it by the tag, so that no indices travel, no liar chooses them, every merge rule sees models that differ in that
part alone, and the mean of each part is kept as that of a model would be. S steps without training between them do to
the parts, one after another, what one step does to the whole.

Two messages carry more than the tag says. One that has finished answers those who are far behind with its whole model,
once: they begin their last round from it, and nobody has a turn left for its other parts. And what stands in for a part
that does not come must be that part: what came late waits for the next turn of its part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from gossip.protocols.base import WHOLE, Context, Contribution, GossipStep, Message, Model, ModelMessage, Part
from gossip.protocols.rounds.final import FinalSteps
from gossip.protocols.settings import RoundsSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class PieceMessage(Message):
    """One part of a model as it stands before gossip step `step` of round `round`."""

    kind: ClassVar[str] = "piece"
    carries_model: ClassVar[bool] = True
    round: int
    step: int
    part: int
    parts: int
    """Into so many a model is divided."""
    model: Model

    @property
    def piece(self) -> Part:
        """Return the part that has come."""
        return Part(self.part, self.parts)

    @property
    def number(self) -> int:
        """Return what a whole model of that step has."""
        return 64 * self.round + self.step


MODELS = (ModelMessage, PieceMessage)


class Parts:
    """The turns of the parts; with one of them, models travel whole.

    Args:
        settings: S and Q.
        final: steps of the last round that follow its Q: all of a model is sent in them.
    """

    __slots__ = ("_final", "_gossip_steps", "of", "turn_rounds")

    def __init__(self, settings: RoundsSettings, final: FinalSteps) -> None:
        self._final = final
        self.of = settings.parts
        self._gossip_steps = settings.gossip_steps
        self.turn_rounds = -(-self.of // max(1, settings.gossip_steps)) - 1
        """So many rounds later than a whole model's the next turn of a part may be."""

    def part(self, round: int, step: int) -> Part:
        """Return the part whose turn a step is; steps that follow the last round's own are of whole models."""
        if self.of == 1 or step >= self._gossip_steps > 0:
            return WHOLE
        return Part((round * self._gossip_steps + step) % self.of, self.of)

    def step(self, round: int, step: int, *, steps: int) -> GossipStep:
        """Return a step as merge rules are told of it: the last one of its part in its round of `steps`, or not."""
        if self.of == 1 and steps == self._gossip_steps:
            return GossipStep(round, step, step + 1 == steps)
        if steps > self._gossip_steps:
            whole = self._final.exact and step >= self._gossip_steps
            return GossipStep(round, step, step + 1 == steps, self.part(round, step), whole)
        last = step + self.of >= steps
        return GossipStep(round, step, last, self.part(round, step))

    def message(self, round: int, step: int, model: Model, *, whole: bool = False) -> Message:
        """Return what a step sends; `whole`: whatever its turn."""
        if whole or self.of == 1 or step >= self._gossip_steps:
            return self._final.type_of(step)(round=round, step=step, model=model)
        place = self.part(round, step).place
        return PieceMessage(round=round, step=step, part=place, parts=self.of, model=model)

    def fits(self, message: ModelMessage | PieceMessage) -> bool:
        """Return whether what has come of a model is what its tag says, or all of it before a round's first step."""
        if isinstance(message, ModelMessage):
            if type(message) is not self._final.type_of(message.step):
                return False
            return self.of == 1 or message.step == 0 or message.step >= self._gossip_steps
        of = self.of
        return 1 < of == message.parts and Part(message.part, of) == self.part(message.round, message.step)

    def merge(
        self,
        ctx: Context,
        own: Model,
        own_weight: float,
        received: Sequence[Contribution],
        *,
        at: GossipStep,
    ) -> Model:
        """Return the own model merged with what came of others', in the part whose turn it is."""
        if self.of == 1 or at.part == WHOLE:
            return ctx.merge(own, own_weight, received, at=at)
        filled = [each._replace(model=ctx.graft(own, each.model, at.part)) for each in received]
        # A rule may change what was equal, too: of the other parts nothing is taken over.
        return ctx.graft(own, ctx.merge(own, own_weight, filled, at=at), at.part)
