"""CHOCO in both engines: the same models and bytes; who is killed comes back, and its links begin anew."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import trio
from safetensors.torch import load_file

import scenarios
from gossip.draws import Draws
from gossip.node.context import NodeContext
from gossip.node.outgoing_models import OutgoingModels
from gossip.parameters import ParameterSpace
from gossip.protocols.base import FinishedMessage, GossipStep, ModelMessage
from gossip.wire.codecs.settings import CODECS
from gossip.wire.messages import ResyncMessage
from tests.network import UNSEEN, Net, Value, model

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


VECTORS = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))


class Link:
    """Bob sends to Zoe, by a codec whose messages follow each other."""

    def __init__(self, folder: Path) -> None:
        net, choice = Net(folder, "bob", "zoe"), CODECS.validate({"kind": "choco", "compress": "int8"})
        self.codec = choice.load()(choice)
        self.rows = self.codec.told_whole(VECTORS[:1], {"public": torch.zeros(1, 16)}, numbers=[0])
        self.bob, self.zoe = (net.peer(name, codec=self.codec) for name in ("bob", "zoe"))

    async def up(self, nursery: trio.Nursery) -> None:
        for peer in (self.bob, self.zoe):
            await nursery.start(peer.table.run)
        await self.bob.until_up("zoe")
        await self.zoe.until_up("bob")

    def send(self, number: int, *, anew: bool = False, lost: bool = False, late: bool = False) -> Value:
        """Send the message of a number, that it begins the link anew or not; one that is `late` has no value yet."""
        tensors = ()
        if number and number == self.sent + 1:
            tensors, self.rows = self.codec.write(
                VECTORS[number], self.rows, Draws(0, "bob", number), number=number
            )
        self.sent = number
        value = Value(self.codec.anew(self.rows, number=number) if anew else tensors)
        if not lost:
            self.bob.table.send("zoe", model(number, Value() if late else value))
        return value

    sent = -1

    def agree(self) -> bool:
        """Whether what Zoe was given last is what Bob has for his public copy."""
        return torch.equal(self.zoe.messages[-1][1].model, self.rows["public"][0])


def talk(link: Link, steps: Any) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await link.up(nursery)
            await steps()
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_receiver_that_missed_a_message_asks_and_the_next_begins_anew(tmp_path: Path) -> None:
    link = Link(tmp_path)

    async def steps() -> None:
        link.send(0, anew=True)
        link.send(1, lost=True)
        link.send(2)
        await link.bob.until(lambda: link.bob.lost == ["zoe"])
        assert len(link.zoe.messages) == 1
        link.send(2, anew=True)
        await link.zoe.until(lambda: len(link.zoe.messages) == 2)
        assert link.agree()

    talk(link, steps)


def test_however_much_follows_nothing_a_link_is_asked_for_seldom_and_obeys_seldom(tmp_path: Path) -> None:
    link = Link(tmp_path)

    async def steps() -> None:
        link.send(0, anew=True)
        for number in range(2, 32, 2):
            tensors, _ = link.codec.write(VECTORS[1], link.rows, Draws(0, "bob", number), number=number)
            link.bob.table.send("zoe", model(number, Value(tensors)))
            while link.zoe.accounting.rejected_messages["no-reference"] < number // 2:
                await trio.sleep(0.001)
        for _ in range(30):
            link.zoe.table.send("bob", ResyncMessage())
        link.zoe.table.send("bob", FinishedMessage(round=1))
        await link.bob.until(lambda: bool(link.bob.messages))
        asked = link.zoe.accounting.as_dict()["messages"]["by_type"]["resync"] - 30
        assert 1 <= asked <= 5, "once a second"
        assert 1 <= len(link.bob.lost) <= 10, "twice a second"

    talk(link, steps)


def test_what_a_muted_peer_sends_is_added_up_and_what_follows_it_is_used(tmp_path: Path) -> None:
    link = Link(tmp_path)

    async def steps() -> None:
        link.send(0, anew=True)
        await link.zoe.until(lambda: len(link.zoe.messages) == 1)
        link.zoe.unseen.add("bob")
        link.send(1)
        await link.zoe.until(lambda: len(link.zoe.messages) == 2)
        assert link.zoe.messages[-1][1].model is UNSEEN
        link.zoe.unseen.clear()
        link.send(2)
        await link.zoe.until(lambda: len(link.zoe.messages) == 3)
        assert link.agree()
        assert link.bob.lost == []

    talk(link, steps)


def test_all_that_waits_gives_way_to_what_begins_the_link_anew(tmp_path: Path) -> None:
    link = Link(tmp_path)

    async def steps() -> None:
        link.send(0, anew=True)
        await link.zoe.until(lambda: len(link.zoe.messages) == 1)
        link.send(1, late=True)
        link.bob.table.make_room("zoe")
        link.send(2, late=True)
        assert link.bob.lost == []
        link.bob.table.make_room("zoe")
        assert link.bob.lost == ["zoe"]
        link.send(3, anew=True)
        await link.zoe.until(lambda: len(link.zoe.messages) == 2)
        assert link.agree()
        assert link.bob.accounting.as_dict()["dropped_messages"] == {"replaced": 2}
        assert link.zoe.accounting.as_dict()["rejected_messages"] == {}

    talk(link, steps)


@pytest.mark.parametrize(("kind", "begins"), [("choco", True), ("top-change", False), ("int8", False)])
def test_a_node_makes_room_before_it_is_settled_whether_a_link_begins_anew(kind: str, begins: bool) -> None:
    choice = CODECS.validate({"kind": kind})
    learner: Any = SimpleNamespace(
        task=SimpleNamespace(space=ParameterSpace.of(torch.nn.Linear(3, 1)), seed=0),
        shapes_outgoing=False,
        peer="bob",
    )
    thread: Any = SimpleNamespace(submit=lambda job, done: None)
    outgoing = OutgoingModels(codec=choice.load()(choice), learner=learner, thread=thread)
    sent: list[Any] = []
    table = SimpleNamespace(
        is_up=lambda peer: True,
        make_room=lambda peer: outgoing.lost(peer),
        send=lambda peer, message: sent.append(outgoing._latest.sent),
    )
    context = NodeContext.__new__(NodeContext)
    context._finished, context._table, context._outgoing = None, table, outgoing  # type: ignore[assignment]
    for number in range(3):
        context.send("zoe", model(number, Value()))
    assert [list(each) for each in sent[1:]] == [[begins]] * 2


ONCE = """
import gossip
import torch

