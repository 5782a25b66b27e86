"""`gossip-scenario`: the command line. Parsed before anything heavy is imported."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from gossip import __version__
from gossip.errors import ExitCode, UserError
from scenarios.advice.commands import advise
from scenarios.errors import FAILED, RunFailed
from scenarios.reports.commands import report
from scenarios.running import NO_ADDRESS, address_meant, addressed, run, sweep
from scenarios.tuning import commands

app = typer.Typer(
    name="gossip-scenario",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


def _say_version(wanted: bool) -> None:
    if wanted:
        print(f"gossip-scenario {__version__}")
        raise typer.Exit


@app.callback()
def scenarios_of_peers(
    version: Annotated[
        bool,
        typer.Option("--version", help="Say which version this is.", callback=_say_version, is_eager=True),
    ] = False,
) -> None:
    """Run whole networks of gossip-learning peers, and compare them."""


@app.command("list")
def list_scenarios(as_json: AsJson = False) -> None:
    """Show the ready scenarios."""
    from scenarios import ready

    entries = ready.entries()
    if as_json:
        print(json.dumps(entries))
    else:
        from rich.console import Console

        from scenarios.reports import terminal as tables

        tables.print_library(Console(), entries)


app.command()(run)


app.command()(sweep)


app.command()(commands.tune)


app.command()(report)


@app.command()
def topology(
    kind: Annotated[str, typer.Argument(help="ring, torus, exponential, full, …", metavar="KIND")],
    peers: Annotated[int, typer.Option(help="How many.", metavar="N")],
    degree: Annotated[int | None, typer.Option(help="For the kinds that take it.", metavar="K")] = None,
    probability: Annotated[
        float | None, typer.Option(help="For the kinds that take it.", metavar="P")
    ] = None,
    communities: Annotated[int | None, typer.Option(help="kind community: how many.", metavar="C")] = None,
    degree_between: Annotated[
        float | None, typer.Option(help="kind community: mean neighbours in others.", metavar="X")
    ] = None,
    probability_between: Annotated[
        float | None, typer.Option(help="kind community: of an edge to another.", metavar="P")
    ] = None,
    path: Annotated[
        Path | None, typer.Option(help="kind file: edge list or GraphML.", metavar="FILE")
    ] = None,
    weights: Annotated[
        str, typer.Option(help="metropolis-hastings or uniform.", metavar="NAME")
    ] = "metropolis-hastings",
    time_varying: Annotated[
        bool, typer.Option("--time-varying", help="Draw a random kind anew each round.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the random kinds.", metavar="N", min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """Tell degree, diameter, λ, spectral gap, and whether W is doubly stochastic."""
    from rich.console import Console

    from gossip.config.graphs import family_of
    from scenarios.reports import terminal as tables
    from topologies import Topology, TopologyError, describe

    try:
        seen = describe(
            Topology(
                family_of(kind),
                peers,
                degree=degree,
                probability=probability,
                communities=communities,
                degree_between=degree_between,
                probability_between=probability_between,
                path=None if path is None else str(path),
                weights=weights,
                time_varying=time_varying,
                seed=seed,
            )
        )
    except TopologyError as error:
        raise UserError(str(error)) from None
    if as_json:
        print(json.dumps(seen))
    else:
        tables.print_topology(Console(), seen)


@app.command()
def trace(
    path: Annotated[Path, typer.Argument(help="The file to write.", metavar="FILE.csv")],
    peers: Annotated[int, typer.Option(help="How many machines.", metavar="N", min=1)],
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.", metavar="N", min=0)] = 0,
    up: Annotated[float, typer.Option(help="Median, Mbit/s.", metavar="X")] = 10.0,
    down: Annotated[float, typer.Option(help="Median, Mbit/s.", metavar="X")] = 30.0,
    bandwidth_spread: Annotated[
        float, typer.Option(help="Standard deviation of the logarithm of up and down.", metavar="X")
    ] = 0.8,
    seconds_per_sample: Annotated[
        float, typer.Option(help="Median, of one pass over one training sample.", metavar="X")
    ] = 0.02,
    speed_spread: Annotated[
        float, typer.Option(help="Standard deviation of its logarithm.", metavar="X")
    ] = 0.6,
    online_s: Annotated[
        float | None, typer.Option(help="Mean length of a session; default: always there.", metavar="S")
    ] = None,
    offline_s: Annotated[float | None, typer.Option(help="Mean time between sessions.", metavar="S")] = None,
    until_s: Annotated[float, typer.Option(help="Whoever is there then stays.", metavar="S")] = 7200.0,
    as_json: AsJson = False,
) -> None:
    """Make up machines that differ, one a line, for `\\[peers] trace`: log-normal bandwidths and speeds, sessions."""
    from scenarios.synthetic_traces import make

    made = make(
        path,
        peers=peers,
        seed=seed,
        up=up,
        down=down,
        bandwidth_spread=bandwidth_spread,
        seconds_per_sample=seconds_per_sample,
        speed_spread=speed_spread,
        online_s=online_s,
        offline_s=offline_s,
        until_s=until_s,
    )
    if as_json:
        print(json.dumps(made))
    else:
        print(f'[peers]\ntrace = "{path}"')
        print(f"{peers} peers: {', '.join(made['columns'])}", file=sys.stderr)


app.command()(advise)


@app.command()
def pretrain(
    path: Annotated[Path, typer.Argument(help="The file to write.", metavar="FILE.safetensors")],
    model: Annotated[
        str, typer.Option(help="random-features (untrained), or a network of the registry.", metavar="NAME")
    ] = "mlp",
    data: Annotated[str, typer.Option(help="digits, or a path to .npz.", metavar="SOURCE")] = "digits",
    classes: Annotated[
        str | None,
        typer.Option(help="Train on these classes only, e.g. 0-4 or 1,3,7; default: all.", metavar="CLASSES"),
    ] = None,
    features: Annotated[
        int | None,
        typer.Option(help="random-features: how many; mlp: width of its layer.", metavar="N", min=1),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the samples; default: 30.", metavar="N", min=1)
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Step size; default: 0.1.", metavar="X", min=1e-6)] = None,
    objective: Annotated[
        str, typer.Option(help="What targets are: a kind of \\[objective].", metavar="KIND")
    ] = "classification",
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.", metavar="N", min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """Make a frozen extractor for `\\[model] extractor`, and print the hash that pins it."""
    from scenarios.pretraining import make

    made = make(
        path,
        model=model,
        data=data,
        classes=classes,
        features=features,
        epochs=epochs,
        lr=lr,
        seed=seed,
        objective=objective,
    )
    if as_json:
        print(json.dumps(made))
        return
    print(f'[model]\nname = "linear"\nextractor = "{path}"\nextractor_hash = "{made["extractor_hash"]}"')
    if made["accuracy"] is not None:
        told = f"accuracy {made['accuracy']:.3f} on test samples of the same classes"
        print(f"{made['features']} features, trained on {made['samples']} samples; {told}", file=sys.stderr)
    elif made["told"] is not None:
        told = f"{made['told']} on test samples"
        print(f"{made['features']} features, trained on {made['samples']} samples; {told}", file=sys.stderr)


def call(argv: list[str]) -> int:
    """Run the command line and return the exit code. Errors become one sentence on standard error."""
    try:
        code = app(
            args=addressed(commands.spread(argv)) or ["--help"],
            prog_name="gossip-scenario",
            standalone_mode=False,
        )
    except UserError as error:
        return _say(str(error), int(error.exit_code))
    except RunFailed as error:
        return _say(str(error), FAILED)
    except (KeyboardInterrupt, typer.Abort):
        return _say(
            "interrupted; all processes are stopped, the run is unfinished", int(ExitCode.INTERRUPTED)
        )
    except Exception as error:
        # typer has had its usage errors from click and of its own; both can say what is wrong in a sentence.
        explain = getattr(error, "format_message", None)
        if explain is None:
            raise
        address = address_meant(argv) if "extra argument" in explain() else None
        if address is not None:
            return _say(f"--live {address}: {NO_ADDRESS}", int(ExitCode.USAGE))
        return _say(
            f"{explain().rstrip('.')}; 'gossip-scenario --help' shows what there is", int(ExitCode.USAGE)
        )
    return code if isinstance(code, int) else int(ExitCode.DONE)


def _say(sentence: str, code: int) -> int:
    print(f"gossip-scenario: {sentence}", file=sys.stderr)
    return code


def main() -> None:
    """Entry point of the console script."""
    sys.exit(call(sys.argv[1:]))


if __name__ == "__main__":
    main()
