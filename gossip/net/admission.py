"""Who of those that have called is served, while none has shown who it is. No sockets here.

Anybody may connect, thousands of times a second. Two things of a caller cannot be forged: its address (a TCP
connection exists), and how far it has come. So hosts that peers are known to have keep most of the room, and strangers
share a small part of it. Each stage of the way has a room of its own: those who say nothing drive out only one another,
and those who are stuck later on keep nobody from coming so far. Where there is no room for one more, the oldest goes of
the host that has most; whoever means to come in is through long before as many have come after it.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Generic, TypeVar

WELCOMED_MAX = 4096
"""Hosts that a peer has come from, remembered beside those of the peers file; the newest."""

STAGES = 3
"""Of a caller: it has said nothing, or not all of the first thing; that is here; it has been answered."""

Caller = TypeVar("Caller")


def host_of(address: str) -> str:
    """Return the host that an IP address counts as: all of an IPv6 /64 is one, which one machine may have to itself."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0].strip("[]"))
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((int(ip) >> 64 << 64, 64)))


class KnownHosts:
    """Where peers are known to be: by the peers file, or because one has come from there."""

    def __init__(self) -> None:
        self._listed: frozenset[str] = frozenset()
        self._welcomed: dict[str, None] = {}

    def list(self, addresses: Iterable[str]) -> None:
        """Take over the addresses of a peers file, in place of the last one's."""
        self._listed = frozenset(map(host_of, addresses))

    def welcome(self, address: str) -> None:
        """Note that a peer has come from there."""
        host = host_of(address)
        self._welcomed.pop(host, None)
        self._welcomed[host] = None
        if len(self._welcomed) > WELCOMED_MAX:
            del self._welcomed[next(iter(self._welcomed))]

    def __contains__(self, host: str) -> bool:
        return host in self._listed or host in self._welcomed


class _Room(Generic[Caller]):
    """One stage."""

    def __init__(self, *, callers_max: int, strangers_max: int) -> None:
        self._callers_max = max(1, callers_max)
        self._strangers_max = max(1, strangers_max)
        self.callers: dict[Caller, tuple[str, bool]] = {}
        """Host, and whether it is a known one; the oldest first."""
        self._hosts: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
        """How many there are of each host, the known ones and the others."""

    def enter(self, caller: Caller, host: str, known: bool) -> Caller | None:
        self.callers[caller] = (host, known)
        self._hosts[known][host] += 1
        strangers = self._hosts[False]
        if strangers.total() > self._strangers_max:
            return self._turn_away(known=False)
        if len(self.callers) > self._callers_max:
            return self._turn_away(known=not strangers)
        return None

    def leave(self, caller: Caller) -> tuple[str, bool]:
        host, known = self.callers.pop(caller)
        hosts = self._hosts[known]
        hosts[host] -= 1
        if not hosts[host]:
            del hosts[host]
        return host, known

    def _turn_away(self, *, known: bool) -> Caller:
        hosts = self._hosts[known]
        busiest = (max(hosts, key=hosts.__getitem__), known)
        found = next(caller for caller, whose in self.callers.items() if whose == busiest)
        self.leave(found)
        return found


class Admission(Generic[Caller]):
    """The way to the door."""

    def __init__(self, *, callers_max: int, strangers_max: int, known: KnownHosts) -> None:
        """Make one for `callers_max` in all, of whom `strangers_max` may be strangers."""
        self._known = known
        self._rooms: list[_Room[Caller]] = [
            _Room(callers_max=callers_max // STAGES, strangers_max=strangers_max // STAGES)
            for _ in range(STAGES)
        ]

    def __len__(self) -> int:
        return sum(len(room.callers) for room in self._rooms)

    def enter(self, caller: Caller, address: str) -> Caller | None:
        """Let `caller` in; return who has to go for it."""
        host = host_of(address)
        return self._rooms[0].enter(caller, host, host in self._known)

    def is_known(self, caller: Caller) -> bool:
        """Return whether it calls from a host that a peer was known to have."""
        return any(room.callers.get(caller, ("", False))[1] for room in self._rooms)

    def advance(self, caller: Caller) -> Caller | None:
        """Note that it has come a stage farther, where there is one; return who has to go for it."""
        for room, next_room in pairwise(self._rooms):
            if caller in room.callers:
                return next_room.enter(caller, *room.leave(caller))
        return None

    def leave(self, caller: Caller) -> None:
        """Note that it has shown who it is, or has gone."""
        for room in self._rooms:
            if caller in room.callers:
                room.leave(caller)
