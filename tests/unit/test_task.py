"""Tasks: models from settings and users' files, starts, shards, evaluation, BatchNorm's policies."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from gossip.errors import DataError, SettingError
from gossip.learning import models
from gossip.learning.generators import Generators
from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings, OwnPartition
from gossip.learning.task import Task
from gossip.parameters import ParameterSpace, Role

MINE = """
import random
import numpy as np
import torch
from torch import nn

def plain(input_shape, classes, width=4):
    return nn.Sequential(nn.Flatten(), nn.Linear(input_shape[-1] * input_shape[-2], width), nn.Linear(width, classes))

def normed(input_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, classes))

def dropping(input_shape, classes):
    class Drops(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(64, classes)
        def forward(self, x):
            return self.head(nn.functional.dropout(x.flatten(1), 0.5, self.training))
    return Drops()

def drawing(input_shape, classes):
    module = plain(input_shape, classes)
    with torch.no_grad():
        module[1].bias.fill_(random.random() + np.random.rand())
    return module

def half_frozen(input_shape, classes):
    module = plain(input_shape, classes)
    module[1].requires_grad_(False)
    return module

def number(input_shape, classes): return 3
def failing(input_shape, classes): raise RuntimeError("not today")
def narrow(input_shape, classes): return plain(input_shape, classes - 1)
def wrong(input_shape, classes): return nn.Linear(63, classes)
def tupled(input_shape, classes):
    class Two(nn.Linear):
        def forward(self, x): return super().forward(x.flatten(1)), 1
    return Two(64, classes)
"""


def task(folder: Path | None = None, *, seed: int = 0, data=None, local=None, **model) -> Task:
    folder = folder or Path()
    return Task(
        data=data or DataSettings(train_max=200, test_max=100),
        model=ModelSettings(**model),
        local=local or LocalSettings(),
        seed=seed,
        folder=folder,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path


def mine(folder: Path, function: str, **settings) -> Task:
    return task(folder, name=f"python:mine.py:{function}", **settings)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32)], ids=str)
@pytest.mark.parametrize("name", list(models.MODELS))
def test_every_model_takes_images_and_is_initialised_by_its_seed_alone(name, shape):
    state = torch.get_rng_state()
    vectors = []
    for seed in (5, 5, 6):
        module = models.build(ModelSettings(name=name), shape, 7, seed=seed, folder=Path())
        vectors.append(ParameterSpace.of(module).flatten_module(module))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(vectors[0], vectors[1])
    # The linear one begins at zero, whatever the seed.
    assert torch.equal(vectors[0], vectors[2]) == (name == "linear")
    with torch.no_grad():
        assert module.eval()(torch.zeros(2, *shape)).shape == (2, 7)
    assert not any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in module.modules())


def test_flat_features_suit_the_dense_models_only():
    for name in ("logistic", "mlp"):
        assert models.build(ModelSettings(name=name), (13,), 3, seed=0, folder=Path())(
            torch.zeros(2, 13)
        ).shape == (2, 3)
    for name in ("cnn", "lenet-gn", "resnet18-gn"):
        with pytest.raises(SettingError, match=rf"{name}.*\(13,\).*logistic, mlp"):
            models.build(ModelSettings(name=name), (13,), 3, seed=0, folder=Path())
    with pytest.raises(SettingError, match="at least 4×4 pixels, not 2×3"):
        models.build(ModelSettings(name="cnn"), (1, 2, 3), 3, seed=0, folder=Path())


def test_hidden_widths_are_the_settings():
    module = models.build(ModelSettings(hidden=(5, 6)), (4,), 3, seed=0, folder=Path())
    assert [layer.out_features for layer in module if isinstance(layer, nn.Linear)] == [5, 6, 3]
    module = models.build(ModelSettings(hidden=()), (4,), 3, seed=0, folder=Path())
    assert [layer.out_features for layer in module if isinstance(layer, nn.Linear)] == [3]


def test_an_unknown_model_is_refused_with_the_nearest_name():
    with pytest.raises(SettingError, match="did you mean 'lenet-gn'"):
        _ = task(name="lenet").space


def test_a_users_model_is_built_with_its_arguments(folder):
    with_width = mine(folder, "plain", arguments={"width": 9})
    with_width.check()
    assert with_width.space.slot("1.weight").shape == (9, 64)
    assert with_width.space.space_id != mine(folder, "plain").space.space_id


def test_a_users_model_has_one_space_wherever_its_file_lies(folder):
    elsewhere = folder / "deeper"
    elsewhere.mkdir()
    (elsewhere / "copy.py").write_text(MINE)
    copied = task(elsewhere, name="python:copy.py:plain")
    assert copied.space.space_id == mine(folder, "plain").space.space_id
    assert torch.equal(copied.initial(), mine(folder, "plain").initial())


def test_a_users_model_that_draws_from_any_global_generator_starts_alike_everywhere(folder):
    assert torch.equal(mine(folder, "drawing").initial(), mine(folder, "drawing").initial())


@pytest.mark.parametrize(
    ("function", "word"),
    [
        ("number", "returned int"),
        ("failing", "RuntimeError: not today"),
        ("narrow", r"gives shape \(2, 9\) for 2 samples; it must give logits of shape \(2, 10\)"),
        ("wrong", r"cannot take samples of shape \(1, 8, 8\)"),
        ("tupled", "gives tuple"),
        ("absent", "has no function 'absent'"),
    ],
)
def test_a_users_model_that_does_not_fit_is_refused_with_a_sentence(folder, function, word):
    with pytest.raises(SettingError, match=word) as caught:
        mine(folder, function).check()
    assert "\n" not in str(caught.value)


def test_arguments_without_a_function_are_refused():
    with pytest.raises(SettingError, match="arguments belong to a python: function"):
        _ = task(arguments={"a": 1}).space


def test_dropout_is_noticed_even_as_a_function(folder):
    assert mine(folder, "dropping").draws == Generators(torch=True)
    assert not mine(folder, "plain").draws


def test_all_peers_start_alike_or_each_on_its_own_with_frozen_slots_in_common(folder):
    shared = mine(folder, "half_frozen")
    common = shared.initial()
    assert torch.equal(common, mine(folder, "half_frozen").initial())
    assert not torch.equal(common, mine(folder, "half_frozen", seed=1).initial())
    a, b = shared.initial("a"), shared.initial("b")
    assert torch.equal(a, shared.initial("a"))
    learned = shared.space.learned_size
    assert not torch.equal(a[:learned], b[:learned])
    assert torch.equal(a[learned:], b[learned:])
    assert torch.equal(a[learned:], common[learned:])


def test_the_space_id_covers_model_shape_and_classes_but_not_the_seed_nor_the_shard():
    base = task().space.space_id
    assert task(hidden=(64,)).space.space_id == base
    assert task(name="logistic").space.space_id != base
    wider = task(data=DataSettings(classes=11))
    assert wider.space.space_id != base
    assert task(seed=1).space.space_id == base
    assert task(data=DataSettings(partition={"kind": "shards"})).space.space_id == base


def test_shards_divide_the_training_samples():
    learning = task()
    shards = [learning.shard(position, 7) for position in range(7)]
    assert sum(len(shard) for shard in shards) == 200
    together = torch.cat([shard.x for shard in shards]).flatten(1).sort(0).values
    assert torch.equal(together, learning.dataset.x_train.flatten(1).sort(0).values)
    assert torch.equal(shards[2].y, task().shard(2, 7).y)
    own = task(data=DataSettings(partition=OwnPartition(), train_max=50))
    assert len(own.shard(1, 3)) == 50


def test_a_position_out_of_range_or_an_impossible_partition_is_refused():
    with pytest.raises(SettingError, match="position 3 is not among 3 peers"):
        task().shard(3, 3)
    with pytest.raises(SettingError, match="at most 200 peers"):
        task().shard(0, 201)


def test_evaluation_is_the_plain_one_whatever_the_chunks():
    learning = task(data=DataSettings())
    vector = learning.initial()
    data = learning.dataset
    with torch.no_grad():
        logits = learning.module.eval()(data.x_train)
    result = learning.evaluate(vector, data.x_train, data.y_train)  # 1397 samples: two chunks
    assert result.samples == 1397
    assert result.score == pytest.approx(float((logits.argmax(1) == data.y_train).float().mean()))
    assert result.loss == pytest.approx(float(cross_entropy(logits, data.y_train)), rel=1e-5)
    assert learning.evaluate(vector).samples == 400


def test_a_description_is_plain():
    described = task().describe()
    assert described["learned"] == described["parameters"] == 4810
    assert described["message_bytes"] == 19240
    assert described["train_samples"] == 200


# --- BatchNorm -------------------------------------------------------------------------------------


def test_batch_norm_can_be_refused(folder):
    with pytest.raises(SettingError, match="BatchNorm layers with running statistics"):
        _ = mine(folder, "normed", batch_norm="refuse").space
    assert mine(folder, "plain", batch_norm="refuse").space.size


def test_batch_norm_needs_two_samples(folder):
    with pytest.raises(SettingError, match="batch_size = 1: BatchNorm"):
        _ = mine(folder, "normed", local=LocalSettings(batch_size=1)).space
    with pytest.raises(DataError, match="has 1 sample; BatchNorm"):
        mine(folder, "normed", data=DataSettings(train_max=3)).shard(0, 3)


def test_reestimated_statistics_are_those_of_the_data_and_nothing_else_changes(folder):
    learning = mine(folder, "normed")
    vector = learning.initial()
    x = learning.dataset.x_train
    before = vector.clone()
    measured = learning.reestimated(vector, x)
    assert torch.equal(vector, before)
    activations = learning.module[1](x.flatten(1)).detach()
    tensors = learning.space.unflatten(measured)
    assert torch.allclose(tensors["2.running_mean"], activations.mean(0), atol=1e-6)
    assert torch.allclose(tensors["2.running_var"], activations.var(0), atol=1e-6)
    for slot in learning.space.slots:
        if slot.role is not Role.STATISTIC:
            assert torch.equal(measured[slot.offset : slot.end], vector[slot.offset : slot.end])
    assert learning.module[2].momentum == 0.1
    plain = mine(folder, "plain")
    assert torch.equal(plain.reestimated(plain.initial(), x), plain.initial())


def test_peers_start_from_one_model_or_each_from_its_own_as_the_model_section_says():
    shared, independent = task(), task(init="independent")
    assert torch.equal(shared.initial_of("a"), shared.initial())
    assert torch.equal(independent.initial_of("a"), shared.initial("a"))
    assert torch.equal(independent.initial_of("a", independent=False), shared.initial())
    assert not torch.equal(independent.initial_of("a"), independent.initial_of("b"))
    assert independent.space.space_id == shared.space.space_id


def test_xavier_weights_have_their_variance_and_biases_are_zero(folder):
    drawn = task(hidden=(128, 128), weights="xavier")
    for slot, tensor in zip(drawn.space.slots, drawn.space.unflatten(drawn.initial()).values(), strict=True):
        if tensor.ndim == 1:
            assert not tensor.any(), slot.name
        else:
            assert float(tensor.var()) == pytest.approx(2 / sum(tensor.shape), rel=0.1)
            assert float(tensor.abs().max()) <= (6 / sum(tensor.shape)) ** 0.5
    assert torch.equal(drawn.initial(), task(hidden=(128, 128), weights="xavier").initial())
    assert not torch.equal(drawn.initial(), drawn.initial("a"))
    frozen = mine(folder, "half_frozen"), mine(folder, "half_frozen", weights="xavier")
    kept = [each.frozen["1.weight"] for each in frozen]
    assert torch.equal(*kept)
