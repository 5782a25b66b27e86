"""The folder of a study: what was asked in `study.json`, a line of `trials.jsonl` a trial, and at last `held_out.json`.

Every file is whole at any moment (written aside, synced, renamed), so an interruption costs the trials in hand and no
finished one; who asks the same again goes on from there. Whoever asks something else is refused.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gossip.errors import SettingError
from gossip.learning.objectives.score import ACCURACY, Score
from gossip.storage.atomic import clean, write_atomically
from scenarios.run_folder import environment, hold
from scenarios.tuning.methods import Method
from scenarios.tuning.space import Parameter

STUDY = "study.json"
TRIALS = "trials.jsonl"
HELD_OUT = "held_out.json"
_LOCK = ".lock"

FORMAT = 1

START = 0
"""The number of the trial that is the scenario as it stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One setting of the tuned keys, and what came of it."""

    method: str
    number: int
    params: Mapping[str, Any]
    """Tuned key -> value; of the start as it stands, within the space or not."""
    settings: tuple[str, ...]
    """What ``--set`` takes for the same run."""
    score: float | None
    """Mean final score over the tuning seeds; None where a run came to nothing."""
    scores: Mapping[str, float]
    """Seed -> mean final score of the honest peers' own models."""
    worst: float | None
    """Score of the worst peer, mean of the seeds."""
    megabytes: float | None
    """Sent by all peers together, mean of the seeds."""
    seconds: float
    """Of computing, all seeds together."""
    error: str | None = None
    """Why it came to nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """One setting on the held-out seeds, with all training samples, on the test samples."""

    trial: int
    settings: tuple[str, ...]
    scores: Mapping[str, float]
    """Seed -> mean final score."""

    @property
    def mean(self) -> float:
        """Mean of the seeds."""
        return statistics.fmean(self.scores.values())

    @property
    def std(self) -> float:
        """Standard deviation of the seeds."""
        return statistics.pstdev(self.scores.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a study was asked for. Two studies that agree in this have the same trials."""

    scenario: str
    """A library name, or the path of a file."""
    name: str
    seed: int
    tuning_seeds: tuple[int, ...]
    held_out_seeds: tuple[int, ...]
    validation: float
    """Share of each class's training samples that is set aside for the scores; 0: the test samples are used."""
    methods: tuple[Method, ...]
    scored: Score = ACCURACY
    """What the objective scores by."""

    def as_table(self) -> dict[str, Any]:
        """Return it as plain values."""
        table = {**asdict(self), "scored": self.scored._asdict()}
        for method, told in zip(self.methods, table["methods"], strict=True):
            told["space"] = [parameter.as_table() for parameter in method.space]
        found: dict[str, Any] = json.loads(json.dumps(table))
        return found

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Asked:
        """Return what `as_table` told."""
        methods = tuple(
            Method(
                **{
                    **told,
                    "overrides": tuple(told["overrides"]),
                    "space": tuple(Parameter.from_table(each) for each in told["space"]),
                }
            )
            for told in table["methods"]
        )
        seeds = {name: tuple(table[name]) for name in ("tuning_seeds", "held_out_seeds")}
        scored = Score(**table["scored"]) if "scored" in table else ACCURACY  # as it was before
        return cls(**{**table, **seeds, "methods": methods, "scored": scored})

    def method(self, name: str) -> Method:
        """Return the method of that name."""
        return next(method for method in self.methods if method.name == name)


@dataclass(slots=True)
class Study:
    """A study as far as it has come."""

    folder: Path
    asked: Asked
    wanted: int
    """Trials per method."""
    trials: list[Trial] = field(default_factory=list)
    held_out: dict[str, list[HeldOut]] = field(default_factory=dict)
    """Method -> the start, and the best trial unless it is the start."""
    environment: Mapping[str, Any] = field(default_factory=dict)

    def of(self, method: str) -> list[Trial]:
        """Return the method's trials in their order."""
        return sorted((t for t in self.trials if t.method == method), key=lambda trial: trial.number)

    def best(self, method: str) -> Trial | None:
        """Return the trial with the best score, the first of equals; None where there is none yet."""
        return self._best(self.of(method))

    def champion(self) -> Trial | None:
        """Return the best of all methods by the scores; the held-out seeds choose nothing."""
        return self._best([best for each in self.asked.methods if (best := self.best(each.name)) is not None])

    def _best(self, trials: Iterable[Trial]) -> Trial | None:
        found = [(trial.score, trial) for trial in trials if trial.score is not None]
        chosen = max if self.asked.scored.higher_is_better else min
        return chosen(found, key=lambda pair: pair[0])[1] if found else None

    def add(self, trial: Trial) -> None:
        """Keep a trial, on the disk too."""
        self.trials.append(trial)
        _write(self.folder / TRIALS, (json.dumps(asdict(each), allow_nan=False) for each in self.trials))

    def conclude(self, held_out: Mapping[str, Sequence[HeldOut]]) -> None:
        """Keep what the held-out seeds say, on the disk too."""
        self.held_out = {name: list(found) for name, found in held_out.items()}
        table = {name: [asdict(each) for each in found] for name, found in self.held_out.items()}
        _write(self.folder / HELD_OUT, [json.dumps(table, indent=1, allow_nan=False)])

    @property
    def done(self) -> bool:
        """Whether every method has had its trials and the best of them met the held-out seeds."""
        return all(
            len(self.of(method.name)) >= self.wanted and self.is_held_out(method.name)
            for method in self.asked.methods
        )

    def is_held_out(self, method: str) -> bool:
        """Whether the best trial so far is among those that met the held-out seeds."""
        best = self.best(method)
        return best is not None and best.number in {each.trial for each in self.held_out.get(method, ())}


