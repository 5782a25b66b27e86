"""Laws of models in parts: the parts of a vector, what a merge of one changes, and what of it travels."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gossip.errors import PeerError, ProtocolMisuse
from gossip.learner import Learner
from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings
from gossip.learning.task import Task
from gossip.merging.settings import AverageSettings, VarianceCorrectedSettings
from gossip.node.context import NodeContext, Upcalls
from gossip.node.handles import Deferred
from gossip.node.outgoing_models import OutgoingModels
from gossip.protocols.base import Contribution, GossipStep, Part
from gossip.protocols.push.messages import PushMessage
from gossip.settings import Choice
from gossip.wire import frames
from gossip.wire.agreement import Agreement, Expectation
from gossip.wire.codecs.base import part_specs
from gossip.wire.codecs.float32 import Float32
from gossip.wire.documents import Envelope
from gossip.wire.tensors import to_torch
from scenarios.virtual.events.frame_sizes import FrameSizes
from scenarios.virtual.learning.batched import BatchedLearning
from topologies import Topology

# --- G2: the map ---


@given(st.integers(1, 64), st.integers(0, 10_000))
def test_parts_are_disjoint_cover_everything_and_differ_by_one_element_at_most(of, more):
    size = of + more
    bounds = [Part(place, of).bounds(size) for place in range(of)]
    assert [start for start, _ in bounds] == [0, *(stop for _, stop in bounds[:-1])]
    assert bounds[-1][1] == size
    sizes = {stop - start for start, stop in bounds}
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 1


@given(st.integers(-5, 70), st.integers(-5, 70), st.integers(0, 64))
def test_a_part_that_there_is_not_is_refused(place, of, size):
    if 0 <= place < of <= size:
        return
    with pytest.raises(ValueError, match="of a vector of"):
        Part(place, of).bounds(size)


# --- G2: merging ---


def task(model: str = "mlp") -> Task:
    return Task(
        data=DataSettings(train_max=100, test_max=20),
        model=ModelSettings(name=model, hidden=(8,) if model == "mlp" else None),
        local=LocalSettings(),
        seed=1,
        folder=Path(),
    )


RULES = {"average": AverageSettings(), "variance-corrected": VarianceCorrectedSettings()}


def learner_of(task: Task, rule: Choice, peer: int = 0) -> Learner:
    return Learner(task, peer=f"p{peer}", position=peer, peers=3, merge=rule.load()(rule))


def merged_part(learner: Learner, own: torch.Tensor, others: list[torch.Tensor], part: Part) -> torch.Tensor:
    """Do what the protocol does; of the others, only the part is there."""
    size = learner.task.space.learned_size
    start, stop = part.bounds(size)
    received = [
        Contribution(f"p{k + 1}", learner.graft(own, other[start:stop].clone(), part)[:size], 0.25)
        for k, other in enumerate(others)
    ]
    return learner.graft(
        own, learner.merge(own, 1 - 0.25 * len(others), received, at=GossipStep(0, part=part)), part
    )


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_merging_a_part_changes_it_and_leaves_the_others_as_they_are_to_the_last_bit(rule):
    learning_task = task()
    learner = learner_of(learning_task, rule)
    own, *others = (learning_task.initial(f"p{k}") for k in range(3))
    size = learning_task.space.learned_size
    for of in (1, 2, 7, size):
        for place in {0, of // 2, of - 1}:
            start, stop = Part(place, of).bounds(size)
            merged = merged_part(learner, own, others, Part(place, of))
            assert torch.equal(merged[:start], own[:start])
            assert torch.equal(merged[stop:], own[stop:])
            if of < size:
                assert not torch.equal(merged[start:stop], own[start:stop])


def test_averaging_all_parts_one_after_another_is_averaging_the_model():
    learning_task = task()
    learner = learner_of(learning_task, AverageSettings())
    own, *others = (learning_task.initial(f"p{k}") for k in range(3))
    size = learning_task.space.learned_size
    in_parts = own
    for place in range(5):
        in_parts = merged_part(learner, in_parts, others, Part(place, 5))
    received = [Contribution(f"p{k + 1}", other[:size], 0.25) for k, other in enumerate(others)]
    assert torch.equal(in_parts, learner.merge(own, 0.5, received, at=GossipStep(0)))


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_the_virtual_engine_merges_parts_as_each_peers_own_learner_does(rule):
    learning_task = task()
    learning = BatchedLearning(learning_task, ["p0", "p1", "p2"], rule)
    handles = [learning.initial(k, independent=True) for k in range(3)]
    models = [learning_task.initial(f"p{k}") for k in range(3)]
    part = Part(1, 3)
    grafted = [Contribution(f"p{k}", learning.graft(handles[0], handles[k], part), 0.25) for k in (1, 2)]
    whole = learning.merge(handles[0], 0.5, grafted, peer=0, at=GossipStep(0, part=part))
    result = learning.vector(learning.graft(handles[0], whole, part))
    expected = merged_part(learner_of(learning_task, rule), models[0], models[1:], part)
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-7)
    start, stop = part.bounds(learning_task.space.learned_size)
    assert torch.equal(result[:start], models[0][:start])
    assert torch.equal(result[stop:], models[0][stop:])


def test_the_virtual_engine_remembers_of_each_part_what_each_peers_own_learner_does():
    """Peers merge different parts at once, and one model is measured for different parts."""
    peers, of = 3, 4
    rule = VarianceCorrectedSettings(quiet_merges=2, quiet_scale=1.15)
    learning_task = task()
    size = learning_task.space.learned_size
    learning = BatchedLearning(learning_task, [f"p{k}" for k in range(peers)], rule)
    group = [learner_of(learning_task, rule, k) for k in range(peers)]
    handles = [learning.initial(k, independent=True) for k in range(peers)]
    models = [learning_task.initial(f"p{k}") for k in range(peers)]
    starts = [model.clone() for model in models]
    for turn in range(12):
        before, vectors = list(handles), list(models)
        for k in range(peers):
            part = Part((turn + k) % of, of)
            others = [j for j in range(peers) if j != k][: 1 + turn % 2]
            grafted = [
                Contribution(f"p{j}", learning.graft(before[k], before[j], part), 0.25) for j in others
            ]
            received = [
                Contribution(f"p{j}", group[k].graft(vectors[k], vectors[j], part)[:size], 0.25)
                for j in others
            ]
            own_weight = 1 - 0.25 * len(others)
            merged = learning.merge(before[k], own_weight, grafted, peer=k, at=GossipStep(turn, part=part))
            handles[k] = learning.graft(before[k], merged, part)
            expected = group[k].merge(vectors[k], own_weight, received, at=GossipStep(turn, part=part))
            models[k] = group[k].graft(vectors[k], expected, part)
    for mine, theirs, start in zip(learning.stack(handles), models, starts, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
        assert not torch.allclose(mine, start, atol=1e-2)


def test_the_virtual_engine_measures_a_model_anew_for_another_part():
    learning_task, rule = task(), VarianceCorrectedSettings()
    size = learning_task.space.learned_size
    learning = BatchedLearning(learning_task, ["p0", "p1", "p2"], rule)
    handles = [learning.initial(k, independent=True) for k in range(3)]
    models = [learning_task.initial(f"p{k}") for k in range(3)]
    merges = []
    for peer, place in ((0, 0), (1, 1), (0, 2), (1, 0)):
        part = Part(place, 3)
        handle = learning.merge(
            handles[0], 0.5, [Contribution("p2", handles[2], 0.5)], peer=peer, at=GossipStep(0, part=part)
        )
        expected = learner_of(learning_task, rule).merge(
            models[0], 0.5, [Contribution("p2", models[2][:size], 0.5)], at=GossipStep(0, part=part)
        )
        merges.append((handle, expected))
    for handle, expected in merges:
        torch.testing.assert_close(learning.vector(handle), expected, rtol=1e-5, atol=1e-7)


class AtOnce:
    """A learning thread that is done when it is asked."""

    def submit(self, job, done):
        done(job())


def test_a_nodes_learner_is_told_which_part_it_merges():
    learning_task, rule, part = task(), VarianceCorrectedSettings(), Part(1, 3)
    size = learning_task.space.learned_size
    start, stop = part.bounds(size)
    own, *others = (learning_task.initial(f"p{k}") for k in range(3))
    learner, thread = learner_of(learning_task, rule), AtOnce()
    ctx = NodeContext(
        peer="p0",
        peers=["p0", "p1", "p2"],
        topology=Topology("full", 3),
        everybody=False,
        learner=learner,
        thread=thread,
        outgoing=OutgoingModels(codec=Float32(), learner=learner, thread=thread),
        **dict.fromkeys(("table", "nursery", "identity")),
        upcalls=Upcalls(*5 * [lambda *_: None]),
    )
    mine = Deferred(size, own)
    received = [
        Contribution(f"p{k}", ctx.graft(mine, other[start:stop], part), 0.25)
        for k, other in enumerate(others, 1)
    ]
    merged = ctx.graft(mine, ctx.merge(mine, 0.5, received, at=GossipStep(0, part=part)), part)
    assert torch.equal(merged.vector, merged_part(learner_of(learning_task, rule), own, others, part))
    whole = ctx.graft(mine, ctx.merge(mine, 0.5, received, at=GossipStep(1)), part)
    assert not torch.allclose(merged.vector, whole.vector, rtol=1e-2)


# --- on the wire ---

ENVELOPE = Envelope("run", "space", "alice")
LEARNED = 1000


def received(message: PushMessage, vector: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Send the part of a model through frames; return what came, and how many bytes of tensors it took."""
    codec = Float32()
    specs = part_specs(codec, LEARNED)
    writer = frames.writer(ENVELOPE, codec.name, codec.specs(LEARNED), part_specs=specs)
    piece = message.piece
    start, stop = (0, LEARNED) if piece is None else piece.bounds(LEARNED)
    sent = list(writer.model(message, 1, codec.encode(vector[start:stop])))
    stream = b"".join(bytes(buffer) for frame in sent for buffer in frame)
    assert len(stream) == writer.frame_bytes(message)[0]
    expectation = Expectation(
        Agreement(run_id="run", sections=(), space_id="space"),
        codec.name,
        codec.specs(LEARNED),
        sender="alice",
        greeted=True,
        part_specs=specs,
    )
    reader = frames.FrameReader(expectation.accept)
    event = None
    while stream:
        buffer = reader.next_buffer()
        buffer[:], stream = stream[: len(buffer)], stream[len(buffer) :]
        event = reader.filled()
    assert isinstance(event, frames.Received)
    (tensor,) = event.tensors
    assert event.document.message(None) == dataclasses.replace(message, model=None)
    return to_torch(tensor), event.payload_bytes


