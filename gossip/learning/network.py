"""What learns, and from which samples: the network of `[model]`, laid out as a vector, behind the data of `[data]`."""

from __future__ import annotations

import copy
import json
from functools import cached_property, partial
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor, nn

from gossip import plugins, seeding
from gossip.errors import SettingError
from gossip.learning import adapters, models, partitions, parts, peft_start, user_code
from gossip.learning import data as data_sources
from gossip.learning import extractor as extractors
from gossip.learning.adapter_settings import AdapterSettings
from gossip.learning.batch_norm import batch_norms, running
from gossip.learning.data import Dataset
from gossip.learning.data.mapped import Mapped, Samples
from gossip.learning.evaluation import BATCH
from gossip.learning.extractor import Extracted, Extractor, frozen_buffers
from gossip.learning.forward import Forward, probe
from gossip.learning.generators import Generators
from gossip.learning.objectives.base import Objective
from gossip.learning.objectives.of_others import made
from gossip.learning.objectives.settings import ClassificationSettings
from gossip.learning.objectives.trial import Trial, tried
from gossip.learning.outer_settings import NO_OUTER, OuterSettings
from gossip.learning.output_layer import OutputLayer
from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings
from gossip.parameters import ParameterSpace, Role
from gossip.privacy.settings import NO_PRIVACY, PrivacySettings
from gossip.settings import Choice


