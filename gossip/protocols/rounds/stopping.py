"""Peers of `rounds` agree, without a server, to stop before all rounds are done.

A peer that wants to stop, by its own scores, says so once: its name, the rounds that it had done, and why, signed with
its key. Whoever learns of such a *want* passes it on to all its contacts, so that all peers soon know of the same ones;
and what is signed can be kept back on the way, but neither made up nor changed. Wants are never taken back.

With n peers of which f may lie, `enough` = ⌊(n - f)/2⌋ + 1 + f wants decide. Let s be the round of the enough-th
earliest of them; the last round is then

    s + hops + 1,    but never before the round that a peer is in has ended, and never after [stop] rounds,

where `hops` is the longest way from peer to peer. Neighbours that wait for one another are at most one round apart and
a round lasts longer than a message travels, so a want of round s is known everywhere before anybody has done that many:
all stop in the same round. The rounds do not depend on how wants travelled, only on which there are: the last round of
those that are known only falls as more are heard of, and all that decides it is told to the neighbours before a peer
stops. So later news (a neighbour was away; a liar kept its want back) makes peers stop in different rounds, but, with a
way of d hops between honest peers that are up, no more than 2·d + 1 rounds apart.

Why not a threshold among neighbours, without signatures: on a ring with f = 1 nobody could be sure of anything that is
said by one neighbour only, and two peers side by side that do not want to stop would go on alone for ever.

What f liars can do:

* Want to stop from the beginning: more than half of the honest peers must still want to before anybody stops.
* Not want to, ever: where n is large enough (`enough`) the others suffice; else the run goes on to `[stop] rounds`.
* Sign two wants of different rounds, and tell each to some: whoever hears of both counts that peer as of round 0, and
  passes on both, so that others do the same.
* Pass nothing on: as long as the honest peers that are up hang together, they hear of everything without the liar.
* Repeat what was signed in an earlier run of the same id, i.e. of the same settings and seed begun anew from the start.
  Nothing is done about that; another seed is another run.

Peers that are down count among the n and want nothing. All wants that are known, and the decision, are in every
checkpoint; and the neighbours repeat to a peer that comes back what they know, also what it had said itself.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, TypeAlias

from gossip.protocols.base import Context, Message, MessageRejected, PeerId
from gossip.protocols.stopping import WHYS, OwnScore, StopRule, enough

Want: TypeAlias = tuple[str, int, str, bytes]
"""As it travels: who, the rounds it had done, why, and its signature."""

WANTS_MAX = 200
"""In one message: fits into a small document with the longest names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WantsMessage(Message):
    """These peers want to stop; they have signed it themselves."""

    kind: ClassVar[str] = "wants"
    wants: tuple[tuple[str, int, str, bytes], ...]


class Decision(NamedTuple):
    """That enough want to stop."""

    last: int
    """Rounds after which all do."""
    why: str


