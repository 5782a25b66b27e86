"""What a peer has spent of its samples' privacy: counted before noise is used, on the disk before it is sent.

HOME/privacy.json holds how many steps there were of each sampling rate and noise. It is written, synced and renamed
before the first of them is done, for all steps of a local update at once: whatever kills the process later, the ledger
says as much as others can know, or more, never less. A local update that is done again is counted again.

It belongs to the samples and not to a run: `--fresh` leaves it where it is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gossip.errors import CheckpointError
from gossip.privacy.accountant import ORDERS, Array, epsilon_of, rdp_of_step

FILE = "privacy.json"
"""In the home."""

FORMAT = "gossip-privacy-1"
BYTES_MAX = 1 << 20
"""Of a ledger: a line for each rate and noise that there ever was."""


class Spent(NamedTuple):
    """Steps of one kind."""

    rate: float
    """q, the probability with which each sample is taken."""
    noise: float
    """σ, in terms of the clipping norm."""
    steps: int


class Ledger:
    """All steps that were done with a peer's samples, or were about to be."""

    def __init__(self, entries: Iterable[Spent] = ()) -> None:
        self._steps: dict[tuple[float, float], int] = {}
        self._rdp: Array = np.zeros_like(ORDERS)
        for entry in entries:
            self.add(entry)

    def add(self, entry: Spent) -> None:
        """Count steps."""
        kind = (entry.rate, entry.noise)
        self._steps[kind] = self._steps.get(kind, 0) + entry.steps
        self._rdp = self._rdp + entry.steps * rdp_of_step(*kind)

    def epsilon(self, delta: float) -> float:
        """Return the ε of all steps."""
        return epsilon_of(self._rdp, delta)

    def epsilon_with(self, entry: Spent, delta: float) -> float:
        """Return the same after more steps."""
        return epsilon_of(self._rdp + entry.steps * rdp_of_step(entry.rate, entry.noise), delta)

    @property
    def entries(self) -> tuple[Spent, ...]:
        """The steps of each kind, in the order in which there first was one."""
        return tuple(Spent(rate, noise, steps) for (rate, noise), steps in self._steps.items())

    @property
    def steps(self) -> int:
        """How many there were."""
        return sum(self._steps.values())

    def copy(self) -> Ledger:
        """Return the same, to be added to."""
        return Ledger(self.entries)

    def encode(self, delta: float) -> bytes:
        """Return the file's bytes; the ε in it is for people, and is not read."""
        told = {
            "format": FORMAT,
            "spent": [entry._asdict() for entry in self.entries],
            "steps": self.steps,
            "delta": delta,
            "epsilon": self.epsilon(delta),
        }
        return (json.dumps(told, indent=1) + "\n").encode()


def read_ledger(path: Path) -> Ledger | None:
    """Return what the file holds; None where there is none.

    Raises:
        CheckpointError: it is damaged, and what was spent is not known.
    """
    try:
        with path.open("rb") as file:
            data = file.read(BYTES_MAX + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CheckpointError(f"{path}: the privacy ledger cannot be read: {error.strerror}") from None
    try:
        told = json.loads(data) if len(data) <= BYTES_MAX else None
        if not isinstance(told, dict) or told.get("format") != FORMAT:
            raise ValueError
        return Ledger([_entry(each) for each in told["spent"]])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CheckpointError(
            f"{path}: is no privacy ledger, or is damaged, and what was spent of the samples' privacy is not known; "
            "put a whole one back, or move it away where the samples are others"
        ) from None


def _entry(told: Any) -> Spent:
    rate, noise, steps = float(told["rate"]), float(told["noise"]), told["steps"]
    if not (0 <= rate <= 1 and 0 < noise < math.inf and type(steps) is int and steps >= 0):
        raise ValueError
    return Spent(rate, noise, steps)
