"""Frozen extractors: never on the wire, pinned by hash, cached; and the three disjoint splits around them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gossip.errors import DataError, ExitCode, SettingError
from gossip.learner import Learner
from gossip.learning import extractor as extractors
from gossip.learning import pretraining
from gossip.learning.data import load
from gossip.learning.extractor import Extracted, frozen_buffers
from gossip.learning.forward import Forward
from gossip.learning.local_training import LocalTraining
from gossip.learning.settings import (
    CyclicPartition,
    DataSettings,
    IidPartition,
    LocalSettings,
    ModelSettings,
)
from gossip.learning.task import Task
from gossip.merging.settings import MERGES, AverageSettings
from gossip.parameters import ParameterSpace, Role
from gossip.protocols.base import Contribution, GossipStep
from gossip.settings import Choice
from scenarios import cli
from scenarios.virtual.learning.batched import BatchedLearning

CYCLIC = CyclicPartition(classes_per_peer=4, samples_per_class=2)
BRISTLE: Choice = MERGES.validate({"kind": "bristle"})


def task(
    *,
    seed: int = 0,
    partition: Choice = CYCLIC,
    validation: int = 5,
    local: LocalSettings | None = None,
    **model: object,
) -> Task:
    return Task(
        data=DataSettings(partition=partition, validation_per_class=validation),
        model=ModelSettings(**{"name": "linear", "extractor": "random-features", "features": 30, **model}),
        local=local or LocalSettings(lr=0.3, steps=3, consolidate="familiar"),
        seed=seed,
        folder=Path(),
    )


def learner(learning: Task, position: int = 0, merge: Choice = BRISTLE) -> Learner:
    return Learner(learning, peer=f"p{position}", position=position, peers=10, merge=merge.load()(merge))


# --- what an extractor is --------------------------------------------------------------------------


def test_an_extractor_is_frozen_outside_the_vector_and_part_of_the_space_id():
    first, same, other = task(), task(), task(seed=1)
    assert first.space.size == first.space.learned_size == 30 * 10
    frozen = first.space.slots_of(Role.FROZEN)
    assert [slot.name for slot in frozen] == ["extractor.1.weight", "extractor.1.bias"]
    assert first.space.space_id == same.space.space_id != other.space.space_id
    assert set(first.frozen) == {slot.name for slot in frozen}
    assert first.space.space_id != task(features=31).space.space_id
    assert first.describe()["message_bytes"] == 4 * 300


@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_training_on_cached_features_is_training_through_the_extractor(name):
    local = LocalSettings(lr=0.3, steps=4, batch_size=3, momentum=0.5)
    learning = task(name=name, local=local)
    shard = learning.shard(2, 10)
    assert shard.x.shape == (8, 30)
    whole = LocalTraining(Forward(learning.module, learning.space), local)
    raw = learning.dataset.x_train[torch.from_numpy(learning.partition(10)[2])]
    start = learning.initial() + 0.01
    through = whole.run(start, raw, shard.y, seed=0, peer="p2", round=1)
    cached = learner(learning, 2, AverageSettings()).train(start, round=1)
    assert float((through.model - cached.model).abs().max()) <= 1e-6
    assert through.loss == pytest.approx(cached.loss, abs=1e-6)
    assert learning.evaluate(cached.model).score == pytest.approx(
        float(
            (Forward(learning.module, learning.space)(through.model, start[:0], learning.dataset.x_test))
            .argmax(1)
            .eq(learning.dataset.y_test)
            .float()
            .mean()
        ),
        abs=0.003,
    )


@pytest.mark.parametrize("method", ["linear-stack", "vmap", "loop"])
def test_simulated_peers_train_consolidate_and_merge_as_their_learners_do(method):
    learning = task()
    names = [f"p{place}" for place in range(10)]
    batch = BatchedLearning(learning, names, BRISTLE, method=method)
    handles = [batch.initial(place) for place in range(10)]
    group = [learner(learning, place) for place in range(10)]
    models = [each.initial() for each in group]
    declared = {each.peer: frozenset(each.classes) for each in group}
    assert batch.declared == declared
    for round in range(3):
        handles = [batch.train(handle, place, round=round) for place, handle in enumerate(handles)]
        models = [each.train(model, round=round).model for each, model in zip(group, models, strict=True)]
        handles = [
            batch.merge(
                own,
                0.1,
                [Contribution(names[j], handles[j], 0.1) for j in range(10) if j != place],
                peer=place,
                at=GossipStep(round),
            )
            for place, own in enumerate(handles)
        ]
        models = [
            each.merge(
                models[place],
                0.1,
                [Contribution(names[j], models[j], 0.1) for j in range(10) if j != place],
                at=GossipStep(round),
                declared=declared,
            )
            for place, each in enumerate(group)
        ]
    for handle, model in zip(handles, models, strict=True):
        assert torch.allclose(batch.vector(handle), model, atol=1e-6)


def test_an_extractor_with_batch_norm_keeps_its_statistics_whatever_the_mode():
    normed = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.BatchNorm1d(5), nn.ReLU())
    extractor = extractors.frozen(normed, {"name": "normed", "input_shape": [1, 8, 8]})
    whole = Extracted(extractor.module, nn.Linear(5, 3))
    before = {name: tensor.clone() for name, tensor in normed.state_dict().items()}
    for mode in (True, False):
        whole.train(mode)
        assert whole.head.training == mode
        whole(torch.rand(4, 1, 8, 8))
    assert all(torch.equal(tensor, before[name]) for name, tensor in normed.state_dict().items())
    roles = {slot.role for slot in ParameterSpace.of(whole, roles=frozen_buffers(normed)).slots}
    assert roles == {Role.LEARNED, Role.FROZEN}


def test_local_training_leaves_the_columns_of_foreign_classes_as_they_were():
    kept, free = task(), task(local=LocalSettings(lr=0.3, steps=3))
    start = torch.randn(300, generator=torch.Generator().manual_seed(0))
    for position in (0, 7):
        familiar = sorted((position + k) % 10 for k in range(4))
        foreign = [c for c in range(10) if c not in familiar]
        after = learner(kept, position).train(start, round=0).model.view(10, 30)
        without = learner(free, position).train(start, round=0).model.view(10, 30)
        assert torch.equal(after[foreign], start.view(10, 30)[foreign])
        assert not torch.equal(without[foreign], start.view(10, 30)[foreign])
        # The scratch head trains as if nothing were kept.
        assert torch.equal(after[familiar], without[familiar])


def test_consolidation_needs_one_column_per_class():
    with pytest.raises(SettingError, match=r"\[local\] consolidate = \"familiar\".*linear"):
        task(name="mlp").check()
    task(name="logistic").check()


# --- files and hashes ------------------------------------------------------------------------------


def test_a_saved_extractor_is_the_same_extractor(tmp_path):
    made = extractors.random_features((1, 8, 8), 30, seed=0)
    (tmp_path / "e.safetensors").write_bytes(extractors.save(made))
    read = extractors.load(tmp_path / "e.safetensors")
    assert read.digest == made.digest
    x = torch.rand(5, 1, 8, 8)
    assert torch.equal(made.module(x), read.module(x))
    pinned = task(extractor=str(tmp_path / "e.safetensors"), features=None, extractor_hash=made.digest)
    assert pinned.space.space_id == task().space.space_id


def test_one_flipped_bit_is_another_hash_and_refused_with_a_sentence(tmp_path):
    made = extractors.random_features((1, 8, 8), 30, seed=0)
    damaged = bytearray(extractors.save(made))
    damaged[-1] ^= 1
    (tmp_path / "e.safetensors").write_bytes(damaged)
    changed = task(extractor=str(tmp_path / "e.safetensors"), features=None, extractor_hash=made.digest)
    with pytest.raises(SettingError, match=f"pins extractor_hash = '{made.digest}'") as caught:
        changed.check()
    assert caught.value.exit_code == ExitCode.USAGE
    assert "\n" not in str(caught.value)


def damage(made: bytes, **metadata: str) -> bytes:
    tensors = safetensors.torch.load(made)
    return safetensors.torch.save(tensors, metadata=metadata)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "not a readable"),
        (b"x" * 1000, "not a readable"),
        (safetensors.torch.save({"a": torch.ones(3)}), "holds no extractor"),
        ({"extractor": "{}"}, "damaged"),
        ({"extractor": "[" * 100_000}, "damaged"),
        (
            {"extractor": json.dumps({"name": "random-features", "input_shape": [1, 8, 8], "features": 7})},
            "damaged",
        ),
        (
            {
                "extractor": json.dumps(
                    {"name": "os.system", "input_shape": [1], "hidden": None, "classes": 3}
                )
            },
            "damaged",
        ),
    ],
)
def test_a_file_that_is_no_extractor_is_refused_with_a_sentence(tmp_path, content, word):
    if isinstance(content, dict):
        content = damage(extractors.save(extractors.random_features((1, 8, 8), 30, seed=0)), **content)
    path = tmp_path / "e.safetensors"
    path.write_bytes(content)
    with pytest.raises(SettingError, match=word) as caught:
        extractors.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_extractor_for_other_samples_or_of_no_known_name_is_refused(tmp_path):
    (tmp_path / "e.safetensors").write_bytes(
        extractors.save(extractors.random_features((3, 4, 4), 30, seed=0))
    )
    with pytest.raises(SettingError, match=r"takes samples of shape \(3, 4, 4\)"):
        task(extractor=str(tmp_path / "e.safetensors"), features=None).check()
    with pytest.raises(SettingError, match="valid: random-features"):
        task(extractor="random", features=None).check()
    with pytest.raises(SettingError, match="there is no file"):
        task(extractor="nowhere.safetensors", features=None).check()


def test_pretrain_makes_an_extractor_that_a_task_can_pin(tmp_path, capsys):
    path = tmp_path / "e.safetensors"
    arguments = ["--classes", "0-4", "--features", "12", "--epochs", "3", "--json"]
    assert cli.call(["pretrain", str(path), *arguments]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["features"] == 12
    assert told["accuracy"] > 0.8
    learning = Task(
        data=DataSettings(class_subset=(5, 6, 7, 8, 9), partition=IidPartition()),
        model=ModelSettings(name="linear", extractor=str(path), extractor_hash=told["extractor_hash"]),
        local=LocalSettings(),
        seed=0,
        folder=Path(),
    )
    learning.check()
    assert learning.space.learned_size == 5 * 12
    for wrong, word in (
        ([str(path), "--model", "linear"], "more than one layer"),
        ([str(path), "--model", "tree"], "random-features"),
        ([str(tmp_path / "e.bin")], "safetensors"),
        ([str(path), "--classes", "a-b"], "0-4 or 1,3,7"),
        ([str(path), "--classes", "3"], "two or more"),
        ([str(path), "--model", "cnn", "--features", "9"], "valid with mlp"),
        ([str(path), "--features", "100000000000"], "--features 100000000000: more than anybody"),
        ([str(path), "--lr", "inf"], "--lr inf: must be a finite number"),
        ([str(path), "--lr", "nan"], "--lr"),
        (
            [str(path), "--model", "random-features", "--classes", "0-4"],
            "--classes 0-4: random features are not",
        ),
        (
            [str(path), "--model", "random-features", "--epochs", "3"],
            "--epochs 3: random features are not trained",
        ),
        (
            [str(path), "--model", "random-features", "--lr", "0.1"],
            "--lr 0.1: random features are not trained",
        ),
    ):
        assert cli.call(["pretrain", *wrong]) != 0
        sentence = capsys.readouterr().err
        assert word in sentence
        assert sentence.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--lr", "1e9"], "try another --lr than 1e+09"),
        (["--lr", "1e30"], "nothing is written"),
        (["--lr", "50", "--model", "cnn", "--epochs", "2"], "it has learnt nothing"),
        (["--lr", "1e-6", "--epochs", "1"], "or more --epochs than 1"),
    ],
)
def test_a_network_that_learnt_nothing_makes_no_extractor(tmp_path, capsys, options, sentence):
    path = tmp_path / "e.safetensors"
    assert cli.call(["pretrain", str(path), *options]) == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert not path.exists()


def test_random_features_need_no_option_and_say_no_accuracy(tmp_path, capsys):
    path = tmp_path / "e.safetensors"
    assert cli.call(["pretrain", str(path), "--model", "random-features", "--features", "7", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["features"], told["accuracy"]) == (7, None)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(0, 4))
def test_who_always_names_one_class_is_at_chance_level_and_who_is_always_right_above(labels, named):
    y = torch.tensor(labels)
    always = pretraining._mean_recall(y == named, y)
    assert len(set(labels)) == 1 or always <= pretraining.chance_level(y)
    assert pretraining._mean_recall(y == y.clone(), y) > pretraining.chance_level(y)


def test_a_subset_of_classes_is_renumbered_and_nonsense_refused():
    every = load(DataSettings(), seed=0, folder=Path())
    some = load(DataSettings(class_subset=(7, 2)), seed=0, folder=Path())
    assert some.classes == 2
    assert torch.equal(some.x_train, every.x_train[(every.y_train == 7) | (every.y_train == 2)])
    assert torch.equal(some.x_test[some.y_test == 0], every.x_test[every.y_test == 7])
    for wrong in ((3,), (3, 3), (1, 10), (-1, 2)):
        with pytest.raises(DataError, match="class_subset"):
            load(DataSettings(class_subset=wrong), seed=0, folder=Path())


# --- three disjoint splits -------------------------------------------------------------------------


def test_nobody_trains_on_anybodys_validation_samples_nor_on_the_test_set():
    learning = task(partition=IidPartition(), validation=10)
    rows = {tuple(x.flatten().tolist()) for x in learning.features(learning.dataset.x_test)}
    trained = [learning.shard(place, 10).x for place in range(10)]
    judged = [learning.validation(place, 10) for place in range(10)]
    assert sum(map(len, trained)) == len(learning.dataset.y_train) - sum(
        max(10, count // 5) for count in np.bincount(learning.dataset.y_train.numpy())
    )
    training = {tuple(x.tolist()) for x in torch.cat(trained)}
    for samples in judged:
        assert samples is not None
        assert torch.bincount(samples.y).tolist() == [10] * 10
        own = {tuple(x.tolist()) for x in samples.x}
        assert len(own) == 100
        assert not own & training
        assert not own & rows
    # Peers draw for themselves.
    assert not torch.equal(judged[0].x, judged[1].x)


def test_validation_samples_are_of_familiar_classes_only():
    learning = task(validation=6)
    for position in (0, 4, 9):
        samples = learning.validation(position, 10)
        assert samples is not None
        counts = torch.bincount(samples.y, minlength=10).tolist()
        familiar = {(position + k) % 10 for k in range(4)}
        assert counts == [6 if c in familiar else 0 for c in range(10)]
        assert learning.familiar(position, 10) == tuple(sorted(familiar))
    assert task(validation=0).validation(0, 10) is None


def test_too_many_validation_samples_and_a_rule_without_any_are_refused_with_a_sentence():
    with pytest.raises(SettingError, match=r"validation_per_class = 90.*valid: 0 to"):
        task(validation=90).shard(0, 10)
    with pytest.raises(SettingError, match="validation_per_class = 0"):
        learner(task(validation=0))
    with pytest.raises(SettingError, match="validation_per_class = 0"):
        BatchedLearning(task(validation=0), [f"p{place}" for place in range(10)], BRISTLE)
    with pytest.raises(SettingError, match='kind = "bristle"'):
        BatchedLearning(
            task(name="mlp", local=LocalSettings()), [f"p{place}" for place in range(10)], BRISTLE
        )
