"""The models that a run leaves in its home, with whose they are, what they were trained on, and how to use them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from gossip.inference.card import CARD, card
from gossip.inference.description import described, hash_of
from gossip.storage.atomic import write_atomically
from gossip.storage.models import MODEL, model_pieces

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from gossip.node.setup import Setup
    from gossip.storage.atomic import Piece
    from gossip.telemetry.containment import Containment


class ModelFiles:
    """Writes them."""

    def __init__(self, setup: Setup, contained: Containment) -> None:
        self._setup = setup
        self._settings = setup.membership.settings
        self._home = setup.options.home
        self._contained = contained
        self._about: Mapping[str, str] = {}

    def write(self, vector: Tensor, *, rounds: int) -> None:
        """Write the finished model [P] of so many rounds.

        Raises:
            OSError: it could not be written.
        """
        self._about = described(self._setup.task, provenance=self._provenance(rounds))
        write_atomically(self._home / MODEL, self._pieces(vector, self._about))

    def write_card(self, summary: Mapping[str, Any]) -> None:
        """Write the page about the model that has been written, with the run's summary of its last round."""
        with self._contained("MODEL.md not written"):
            text = card(self._about, summary, parameters=self._setup.task.space.size)
            write_atomically(self._home / CARD, text.encode(), durable=False)

    def write_best(self, path: Path, vector: Tensor, round: int, score: float) -> None:
        """Write the model of the best round so far."""
        about = described(self._setup.task, provenance={**self._provenance(round), "score": score})
        # Not waited for by the disk: the learning thread writes it.
        write_atomically(path, self._pieces(vector, about), durable=False)

    def _pieces(self, vector: Tensor, about: Mapping[str, str]) -> Iterator[Piece]:
        task, peer = self._setup.task, self._setup.membership.me.name
        return model_pieces(
            task.space, vector, frozen=task.frozen, peer=peer, about=about, without=task.in_base
        )

    def _provenance(self, rounds: int) -> dict[str, Any]:
        membership, shard = self._setup.membership, self._setup.learner.shard
        return {
            "peer": membership.me.name,
            "peers": list(membership.peers.names),
            "algorithm": self._settings.algorithm,
            "rounds": rounds,
            "run_id": self._settings.run_id(),
            "samples": len(shard),
            "data": hash_of(shard.x, shard.y),
        }
