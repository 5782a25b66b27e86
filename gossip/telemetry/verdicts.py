"""What became of the models that others sent, gathered for the records: by sender and, for a while, by round."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

SENDERS_MAX = 256
"""Senders of whom verdicts are kept; of all others together only counts."""

ROUNDS_OPEN_MAX = 1024
"""Rounds that wait to be fetched; older ones are forgotten."""


class _Of:
    """One sender's models of some rounds."""

    __slots__ = ("models", "reasons", "weight")

    def __init__(self) -> None:
        self.models = 0
        self.weight = 0.0
        self.reasons: Counter[str] = Counter()


class Verdicts:
    """One peer's verdicts on the models it received: by the rule, and by what is done before it."""

    def __init__(self) -> None:
        self._rounds: dict[int, dict[str, _Of]] = {}
        self._weights: dict[str, float] = {}
        self.by_sender: dict[str, Counter[str]] = {}
        """Sender -> reason -> models; the reason is empty where a model was taken as it is."""
        self.others: Counter[str] = Counter()
        """The same of all senders beyond `SENDERS_MAX` together."""

    def note(self, round: int, sender: str, weight: float, reason: str) -> None:
        """Count one model of `sender` in the merge of `round`."""
        if sender not in self.by_sender and len(self.by_sender) >= SENDERS_MAX:
            self.others[reason] += 1
            return
        self.by_sender.setdefault(sender, Counter())[reason] += 1
        self._weights[sender] = self._weights.get(sender, 0.0) + weight
        if round not in self._rounds and len(self._rounds) >= ROUNDS_OPEN_MAX:
            del self._rounds[min(self._rounds)]
        of = self._rounds.setdefault(round, {}).setdefault(sender, _Of())
        of.models += 1
        of.weight += weight
        if reason:
            of.reasons[reason] += 1

    def take(self, rounds: int) -> dict[str, list[Any]]:
        """Return, and forget, the rounds below `rounds`: sender -> [mean weight, most frequent reason or ""]."""
        together: dict[str, _Of] = {}
        for round in sorted(number for number in self._rounds if number < rounds):
            for sender, of in self._rounds.pop(round).items():
                entry = together.setdefault(sender, _Of())
                entry.models += of.models
                entry.weight += of.weight
                entry.reasons.update(of.reasons)
        return {
            sender: [round_to(of.weight / of.models), _most(of.reasons)]
            for sender, of in sorted(together.items())
        }

    def as_dict(self) -> dict[str, Mapping[str, int]]:
        """Return sender -> reason -> models, "accepted" for no reason."""
        return {sender: _told(reasons) for sender, reasons in sorted(self.by_sender.items())}

    def others_as_dict(self) -> dict[str, int]:
        """Return reason -> models of the senders that `as_dict` does not name."""
        return _told(self.others)

    def weights(self) -> dict[str, float]:
        """Return sender -> mean weight of its models."""
        return {
            sender: round_to(self._weights[sender] / reasons.total())
            for sender, reasons in sorted(self.by_sender.items())
        }


def round_to(weight: float) -> float:
    """Return a weight with as many digits as a reader can use."""
    return float(f"{weight:.4g}")


def _told(reasons: Counter[str]) -> dict[str, int]:
    return {reason or "accepted": count for reason, count in sorted(reasons.items())}


def _most(reasons: Counter[str]) -> str:
    return min(reasons, key=lambda reason: (-reasons[reason], reason)) if reasons else ""
