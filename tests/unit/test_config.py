"""Settings files: every mistake is one sentence with file, line, key, value and what would be valid."""

from __future__ import annotations

from pathlib import Path

import pytest

from gossip.config import PRESETS, TaskSettings, load_task
from gossip.config.graphs import build_topology
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


def test_an_empty_override_unsets_a_key_of_the_file_and_of_the_preset(tmp_path):
    path = written(tmp_path, TASK)
    assert load_task(path, overrides=["model.hidden="]).model.hidden is None
    assert load_task(path, overrides=["local.epochs="]).local.epochs is None
    assert load_task(path, overrides=["data.partition.alpha= "]).data.partition.model_dump()["alpha"] != 0.3
    assert load_task(path, overrides=["data.partition="]).data.partition.kind == "iid"
    assert load_task(path, overrides=["model.hidden=", "model.hidden=[9]"]).model.hidden == (9,)
    assert load_task(path, overrides=["local.momentum="]) == load_task(path)  # not set, which is no mistake


@pytest.mark.parametrize("override", ["model.hiden=", "data.partition.alfa=", "modl="])
def test_an_unknown_key_cannot_be_unset(tmp_path, override):
    with pytest.raises(SettingError) as caught:
        load_task(written(tmp_path, TASK), overrides=[override])
    assert str(caught.value).startswith(f"--set {override}: unknown key '{override.removesuffix('=')}'")


@pytest.mark.parametrize(
    ("section", "override", "gone"),
    [
        ("[model]\nname = 'mlp'\nhidden = [32]\n", "model.name=cnn", "model.hidden = [32]"),
        (
            "[model]\nname = 'python:net.py:make'\n[model.arguments]\nwidth = 3\n",
            "model.name=cnn",
            "model.arguments = {'width': 3}",
        ),
        (
            "[model]\nextractor = 'random-features'\nfeatures = 40\n",
            "model.extractor=x.safetensors",
            "model.features = 40",
        ),
        (
            "[data]\nsource = 'python:d.py:load'\narguments = { fold = 1 }\n",
            "data.source=digits",
            "data.arguments = {'fold': 1}",
        ),
        ("[merge]\nkind = 'krum'\nf = 1\n", "merge.kind=median", "merge.f = 1"),
    ],
)
def test_another_choice_drops_what_only_the_old_one_takes_and_says_so(tmp_path, section, override, gone):
    path = written(tmp_path, section)
    assert not load_task(path).notes
    chosen = load_task(path, overrides=[override])
    (note,) = chosen.notes
    assert note.startswith(f"--set {override} drops {gone}")


def test_an_average_of_what_neighbours_push_is_accepted_with_a_word_of_caution():
    (note,) = load_task(overrides=["algorithm=gossip-learning"]).notes
    assert "one neighbour that lies can ruin the model" in note
    robust = ["merge.kind=nnm+trimmed-mean", "merge.f=1", "protocol.memory=10"]
    assert not load_task(overrides=["algorithm=gossip-learning", *robust]).notes
    assert not load_task(overrides=["algorithm=d-psgd"]).notes


@pytest.mark.parametrize("variant", ["random-walk", "update-merge"])
def test_models_that_walk_are_accepted_with_a_word_of_caution_and_go_with_no_rule_that_would_bear_a_liar(
    variant,
):
    walks = ["algorithm=gossip-learning", f"protocol.variant={variant}"]
    task = load_task(overrides=walks)
    build_topology(task, names=["p0", "p1", "p2", "p3"])
    (note,) = task.notes
    assert f"variant = '{variant}': the model of the neighbour that pushed last is taken over" in note
    for choice in (["merge.kind=nnm+trimmed-mean", "merge.f=1"], ["merge.kind=median"], ["merge.kind=ubar"]):
        with pytest.raises(SettingError, match=rf"\[merge\] kind = .*{variant}.* variant = 'merge-update'"):
            build_topology(load_task(overrides=[*walks, *choice]), names=["p0", "p1", "p2", "p3"])
    with pytest.raises(SettingError, match=r"keep_momentum = true means nothing .* valid: false"):
        build_topology(
            load_task(overrides=[*walks, "local.momentum=0.9", "local.keep_momentum=true"]),
            names=["p0", "p1"],
        )


