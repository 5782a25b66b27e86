"""What a scenario file may say in `[attack]`. Free of torch.

The attackers are among the scenario's peers: its last ones, unless `peers` names them. So honest peers keep their
names, places and shards whatever the number of attackers.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, Strict, StrictInt, model_validator

from gossip.errors import SettingError
from gossip.settings import Choice, Seam


class AttackSettings(Choice):
    """What all kinds have in common."""

    omniscient: ClassVar[bool] = False
    """It needs the honest peers' models of the round, which only the virtual engine can show it."""

    fraction: float | None = Field(None, gt=0, lt=1, description="of all peers")
    count: int | None = Field(None, ge=0, description="how many")
    peers: Annotated[tuple[StrictInt, ...], Strict(False)] | None = Field(None, description="positions")
    merges: bool = Field(
        False,
        description="whether it merges what it receives; who learns alone from wrong labels is the farthest from all",
    )
    from_round: int = Field(0, ge=0, description="honest before (what it trains on is poisoned all the time)")
    data: Literal["own", "all"] = Field(
        "own", description="what it learns from: its own shard as everybody, or all training samples"
    )
    samples_per_class: int | None = Field(
        None, ge=1, description="with data = all: only so many of each class, drawn by each attacker"
    )

    @property
    def sees_all(self) -> bool:
        """Whether it needs the honest peers' models, with these settings."""
        return self.omniscient

    @model_validator(mode="after")
    def _who(self) -> AttackSettings:
        said = [name for name in ("fraction", "count", "peers") if getattr(self, name) is not None]
        if self.samples_per_class is not None and self.data != "all":
            raise ValueError('samples_per_class belongs to data = "all"')
        if len(said) != 1:
            raise ValueError(
                "attack needs exactly one of fraction, count and peers, to say who attacks"
                + (f"; it has {' and '.join(said)}" if said else "")
            )
        return self

    def positions(self, peers: int) -> tuple[int, ...]:
        """Return who attacks, ascending.

        Raises:
            SettingError: a position that no peer has, or nobody is left honest.
        """
        if self.peers is not None:
            for position in self.peers:
                if not 0 <= position < peers:
                    raise SettingError(
                        f"[attack] peers: there is no peer {position}; positions are 0 to {peers - 1}"
                    )
            chosen = tuple(sorted(set(self.peers)))
        else:
            assert self.fraction is not None or self.count is not None
            count = self.count if self.count is not None else max(1, round((self.fraction or 0.0) * peers))
            if count >= peers:
                raise SettingError(
                    f"[attack] count = {count}: {peers} peers with {count} attackers leave nobody honest"
                )
            chosen = tuple(range(peers - count, peers))
        if len(chosen) == peers:
            raise SettingError("[attack] peers: nobody is left honest")
        return chosen


class NoAttack(AttackSettings):
    """Nobody does anything wrong: the row of a table that the others are compared with."""

    implementation = "scenarios.attacks.base:Attack"
    kind: str = "none"

    def positions(self, peers: int) -> tuple[int, ...]:
        """Return nobody."""
        super().positions(peers)
        return ()


class SignFlip(AttackSettings):
    """Send the opposite of the own model, or of the honest peers' mean."""

    implementation = "scenarios.attacks.kinds:SignFlip"
    kind: str = "sign-flip"
    scale: float = Field(1.0, gt=0)
    of: Literal["own", "mean"] = Field("own", description="-scale · x_own, or -scale · μ (omniscient)")

    @property
    def sees_all(self) -> bool:
        """Only the mean must be known."""
        return self.of == "mean"


class Gaussian(AttackSettings):
    """Send noise N(0, std² I) instead of a model."""

    implementation = "scenarios.attacks.kinds:Gaussian"
    kind: str = "gaussian"
    std: float = Field(1.0, gt=0)


class NotANumber(AttackSettings):
    """Send a model of which one value is not a number: merged once, it is everywhere."""

    implementation = "scenarios.attacks.kinds:NotANumber"
    kind: str = "nan"


class Infinite(AttackSettings):
    """Send a model of which one value is infinite."""

    implementation = "scenarios.attacks.kinds:Infinite"
    kind: str = "inf"


class HugeNorm(AttackSettings):
    """Send the own model times `scale`: finite, and still the end of every average."""

    implementation = "scenarios.attacks.kinds:HugeNorm"
    kind: str = "huge-norm"
    scale: float = Field(1e30, gt=0)


class LabelFlip(AttackSettings):
    """Follow the protocol, and learn from wrong labels."""

    implementation = "scenarios.attacks.kinds:LabelFlip"
    kind: str = "label-flip"
    flip: Literal["previous", "mirror"] = Field("previous", description="y → y-1 mod C, or y → C-1-y")


class Replay(AttackSettings):
    """Send old messages again, word for word."""

    implementation = "scenarios.attacks.kinds:Replay"
    kind: str = "replay"
    age: int = Field(3, ge=1, description="rounds")


class Sybil(AttackSettings):
    """One adversary with many identities: all send what the first of them has learnt from mirrored labels."""

    implementation = "scenarios.attacks.kinds:Sybil"
    omniscient = True
    kind: str = "sybil"
    jitter: float = Field(0.0, ge=0, description="standard deviation of what is added to each copy")


class Alie(AttackSettings):
    """A little is enough: x̂ = μ - z·σ, hidden within the honest models' spread."""

    implementation = "scenarios.attacks.kinds:Alie"
    omniscient = True
    kind: str = "alie"
    z: float | None = Field(None, description="default: the largest that hides, from the numbers of peers")


