"""MODEL.md: what a finished model is, for whoever is handed the file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gossip.inference.description import KEY
from gossip.learning.objectives.score import score_in
from gossip.plugins import PREFIX

CARD = "MODEL.md"


def card(about: Mapping[str, str], summary: Mapping[str, Any], *, parameters: int) -> str:
    """Return the text.

    Args:
        about: the metadata of the model file.
        summary: what the node says of its run.
        parameters: numbers in the model.
    """
    return "\n".join(_lines(json.loads(about[KEY]), summary, parameters)) + "\n"


def _lines(said: Mapping[str, Any], summary: Mapping[str, Any], parameters: int) -> Iterator[str]:
    came, model, done = said["provenance"], said["model"], said["preparation"]
    score = score_in(summary)
    yield f"# A model learnt by {len(came['peers'])} peers"
    yield ""
    yield (
        f"Written by the peer `{came['peer']}` after {came['rounds']} rounds of `{came['algorithm']}`, run "
        f"`{came['run_id']}`."
    )
    tested = summary.get("test_samples", "own")
    yield f"On this peer's {tested} test samples: {score.label} {score.told(summary.get('score'))}."
    if "own_score" in summary:
        own = f"{score.label} {score.told(summary['own_score'])}"
        yield f"On the {summary['own_test_samples']} of its own samples that it kept to be tested on: {own}."
    yield ""
    yield "| | |"
    yield "|---|---|"
    file, _, function = model["name"].removeprefix(PREFIX).rpartition(":")
    own = f"`{Path(file).name}`" if file else ""
    # By the file's name: in which folder it was is nobody's business who is handed the model.
    yield f"| network | {f'`{function}` of {own}' if own else f'`{function}`'}, {parameters:,} parameters |"
    yield f"| learnt | {said['objective']['kind']}, {said['classes']} outputs |"
    yield f"| a sample | shape {tuple(said['input_shape'])}{', whole numbers' if said['whole_numbers'] else ''} |"
    if done["class_names"]:
        yield f"| classes | {', '.join(done['class_names'])} |"
    if done["columns"]:
        yield f"| columns | {', '.join(column['name'] for column in done['columns'])} |"
    yield f"| own training samples | {came.get('samples', 'unknown')}, content `{came.get('data', 'unknown')}` |"
    yield f"| peers | {', '.join(came['peers'])} |"
    yield f"| made with | {', '.join(f'{name} {number}' for name, number in came['versions'].items())} |"
    yield ""
    yield "Whoever evaluates it elsewhere measures how it does there: it was tested on this peer's test samples only."
    yield ""
    yield "```python"
    yield "import gossip"
    yield ""
    yield 'model = gossip.load("model.safetensors")     # or the home'
    yield "model.predict(samples)"
    yield "```"
    yield ""
    yield "```"
    yield "gossip-node evaluate --home . --data DATA"
    yield "gossip-node predict --home . --data DATA"
    yield "```"
    if own:
        yield ""
        yield f"Elsewhere it takes a copy of {own}, too: `--network FILE`, in Python `gossip.load(…, network=FILE)`."
