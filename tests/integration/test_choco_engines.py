"""CHOCO in both engines: the same models and bytes; who is killed comes back, and its links begin anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import trio

import scenarios
from gossip.draws import Draws
from gossip.wire.codecs.settings import CODECS
from tests.network import Net, Value, model

SMALL = {
    "scenario.peers": 4,
    "scenario.algorithm": "dfedavg",
    "data.train_max": 400,
    "model.hidden": (16,),
    "local.epochs": 1,
    "codec.kind": "choco",
    "topology.kind": "ring",
    "stop.rounds": 6,
}
LEARNED = 64 * 16 + 16 + 16 * 10 + 10
ANEW = 8 + 4 * LEARNED
FOLLOWING = 8 + 4 * -(-LEARNED // 64) + LEARNED // 2
"""Payload bytes of a model that begins a link anew, and of one that follows."""


def run(folder: Path, engine: str, **more: Any) -> Any:
    overrides = SMALL | {key.replace("__", "."): value for key, value in more.items()}
    return scenarios.run(
        "quickstart", engine=engine, out=folder / engine, report=False, seed=1, overrides=overrides
    )


def test_both_engines_end_alike_with_the_same_bytes_and_a_link_begins_anew_once(tmp_path: Path) -> None:
    virtual, real = (run(tmp_path, engine).summary for engine in ("virtual", "processes"))
    assert virtual["bytes"]["payload"] == real["bytes"]["payload"] == 4 * 2 * (ANEW + 5 * FOLLOWING)
    assert virtual["bytes"]["by_type"]["model"] == real["bytes"]["by_type"]["model"]
    assert virtual["accuracy"]["mean"] == pytest.approx(real["accuracy"]["mean"], abs=0.004)


@pytest.mark.parametrize("engine", ["virtual", "processes"])
def test_the_links_of_a_peer_that_was_killed_begin_anew_and_nothing_else_is_lost(
    tmp_path: Path, engine: str
) -> None:
    faults = [{"at": 1.0, "do": "crash", "peers": [2]}, {"at": 1.5, "do": "restart", "peers": [2]}]
    # Either way it is gone for some of its rounds.
    more = {"compute.seconds_per_sample": 0.002} if engine == "virtual" else {"evaluate.every": 100}
    rounds = 20 if engine == "virtual" else 200
    result = run(tmp_path, engine, stop__rounds=rounds, faults__list=faults, **more)
    assert result.summary["faults"]["restarted"] == 1
    assert {peer["rounds"] for peer in result.peers} == {rounds}
    sent = result.summary["messages"]["by_type"]["model"]
    anew = (result.summary["bytes"]["payload"] - sent * FOLLOWING) / (ANEW - FOLLOWING)
    # Each of eight links once, and those of the one that came back, both ways, once more; and what follows a message
    # that went to that one alone.
    assert 12 <= round(anew) <= 20
    assert result.summary.get("rejected", {}).get("no-reference", 0) == 0
    assert result.summary["accuracy"]["min"] > 0.4


def test_a_receiver_that_missed_a_message_asks_and_the_next_begins_anew(tmp_path: Path) -> None:
    net = Net(tmp_path, "bob", "zoe")
    choice = CODECS.validate({"kind": "choco", "compress": "int8"})
    codec, rows = choice.load()(choice), {"public": torch.zeros(1, 16)}
    vectors = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))

    async def main() -> None:
        bob, zoe = net.peer("bob", codec=codec), net.peer("zoe", codec=codec)
        async with trio.open_nursery() as nursery:
            for peer in (bob, zoe):
                await nursery.start(peer.table.run)
            await bob.until_up("zoe")
            await zoe.until_up("bob")
            nonlocal rows
            rows = codec.told_whole(vectors[:1], rows, numbers=[0])
            sent = [codec.anew(rows, number=0)]
            for number in (1, 2):
                tensors, rows = codec.write(vectors[number], rows, Draws(0, "bob", number), number=number)
                sent.append(tensors)
            bob.table.send("zoe", model(0, Value(sent[0])))
            await zoe.until(lambda: len(zoe.messages) == 1)
            zoe.unseen.add("bob")
            bob.table.send("zoe", model(1, Value(sent[1])))
            await zoe.until(lambda: len(zoe.messages) == 2)
            zoe.unseen.clear()
            bob.table.send("zoe", model(2, Value(sent[2])))
            await bob.until(lambda: bob.lost == ["zoe"])
            assert len(zoe.messages) == 2
            bob.table.send("zoe", model(2, Value(codec.anew(rows, number=2))))
            await zoe.until(lambda: len(zoe.messages) == 3)
            assert torch.equal(zoe.messages[2][1].model, rows["public"][0])
            nursery.cancel_scope.cancel()

    trio.run(main)
