"""What a peer learns: samples, a network and the local update, from `[data]`, `[model]` and `[local]`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gossip import seeding
from gossip.errors import DataError, SettingError
from gossip.learning import own_tests, partitions, private, self_test
from gossip.learning import validation as splits
from gossip.learning.data.mapped import Samples, part
from gossip.learning.evaluation import Evaluation, evaluate, reestimated
from gossip.learning.linear_layers import LinearGradient
from gossip.learning.local_training import LocalTraining
from gossip.learning.network import Network
from gossip.learning.settings import BY_LABEL
from gossip.parameters import Role


@dataclass(frozen=True, slots=True)
class Shard:
    """One peer's samples, as the network takes them: behind an extractor these are features."""

    x: Samples  # (n, *input_shape)
    y: Tensor  # (n, …) targets; (n,) class numbers

    def __len__(self) -> int:
        return len(self.y)


class Task(Network):
    """A learning task: samples and network (see there for the arguments), how samples are divided, and what is done."""

    tried: tuple[str, ...] = ()
    """What trying users' stages has shown and is accepted (`gossip.probing`): a sentence each."""

    @cached_property
    def cautions(self) -> tuple[str, ...]:
        """What may be a mistake in data and network, and is accepted: a sentence each.

        Raises:
            SettingError: a user's objective is none, or their network learns otherwise through its vector than in plain
                torch.
        """
        doubts = (*self.dataset.doubts, *self.objective_trial.cautions)
        if not self.users_network:
            return doubts
        count = self_test.SAMPLES
        return (
            *doubts,
            *self._begins(),
            *self_test.compare(
                self.forward_on("cpu"),
                self.features(self.dataset.x_train[:count]),
                self.dataset.y_train[:count],
                loss=self.objective.loss,
                draws=self.draws,
                name=self.model_settings.name,
                seed=self.probe_seed,
            ),
        )

    def _begins(self) -> list[str]:
        if self.space.size > self_test.MADE_AGAIN_MAX:
            return []
        return self_test.begins(self.initial(), self.initial_again(), name=self.model_settings.name)

    def check(self) -> None:
        """Load and build everything, so that whatever is wrong is said now."""
        _ = self.dataset, self.objective_trial, self.space, self.draws, self.cautions
        if not self.privacy_settings.nothing:
            private.check_samples(
                self.local_training(), self.initial(), self.features(self.dataset.x_train[:2])
            )

    def partition(self, peers: int) -> list[partitions.Indices]:
        """Return the indices of every peer's training samples, in the order of positions.

        Raises:
            SettingError: the partition is impossible.
            DataError: a peer has too few samples to keep some of them to be tested on.
        """
        if peers not in self._shards:
            choice = self.data_settings.partition
            if not self.objective.classifies and isinstance(choice, BY_LABEL):
                raise SettingError(
                    f"[data] partition = '{choice.kind}' divides by class, and the objective has none; valid: iid, own"
                )
            train = self._split.train
            divided = partitions.divide(
                self.dataset.y_train.numpy()[train], peers, choice, seeding.generator(self.seed, "partition")
            )
            self._shards[peers] = [train[part] for part in divided]
            labels = self.dataset.y_train.numpy()
            for key, kept in (("own_test", self._own_tests), ("own_validation", self._own_validations)):
                share = getattr(self.data_settings, key)
                if share is not None:
                    alike = labels if self.objective.classifies else np.zeros(len(labels), dtype=np.int64)
                    found = own_tests.divide(self._shards[peers], alike, share, seed=self.seed, key=key)
                    self._shards[peers], kept[peers] = found
        return self._shards[peers]

    def own_test(self, position: int, peers: int) -> Shard | None:
        """Return the samples that the peer at `position` keeps to be tested on; `None` where it keeps none."""
        if self.data_settings.own_test is None:
            return None
        return self._taken(self.own_test_places(position, peers))

    def own_test_places(self, position: int, peers: int) -> Tensor:
        """Return which training samples (of `dataset`) those are, (n,) int64; none where it keeps none."""
        self.partition(peers)
        tests = self._own_tests.get(peers)
        return torch.empty(0, dtype=torch.int64) if tests is None else torch.from_numpy(tests[position])

    @property
    def training(self) -> partitions.Indices:
        """The indices of the training samples that are divided: all but those set aside for validation."""
        return self._split.train

    def familiar(self, position: int, peers: int) -> tuple[int, ...]:
        """Return the classes that the peer at `position` has training samples of, ascending; () without classes."""
        if not self.objective.classifies:
            return ()
        present = torch.unique(self.dataset.y_train[torch.from_numpy(self.partition(peers)[position])])
        return tuple(present.tolist())

    def shard(self, position: int, peers: int) -> Shard:
        """Return the training samples of the peer at `position` (0 … peers-1) of the sorted peers.

        Raises:
            SettingError: the partition is impossible.
            DataError: the network cannot train on so few samples.
        """
        if not 0 <= position < peers:
            raise SettingError(f"position {position} is not among {peers} peers (0 … {peers - 1})")
        indices = torch.from_numpy(self.partition(peers)[position])
        if len(indices) < self.batch_min:
            raise DataError(
                f"the peer at position {position} has {len(indices)} sample; BatchNorm needs at least 2"
            )
        if len(indices) == len(self.dataset.y_train):
            return Shard(self.x_train, self.dataset.y_train)  # no copy where nothing is divided
        return self._taken(indices)

    def validation(self, position: int, peers: int) -> Shard | None:
        """Return the samples by which the peer at `position` judges received models; `None` where it keeps none.

        `[data] own_validation` of its own, or `validation_per_class` of each class that it trains on; no training
        sample of anybody is among them, nor one of the test set.
        """
        per_class = self.data_settings.validation_per_class
        if self.data_settings.own_validation is not None:
            self.partition(peers)
            own = self._taken(torch.from_numpy(self._own_validations[peers][position]))
            return Shard(own.x[:], own.y)
        if not per_class:
            return None
        labels = self.dataset.y_train.numpy()
        familiar = np.array(self.familiar(position, peers), dtype=np.int64)
        chosen = splits.draw(
            labels, self._split.validation, familiar, per_class, seed=self.seed, position=position
        )
        judging = self._taken(torch.from_numpy(chosen))
        return Shard(judging.x[:], judging.y)  # few, so in memory

    @cached_property
    def _split(self) -> splits.Split:
        per_class = self.data_settings.validation_per_class
        if per_class and not self.objective.classifies:
            raise SettingError(
                f"[data] validation_per_class = {per_class}: the objective has no classes; own_validation = 0.1 is for "
                "every objective"
            )
        return splits.split(self.dataset.y_train.numpy(), per_class, seed=self.seed)

    def _taken(self, indices: Tensor) -> Shard:
        # A node needs the features of its own samples only; a simulation has those of all at hand.
        if self.extractor is None or "x_train" in self.__dict__:
            x = part(self.x_train, indices)
        else:
            x = self.features(part(self.dataset.x_train, indices))
        return Shard(x, self.dataset.y_train[indices])

    def local_training(self, device: torch.device | str = "cpu") -> LocalTraining:
        """Return the local update of `[local]` for this network."""
        return LocalTraining(
            self.forward_on(device),
            self.local_settings,
            draws=self.draws,
            batch_min=self.batch_min,
            loss=self.objective.loss,
            rounds=self.rounds,
            outer=self.outer_settings,
            privacy=self.privacy_settings,
            by_hand=LinearGradient.of(self.module, self.space) if self.objective.plain else None,
        )

    def evaluate(self, vector: Tensor, x: Samples | None = None, y: Tensor | None = None) -> Evaluation:
        """Return loss and score of `vector` [P] on the common test set, or on given samples.

        Args:
            vector: a model, on the device to compute on.
            x: samples (n, *taken_shape).
            y: targets (n, …).
        """
        if x is None or y is None:
            x, y = self.x_test, self.dataset.y_test
        return evaluate(
            self.forward_on(vector.device),
            vector,
            x,
            y,
            objective=self.objective,
            draws=self.draws,
            seed=self.probe_seed,
        )

    def reestimated(self, vector: Tensor, x: Samples) -> Tensor:
        """Return `vector` [P] with BatchNorm statistics measured anew on `x` (n, *input_shape); see `reestimated`."""
        return reestimated(self.forward_on(vector.device), vector, x)

    def describe(self) -> dict[str, Any]:
        """Return what the task is, as plain values for logs and records."""
        return {
            "model": self.model_settings.name,
            "parameters": sum(
                slot.size for slot in self.space.slots_of(Role.LEARNED, Role.PRIVATE, Role.FROZEN)
            ),
            "extractor": None if self.extractor is None else self.extractor.digest,
            "learned": self.space.learned_size,
            "message_bytes": 4 * self.space.learned_size,
            "space_id": self.space.space_id,
            "data": self.data_settings.source,
            "partition": self.data_settings.partition.kind,
            "train_samples": len(self.dataset.y_train),
            "test_samples": len(self.dataset.y_test),
            "classes": self.dataset.classes,
            "input_shape": list(self.dataset.input_shape),
        }
