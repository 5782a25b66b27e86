"""A model is in memory once: files are written from its own memory, and a job changes it where nobody else reads it."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import safetensors.torch
import torch
import trio
import trio.testing
from torch import nn

from gossip.learner import Learner
from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings
from gossip.learning.task import Task
from gossip.merging.average import Average
from gossip.merging.base import Merge
from gossip.node.context import NodeContext, Upcalls
from gossip.node.handles import Deferred, is_only_held_by_a_job
from gossip.node.learning_thread import LearningThread
from gossip.parameters import ParameterSpace
from gossip.protocols.base import Contribution, GossipStep
from gossip.storage.checkpoints import Belongs, Checkpoint, CheckpointStore, decode, pieces_of
from gossip.storage.models import model_pieces, snapshot_pieces
from tests.resident import MAPPED_BYTES_MIN, peak_bytes
from topologies import Topology

LARGE = MAPPED_BYTES_MIN // 4


class Mixed(nn.Module):
    """Floats of two widths, integers, tied and frozen tensors, an empty one."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.tied = nn.Linear(3, 3)
        self.tied.weight = self.first.weight
        self.norm = nn.BatchNorm1d(3)
        self.narrow = nn.Parameter(torch.ones(3, dtype=torch.float16))
        self.empty = nn.Parameter(torch.ones(0))
        self.frozen = nn.Parameter(torch.arange(4.0).reshape(2, 2), requires_grad=False)


def checkpoint(size: int) -> Checkpoint:
    belongs = Belongs(peer="alice", space_id="abc", seed=0)
    vector = np.arange(size, dtype=np.float32)
    return Checkpoint(belongs=belongs, protocol="rounds", state={"round": 5}, vector=vector)


# --- files -----------------------------------------------------------------------------------------


def test_files_are_laid_out_as_the_library_lays_them_out() -> None:
    vector = torch.randn(1000)
    assert b"".join(snapshot_pieces(vector)) == safetensors.torch.save({"vector": vector})
    module = Mixed()
    space = ParameterSpace.of(module)
    frozen = {"frozen": module.frozen.detach()}
    written = b"".join(model_pieces(space, space.flatten_module(module), peer="zoë", frozen=frozen))
    tensors = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    length = int.from_bytes(written[:8], "little")
    about = json.loads(written[8 : 8 + length]).pop("__metadata__")
    assert about["peer"] == "zoë"
    # The library writes its metadata in any order; all else is one file.
    without = written.replace(written[8 : 8 + length], json_without_metadata(written[8 : 8 + length]), 1)
    assert without[8:].lstrip() == safetensors.torch.save(tensors)[8:].lstrip()


def json_without_metadata(header: bytes) -> bytes:
    fields = json.loads(header)
    del fields["__metadata__"]
    text = json.dumps(fields, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8)


def test_the_library_reads_a_checkpoint_as_it_was_written(tmp_path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"".join(pieces_of(checkpoint(7))))
    assert safetensors.numpy.load_file(path)["vector"].tolist() == list(range(7))
    with safetensors.safe_open(path, framework="np") as file:
        assert json.loads(file.metadata()["state"]) == {"round": 5}


def test_saving_takes_no_copy_of_a_model_and_resuming_takes_one(tmp_path) -> None:
    large = checkpoint(LARGE)
    store = CheckpointStore(tmp_path)
    store.save(checkpoint(1))
    assert peak_bytes(lambda: store.save(large)) < 0.1 * large.vector.nbytes
    path = tmp_path / "checkpoints" / "round-00000005.safetensors"
    found: list[Any] = []
    assert peak_bytes(lambda: found.append(decode(path))) < 1.1 * large.vector.nbytes
    assert np.array_equal(found[0].vector, large.vector)


def test_a_resumed_vector_is_handed_over_once() -> None:
    resumed = checkpoint(5)
    assert resumed.take_vector().tolist() == list(range(5))
    assert len(resumed.vector) == 0
    assert resumed.round == 5


# --- the network -----------------------------------------------------------------------------------