class Once(gossip.LocalUpdate):
    def rows(self, space):
        return {"done": gossip.Rows(1)}

    def step(self, gradient, models, state, lr):
        return models - 20 * lr * gradient(models) * (1 - state["done"]), {"done": torch.ones_like(state["done"])}
"""


def mean_after(folder: Path, engine: str, rounds: int, **more: Any) -> tuple[torch.Tensor, float]:
    """Return the mean of the models of peers that have learnt in the first round alone, and how far apart they are."""
    folder.mkdir(exist_ok=True)
    (folder / "once.py").write_text(ONCE)
    optimizer = {"kind": f"python:{folder / 'once.py'}:Once"}
    more = {"local.optimizer": optimizer, "scenario.peers": 12, "evaluate.every": 1000, **more}
    result = run(folder, engine, **more, **{"stop.rounds": rounds})
    models = [
        torch.cat([tensor.double().reshape(-1) for _, tensor in sorted(load_file(path).items())])
        for path in sorted(result.folder.glob("peers/*/model.safetensors"))
    ]
    assert len(models) == more["scenario.peers"]
    assert result.summary["faults"]["restarted"] == len(more.get("faults.list", ())) // 2
    mean = torch.stack(models).mean(dim=0)
    return mean, float((torch.stack(models) - mean).abs().max())


@pytest.mark.parametrize("codec", ["float32", "choco"])
def test_the_mean_of_all_models_stays_once_a_peer_that_was_killed_is_back(tmp_path: Path, codec: str) -> None:
    faults = [{"at": 0.5, "do": "crash", "peers": [2]}, {"at": 1.0, "do": "restart", "peers": [2]}]
    more = {"codec.kind": codec, "compute.seconds_per_sample": 0.002}
    never, _ = mean_after(tmp_path, "virtual", 20, **more)
    more["faults.list"] = faults
    (before, apart), (after, together) = (
        mean_after(tmp_path / str(rounds), "virtual", rounds, **more) for rounds in (20, 60)
    )
    assert apart > 0.01
    assert together < apart / 5
    assert float((after - before).abs().max()) < 1e-6
    # What was under way when it died was merged on one side only, as with every codec.
    assert float((before - never).abs().max()) < 0.02


def test_a_node_merges_its_own_model_where_nobody_holds_another_of_it_and_where_models_go_as_they_are() -> (
    None
):
    learner: Any = SimpleNamespace(
        task=SimpleNamespace(space=ParameterSpace.of(torch.nn.Linear(3, 1)), seed=0),
        shapes_outgoing=False,
        peer="bob",
        outgoing=lambda vector, draws: vector,
    )
    own, sent = torch.linspace(-1, 1, 4), []
    thread: Any = SimpleNamespace(submit=lambda job, done: done(job()))
    for kind in ({"kind": "choco"}, {"kind": "int4", "own": "coded"}):
        choice = CODECS.validate(kind)
        outgoing = OutgoingModels(codec=choice.load()(choice), learner=learner, thread=thread)
        assert outgoing.own_coded(own, GossipStep(4, 1, whole=True)) is None
        told = outgoing.own_coded(own, GossipStep(0))
        assert (told is None) == (kind["kind"] == "choco"), "it has sent nothing yet"
        sent.append(outgoing.coded(ModelMessage(round=0, step=0, model=SimpleNamespace(vector=own)), "zoe"))
        told = outgoing.own_coded(own, GossipStep(0))
        assert told is not None
        assert float((told - own).abs().max()) < 1 / 7 + 1e-6
        assert outgoing.own_coded(own, GossipStep(4, 1, whole=True)) is None
