"""`gossip-node evaluate | predict | export | compare`: what is done with finished models. Light until it is used."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gossip.errors import DataError

if TYPE_CHECKING:
    from gossip.inference.loaded import LoadedModel

HomeOrFile = Annotated[
    Path, typer.Option("--home", help="A node's home, or a model.safetensors.", metavar="DIR|FILE")
]
NetworkFile = Annotated[
    Path | None,
    typer.Option(
        "--network",
        help="The file of a network of one's own, where it lies elsewhere than in training.",
        metavar="FILE",
    ),
]
Data = Annotated[
    str,
    typer.Option(
        help="What [data] source takes; of training and test samples those to test on.", metavar="SOURCE"
    ),
]
Target = Annotated[
    str | None,
    typer.Option(help="Of a table: the column that was learnt; default: as then.", metavar="COLUMN"),
]
Prototypes = Annotated[
    bool,
    typer.Option(
        "--prototypes",
        help="Tell by the nearest prototype of the home's table, which has classes that only other peers have samples "
        "of, in place of the network ([channel]).",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a file that is there.")]
DEFAULT_HOME = Path("~/.gossip-node")
"""Of all commands."""


def evaluate(
    data: Annotated[
        str | None,
        typer.Option(
            help="What [data] source takes; of training and test samples those to test on. Default: what the node "
            "of the home kept to be tested on.",
            metavar="SOURCE",
        ),
    ] = None,
    home: HomeOrFile = DEFAULT_HOME,
    target: Target = None,
    network: NetworkFile = None,
    prototypes: Prototypes = False,
    as_json: AsJson = False,
) -> None:
    """Tell how well the finished model does: all metrics of what was learnt, on common and on own test samples."""
    from gossip.inference import kept
    from gossip.telemetry import standard_output

    own: Mapping[str, Any] | None = None
    with standard_output.kept(as_json):
        model = _loaded(home, network, prototypes)
        if data is None or (target is None and kept.is_of(model, data)):
            found = kept.read(model)
            data, told = found.source, _metrics(model, *found.test)
            own = None if found.own is None else _metrics(model, *found.own)
        else:
            told = metrics_on(model, data, target)
        if as_json:
            about = {"model": str(model.path), "data": data, "objective": model.objective.score.name, **told}
            standard_output.write(json.dumps(about if own is None else {**about, "own_test": own}) + "\n")
            return
    print_metrics(model, told, of="test samples" if own is not None else "samples")
    if own is not None:
        print_metrics(model, own, of="own test samples")


def _loaded(home: Path, network: Path | None, prototypes: bool) -> LoadedModel:
    from gossip.inference.loaded import load

    model = load(home, network=network)
    if not prototypes:
        return model
    from gossip.inference.prototypes import by_prototypes

    return by_prototypes(model)


def _metrics(model: LoadedModel, x: Any, y: Any) -> Mapping[str, Any]:
    """Return all metrics on samples and targets; what is not finite is null."""
    return {key: _finite(value) for key, value in model.evaluate(x, y).items()}


def metrics_on(model: LoadedModel, data: str, target: str | None) -> Mapping[str, Any]:
    """Return all metrics of a model on a source; what is not finite is null."""
    from gossip.inference.samples import read

    samples = read(data, model, folder=Path(), target=target)
    if samples.y is None:
        raise DataError(
            f"--data {data}: has no targets to compare with"
            + (f"; there is no column '{target or model.target}'" if model.target or target else "")
        )
    return _metrics(model, samples.x, samples.y)


def predict(
    data: Data,
    home: HomeOrFile = DEFAULT_HOME,
    out: Annotated[
        Path | None, typer.Option(help="A .csv; default: standard output.", metavar="FILE")
    ] = None,
    network: NetworkFile = None,
    prototypes: Prototypes = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Tell what the finished model says of each sample: one row each, as CSV."""
    from gossip.errors import SettingError
    from gossip.inference.outputs import refuse_existing, refuse_kept
    from gossip.inference.samples import read
    from gossip.telemetry import standard_output

    with standard_output.kept():
        refuse_existing("--out", out, force)
        model = _loaded(home, network, prototypes)
        refuse_kept("--out", out, [model.path])
        samples = read(data, model, folder=Path())
        outputs = model.logits(samples.x)
        rows = list(_rows(model, outputs, samples.names))
        if as_json:
            standard_output.write(json.dumps(rows) + "\n")
            return
        try:
            with out.open("w", newline="", encoding="utf-8") if out else _Standard() as file:
                writer = csv.DictWriter(file, fieldnames=list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        except OSError as failure:
            raise SettingError(f"--out {out}: cannot be written: {failure.strerror or failure}") from None
        if out:
            print(f"{out}: {len(rows)} predictions", file=sys.stderr)


def export(
    format: Annotated[
        str,
        typer.Option(
            "--format",
            help="safetensors, state-dict, torchscript, onnx (needs the extra [onnx]); peft: a folder of adapters.",
            metavar="FORMAT",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The file.", metavar="FILE")],
    home: HomeOrFile = DEFAULT_HOME,
    network: NetworkFile = None,
    force: Force = False,
) -> None:
    """Write the finished model in another format."""
    from gossip.inference.exporting import export as write
    from gossip.inference.loaded import load
    from gossip.inference.outputs import refuse_existing, refuse_kept

    refuse_existing("--out", out, force)
    model = load(home, network=network)
    refuse_kept("--out", out, [model.path])
    write(model, format, out)
    print(f"{out}: {format}", file=sys.stderr)


def compare(
    homes: Annotated[
        list[Path], typer.Argument(help="Homes or model files, two at least.", metavar="HOME HOME...")
    ],
    data: Annotated[str | None, typer.Option(help="To compare them on, too.", metavar="SOURCE")] = None,
    target: Target = None,
    average: Annotated[
        Path | None, typer.Option(help="Write their average there, as a model file.", metavar="FILE")
    ] = None,
    network: NetworkFile = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Tell how far finished models are from each other, and how each does on some data, with their average."""
    from gossip.errors import SettingError
    from gossip.inference import comparing
    from gossip.inference.loaded import load
    from gossip.inference.outputs import refuse_existing, refuse_kept
    from gossip.telemetry import standard_output

    if len(homes) < 2:
        raise SettingError("compare needs two homes or model files at least")
    with standard_output.kept(as_json):
        refuse_existing("--average", average, force)
        models = [load(home, network=network) for home in homes]
        refuse_kept("--average", average, [model.path for model in models])
        comparing.check_alike(models)
        if average is not None:
            comparing.save_average(models, average)
        rows: list[dict[str, Any]] = [
            {"model": str(model.path), "distance": comparing.distance(models[0], model)} for model in models
        ]
        if data is not None:
            for row, model in zip(rows, models, strict=True):
                row.update(_headline(model, metrics_on(model, data, target)))
            models[0].module.load_state_dict(comparing.average(models))
            told = _headline(models[0], metrics_on(models[0], data, target))
            rows.append({"model": "their average", "distance": None, **told})
        if as_json:
            standard_output.write(json.dumps(rows) + "\n")
            return
    _print_rows(rows)


def _headline(model: LoadedModel, told: Mapping[str, Any]) -> dict[str, Any]:
    name = model.objective.score.name
    return {name: told[name], "loss": told["loss"]}


def print_metrics(model: LoadedModel, told: Mapping[str, Any], *, of: str = "samples") -> None:
    """Show metrics as tables: the numbers, those per class, and who is taken for whom."""
    from rich.console import Console
    from rich.table import Table

    from gossip.learning.objectives.score import LABELS

    console = Console()
    score = model.objective.score
    numbers = Table("metric", "value")  # whose title would be broken to the table's width
    for key, value in told.items():
        if value is None or isinstance(value, int | float):
            shown = score.told(value) if key == score.name else _shown(value)
            label = score.label if key == score.name else LABELS.get(key, key.replace("_", " "))
            numbers.add_row(label, shown)
    console.print(f"{model.path}: {told['samples']} {of}", soft_wrap=True, markup=False, highlight=False)
    console.print(numbers)
    if "confusion" in told and len(told["confusion"]) <= CONFUSION_MAX:
        names = model.class_names or tuple(map(str, range(model.outputs)))
        table = Table("true \\ told", *names, "recall")
        for name, row, recall in zip(names, told["confusion"], told["recall"], strict=True):
            table.add_row(name, *map(str, row), "–" if recall is None else f"{100 * recall:.1f} %")
        console.print(table)


CONFUSION_MAX = 20
"""Classes whose table fits a terminal."""


def _rows(model: LoadedModel, outputs: Any, names: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    objective = model.objective
    found = objective.predicted(outputs).tolist()
    shares = outputs.double().softmax(1).tolist() if objective.classifies else None
    called = model.class_names or tuple(map(str, range(model.outputs)))
    for place, value in enumerate(found):
        row: dict[str, Any] = {"sample": names[place] if names else place}
        if shares is not None:
            row["prediction"] = called[value]
            row["probability"] = round(max(shares[place]), 6)
        elif isinstance(value, list) and len(value) == 1:
            row["prediction"] = value[0]
        else:
            row["prediction"] = " ".join(map(str, value)) if isinstance(value, list) else value
        yield row


class _Standard:
    """Standard output as a file that is not closed."""

    def __enter__(self) -> _Standard:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, text: str) -> None:
        from gossip.telemetry import standard_output

        standard_output.write(text)


def _print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*rows[0])
    for row in rows:
        table.add_row(*map(_shown, row.values()))
    Console().print(table)


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return [_finite(each) for each in value] if isinstance(value, list) else value
