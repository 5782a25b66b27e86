"""`gossip-scenario tune`, and what `report` says of a study. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from gossip.config.presets import PRESETS
from gossip.telemetry import standard_output
from scenarios.errors import Interrupted, interrupt
from scenarios.tuning import VALIDATION

ALGORITHMS = "--algorithms"


Space = Annotated[
    list[str] | None,
    typer.Option(
        "--space",
        help="Searched instead of local.lr, local.sam_rho where SAM trains and protocol.gossip_steps where there "
        "are several; may be repeated.",
        metavar="KEY=LOW..HIGH[:log|:linear] or KEY=V1,V2,…",
    ),
]
Algorithms = Annotated[
    list[str] | None,
    typer.Option(
        ALGORITHMS,
        help=f"Compare these with equal budgets; after SCENARIO: {', '.join(PRESETS)}. Default: the scenario's own.",
        metavar="NAME...",
    ),
]
Start = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Where the search starts, and all that is not searched; may be repeated.",
        metavar="SECTION.KEY=VALUE",
    ),
]
Share = Annotated[
    float,
    typer.Option(
        help="Share of the training samples that scores are measured on; 0: the test samples.",
        metavar="SHARE",
    ),
]
TuningSeeds = Annotated[
    str | None, typer.Option(help="Whose mean is the score; default: --seed and the next.", metavar="SEEDS")
]
HeldOutSeeds = Annotated[
    str | None,
    typer.Option(
        help="On which start and best are measured at the end; default: the three after those.",
        metavar="SEEDS",
    ),
]
Folder = Annotated[
    Path | None,
    typer.Option(
        help="The study's folder; default runs/tune-NAME. One that is there goes on.", metavar="DIR"
    ),
]


def tune(
    scenario: Annotated[str, typer.Argument(help="A name from 'list', or a .toml file.", metavar="SCENARIO")],
    trials: Annotated[int, typer.Option(help="Of each algorithm; the first is the start.", metavar="N")] = 20,
    overrides: Start = None,
    space: Space = None,
    algorithms: Algorithms = None,
    seeds: TuningSeeds = None,
    held_out_seeds: HeldOutSeeds = None,
    validation: Share = VALIDATION,
    seed: Annotated[
        int | None, typer.Option(help="Of the search; default: the scenario's.", metavar="N")
    ] = None,
    out: Folder = None,
    jobs: Annotated[
        int | None, typer.Option(help="Runs at a time; default: one per core.", metavar="N", min=1)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on standard error.")] = False,
) -> None:
    """Search for the settings that suit a scenario, and measure them with seeds that chose nothing."""
    from scenarios.reports.needs import require_study
    from scenarios.run_folder import REPORT
    from scenarios.sweep import parse_seeds
    from scenarios.tuning import search
    from scenarios.tuning.sampling import require_optuna

    require_study()
    require_optuna()
    signal.signal(signal.SIGTERM, interrupt)
    try:
        with standard_output.kept(as_json):
            study = search.tune(
                scenario,
                trials=trials,
                algorithms=[name.strip() for each in algorithms or () for name in each.split(",")],
                overrides=overrides or (),
                space=space,
                seed=seed,
                tuning_seeds=None if seeds is None else parse_seeds(seeds),
                held_out_seeds=None
                if held_out_seeds is None
                else parse_seeds(held_out_seeds, "--held-out-seeds"),
                validation=validation,
                out=out,
                jobs=jobs,
                tell=(lambda line: None) if quiet else (lambda line: print(line, file=sys.stderr)),
            )
    except KeyboardInterrupt:
        raise Interrupted(
            "interrupted; the finished trials are kept, and the same command goes on from there"
        ) from None
    report_study(study.folder, study.folder / REPORT, every_trial=False, as_json=as_json)


def report_study(folder: Path, path: Path, *, every_trial: bool = True, as_json: bool = False) -> None:
    """Write the page of a study, and print the study."""
    from rich.console import Console

    from scenarios.reports.needs import require_study

    require_study()
    from scenarios.tuning import told
    from scenarios.tuning.page import write_page

    study = write_page(folder, path)
    if as_json:
        print(json.dumps(told.as_table(study), indent=1))
    else:
        told.print_study(Console(), study, every_trial=every_trial, page=str(path))


def spread(argv: Sequence[str]) -> list[str]:
    """Return a command line with ``--algorithms A B C`` as three options: the names reach to the next option."""
    found: list[str] = []
    listing = False
    for place, word in enumerate(argv):
        if word.startswith("-"):
            listing = word == ALGORITHMS and argv[0] == "tune"
        elif listing and argv[place - 1] != ALGORITHMS:
            found.append(ALGORITHMS)
        found.append(word)
    return found
