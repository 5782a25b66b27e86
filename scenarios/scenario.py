"""A scenario: a task for every peer, and how many of them there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from gossip import plugins
from gossip.config import PRESETS, StopSettings, TaskSettings, agreed
from gossip.config.graphs import build_topology
from gossip.config.layers import COMMON_KEYS, Layer, merge_layers, origin, parse_override, read_file
from gossip.config.loading import resolve
from gossip.config.presets import DEFAULT_ALGORITHM
from gossip.errors import SettingError, nearest
from gossip.learning.sources import DIGITS, TABLES
from gossip.settings import NAME, Settings
from scenarios import traces
from scenarios.attacks.choice import Circumstances
from scenarios.attacks.settings import AttackChoice, AttackSettings, NoAttack
from scenarios.ready import PEERS, library
from scenarios.sections import ComputeSettings, FaultSettings, NetworkSettings, PeersSettings, ScenarioStop
from scenarios.traces import Trace
from topologies import Topology

PEERS_MAX = 1_000_000

# Who attacks is one question, how is another.
COMMON_KEYS[("attack",)] = frozenset(AttackSettings.model_fields) - {"kind"}


class ScenarioTable(Settings):
    """`[scenario]`: the network's size, and what is said of it."""

    name: str = Field("scenario", pattern=NAME, description="also names the run folder")
    description: str = ""
    seed: int = Field(0, ge=0, lt=2**63, description="of everything that is drawn")
    peers: int = Field(PEERS, ge=1, le=PEERS_MAX)
    algorithm: str = Field(DEFAULT_ALGORITHM, description="a preset; written keys override it")
    alone: bool = Field(
        False,
        description="measure at the end, too, what each peer reaches that learns from its own data only: a baseline "
        "for the report, at the cost of a run without messages",
    )
    strict: bool = Field(
        False,
        description="a process that ends though no fault of the scenario wanted it ends the run; otherwise the run "
        "goes on without that peer and says so. Simulated peers end only as the scenario wants",
    )


class ProcessesSettings(Settings):
    """`[processes]`: how the engine of that name watches over real processes."""

    stall_timeout_s: float = Field(
        120.0,
        gt=0,
        description="without a round or a checkpoint from anybody for so long, the run is stopped",
    )
    stop_timeout_s: float = Field(10.0, gt=0, description="between asking processes to end and killing them")
    links: Literal["loopback", "namespaces"] = Field(
        "loopback",
        description="this machine's own, or a network namespace for each peer with what [network] and a trace's up and "
        "down say (Linux, root, ip and tc)",
    )


class VirtualSettings(Settings):
    """`[virtual]`: how the virtual engine computes."""

    device: str = Field("cpu", description="cpu, or cuda where there is one")
    method: Literal["auto", "linear-stack", "vmap", "loop"] = Field(
        "auto", description="how many peers' models are trained together; auto: what is faster for the model"
    )


class ScenarioSettings(TaskSettings):
    """Everything a scenario file may say: the task's sections and those of the network."""

    scenario: ScenarioTable = ScenarioTable()
    stop: ScenarioStop = ScenarioStop()
    network: NetworkSettings = NetworkSettings()
    compute: ComputeSettings = ComputeSettings()
    peers: PeersSettings = PeersSettings()
    faults: FaultSettings = FaultSettings()
    attack: AttackChoice = NoAttack(count=0)
    virtual: VirtualSettings = VirtualSettings()
    processes: ProcessesSettings = ProcessesSettings()

    @property
    def peer_names(self) -> tuple[str, ...]:
        """The peers' names, sorted: peer-00, peer-01, …"""
        return _names(self.scenario.peers)

    @property
    def attackers(self) -> tuple[int, ...]:
        """Positions of the peers that attack, ascending."""
        return self.attack.positions(self.scenario.peers)

    @property
    def honest_names(self) -> tuple[str, ...]:
        """The names of all others."""
        attackers = set(self.attackers)
        return tuple(name for index, name in enumerate(self.peer_names) if index not in attackers)

    def graphs(self) -> Topology:
        """Return the topology as every peer computes it.

        Raises:
            SettingError: there is none with so many peers.
        """
        return build_topology(self, names=self.peer_names)

    def trace(self) -> Trace:
        """Return what is known of each peer's machine.

        Raises:
            SettingError: the file of `[peers]` is not as it must be; one sentence.
        """
        return traces.read(self.peers, peers=self.scenario.peers)

    def uploads_mbps(self) -> tuple[float | None, ...]:
        """Return what each peer sends at most, Mbit/s; None: as much as its link takes."""
        said = self.trace().upload_mbps_max
        return (self.net.upload_mbps_max,) * self.scenario.peers if said is None else said

    def task(self) -> TaskSettings:
        """Return what a single peer is told."""
        fields = {name: getattr(self, name) for name in TaskSettings.model_fields}
        stop = StopSettings(**{name: getattr(self.stop, name) for name in StopSettings.model_fields})
        return TaskSettings.model_validate({**fields, "stop": stop})

    def as_file(self) -> dict[str, Any]:
        """Return the tables of a scenario file that says all of this."""
        tables = self.as_sections()
        # Algorithm and seed stand in [scenario]; the task's own keys repeat them.
        rest = {
            name: table for name, table in tables.items() if name not in {"algorithm", "seed", "scenario"}
        }
        return {"scenario": tables["scenario"], **rest}


