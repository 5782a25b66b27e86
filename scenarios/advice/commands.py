"""`gossip-scenario advise`. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import json
from typing import Annotated

import typer

PARAMETERS_MAX, MBPS_MAX, LATENCY_MS_MAX = 10**15, 1e12, 1e9
"""Far beyond what there is; seconds and bytes of more than these would be no numbers any more."""


def advise(
    scenario: Annotated[
        str | None,
        typer.Argument(
            help="A name from 'list', or a .toml file, that methods are laid over; default: a ring, whole models.",
            metavar="[SCENARIO]",
        ),
    ] = None,
    parameters: Annotated[
        int | None,
        typer.Option(
            help="Numbers of the model that travel; default: the scenario's.",
            metavar="N",
            min=1,
            max=PARAMETERS_MAX,
        ),
    ] = None,
    mbps: Annotated[
        float, typer.Option(help="Of each peer, up and down each.", metavar="X", min=1e-6, max=MBPS_MAX)
    ] = 10.0,
    latency_ms: Annotated[
        float, typer.Option(help="One way.", metavar="X", min=0, max=LATENCY_MS_MAX)
    ] = 20.0,
    peers: Annotated[
        int | None, typer.Option(help="Default: the scenario's, or 8.", metavar="N", min=2)
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="A setting of all methods, e.g. topology.kind=pairs; may be repeated.",
            metavar="SECTION.KEY=VALUE",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Show what each method sends per round and how long it takes on a link, and when to choose it."""
    from rich.console import Console

    from scenarios.advice import table
    from scenarios.advice.costs import Link

    advice = table.advise(
        scenario,
        parameters=parameters,
        peers=peers,
        link=Link(mbps=mbps, latency_s=latency_ms / 1000),
        overrides=overrides or (),
    )
    if as_json:
        print(json.dumps(advice.as_dict()))
    else:
        table.print_advice(Console(), advice)
