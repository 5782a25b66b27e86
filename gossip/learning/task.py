"""What a peer learns: samples, a network and the local update, from `[data]`, `[model]` and `[local]`."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gossip import plugins, seeding
from gossip.errors import DataError, SettingError
from gossip.learning import data as data_sources
from gossip.learning import extractor as extractors
from gossip.learning import models, partitions, self_test, user_code
from gossip.learning import validation as splits
from gossip.learning.batch_norm import batch_norms, running
from gossip.learning.data import Dataset
from gossip.learning.evaluation import BATCH, Evaluation, evaluate, reestimated
from gossip.learning.extractor import Extracted, Extractor, frozen_buffers
from gossip.learning.forward import Forward, probe
from gossip.learning.generators import Generators
from gossip.learning.local_training import LocalTraining
from gossip.learning.objectives.base import Objective
from gossip.learning.objectives.settings import ClassificationSettings
from gossip.learning.output_layer import OutputLayer
from gossip.learning.settings import BY_LABEL, DataSettings, LocalSettings, ModelSettings
from gossip.parameters import ParameterSpace, Role
from gossip.settings import Choice


@dataclass(frozen=True, slots=True)
class Shard:
    """One peer's samples, as the network takes them: behind an extractor these are features."""

    x: Tensor  # (n, *input_shape)
    y: Tensor  # (n, …) targets; (n,) class numbers

    def __len__(self) -> int:
        return len(self.y)


