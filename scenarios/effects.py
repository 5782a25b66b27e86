"""Entries of `[faults] list` that came to nothing: told at the end, for a fault that was meant may be a test of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from scenarios.sections import Fault

TOLD_MAX = 10
"""Entries with a sentence of their own."""

WHY = {
    "crash": "none of its peers was running then",
    "leave": "none of its peers was running then",
    "pause": "none of its peers was running then, or all were paused already",
    "resume": "none of its peers was paused then",
    "restart": "all of its peers were running then, or there were none to start again",
    "join": "all of its peers were running then",
    "partition": "there was no link to cut",
    "heal": "nothing was cut then",
}


class Effects:
    """Which entries of a list have come to something."""

    def __init__(self, listed: Sequence[Fault]) -> None:
        self._listed = tuple(listed)
        self._came: set[int] = set()
        self._in_vain: set[int] = set()

    def came(self, number: int, *, effective: bool) -> None:
        """Note that entry `number` was due, and whether it changed anything."""
        self._came.add(number)
        if not effective:
            self._in_vain.add(number)

    def told(self, *, listed: int) -> tuple[str, ...]:
        """Return a sentence for each entry, of the first `listed`, that has had no effect; of many for the first."""
        found = [
            f"[faults] list, entry {number + 1} ({fault.do} at {fault.at:g} s) had no effect: "
            + (WHY[fault.do] if number in self._came else "the run was over before")
            for number, fault in enumerate(self._listed[:listed])
            if number in self._in_vain or number not in self._came
        ]
        more = len(found) - TOLD_MAX
        if more > 0:
            found[TOLD_MAX:] = [f"[faults] list: {more} more of its entries had no effect"]
        return tuple(found)


def nobody_left(honest: Collection[str]) -> str:
    """Return the sentence of a run that has lost all its honest peers to faults."""
    return (
        f"no honest peer is left: [faults] took {'all ' * (len(honest) > 1)}{len(honest)} away, and nothing that is "
        "still to come starts one again"
    )
