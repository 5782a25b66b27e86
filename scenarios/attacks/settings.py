"""What a scenario file may say in `[attack]`. Free of torch.

The attackers are among the scenario's peers: its last ones, unless `peers` names them. So honest peers keep their
names, places and shards whatever the number of attackers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import (
    BeforeValidator,
    Field,
    SerializeAsAny,
    Strict,
    field_validator,
    model_validator,
)

from gossip.errors import SettingError
from gossip.settings import Seam
from scenarios.attacks.choice import AttackSettings as AttackSettings
from scenarios.attacks.choice import Circumstances, Samples
from scenarios.attacks.class_settings import Backdoor as Backdoor
from scenarios.attacks.class_settings import ForeignSwap, LabelFlip


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
    scale: float = Field(1e30, gt=1)


class Replay(AttackSettings):
    """Send old messages again, word for word."""

    implementation = "scenarios.attacks.kinds:Replay"
    kind: str = "replay"
    age: int = Field(3, ge=1, description="rounds")

    def check(self, run: Circumstances) -> None:
        """Something must get so old."""
        super().check(run)
        if self.age >= run.rounds:
            valid = f"valid: 1 to {run.rounds - 1}" if run.rounds > 1 else "replay needs two rounds or more"
            raise SettingError(
                f"[attack] age = {self.age}: nothing gets so old in a run of {run.rounds} rounds; {valid}"
            )


class Sybil(AttackSettings):
    """One adversary with many identities: all send what the first of them has learnt from mirrored labels."""

    implementation = "scenarios.attacks.kinds:Sybil"
    omniscient = True
    needs_classes = True
    kind: str = "sybil"
    jitter: float = Field(0.0, ge=0, description="standard deviation of what is added to each copy")


class Alie(AttackSettings):
    """A little is enough: x̂ = μ - z·σ, hidden within the honest models' spread."""

    implementation = "scenarios.attacks.kinds:Alie"
    omniscient = True
    honest_min = 2
    kind: str = "alie"
    z: float | None = Field(None, description="default: the largest that hides, from the numbers of peers")

    @field_validator("z")
    @classmethod
    def _not_the_mean(cls, z: float | None) -> float | None:
        if z == 0:
            raise ValueError("must not be 0, with which the honest mean is sent")
        return z

    def check(self, run: Circumstances) -> None:
        """With half of the honest peers as supporters the formula's z is Φ⁻¹(1/2) = 0."""
        super().check(run)
        supporters = run.peers // 2 + 1 - run.attackers
        if self.z is None and 2 * supporters == run.peers - run.attackers:
            raise SettingError(
                f"[attack] z is missing: with {run.attackers} attackers of {run.peers} peers the largest that hides is "
                "0, with which the honest mean is sent; set another, such as 1.5"
            )


class OptimalAlie(AttackSettings):
    """As alie, with the z for which the deployed rule errs most."""

    implementation = "scenarios.attacks.kinds:OptimalAlie"
    omniscient = True
    honest_min = 2
    kind: str = "optimal-alie"
    evaluations: int = Field(20, ge=3, le=1000, description="of the rule, each round")


class Ipm(AttackSettings):
    """Inner product manipulation (Fall of Empires): x̂ = -ε·μ."""

    implementation = "scenarios.attacks.kinds:Ipm"
    omniscient = True
    kind: str = "ipm"
    epsilon: float = Field(0.1, gt=0)


class OptimalIpm(AttackSettings):
    """As ipm, with the ε for which the deployed rule errs most."""

    implementation = "scenarios.attacks.kinds:OptimalIpm"
    omniscient = True
    kind: str = "optimal-ipm"
    evaluations: int = Field(20, ge=3, le=1000, description="of the rule, each round")


class MinMax(AttackSettings):
    """x̂ = μ - γ·p, no farther from any honest model than the farthest two of them are from each other."""

    implementation = "scenarios.attacks.kinds:MinMax"
    omniscient = True
    honest_min = 2
    kind: str = "min-max"
    direction: Literal["std", "mean", "sign"] = "std"