@given(st.integers(1, 20), st.integers(0, 19))
def test_only_a_parts_own_bytes_travel_and_they_are_those_of_the_part(parts, part):
    message = PushMessage(round=3, age=5, part=part % parts, parts=parts, model=None)
    vector = torch.arange(LEARNED, dtype=torch.float32)
    came, payload = received(message, vector)
    start, stop = Part(part % parts, parts).bounds(LEARNED)
    assert torch.equal(came, vector[start:stop])
    assert payload == 4 * (stop - start)
    sizes = FrameSizes(
        ["alice"], run_id="run", space_id="space", codec=Float32(), learned_size=LEARNED, chunk_bytes=4096
    )
    assert sizes(0, message)[1] == payload


@pytest.mark.parametrize(("part", "parts"), [(3, 3), (-1, 3), (0, 0), (0, -2), (5, 2000), (0, 2**40)])
def test_a_part_that_there_is_not_is_refused_before_memory_is_taken_for_it(part, parts):
    message = PushMessage(round=3, age=5, part=part, parts=parts, model=None)
    with pytest.raises(ValueError, match="of a vector of"):
        received(message, torch.zeros(LEARNED))
    codec = Float32()
    liar = frames.writer(ENVELOPE, codec.name, codec.specs(LEARNED), part_specs=lambda piece: codec.specs(7))
    head = liar.documents.head(message, 1, codec.name, codec.specs(7))
    expectation = Expectation(
        Agreement(run_id="run", sections=(), space_id="space"),
        codec.name,
        codec.specs(LEARNED),
        sender="alice",
        greeted=True,
        part_specs=part_specs(codec, LEARNED),
    )
    with pytest.raises(PeerError, match="a part of a model that there is not"):
        expectation.accept(frames.read_head(head))


def test_a_part_of_another_size_than_it_has_is_refused():
    codec = Float32()
    message = PushMessage(round=3, age=5, part=0, parts=4, model=None)
    writer = frames.writer(ENVELOPE, codec.name, codec.specs(LEARNED), part_specs=part_specs(codec, LEARNED))
    with pytest.raises(ProtocolMisuse, match="not what codec"):
        list(writer.model(message, 1, codec.encode(torch.zeros(LEARNED))))
