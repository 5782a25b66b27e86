"""What receivers get to hold of models in the virtual engine: `[outgoing]` in order, parts coded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings
from gossip.learning.task import Task
from gossip.merging.settings import AverageSettings
from gossip.outgoing.settings import OUTGOINGS
from gossip.protocols.base import ModelMessage
from gossip.protocols.push.messages import PushMessage
from gossip.wire.codecs.settings import BFloat16Settings
from scenarios.virtual.learning.batched import BatchedLearning

COUNTING = """
import gossip

class Counting(gossip.Outgoing):
    def rows(self, space):
        return {"sent": gossip.Rows(1)}

    def send(self, models, state, draws):
        return models + state["sent"], {"sent": state["sent"] + 1}
"""
PEERS = 3


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> object:
    file = tmp_path_factory.mktemp("outgoing") / "counting.py"
    file.write_text(COUNTING)
    return OUTGOINGS.validate({"kind": f"python:{file}:Counting"})


def learning_of(**more: object) -> BatchedLearning:
    task = Task(
        data=DataSettings(train_max=60, test_max=20),
        model=ModelSettings(name="logistic"),
        local=LocalSettings(steps=1, momentum=0.9, keep_momentum=True),
        seed=1,
        folder=Path(),
    )
    return BatchedLearning(task, [f"p{k}" for k in range(PEERS)], AverageSettings(), **more)


def added(learning: BatchedLearning, peer: int, round: int) -> float:
    """Return what the stage adds to a model that a peer sends now."""
    own = learning.initial(peer)
    sent = learning.sent(own, peer, ModelMessage(round=round, step=0, model=own))
    return round_(float((learning.vector(sent) - learning.vector(own)).mean()))


def round_(value: float) -> int:
    assert abs(value - round(value)) < 1e-4
    return round(value)


@pytest.mark.parametrize("method", ["linear-stack", "loop"])
def test_what_a_stage_remembers_is_each_peers_own_and_as_of_the_checkpoint_after_a_crash(
    counting, method
) -> None:
    learning = learning_of(outgoing=counting, method=method)
    assert [added(learning, 0, t) for t in range(3)] == [0, 1, 2]
    assert added(learning, 1, 0) == 0
    learning.train(learning.initial(0), 0, round=0)
    memory = learning.remember(0)
    learning.flush()
    assert set(memory.rows) == {"outgoing.sent", "update.velocity"}
    assert added(learning, 0, 3) == 3
    learning.begin_anew(0)
    assert added(learning, 0, 0) == 0
    learning.restore(0, memory)
    assert added(learning, 0, 3) == 3
    assert learning.remember(0).rows["update.velocity"].any()


def test_models_that_are_asked_for_at_once_are_shaped_in_their_order(counting) -> None:
    learning = learning_of(outgoing=counting)
    own = learning.initial(2)
    sent = [learning.sent(own, 2, ModelMessage(round=t, step=0, model=own)) for t in range(3)]
    before = learning.vector(own)
    assert [round_(float((learning.vector(each) - before).mean())) for each in sent] == [0, 1, 2]


def test_attackers_send_what_they_like(counting) -> None:
    """As on real nodes, where an attacking process has no such stage."""
    learning = learning_of(outgoing=counting, attackers=[1])
    assert [added(learning, 1, t) for t in range(3)] == [0, 0, 0]
    assert [added(learning, 2, t) for t in range(3)] == [0, 1, 2]


def test_of_a_model_that_travels_in_parts_only_the_part_is_coded() -> None:
    learning = learning_of(codec=BFloat16Settings())
    own = learning.initial(0)
    size = learning.task.space.learned_size
    sent = learning.sent(own, 0, PushMessage(round=0, age=0, part=1, parts=4, model=own))
    before, after = learning.vector(own), learning.vector(sent)
    start, stop = size // 4, size // 2
    assert torch.equal(after[start:stop], before[start:stop].to(torch.bfloat16).float())
    assert not torch.equal(after[start:stop], before[start:stop])
    assert torch.equal(after[:start], before[:start])
    assert torch.equal(after[stop:], before[stop:])
