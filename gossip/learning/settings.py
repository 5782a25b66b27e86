"""What a task file may say in `[data]`, `[model]` and `[local]`. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, StrictInt, model_validator

from gossip.learning.adapter_settings import AdapterSettings
from gossip.learning.sources import DIGITS as DIGITS
from gossip.learning.sources import SourceSettings
from gossip.learning.updates import rules
from gossip.learning.updates.settings import Optimizer, SgdSettings
from gossip.settings import HASH, Choice, Seam, Settings


class IidPartition(Choice):
    """Samples dealt out at random, shard sizes differing by at most one."""

    implementation = "gossip.learning.partitions:iid"
    kind: str = "iid"


class DirichletPartition(Choice):
    """Each class is split over the peers in proportions drawn from Dirichlet(alpha · 1)."""

    implementation = "gossip.learning.partitions:dirichlet"
    kind: str = "dirichlet"
    alpha: float = Field(0.5, gt=0, description="small: few classes per peer; large: nearly i.i.d.")
    min_samples: int = Field(2, ge=1, description="samples every peer gets at least; draws repeat until so")
    attempts_max: int = Field(1000, ge=1, description="draws before giving up with a sentence")
    samples_per_peer: int | None = Field(
        None,
        ge=1,
        description="instead of dividing each class: every peer has class proportions of its own from "
        "Dirichlet(alpha · 1), and draws so many samples by them from all, with replacement",
    )


class PathologicalPartition(Choice):
    """Every peer holds `classes_per_peer` classes only."""

    implementation = "gossip.learning.partitions:pathological"
    kind: str = "pathological"
    classes_per_peer: int = Field(2, ge=1)


class CyclicPartition(Choice):
    """The peer at position i holds the consecutive classes i, i + 1, … (cyclically): each class is at equally many."""

    implementation = "gossip.learning.partitions:cyclic"
    kind: str = "cyclic"
    classes_per_peer: int = Field(2, ge=1)
    samples_per_class: int | None = Field(
        None, ge=1, description="few shots: so many of each class per holder; default: all, divided evenly"
    )
    overlap: bool = Field(
        False,
        description="holders of a class draw without regard to each other, so that samples may be shared",
    )

    @model_validator(mode="after")
    def _overlap_of_few(self) -> CyclicPartition:
        if self.overlap and self.samples_per_class is None:
            raise ValueError("'overlap' needs samples_per_class: how many each holder draws")
        return self


class ShardsPartition(Choice):
    """Samples sorted by label, cut into equal shards, `shards_per_peer` of them dealt to each peer."""

    implementation = "gossip.learning.partitions:shards"
    kind: str = "shards"
    shards_per_peer: int = Field(2, ge=1)


class OwnPartition(Choice):
    """Nothing is divided: the data named here is this peer's own, all of it."""

    implementation = "gossip.learning.partitions:own"
    kind: str = "own"


BY_LABEL = (DirichletPartition, PathologicalPartition, CyclicPartition, ShardsPartition)
"""Partitions that are made of the samples' classes."""

PARTITIONS = Seam(
    "partition",
    IidPartition,
    DirichletPartition,
    PathologicalPartition,
    CyclicPartition,
    ShardsPartition,
    OwnPartition,
    group="gossip.partitions",
)
Partition = Annotated[SerializeAsAny[Choice], BeforeValidator(PARTITIONS.validate)]


class DataSettings(SourceSettings):
    """`[data]`: where samples come from and how they are divided among the peers."""

    partition: Partition = IidPartition()
    class_subset: tuple[StrictInt, ...] | None = Field(
        None,
        strict=False,
        description="use only samples of these classes, renumbered 0, 1, … in this order",
    )
    train_max: int | None = Field(None, ge=1, description="use only this many training samples (seeded draw)")
    test_max: int | None = Field(None, ge=1, description="use only this many test samples (seeded draw)")
    test_from_train: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="instead of the test samples: this share of each class's training samples, drawn by the seed, on "
        "which nobody trains then; for choosing settings by, so that the test samples stay unseen",
    )
    own_test: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="share of each peer's own training samples, classes as it has them, that it keeps to be tested on "
        "beside the common test samples; nobody trains on them, and their score is told apart",
    )
    own_validation: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="share of each peer's own training samples by which it chooses: its own score for [stop] patience "
        "and target, and the best model; nobody trains on them, and no score that is told is theirs",
    )
    validation_per_class: int = Field(
        0,
        ge=0,
        description="samples of each own class that a peer keeps for judging received models; taken from the training "
        "samples before these are divided, so nobody trains on them",
    )

    @model_validator(mode="after")
    def _one_validation(self) -> DataSettings:
        if self.own_validation is not None and self.validation_per_class:
            raise ValueError(
                "'own_validation' and 'validation_per_class' exclude each other; write one of them"
            )
        return self

    @property
    def validates(self) -> bool:
        """Whether peers keep samples by which they choose."""
        return self.own_validation is not None or self.validation_per_class > 0

    def agreed(self) -> dict[str, Any]:
        """Return what peers must have in common of how samples are read: key -> plain value, of those that are set."""
        found = super().agreed()
        if self.test_fraction is not None and self.partition.kind != "own":
            found["test_fraction"] = self.test_fraction  # or one peer would train on another's test samples
        for key in ("own_test", "own_validation"):
            if getattr(self, key) is not None and self.partition.kind != "own":
                found[key] = getattr(self, key)  # likewise
        return found