def make_task(folder: Path | None = None, **model: Any) -> Task:
    return Task(
        data=DataSettings(train_max=60),
        model=ModelSettings(**model),
        local=LocalSettings(steps=2, batch_size=4),
        seed=1,
        folder=folder or Path(),
    )


@pytest.mark.parametrize(
    "model", [{}, {"name": "lenet-gn"}, {"extractor": "random-features", "features": 20}]
)
def test_a_network_that_has_forgotten_its_first_values_computes_as_before(model) -> None:
    task, forgetful = make_task(**model), make_task(**model)
    forgetful.forget_initial()
    assert forgetful.space.space_id == task.space.space_id
    assert torch.equal(forgetful.initial(), task.initial())
    assert forgetful.evaluate(task.initial()) == task.evaluate(task.initial())
    shard = task.shard(0, 1)
    trained = [
        each.local_training().run(task.initial(), shard.x, shard.y, seed=1, peer="a", round=0).model
        for each in (task, forgetful)
    ]
    assert torch.equal(*trained)
    held = [slot.name for slot in task.space.slots if slot.role.value != "frozen"]
    named = dict([*forgetful.module.named_parameters(), *forgetful.module.named_buffers()])
    assert sum(named[name].untyped_storage().nbytes() for name in held) <= 8 * len(held)


# --- jobs ------------------------------------------------------------------------------------------


class World:
    """A node's context and learning thread without a network."""

    def __init__(self, nursery: trio.Nursery, merge: Merge | None = None) -> None:
        task = make_task()
        self.learner = Learner(task, peer="a", position=0, peers=3, merge=merge or Average())
        self.size = task.space.size
        self.thread = LearningThread()
        self.trained: list[Deferred] = []
        self.outcomes: list[Any] = []
        self.context = NodeContext(
            peer="a",
            peers=["a", "b", "c"],
            topology=Topology("full", 3),
            everybody=False,
            learner=self.learner,
            thread=self.thread,
            outgoing=SimpleNamespace(own_coded=lambda own, at: None),
            **dict.fromkeys(("table", "nursery", "identity")),
            upcalls=Upcalls(*5 * [lambda *_: None])._replace(
                on_trained=lambda ticket, model, outcome: (
                    self.trained.append(model),
                    self.outcomes.append(outcome),
                )
            ),
        )
        nursery.start_soon(self.thread.run)

    def handle(self, value: float = 0.0) -> Deferred:
        return Deferred(self.size, self.learner.initial() + value)

    async def computed(self) -> None:
        done = trio.Event()
        self.thread.submit(lambda: None, lambda _: done.set())
        await done.wait()
        await trio.testing.wait_all_tasks_blocked()


def in_world(scenario: Callable[[World], Any], merge: Merge | None = None) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await scenario(World(nursery, merge))
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_model_is_trained_where_it_lies_only_where_nobody_else_has_its_handle() -> None:
    async def scenario(world: World) -> None:
        held = world.handle()
        before = held.vector.clone()
        world.context.train(held, round=0)
        await world.computed()
        assert torch.equal(held.vector, before)  # a transfer that still reads it sends what it was given
        where = held.vector.data_ptr()
        del held
        given = world.handle()
        where = given.vector.data_ptr()
        world.context.train(given, round=0)
        del given
        await world.computed()
        apart, within = world.trained
        assert within.vector.data_ptr() == where != apart.vector.data_ptr()
        assert torch.equal(within.vector, apart.vector)
        assert [len(outcome.model) for outcome in world.outcomes] == [0, 0]
        assert all(outcome.steps == 2 for outcome in world.outcomes)

    in_world(scenario)


def test_once_something_was_compiled_a_model_still_has_one_holder_or_more() -> None:
    torch.compile(lambda x: x + 1, backend="eager")(torch.ones(2))
    models = [torch.ones(3)]
    alone = is_only_held_by_a_job(models[0])
    keeper = models[0]
    shared = is_only_held_by_a_job(models[0])
    del keeper
    again = is_only_held_by_a_job(models[0])
    assert (alone, shared, again) == (True, False, True)


