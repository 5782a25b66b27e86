"""The settings of one run, as one peer sees them: all sections of a task file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, PrivateAttr, model_validator

from gossip import plugins
from gossip.channels.settings import NO_CHANNEL, ChannelSettings
from gossip.config.cautions import cautions, cautions_of_final, cautions_of_local
from gossip.config.presets import DEFAULT_ALGORITHM
from gossip.learning.objectives.settings import ClassificationSettings, Objective
from gossip.learning.outer_settings import NO_OUTER, OuterSettings
from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings
from gossip.merging.sanitise import SanitiseSettings
from gossip.merging.settings import AverageSettings, Merge
from gossip.net.settings import NetSettings
from gossip.outgoing.settings import NoOutgoingSettings, Outgoing
from gossip.privacy.settings import NO_PRIVACY, PrivacySettings
from gossip.protocols.settings import FinalSettings, ProtocolChoice, RoundsSettings
from gossip.settings import Settings
from gossip.telemetry.loggers.settings import Logger, NoLoggerSettings
from gossip.wire.codecs.settings import Codec, Float32Settings


class TopologySettings(Settings):
    """`[topology]`: who are my neighbours, and with which weights."""

    kind: str = Field("exponential", description="a topology's name; `gossip-scenario topology` describes it")
    degree: int | None = Field(
        None,
        ge=1,
        description="neighbours per peer, for the kinds that take it; kind = community: in its own",
    )
    probability: float | None = Field(
        None,
        ge=0,
        le=1,
        description="of an edge, for the kinds that take it; kind = community: of one inside",
    )
    communities: int | None = Field(None, ge=2, description="kind = community: how many; default 4")
    degree_between: float | None = Field(
        None,
        gt=0,
        description="kind = community: mean number of neighbours in others than the own; default 1",
    )
    probability_between: float | None = Field(
        None,
        gt=0,
        le=1,
        description="kind = community: the same as a probability, of each such pair of peers",
    )
    path: str | None = Field(None, description="kind = file: an edge list or GraphML")
    weights: Literal["metropolis-hastings", "uniform"] = "metropolis-hastings"
    time_varying: bool = Field(False, description="draw the random kinds anew in every round")


class StopSettings(Settings):
    """`[stop]`: when a peer is done."""

    implied: ClassVar[Mapping[str, Any]] = {"min_delta": 0.0, "liars": 1}
    rounds: int = Field(50, ge=1, le=10_000_000, description="after which every peer is done, at the latest")
    patience: int | None = Field(
        None,
        ge=1,
        description="protocol 'rounds': a peer wants to stop after so many evaluations without improvement of its own "
        "score, and once enough want to, all stop after the same round; small: noise ends the run",
    )
    min_delta: float = Field(
        0.0, ge=0, description="of patience: a score better by no more than this is no improvement"
    )
    target: float | None = Field(
        None, description="protocol 'rounds': a peer wants to stop with this score, or a better one"
    )
    liars: int = Field(
        1,
        ge=0,
        description="of patience and target: f, how many peers may lie about what they want. More than half of the "
        "others have to want to stop; f silent ones cannot prevent it where there are 3·f + 1 peers",
    )

    @property
    def early(self) -> bool:
        """Whether peers may stop before `rounds`."""
        return self.patience is not None or self.target is not None

    @model_validator(mode="after")
    def _something_to_agree_upon(self) -> StopSettings:
        if self.min_delta and self.patience is None:
            raise ValueError(f"min_delta = {self.min_delta:g} belongs to patience, which is not set")
        if self.liars != 1 and not self.early:
            raise ValueError(f"liars = {self.liars} belongs to patience or target, and neither is set")
        return self


class EvaluateSettings(Settings):
    """`[evaluate]`: how often, and what is kept of it."""

    every: int = Field(1, ge=1, description="rounds between evaluations; the last round is always evaluated")
    snapshots: bool = Field(False, description="keep the evaluated models in HOME/snapshots")
    keep_best: bool = Field(
        False,
        description="keep the model of the best own score as HOME/best.safetensors, as [stop] patience and target do",
    )


class NodeSettings(Settings):
    """`[node]`: the life of one process."""

    start_timeout_s: float = Field(
        30.0, ge=0, description="wait so long for neighbours to appear; those missing then count as dead"
    )
    linger_s: float = Field(
        30.0, ge=0, description="after the last round, answer slower neighbours for at most so long"
    )
    linger_down_s: float = Field(
        10.0,
        ge=0,
        description="of these, wait for one that is down only so long from when it went, linger_s at most: a process "
        "that is started again is back in 5 to 10 s; larger serves slower restarts, and a death near the end "
        "then costs every neighbour as much",
    )
    neighbours_min: int = Field(
        1, ge=0, description="fewer live neighbours than this: exit 3 at the start, 6 after quorum_timeout_s"
    )
    quorum_timeout_s: float = Field(60.0, gt=0)
    stop_timeout_s: float = Field(4.0, gt=0, description="what a signal leaves for the work in hand")
    threads: int | None = Field(None, ge=1, description="torch threads; default: torch's own choice")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "cpu",
        description="where training and evaluation compute; auto: cuda, mps or cpu, what is there",
    )


class TaskSettings(Settings):
    """Everything a task file may say. Sections are seams; see each section's class."""

    algorithm: str = DEFAULT_ALGORITHM
    seed: int = Field(0, ge=0, lt=2**63)
    data: DataSettings = DataSettings()
    objective: Objective = ClassificationSettings()
    model: ModelSettings = ModelSettings()
    local: LocalSettings = LocalSettings()
    outer: OuterSettings = NO_OUTER
    privacy: PrivacySettings = NO_PRIVACY
    protocol: ProtocolChoice = RoundsSettings()
    merge: Merge = AverageSettings()
    sanitise: SanitiseSettings = SanitiseSettings()
    outgoing: Outgoing = NoOutgoingSettings()
    codec: Codec = Float32Settings()
    channel: ChannelSettings = NO_CHANNEL
    topology: TopologySettings = TopologySettings()
    stop: StopSettings = StopSettings()
    final: FinalSettings = FinalSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    node: NodeSettings = NodeSettings()
    net: NetSettings = NetSettings()
    logger: Logger = NoLoggerSettings()
    _origins: Mapping[str, str] = PrivateAttr(default_factory=dict)
    _notes: tuple[str, ...] = PrivateAttr(default=())

    def __eq__(self, other: object) -> bool:
        """Compare what is set, not where it was written."""
        return type(self) is type(other) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]

    def written_at(self, origins: Mapping[str, str], *, notes: Iterable[str] = ()) -> None:
        """Note in which file and line each section stands, for mistakes that show later than the settings are read.

        `notes` are sentences about what was written and does not hold.
        """
        self._origins = origins
        self._notes = tuple(notes)

    def note(self, sentence: str) -> None:
        """Add what the user should be told at the start, once."""
        if sentence not in self._notes:
            self._notes = (*self._notes, sentence)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should be told at the start: keys that a later choice took away, `note` and `cautions`."""
        return (
            *self._notes,
            *cautions(self.protocol, self.merge),
            *cautions_of_local(self.local),
            *cautions_of_final(self.final, self.codec),
        )

    def where(self, section: str) -> str:
        """Return e.g. ``task.toml:7: [topology]``, or as much of it as is known."""
        origin = self._origins.get(section)
        return f"[{section}]" if origin is None else f"{origin}: [{section}]"

    def as_sections(self) -> dict[str, Any]:
        """Return plain tables, without the keys that are unset, as they would stand in a task file."""
        tables: dict[str, Any] = self.model_dump(mode="json", exclude_none=True)
        return tables

    def agreement(self) -> Mapping[str, str]:
        """Return what all peers of a run must have in common: section -> digest.

        Sections compared one by one, so that a mismatch can be named. Not compared: where the data lies, and how this
        process behaves (`privacy`, `sanitise`, `evaluate`, `node`, `net`, `logger`). `stop` is: peers with fewer rounds
        would leave early.
        """
        tables = self.as_sections()
        data = tables["data"]
        common = {
            name: tables[name]
            for name in ("model", "local", "protocol", "merge", "outgoing", "codec", "topology", "stop")
        }
        common["local"] = self.local.compared()
        common["protocol"] = self.protocol.compared()
        common["stop"] = self.stop.compared()
        if self.outgoing == NoOutgoingSettings():
            del common["outgoing"]
        if self.final != FinalSettings():
            common["final"] = tables["final"]
        if self.channel != NO_CHANNEL:
            common["channel"] = tables["channel"]
        if self.outer != NO_OUTER:
            common["outer"] = tables["outer"]
        if self.objective != ClassificationSettings():
            common["objective"] = tables["objective"]
        # A user's model file, an extractor and a topology file lie where they lie on each machine; what they say is
        # compared through `space_id` and by the graph itself.
        common["model"] = {
            key: value for key, value in common["model"].items() if key not in ("name", "extractor", "start")
        }
        if self.model.adapter is not None:
            common["model"]["adapter"] = self.model.adapter.model_dump(mode="json", exclude={"start"})
        common["topology"] = {key: value for key, value in common["topology"].items() if key != "path"}
        common["data.partition"] = data["partition"]
        if "class_subset" in data:
            common["data.class_subset"] = data["class_subset"]
        if "test_from_train" in data:
            common["data.test_from_train"] = data["test_from_train"]
        common |= {f"data.{key}": value for key, value in self.data.agreed().items()}
        common["seed"] = tables["seed"]
        return {name: digest(plugins.identified(value)) for name, value in common.items()}

    def run_id(self) -> str:
        """Return 16 hex digits that name the run: equal for peers whose settings agree."""
        return digest(dict(self.agreement()))


def digest(value: object) -> str:
    """Return 16 hex digits that name plain values."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