class ModelSettings(Settings):
    """`[model]`: the network."""

    name: str = Field("mlp", description="a name of the model registry, or python:FILE:FUNCTION")
    hidden: tuple[StrictInt, ...] | None = Field(
        None, strict=False, description="mlp: hidden layer widths; default (64,)"
    )
    extractor: str | None = Field(
        None,
        description='frozen layers before the network, the same at all peers: "random-features", or a .safetensors '
        "that `gossip-scenario pretrain` made",
    )
    extractor_hash: str | None = Field(
        None,
        pattern=HASH,
        description="what `gossip-scenario pretrain` printed; an extractor with other content is refused",
    )
    features: int | None = Field(
        None, ge=1, le=1_000_000, description="random-features: how many; default 400"
    )
    arguments: dict[str, Any] = Field(default_factory=dict, description="passed to a python: FUNCTION")
    learned: tuple[str, ...] | None = Field(
        None,
        strict=False,
        description="patterns of tensor names: these are learnt together, all others are frozen",
    )
    private: tuple[str, ...] | None = Field(
        None,
        strict=False,
        description="patterns: trained by each peer for itself and never sent, a personal head",
    )
    frozen: tuple[str, ...] | None = Field(
        None, strict=False, description="patterns: as they are, equal on all peers and never sent"
    )
    start: str | None = Field(
        None,
        description="a .safetensors whose tensors the network begins with, by their names; equal on all peers",
    )
    start_hash: str | None = Field(
        None,
        pattern=HASH,
        description="BLAKE2b of that file, 16 bytes; another content is refused",
    )
    adapter: AdapterSettings | None = Field(
        None,
        description="small factors beside frozen layers are learnt, sent and merged instead of the network",
    )
    init: Literal["shared", "independent"] = Field(
        "shared",
        description="all peers start from one model, or each from its own draw; averages of independent draws lose "
        'their variance, which [merge] kind = "variance-corrected" puts right',
    )
    weights: Literal["default", "xavier"] = Field(
        "default",
        description="what is drawn: each layer's own default, or Xavier-uniform weights and zero biases in linear "
        "and convolutional layers",
    )
    batch_norm: Literal["local", "reestimate", "refuse"] = Field(
        "local",
        description="running statistics never leave the peer: kept as they are after a merge (local), "
        "re-estimated by one pass over own data before evaluation (reestimate), or such a model refused",
    )

    @model_validator(mode="after")
    def _only_what_applies(self) -> ModelSettings:
        if self.hidden is not None and self.name != "mlp":
            raise ValueError(f"'hidden' belongs to the model 'mlp', not to '{self.name}'")
        if self.hidden is not None and any(width < 1 for width in self.hidden):
            raise ValueError(f"hidden = {list(self.hidden)}: widths must be at least 1")
        if self.features is not None and self.extractor != "random-features":
            raise ValueError("'features' belongs to extractor = \"random-features\"")
        if self.start_hash is not None and self.start is None:
            raise ValueError("'start_hash' needs a start")
        if self.extractor_hash is not None and self.extractor is None:
            raise ValueError("'extractor_hash' needs an extractor")
        return self


SAM_ETA = 0.01
"""The η of ASAM's paper."""