class Task:
    """A learning task; equal settings, files and seed give equal tasks in every process.

    Samples, network and layout are made when first asked for. Not for several threads at once.

    Args:
        data: `[data]`.
        model: `[model]`.
        local: `[local]`.
        seed: the run's seed.
        folder: the folder that relative paths start from: the task file's.
        rounds: how many the run has, for learning rates that fall until its end.
        objective: `[objective]`; default: classification.
    """

    def __init__(
        self,
        *,
        data: DataSettings,
        model: ModelSettings,
        local: LocalSettings,
        seed: int,
        folder: Path,
        rounds: int | None = None,
        objective: Choice | None = None,
    ) -> None:
        chosen = objective or ClassificationSettings()
        self.objective: Objective = chosen.load()(chosen)
        self.objective_settings = chosen
        self.data_settings = data
        self.model_settings = model
        self.local_settings = local
        self.seed = seed
        self.folder = folder
        self.rounds = rounds
        self._shards: dict[int, list[partitions.Indices]] = {}
        self._forwards: dict[torch.device, Forward] = {}
        self._forgotten = False

    @cached_property
    def dataset(self) -> Dataset:
        """All samples, before they are divided. `DataError` where they cannot be used."""
        dataset = data_sources.load(
            self.data_settings, seed=self.seed, folder=self.folder, objective=self.objective
        )
        return (
            dataset if self._users_network and self.model_settings.extractor is None else dataset.for_layers()
        )

    @property
    def _users_network(self) -> bool:
        return user_code.is_user_code(self.model_settings.name)

    @cached_property
    def extractor(self) -> Extractor | None:
        """The frozen layers before the network. `SettingError` where they cannot be had."""
        if self.model_settings.extractor is None:
            return None
        return extractors.find(
            self.model_settings, self.dataset.input_shape, seed=self.seed, folder=self.folder
        )

    def features(self, x: Tensor) -> Tensor:
        """Return what the network takes for samples `x` (n, *input_shape): the samples, or the extractor's features.

        The extractor never changes, so a sample need go through it once only.
        """
        if self.extractor is None:
            return x if x.is_floating_point() or self.takes_whole_numbers else self.dataset.as_floats(x)
        module = self.extractor.module.eval()
        with torch.no_grad():
            # Flat, so that simulated networks of linear layers alone can be trained as stacks.
            return torch.cat([module(part).flatten(1) for part in torch.split(x, BATCH)])

    @cached_property
    def takes_whole_numbers(self) -> bool:
        """Whether the network looks up whole numbers (tokens); else it gets them as float32."""
        x = self.dataset.x_train[:2]
        if x.is_floating_point():
            return False
        module = self._build(self._init_seed).eval()  # another one: a pass may change the weights
        tried: list[bool] = []
        for given in (x, x.to(torch.float32)):
            with user_code.seeded_globals(self._probe_seed), torch.no_grad():
                try:
                    module(given)
                    tried.append(True)
                except Exception:
                    tried.append(False)
        # One that takes neither is told of with what its data are.
        return tried[0] or not tried[1]

    @property
    def _probe_seed(self) -> int:
        return seeding.integer_seed(self.seed, "probe")

    @cached_property
    def x_train(self) -> Tensor:
        """All training samples (n, *taken_shape) as the network takes them."""
        return self.features(self.dataset.x_train)

    @cached_property
    def x_test(self) -> Tensor:
        """The common test samples (m, *taken_shape) as the network takes them."""
        return self.features(self.dataset.x_test)

    @cached_property
    def taken_shape(self) -> tuple[int, ...]:
        """Shape of one sample as the network takes it."""
        if self.extractor is None:
            return self.dataset.input_shape
        return tuple(self.features(self.dataset.x_test[:1]).shape[1:])

    @cached_property
    def module(self) -> nn.Module:
        """The network, initialised from (seed, "init"). `SettingError` where it cannot be built."""
        module = self._build(self._init_seed)
        if batch_norms(module):
            if self.model_settings.batch_norm == "refuse" and running(module):
                raise SettingError(
                    f"[model] name = '{self.model_settings.name}' has BatchNorm layers with running statistics, and "
                    'batch_norm = "refuse"; use GroupNorm, or batch_norm = "local" or "reestimate"'
                )
            if self.local_settings.batch_size == 1:
                raise SettingError(
                    "[local] batch_size = 1: BatchNorm cannot train on one sample; use at least 2"
                )
        return module

    @cached_property
    def space(self) -> ParameterSpace:
        """The layout of the network's vector; its `space_id` covers network, sample shape and classes."""
        buffers = {} if self.extractor is None else frozen_buffers(self.extractor.module)
        space = ParameterSpace.of(self.module, roles=buffers, salt=self._salt())
        if self.local_settings.consolidate == "familiar":
            if not self.objective.classifies:
                raise SettingError(
                    '[local] consolidate = "familiar" is for objectives that tell classes apart'
                )
            try:
                OutputLayer(space)
            except SettingError as error:
                raise SettingError(f'[local] consolidate = "familiar": {error}') from None
        return space

    @property
    def frozen(self) -> dict[str, Tensor]:
        """The tensors of the frozen slots by name: the part of the model that is not in its vector."""
        named = dict([*self.module.named_parameters(), *self.module.named_buffers()])
        return {slot.name: named[slot.name].detach() for slot in self.space.slots_of(Role.FROZEN)}

    @cached_property
    def draws(self) -> Generators:
        """Which of the process's generators the network draws from (dropout)."""
        return probe(
            self.forward_on("cpu"),
            self.initial(),
            self.features(self.dataset.x_train[[0, -1]]),
            partial(
                self.objective.check_outputs,
                targets=self.dataset.y_train[[0, -1]],
                outputs=self.dataset.classes,
            ),
            name=self.model_settings.name,
            seed=self._probe_seed,
        ).draws

    @cached_property
    def cautions(self) -> tuple[str, ...]:
        """What may be a mistake in data and network, and is accepted: a sentence each.

        Raises:
            SettingError: a user's network learns otherwise through its vector than in plain torch.
        """
        if not self._users_network:
            return self.dataset.doubts
        count = self_test.SAMPLES
        return (
            *self.dataset.doubts,
            *self_test.compare(
                self.forward_on("cpu"),
                self.features(self.dataset.x_train[:count]),
                self.dataset.y_train[:count],
                loss=self.objective.loss,
                draws=self.draws,
                name=self.model_settings.name,
                seed=self._probe_seed,
            ),
        )

    def check(self) -> None:
        """Load and build everything, so that whatever is wrong is said now."""
        _ = self.dataset, self.space, self.draws, self.cautions

    def initial(self, peer: str | None = None) -> Tensor:
        """Return the model [P] to start from: the same on all peers, or an independent one for `peer`.

        What is frozen is the same on all peers in either case.
        """
        if peer is None:
            module = self._build(self._init_seed) if self._forgotten else self.module
            return self.space.flatten_module(module)
        return self.space.flatten_module(self._build(seeding.integer_seed(self.seed, "init", peer=peer)))

    def forget_initial(self) -> None:
        """Free the network's own values of all that lies in vectors; `initial` builds the network anew from now on.

        A network is asked for its logits with a vector's values only, and a large one would lie in memory for nothing.
        """
        named = dict([*self.module.named_parameters(), *self.module.named_buffers()])
        for slot in self.space.slots:
            if slot.role is not Role.FROZEN:
                # Of the same shape, which layers may ask for, in the memory of one number.
                named[slot.name].data = torch.zeros((), dtype=slot.dtype).expand(slot.shape)
        self._forgotten = True

    @property
    def _init_seed(self) -> int:
        return seeding.integer_seed(self.seed, "init")

    def initial_of(self, peer: str, *, independent: bool | None = None) -> Tensor:
        """Return the model [P] that `peer` starts from: its own draw if `independent`; default: as `[model]` says."""
        if independent is None:
            independent = self.model_settings.init == "independent"
        return self.initial(peer if independent else None)

    def partition(self, peers: int) -> list[partitions.Indices]:
        """Return the indices of every peer's training samples, in the order of positions."""
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
        return self._shards[peers]

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

        `[data] validation_per_class` of each class that it trains on; no training sample of anybody is among them, nor
        one of the test set.
        """
        per_class = self.data_settings.validation_per_class
        if not per_class:
            return None
        labels = self.dataset.y_train.numpy()
        familiar = np.array(self.familiar(position, peers), dtype=np.int64)
        chosen = splits.draw(
            labels, self._split.validation, familiar, per_class, seed=self.seed, position=position
        )
        return self._taken(torch.from_numpy(chosen))

    @cached_property
    def _split(self) -> splits.Split:
        per_class = self.data_settings.validation_per_class
        if per_class and not self.objective.classifies:
            raise SettingError(
                f"[data] validation_per_class = {per_class}: the objective has no classes; leave it out"
            )
        return splits.split(self.dataset.y_train.numpy(), per_class, seed=self.seed)

    def _taken(self, indices: Tensor) -> Shard:
        # A node needs the features of its own samples only; a simulation has those of all at hand.
        if self.extractor is None or "x_train" in self.__dict__:
            x = self.x_train[indices]
        else:
            x = self.features(self.dataset.x_train[indices])
        return Shard(x, self.dataset.y_train[indices])

    @property
    def batch_min(self) -> int:
        """Smallest mini-batch that the network can train on."""
        return 2 if batch_norms(self.module) else 1

    def forward_on(self, device: torch.device | str = "cpu") -> Forward:
        """Return the network as a function of its vector, on `device`; shared by all who ask.

        Behind an extractor it takes features.
        """
        device = torch.device(device)
        if device not in self._forwards:
            module = self.module if device.type == "cpu" else copy.deepcopy(self.module).to(device)
            name = self.model_settings.name
            self._forwards[device] = Forward(
                module,
                self.space,
                users_name=name if user_code.is_user_code(name) else None,
                part=module.head if isinstance(module, Extracted) else None,
            )
        return self._forwards[device]

    def local_training(self, device: torch.device | str = "cpu") -> LocalTraining:
        """Return the local update of `[local]` for this network."""
        return LocalTraining(
            self.forward_on(device),
            self.local_settings,
            draws=self.draws,
            batch_min=self.batch_min,
            loss=self.objective.loss,
            rounds=self.rounds,
        )

    def evaluate(self, vector: Tensor, x: Tensor | None = None, y: Tensor | None = None) -> Evaluation:
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
            seed=self._probe_seed,
        )

    def reestimated(self, vector: Tensor, x: Tensor) -> Tensor:
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

    def _build(self, seed: int) -> nn.Module:
        network = models.build(
            self.model_settings, self.taken_shape, self.dataset.classes, seed=seed, folder=self.folder
        )
        return network if self.extractor is None else Extracted(self.extractor.module, network)

    def _salt(self) -> str:
        settings = self.model_settings
        name = settings.name
        if user_code.is_user_code(name):
            name = plugins.PREFIX + user_code.function_name(name)  # the file may lie elsewhere on each peer
        return json.dumps(
            {
                "model": name,
                "hidden": models.hidden_widths(settings),
                "arguments": settings.arguments,
                "input_shape": self.dataset.input_shape,
                "classes": self.dataset.classes,
                **({} if self.objective.classifies else {"objective": self.objective.score.name}),
                **({} if self.extractor is None else {"extractor": self.extractor.digest}),
            },
            sort_keys=True,
            default=str,  # TOML dates in a user's arguments
        )
