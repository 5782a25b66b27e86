"""A protocol: after every local update a peer chooses another one at random, and the two average."""

from dataclasses import dataclass

import gossip


@dataclass(frozen=True, slots=True, kw_only=True)
class PairMessage(gossip.Message):
    kind = "pair"
    carries_model = True
    round: int
    reply: bool
    model: gossip.Model


class RandomPairs(gossip.Protocol):
    """[protocol] kind = "python:own_protocol.py:RandomPairs"."""

    messages = (PairMessage,)
    everybody = True  # no graph: it chooses by itself whom it talks to

    def __init__(self, settings, *, rounds, model, state):
        self.rounds, self.model, self.round, self.inbox = rounds, model, int(state.get("round", 0)), {}

    def on_start(self, ctx):
        ctx.train(self.model, round=self.round) if self.round < self.rounds else ctx.finish(self.model)

    def on_message(self, ctx, sender, message):
        self.inbox[sender] = message.model
        if not message.reply:
            ctx.send(sender, PairMessage(round=self.round, reply=True, model=self.model))

    def on_trained(self, ctx, ticket, model):
        others = [peer for peer in ctx.contacts if ctx.is_up(peer)]
        if others:
            other = others[ctx.rng("pair", self.round).integers(len(others))]
            ctx.send(other, PairMessage(round=self.round, reply=False, model=model))
        share = 1 / (len(self.inbox) + 1)
        received = [gossip.Contribution(sender, each, share) for sender, each in self.inbox.items()]
        self.model, self.inbox = ctx.merge(model, share, received, at=gossip.GossipStep(self.round)), {}
        self.round += 1
        ctx.emit(gossip.RoundCompleted(round=self.round, model=self.model, heard=len(received), expected=1))
        self.on_start(ctx)
