"""What all kinds of attack may be told, and what of the run they are part of decides whether they are attacks at all.

Free of torch. A setting that would crash a run, or with which attackers would only send what honest peers send, is
refused before anything runs: at first by what the scenario says, then by the data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field, Strict, StrictInt, model_validator

from gossip.errors import SettingError
from gossip.settings import Choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What the scenario says of the run."""

    peers: int
    attackers: int
    rounds: int
    protocol: str
    graph: bool
    """Whether peers have neighbours, with weights."""

    @property
    def honest(self) -> int:
        """How many do not attack."""
        return self.peers - self.attackers


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """What the data say."""

    attackers: int
    classifies: bool
    """Whether targets are numbers of classes."""
    classes: int
    shape: tuple[int, ...]
    """Of one sample, before an extractor."""
    tested: frozenset[int]
    """The classes of the test samples."""
    familiar_min: Callable[[], int]
    """Of how many classes the honest peer with the fewest has samples."""


class AttackSettings(Choice):
    """What all kinds have in common."""

    omniscient: ClassVar[bool] = False
    """It needs the honest peers' models of the round, which only the virtual engine can show it."""
    honest_min: ClassVar[int] = 1
    """It is made of the spread of so many honest models at least."""
    needs_classes: ClassVar[bool] = False
    """It is made of classes."""
    needs_graph: ClassVar[bool] = False
    """It is made of the graph of neighbours."""

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

    def check(self, run: Circumstances) -> None:
        """Raise `SettingError` where nothing would come of it in such a run. Not asked where nobody attacks."""
        if self.from_round >= run.rounds:
            raise SettingError(
                f"[attack] from_round = {self.from_round}: the run ends after {run.rounds} rounds; valid: 0 to "
                f"{run.rounds - 1}"
            )
        if run.honest < self.honest_min:
            raise SettingError(
                f"[attack] kind = '{self.kind}' needs at least {self.honest_min} honest peers, whose models differ; "
                f"{run.attackers} attackers of {run.peers} peers leave {run.honest}"
            )
        if self.needs_graph and not run.graph:
            raise SettingError(
                f"[attack] kind = '{self.kind}' is made of the graph of neighbours, and protocol '{run.protocol}' has "
                "none; valid with rounds and push"
            )

    def check_samples(self, samples: Samples) -> None:
        """Raise `SettingError` where such samples do not allow it."""
        if samples.classifies:
            return
        if self.needs_classes:
            raise SettingError(
                f"[attack] kind = '{self.kind}' is made of classes, and the objective has none"
            )
        if self.samples_per_class is not None:
            raise SettingError("[attack] samples_per_class: the objective has no classes; leave it out")

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
