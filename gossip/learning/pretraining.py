"""Making an extractor: a network trained once on related classes, without its output layer.

What it learns of other classes helps where each peer has two samples of a class (Bristle's transfer step). The classes
of the task itself should not be among those of the pre-training, or there is nothing left to learn together.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gossip import seeding
from gossip.errors import SettingError
from gossip.learning import data, models
from gossip.learning import extractor as extractors
from gossip.learning.data.dataset import Dataset
from gossip.learning.data.mapped import pieces
from gossip.learning.evaluation import BATCH
from gossip.learning.extractor import Extractor
from gossip.learning.forward import Forward
from gossip.learning.local_training import LocalTraining
from gossip.learning.objectives.base import Measured, Objective
from gossip.learning.objectives.classification import Classification
from gossip.learning.objectives.score import ACCURACY
from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings
from gossip.parameters import ParameterSpace

LEARNT = 0.01
"""By such a share a loss has to fall for anything to be learnt; less may be chance."""


class Pretrained(NamedTuple):
    """An extractor and how well the network that it is part of did, on the classes that it was trained on."""

    extractor: Extractor
    accuracy: float
    """Of the whole network on their test samples; NaN where that is not what is scored."""
    samples: int
    """Training samples."""
    features: int
    """Length of what the extractor makes of a sample."""
    score: float = float("nan")
    """The same as the objective scores."""


def pretrain(
    samples: DataSettings,
    model: ModelSettings,
    local: LocalSettings,
    *,
    seed: int,
    folder: Path,
    objective: Objective | None = None,
) -> Pretrained:
    """Train a network on `samples`, drop its output layer and freeze the rest.

    Raises:
        SettingError: the network is not one of the registry that ends in a linear layer, or has learnt nothing.
        DataError: the data cannot be used.
    """
    objective = objective or Classification()
    dataset = data.load(samples, seed=seed, folder=folder, objective=objective).for_layers()
    if model.name not in models.MODELS or model.extractor is not None:
        raise SettingError(f"--model {model.name}: valid: random-features, {', '.join(models.MODELS)}")
    network = models.build(
        model, dataset.input_shape, dataset.classes, seed=seeding.integer_seed(seed, "init"), folder=folder
    )
    layers = extractors.without_output_layer(network)
    before = _outputs(network, dataset)
    wrong = objective.check_outputs(before, dataset.y_test, dataset.classes)
    if wrong is not None:
        raise SettingError(f"--model {model.name}: {wrong}")
    space = ParameterSpace.of(network)
    update = LocalTraining(Forward(network, space), local, loss=objective.loss)
    trained = update.run(
        space.flatten_module(network), dataset.x_train, dataset.y_train, seed=seed, peer="", round=0
    )
    network.load_state_dict(space.unflatten(trained.model))
    description = {
        "name": model.name,
        "hidden": None if model.hidden is None else list(model.hidden),
        "input_shape": list(dataset.input_shape),
        "classes": dataset.classes,
    }
    finite = bool(trained.model.isfinite().all())
    with torch.no_grad():
        for x in pieces(dataset.x_test, BATCH):
            finite = finite and bool(layers.eval()(x).isfinite().all())
    outputs = _outputs(network, dataset)
    measured = objective.measured(objective.sums(outputs, dataset.y_test))
    advice = f"nothing is written; try another --lr than {local.lr:g}, or more --epochs than {local.epochs}"
    if not finite:
        raise SettingError(f"the training diverged: not all weights and features are finite; {advice}")
    if objective.classifies:
        _refuse_guessing(outputs.argmax(1) == dataset.y_test, dataset.y_test, advice)
    else:
        _refuse_unlearnt(objective, before, measured, dataset, advice)
    return Pretrained(
        extractor=extractors.frozen(layers, description),
        accuracy=measured.score if objective.score == ACCURACY else float("nan"),
        samples=len(dataset.y_train),
        features=_features(layers, dataset.x_test[:1].shape[1:]),
        score=measured.score,
    )


def _outputs(network: nn.Module, dataset: Dataset) -> Tensor:
    """Return what the network gives for the test samples (m, …)."""
    with torch.no_grad():
        return torch.cat([network.eval()(x) for x in pieces(dataset.x_test, BATCH)])


def _refuse_unlearnt(
    objective: Objective, before: Tensor, measured: Measured, dataset: Dataset, advice: str
) -> None:
    """Raise `SettingError` where the loss on test samples is hardly below that of the untrained network."""
    loss = objective.measured(objective.sums(before, dataset.y_test)).loss
    if not measured.loss < (1 - LEARNT) * loss:
        raise SettingError(
            f"the loss on test samples is {measured.loss:.4g}, and {loss:.4g} before training: it has learnt nothing; "
            f"{advice}"
        )


def _refuse_guessing(hits: Tensor, labels: Tensor, advice: str) -> None:
    """Raise `SettingError` where a network does no better than who guesses."""
    if (recall := _mean_recall(hits, labels)) <= (chance := chance_level(labels)):
        raise SettingError(
            f"the network recognises {100 * recall:.1f} % of the test samples of a class in the mean, and guessing up "
            f"to {100 * chance:.1f} %: it has learnt nothing; {advice}"
        )


def random(samples: DataSettings, features: int, *, seed: int, folder: Path) -> Pretrained:
    """Return the untrained extractor of random features for such samples.

    Raises:
        DataError: the data cannot be used.
    """
    dataset = data.load(samples, seed=seed, folder=folder).for_layers()
    made = extractors.random_features(dataset.input_shape, features, seed=seed)
    return Pretrained(extractor=made, accuracy=float("nan"), samples=0, features=features)


def chance_level(labels: Tensor) -> float:
    """Return the mean recall that who guesses does not exceed: 1/C and two standard errors of it, below 1.

    C is the number of classes among `labels` (m,); of one class alone nothing can be told, and it is 0. The mean recall
    of who always names one class is just 1/C, however many samples that class has.
    """
    classes = len(set(labels.tolist()))
    if classes < 2:
        return 0.0
    share = 1 / classes
    return min(share + 2 * math.sqrt(share * (1 - share) / len(labels)), 1 - 1 / (2 * len(labels)))


def _mean_recall(hits: Tensor, labels: Tensor) -> float:
    classes = set(labels.tolist())
    return sum(float(hits[labels == label].float().mean()) for label in classes) / len(classes)


def _features(layers: nn.Module, shape: tuple[int, ...]) -> int:
    with torch.no_grad():
        return int(layers(torch.zeros(1, *shape)).numel())
