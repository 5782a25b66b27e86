"""How many neighbours a node must have to begin, and to go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import trio

from gossip.config.task import NodeSettings
from gossip.errors import QuorumLost, TooFewPeers
from gossip.protocols.base import PeerId, Waiting

if TYPE_CHECKING:
    from gossip.net.neighbours import NeighbourTable


class Quorum:
    """Counts who is there.

    Args:
        settings: how many are needed, and how long they may be missing.
        table: who is connected.
        contacts: the peers that may be neighbours, now.
    """

    def __init__(
        self, settings: NodeSettings, table: NeighbourTable, contacts: Callable[[], Sequence[PeerId]]
    ) -> None:
        self._settings = settings
        self._table = table
        self._contacts = contacts
        self._alone_since_s: float | None = None
        self.finished: set[PeerId] = set()
        """Peers that have done all rounds: they are no longer there, and not missed."""

    @property
    def needed(self) -> int:
        """How many neighbours there must be."""
        return min(self._settings.neighbours_min, len(self._contacts()))

    @property
    def up(self) -> int:
        """How many are connected."""
        return sum(self._table.is_up(peer) for peer in self._contacts())

    @property
    def there(self) -> bool:
        """Whether enough are connected or have finished."""
        alive = sum(self._table.is_up(peer) or peer in self.finished for peer in self._contacts())
        return alive >= self.needed

    def start(self, *, since_s: float, until_s: float) -> Waiting:
        """Return whom the start waits for: all that are not connected."""
        return Waiting(frozenset(self._missing()), since_s, until_s)

    def _missing(self) -> list[PeerId]:
        return [peer for peer in self._contacts() if not self._table.is_up(peer)]

    def missing_at_start(self) -> list[PeerId]:
        """Return who is not connected, when the time to wait for all is over.

        Raises:
            TooFewPeers: so few are that the run cannot begin; the sentence says why each is missing.
        """
        contacts = self._contacts()
        missing = self._missing()
        if len(contacts) - len(missing) < self.needed:
            raise TooFewPeers(
                f"{len(contacts) - len(missing)} of {len(contacts)} neighbours reachable after "
                f"{self._settings.start_timeout_s:g} s, at least {self.needed} needed; missing: "
                f"{self._why_missing(missing)}"
            )
        return missing

    def _why_missing(self, missing: list[PeerId]) -> str:
        reasons = {entry["name"]: entry.get("error") for entry in self._table.status()}
        told = [f"{peer} ({reasons.get(peer) or 'no answer'})" for peer in missing[:5]]
        return ", ".join(told) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")

    def check(self, saved_round: int) -> None:
        """Look whether enough are left; one that finished counts.

        Raises:
            QuorumLost: too few have been for too long.
        """
        if self.there:
            self._alone_since_s = None
            return
        now_s = trio.current_time()
        if self._alone_since_s is None:
            self._alone_since_s = now_s
        elif now_s - self._alone_since_s > self._settings.quorum_timeout_s:
            contacts = self._contacts()
            left = sum(self._table.is_up(peer) or peer in self.finished for peer in contacts)
            raise QuorumLost(
                f"{left} of {len(contacts)} neighbours left for {now_s - self._alone_since_s:.0f} s, at least "
                f"{self.needed} needed; the state of round {saved_round} is saved, start again to resume"
            )
