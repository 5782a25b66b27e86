"""What the user sees of each round: a line on a terminal, or a JSON object per line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gossip.learning.objectives.score import Score
from gossip.telemetry import standard_output


class Progress:
    """Writes to standard output; the log goes to standard error."""

    def __init__(self, *, as_json: bool, rounds: int, score: Score) -> None:
        self._as_json = as_json
        self._score = score
        self._rounds = rounds
        self._taken = True
        """Whether anybody takes what we write."""

    def round(self, entry: Mapping[str, Any]) -> None:
        """Show one evaluated round (an entry of metrics.jsonl)."""
        if self._as_json:
            line = json.dumps(entry, separators=(",", ":"))
        else:
            width = len(str(self._rounds))
            loss = "  --  " if entry["loss"] is None else f"{entry['loss']:6.3f}"
            score = f"{self._score.label} {self._score.told(entry['score']):>7}"
            if "own_score" in entry:
                score += f"  own {self._score.told(entry['own_score']):>7}"
            if "prototype_accuracy" in entry:
                score += f"  prototypes {self._score.told(entry['prototype_accuracy']):>7}"
            line = (
                f"{entry['peer']}  round {entry['round']:{width}d}/{self._rounds}  loss {loss}  "
                f"{score}  heard {entry['heard']}/{entry['expected']}  "
                f"sent {human_bytes(entry['bytes_sent'])}  received {human_bytes(entry['bytes_received'])}  "
                f"{entry['seconds']:.2f} s"
            )
        self._print(line)

    def _print(self, line: str) -> None:
        # `gossip-node … | head`, a full disk or a terminal that is gone must not end the learning.
        if self._taken:
            try:
                standard_output.write(line + "\n")
            except OSError:
                self._taken = False


def human_bytes(count: float) -> str:
    """Return e.g. ``3.4 MB`` (powers of 1000, as networks count)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
