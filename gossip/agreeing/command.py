"""`gossip-node statistics`: its options. Light until it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gossip.inference.commands import DEFAULT_HOME


def statistics(
    peers: Annotated[Path, typer.Option(help="The peers file.", metavar="FILE")],
    task: Annotated[
        Path | None, typer.Option(help="The task, the same on all machines.", metavar="TASK.toml")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="This machine's own table: .csv, .tsv, .parquet.", metavar="PATH")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The file to write; default: the one that [data] statistics names, or statistics.toml.",
            metavar="FILE",
        ),
    ] = None,
    home: Annotated[
        Path, typer.Option(help="Folder of this node, with its identity.", metavar="DIR")
    ] = DEFAULT_HOME,
    topology: Annotated[
        str | None, typer.Option(help="Who neighbours whom, as in the run.", metavar="KIND")
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(help="Bind here instead of the own line's port on all interfaces.", metavar="HOST:PORT"),
    ] = None,
    count_min: Annotated[
        int,
        typer.Option(help="Names in fewer rows than this are not told to the others.", min=1, metavar="N"),
    ] = 1,
    wait: Annotated[
        float, typer.Option(help="Seconds to wait for the others.", min=1, metavar="SECONDS")
    ] = 600.0,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override one setting; may be repeated.", metavar="SECTION.KEY=VALUE"),
    ] = None,
) -> None:
    """Agree with all peers on means, deviations, names and classes of tables; nobody tells its own numbers."""
    from gossip.agreeing.running import agree
    from gossip.node.options import NodeOptions

    tables: dict[str, dict[str, str]] = {}
    if data is not None:
        tables["data"] = {"source": str(data.expanduser().absolute())}
    if topology is not None:
        tables["topology"] = {"kind": topology}
    options = NodeOptions(
        peers=peers,
        home=home.expanduser(),
        task=task,
        arguments=tables,
        overrides=tuple(overrides or ()),
        listen=listen,
        agreeing=True,
    )
    raise typer.Exit(agree(options, out=out, force=force, wait_s=wait, count_min=count_min))
