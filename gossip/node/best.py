"""HOME/best.safetensors: the model of the best own score so far, where it is wanted."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from gossip.inference.description import KEY
from gossip.learning.objectives.score import Score

if TYPE_CHECKING:
    from torch import Tensor


class Best:
    """Writes a model when it is better than all before, and better than the one that the file holds.

    Args:
        path: of the file.
        score: which scores are better.
        write: (path, model, rounds, score) -> brings it to the disk, and says in its provenance what `found` reads.
    """

    def __init__(self, path: Path, score: Score, write: Callable[[Path, Tensor, int, float], None]) -> None:
        self._path = path
        self._score = score
        self._write = write
        self.score: float | None = None
        """Of the model in the file."""
        self.round: int | None = None

    def found(self, *, run_id: str) -> None:
        """Go on from what an earlier life of this run has left; anything else there is written over."""
        try:
            with safe_open(self._path, framework="numpy") as file:
                came = json.loads((file.metadata() or {})[KEY])["provenance"]
            if came["run_id"] == run_id:
                self.score, self.round = float(came["score"]), int(came["rounds"])
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            pass  # none, or none of ours: the next model is the best so far

    def offer(self, model: Tensor, *, round: int, score: float) -> None:
        """Write the model [P] if its score is the best so far. Raises what `write` does."""
        if not math.isfinite(score) or (self.score is not None and not self._score.better(score, self.score)):
            return
        self._write(self._path, model, round, score)
        self.score, self.round = score, round
