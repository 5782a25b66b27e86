"""What one neighbour does, however much of it, takes nothing from the others: turns, pauses, and who is cut off."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import trio

from gossip.errors import NetworkError
from gossip.net.budget import MESSAGES_BURST_S
from gossip.net.receiving import TURN_STEPS
from gossip.net.standing import ARRIVALS_BURST, ARRIVALS_PER_S
from gossip.protocols.base import FinishedMessage, Message, ModelMessage
from gossip.wire.agreement import Agreement
from gossip.wire.codecs.float32 import Float32
from gossip.wire.messages import Heartbeat, register
from tests.network import AGREEMENT, PATIENCE_S, ByHand, Net, Peer, free_ports, model


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class Ping(Message):
    kind: ClassVar[str] = "test-starvation-ping"
    number: int


HEARTBEAT = Heartbeat(stamp_us=1, echo_us=0, held_us=0)


class Ticks:
    """Counts the turns of the event loop, and what was done at most within one."""

    def __init__(self, peer: Peer) -> None:
        self.most = 0
        self._peer = peer

    async def run(self) -> None:
        while True:
            before = self._handled()
            await trio.lowlevel.checkpoint()
            # Between two of its own turns every other task has had one, or the tail of one and the head of another.
            self.most = max(self.most, self._handled() - before)

    def _handled(self) -> int:
        return sum(self._peer.accounting.received.messages_by_type.values())


def many(hand: ByHand, message: Message, count: int) -> list[bytes]:
    """Return the frames of `count` messages, as one piece of plaintext."""
    frames = []
    for _ in range(count):
        hand.seq += 1
        frames.append(b"".join(hand.frames.small(message, hand.seq)))
    return [b"".join(frames)]


@pytest.mark.parametrize("message", [FinishedMessage(round=1), HEARTBEAT])
def test_thousands_of_messages_that_lie_ready_are_taken_a_few_at_a_time(
    tmp_path: Path, message: Message
) -> None:
    net = Net(tmp_path, "bob", "zoe")

    async def main() -> None:
        zoe = net.peer("zoe", contacts=(), messages_per_s=1e6)
        async with net.by_hand("bob") as hand, trio.open_nursery() as nursery:
            await nursery.start(zoe.table.run)
            await hand.come_up(net.ports["zoe"], "zoe")
            await zoe.until_up("bob")
            ticks = Ticks(zoe)
            nursery.start_soon(ticks.run)
            await hand.stream.send(many(hand, message, 2000))
            await hand.say(Ping(number=1))
            await zoe.until(lambda: bool(zoe.messages) and zoe.messages[-1][1] == Ping(number=1))
            assert 0 < ticks.most <= 2 * TURN_STEPS
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_model_in_crumbs_leaves_turns_to_the_others(tmp_path: Path) -> None:
    """One byte to a TLS record: much work for little, and all of it in one piece of ciphertext."""
    net = Net(tmp_path, "bob", "zoe")

    async def main() -> None:
        zoe = net.peer("zoe", contacts=())
        async with net.by_hand("bob") as hand, trio.open_nursery() as nursery:
            await nursery.start(zoe.table.run)
            await hand.come_up(net.ports["zoe"], "zoe")
            await zoe.until_up("bob")
            receiving = zoe.table._connection("bob")._receiver  # type: ignore[union-attr]
            most = 0

            async def watch() -> None:
                nonlocal most
                while True:
                    before = receiving._stream.crumbs
                    await trio.lowlevel.checkpoint()
                    most = max(most, receiving._stream.crumbs - before)

            nursery.start_soon(watch)
            hand.seq += 1
            frame = b"".join(hand.frames.small(Ping(number=1), hand.seq))
            longer = b"".join(hand.frames.small(Ping(number=2), hand.seq + 1))
            # The header promises 4,000 bytes of a message that will not come whole.
            header = (4000).to_bytes(4, "big") + longer[4:8]
            await hand.stream.send([frame, header])
            for _ in range(3000):
                hand.stream._encrypt(b"x")  # type: ignore[attr-defined]
            await hand.stream.send([b"x"])
            await zoe.until(lambda: bool(zoe.messages))
            with trio.fail_after(PATIENCE_S):
                while receiving._stream.crumbs < 3000:
                    await trio.lowlevel.checkpoint()
            assert 0 < most <= 512
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_reading_pauses_when_the_budget_is_spent_and_others_are_heard_at_once(tmp_path: Path) -> None:
    net = Net(tmp_path, "bob", "carol", "zoe")
    pace = 50.0

    async def main() -> None:
        zoe = net.peer("zoe", contacts=(), messages_per_s=pace)
        carol = net.peer("carol", contacts=("zoe",))
        async with net.by_hand("bob") as hand, trio.open_nursery() as nursery:
            await nursery.start(zoe.table.run)
            await nursery.start(carol.table.run)
            start_s = trio.current_time()
            await hand.come_up(net.ports["zoe"], "zoe")
            nursery.start_soon(pour, hand)
            await zoe.until_up("bob", "carol")
            await carol.until_up("zoe")
            for number in range(20):
                carol.table.send("zoe", Ping(number=number))
                await zoe.until(lambda number=number: ("carol", Ping(number=number)) in zoe.messages)  # type: ignore[misc]
            await zoe.until(lambda: count(zoe) > MESSAGES_BURST_S * pace + 20)
            elapsed_s = trio.current_time() - start_s
            assert count(zoe) <= MESSAGES_BURST_S * pace + pace * elapsed_s + 2 * TURN_STEPS
            # Its silence is ours, and ends nothing.
            assert zoe.table.is_up("bob")
            nursery.cancel_scope.cancel()

    async def pour(hand: ByHand) -> None:
        try:
            while True:
                await hand.stream.send(many(hand, FinishedMessage(round=1), 100))
        except NetworkError:
            return

    def count(zoe: Peer) -> int:
        return sum(sender == "bob" for sender, _ in zoe.messages)

    trio.run(main)


def test_a_pause_of_ours_is_no_silence_of_theirs(tmp_path: Path) -> None:
    net = Net(tmp_path, "bob", "zoe")
    pace = 40.0
    count = int(MESSAGES_BURST_S * pace) + 40

    async def main() -> None:
        zoe = net.peer("zoe", contacts=(), messages_per_s=pace, heartbeat_s=0.05, heartbeat_timeout_s=0.2)
        async with net.by_hand("bob") as hand, trio.open_nursery() as nursery:
            await nursery.start(zoe.table.run)
            await hand.come_up(net.ports["zoe"], "zoe")
            await hand.stream.send(many(hand, FinishedMessage(round=1), count))
            # The pauses are longer than a heartbeat is waited for, and nothing comes in them.
            await zoe.until(lambda: len(zoe.messages) == count)
            assert zoe.changes == [("bob", True)]
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_who_breaks_a_rule_is_cut_off_held_off_and_let_in_again(tmp_path: Path) -> None:
    net = Net(tmp_path, "bob", "zoe")

    async def main() -> None:
        zoe = net.peer("zoe", contacts=(), offence_wait_min_s=0.3)
        async with trio.open_nursery() as nursery:
            await nursery.start(zoe.table.run)
            async with net.by_hand("bob") as hand:
                await hand.come_up(net.ports["zoe"], "zoe")
                hand.seq -= 1
                await hand.say(FinishedMessage(round=1))
                await zoe.until(lambda: "replay" in zoe.reasons())
            async with net.by_hand("bob") as hand:
                await hand.dial(net.ports["zoe"], "zoe")
                assert await hand.hear_the_end() == "refused"
                assert "held off" in zoe.reasons()
            assert not zoe.table.is_up("bob")
            bob = net.peer("bob", backoff_max_s=0.5)
            await nursery.start(bob.table.run)
            await bob.until_up("zoe")
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_too_many_rejected_messages_cut_off_at_once(tmp_path: Path) -> None:
    net = Net(tmp_path, "bob", "zoe")

    async def main() -> None:
        zoe = net.peer("zoe", contacts=(), rejected_per_s=0.5)

        def reject(sender: str, message: Message) -> None:
            zoe.messages.append((sender, message))
            zoe.table.note_rejected(sender)

        object.__setattr__(zoe.table._local, "on_message", reject)
        async with net.by_hand("bob") as hand, trio.open_nursery() as nursery:
            await nursery.start(zoe.table.run)
            await hand.come_up(net.ports["zoe"], "zoe")
            await hand.stream.send(many(hand, FinishedMessage(round=1), 100))
            await zoe.until(lambda: "rejected" in zoe.reasons())
            # Five in ten seconds, and the one too many.
            assert len(zoe.messages) == 6
            assert zoe.changes == [("bob", True), ("bob", False)]
            nursery.cancel_scope.cancel()

    trio.run(main)


def head(hand: ByHand) -> bytes:
    """Return the beginning of a model message."""
    hand.seq += 1
    message = ModelMessage(round=1, step=0, model=None)
    return b"".join(next(hand.frames.model(message, hand.seq, Float32().encode(torch.zeros(1_000_000)))))


def test_models_begun_and_given_up_are_an_offence_when_they_are_many(tmp_path: Path) -> None:
    net = Net(tmp_path, "bob", "zoe")

    async def main() -> None:
        zoe = net.peer("zoe", contacts=(), learned=1_000_000, rejected_per_s=0.5)
        async with net.by_hand("bob", learned=1_000_000) as hand, trio.open_nursery() as nursery:
            await nursery.start(zoe.table.run)
            await hand.come_up(net.ports["zoe"], "zoe")
            for _ in range(50):
                try:
                    await hand.stream.send([head(hand), *hand.frames.cancel()])
                except NetworkError:
                    break
            await zoe.until(lambda: "rejected" in zoe.reasons())
            assert zoe.accounting.received.bytes_by_type["model"] < 10 * 200
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_model_that_does_not_come_on_is_not_waited_for_though_heartbeats_come(tmp_path: Path) -> None:
    net = Net(tmp_path, "bob", "zoe")

    async def main() -> None:
        zoe = net.peer(
            "zoe",
            contacts=(),
            learned=1_000_000,
            heartbeat_s=0.05,
            heartbeat_timeout_s=0.3,
            model_bytes_per_s_min=40_000_000,
        )
        async with net.by_hand("bob", learned=1_000_000) as hand, trio.open_nursery() as nursery:
            await nursery.start(zoe.table.run)
            await hand.come_up(net.ports["zoe"], "zoe")
            await hand.stream.send([head(hand)])
            with trio.fail_after(PATIENCE_S):
                while not zoe.rejected:
                    try:
                        await hand.say(HEARTBEAT)
                    except NetworkError:
                        await zoe.until(lambda: bool(zoe.rejected))
                    await trio.sleep(0.01)
            assert zoe.reasons() == {"slow"}
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_model_that_comes_on_may_take_as_long_as_its_size_allows(tmp_path: Path) -> None:
    """A link of 40 KB a second, say, takes many times `heartbeat_timeout_s` for a model, and is none the worse."""
    net = Net(tmp_path, "bob", "zoe")
    learned = 20_000

    async def main() -> None:
        zoe = net.peer(
            "zoe",
            contacts=(),
            learned=learned,
            heartbeat_s=0.05,
            heartbeat_timeout_s=0.3,
            model_bytes_per_s_min=1000,
        )
        async with net.by_hand("bob", learned=learned) as hand, trio.open_nursery() as nursery:
            await nursery.start(zoe.table.run)
            await hand.come_up(net.ports["zoe"], "zoe")
            hand.seq += 1
            tensors = Float32().encode(torch.ones(learned))
            frames = hand.frames.model(ModelMessage(round=1, step=0, model=None), hand.seq, tensors)
            whole = b"".join(bytes(part) for frame in frames for part in frame)
            for start in range(0, len(whole), 4000):
                await hand.stream.send([whole[start : start + 4000]])
                await trio.sleep(0.04)
            await zoe.until(lambda: bool(zoe.messages))
            assert torch.equal(zoe.messages[0][1].model, torch.ones(learned))  # type: ignore[attr-defined]
            assert not zoe.rejected
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_who_was_killed_or_came_with_other_settings_is_not_held_off(tmp_path: Path) -> None:
    net = Net(tmp_path, "bob", "zoe")
    other = Agreement(AGREEMENT.run_id, (("data", "9"), ("local", "2")), AGREEMENT.space_id)

    async def main() -> None:
        zoe = net.peer(
            "zoe", contacts=(), learned=1_000_000, offence_wait_min_s=3600.0, offence_wait_max_s=3600.0
        )
        wrong, right = net.peer("bob", agreement=other), net.peer("bob", learned=1_000_000, instance="3")
        async with trio.open_nursery() as nursery:
            await nursery.start(zoe.table.run)
            async with net.by_hand("bob", learned=1_000_000) as hand:
                await hand.come_up(net.ports["zoe"], "zoe")
                await hand.stream.send([head(hand)[:-1]])
                await hand.stream.finish()
                await zoe.until(lambda: "truncated" in zoe.reasons())
            await nursery.start(wrong.table.run)
            await zoe.until(lambda: "run" in zoe.reasons())
            await wrong.table.close("leaving")
            await nursery.start(right.table.run)
            await right.until_up("zoe")
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_two_processes_with_one_key_drive_each_other_out_at_a_walking_pace(tmp_path: Path) -> None:
    net = Net(tmp_path, "bob", "zoe")

    async def main() -> None:
        zoe = net.peer("zoe", contacts=())
        quick: dict[str, Any] = {"dial_delay_s": 0.0, "backoff_min_s": 0.001, "backoff_max_s": 0.001}
        clones = [net.peer("bob", instance=instance, **quick) for instance in "12"]
        async with trio.open_nursery() as nursery:
            await nursery.start(zoe.table.run)
            start_s = trio.current_time()
            for clone in clones:
                clone.table._listen = f"127.0.0.1:{free_ports(1)[0]}"
                nursery.start_soon(clone.table.run)
            await zoe.until(lambda: "held off" in zoe.reasons())
            times = sum(up for _, up in zoe.changes)
            assert 1 < times <= ARRIVALS_BURST + ARRIVALS_PER_S * (trio.current_time() - start_s) + 1
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_model_as_fast_as_the_link_goes_is_never_paused(tmp_path: Path) -> None:
    net = Net(tmp_path, "bob", "zoe")
    learned = 2_000_000

    async def main() -> None:
        zoe, bob = net.peer("zoe", contacts=(), learned=learned), net.peer("bob", learned=learned)
        async with trio.open_nursery() as nursery:
            await nursery.start(zoe.table.run)
            await nursery.start(bob.table.run)
            await bob.until_up("zoe")
            await zoe.until_up("bob")
            receiver = zoe.table._connection("bob")._receiver  # type: ignore[union-attr]
            spend, pauses = receiver._budget.spend, []

            def watched(**spent: Any) -> float:
                pauses.append(spend(**spent))
                return pauses[-1]

            receiver._budget.spend = watched  # type: ignore[method-assign]
            for round in range(10):
                bob.table.send("zoe", model(round, torch.ones(learned)))
                await zoe.until(lambda round=round: len(zoe.messages) == round + 1)  # type: ignore[misc]
            assert pauses
            assert not any(pauses)
            nursery.cancel_scope.cancel()

    trio.run(main)
