"""Settings files: every mistake is one sentence with file, line, key, value and what would be valid."""

from __future__ import annotations

from pathlib import Path

import pytest

from gossip.config import PRESETS, load_task
from gossip.errors import SettingError

TASK = """\
algorithm = "dfedavg"

[data]
source = "digits"
partition = { kind = "dirichlet", alpha = 0.3 }

[model]
name = "mlp"
hidden = [32]

[local]
lr = 0.2
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "task.toml"
    path.write_text(text)
    return path


def test_a_file_lies_over_its_preset_and_the_command_line_over_both(tmp_path):
    task = load_task(written(tmp_path, TASK), overrides=["local.batch_size=8", "data.partition.alpha=0.1"])
    assert (task.local.lr, task.local.batch_size, task.local.epochs, task.local.sam_rho) == (0.2, 8, 5, 0.0)
    assert task.data.partition.model_dump()["alpha"] == 0.1
    assert task.protocol.model_dump()["gossip_steps"] == 1
    assert task.model.hidden == (32,)


def test_no_file_at_all_is_the_default_algorithm():
    task = load_task()
    assert (task.algorithm, task.data.source, task.model.name) == ("dfedsam-mgs", "digits", "mlp")
    assert (task.protocol.model_dump()["gossip_steps"], task.local.sam_rho) == (4, 0.2)


@pytest.mark.parametrize("algorithm", PRESETS)
def test_every_preset_is_valid(algorithm):
    assert load_task(overrides=[f"algorithm={algorithm}"]).algorithm == algorithm


def test_steps_in_a_file_replace_the_epochs_of_the_preset(tmp_path):
    task = load_task(written(tmp_path, "[local]\nsteps = 3\n"))
    assert (task.local.steps, task.local.epochs) == (3, None)


def test_another_kind_starts_from_its_own_defaults(tmp_path):
    task = load_task(written(tmp_path, TASK), overrides=["data.partition.kind=shards"])
    assert task.data.partition.model_dump() == {"kind": "shards", "shards_per_peer": 2}


def test_what_is_written_out_is_read_back_alike(tmp_path):
    import tomli_w

    task = load_task(written(tmp_path, TASK))
    again = load_task(written(tmp_path, tomli_w.dumps(task.as_sections())))
    assert again == task
    assert again.run_id() == task.run_id()


MISTAKES = [
    ("[locl]\nlr = 1\n", ":1: unknown section 'locl'; did you mean 'local'?"),
    ("[local]\n# comment\nlrr = 1\n", ":3: [local] unknown key 'lrr'; did you mean 'lr'?"),
    ("[local]\nlr = -1\n", ":2: [local] lr = -1: must be greater than 0"),
    ("[local]\nlr = '1'\n", ":2: [local] lr = '1': must be a valid number"),
    ("[local]\nlr = nan\n", ":2: [local] lr = nan: must be a finite number"),
    ("[local]\nepochs = true\n", ":2: [local] epochs = True: must be a valid integer"),
    ("[local]\nepochs = 1\nsteps = 1\n", "[local] 'epochs' and 'steps' exclude each other"),
    ("[model]\nname = 'cnn'\nhidden = [3]\n", "[model] 'hidden' belongs to the model 'mlp', not to 'cnn'"),
    (
        "[data]\npartition = { kind = 'dirichle' }\n",
        ":2: [data] partition: unknown kind 'dirichle'; did you mean 'diri",
    ),
    ("[data.partition]\nkind = 'dirichlet'\nalpha = 0\n", "partition: alpha = 0: must be greater than 0"),
    ("[merge]\nkind = 'avrage'\n", "unknown kind 'avrage'; did you mean 'average'?"),
    ("[merge]\n", "[merge] needs kind = one of: average"),
    (
        "[protocol]\nkind = 'rounds'\ngossip_stepz = 1\n",
        "unknown key 'gossip_stepz'; did you mean 'gossip_steps'?",
    ),
    ("algorithm = 'dfedsm'\n", ":1: unknown algorithm 'dfedsm'; did you mean 'dfedsam'?"),
    ("algorithm = 3\n", "unknown algorithm '3'"),
    ("seed = -1\n", ":1: seed = -1: must be greater than or equal to 0"),
    ("local = 3\n", ":1: 'local' must be a section: [local]"),
    ("[local\n", "not valid TOML"),
    ("\xff", None),
]


@pytest.mark.parametrize(("text", "sentence"), MISTAKES, ids=[repr(text) for text, _ in MISTAKES])
def test_a_mistake_is_one_sentence_that_says_where(tmp_path, text, sentence):
    path = tmp_path / "task.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingError) as caught:
        load_task(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    if sentence is not None:
        assert sentence in message


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("local.lr", "--set local.lr: must look like SECTION.KEY=VALUE"),
        ("local.lr=x", "--set local.lr=x: [local] lr = 'x': must be a valid number"),
        ("lokal.lr=1", "--set lokal.lr=1: unknown section 'lokal'; did you mean 'local'?"),
        ("=1", "must look like"),
    ],
)
def test_a_wrong_override_is_named(override, sentence):
    with pytest.raises(SettingError) as caught:
        load_task(overrides=[override])
    assert sentence in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SettingError, match="cannot be read: No such file"):
        load_task(tmp_path / "none.toml")


def test_peers_agree_where_only_paths_and_timings_differ_and_disagree_by_section():
    ours = load_task()
    alike = load_task(overrides=["data.source=/elsewhere/x.npz", "node.linger_s=1.0", "net.heartbeat_s=1.0"])
    assert ours.run_id() == alike.run_id()
    for override, section in [
        ("local.sam_rho=0.1", "local"),
        ("topology.kind=ring", "topology"),
        ("seed=1", "seed"),
        ("stop.rounds=9", "stop"),
        ("data.partition.kind=shards", "data.partition"),
        ("protocol.gossip_steps=2", "protocol"),
    ]:
        theirs = load_task(overrides=[override]).agreement()
        assert {name for name, digest in theirs.items() if ours.agreement()[name] != digest} == {section}