def test_a_rule_that_keeps_what_it_was_given_has_nothing_trained_under_its_hands() -> None:
    class Keeping(Average):
        retains = True

    async def scenario(world: World) -> None:
        given = world.handle()
        vector, before = given.vector, given.vector.clone()
        world.context.train(given, round=0)
        del given
        await world.computed()
        assert torch.equal(vector, before)

    in_world(scenario, Keeping())


@pytest.mark.parametrize("kept", [False, True], ids=["given-away", "still-kept"])
def test_a_merge_lies_in_the_first_received_model_unless_somebody_has_that_still(kept) -> None:
    async def scenario(world: World) -> None:
        own = world.handle()
        models = [world.learner.initial() + value for value in (1.0, 2.0)]
        values = [model.clone() for model in models]
        where = models[0].data_ptr()
        contributions = [Contribution(name, models.pop(0), 0.25) for name in ("b", "c")]
        keeper = contributions[0].model if kept else None
        merged = world.context.merge(own, 0.5, contributions, at=GossipStep(0))
        released = weakref.ref(contributions[1].model)
        del contributions
        await world.computed()
        expected = Average()(
            own.vector, 0.5, [Contribution(name, v, 0.25) for name, v in zip("bc", values, strict=True)]
        )
        assert torch.equal(merged.vector, expected)
        assert (merged.vector.data_ptr() == where) is not kept
        assert keeper is None or torch.equal(keeper, values[0])
        assert released() is None  # a merged model does not wait for the next event

    in_world(scenario)


@pytest.mark.parametrize("kept", [False, True], ids=["given-away", "still-kept"])
def test_an_update_added_to_another_model_lies_in_its_own_memory_unless_somebody_has_that_still(kept) -> None:
    async def scenario(world: World) -> None:
        base, before, after = world.handle(5.0), world.handle(), world.handle(0.25)
        where, trained = after.vector.data_ptr(), after.vector.clone()
        keeper = after if kept else None
        moved = world.context.moved(base, before, after)
        del after
        await world.computed()
        assert torch.equal(moved.vector, base.vector + (trained - before.vector))
        assert (moved.vector.data_ptr() == where) is not kept
        assert keeper is None or torch.equal(keeper.vector, trained)

    in_world(scenario)


def test_a_rule_that_returns_its_input_gets_it_copied() -> None:
    class Lazy(Average):
        def __call__(self, own, own_weight, received, *, context=None):
            return own

    async def scenario(world: World) -> None:
        own = world.handle()
        merged = world.context.merge(own, 1.0, [], at=GossipStep(0))
        await world.computed()
        assert torch.equal(merged.vector, own.vector)
        assert merged.vector.data_ptr() != own.vector.data_ptr()

    in_world(scenario, Lazy())


def test_a_round_of_a_node_takes_the_vectors_that_its_docstring_counts() -> None:
    """Training beside the model: a gradient. Merging two received models into it: nothing."""
    task = make_task(hidden=(6000, 6000))
    learner = Learner(task, peer="a", position=0, peers=3, merge=Average())
    model = learner.initial()
    task.forget_initial()
    size = 4 * len(model)
    assert peak_bytes(lambda: learner.train(model, round=0, in_place=True)) < 1.2 * size
    received = [Contribution(name, model + 1, 0.25) for name in "bc"]
    merge = lambda: learner.merge(model, 0.5, received, at=GossipStep(0), spent=frozenset("b"))  # noqa: E731
    assert peak_bytes(merge) < 0.2 * size
    assert peak_bytes(lambda: learner.evaluate(model)) < 0.6 * size  # activations


def test_holding_a_network_against_plain_torch_takes_three_vectors_beside_it(tmp_path) -> None:
    """Its values, to be put back, and a gradient; then the gradient, a vector, and the second gradient."""
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def net(shape, classes): return nn.Sequential("
        "nn.Flatten(), nn.Linear(64, 5000), nn.Linear(5000, 5000), nn.Linear(5000, classes))\n"
    )
    task = make_task(folder=tmp_path, name="python:net.py:net")
    size = 4 * task.space.size
    assert task.draws is not None
    assert peak_bytes(lambda: task.cautions) < 3.4 * size
