"""What a codec makes of a peer's bytes is checked: a codec that fails, or makes something else, ends a connection."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import trio

from gossip.wire.codecs.float32 import Float32
from gossip.wire.tensors import WireTensor
from tests.network import Net, model


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
