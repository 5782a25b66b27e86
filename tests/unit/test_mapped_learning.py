"""Learning from mapped data: the thread that reads ahead, merge rules, attacks, the virtual engine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gossip.errors import DataError, SettingError
from gossip.learner import Learner
from gossip.learning import evaluation
from gossip.learning.mini_batches import AHEAD, ahead
from gossip.learning.passes import Passes
from gossip.learning.pretraining import pretrain
from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings
from gossip.merging.settings import MERGES, AverageSettings
from gossip.node.own_data import told
from gossip.protocols.base import Contribution, GossipStep
from scenarios.attacks.base import Scene, poisoned_shard, success_rate
from scenarios.attacks.settings import ATTACKS
from scenarios.virtual.learning.batched import BatchedLearning
from tests.mapped_sources import COUNT, NUMBERS, Y, task, trained, written
from tests.other_device import OTHER, other_device


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(tmp_path)


# --- the thread that reads ahead ---------------------------------------------------------------------


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "mini-batches"}


@pytest.mark.parametrize("place", [0, 30, COUNT - 12])
def test_what_is_not_finite_is_told_with_its_number_in_the_file_and_no_thread_is_left(
    place: int, folder: Path
) -> None:
    x = NUMBERS.copy()
    x[place, 3] = np.nan
    np.savez(folder / "odd.npz", x_train=x, y_train=Y, x_test=x[-5:], y_test=Y[-5:])
    with pytest.raises(DataError, match=rf"^odd\.npz: 'x_train' is not finite in sample {place}; remove"):
        trained(task(folder, "odd.npz", mapped=True))
    assert not threads()


def used(folder: Path) -> None:
    learning = task(folder, "pictures", mapped=True)
    learning.evaluate(trained(learning).model)


def test_an_image_that_cannot_be_read_is_told_when_it_is_needed(folder: Path) -> None:
    path = sorted((folder / "pictures" / "b").iterdir())[3]
    Image.new("L", (9, 9)).save(path)
    with pytest.raises(DataError, match=rf"{path.name} has 9 × 9 pixels, and .*00\.png 5 × 7"):
        used(folder)
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match=rf"{path.name} is no readable image"):
        used(folder)


def test_a_training_that_fails_or_is_cancelled_leaves_no_thread_behind(folder: Path) -> None:
    learning = task(folder, "images.npz", mapped=True)
    shard, training = learning.shard(0, 1), learning.local_training()
    seen: list[int] = []

    def stop(*arguments: object) -> torch.Tensor:
        seen.append(len(threads()))
        raise KeyboardInterrupt

    training.passes = Passes(training.forward, stop, training.settings)
    with pytest.raises(
        KeyboardInterrupt
    ) as caught:  # as long as the failure is held, so are the frames below it
        training.run(learning.initial(), shard.x, shard.y, seed=1, peer="a", round=0)
    assert seen == [1]
    assert not threads()
    assert caught


@given(count=st.integers(0, 20), wanted=st.integers(0, 20), depth=st.integers(1, 3))
def test_no_more_is_made_ahead_than_there_is_room_for(count: int, wanted: int, depth: int) -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(count):
            made.append(number)
            yield number

    taken: list[int] = []
    with closing(ahead(items(), depth=depth)) as given:
        for number in given:
            taken.append(number)
            assert len(made) <= len(taken) + depth
            if len(taken) >= wanted:
                break
    assert taken == [*range(min(count, max(wanted, 1)))]
    assert not threads()


def test_what_fails_ahead_fails_in_its_turn() -> None:
    def items() -> Iterator[int]:
        yield from range(AHEAD)
        raise DataError("one sentence")

    given = ahead(items())
    assert [next(given) for _ in range(AHEAD)] == [*range(AHEAD)]
    with pytest.raises(DataError, match="one sentence"):
        next(given)
    assert not threads()


# --- merge rules, and the virtual engine ---------------------------------------------------------------


@pytest.mark.parametrize("samples", [20, 1000])
def test_a_rule_that_judges_by_own_samples_judges_by_the_same_mapped_ones(samples: int, folder: Path) -> None:
    merged = []
    for mapped in (True, False):
        settings = MERGES.validate({"kind": "ubar", "samples": samples})
        learner = Learner(
            task(folder, "four.npz", mapped=mapped),
            peer="a",
            position=0,
            peers=1,
            merge=settings.load()(settings),
        )
        own = learner.initial()
        received = [Contribution(f"p{k}", own + 0.01 * k, 0.2) for k in range(1, 5)]
        merged.append(learner.merge(own, 0.2, received, at=GossipStep(0)))
    assert torch.equal(*merged)


def test_mapped_samples_come_to_the_device_as_they_are_needed(folder: Path) -> None:
    def life(mapped: bool) -> list[Any]:
        settings = MERGES.validate({"kind": "ubar"})
        learner = Learner(
            task(folder, "four.npz", mapped=mapped, local={"epochs": 1}),
            peer="a",
            position=0,
            peers=2,
            merge=settings.load()(settings),
            device=OTHER,
        )
        own = learner.train(learner.initial(), round=0)
        merged = learner.merge(own.model, 0.5, [Contribution("b", own.model + 0.1, 0.5)], at=GossipStep(0))
        return [own.model.tolist(), merged.tolist(), own.loss, learner.evaluate(merged)]

    with other_device():
        assert life(True) == life(False)


def test_statistics_are_measured_anew_on_mapped_samples_as_on_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "BATCH", 20)
    found = []
    for mapped in (True, False):
        learning = task(folder, "four.npz", mapped=mapped, model={"name": "python:mine.py:normed"})
        found.append(learning.reestimated(learning.initial(), learning.shard(0, 1).x))
    assert torch.allclose(*found, rtol=1e-6, atol=1e-7), "products round as their memory is aligned"
    assert not torch.equal(found[0], learning.initial())


def test_an_extractor_is_made_of_mapped_samples_as_of_others(folder: Path) -> None:
    made = [
        pretrain(
            DataSettings(source="four.npz", mapped=mapped),
            ModelSettings(hidden=(9,)),
            LocalSettings(epochs=40),
            seed=0,
            folder=folder,
        )
        for mapped in (True, False)
    ]
    assert made[0].extractor.digest == made[1].extractor.digest
    assert made[0].accuracy == made[1].accuracy


def test_an_attacker_poisons_mapped_samples_as_others(folder: Path) -> None:
    for kind in ("label-flip", "backdoor"):
        shards, rates = [], []
        for mapped in (True, False):
            learning = task(folder, "four.npz", mapped=mapped)
            settings = ATTACKS.validate({"kind": kind, "peers": [1]})
            scene = Scene(
                task=learning,
                peers=2,
                attackers=(1,),
                row=lambda peer, round: {},
                rule=lambda *given: given[1],
                familiar=lambda peer: frozenset(range(3)),
            )
            attack = settings.load()(settings, scene)
            shards.append(poisoned_shard(attack, 1, name="b", seed=0))
            rates.append(success_rate(attack, [learning.initial()]))
        assert torch.equal(shards[0].x[:], shards[1].x[:])
        assert torch.equal(shards[0].y, shards[1].y)
        assert rates[0] == rates[1]


def test_a_node_says_whether_its_samples_are_mapped(folder: Path) -> None:
    for mapped in (True, False):
        learning = task(folder, "images.npz", mapped=mapped)
        learner = SimpleNamespace(shard=learning.shard(0, 1), own_test=None)
        setup: Any = SimpleNamespace(task=learning, learner=learner)
        assert told(setup).endswith("; mapped") == mapped


def test_the_loop_of_the_virtual_engine_learns_the_same_of_mapped_data(folder: Path) -> None:
    names = ["a", "b", "c"]
    found = []
    for mapped in (True, False):
        learning = BatchedLearning(
            task(folder, "images.npz", mapped=mapped), names, AverageSettings(), method="loop"
        )
        handles = [learning.train(learning.initial(peer), peer, round=1) for peer in range(3)]
        found.append((learning.stack(handles), learning.evaluate(handles), learning.samples(0)))
    assert torch.equal(found[0][0], found[1][0])
    assert found[0][1:] == found[1][1:]


def test_stacks_of_the_virtual_engine_refuse_mapped_data_and_auto_takes_the_loop(folder: Path) -> None:
    learning = task(folder, "images.npz", mapped=True)
    for method in ("vmap", "linear-stack"):
        with pytest.raises(
            SettingError, match=rf"method = '{method}': the samples are mapped.*method = \"loop\""
        ):
            BatchedLearning(learning, ["a", "b"], AverageSettings(), method=method)
    assert BatchedLearning(learning, ["a", "b"], AverageSettings()).method == "loop"