class Stopping:
    """What one peer wants and knows of others' wants.

    Args:
        rule: of the run.
        state: what `saved` returned for the checkpoint; else empty.
    """

    __slots__ = (
        "_known",
        "_log",
        "_own",
        "_peers_given",
        "_peers_known",
        "_rule",
        "_saved",
        "_told",
        "decision",
    )

    def __init__(self, rule: StopRule, state: Mapping[str, int | float | str]) -> None:
        if state.get("stop_run") != rule.run:
            state = {}  # of other settings
        self._rule = rule
        self._own = OwnScore(rule, state)
        self.decision: Decision | None = None
        """The earliest so far."""
        if "stop_last" in state:
            self.decision = Decision(int(state["stop_last"]), str(state["stop_decided"]))
        self._log: list[Want] = []
        """What others are told, in the order in which it was learnt."""
        self._known: dict[PeerId, list[Want]] = {}
        """By who wants: one, or two that contradict each other."""
        self._told: dict[PeerId, int] = {}
        """How many of the log each contact knows from us, or we from it."""
        self._peers_given: Sequence[PeerId] = ()
        self._peers_known: frozenset[PeerId] = frozenset()
        self._saved = str(state.get("stop_wants", "[]"))
        """The log as a checkpoint has it."""
        for peer, since, why, signature in json.loads(self._saved):
            self._log.append((peer, since, why, bytes.fromhex(signature)))
            self._known.setdefault(peer, []).append(self._log[-1])

    def saved(self) -> Mapping[str, int | float | str]:
        """Return what a checkpoint must hold of it."""
        state = {"stop_run": self._rule.run, **self._own.saved()}
        if self._log:
            if not self._saved:
                self._saved = json.dumps([(*want[:3], want[3].hex()) for want in self._log])
            state["stop_wants"] = self._saved
        if self.decision is not None:
            state |= {"stop_last": self.decision.last, "stop_decided": self.decision.why}
        return state

    def scored(self, ctx: Context, contacts: Iterable[PeerId], *, round: int, score: float | None) -> None:
        """Take the own model's score after `round`, and say so where that makes the peer want to stop."""
        why = self._own.judge(round, score)
        if why is None or ctx.peer in self._known:
            return
        self._add((ctx.peer, round, why, ctx.sign(self._statement(ctx.peer, round, why))))
        self._saved = ""
        self._decide(ctx)
        self.tell(ctx, contacts)

    def heard(self, ctx: Context, contacts: Iterable[PeerId], sender: PeerId, message: WantsMessage) -> None:
        """Take what a contact knows, and pass on what is new. What was not signed by whom it names ends the message."""
        before, peers = len(self._log), self._peers(ctx)
        in_step = self._told.get(sender, 0) == before
        for want in message.wants:
            peer, since, why, signature = want
            known = self._known.get(peer, [])
            if len(known) > 1 or any(other[1] == since for other in known):
                continue
            signed = peer in peers and ctx.verify(peer, self._statement(peer, since, why), signature)
            if not signed or since < 0 or why not in WHYS:
                ctx.emit(MessageRejected(sender=sender, reason="not-signed"))
                break
            self._add(want)
        if in_step:
            self._told[sender] = len(self._log)
        if len(self._log) > before:
            self._saved = ""
            self._decide(ctx)
            self.tell(ctx, contacts)

    def forget_told(self, contact: PeerId) -> None:
        """Tell a contact everything anew: it may have begun anew itself."""
        self._told.pop(contact, None)

    def tell(self, ctx: Context, contacts: Iterable[PeerId]) -> None:
        """Tell the contacts that are up what they have not been told."""
        end = len(self._log)
        made: dict[int, list[WantsMessage]] = {}
        for peer in sorted(contacts):
            start = self._told.get(peer, 0)
            if start == end or not ctx.is_up(peer):
                continue
            self._told[peer] = end
            if start not in made:
                made[start] = [
                    WantsMessage(wants=tuple(self._log[at : min(at + WANTS_MAX, end)]))
                    for at in range(start, end, WANTS_MAX)
                ]
            for message in made[start]:
                ctx.send(peer, message)

    def _add(self, want: Want) -> None:
        """Keep a want, to be passed on if it may change the decision, here or anywhere."""
        wants = self._known.setdefault(want[0], [])
        wants.append(want)
        # Two that contradict each other count as round 0. Else what is not earlier than the last of those that decide
        # decides nothing: whoever has not decided yet is told of those. It is kept for the case that a second follows.
        if len(wants) > 1 or self.decision is None or want[1] < self.decision.last - self._rule.hops - 1:
            self._log += [each for each in wants if each not in self._log]

    def _decide(self, ctx: Context) -> None:
        """Decide anew from what is known."""
        peers = self._peers(ctx)
        needed = enough(len(peers), self._rule.liars)
        if len(self._known) < needed:
            return
        counted = sorted(
            (0 if len(wants) > 1 else wants[0][1], peer, wants[0][2])
            for peer, wants in self._known.items()
            if peer in peers
        )
        if len(counted) < needed:
            return
        last = counted[needed - 1][0] + self._rule.hops + 1
        if self.decision is None or last < self.decision.last:
            whys = Counter(why for _, _, why in counted[:needed])
            self.decision = Decision(last, max(sorted(whys), key=whys.__getitem__))

    def _peers(self, ctx: Context) -> frozenset[PeerId]:
        # The peers file may be read again while we run; the world then gives another sequence.
        if ctx.peers is not self._peers_given:
            self._peers_given, self._peers_known = ctx.peers, frozenset(ctx.peers)
        return self._peers_known

    def _statement(self, peer: PeerId, since: int, why: str) -> bytes:
        return json.dumps(["gossip-node wants to stop", self._rule.run, peer, since, why]).encode()
