"""Checkpoints and records: whole or absent, kept twice, refused when they are not ours or were changed."""

from __future__ import annotations

import json
import os
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.errors import CheckpointError
from gossip.storage.atomic import write_atomically
from gossip.storage.checkpoints import Belongs, Checkpoint, CheckpointStore, decode, encode
from gossip.storage.round_files import round_files
from gossip.storage.run_record import RunRecord, clean_home, put_aside, read_lines
from scenarios.processes.watch import Watch

BELONGS = Belongs(peer="alice", space_id="ab12", seed=3)


def checkpoint(round: int, size: int = 10) -> Checkpoint:
    vector = np.random.default_rng(round).normal(size=size).astype(np.float32)
    return Checkpoint(belongs=BELONGS, protocol="rounds", state={"round": round}, vector=vector)


@given(st.integers(0, 2**31), st.integers(0, 300))
def test_a_checkpoint_is_read_back_as_it_was_written(tmp_path_factory, round, size):
    path = tmp_path_factory.mktemp("c") / "x.safetensors"
    written = checkpoint(round, size)
    path.write_bytes(encode(written))
    read = decode(path)
    assert read.vector.tobytes() == written.vector.tobytes()
    assert replace(read, vector=None) == replace(written, vector=None)


def test_a_resume_is_told_how_long_ago_the_checkpoint_was_and_never_less_than_nothing(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(encode(replace(checkpoint(4), saved_s=1000.5)))
    read = decode(path)
    assert read.state_after(1060.5) == {"round": 4, "away_s": 60.0}
    assert read.state_after(0.0) == {"round": 4, "away_s": 0.0}, "the clock was set back"
    path.write_bytes(encode(checkpoint(4)))
    assert decode(path).state_after(1060.5) == {"round": 4}, "written by an older version"


def test_the_newest_is_loaded_and_two_are_kept(tmp_path):
    store = CheckpointStore(tmp_path)
    assert store.load_newest(BELONGS, protocol="rounds") is None
    for round in (8, 9, 10, 11):
        store.save(checkpoint(round))
    assert store.load_newest(BELONGS, protocol="rounds").round == 11
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


def test_a_torn_temporary_file_is_no_checkpoint_and_is_cleaned_away(tmp_path):
    store = CheckpointStore(tmp_path)
    store.save(checkpoint(1))
    torn = [tmp_path / "checkpoints" / ".round-00000002.safetensors.tmp", tmp_path / ".summary.json.tmp"]
    for path in torn:
        path.write_bytes(b"half")
    assert store.load_newest(BELONGS, protocol="rounds").round == 1
    assert clean_home(tmp_path) == 2
    assert [path.name for path in store.folder.iterdir()] == ["round-00000001.safetensors"]


@pytest.mark.parametrize(
    ("belongs", "protocol", "word"),
    [
        (replace(BELONGS, peer="bob"), "rounds", "peer"),
        (replace(BELONGS, space_id="cd"), "rounds", "space_id"),
        (replace(BELONGS, seed=4), "rounds", "seed"),
        (BELONGS, "push", "protocol"),
    ],
)
def test_a_checkpoint_of_another_task_is_refused_by_name(tmp_path, belongs, protocol, word):
    store = CheckpointStore(tmp_path)
    store.save(checkpoint(1))
    with pytest.raises(CheckpointError, match=rf" is of .*\b{word}\b.*--fresh"):
        store.load_newest(belongs, protocol=protocol)


@given(st.data())
def test_a_checkpoint_with_any_byte_changed_or_missing_is_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("c") / "x.safetensors"
    content = bytearray(encode(checkpoint(5)))
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[at] ^= data.draw(st.integers(1, 255))
    else:
        del content[at:]
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        decode(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_resume_drops_rounds_that_will_be_done_again_and_torn_lines(tmp_path):
    record = RunRecord(tmp_path, "alice")
    for round in (1, 2, 3):
        record.metrics({"round": round})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"round": 4, "acc')
    record.resume_at(2)
    record.metrics({"round": 3})
    assert [entry["round"] for entry in read_lines(tmp_path / "metrics.jsonl")] == [1, 2, 3]


def test_starting_over_loses_nothing(tmp_path):
    record = RunRecord(tmp_path, "alice")
    record.summary({"state": "finished"})
    CheckpointStore(tmp_path).save(checkpoint(7))
    assert put_aside(tmp_path)
    assert not put_aside(tmp_path)
    assert json.loads((tmp_path / "previous" / "summary.json").read_text()) == {"state": "finished"}
    assert CheckpointStore(tmp_path / "previous").load_newest(BELONGS, protocol="rounds").round == 7


def test_starting_over_twice_does_not_cost_the_run_before_where_the_first_came_to_no_round(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"finished")
    CheckpointStore(tmp_path).save(checkpoint(7))
    assert put_aside(tmp_path)
    for _ in range(2):
        # As a node leaves it that found nobody: the checkpoint of its start, events, a summary.
        CheckpointStore(tmp_path).save(checkpoint(0))
        record = RunRecord(tmp_path, "alice")
        record.event("started")
        record.summary({"state": "interrupted"})
        assert not put_aside(tmp_path)
        assert not (tmp_path / "summary.json").exists()
        assert CheckpointStore(tmp_path).load_newest(BELONGS, protocol="rounds") is None
    assert (tmp_path / "previous" / "model.safetensors").read_bytes() == b"finished"
    CheckpointStore(tmp_path).save(checkpoint(1))
    assert put_aside(tmp_path)
    assert not (tmp_path / "previous" / "model.safetensors").exists()


# --- power cuts, full disks ---


class Disk:
    """What a power cut would leave of one folder: a hook behind `os.fsync` and `os.replace`.

    The cruellest disk that the system allows: of a file only what was synced is there, and if it was written to since,
    nothing can be said; of a folder either the names that were synced are there or those of now.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
        self._path = path
        self._content: dict[int, bytes] = {}
        self._names: dict[str, int] = {}
        self.seen: list[set[bytes | None]] = []
        self._fsync, self._replace = os.fsync, os.replace
        for file in path.parent.iterdir():
            self._content[file.stat().st_ino] = file.read_bytes()
        self._names = self._now()
        monkeypatch.setattr(os, "fsync", self.fsync)
        monkeypatch.setattr(os, "replace", self.replace)

    def _now(self) -> dict[str, int]:
        return {file.name: file.stat().st_ino for file in self._path.parent.iterdir()}

    def after_a_cut(self) -> set[bytes | None]:
        """Return what may stand under the path; None for "anything"."""
        left: set[bytes | None] = set()
        for names in (self._names, self._now()):
            inode = names.get(self._path.name)
            synced = None if inode is None else self._content.get(inode)
            torn = inode == self._now().get(self._path.name) and self._path.read_bytes() != synced
            left.add(None if torn else synced)
        return left

    def fsync(self, descriptor: int) -> None:
        self.seen.append(self.after_a_cut())
        self._fsync(descriptor)
        inode = os.fstat(descriptor).st_ino
        if inode == self._path.parent.stat().st_ino:
            self._names = self._now()
        else:
            self._content[inode] = Path(f"/proc/self/fd/{descriptor}").read_bytes()
        self.seen.append(self.after_a_cut())

    def replace(self, source: Path, target: Path) -> None:
        self.seen.append(self.after_a_cut())
        self._replace(source, target)
        self.seen.append(self.after_a_cut())


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks into /proc")
def test_a_power_cut_at_any_moment_leaves_the_old_file_or_the_new_one_and_at_the_end_the_new_one(
    tmp_path, monkeypatch
):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    disk = Disk(monkeypatch, path)
    write_atomically(path, (b"ne", b"w"))
    assert all(left <= {b"old", b"new"} for left in disk.seen)
    assert disk.after_a_cut() == {b"new"}


@pytest.mark.parametrize("at", ["write", "fsync", "rename"])
def test_whatever_fails_while_writing_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, at):
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    def pieces():
        yield b"ne"
        if at == "write":
            full()
        yield b"w"

    monkeypatch.setattr(
        os, {"write": "nothing", "fsync": "fsync", "rename": "replace"}[at], full, raising=False
    )
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, pieces())
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("x", b"old")]


def test_a_disk_that_fails_round_after_round_is_left_as_it_was(tmp_path, monkeypatch):
    store = CheckpointStore(tmp_path)
    store.save(checkpoint(1))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for round in range(2, 6):
        with pytest.raises(OSError, match="No space left"):
            store.save(checkpoint(round))
    assert [path.name for path in store.folder.iterdir()] == ["round-00000001.safetensors"]


# --- damage at every kind of byte ---


def damaged(what):
    """Return a checkpoint's bytes with one kind of byte made wrong, and a word of what is then said."""
    content = encode(checkpoint(5))
    content = content if isinstance(content, bytes) else b"".join(content)
    length = struct.unpack("<Q", content[:8])[0]
    header, tensor = json.loads(content[8 : 8 + length]), content[8 + length :]

    def made(about, raw=None, tensor=tensor):
        text = json.dumps({**header, "__metadata__": about}).encode() if raw is None else raw
        return struct.pack("<Q", len(text)) + text + tensor

    about = header["__metadata__"]
    return {
        "empty": (b"", "damaged"),
        "header length, huge": (b"\xff" * 8 + content[8:], "damaged"),
        "header length, small": (struct.pack("<Q", length - 1) + content[8:], "damaged"),
        "header, not JSON": (made(about, raw=b"{" * length), "damaged"),
        "header, other type": (content.replace(b'"F32"', b'"BF16"'), "damaged"),
        "header, other tensor": (content.replace(b'"vector"', b'"victor"'), "damaged"),
        "metadata": (made({**about, "state": '{"round": 6}'}), "its digest differs"),
        "no metadata": (made({}), "no checkpoint of this program"),
        "no digest": (made({k: v for k, v in about.items() if k != "digest"}), "its digest differs"),
        "digest": (made({**about, "digest": "0" * 32}), "its digest differs"),
        "tensor": (content[:-1] + bytes([content[-1] ^ 1]), "its digest differs"),
        "tensor, short": (content[:-4], "damaged"),
        "tensor, long": (content + b"\0" * 4, "damaged"),
        "another version": (made({**about, "format": "gossip-checkpoint-99"}), "of format '99'"),
        "another program": (made({**about, "format": "theirs"}), "no checkpoint of this program"),
    }[what]


@pytest.mark.parametrize(
    "what",
    [
        "empty",
        "header length, huge",
        "header length, small",
        "header, not JSON",
        "header, other type",
        "header, other tensor",
        "metadata",
        "no metadata",
        "no digest",
        "digest",
        "tensor",
        "tensor, short",
        "tensor, long",
        "another version",
        "another program",
    ],
)
def test_a_checkpoint_damaged_anywhere_is_one_sentence_and_never_an_older_one(tmp_path, what):
    store = CheckpointStore(tmp_path)
    store.save(checkpoint(4))
    content, word = damaged(what)
    (store.folder / "round-00000005.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=word) as caught:
        store.load_newest(BELONGS, protocol="rounds")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("state", ['{"ring": 5}', "[]", "5", "nonsense", '{"round": "x"}', "[" * 100_000])
def test_a_checkpoint_that_says_nonsense_with_a_right_digest_is_one_sentence(tmp_path, monkeypatch, state):
    monkeypatch.setattr("gossip.storage.checkpoints.json.dumps", lambda value, **_: state)
    path = tmp_path / "x.safetensors"
    content = encode(checkpoint(5))
    path.write_bytes(content if isinstance(content, bytes) else b"".join(content))
    with pytest.raises(CheckpointError, match="says nothing sensible") as caught:
        decode(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["directory", "pipe"])
def test_what_is_no_file_in_the_place_of_a_checkpoint_is_one_sentence(tmp_path, make):
    (tmp_path / "checkpoints").mkdir()
    make(tmp_path / "checkpoints" / "round-00000005.safetensors")
    with pytest.raises(CheckpointError, match="it is no file"):
        CheckpointStore(tmp_path).load_newest(BELONGS, protocol="rounds")


def test_a_checkpoint_under_another_rounds_name_is_refused(tmp_path):
    store = CheckpointStore(tmp_path)
    store.save(checkpoint(4)).rename(store.folder / "round-00000009.safetensors")
    (store.folder / "round-notes.safetensors").write_text("nobody's")
    with pytest.raises(CheckpointError, match="holds round 4, its name was changed"):
        store.load_newest(BELONGS, protocol="rounds")


def test_the_newest_is_the_one_of_the_highest_number_however_long(tmp_path):
    store = CheckpointStore(tmp_path)
    for round in (99_999_999, 100_000_000):
        store.save(checkpoint(round))
    assert store.load_newest(BELONGS, protocol="rounds").round == 100_000_000


def test_a_line_that_a_full_disk_cuts_short_or_a_kill_has_torn_spoils_no_other(tmp_path, monkeypatch):
    record, write = RunRecord(tmp_path, "alice"), os.write
    record.metrics({"round": 1})

    def half(descriptor, line):
        if len(line) < 8:
            raise OSError(28, "No space left on device")
        return write(descriptor, line[: len(line) // 2])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(OSError, match="No space left"):
            record.metrics({"round": 2})
    record.metrics({"round": 3})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"round": 4, "acc')
    record.metrics({"round": 5})
    assert (tmp_path / "metrics.jsonl").read_text().splitlines() == [
        '{"round":1}',
        '{"round":3}',
        '{"round": 4, "acc',
        '{"round":5}',
    ]


def test_round_files_are_found_by_number_and_others_left_alone(tmp_path):
    for name in (
        "round-10.safetensors",
        "round-00000009.safetensors",
        "round-8.tmp",
        "round-x.safetensors",
        "a",
    ):
        (tmp_path / name).touch()
    (tmp_path / f"round-{'9' * 100}.safetensors").touch()
    assert list(round_files(tmp_path)) == [9, 10]
    assert round_files(tmp_path)[10] == tmp_path / "round-10.safetensors"


def test_a_folder_that_is_moved_while_it_is_looked_at_has_no_rounds(tmp_path, monkeypatch):
    """Of a node that puts an earlier run aside, its engine sees a folder that is gone when it is read."""
    monkeypatch.setattr(Path, "is_dir", lambda self: True)
    assert round_files(tmp_path / "checkpoints") == {}
    assert Watch({"alice": tmp_path}, began=0.0).begun({"alice"}) is False