def test_a_random_walk_asks_no_rule_and_update_merge_any_average():
    corrected = ["algorithm=gossip-learning-vc", "protocol.variant="]
    build_topology(load_task(overrides=[corrected[0], corrected[1] + "update-merge"]), names=["p0", "p1"])
    with pytest.raises(
        SettingError, match="kind = 'variance-corrected' would never be asked with variant = 'random-walk'"
    ):
        build_topology(load_task(overrides=[corrected[0], corrected[1] + "random-walk"]), names=["p0", "p1"])


def test_peers_of_the_usual_variant_agree_with_those_that_know_no_other():
    usual, walk = (
        load_task(overrides=["algorithm=gossip-learning", f"protocol.variant={variant}"])
        for variant in ("merge-update", "random-walk")
    )
    assert usual.run_id() == load_task(overrides=["algorithm=gossip-learning"]).run_id()
    assert usual.agreement()["protocol"] == "8c6fc43cd1244228", "as before there were variants"
    differing = {name for name, digest in walk.agreement().items() if usual.agreement()[name] != digest}
    assert differing == {"protocol"}


@pytest.mark.parametrize(
    ("peers", "options", "borne"),
    [(3, [], 0), (6, ["sample_size=2"], 0), (5, ["liars=2"], 1), (4, [], None), (3, ["liars=0"], None)],
)
def test_too_few_peers_to_bear_the_liars_that_are_asked_for_are_accepted_with_a_word_of_caution(
    peers, options, borne
):
    task = load_task(overrides=["algorithm=modest", *(f"protocol.{option}" for option in options)])
    build_topology(task, names=[f"p{number}" for number in range(peers)])
    said = [note for note in task.notes if f"bear {borne}, and" in note]
    assert len(said) == len(task.notes) == (borne is not None)
    fedavg = load_task(overrides=["algorithm=fedavg"])
    build_topology(fedavg, names=["p0", "p1", "p2"])
    assert not fedavg.notes


def test_what_is_written_with_a_choice_stays_and_what_a_preset_said_is_no_news(tmp_path):
    path = written(tmp_path, TASK)
    assert load_task(path, overrides=["model.name=mlp", "model.hidden=[5]"]).model.hidden == (5,)
    assert not load_task(overrides=["algorithm=bristle", "merge.kind=average"]).notes
    with pytest.raises(SettingError, match="'hidden' belongs to the model 'mlp'"):
        load_task(path, overrides=["model.name=cnn", "model.hidden=[5]"])


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
    *(
        (
            f"[protocol]\nkind = '{kind}'\norder = 'combine-then-adapt'\n",
            "[protocol] order = 'combine-then-adapt' belongs to kind = 'rounds', where every peer mixes its model "
            f"with its neighbours' in each round; '{kind}' has no such choice",
        )
        for kind in ("modest", "push", "fedavg")
    ),
    ("[protocol]\nkind = 'modest'\norder = 'x'\n", "unknown key 'order'"),
    (
        "algorithm = 'local'\n[protocol]\norder = 'combine-then-adapt'\n",
        "[protocol] order = 'combine-then-adapt' means nothing with gossip_steps = 0, which combines nothing",
    ),
    (
        "[protocol]\nkind = 'rounds'\norder = 'atc'\n",
        "order = 'atc': must be 'adapt-then-combine' or 'combine-then-adapt'",
    ),
    ("[final]\nsteps = 'foo'\n", ":2: [final] steps = 'foo': must be 'period' or a valid integer"),
    ("[final]\nsteps = -1\n", ":2: [final] steps = -1: must be 'period' or greater than or equal to 0"),
    ("algorithm = 'dfedsm'\n", ":1: unknown algorithm 'dfedsm'; did you mean 'dfedsam'?"),
    ("algorithm = 3\n", "unknown algorithm '3'"),
    ("seed = -1\n", ":1: seed = -1: must be greater than or equal to 0"),
    ("local = 3\n", ":1: 'local' must be a section: [local]"),
    ("[local\n", "not valid TOML"),
    ("[model]\nname = mlp  # small\n", '(at line 2, column 8); text stands in quotes: name = "mlp"'),
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
    ours = load_task(overrides=["data.source=x.npz"])
    alike = load_task(overrides=["data.source=/elsewhere/x.npz", "node.linger_s=1.0", "net.heartbeat_s=1.0"])
    assert ours.run_id() == alike.run_id()
    ours = load_task()
    assert load_task(overrides=["protocol.order=adapt-then-combine"]).run_id() == ours.run_id()
    assert "order" not in ours.protocol.compared(), "peers that do not know it do the same"
    for override, section in [
        ("local.sam_rho=0.1", "local"),
        ("topology.kind=ring", "topology"),
        ("topology.communities=3", "topology"),
        ("seed=1", "seed"),
        ("stop.rounds=9", "stop"),
        ("data.partition.kind=shards", "data.partition"),
        ("protocol.gossip_steps=2", "protocol"),
        ("protocol.order=combine-then-adapt", "protocol"),
    ]:
        theirs = load_task(overrides=[override]).agreement()
        assert {name for name, digest in theirs.items() if ours.agreement()[name] != digest} == {section}


