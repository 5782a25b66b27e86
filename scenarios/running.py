"""`gossip-scenario run` and `sweep`: their options, and what is told while they go on."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gossip.telemetry import standard_output
from scenarios.errors import Interrupted, Stopped, interrupt

if TYPE_CHECKING:
    from scenarios.progress import Progress
    from scenarios.reports.live_sweep import Shown
    from scenarios.sweep import Run

ADDRESS = re.compile(r"(\S*:)?\d+")
USUAL = "127.0.0.1:8780"
"""Where a live page is if nobody says otherwise; at any free port where that one is taken."""

NO_ADDRESS = f"must be HOST:PORT or a port, e.g. {USUAL}; without one the page is there"

AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]

LiveAddress = Annotated[
    str | None,
    typer.Option(
        "--live",
        help=f"Show the run in a browser while it goes on; without HOST:PORT at {USUAL}, for this machine only.",
        metavar="[HOST:PORT]",
    ),
]


Scenario = Annotated[str, typer.Argument(help="A name from 'list', or a .toml file.", metavar="SCENARIO")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on standard error.")]

Engine = Annotated[
    str,
    typer.Option(
        help="virtual: in this process, under virtual time; processes: real nodes over TLS on this machine.",
        metavar="virtual|processes",
    ),
]
Seed = Annotated[int | None, typer.Option(help="Instead of the scenario's.", metavar="N")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Override one setting, e.g. scenario.peers=20; may be repeated.",
        metavar="SECTION.KEY=VALUE",
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        help="Where the virtual engine computes; the same as --set virtual.device.", metavar="cpu|cuda"
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        help="Processes that compute the virtual engine's learning; the outcome is the same to the bit. "
        "Default: one per core, where it pays.",
        metavar="N",
    ),
]
Out = Annotated[Path | None, typer.Option(help="Run folder; default runs/NAME-SEED-ENGINE.", metavar="DIR")]
SummaryAsJson = Annotated[bool, typer.Option("--json", help="Print only the summary, as JSON.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a finished run.")]
Cluster = Annotated[
    str, typer.Option(help="Which machines have the processes.", metavar="local|ray://HOST:PORT")
]
Hosts = Annotated[
    Path | None, typer.Option(help="Machines that have them instead, by ssh: one a line.", metavar="FILE")
]

Axes = Annotated[
    list[str] | None,
    typer.Option("--set", help="Values of one setting; may be repeated.", metavar="KEY=V1,V2,…"),
]
Seeds = Annotated[str, typer.Option(help="e.g. 0-4 or 1,5,9.", metavar="SEEDS")]
SweepEngine = Annotated[str, typer.Option(help="As for run.", metavar="virtual|processes")]
SweepOut = Annotated[
    Path | None, typer.Option(help="Folder of all runs; default runs/sweep-NAME.", metavar="DIR")
]
Jobs = Annotated[int | None, typer.Option(help="Runs at a time; default: one per core.", metavar="N", min=1)]
SweepCluster = Annotated[
    str,
    typer.Option(help="Where runs are done: this machine, or others.", metavar="local|slurm|ray://HOST:PORT"),
]
ClusterSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--cluster-set",
        help="What a run gets there, e.g. partition=gpu, num_gpus=1.",
        metavar="KEY=VALUE",
    ),
]


def run(
    scenario: Scenario,
    engine: Engine = "virtual",
    seed: Seed = None,
    overrides: Overrides = None,
    device: Device = None,
    workers: Workers = None,
    out: Out = None,
    as_json: SummaryAsJson = False,
    quiet: Quiet = False,
    force: Force = False,
    live: LiveAddress = None,
    cluster: Cluster = "local",
    hosts: Hosts = None,
) -> None:
    """Run a scenario to its end, and write its folder and report."""
    from scenarios.engines import LOCAL, ahead

    signal.signal(signal.SIGTERM, interrupt)
    # What nodes need is loaded beside what follows here.
    with ahead(engine, here=cluster == LOCAL and hosts is None):
        from rich.console import Console

        from scenarios import api, progress
        from scenarios.reports import terminal as tables
        from scenarios.run_folder import REPORT

        console = Console(stderr=True)
        told = progress.Quiet() if quiet else progress.for_console(console)
        try:
            with (
                standard_output.kept(as_json),
                _watched(live, told, scenario, engine) as (watching, finished),
            ):
                result = api.run(
                    scenario,
                    engine=engine,
                    seed=seed,
                    overrides=[*(overrides or ()), *([] if device is None else [f"virtual.device={device}"])],
                    out=out,
                    force=force,
                    workers=workers,
                    progress=watching,
                    cluster=cluster,
                    hosts=hosts,
                )
                finished(result.folder)
        except KeyboardInterrupt as stopped:
            if isinstance(stopped, Stopped):
                _say(f"{stopped.told}; what was measured is in {stopped.path}")
            # Said here, because typer would turn it into a bare exit code.
            raise Interrupted("interrupted; all processes are stopped, the run is unfinished") from None
    if as_json:
        print(json.dumps(result.summary, indent=1))
    else:
        page = result.folder / REPORT
        shown = str(page) if page.exists() else None
        tables.print_result(Console(), result.summary, result.peers, report=shown)


@contextmanager
def _watched(
    live: str | None, told: Progress, scenario: str, engine: str
) -> Iterator[tuple[Progress, Callable[[Path], None]]]:
    """Give the progress that a run tells, and what is to be called with the folder of a finished one."""
    if live is None:
        yield told, lambda folder: None
        return
    from scenarios.reports.live import shown

    with shown(live, told, title=Path(scenario).stem, engine=engine, say=_say) as watching:
        yield watching, watching.finished


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def sweep(
    scenario: Scenario,
    axes: Axes = None,
    seeds: Seeds = "0",
    engine: SweepEngine = "virtual",
    out: SweepOut = None,
    jobs: Jobs = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    live: LiveAddress = None,
    cluster: SweepCluster = "local",
    cluster_settings: ClusterSettings = None,
) -> None:
    """Run every combination of settings and seeds; finished runs are skipped."""
    from dataclasses import asdict

    from rich.console import Console

    from scenarios import sweep as sweeping
    from scenarios.engines import load_engine
    from scenarios.reports import terminal as tables

    signal.signal(signal.SIGTERM, interrupt)
    load_engine(engine)
    folder = out or Path("runs") / f"sweep-{Path(scenario).stem}"
    with standard_output.kept(as_json):
        runs = sweeping.plan(scenario, engine, axes or [], sweeping.parse_seeds(seeds), folder)
        with _kept_if_stopped(folder), _sweep_shown(live, runs, title=Path(scenario).stem) as page:
            done = sweeping.carry_out(
                runs,
                jobs=jobs,
                tell=None if quiet else sweeping.tell_line,
                cluster=cluster,
                cluster_settings=cluster_settings or (),
                folder=folder,
                standings=None if page is None else page.standings,
                say=_say,
            )
            for each in done:
                if page is not None:
                    page.ended(each)
    rows = sweeping.table(runs)
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        tables.print_sweep(Console(), rows, folder=str(folder))


@contextmanager
def _kept_if_stopped(folder: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(
            f"interrupted; runs that are done stay in {folder}, and the same command goes on with the others"
        ) from None


@contextmanager
def _sweep_shown(live: str | None, runs: Sequence[Run], *, title: str) -> Iterator[Shown | None]:
    """Give what is to be told of the runs, if they are to be seen."""
    if live is None:
        yield None
        return
    from scenarios.reports.live_sweep import shown

    with shown(live, runs, title=title, say=_say) as page:
        yield page


def addressed(argv: Sequence[str]) -> list[str]:
    """Return a command line in which every ``--live`` has its address: who gives none means the usual one."""
    found = list(argv)
    for place in range(len(found) - 1, -1, -1):
        if found[place] == "--live" and not ADDRESS.fullmatch("".join(found[place + 1 : place + 2])):
            found.insert(place + 1, USUAL)
    return found


def address_meant(argv: Sequence[str]) -> str | None:
    """Return what stands after ``--live`` and is neither an address nor a scenario, None without.

    Asked of a command line that has a word too many: without one, what stands there is the scenario.
    """
    from scenarios.ready import library

    after = [argv[place + 1] for place, word in enumerate(argv[:-1]) if word == "--live"]
    known = library()
    return next(
        (w for w in after if not w.startswith("-") and w not in known and not w.endswith(".toml")), None
    )