class LocalSettings(Settings):
    """`[local]`: what happens between exchanges."""

    implied: ClassVar[Mapping[str, Any]] = {
        "sam": "standard",
        "sam_eta": SAM_ETA,
        "schedule": "exponential",
        "lr_final": 0.0,
        "lr_warmup": 0,
        "optimizer": SgdSettings(),
        "precision": "float32",
        "micro_batch": None,
        "steps_min": 20,
        "steps_max": 100,
    }

    lr: float = Field(0.1, gt=0, description="step size η of round 0")
    lr_decay: float = Field(
        1.0, gt=0, le=1, description="schedule = exponential: η of round t is lr · lr_decay^t"
    )
    schedule: Literal["exponential", "cosine", "linear"] = Field(
        "exponential", description="how η falls; cosine and linear reach lr · lr_final in the last round"
    )
    lr_final: float = Field(
        0.0, ge=0, le=1, description="cosine, linear: what is left of lr in the last round, as a share"
    )
    lr_warmup: int = Field(0, ge=0, description="rounds over which η rises to its schedule")
    optimizer: Optimizer = Field(
        SgdSettings(),
        description="what a step makes of a gradient: sgd, adamw, quasi-global, fedprox, fedspeed, spsa",
    )
    epochs: int | None = Field(None, ge=1, description="passes over own data per round; default 1")
    steps: int | None = Field(None, ge=1, description="mini-batch steps per round, instead of epochs")
    deadline_s: float | None = Field(
        None,
        gt=0,
        description="instead of epochs and steps: as many steps as fit so many seconds, by how long the peer's own "
        "last ones took; so machines that differ in speed end together",
    )
    steps_min: int = Field(
        20, ge=1, le=1_000_000, description="of deadline_s: at least, and before anything was measured"
    )
    steps_max: int = Field(100, ge=1, le=1_000_000, description="of deadline_s: at most")
    normalise: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="K*: displacements are scaled by K* over the steps that were done, at most 2, at least 1/2; for "
        "numbers of steps that go with the data. Elsewhere it costs accuracy",
    )
    batch_size: int = Field(16, ge=1)
    momentum: float = Field(
        0.0, ge=0, lt=1, description="heavy-ball factor; its buffer starts anew each round"
    )
    keep_momentum: bool = Field(
        False,
        description="the peer's buffer lives on from one local update to the next, whatever model that begins with "
        "(and through a restart); with one step per update momentum is nothing without it. A bad model's gradient "
        "lives on in it, too; clip_norm bounds that. With momentum = 0 there is nothing to keep",
    )
    weight_decay: float = Field(
        0.0, ge=0, description="added to the gradient at y, not inside SAM's perturbation"
    )
    sam_rho: float = Field(
        0.0,
        ge=0,
        description="SAM radius ρ; 0 is plain SGD. What suits hangs on model and data: 0.2 was chosen for a small "
        "MLP on the embedded digits",
    )
    sam: Literal["standard", "adaptive"] = Field(
        "standard",
        description="what ρ is measured in: the weights' own unit, or each weight's size |w| + sam_eta (ASAM), which "
        "does not change where layers are scaled and the network is not; radii of the one do not suit the other",
    )
    sam_eta: float = Field(
        SAM_ETA, ge=0, description="adaptive SAM: added to |w|, so that weights at zero are perturbed, too"
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32",
        description="of the local update's matrix products (torch.autocast); weights and gradients stay float32",
    )
    micro_batch: int | None = Field(
        None,
        ge=1,
        description="samples that go through the network at a time; the gradient is that of the whole mini-batch",
    )
    compile: bool = Field(
        False,
        description="the network's passes in a local update by torch.compile, the same but for rounding, and each "
        "peer's own affair: faster steps of large networks, for a minute of compiling at the start, by a C++ compiler. "
        "Where that does not work, a warning says so and learning goes on without",
    )
    clip_norm: float | None = Field(None, gt=0, description="largest L2 norm of the gradient that is applied")
    consolidate: Literal["all", "familiar"] = Field(
        "all",
        description="which outputs keep what training made of them: all, or only those of classes that the peer has "
        "samples of; its columns for the others come out as they went in",
    )

    def compared(self) -> dict[str, Any]:
        """Return what peers must have in common: not how each of them has its steps computed."""
        return {key: value for key, value in super().compared().items() if key != "compile"}

    @model_validator(mode="after")
    def _only_what_acts(self) -> LocalSettings:
        if self.lr_decay != 1 and self.schedule != "exponential":
            raise ValueError(
                f'lr_decay = {self.lr_decay} belongs to schedule = "exponential"; lr_final is for the others'
            )
        if self.lr_final and self.schedule == "exponential":
            raise ValueError(
                f'lr_final = {self.lr_final} belongs to schedule = "cosine" or "linear"; lr_decay is exponential\'s'
            )
        wrong = rules.complaint(self)
        if wrong is not None:
            raise ValueError(wrong)
        return self

    @model_validator(mode="after")
    def _epochs_or_steps(self) -> LocalSettings:
        written = [key for key in ("epochs", "steps", "deadline_s") if getattr(self, key) is not None]
        if len(written) > 1:
            raise ValueError(f"'{written[0]}' and '{written[1]}' exclude each other; write one of them")
        if self.deadline_s is None and (self.steps_min, self.steps_max) != (20, 100):
            raise ValueError("steps_min and steps_max belong to deadline_s, which is not set")
        if self.steps_min > self.steps_max:
            raise ValueError(f"steps_min = {self.steps_min} is above steps_max = {self.steps_max}")
        return self

    @model_validator(mode="after")
    def _adaptive_sam(self) -> LocalSettings:
        if self.sam == "adaptive" and not self.sam_rho:
            raise ValueError(
                'sam = "adaptive" needs a radius, and sam_rho = 0 is none; give sam_rho, e.g. 0.5, or take sam away'
            )
        if self.sam != "adaptive" and self.sam_eta != SAM_ETA:
            raise ValueError(
                f'sam_eta = {self.sam_eta} belongs to sam = "adaptive"; write that, or take it away'
            )
        return self
