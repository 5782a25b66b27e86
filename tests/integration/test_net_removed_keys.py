"""Whoever is not in the peers file now, with the key it shows, is not heard: at whatever stage it is."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import trio
import trio.testing

from gossip.errors import NetworkError, PeerError
from gossip.net import connection, peers_file
from gossip.net.identity import Identity
from gossip.net.peers_file import PeersFile
from gossip.net.stream import EndOfStream
from gossip.protocols.base import FinishedMessage
from gossip.wire.codecs.float32 import Float32
from gossip.wire.messages import Welcome
from gossip.wire.tensors import WireTensor
from tests.network import PATIENCE_S, ByHand, Net, Peer, model

# An hour: what ends here is ended by the new file, and by no deadline.
PATIENT: dict[str, Any] = {
    "handshake_timeout_s": 3600.0,
    "close_timeout_s": 3600.0,
    "heartbeat_timeout_s": 3600.0,
    "dial_delay_s": 0.0,
}

ENDED = (NetworkError, PeerError, EndOfStream)


@pytest.fixture(autouse=True)
def hasty_goodbyes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody here listens to one for long."""
    monkeypatch.setattr(connection, "PART_TIMEOUT_S", 0.05)


def changed(net: Net, name: str, how: str) -> PeersFile:
    """Return the file of `net` without `name`, or with another key for it."""
    lines = [i.peers_line() for other, i in net.identities.items() if other != name]
    if how == "rotated":
        advertise = net.identities[name].advertise
        lines.append(Identity.create(net.folder / "new-key", name=name, advertise=advertise).peers_line())
    path = net.folder / f"peers-{how}.txt"
    path.write_text("\n".join(lines))
    return peers_file.load(path)


async def insist(hand: ByHand) -> None:
    """Send messages until they are not taken any more, whatever comes."""
    with trio.fail_after(PATIENCE_S):
        try:
            while True:
                await hand.say(FinishedMessage(round=1))
        except NetworkError:
            return


async def hold_on(hand: ByHand, net: Net, zoe: Peer, file: PeersFile, stage: str) -> None:
    """Come to `stage` of a handshake with zoe, have her read the file, and go on as if nothing were."""
    port = net.ports["zoe"]
    transport = await trio.open_tcp_stream("127.0.0.1", port)
    if stage == "tls":
        # She has taken the call, and has an answer ready for the keys of the old file.
        await trio.testing.wait_all_tasks_blocked(0.01)
        zoe.table.replace_peers(file)
    await hand.dial(port, "zoe", transport=transport)
    if stage == "hello":
        assert (await hand.hear()).kind == "hello"
        zoe.table.replace_peers(file)
    await hand.say_hello()
    if stage == "welcome":
        assert (await hand.hear()).kind == "hello"
        zoe.table.replace_peers(file)
    await hand.say(Welcome())
    await insist(hand)


@pytest.mark.parametrize("how", ["removed", "rotated"])
@pytest.mark.parametrize("stage", ["tls", "hello", "welcome"])
def test_a_handshake_begun_before_the_file_changed_lets_nobody_in_by_the_old_one(
    tmp_path: Path, stage: str, how: str
) -> None:
    net = Net(tmp_path, "bob", "zoe")

    async def main() -> None:
        zoe = net.peer("zoe", contacts=(), **PATIENT)
        async with net.by_hand("bob") as hand, trio.open_nursery() as nursery:
            await nursery.start(zoe.table.run)
            with suppress(*ENDED):  # she may end it at any moment
                await hold_on(hand, net, zoe, changed(net, "bob", how), stage)
            # What is over has been taken out of the table.
            with trio.fail_after(PATIENCE_S):
                while zoe.table._conversations:
                    await trio.testing.wait_all_tasks_blocked(0.01)
            assert not zoe.changes
            assert not zoe.messages
            nursery.cancel_scope.cancel()

    trio.run(main)


@pytest.mark.parametrize("how", ["removed", "rotated"])
@pytest.mark.parametrize("stage", ["tls", "hello"])
def test_one_whom_we_called_before_the_file_changed_is_not_let_in_by_the_old_one(
    tmp_path: Path, stage: str, how: str
) -> None:
    net = Net(tmp_path, "bob", "zoe")

    async def main() -> None:
        zoe = net.peer("zoe", **PATIENT)
        (listener,) = await trio.open_tcp_listeners(net.ports["bob"], host="127.0.0.1")
        async with net.by_hand("bob") as hand, trio.open_nursery() as nursery:
            await nursery.start(zoe.table.run)
            transport = await listener.accept()
            if stage == "tls":
                zoe.table.replace_peers(changed(net, "bob", how))
            with suppress(*ENDED):
                await hand.answer(transport)
                if stage == "hello":
                    assert (await hand.hear()).kind == "hello"
                    zoe.table.replace_peers(changed(net, "bob", how))
                await hand.say_hello()
                await hand.say(Welcome())
                await insist(hand)
            await listener.aclose()
            with trio.fail_after(PATIENCE_S):
                while zoe.table._conversations:
                    await trio.testing.wait_all_tasks_blocked(0.01)
            assert not zoe.changes
            assert not zoe.messages
            nursery.cancel_scope.cancel()

    trio.run(main)


