"""Checkpoints and records: whole or absent, kept twice, refused when they are not ours or were changed."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.errors import CheckpointError
from gossip.storage.checkpoints import Belongs, Checkpoint, CheckpointStore, decode, encode
from gossip.storage.run_record import RunRecord, clean_home, put_aside, read_lines

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
    with pytest.raises(CheckpointError, match=f"another task: its {word} is"):
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
