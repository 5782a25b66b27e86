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
    when: str
    """When to choose it, or what it is: its own first sentence."""


def methods() -> Iterator[Method]:
    """Yield all there are, by groups."""
    for kind, family in FAMILIES.items():
        if "path" not in family.takes:
            yield Method(
                group=GRAPH, name=kind, values={"topology.kind": kind}, when=first_sentence(family.draw)
            )
    for protocol in PROTOCOLS.ours():
        kind = str(protocol.model_fields["kind"].default)
        only = " (in scenarios only)" * protocol().load().scenarios_only
        yield Method(
            group=PROTOCOL, name=kind, values={"protocol.kind": kind}, when=first_sentence(protocol) + only
        )
        for key, value in VARIATIONS.items():
            if key in protocol.model_fields:
                yield Method(
                    group=PROTOCOL,
                    name=f"{kind}, {key} = {value}",
                    values={"protocol.kind": kind, f"protocol.{key}": value},
                    when=str(protocol.model_fields[key].description),
                )
    for key, value in SECTIONS.items():
        section, _, name = key.partition(".")
        if section in TaskSettings.model_fields:
            yield Method(
                group=PROTOCOL,
                name=f"{section}, {name} = {value}",
                values={key: value, "protocol.gossip_steps": 0},
                when=first_sentence(type(TaskSettings.model_fields[section].default)),
            )
    for codec in CODECS.ours():
        kind = str(codec.model_fields["kind"].default)
        yield Method(group=CODEC, name=kind, values={"codec.kind": kind}, when=first_sentence(codec))


VARIATIONS: Mapping[str, Any] = {"gossip_steps": 4, "parts": 4}
"""Settings of protocols by which a round's bytes are chosen, wherever a protocol has them."""

SECTIONS: Mapping[str, Any] = {}
"""Sections of a task that replace a round's exchanges: a key, and a value that turns it on."""


def first_sentence(thing: Any) -> str:
    """Return the first sentence of a docstring."""
    said = " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())
    return re.split(r"(?<=[.;])\s", said)[0].rstrip(".;") if said else ""


__all__ = ["CODEC", "GRAPH", "PROTOCOL", "Method", "first_sentence", "methods"]
