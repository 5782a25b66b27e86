"""Tables for people, on standard output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gossip.learning.objectives.score import score_in, with_score
from gossip.telemetry.progress import human_bytes


def print_status(status: Mapping[str, Any]) -> None:
    """Show what `gossip-node status` was told."""
    console = Console()
    score = score_in(status)
    status = with_score(status)
    graph = f" on {status['topology']}" if status["topology"] else ""
    console.print(
        f"[bold]{status['name']}[/bold]  {status['state']}  round {status['round']}/{status['rounds']}  "
        f"{score.label} {score.told(status['score'])}  "
        + (f"on own test samples {score.told(status['own_score'])}  " if "own_score" in status else "")
        + f"{status['algorithm']}{graph}  run {status['run_id']}"
        + ("  [bold red]INSECURE[/bold red]" if status["insecure"] else ""),
        highlight=False,
    )
    _print_trouble(console, status)
    said = status.get("protocol")
    if said:
        console.print("  ".join(f"{key} {value}" for key, value in said.items()), highlight=False)
    table = Table("neighbour", "address", "state", "last trouble")
    for entry in status["neighbours"]:
        state = "[green]up[/green]" if entry["up"] else "[red]down[/red]"
        # Sentences name sections in brackets, and may be a stranger's words: never markup.
        table.add_row(entry["name"], entry["address"], state, escape(entry.get("error") or ""))
    console.print(table)
    sent, received = status["bytes"]["total"], status["bytes_received"]["total"]
    line = f"sent {human_bytes(sent)}, received {human_bytes(received)}"
    upload = status.get("upload")
    if upload:
        line += f"; sends at most {upload['mbps_max']:g} Mbit/s"
    rejected = status.get("rejected_messages") or {}
    if rejected:
        line += "; rejected " + ", ".join(f"{count} {reason}" for reason, count in sorted(rejected.items()))
    console.print(line, highlight=False)


def _print_trouble(console: Console, status: Mapping[str, Any]) -> None:
    """Say what is being done beyond the disk, and what fails or has gone wrong."""
    if status.get("divergence"):
        console.print(status["divergence"]["sentence"], style="red", markup=False, highlight=False)
    checkpoint = status.get("checkpoint") or {}
    if checkpoint.get("error") is not None:
        console.print(
            f"checkpoints cannot be written: {checkpoint['error']}; round {status['round_in_progress']} is in progress",
            style="red",
            markup=False,
            highlight=False,
        )
    for what, sentence in (status.get("troubles") or {}).items():
        console.print(f"{what}: {sentence}", style="red", markup=False, highlight=False)
