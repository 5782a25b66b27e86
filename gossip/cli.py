"""`gossip-node`: the command line. Parsed before anything heavy is imported, so that --help is instant."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from gossip import __version__
from gossip.agreeing.command import statistics
from gossip.errors import ExitCode, GossipError, NetworkError, UserError
from gossip.inference import commands
from gossip.node.arguments import DEFAULT_HOME, AsJson, Home, with_options
from gossip.node.options import NodeOptions
from gossip.telemetry import standard_output
from gossip.telemetry.standard_error import queue_standard_error, run_and_leave

app = typer.Typer(
    name="gossip-node",
    help="A peer that learns with its neighbours: machines with private data train one model, with no server.",
    no_args_is_help=True,
    rich_markup_mode=None,  # boxes around the help cost twice as long as all the rest of it
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _say_version(wanted: bool) -> None:
    if wanted:
        print(f"gossip-node {__version__}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", help="Say which version this is.", callback=_say_version, is_eager=True)
]


@app.callback(invoke_without_command=True)
@with_options
def node(
    context: typer.Context,
    version: Version = False,
    *,
    options: Callable[[], NodeOptions],
) -> None:
    """Learn with the peers of a file; resumes where it stopped."""
    if context.invoked_subcommand is not None:
        _refuse_options_before(context)
        return
    raise typer.Exit(_run_node(options()))


@app.command()
def init(
    name: Annotated[str, typer.Option(help="This peer's name in the peers file.")],
    advertise: Annotated[str, typer.Option(help="Where the others reach this machine.", metavar="HOST:PORT")],
    home: Home = DEFAULT_HOME,
) -> None:
    """Make this machine's identity and print its line for the peers file."""
    from gossip.net.identity import Identity

    identity = Identity.create(home.expanduser(), name=name, advertise=advertise)
    print(identity.peers_line())


@app.command()
def new(
    folder: Annotated[Path, typer.Argument(help="The folder to make; may exist, empty.", metavar="DIR")],
) -> None:
    """Write a folder to begin with: task, loader of own rows, network, scenario, and a README with the commands."""
    from gossip import starter

    written = starter.write(folder.expanduser())
    print(f"{folder}: {', '.join(written)}; how to go on: {folder / 'README.md'}")


@app.command()
def status(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Ask the running node: round, accuracy, neighbours, bytes."""
    from gossip.node.status import ask_status

    answer = ask_status(home.expanduser())
    if as_json:
        import json

        print(json.dumps(answer))
    else:
        from gossip.telemetry.tables import print_status

        print_status(answer)


@app.command()
@with_options
def check(*, options: Callable[[], NodeOptions]) -> None:
    """Validate files, identity, ports and who can be reached, and tell what a run would cost; nothing is learnt."""
    told = options()
    from gossip.node.check import check_node

    with standard_output.kept(told.as_json):
        raise typer.Exit(int(check_node(told)))


app.command()(statistics)
for finished in (commands.evaluate, commands.predict, commands.export, commands.compare):
    app.command()(finished)


def _refuse_options_before(context: typer.Context) -> None:
    """`gossip-node --home X status` would ask another home than X: options stand after the command."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE":
            raise UserError(
                f"{parameter.opts[0]} stands before the command '{context.invoked_subcommand}', "
                "where it would mean nothing; write it after"
            )


def _run_node(options: NodeOptions) -> int:
    with standard_output.kept(options.as_json):
        return _learn(options)


def _learn(options: NodeOptions) -> int:
    from gossip.node import own_data
    from gossip.node.home import HomeLock, check_writable
    from gossip.node.setup import find_membership, load_learning
    from gossip.telemetry.logs import set_up_logging

    if options.metrics is not None:
        from gossip.telemetry.web import check_address

        check_address(options.metrics, free=False)
    if options.page is not None:
        from gossip.node.services import check_page

        check_page(options.page, free=False)
    lock = HomeLock(options.home)
    try:
        check_writable(options.home)
        membership = find_membership(options)
        set_up_logging(membership.me.name, insecure=options.insecure)
        told = logging.getLogger("gossip.config")
        for note in membership.settings.notes:
            told.warning("%s", note)
        setup = load_learning(options, membership)
        told.info("%s", own_data.told(setup))
        own_data.note_source(options.home, setup)
        changed = own_data.taken_up(options.home, setup)
        if changed is not None:
            told.warning("%s", changed)
        if setup.learner.device.type != "cpu":
            told.info("training and evaluation compute on %s", setup.learner.device)
        for doubt in own_data.cautions(setup):
            told.warning("%s", doubt)
        for said in own_data.spending(setup):
            told.info("privacy: %s", said)
        if setup.checkpoint is not None and setup.stopped is not None:
            from gossip.node.recorder import Recorder
            from gossip.protocols.stopping import ROUNDS
            from gossip.storage.models import MODEL
            from gossip.telemetry.accounting import Accounting

            accounting = Accounting.from_dict(setup.checkpoint.counters)
            Recorder(setup, accounting).complete(setup.checkpoint)
            early = "" if setup.stopped == ROUNDS else f" upon which the peers agreed ({setup.stopped})"
            print(
                f"{membership.me.name}: all {setup.checkpoint.round} rounds{early} are done already, the model is in "
                f"{options.home / MODEL}; --rounds N for more, --fresh to start over",
                file=sys.stderr,
            )
            return int(ExitCode.DONE)
        from gossip.node.running import run_node

        return int(run_node(setup))
    finally:
        lock.release()


def _defer_signals() -> None:
    """Until the node listens to signals itself: SIGTERM leaves as Ctrl-C does, SIGHUP waits and kills nobody."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})


def run(argv: list[str]) -> int:
    """Run the command line and return the exit code. Errors of the user's become one sentence."""
    try:
        code = app(args=argv or ["--help"], prog_name="gossip-node", standalone_mode=False)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except GossipError as error:
        print(f"gossip-node: {error}", file=sys.stderr)
        if isinstance(error, UserError):
            return int(error.exit_code)
        return int(ExitCode.TOO_FEW_PEERS if isinstance(error, NetworkError) else 1)
    except (KeyboardInterrupt, typer.Abort):
        return int(ExitCode.INTERRUPTED)
    except Exception as error:
        # typer has had its usage errors from click and of its own; both can say what is wrong in a sentence.
        explain = getattr(error, "format_message", None)
        if explain is None:
            raise
        print(
            f"gossip-node: {explain().rstrip('.')}; 'gossip-node --help' shows what there is", file=sys.stderr
        )
        return int(ExitCode.USAGE)
    return code if isinstance(code, int) else int(ExitCode.DONE)


def main() -> None:
    """Entry point of the console script."""
    for name in ("stdin", "stdout", "stderr"):
        # Closed by whoever started us: the next file opened would get its number, and what is printed.
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r+"))  # noqa: SIM115
    queue_standard_error()
    _defer_signals()
    run_and_leave(lambda: run(sys.argv[1:]))


if __name__ == "__main__":
    main()
