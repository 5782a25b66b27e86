"""What may be a mistake and is accepted: a sentence at the start, and only where it matters to safety."""

from __future__ import annotations

from collections.abc import Iterator

from gossip.merging.settings import AverageSettings, VarianceCorrectedSettings
from gossip.protocols.push.settings import PushSettings
from gossip.settings import Choice


def cautions(protocol: Choice, merge: Choice) -> Iterator[str]:
    """Yield what should be known of a protocol with a merge rule."""
    if isinstance(protocol, PushSettings) and isinstance(merge, AverageSettings | VarianceCorrectedSettings):
        yield (
            f"[merge] kind = '{merge.kind}' with protocol '{protocol.kind}': one neighbour that lies can ruin the "
            "model; where not all can be trusted, set [protocol] memory and a robust rule, such as "
            "nnm+trimmed-mean with f = 1"
        )
