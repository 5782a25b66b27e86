"""Checkpoints: one safetensors file per round, the model as one vector and what it belongs to as metadata.

A `kill -9` at any moment leaves the last whole file. Two are kept. A file that was changed by hand or by a
failing disk is refused with a sentence, never silently replaced by an older one.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from gossip.errors import CheckpointError
from gossip.storage.atomic import Piece, write_atomically
from gossip.storage.layout import Entry, pieces
from gossip.storage.round_files import round_files

KEPT = 2
_FORMATS = "gossip-checkpoint-"
FORMAT = f"{_FORMATS}1"
FORMAT_WITH_ROWS = f"{_FORMATS}2"
"""Of a checkpoint that holds rows, too; one that holds none is readable by older versions."""
TENSOR = "vector"
ROW = "row."


@dataclass(frozen=True, slots=True, kw_only=True)
class Belongs:
    """What a checkpoint belongs to; all of it must be the same on resume."""

    peer: str
    space_id: str
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A model and the protocol's state beside it."""

    belongs: Belongs
    protocol: str
    state: Mapping[str, int | float | str]
    vector: np.ndarray[Any, np.dtype[np.float32]]  # (parameters,)
    rows: Mapping[str, np.ndarray[Any, np.dtype[np.float32]]] = field(default_factory=dict)
    """What the learning remembers beside the model: name -> (length,)."""
    counters: Mapping[str, Any] = field(default_factory=dict)
    """Bytes and messages so far, so that a resumed run goes on counting."""
    privacy_steps: int | None = None
    """Steps that the privacy ledger had counted, all of those in the model at least; None: nobody counted."""
    saved_s: float | None = None
    """When it was made, in seconds since 1970; None where an older version wrote it."""

    @property
    def round(self) -> int:
        """Rounds done."""
        return int(self.state["round"])

    def take_vector(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Return the vector and forget it: whoever goes on from it may go on without it."""
        vector = self.vector
        object.__setattr__(self, "vector", np.empty(0, dtype=np.float32))
        return vector

    def take_rows(self) -> Mapping[str, np.ndarray[Any, np.dtype[np.float32]]]:
        """Return the rows and forget them."""
        rows = self.rows
        object.__setattr__(self, "rows", {})
        return rows

    def state_after(self, now_s: float) -> Mapping[str, int | float | str]:
        """Return the protocol's state for a resume at `now_s`: with how long ago it was, never less than nothing."""
        if self.saved_s is None:
            return self.state
        return {**self.state, "away_s": max(0.0, now_s - self.saved_s)}


_OTHER = {
    "peer": "is of the peer '{found}', and this is '{ours}'",
    "space_id": "is of another model: [model], or what the data decide of it, the shape of a sample and the number of "
    "classes, is another one now (space_id {found} there, {ours} here)",
    "seed": "is of a run with seed = {found}, and this one has seed = {ours}",
    "protocol": "is of a run with [protocol] kind = '{found}', and this one has '{ours}'",
}
"""What is said where a checkpoint does not belong to this run, by what is another."""


class CheckpointStore:
    """The checkpoints of one home."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "checkpoints"

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint durably; remove all but the newest two."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"round-{checkpoint.round:08d}.safetensors"
        write_atomically(path, pieces_of(checkpoint))
        # By number: names are of one length only below a hundred million rounds.
        for old in list(round_files(self.folder).values())[:-KEPT]:
            old.unlink(missing_ok=True)
        return path

    def load_newest(self, belongs: Belongs, *, protocol: str) -> Checkpoint | None:
        """Return the newest checkpoint, or None where there is none.

        Raises:
            CheckpointError: it is damaged or belongs to another peer, task, seed or protocol.
        """
        files = round_files(self.folder)
        if not files:
            return None
        round, path = list(files.items())[-1]
        checkpoint = decode(path)
        if checkpoint.round != round:
            raise CheckpointError(f"{path}: holds round {checkpoint.round}, its name was changed; {_WAY_OUT}")
        wanted, found = asdict(belongs), asdict(checkpoint.belongs)
        wanted["protocol"], found["protocol"] = protocol, checkpoint.protocol
        for key, value in wanted.items():
            if found[key] != value:
                said = _OTHER[key].format(found=found[key], ours=value)
                raise CheckpointError(
                    f"{path}: {said}; go back to what it was, use another --home, or --fresh to start over"
                )
        return checkpoint


def pieces_of(checkpoint: Checkpoint) -> Iterator[Piece]:
    """Yield the file's bytes; those of the model are its own memory."""
    about = {
        "format": FORMAT_WITH_ROWS if checkpoint.rows else FORMAT,
        "belongs": json.dumps(asdict(checkpoint.belongs), sort_keys=True),
        "protocol": checkpoint.protocol,
        "state": json.dumps(dict(checkpoint.state), sort_keys=True),
        "counters": json.dumps(dict(checkpoint.counters), sort_keys=True),
    }
    if checkpoint.privacy_steps is not None:
        about["privacy_steps"] = str(checkpoint.privacy_steps)
    if checkpoint.saved_s is not None:
        about["saved_s"] = repr(checkpoint.saved_s)
    vectors = {ROW + name: row for name, row in checkpoint.rows.items()} | {TENSOR: checkpoint.vector}
    vectors = {name: np.ascontiguousarray(vectors[name], dtype=np.float32) for name in sorted(vectors)}
    about["digest"] = _digest(about, vectors)
    return pieces({name: _entry(vector) for name, vector in vectors.items()}, about)


def _entry(vector: np.ndarray[Any, np.dtype[np.float32]]) -> Entry:
    return Entry("float32", vector.shape, vector.nbytes, lambda: vector.data.cast("B"))


def encode(checkpoint: Checkpoint) -> bytes:
    """Return the file's bytes as one."""
    return b"".join(pieces_of(checkpoint))


def decode(path: Path) -> Checkpoint:
    """Read a file and check that it is what was written.

    Raises:
        CheckpointError: with one sentence.
    """
    try:
        if not path.is_file():
            raise OSError("it is no file")  # a pipe of that name would be waited for, for ever
        with safetensors.safe_open(path, framework="np") as file:
            about = dict(file.metadata() or {})
            found = {name: file.get_slice(name) for name in sorted(file.keys())}
            if TENSOR not in found or any(name != TENSOR and not name.startswith(ROW) for name in found):
                raise ValueError(f"it holds the tensors {sorted(found)[:5]}")
            vectors = _read(
                path, {name: (each.get_dtype(), each.get_shape()) for name, each in found.items()}
            )
    except Exception as error:  # whatever a library makes of garbage
        raise CheckpointError(
            f"{path}: is damaged and cannot be read ({_brief(error)}); {_WAY_OUT}"
        ) from None
    written = about.get("format", "")
    readable = (FORMAT, FORMAT_WITH_ROWS)
    ours = " and ".join(repr(each[len(_FORMATS) :]) for each in readable)
    if written not in readable and written.startswith(_FORMATS):
        raise CheckpointError(
            f"{path}: is of format {written[len(_FORMATS) :][:20]!r}, written by another version of this program; "
            f"this one reads {ours}; use that version, or {_WAY_OUT}"
        )
    if written not in readable:
        raise CheckpointError(f"{path}: is no checkpoint of this program; {_WAY_OUT}")
    digest = about.pop("digest", None)
    if digest != _digest(about, vectors):
        raise CheckpointError(f"{path}: was changed after it was written, its digest differs; {_WAY_OUT}")
    try:
        checkpoint = Checkpoint(
            belongs=Belongs(**json.loads(about["belongs"])),
            protocol=about["protocol"],
            state=json.loads(about["state"]),
            counters=json.loads(about["counters"]),
            vector=vectors.pop(TENSOR),
            rows={name.removeprefix(ROW): row for name, row in vectors.items()},
            privacy_steps=int(about["privacy_steps"]) if "privacy_steps" in about else None,
            saved_s=float(about["saved_s"]) if "saved_s" in about else None,
        )
        checkpoint.round  # noqa: B018 - is it there, and a number?
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: says nothing sensible of what it belongs to ({_brief(error)}); {_WAY_OUT}"
        ) from None
    return checkpoint


