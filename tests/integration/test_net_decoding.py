"""What a codec makes of a peer's bytes is checked: a codec that fails, or makes something else, ends a connection."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import trio

from gossip.draws import Draws
from gossip.net import ahead, neighbours
from gossip.wire import memory
from gossip.wire.codecs import blocks
from gossip.wire.codecs.blocks import Int8
from gossip.wire.codecs.decoding import Decoding
from gossip.wire.codecs.float32 import Float32
from gossip.wire.codecs.settings import Int8Settings
from gossip.wire.frames import Buffer, writer
from gossip.wire.tensors import WireTensor
from tests.network import PATIENCE_S, ByHand, Net, model


class Fails(Float32):
    """As a user's own that was not written for strangers' bytes."""

    def decode(self, tensors: Sequence[WireTensor]) -> torch.Tensor:
        raise IndexError("list index out of range")


class Short(Float32):
    def decode(self, tensors: Sequence[WireTensor]) -> torch.Tensor:
        return super().decode(tensors)[:-1]


class Double(Float32):
    instant = False

    def decode(self, tensors: Sequence[WireTensor]) -> torch.Tensor:
        return super().decode(tensors).double()


LEARNED = 400
GARBAGE = -128


class Spied(Int8):
    """int8 in small pieces; tells what was decoded before it had come."""

    def __init__(self) -> None:
        super().__init__(Int8Settings(block=8))
        self.missing: list[int] = []
        self.advanced = trio.Event()

    def decoding(self, tensors: Sequence[WireTensor], elements: int) -> Decoding | None:
        decoding = super().decoding(tensors, elements)
        assert decoding is not None
        advance = decoding.advance

        def spied(missing: int) -> None:
            advance(missing)
            self.missing.append(missing)
            trio.from_thread.run_sync(self.advanced.set)

        decoding.advance = spied  # type: ignore[method-assign]
        return decoding


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "PIECE", 16)
    monkeypatch.setattr(ahead, "STEP_BYTES", 16)


async def halfway(hand: ByHand, codec: Int8, tensors: tuple[WireTensor, ...], net: Net) -> list[list[Buffer]]:
    """Send half of a model to zoe; return the frames of the other half."""
    await hand.come_up(net.ports["zoe"], "zoe")
    frames = writer(hand.frames.documents.envelope, "int8", codec.specs(LEARNED), chunk_bytes=32).model(
        model(1, torch.ones(1)), hand.seq + 1, tensors
    )
    sent = list(frames)
    for frame in sent[: len(sent) // 2]:
        await hand.stream.send(frame)
    return sent[len(sent) // 2 :]


def test_a_decoded_models_memory_is_kept_for_the_next_and_not_for_long(
    small_pieces, monkeypatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(memory, "POOLED_BYTES_MIN", 16)
    monkeypatch.setattr(neighbours, "IDLE_S", 0.01)
    net = Net(tmp_path, "bob", "zoe")
    codec = Spied()
    tensors = codec.encode(torch.ones(LEARNED), Draws(0, "bob", 1))

    async def main() -> None:
        zoe = net.peer("zoe", contacts=(), codec=codec, learned=LEARNED)
        async with trio.open_nursery() as nursery, net.by_hand("bob") as hand:
            await nursery.start(zoe.table.run)
            for frame in await halfway(hand, codec, tensors, net):
                await hand.stream.send(frame)
            await zoe.until(lambda: len(zoe.messages) == 1)
            assert codec.for_decoded is not None
            (block,) = (weakref.ref(each.memory) for each in codec.for_decoded._blocks)
            where = zoe.messages[0][1].model.data_ptr()
            assert where == block().ctypes.data
            zoe.messages.clear()
            gc.collect()  # what was spied on refers to itself
            with trio.fail_after(PATIENCE_S):
                while block() is not None:
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()

    trio.run(main)


@pytest.mark.parametrize("ending", ["goes on", "is cut", "is cancelled"])
def test_of_a_model_that_is_decoded_as_it_comes_nobody_hears_before_all_of_it_has_come(
    ending, small_pieces, tmp_path: Path
) -> None:
    net = Net(tmp_path, "bob", "zoe")
    codec = Spied()
    vector = torch.randn(LEARNED, generator=torch.Generator().manual_seed(2))
    tensors = codec.encode(vector, Draws(0, "bob", 1))

    async def main() -> None:
        zoe = net.peer("zoe", contacts=(), codec=codec, learned=LEARNED)
        async with trio.open_nursery() as nursery, net.by_hand("bob") as hand:
            await nursery.start(zoe.table.run)
            rest = await halfway(hand, codec, tensors, net)
            with trio.fail_after(PATIENCE_S):
                await codec.advanced.wait()
            assert codec.missing[0] > 0
            assert not zoe.messages
            if ending == "is cut":
                await hand.stream.finish()
                await zoe.until(lambda: ("bob", False) in zoe.changes)
                assert zoe.reasons() == {"truncated"}
            elif ending == "is cancelled":
                await hand.stream.send(hand.frames.cancel())
                again = writer(hand.frames.documents.envelope, "int8", codec.specs(LEARNED))
                other = codec.encode(-vector, Draws(0, "bob", 2))
                for frame in again.model(model(2, vector), hand.seq + 2, other):
                    await hand.stream.send(frame)
                await zoe.until(lambda: bool(zoe.messages))
                assert torch.equal(zoe.messages[0][1].model, codec.decode_as(other, LEARNED))
            else:
                for frame in rest:
                    await hand.stream.send(frame)
                await zoe.until(lambda: bool(zoe.messages))
                assert torch.equal(zoe.messages[0][1].model, codec.decode_as(tensors, LEARNED))
            assert len(zoe.messages) == (ending != "is cut")
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_model_that_lies_at_its_beginning_ends_the_connection_before_its_end(
    small_pieces, tmp_path: Path
) -> None:
    net = Net(tmp_path, "bob", "zoe")
    codec = Int8(Int8Settings(block=8))
    tensors = codec.encode(torch.ones(LEARNED), Draws(0, "bob", 1))
    np.frombuffer(tensors[1].data, np.int8)[3] = GARBAGE

    async def main() -> None:
        zoe = net.peer("zoe", contacts=(), codec=codec, learned=LEARNED)
        async with trio.open_nursery() as nursery, net.by_hand("bob") as hand:
            await nursery.start(zoe.table.run)
            await halfway(hand, codec, tensors, net)
            await zoe.until(lambda: "garbage" in zoe.reasons())
            assert not zoe.messages
            nursery.cancel_scope.cancel()

    trio.run(main)


@pytest.mark.parametrize("codec", [Fails(), Short(), Double()], ids=lambda codec: type(codec).__name__)
def test_a_model_that_cannot_be_decoded_is_its_senders_fault_and_nobody_elses(codec, tmp_path: Path) -> None:
    net = Net(tmp_path, "bob", "carol", "zoe")

    async def main() -> None:
        zoe = net.peer("zoe", contacts=(), codec=codec)
        bob, carol = net.peer("bob", contacts=("zoe",)), net.peer("carol", contacts=("zoe",))
        async with trio.open_nursery() as nursery:
            for peer in (zoe, bob, carol):
                await nursery.start(peer.table.run)
            await zoe.until_up("bob", "carol")
            bob.table.send("zoe", model(1, torch.ones(16)))
            await zoe.until(lambda: ("bob", False) in zoe.changes)
            assert "garbage" in zoe.reasons()
            assert not zoe.messages
            assert zoe.table.is_up("carol")
            nursery.cancel_scope.cancel()

    trio.run(main)
