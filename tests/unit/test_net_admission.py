"""Who waits before the door, who has to go for whom, and that handshakes take turns."""

from __future__ import annotations

import time
from collections import Counter
from itertools import pairwise

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from gossip.net.admission import STAGES, WELCOMED_MAX, Admission, KnownHosts, host_of
from gossip.net.turns import KNOWN_IN_A_ROW_MAX, STRANGERS_SHARE, Turns

HOSTS = ["10.0.0.1", "10.0.0.2", "6.6.6.6", "7.7.7.7", "8.8.8.8"]
KNOWN = HOSTS[:2]


def room(callers_max: int, strangers_max: int) -> Admission[int]:
    known = KnownHosts()
    known.list(KNOWN)
    return Admission(callers_max=callers_max, strangers_max=strangers_max, known=known)


steps = st.lists(
    st.tuples(st.sampled_from(["enter", "advance", "leave"]), st.sampled_from(HOSTS), st.integers(0, 50)),
    max_size=80,
)


@given(steps, st.integers(1, 8), st.integers(1, 8))
def test_the_rooms_are_bounded_and_only_the_right_ones_go(
    steps: list[tuple[str, str, int]], callers_max: int, strangers_max: int
) -> None:
    """The bounds are those of each of the three rooms."""
    admission = room(STAGES * callers_max, STAGES * strangers_max)
    rooms: list[dict[int, str]] = [{} for _ in range(STAGES)]
    """Our own book: who is where, and calls from which host; the oldest first."""

    def check(stage: int, gone: int | None) -> None:
        inside = rooms[stage]
        strangers = {caller: host for caller, host in inside.items() if host not in KNOWN}
        if len(strangers) <= strangers_max and len(inside) <= callers_max:
            assert gone is None
            return
        assert gone is not None
        # A known host's caller goes only where no stranger is left to go.
        pool = strangers or inside
        hosts = Counter(pool.values())
        assert hosts[pool[gone]] == max(hosts.values())
        assert gone == next(caller for caller, host in pool.items() if host == pool[gone])
        del inside[gone]

    for number, (what, host, which) in enumerate(steps):
        everybody = [(stage, caller) for stage, inside in enumerate(rooms) for caller in inside]
        if what == "enter":
            rooms[0][number] = host
            check(0, admission.enter(number, host))
        elif everybody:
            stage, caller = everybody[which % len(everybody)]
            if what == "leave":
                admission.leave(caller)
                del rooms[stage][caller]
            elif stage + 1 < STAGES:
                rooms[stage + 1][caller] = rooms[stage].pop(caller)
                check(stage + 1, admission.advance(caller))
            else:
                assert admission.advance(caller) is None
        assert len(admission) == sum(map(len, rooms))
        for inside in rooms:
            assert all(admission.is_known(caller) == (host in KNOWN) for caller, host in inside.items())


def test_where_a_peer_has_come_from_is_known_from_then_on() -> None:
    known = KnownHosts()
    known.list(["10.0.0.1"])
    admission: Admission[int] = Admission(callers_max=10, strangers_max=1, known=known)
    admission.enter(1, "9.9.9.9")
    assert not admission.is_known(1)
    admission.leave(1)
    known.welcome("9.9.9.9")
    admission.enter(2, "9.9.9.9")
    assert admission.is_known(2)
    for number in range(WELCOMED_MAX):
        known.welcome(f"11.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert "9.9.9.9" not in known
    assert "10.0.0.1" in known


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2::9]", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("bob.example", "bob.example"),
    ],
)
def test_what_one_machine_may_have_many_of_counts_as_one_host(address: str, host: str) -> None:
    assert host_of(address) == host


def test_a_pass_of_the_event_loop_has_one_turn_and_known_hosts_come_first() -> None:
    order: list[str] = []
    most = 0

    async def main() -> None:
        nonlocal most
        turns = Turns()

        async def take(known: bool) -> None:
            await turns.take(known=known, first=True)
            order.append("known" if known else "stranger")

        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(take, False)
            for _ in range(30):
                nursery.start_soon(take, True)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(turns.run)
            while len(order) < 60:
                before = len(order)
                await trio.lowlevel.checkpoint()
                most = max(most, len(order) - before)
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert most <= 2
    first = order[: 30 + 30 // KNOWN_IN_A_ROW_MAX]
    assert first.count("known") == 30
    # And yet a stranger gets one now and then.
    assert order.index("stranger") == KNOWN_IN_A_ROW_MAX


def test_who_is_turned_away_while_it_waits_uses_up_no_turn() -> None:
    async def main() -> None:
        turns = Turns()
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as doomed:
                    for _ in range(20):
                        doomed.start_soon(lambda: turns.take(known=True, first=True))
                    await trio.testing.wait_all_tasks_blocked()
                    scope.cancel()
            assert not turns._known
            nursery.start_soon(turns.run)
            await turns.take(known=False, first=True)
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_further_step_comes_before_a_first_one_and_of_these_the_newest_is_next() -> None:
    order: list[str] = []

    async def main() -> None:
        turns = Turns()

        async def take(name: str, first: bool) -> None:
            await turns.take(known=True, first=first)
            order.append(name)

        async with trio.open_nursery() as nursery:
            for name, first in [("old", True), ("further", False), ("new", True), ("later", False)]:
                nursery.start_soon(take, name, first)
                await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(turns.run)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert order == ["further", "later", "new", "old"]


def test_steps_of_strangers_have_a_share_of_the_time_and_known_hosts_do_not_wait_for_it() -> None:
    step_s, steps = 0.002, 6
    taken_s: list[float] = []
    served_between: list[int] = []
    served = 0

    async def main() -> None:
        nonlocal served
        turns = Turns()

        async def stranger() -> None:
            await turns.take(known=False, first=True)
            taken_s.append(trio.current_time())
            served_between.append(served)
            until_s = time.thread_time() + step_s
            while time.thread_time() < until_s:
                pass

        async with trio.open_nursery() as nursery:
            nursery.start_soon(turns.run)
            async with trio.open_nursery() as strangers:
                for _ in range(steps):
                    strangers.start_soon(stranger)
                while len(taken_s) < steps:
                    await turns.take(known=True, first=True)
                    served += 1
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert taken_s[-1] - taken_s[0] >= (steps - 1) * step_s / STRANGERS_SHARE
    between = [later - earlier for earlier, later in pairwise(served_between)]
    assert min(between) > KNOWN_IN_A_ROW_MAX