@lru_cache(maxsize=4)
def _names(peers: int) -> tuple[str, ...]:
    # Whoever asks for one name asks for all of them, peer after peer.
    width = max(2, len(str(peers - 1)))
    return tuple(f"peer-{index:0{width}}" for index in range(peers))


def find(name_or_path: str | Path) -> Path:
    """Return the file of a library scenario or of a path.

    Raises:
        SettingError: neither a library name nor a .toml file.
    """
    text = str(name_or_path)
    ready = library()
    if text in ready:
        return ready[text]
    path = Path(name_or_path).expanduser()
    if path.suffix == ".toml":
        if not path.is_file():
            raise SettingError(f"{text}: there is no such scenario file")
        return path
    raise SettingError(f"unknown scenario '{text}', and no path of a .toml file; {nearest(text, ready)}")


def load(
    name_or_path: str | Path,
    *,
    seed: int | None = None,
    overrides: Sequence[str] = (),
    values: Mapping[str, Any] | None = None,
) -> ScenarioSettings:
    """Read and check a scenario.

    Paths in the file are relative to it, paths in overrides to the current directory; both come out absolute.

    Args:
        name_or_path: of the library, or a .toml file.
        seed: instead of the file's.
        overrides: ``SECTION.KEY=VALUE`` strings.
        values: "SECTION.KEY" -> value, the same for callers in Python.

    Raises:
        SettingError: one sentence naming file, line, key, value and what would be valid.
    """
    path = find(name_or_path)
    written = read_file(path)
    default = {"scenario": {"name": path.stem}}
    later = [parse_override(argument) for argument in overrides]
    later += [_from_value(key, value) for key, value in (values or {}).items()]
    if seed is not None:
        later.append(Layer({"scenario": {"seed": seed}}, f"--seed {seed}"))
    for layer in (written, *later):
        _refuse_task_keys(layer)
    # A library scenario's own folder means nothing to the user; its files name no paths.
    layers = [Layer(default, str(path)), _absolute(written, path.resolve().parent)]
    layers += [_absolute(layer, Path.cwd()) for layer in later]
    layers = agreed.with_file(layers, Path.cwd())
    settings = resolve([*layers, _hoisted(layers)], ScenarioSettings)
    _check_positions(settings, layers)
    _check_attack(settings)
    _check_trace(settings)
    settings.graphs()
    return settings


def _check_positions(settings: ScenarioSettings, layers: Sequence[Layer]) -> None:
    peers = settings.scenario.peers
    for number, fault in enumerate(settings.faults.list):
        for position in fault.peers if isinstance(fault.peers, tuple) else ():
            if not 0 <= position < peers:
                raise SettingError(
                    f"{origin(layers, ('faults', 'list', str(number), 'peers'))}: [faults] list.{number}.peers: there "
                    f"is no peer {position}; positions are 0 to {peers - 1}"
                )


def _check_trace(settings: ScenarioSettings) -> None:
    """Look at the file, and whether another section says the same of all peers."""
    trace = settings.trace()
    said: list[tuple[str, str, object]] = []
    if trace.up is not None and settings.network.bandwidth_mbps is not None:
        said.append(("up and down", "[network] bandwidth_mbps", settings.network.bandwidth_mbps))
    if trace.upload_mbps_max is not None and settings.net.upload_mbps_max is not None:
        said.append(("upload_mbps_max", "[net] upload_mbps_max", settings.net.upload_mbps_max))
    if trace.seconds_per_sample is not None:
        for key in ("seconds_per_sample", "spread", "stragglers"):
            value = getattr(settings.compute, key)
            if value != ComputeSettings.model_fields[key].default:
                said.append(("seconds_per_sample", f"[compute] {key}", value))
    if trace.online is not None and settings.faults.churn is not None:
        said.append(("online", "[faults] churn", "…"))
    for column, key, value in said:
        raise SettingError(
            f"{settings.where('peers')} the trace says '{column}' of each peer, and {key} = {value} of all; leave one "
            "out ([peers] columns says which columns are used)"
        )
    peers = settings.scenario.peers
    if 0 < trace.lines < peers:
        settings.note(
            f"[peers] trace: {trace.lines} machines for {peers} peers are taken in turn (repeat = true): peer "
            f"{trace.lines} is like peer 0"
        )
    elif trace.lines > peers:
        more = trace.lines - peers
        last = f"the last {more} of them are" if more > 1 else "the last of them is"
        settings.note(f"[peers] trace: {trace.lines} machines for {peers} peers: {last} not used")


