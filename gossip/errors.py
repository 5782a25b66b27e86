"""One tree of errors, split by blame: the user's files, a peer, the network, ourselves.

A user's error is one sentence and an exit code. A peer's error ends one connection and is counted by
its reason; it never reaches the root nursery. Anything that is not a `GossipError` is a bug of ours.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from enum import IntEnum

from gossip.synonyms import meant


class ExitCode(IntEnum):
    """What `gossip-node` and `gossip-scenario` tell the shell."""

    DONE = 0
    USAGE = 2
    TOO_FEW_PEERS = 3
    DATA_UNUSABLE = 4
    FOREIGN_CHECKPOINT = 5
    QUORUM_LOST = 6
    INTERRUPTED = 130


class GossipError(Exception):
    """Root of everything this package raises on purpose."""


SENTENCE_CHARACTERS_MAX = 800
"""Longer than any sentence of ours; what a sentence quotes may be the wrong file, pasted into a setting."""


class UserError(GossipError):
    """The user can mend it: one sentence that names the file, the line, the value and what is valid."""

    exit_code: ExitCode = ExitCode.USAGE

    def __init__(self, sentence: str = "") -> None:
        if len(sentence) > SENTENCE_CHARACTERS_MAX:
            # Where it stands is said at the beginning, and what would be valid at the end.
            half = SENTENCE_CHARACTERS_MAX // 2 - 2
            sentence = f"{sentence[:half]} … {sentence[-half:]}"
        super().__init__(sentence)


class SettingError(UserError):
    """A setting, a command-line argument or a file that holds them is wrong."""


class DataError(UserError):
    """The data cannot be used: missing, of the wrong shape, not finite."""

    exit_code = ExitCode.DATA_UNUSABLE


class CheckpointError(UserError):
    """The checkpoint in the home belongs to another task, or was damaged."""

    exit_code = ExitCode.FOREIGN_CHECKPOINT


class TooFewPeers(UserError):
    """Not enough neighbours answered before the start timeout."""

    exit_code = ExitCode.TOO_FEW_PEERS


class QuorumLost(UserError):
    """Too few neighbours are left to go on."""

    exit_code = ExitCode.QUORUM_LOST


class PeerError(GossipError):
    """A peer broke a rule. `reason` is a short stable word under which it is counted.

    `str(error)` is the sentence for the log.
    """

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class NetworkError(GossipError):
    """The connection failed: refused, reset, timed out, closed in the middle. Nobody's fault; try again."""


class ProtocolMisuse(GossipError):
    """We called our own code in a way that its contract forbids: a bug here."""


def nearest(name: str, valid: Iterable[str], *, elsewhere: Mapping[str, str] | None = None) -> str:
    """Return a hint for an unknown name: the valid one that means the same, the nearest by spelling, or all of them.

    Used at the end of a sentence: ``unknown topology 'rign'; did you mean 'ring'?``

    Args:
        name: what was written.
        valid: in its place.
        elsewhere: names that are valid in other places -> how to say where.
    """
    names = sorted(valid)
    found = next(meant(name, names), None)
    if found is None and elsewhere:
        there = next(meant(name, elsewhere), None)
        if there is not None:
            return f"did you mean {elsewhere[there]}?"
    if found is None:
        found = next(iter(difflib.get_close_matches(name, names, n=1, cutoff=0.6)), None)
    return "valid: " + ", ".join(names) if found is None else f"did you mean '{found}'?"
