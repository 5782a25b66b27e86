"""What may be a mistake and is accepted: a sentence at the start, and only where it matters to safety."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gossip.learning.settings import LocalSettings
from gossip.merging.settings import AverageSettings, VarianceCorrectedSettings
from gossip.protocols.modest.claims import liars_max
from gossip.protocols.modest.settings import FedAvgSettings, ModestSettings
from gossip.protocols.push.settings import WALKS, PushSettings
from gossip.protocols.settings import FinalSettings, RoundsSettings
from gossip.settings import Choice

ADAPTIVE_RHO_USUAL = 0.25
"""Adaptive SAM's radii from here on differ from no SAM at all; the presets' are those of standard SAM."""


def cautions(protocol: Choice, merge: Choice) -> Iterator[str]:
    """Yield what should be known of a protocol with a merge rule."""
    if isinstance(protocol, PushSettings) and protocol.variant in WALKS:
        yield (
            f"[protocol] variant = '{protocol.variant}': the model of the neighbour that pushed last is taken over, so "
            "one that lies can ruin the model; where not all can be trusted, use variant = 'merge-update' with memory "
            "and a robust rule, such as nnm+trimmed-mean with f = 1"
        )
    elif isinstance(protocol, PushSettings) and isinstance(
        merge, AverageSettings | VarianceCorrectedSettings
    ):
        yield (
            f"[merge] kind = '{merge.kind}' with protocol '{protocol.kind}': one neighbour that lies can ruin the "
            "model; where not all can be trusted, set [protocol] memory and a robust rule, such as "
            "nnm+trimmed-mean with f = 1"
        )


def cautions_of_local(local: LocalSettings) -> Iterator[str]:
    """Yield what should be known of a local update."""
    if local.sam == "adaptive" and local.sam_rho < ADAPTIVE_RHO_USUAL:
        yield (
            f"[local] sam_rho = {local.sam_rho:g} with sam = 'adaptive', whose radius is measured in the weights' own "
            f"sizes: that is hardly more than a plain step; usual are {ADAPTIVE_RHO_USUAL:g} to 2"
        )


def cautions_of_final(final: FinalSettings, codec: Choice) -> Iterator[str]:
    """Yield what should be known of the gossip steps at the end with a codec."""
    if final.steps and not final.exact and getattr(codec, "own", None) == "coded":
        yield (
            f"[final] exact = false with [codec] kind = '{codec.kind}', own = 'coded': the own model is rounded in "
            "these steps, too, and peers end as far apart as that; exact = true sends the last steps as float32"
        )


def cautions_of_numbers(protocol: Choice, peers: int) -> Iterator[str]:
    """Yield what should be known of a protocol among so many peers."""
    if not isinstance(protocol, ModestSettings) or isinstance(protocol, FedAvgSettings):
        return
    borne = liars_max(protocol.liars, peers=peers, sample_size=protocol.sample_size)
    if "H7" in protocol.hardening and borne < protocol.liars:
        what = (
            "one peer that lies can end the run with a model of its choice"
            if not borne
            else "more can end the run"
        )
        yield (
            f"[protocol] liars = {protocol.liars}: {peers} peers, in samples of {protocol.sample_size}, "
            f"bear {borne}, and {what}; f of them take 2·f + 2 peers and samples of 2·f + 1"
        )


def cautions_of_lone_peer(protocol: Choice, final: FinalSettings, *, path: Path, name: str) -> Iterator[str]:
    """Yield what should be known of a peers file at `path` that has one line only, our own."""
    if isinstance(protocol, RoundsSettings) and not protocol.gossip_steps and not final.steps:
        return
    yield (
        f"{path} names nobody but '{name}': it learns alone; add the lines that 'gossip-node init' printed on the "
        "other machines, the same file on all, or say --algorithm local where that is meant"
    )