def _check_attack(settings: ScenarioSettings) -> None:
    attackers = settings.attackers
    if attackers:
        settings.attack.check(
            Circumstances(
                peers=settings.scenario.peers,
                attackers=len(attackers),
                rounds=settings.stop.rounds,
                protocol=settings.protocol.kind,
                graph=not settings.protocol.load().everybody,
            )
        )


def _from_value(key: str, value: Any) -> Layer:
    parts = key.split(".")
    if len(parts) < 2 or not all(parts):
        raise SettingError(f"override '{key}': must look like SECTION.KEY, e.g. local.lr")
    for part in reversed(parts):
        value = {part: value}
    return Layer(plugins.at(Path(), value), f"override {key}")


def _refuse_task_keys(layer: Layer) -> None:
    for key in ("algorithm", "seed"):
        if key in layer.tables:
            raise SettingError(
                f"{layer.where((key,))}: '{key}' of a scenario stands in its section: [scenario]"
            )


def _hoisted(layers: Sequence[Layer]) -> Layer:
    """Return algorithm and seed of `[scenario]` as the task's own keys, the algorithm checked where it stands."""
    table = merge_layers(layers).get("scenario")
    if not isinstance(table, Mapping):
        return Layer({}, "scenario")  # resolve() says what is wrong with it
    algorithm = table.get("algorithm", DEFAULT_ALGORITHM)
    if not isinstance(algorithm, str):
        return Layer({}, "scenario")
    if algorithm not in PRESETS:
        last = next(layer for layer in reversed(layers) if _says_algorithm(layer))
        raise SettingError(
            f"{last.where(('scenario', 'algorithm'))}: unknown algorithm '{algorithm}'; {nearest(algorithm, PRESETS)}"
        )
    hoisted = {"algorithm": algorithm}
    if "seed" in table:
        hoisted["seed"] = table["seed"]
    return Layer(hoisted, "[scenario]")


def _says_algorithm(layer: Layer) -> bool:
    table = layer.tables.get("scenario")
    return isinstance(table, Mapping) and "algorithm" in table


BARE = ("data.test", "data.statistics", "model.start", "topology.path", "network.cities_path", "peers.trace")
"""Keys that are paths, whatever they look like."""


def _absolute(layer: Layer, folder: Path) -> Layer:
    """Return the layer with its paths made absolute."""
    tables = {
        name: dict(table) if isinstance(table, Mapping) else table for name, table in layer.tables.items()
    }
    for section, key in (
        ("data", "source"),
        ("data", "test"),
        ("data", "statistics"),
        ("model", "name"),
        ("model", "extractor"),
        ("model", "start"),
        ("topology", "path"),
        ("network", "cities_path"),
        ("peers", "trace"),
    ):
        table = tables.get(section)
        if isinstance(table, dict) and isinstance(table.get(key), str):
            table[key] = _absolute_path(
                table[key], folder, bare=f"{section}.{key}" in BARE, may_be_a_folder=section == "data"
            )
    model = tables.get("model")
    adapter = model.get("adapter") if isinstance(model, dict) else None
    if isinstance(adapter, Mapping) and isinstance(adapter.get("start"), str):
        tables["model"]["adapter"] = {**adapter, "start": _absolute_path(adapter["start"], folder, bare=True)}
    churn = tables.get("faults", {}).get("churn") if isinstance(tables.get("faults"), dict) else None
    if isinstance(churn, Mapping) and isinstance(churn.get("trace_path"), str):
        trace_path = _absolute_path(churn["trace_path"], folder, bare=True)
        tables["faults"]["churn"] = {**churn, "trace_path": trace_path}
    return Layer(tables, layer.name, layer.text)


def _absolute_path(text: str, folder: Path, *, bare: bool, may_be_a_folder: bool = False) -> str:
    parts = text.split(":")
    if parts[0] == "python" and len(parts) >= 3:
        file = ":".join(parts[1:-1])
        return f"python:{folder / Path(file).expanduser()}:{parts[-1]}"
    known = text.lower().endswith((".npz", ".safetensors", *TABLES))
    # A folder holds images; that one has a model's name says nothing of the model.
    images = may_be_a_folder and text != DIGITS and (folder / Path(text).expanduser()).is_dir()
    if bare or known or images:
        return str(folder / Path(text).expanduser())
    return text