class Network:
    """Samples and network of a task; equal settings, files and seed give equal ones in every process.

    All is made when first asked for. Not for several threads at once.

    Args:
        data: `[data]`.
        model: `[model]`.
        local: `[local]`.
        seed: the run's seed.
        folder: the folder that relative paths start from: the task file's.
        rounds: how many the run has, for learning rates that fall until its end.
        objective: `[objective]`; default: classification.
        outer: `[outer]`; default: none.
        privacy: `[privacy]`; default: none.
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
        outer: OuterSettings = NO_OUTER,
        privacy: PrivacySettings = NO_PRIVACY,
    ) -> None:
        chosen = objective or ClassificationSettings()
        self.objective: Objective = made(chosen)
        self.objective_settings = chosen
        self.data_settings = data
        self.model_settings = model
        self.local_settings = local
        self.seed = seed
        self.folder = folder
        self.rounds = rounds
        self.outer_settings = outer
        self.privacy_settings = privacy
        self._shards: dict[int, list[partitions.Indices]] = {}
        self._own_tests: dict[int, list[partitions.Indices]] = {}
        self._own_validations: dict[int, list[partitions.Indices]] = {}
        self._forwards: dict[torch.device, Forward] = {}
        self._forgotten = False

    @cached_property
    def dataset(self) -> Dataset:
        """All samples, before they are divided. `DataError` where they cannot be used."""
        dataset = data_sources.load(
            self.data_settings, seed=self.seed, folder=self.folder, objective=self.objective
        )
        return (
            dataset if self.users_network and self.model_settings.extractor is None else dataset.for_layers()
        )

    @property
    def users_network(self) -> bool:
        return user_code.is_user_code(self.model_settings.name)

    @cached_property
    def extractor(self) -> Extractor | None:
        """The frozen layers before the network. `SettingError` where they cannot be had."""
        if self.model_settings.extractor is None:
            return None
        return extractors.find(
            self.model_settings, self.dataset.input_shape, seed=self.seed, folder=self.folder
        )

    @overload
    def features(self, x: Tensor) -> Tensor: ...
    @overload
    def features(self, x: Samples) -> Samples: ...
    def features(self, x: Samples) -> Samples:
        """Return what the network takes for samples `x` (n, *input_shape): the samples, or the extractor's features.

        The extractor never changes, so a sample need go through it once only; of mapped samples the features may be
        larger still, and these go through it whenever they are read.
        """
        if self.extractor is None and (x.dtype.is_floating_point or self.takes_whole_numbers):
            return x
        return x.through(self._features) if isinstance(x, Mapped) else self._features(x)

    def _features(self, x: Tensor) -> Tensor:
        if self.extractor is None:
            return self.dataset.as_floats(x)
        module = self.extractor.module.eval()
        with torch.no_grad():
            # Flat, so that simulated networks of linear layers alone can be trained as stacks.
            return torch.cat([module(part).flatten(1) for part in torch.split(x, BATCH)])

    @cached_property
    def takes_whole_numbers(self) -> bool:
        """Whether the network looks up whole numbers (tokens); else it gets them as float32."""
        x = self.dataset.x_train[:2]
        if x.dtype.is_floating_point:
            return False
        module = self._build(self._init_seed).eval()  # another one: a pass may change the weights
        tried: list[bool] = []
        for given in (x, x.to(torch.float32)):
            with user_code.seeded_globals(self.probe_seed), torch.no_grad():
                try:
                    module(given)
                    tried.append(True)
                except (Exception, SystemExit):
                    tried.append(False)
        # One that takes neither is told of with what its data are.
        return tried[0] or not tried[1]

    @property
    def probe_seed(self) -> int:
        return seeding.integer_seed(self.seed, "probe")

    @cached_property
    def x_train(self) -> Samples:
        """All training samples (n, *taken_shape) as the network takes them."""
        return self.features(self.dataset.x_train)

    @cached_property
    def x_test(self) -> Samples:
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
            if self.local_settings.micro_batch is not None:
                raise SettingError(
                    f"[local] micro_batch = {self.local_settings.micro_batch}: BatchNorm would see a part of each "
                    "mini-batch only, and its gradient would be another; leave it out, or use GroupNorm"
                )
            if self.local_settings.batch_size == 1:
                raise SettingError(
                    "[local] batch_size = 1: BatchNorm cannot train on one sample; use at least 2"
                )
        return module

    @cached_property
    def space(self) -> ParameterSpace:
        """The layout of the network's vector; its `space_id` covers network, sample shape and classes."""
        chosen = {} if self.extractor is None else frozen_buffers(self.extractor.module)
        head, prefix = (
            (self.module.head, "head.") if isinstance(self.module, Extracted) else (self.module, "")
        )
        chosen |= {prefix + name: role for name, role in parts.roles(self.model_settings, head).items()}
        space = ParameterSpace.of(self.module, roles=chosen, salt=self._salt())
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
    def in_base(self) -> frozenset[str]:
        """The names of frozen tensors that a model's file leaves to the base's: with adapters, those of `start`."""
        if self._start is None or self.model_settings.adapter is None:
            return frozenset()
        prefix = "head." if isinstance(self.module, Extracted) else ""
        frozen = {slot.name for slot in self.space.slots_of(Role.FROZEN)}
        return frozenset({prefix + name for name in parts.names_in(self._start)} & frozen)

    @cached_property
    def objective_trial(self) -> Trial:
        """What came of trying an objective that is not ours. `SettingError` where something is wrong with it."""
        return tried(self.objective, self.dataset.y_train, self.dataset.classes, seed=self.probe_seed)

    @cached_property
    def draws(self) -> Generators:
        """Which of the process's generators the network draws from (dropout), or a loss of one's own."""
        of_loss = self.objective_trial.draws
        return (
            of_loss
            | probe(
                self.forward_on("cpu"),
                self.initial(),
                self.features(self.dataset.x_train[[0, -1]]),
                partial(
                    self.objective.check_outputs,
                    targets=self.dataset.y_train[[0, -1]],
                    outputs=self.dataset.classes,
                ),
                name=self.model_settings.name,
                seed=self.probe_seed,
            ).draws
        )

    def initial(self, peer: str | None = None) -> Tensor:
        """Return the model [P] to start from: the same on all peers, or an independent one for `peer`.

        What is frozen is the same on all peers in either case.
        """
        if peer is None:
            module = self._build(self._init_seed) if self._forgotten else self.module
            return self.space.flatten_module(module)
        return self.space.flatten_module(self._build(seeding.integer_seed(self.seed, "init", peer=peer)))

    def initial_again(self) -> Tensor:
        """Return the model [P] of a network that is made anew, as other peers make theirs."""
        return self.space.flatten_module(self._build(self._init_seed))

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
        own = self.starts_apart if independent is None else independent
        return self.initial(peer if own else None)

    @property
    def starts_apart(self) -> bool:
        """Whether each peer starts from its own draw."""
        return self.model_settings.init == "independent"

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

    def _build(self, seed: int) -> nn.Module:
        network = self._begun(seed)
        self._adapt(network)
        parts.roles(self.model_settings, network)
        return network if self.extractor is None else Extracted(self.extractor.module, network)

    def _begun(self, seed: int) -> nn.Module:
        """Return the network with the values that it begins with; a large base beside adapters lies in its file."""

        def build() -> nn.Module:
            settings, shape, classes = self.model_settings, self.taken_shape, self.dataset.classes
            return models.build(settings, shape, classes, seed=seed, folder=self.folder)

        return parts.begun(build, self._start, mapped=self.model_settings.adapter is not None)

    def _adapt(self, network: nn.Module) -> None:
        """Put the adapter's factors beside the layers of `network`, the frozen ones of the first that was built."""
        if self.model_settings.adapter is not None:
            first = self.__dict__.get("module")
            adapters.adapt(
                network,
                self.model_settings.adapter,
                seed=self.seed,
                like=first.head if isinstance(first, Extracted) else first,
            )
            if self._adapter_start is not None:
                peft_start.begin(network, self.model_settings.adapter, self._adapter_start)

    @property
    def _adapter_start(self) -> Path | None:
        adapter = self.model_settings.adapter
        if adapter is None or adapter.start is None:
            return None
        return self.folder / Path(adapter.start).expanduser()

    @property
    def _start(self) -> Path | None:
        start = self.model_settings.start
        return None if start is None else self.folder / Path(start).expanduser()

    @cached_property
    def start_hash(self) -> str:
        """Of the content of `[model] start`. `SettingError` where another one is pinned."""
        assert self._start is not None
        found, pinned = parts.hash_of(self._start), self.model_settings.start_hash
        if found and pinned not in (None, found):
            raise SettingError(
                f"[model] start = '{self.model_settings.start}' has the hash {found}, but the task pins start_hash = "
                f"'{pinned}'"
            )
        return found

    def _adapter_salt(self, adapter: AdapterSettings) -> dict[str, Any]:
        start = {} if self._adapter_start is None else {"start": peft_start.hash_of(self._adapter_start)}
        return {**adapter.model_dump(mode="json", exclude={"start"}), **start}

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
                **({} if self._start is None else {"start": self.start_hash}),
                **({} if settings.adapter is None else {"adapter": self._adapter_salt(settings.adapter)}),
                **({"data": meaning} if (meaning := self.dataset.preparation.meaning) else {}),
            },
            sort_keys=True,
            default=str,  # TOML dates in a user's arguments
        )