@pytest.mark.parametrize("how", ["removed", "rotated"])
def test_a_connected_peer_is_not_heard_any_more_though_it_ignores_the_goodbye(
    tmp_path: Path, how: str
) -> None:
    net = Net(tmp_path, "bob", "zoe")

    async def main() -> None:
        zoe = net.peer("zoe", contacts=(), **PATIENT)
        async with net.by_hand("bob") as hand, trio.open_nursery() as nursery:
            await nursery.start(zoe.table.run)
            await hand.come_up(net.ports["zoe"], "zoe")
            await hand.say(FinishedMessage(round=7))
            await zoe.until(lambda: len(zoe.messages) == 1)
            # Some of these lie in the socket, or decrypted in memory, when the file is read.
            for round in range(500):
                await hand.say(FinishedMessage(round=round))
            zoe.table.replace_peers(changed(net, "bob", how))
            heard = len(zoe.messages)
            assert not zoe.table.is_up("bob")
            assert zoe.changes[-1] == ("bob", False)
            await insist(hand)
            assert len(zoe.messages) == heard
            nursery.cancel_scope.cancel()

    trio.run(main)


@pytest.mark.parametrize("first", ["rotated", "removed"])
def test_what_was_done_with_the_old_key_does_not_keep_out_who_has_the_new_one(
    tmp_path: Path, first: str
) -> None:
    net = Net(tmp_path, "bob", "zoe")

    async def main() -> None:
        zoe = net.peer("zoe", contacts=(), offence_wait_min_s=3600.0, offence_wait_max_s=3600.0, **PATIENT)
        async with trio.open_nursery() as nursery:
            await nursery.start(zoe.table.run)
            async with net.by_hand("bob") as thief:
                await thief.come_up(net.ports["zoe"], "zoe")
                thief.seq -= 1
                await thief.say(FinishedMessage(round=1))
                await zoe.until(lambda: "replay" in zoe.reasons())
            # The same key is held off, whatever else is in the file.
            zoe.table.replace_peers(net.peers)
            async with net.by_hand("bob") as thief:
                await thief.dial(net.ports["zoe"], "zoe")
                assert await thief.hear_the_end() == "refused"
                assert "held off" in zoe.reasons()
            if first == "removed":
                zoe.table.replace_peers(changed(net, "bob", "removed"))
            file = changed(net, "bob", "rotated")
            zoe.table.replace_peers(file)
            bob = net.peer("bob", identity=Identity.load(net.folder / "new-key"), peers=file)
            await nursery.start(bob.table.run)
            await bob.until_up("zoe")
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_removed_peer_that_listens_is_told_why(tmp_path: Path) -> None:
    net = Net(tmp_path, "bob", "zoe")

    async def main() -> None:
        zoe = net.peer("zoe", contacts=(), **PATIENT)
        async with net.by_hand("bob") as hand, trio.open_nursery() as nursery:
            await nursery.start(zoe.table.run)
            await hand.come_up(net.ports["zoe"], "zoe")
            await zoe.until_up("bob")
            zoe.table.replace_peers(changed(net, "bob", "removed"))
            assert await hand.hear_the_end() == "removed"
            # A dead neighbour is told of, one that is none any more is not.
            await zoe.until(lambda: not zoe.table.is_up("bob"))
            assert [entry["name"] for entry in zoe.table.status()] == []
            nursery.cancel_scope.cancel()

    trio.run(main)


class Slow(Float32):
    """A codec whose models are decoded in a thread, for as long as the test wants."""

    instant = False

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def decode(self, tensors: Sequence[WireTensor]) -> torch.Tensor:
        self.begun.set()
        assert self.go_on.wait(PATIENCE_S)
        return super().decode(tensors)


def test_a_model_that_is_being_decoded_when_its_sender_is_removed_is_not_delivered(tmp_path: Path) -> None:
    net = Net(tmp_path, "bob", "zoe")
    codec = Slow()

    async def main() -> None:
        zoe = net.peer("zoe", contacts=(), codec=codec, **PATIENT)
        bob = net.peer("bob")
        async with trio.open_nursery() as nursery:
            await nursery.start(zoe.table.run)
            await nursery.start(bob.table.run)
            await bob.until_up("zoe")
            bob.table.send("zoe", model(1, torch.ones(16)))
            assert await trio.to_thread.run_sync(codec.begun.wait, PATIENCE_S)
            zoe.table.replace_peers(changed(net, "bob", "removed"))
            codec.go_on.set()
            with trio.fail_after(PATIENCE_S):
                while zoe.table._conversations:
                    await trio.testing.wait_all_tasks_blocked(0.01)
            assert not zoe.messages
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_leaving_ends_though_the_other_side_goes_on_talking(tmp_path: Path) -> None:
    """The table's own deadline is far away: each connection's end is hard by itself."""
    net = Net(tmp_path, "bob", "zoe")

    async def main() -> None:
        zoe = net.peer("zoe", contacts=(), **PATIENT)
        async with net.by_hand("bob") as hand, trio.open_nursery() as nursery:
            await nursery.start(zoe.table.run)
            await hand.come_up(net.ports["zoe"], "zoe")
            await zoe.until_up("bob")
            leaving = zoe.table._connection("bob")
            assert leaving is not None
            leaving.leave("leaving", within_s=0.1)
            await insist(hand)
            await zoe.until(lambda: zoe.changes[-1] == ("bob", False))
            nursery.cancel_scope.cancel()

    trio.run(main)


@pytest.mark.parametrize("stage", ["hello", "welcome"])
def test_a_removed_peer_that_waits_in_a_handshake_is_told_at_once(tmp_path: Path, stage: str) -> None:
    net = Net(tmp_path, "bob", "zoe")

    async def main() -> None:
        zoe = net.peer("zoe", contacts=(), **PATIENT)
        async with net.by_hand("bob") as hand, trio.open_nursery() as nursery:
            await nursery.start(zoe.table.run)
            await hand.dial(net.ports["zoe"], "zoe")
            if stage == "welcome":
                await hand.say_hello()
            assert (await hand.hear()).kind == "hello"
            zoe.table.replace_peers(changed(net, "bob", "removed"))
            assert await hand.hear_the_end() == "removed"
            nursery.cancel_scope.cancel()

    trio.run(main)