def _read(
    path: Path, found: Mapping[str, tuple[str, Sequence[int]]]
) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """Return the tensors, each read into memory of its own at once; the library would hold it twice for a while.

    It has checked the header, and that the tensors fill the rest of the file without gaps; `found` has their types and
    shapes in the order of their names, which is their order in the file.
    """
    vectors = {}
    with path.open("rb") as file:
        (header_bytes,) = struct.unpack("<Q", file.read(8))
        file.seek(8 + header_bytes)
        for name, (dtype, shape) in found.items():
            if dtype != "F32" or len(shape) != 1:
                raise ValueError(f"its tensor '{name}' is {dtype} of shape {list(shape)}")
            vector = vectors[name] = np.empty(shape[0], dtype=np.float32)
            if file.readinto(vector.data.cast("B")) != vector.nbytes:
                raise ValueError("it holds less than its tensors")
        if file.read(1):
            raise ValueError("it holds more than its tensors")
    return vectors


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


_WAY_OUT = "move it away to resume from the one before, or use --fresh to start over"


def _digest(about: Mapping[str, str], vectors: Mapping[str, np.ndarray[Any, np.dtype[np.float32]]]) -> str:
    digest = hashlib.blake2b(json.dumps(dict(about), sort_keys=True).encode(), digest_size=16)
    for name, vector in vectors.items():
        if name != TENSOR:
            digest.update(f"{name}\0{len(vector)}\0".encode())
        digest.update(vector.data)
    return digest.hexdigest()