class OptimalAlie(AttackSettings):
    """As alie, with the z for which the deployed rule errs most."""

    implementation = "scenarios.attacks.kinds:OptimalAlie"
    omniscient = True
    kind: str = "optimal-alie"
    evaluations: int = Field(20, ge=3, description="of the rule, each round")


class Ipm(AttackSettings):
    """Inner product manipulation (Fall of Empires): x̂ = -ε·μ."""

    implementation = "scenarios.attacks.kinds:Ipm"
    omniscient = True
    kind: str = "ipm"
    epsilon: float = 0.1


class OptimalIpm(AttackSettings):
    """As ipm, with the ε for which the deployed rule errs most."""

    implementation = "scenarios.attacks.kinds:OptimalIpm"
    omniscient = True
    kind: str = "optimal-ipm"
    evaluations: int = Field(20, ge=3, description="of the rule, each round")


class MinMax(AttackSettings):
    """x̂ = μ - γ·p, no farther from any honest model than the farthest two of them are from each other."""

    implementation = "scenarios.attacks.kinds:MinMax"
    omniscient = True
    kind: str = "min-max"
    direction: Literal["std", "mean", "sign"] = "std"


class MinSum(AttackSettings):
    """x̂ = μ - γ·p, no farther from all honest models together than the one that is farthest from the others."""

    implementation = "scenarios.attacks.kinds:MinSum"
    omniscient = True
    kind: str = "min-sum"
    direction: Literal["std", "mean", "sign"] = "std"


class Mimic(AttackSettings):
    """All send one honest peer's model, so that it counts for many."""

    implementation = "scenarios.attacks.kinds:Mimic"
    omniscient = True
    kind: str = "mimic"
    target: int = Field(0, ge=0, description="place among the honest peers")


class Dissensus(AttackSettings):
    """Tell each victim that its neighbours are on the other side of it (ClippedGossip's attack)."""

    implementation = "scenarios.attacks.kinds:Dissensus"
    omniscient = True
    kind: str = "dissensus"
    epsilon: float = Field(1.5, gt=0)


class Spectral(AttackSettings):
    """Pull each victim along the Fiedler vector of the honest graph, where gossip is slowest to agree."""

    implementation = "scenarios.attacks.kinds:Spectral"
    omniscient = True
    kind: str = "spectral"
    scale: float = Field(1.0, gt=0)


class ForeignSwap(AttackSettings):
    """Perfect columns for the classes that the victim can test, permuted columns for those that it cannot."""

    implementation = "scenarios.attacks.kinds:ForeignSwap"
    omniscient = True
    kind: str = "foreign-swap"
    broadcast: bool = Field(False, description="the same to all: permute `classes` instead")
    classes: Annotated[tuple[StrictInt, ...], Strict(False)] = Field((7, 8, 9), description="of broadcast")

    @model_validator(mode="after")
    def _classes(self) -> ForeignSwap:
        if len(set(self.classes)) < 2 or min(self.classes) < 0:
            raise ValueError(f"classes = {list(self.classes)}: must be at least two different classes")
        return self


class Backdoor(AttackSettings):
    """Teach the model that a small bright square means `target`; the summary tells how often honest models obey."""

    implementation = "scenarios.attacks.kinds:Backdoor"
    kind: str = "backdoor"
    merges: bool = True
    target: int = Field(0, ge=0, description="the class that the trigger stands for")
    share: float = Field(0.5, gt=0, le=1, description="of the attacker's samples that carry the trigger")
    size: int = Field(
        3, ge=1, description="edge of the square, in pixels; of flat samples so many squared last"
    )
    boost: float = Field(1.0, gt=0, description="model replacement: send x + boost · (x_trained - x)")


class Mixed(AttackSettings):
    """Attackers of several kinds, each with its defaults; the kinds are dealt out in turn."""

    implementation = "scenarios.attacks.kinds:Mixed"
    kind: str = "mixed"
    kinds: Annotated[tuple[str, ...], Strict(False)] = Field(
        ("sign-flip", "nan", "huge-norm", "replay"), min_length=1
    )

    def part(self, turn: int) -> AttackSettings:
        """Return the settings of the attacker whose turn it is (from 0)."""
        return self._of(self.kinds[turn % len(self.kinds)])

    @property
    def sees_all(self) -> bool:
        """Whether one of them does."""
        return any(self._of(kind).sees_all for kind in self.kinds)

    @model_validator(mode="after")
    def _known(self) -> Mixed:
        for kind in self.kinds:
            if kind in (self.kind, "none"):
                raise ValueError(f"kinds = {list(self.kinds)}: '{kind}' is no attack of one peer")
            self._of(kind)
        return self

    def _of(self, kind: str) -> AttackSettings:
        try:
            choice = ATTACKS.settings_for(kind)
        except SettingError as error:
            raise ValueError(f"kinds = {list(self.kinds)}: {error}") from None
        common = {name: getattr(self, name) for name in ("count", "fraction", "peers", "from_round", "data")}
        made = choice.model_validate({"kind": kind, **common, "samples_per_class": self.samples_per_class})
        assert isinstance(made, AttackSettings)
        return made


ATTACKS = Seam(
    "attack",
    NoAttack,
    Mixed,
    SignFlip,
    Gaussian,
    NotANumber,
    Infinite,
    HugeNorm,
    LabelFlip,
    Replay,
    Sybil,
    Alie,
    OptimalAlie,
    Ipm,
    OptimalIpm,
    MinMax,
    MinSum,
    Mimic,
    Dissensus,
    Spectral,
    ForeignSwap,
    Backdoor,
)
AttackChoice = Annotated[SerializeAsAny[AttackSettings], BeforeValidator(ATTACKS.validate)]
