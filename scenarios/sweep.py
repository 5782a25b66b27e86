"""Many runs of one scenario: every combination of settings, and every seed; finished ones are not done again."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import tomli_w

from gossip.errors import SettingError
from gossip.learning.objectives.score import score_in
from scenarios.clusters.choice import LOCAL, choose
from scenarios.clusters.executor import each_done
from scenarios.clusters.runs import Run as Run
from scenarios.inputs import named_files
from scenarios.records import SweepRow
from scenarios.run_folder import SCENARIO, SUMMARY, read_inputs, read_summary
from scenarios.scenario import load
from scenarios.standings import Standings
from scenarios.summary import spread

RUNS_MAX = 10_000
"""A sweep of more runs is a mistyped list."""

MEASURES = (
    "accuracy",
    "accuracy_min",
    "accuracy_of_mean",
    "score",
    "score_worst",
    "score_of_mean",
    "consensus_distance",
    "megabytes",
    "time",
    "honest_peers",
)
OWN = "own_score"
"""A measure more, where peers keep test samples of their own."""


def parse_axis(argument: str) -> tuple[str, list[str]]:
    """Turn ``KEY=V1,V2,…`` into the key and its values; commas inside brackets, braces and quotes do not part."""
    key, sign, text = argument.partition("=")
    values, depth, quote, start = [], 0, "", 0
    for place, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in "[{":
            depth += 1
        elif character in "]}":
            depth -= 1
        elif character == "," and not depth:
            values.append(text[start:place])
            start = place + 1
    values.append(text[start:])
    values = [value.strip() for value in values]
    if not sign or not key.strip() or not all(values) or len(set(values)) != len(values):
        raise SettingError(f"--set {argument}: must look like SECTION.KEY=V1,V2,… with different values")
    return key.strip(), values


def parse_seeds(text: str, option: str = "--seeds") -> list[int]:
    """Turn ``0-4``, ``1,5,9`` or ``0-2,7`` into numbers; `option` is where they were given."""
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        try:
            start = int(first)
            end = int(last) if dash else start
        except ValueError:
            raise SettingError(f"{option} {text}: must look like 0-4 or 1,5,9") from None
        if end < start or end - start >= RUNS_MAX:
            raise SettingError(f"{option} {text}: {part.strip()} is no range of at most {RUNS_MAX} seeds")
        seeds += range(start, end + 1)
    if len(set(seeds)) != len(seeds):
        raise SettingError(f"{option} {text}: names a seed twice")
    return seeds


def plan(scenario: str, engine: str, axes: Sequence[str], seeds: Sequence[int], out: Path) -> list[Run]:
    """Return all runs, each checked as far as its settings go.

    Raises:
        SettingError: a setting of any run is wrong; nothing has been started then.
    """
    parsed = [parse_axis(axis) for axis in axes]
    if any(key == "scenario.seed" for key, _ in parsed):
        raise SettingError("--set scenario.seed: the seeds of a sweep are given by --seeds, e.g. --seeds 0-4")
    if len({key for key, _ in parsed}) != len(parsed):
        raise SettingError("--set: the same key stands twice; give all its values in one list")
    combinations = [
        tuple(f"{key}={value}" for (key, _), value in zip(parsed, values, strict=True))
        for values in itertools.product(*(values for _, values in parsed))
    ]
    if len(combinations) * len(seeds) > RUNS_MAX:
        raise SettingError(f"{len(combinations) * len(seeds)} runs; a sweep has at most {RUNS_MAX}")
    for settings in combinations:
        load(scenario, overrides=settings)
    names = _folder_names(combinations)
    return [
        Run(scenario, engine, settings, seed, out / name / f"seed-{seed}")
        for settings, name in zip(combinations, names, strict=True)
        for seed in seeds
    ]


def _folder_names(combinations: Sequence[Sequence[str]]) -> list[str]:
    """Return a folder for each: where short plain names would be the same, each has a digest of its settings."""
    names = [_folder_name(settings) for settings in combinations]
    return [
        f"{name}-{sha256(' '.join(settings).encode()).hexdigest()[:12]}" if names.count(name) > 1 else name
        for settings, name in zip(combinations, names, strict=True)
    ]


def _folder_name(settings: Sequence[str]) -> str:
    text = ",".join(settings) or "as-written"
    return "".join(c if c.isalnum() or c in "=.,_-" else "_" for c in text)[:200]


def is_done(run: Run) -> bool:
    """Return whether the folder holds the finished run of exactly these settings, and of files as they are now."""
    return _state(run) == ""


def _done_again(states: Iterable[str | None]) -> Iterator[str]:
    """Yield a sentence for each file because of which finished runs are to be done again."""
    for reason, count in Counter(filter(None, states)).items():
        yield f"{count} finished run{'s are' if count > 1 else ' is'} done again: {reason}"


def _state(run: Run) -> str | None:
    """Return why a finished run of these settings is not what it would be now, "" where it is; None: there is none."""
    try:
        read_summary(run.folder)
        found = (run.folder / SCENARIO).read_text(encoding="utf-8")
    except OSError:
        return None
    except (ValueError, LookupError, TypeError):
        return f"{SUMMARY} of one cannot be read"
    wanted = load(run.scenario, seed=run.seed, overrides=run.settings)
    if found != tomli_w.dumps(wanted.as_file()):
        return None
    now, then = named_files(wanted.as_file()), read_inputs(run.folder)
    return next((f"{path} has changed since" for path in now if now[path] != then.get(path)), "")


def carry_out(
    runs: Sequence[Run],
    *,
    jobs: int | None = None,
    tell: Callable[[Run, int, int], None] | None = None,
    cluster: str = LOCAL,
    cluster_settings: Sequence[str] = (),
    folder: Path | None = None,
    standings: Standings | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> Iterator[Run]:
    """Do the runs that are not done, several at a time, and yield each as it ends.

    Args:
        runs: see `plan`.
        jobs: processes at a time; 0: none, but one run after another in this one; default: one per core for the virtual
            engine, one for real processes.
        tell: called with (run, how many are done, of how many).
        cluster: where they are done: local, slurm, or ray://HOST:PORT.
        cluster_settings: KEY=VALUE, see `scenarios.clusters`.
        folder: of the sweep; default: that of the first run.
        standings: where each run that is done here tells how far it is.
        say: called with a sentence where finished runs are not what they would be now, and are done again.
    """
    states = [_state(run) for run in runs]
    for sentence in _done_again(states):
        say(sentence)
    todo = [run for run, state in zip(runs, states, strict=True) if state != ""]
    if not todo:
        return
    executor = choose(
        cluster,
        cluster_settings,
        engine=todo[0].engine,
        runs=len(todo),
        jobs=jobs,
        folder=folder or todo[0].folder,
        standings=standings,
    )
    for count, run in enumerate(each_done(executor, todo), start=1):
        if tell is not None:
            tell(run, count, len(todo))
        yield run


def summaries(runs: Sequence[Run]) -> list[tuple[Run, dict[str, Any]]]:
    """Return what each finished run says."""
    return [(run, read_summary(run.folder)) for run in runs]


def table(runs: Sequence[Run]) -> list[SweepRow]:
    """Return one row per combination, in the order of the plan."""
    by_settings: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for run, summary in summaries(runs):
        by_settings.setdefault(run.settings, []).append(summary)
    rows = []
    for settings, found in by_settings.items():
        own = (OWN,) if any("own_score" in summary for summary in found) else ()
        measured = {name: [_measure(summary, name) for summary in found] for name in (*MEASURES, *own)}
        rows.append(
            SweepRow(
                settings,
                len(found),
                {name: spread([v for v in values if v is not None]) for name, values in measured.items()},
                score_in(found[0]),
            )
        )
    return rows


def _measure(summary: Mapping[str, Any], name: str) -> float | None:
    match name:
        case "accuracy":
            value = summary["accuracy"]["mean"]
        case "accuracy_min":
            value = summary["accuracy"]["min"]
        case "score":
            value = summary["score"]["mean"]
        case "score_worst":
            value = summary["score"]["worst"]
        case "own_score":
            value = summary["own_score"]["mean"] if "own_score" in summary else None
        case "megabytes":
            value = summary["bytes"]["total"] / 1e6
        case _:
            value = summary[name]
    return None if value is None else float(value)


def tell_line(run: Run, done: int, of: int) -> None:
    """Say on standard error that a run has ended."""
    print(f"{done}/{of}  {' '.join(run.settings)} seed {run.seed}", file=sys.stderr)
