"""Which methods there are to choose from: walked over the project's own tables, so that a new one is there at once."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gossip.config import TaskSettings
from gossip.protocols.settings import PROTOCOLS
from gossip.wire.codecs.settings import CODECS
from topologies.families import FAMILIES

GRAPH = "who talks to whom"
PROTOCOL = "when, and how much of a model"
CODEC = "how a model becomes bytes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One choice, laid over a scenario."""

    group: str
    name: str
    values: Mapping[str, Any]
    """SECTION.KEY -> value."""
    rounds: int | None = None
    """To be counted over where it is not the same in all of them; None: a few."""
    when: str
    """When to choose it, or what it is: its own first sentence."""


def methods() -> Iterator[Method]:
    """Yield all there are, by groups."""
    for kind, family in FAMILIES.items():
        if "path" not in family.takes:
            yield Method(group=GRAPH, name=kind, values={"topology.kind": kind}, when=when(kind, family.draw))
    for protocol in PROTOCOLS.ours():
        kind = str(protocol.model_fields["kind"].default)
        yield Method(group=PROTOCOL, name=kind, values={"protocol.kind": kind}, when=when(kind, protocol))
        for key, value in VARIATIONS.items():
            if key in protocol.model_fields:
                yield Method(
                    group=PROTOCOL,
                    name=f"{kind}, {key} = {value}",
                    values={"protocol.kind": kind, f"protocol.{key}": value},
                    when=WHEN.get(f"{kind}.{key}") or str(protocol.model_fields[key].description),
                )
    for key, value in SECTIONS.items():
        section, _, name = key.partition(".")
        if section in TaskSettings.model_fields:
            yield Method(
                group=PROTOCOL,
                name=f"{section}, {name} = {value}, once in {RUN_ROUNDS} rounds",
                rounds=RUN_ROUNDS,
                values={key: value, "protocol.gossip_steps": 0},
                when=when(section, type(TaskSettings.model_fields[section].default)),
            )
    for codec in CODECS.ours():
        kind = str(codec.model_fields["kind"].default)
        yield Method(group=CODEC, name=kind, values={"codec.kind": kind}, when=when(kind, codec))


VARIATIONS: Mapping[str, Any] = {"gossip_steps": 4, "parts": 4}
"""Settings of protocols by which a round's bytes are chosen, wherever a protocol has them."""

SECTIONS: Mapping[str, Any] = {"final.steps": "period"}
"""Sections of a task that replace every round's exchanges: a key, and a value that turns it on."""

RUN_ROUNDS = 100
"""Of a run whose only exchange is at its end."""


WHEN: Mapping[str, str] = {
    "ring": "few bytes, many rounds: when the link is slow and peers are few, or their data are alike",
    "torus": "between ring and exponential",
    "exponential": "news of everybody in log n rounds: the default, when links bear log n models a round",
    "one-peer-exponential": "as exponential, spread over rounds: one model a round, and peers in step",
    "full": "exact averages: few peers, or small models",
    "star": "the first peer bears what all the others save: a reference",
    "hypercube": "as exponential with half the models, for a power of two",
    "regular": "as few models as wanted, and good mixing without a structure",
    "erdos-renyi": "for comparison: some peers have few neighbours",
    "community": "when peers of one place have better links to each other",
    "small-world": "for comparison: a ring with short cuts",
    "barabasi-albert": "for comparison: a few peers have most neighbours, and most to send",
    "random-neighbours": "good mixing where everybody can reach everybody; degree says how many models",
    "pairs": "the fewest bytes of a round: one model at most, to somebody else each time",
    "base": "exact averages after a few rounds with at most k neighbours each: few bytes, any number of peers",
    "groups": "exact averages after one turn of small groups: few bytes, numbers of peers with small factors",
    "epidemic-push": "peers that come and go, where everybody can reach everybody; the mean of models drifts",
    "epidemic-pull": "as epidemic-push, and nobody is left without a model",
    "rounds": "the default: peers in step, everybody learns from its neighbours in each round",
    "rounds.gossip_steps": "closer models for as many times the bytes: unequal data, good links",
    "rounds.parts": "a part in each step: smaller rounds, slower agreement; slow links",
    "final": "one exact average when all have learnt: the least of all bytes, where nobody needs the model before",
    "modest": "most peers rest in a round, and a few do all: many peers, of which some are away",
    "fedavg": "a reference with a server, in scenarios only",
    "push": "nobody waits for anybody: machines of different speeds, peers that come and go",
    "push.parts": "the same with shorter pushes: slow links",
    "float32": "when bytes cost nothing",
    "float16": "weights of order one, at half the bytes",
    "bfloat16": "weights of any size, at half the bytes",
    "int8": "wherever bytes cost anything: a quarter of them, and no accuracy lost in what was measured",
    "top-change": "when few numbers change between rounds, and models need not agree to the last digit",
    "choco": "links and graph that stay: fewer bytes than int8, and as good as float32",
    "int4": "when the link is the limit: a seventh of the bytes, models agree less",
}
"""When to choose one; what stands not here is told by its own first sentence."""


def when(name: str, thing: Any) -> str:
    """Return when to choose what is called so."""
    return WHEN.get(name) or first_sentence(thing)


def first_sentence(thing: Any) -> str:
    """Return the first sentence of a docstring."""
    said = " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())
    return re.split(r"(?<=[.;])\s", said)[0].rstrip(".;") if said else ""


__all__ = ["CODEC", "GRAPH", "PROTOCOL", "Method", "first_sentence", "methods"]