def is_study(folder: Path) -> bool:
    """Return whether the folder holds a study."""
    return (folder / STUDY).is_file()


def open_study(folder: Path, asked: Asked, wanted: int) -> Study:
    """Return the study that the folder holds of the same, or begin it there.

    Call `hold_study` before: nobody else may write there.

    Raises:
        SettingError: it holds another study, or something else.
    """
    if is_study(folder):
        found = read_study(folder)
        difference = _difference(_compared(found.asked), _compared(asked))
        if difference is not None:
            raise SettingError(
                f"--out {folder}: holds a study of other settings ({difference}); choose another --out, or remove that "
                "folder"
            )
        found.asked = asked  # the scenario's file may be written otherwise
        found.wanted = max(wanted, *(trial.number + 1 for trial in found.trials), 1)
    else:
        found = Study(folder, asked, wanted, environment=environment("optuna"))
    table = {"format": FORMAT, "trials": found.wanted, **asked.as_table(), "environment": found.environment}
    _write(folder / STUDY, [json.dumps(table, indent=1)])
    return found


def hold_study(folder: Path) -> int:
    """Make the folder and keep others from writing there until the descriptor that is returned is closed.

    Raises:
        SettingError: another study is being made there, it holds other files, or it cannot be written.
    """
    try:
        if folder.exists() and not folder.is_dir():
            raise SettingError(f"--out {folder}: is a file; a study needs a folder")
        found = {entry.name for entry in folder.iterdir()} if folder.exists() else set()
        if found - {_LOCK, f".{STUDY}.tmp"} and STUDY not in found:
            raise SettingError(
                f"--out {folder}: holds other files and no study; choose a new or empty folder"
            )
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = hold(
            folder / _LOCK, f"--out {folder}: another study is being made there; choose another folder"
        )
        clean(folder)
    except OSError as error:
        raise SettingError(f"--out {folder}: cannot be written: {error.strerror or error}") from None
    return descriptor


def release_study(folder: Path, descriptor: int) -> None:
    """Let others write there."""
    (folder / _LOCK).unlink(missing_ok=True)
    os.close(descriptor)


def read_study(folder: Path) -> Study:
    """Read a study, finished or not.

    Raises:
        SettingError: it cannot be read.
    """
    try:
        table = json.loads((folder / STUDY).read_text(encoding="utf-8"))
        if table.pop("format") != FORMAT:
            raise SettingError(
                f"{folder / STUDY}: written by another version; this one reads format {FORMAT}"
            )
        wanted, told = table.pop("trials"), table.pop("environment")
        study = Study(folder, Asked.from_table(table), wanted, environment=told)
        lines = (folder / TRIALS).read_text(encoding="utf-8").splitlines() if _there(folder / TRIALS) else []
        for line in lines:
            found = json.loads(line)
            study.trials.append(Trial(**_read(found)))
        if _there(folder / HELD_OUT):
            for method, told in json.loads((folder / HELD_OUT).read_text(encoding="utf-8")).items():
                study.held_out[method] = [HeldOut(**_read(each)) for each in told]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise SettingError(f"{folder}: cannot be read as a study: {error}") from None
    return study


def _read(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a line; older studies called scores accuracies."""
    known = {"scores" if key == "accuracies" else key: value for key, value in found.items()}
    return {**known, "settings": tuple(found["settings"])}


def _there(path: Path) -> bool:
    return path.is_file()


def _write(path: Path, lines: Iterable[str]) -> None:
    try:
        write_atomically(path, "".join(f"{line}\n" for line in lines).encode())
    except OSError as error:
        raise SettingError(f"{path}: cannot be written: {error.strerror or error}") from None


def _compared(asked: Asked) -> dict[str, Any]:
    """Return what makes two studies the same: not by what path their scenario was found."""
    return {key: value for key, value in asked.as_table().items() if key != "scenario"}


def _difference(there: object, here: object, path: str = "") -> str | None:
    """Return in words the first thing in which two tables differ."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        for key in dict.fromkeys((*there, *here)):
            found = _difference(there.get(key), here.get(key), f"{path}.{key}" if path else str(key))
            if found is not None:
                return found
        return None
    if isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        pairs = enumerate(zip(there, here, strict=True))
        return next((d for i, (a, b) in pairs if (d := _difference(a, b, f"{path}.{i}"))), None)
    return None if there == here else f"{path} = {there} there, {here} here"