@pytest.mark.parametrize("source", ["mine.npz", "python:mine.py:load"])
def test_a_machines_own_data_is_not_divided_unless_that_is_wanted(tmp_path: Path, source: str) -> None:
    task = tmp_path / "task.toml"
    task.write_text(f'[data]\nsource = "{source}"\n')
    divided = 'data.partition={kind="iid"}'
    assert load_task(task).data.partition.kind == "own"
    assert load_task(task, overrides=[divided]).data.partition.kind == "iid"
    assert load_task(task, arguments={"data": {"source": "digits"}}).data.partition.kind == "iid"
    assert load_task(arguments={"data": {"source": source}}).data.partition.kind == "own"
    assert load_task().data.partition.kind == "iid"


def test_another_schedule_takes_away_what_belongs_to_the_presets(tmp_path: Path) -> None:
    task = tmp_path / "task.toml"
    task.write_text('algorithm = "dfedsam-mgs"\n[local]\nschedule = "cosine"\nlr_final = 0.1\n')
    local = load_task(task).local
    assert (local.schedule, local.lr_decay, local.lr_final) == ("cosine", 1.0, 0.1)
    with pytest.raises(SettingError, match=r"lr_decay = 0\.9 belongs to schedule"):
        load_task(task, overrides=["local.lr_decay=0.9"])


def test_a_radius_of_standard_sam_for_the_adaptive_one_is_told_and_a_usual_one_is_not() -> None:
    def notes(rho: float) -> str:
        local = {"sam": "adaptive", "sam_rho": rho}
        return " ".join(TaskSettings.model_validate({"local": local}).notes)

    assert "sam_rho = 0.2 with sam = 'adaptive'" in notes(0.2)
    assert "adaptive" not in notes(0.5)


@pytest.mark.parametrize(
    ("own", "exact", "told"), [("coded", False, True), ("coded", True, False), ("exact", False, False)]
)
def test_final_steps_that_round_the_own_model_too_are_told(own: str, exact: bool, told: bool) -> None:
    task = {"codec": {"kind": "int4", "own": own}, "final": {"steps": "period", "exact": exact}}
    notes = TaskSettings.model_validate(task).notes
    assert any("[final] exact = false with [codec] kind = 'int4'" in note for note in notes) == told


def test_a_table_without_a_kind_is_told_what_it_has_instead(tmp_path: Path) -> None:
    task = tmp_path / "task.toml"
    task.write_text('[merge]\nkidn = "median"\n')
    with pytest.raises(SettingError, match=r"needs kind = one of: .*, and has 'kidn'"):
        load_task(task)