class MinSum(AttackSettings):
    """x̂ = μ - γ·p, no farther from all honest models together than the one that is farthest from the others."""

    implementation = "scenarios.attacks.kinds:MinSum"
    omniscient = True
    honest_min = 2
    kind: str = "min-sum"
    direction: Literal["std", "mean", "sign"] = "std"


class FangKrum(AttackSettings):
    """x̂ = x_Re - λ·s, against where honest models move in a round, λ the largest that Krum chooses."""

    implementation = "scenarios.attacks.kinds:FangKrum"
    omniscient = True
    honest_min = 2
    kind: str = "fang-krum"
    about: Literal["before", "mean"] = Field(
        "before",
        description="x_Re, the mean of what honest peers trained from, as published; or of what they made of it, where "
        "that moved farther together than it differs, and Krum would choose nothing near x_Re",
    )


class FangTrimmedMean(AttackSettings):
    """Beyond the extreme honest value of each coordinate, against where it has moved: trimmed mean, median."""

    implementation = "scenarios.attacks.kinds:FangTrimmedMean"
    omniscient = True
    honest_min = 2
    kind: str = "fang-trimmed-mean"
    b: float = Field(2.0, gt=1, description="how far beyond: up to so many times the value")


class Mimic(AttackSettings):
    """All send one honest peer's model, so that it counts for many."""

    implementation = "scenarios.attacks.kinds:Mimic"
    omniscient = True
    kind: str = "mimic"
    target: int = Field(0, ge=0, description="place among the honest peers")

    def check(self, run: Circumstances) -> None:
        """The target must be there."""
        super().check(run)
        if self.target >= run.honest:
            raise SettingError(
                f"[attack] target = {self.target}: there are {run.honest} honest peers; valid: 0 to {run.honest - 1}"
            )


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
    honest_min = 2
    needs_graph = True
    kind: str = "spectral"
    scale: float = Field(1.0, gt=0)


MIXED = ("sign-flip", "nan", "huge-norm", "replay")


class Mixed(AttackSettings):
    """Attackers of several kinds, each with its defaults; the kinds are dealt out in turn."""

    implementation = "scenarios.attacks.kinds:Mixed"
    kind: str = "mixed"
    kinds: Annotated[tuple[str, ...], Strict(False)] = Field(MIXED, min_length=1)

    def part(self, turn: int) -> AttackSettings:
        """Return the settings of the attacker whose turn it is (from 0)."""
        return self._of(self.kinds[turn % len(self.kinds)])

    @property
    def sees_all(self) -> bool:
        """Whether one of them does."""
        return any(self._of(kind).sees_all for kind in self.kinds)

    def check(self, run: Circumstances) -> None:
        """Whatever those that attack need; kinds that somebody chose must all be dealt out."""
        super().check(run)
        if len(self.kinds) > run.attackers and self.kinds != MIXED:
            raise SettingError(
                f"[attack] kinds = {list(self.kinds)}: {len(self.kinds)} kinds for {run.attackers} attackers; valid: "
                "at most one for each"
            )
        self._ask(lambda part: part.check(run), run.attackers)

    def check_samples(self, samples: Samples) -> None:
        """Whatever those that attack need."""
        super().check_samples(samples)
        self._ask(lambda part: part.check_samples(samples), samples.attackers)

    def _ask(self, question: Callable[[AttackSettings], None], attackers: int) -> None:
        for kind in self.kinds[:attackers]:
            try:
                question(self._of(kind))
            except SettingError as error:
                said = str(error).removeprefix("[attack] ")
                raise SettingError(f"[attack] kinds = {list(self.kinds)}: {kind}: {said}") from None

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
        common = {name: getattr(self, name) for name in AttackSettings.model_fields if name != "kind"}
        made = choice.model_validate({"kind": kind, **common})
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
    FangKrum,
    FangTrimmedMean,
    Mimic,
    Dissensus,
    Spectral,
    ForeignSwap,
    Backdoor,
    group="gossip.attacks",
    base="scenarios.attacks.base:Attack",
    settings=AttackSettings,
)
AttackChoice = Annotated[SerializeAsAny[AttackSettings], BeforeValidator(ATTACKS.validate)]
