"""The options of `gossip-node`'s runs, which `check` takes, too. Parsed before anything heavy is imported."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from gossip.config import presets
from gossip.errors import UserError
from gossip.inference.commands import DEFAULT_HOME
from gossip.node.options import NodeOptions

__all__ = ["DEFAULT_HOME", "AsJson", "Home", "with_options"]

Peers = Annotated[
    Path | None,
    typer.Option(help="The peers file: one 'name host:port certificate' per line.", metavar="FILE"),
]
Task = Annotated[
    Path | None, typer.Option(help="What to learn (TOML); default: the embedded digits.", metavar="TASK.toml")
]
Home = Annotated[
    Path, typer.Option(help="Folder of this node: identity, checkpoints, records.", metavar="DIR")
]
Algorithm = Annotated[
    str | None,
    typer.Option(
        help=f"{presets.listed()}; default: what the task says, or {presets.DEFAULT_ALGORITHM}.",
        metavar="NAME",
    ),
]
TopologyKind = Annotated[
    str | None, typer.Option(help="Who neighbours whom, e.g. ring, torus, exponential, full.", metavar="KIND")
]
Rounds = Annotated[int | None, typer.Option(help="Stop after so many rounds.", metavar="N")]
Seed = Annotated[int | None, typer.Option(help="Seed of the run; the same on all peers.", metavar="N")]
Listen = Annotated[
    str | None,
    typer.Option(help="Bind here instead of the own line's port on all interfaces.", metavar="HOST:PORT"),
]
Data = Annotated[
    Path | None,
    typer.Option(
        help="This machine's own data: a table (.csv, .tsv, .parquet), a folder of images, an .npz; all of it used "
        "here unless the task says how it is divided.",
        metavar="PATH",
        readable=False,  # what cannot be read is told with the other mistakes in data
    ),
]
Statistics = Annotated[
    Path | None,
    typer.Option(
        help="Means, deviations, names and classes that `gossip-node statistics` had the peers agree on.",
        metavar="FILE",
    ),
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Start over; an earlier run is moved to HOME/previous.")]
Insecure = Annotated[
    bool,
    typer.Option("--insecure", help="No TLS: anybody can read and forge. For experiments on one machine."),
]
Name = Annotated[
    str | None, typer.Option(help="Which line of the peers file we are (needed only with --insecure).")
]
Metrics = Annotated[
    str | None,
    typer.Option(
        help="Serve /metrics (Prometheus), /healthz and /readyz there; without HOST, to this machine only.",
        metavar="[HOST:]PORT",
    ),
]
Page = Annotated[
    str | None,
    typer.Option(
        help="Show this node in a browser while it runs; without HOST, to this machine only.",
        metavar="[HOST:]PORT",
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        help="Where to compute; auto: cuda, mps or cpu, what is there. Default: cpu.",
        metavar="auto|cpu|cuda|mps",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Override one setting, e.g. local.lr=0.05; may be repeated.",
        metavar="SECTION.KEY=VALUE",
    ),
]


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the parameters of `_options` beside its own; its last one, `options`, is called for them."""
    own = dict(inspect.signature(command, eval_str=True).parameters)
    del own["options"]
    shared = inspect.signature(_options, eval_str=True).parameters

    def called(**given: Any) -> None:
        told = {name: given.pop(name) for name in shared}
        command(**given, options=lambda: _options(**told))

    both = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in (*own.values(), *shared.values())]
    called.__name__, called.__doc__ = command.__name__, command.__doc__
    called.__signature__ = inspect.Signature(both)  # type: ignore[attr-defined]
    called.__annotations__ = {each.name: each.annotation for each in both}
    return called


def _options(
    peers: Peers = None,
    task: Task = None,
    home: Home = DEFAULT_HOME,
    algorithm: Algorithm = None,
    topology: TopologyKind = None,
    rounds: Rounds = None,
    seed: Seed = None,
    listen: Listen = None,
    data: Data = None,
    statistics: Statistics = None,
    fresh: Fresh = False,
    insecure: Insecure = False,
    name: Name = None,
    metrics: Metrics = None,
    page: Page = None,
    device: Device = None,
    as_json: AsJson = False,
    overrides: Overrides = None,
) -> NodeOptions:
    """Return what a run is told."""
    if peers is None:
        raise UserError("--peers FILE is missing; 'gossip-node --help' shows how to start")
    return NodeOptions(
        peers=peers,
        home=home.expanduser(),
        task=task,
        arguments=_tables(
            algorithm=algorithm,
            topology=topology,
            rounds=rounds,
            seed=seed,
            data=data,
            statistics=statistics,
            device=device,
        ),
        overrides=tuple(overrides or ()),
        listen=listen,
        name=name,
        fresh=fresh,
        insecure=insecure,
        metrics=metrics,
        page=page,
        as_json=as_json,
    )


def _tables(
    *,
    algorithm: str | None,
    topology: str | None,
    rounds: int | None,
    seed: int | None,
    data: Path | None,
    statistics: Path | None,
    device: str | None,
) -> dict[str, Any]:
    """Turn named options into the tables of a task."""
    source, agreed = (
        None if path is None else str(path.expanduser().absolute()) for path in (data, statistics)
    )
    tables: dict[str, Any] = {} if algorithm is None else {"algorithm": algorithm}
    if seed is not None:
        tables["seed"] = seed
    for section, key, value in (
        ("topology", "kind", topology),
        ("stop", "rounds", rounds),
        ("data", "source", source),
        ("data", "statistics", agreed),
        ("node", "device", device),
    ):
        if value is not None:
            tables.setdefault(section, {})[key] = value
    return tables
