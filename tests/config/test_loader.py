"""params.yaml: one loader for YAML's two dialects, presets, and errors that name the place."""

import copy
import json
import math
import re
import subprocess
import sys

import pytest

from pcb.config.checks import untrained_blocks, unused_models
from pcb.config.loader import (
    active_preset,
    load_cluster,
    load_files,
    load_params,
    load_preset,
    merge,
    parse_preset,
    plain,
)
from pcb.config.paths import PARAMS
from pcb.config.seeds import model_and_seed, seed_name
from pcb.errors import UserError
from pcb.order.schedule import num_tokens
from pcb.pipeline.tasks import Pipeline


@pytest.fixture(scope="module")
def params():
    return load_params()


def changed(params, path, value):
    """The params with presets.<path> set to a value."""
    tree = copy.deepcopy(params)
    node = tree["presets"]
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return tree


def test_every_preset_is_valid(params):
    for name in params["presets"]:
        preset = parse_preset(params, name)
        assert list(Pipeline(name, preset))


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("1e-05", 1e-5), ("1.0e-3", 1e-3), ("5", 5), (".5", 0.5), ("-2.", -2.0)],
)
def test_numbers_mean_the_same_in_both_yaml_dialects(tmp_path, text, value):
    path = tmp_path / "params.yaml"
    path.write_text(f"preset: x\npresets: {{x: {{number: {text}}}}}\n")
    number = load_params(path)["presets"]["x"]["number"]
    assert type(number) is type(value)
    assert math.isclose(number, value)


@pytest.mark.parametrize("word", ["off", "on", "yes", "no"])
def test_words_that_yaml_1_1_takes_for_booleans_stay_words(tmp_path, word):
    path = tmp_path / "params.yaml"
    path.write_text(f"preset: x\npresets: {{x: {{value: {word}}}}}\n")
    assert load_params(path)["presets"]["x"]["value"] == word


def test_a_key_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("preset: a\npreset: b\npresets: {}\n")
    with pytest.raises(UserError, match="'preset' stands twice"):
        load_params(path)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("models.ratio2.training", {"lr": 1}, r"models\.ratio2\.training: unknown key `lr`"),
        ("sampling.imagse", 1, r"sampling: unknown key `imagse`; did you mean `images`\?"),
        ("training.learning_rate", "fast", r"training\.learning_rate = 'fast': expected `float`"),
        ("models.ratio2.model.scale_ratio", 1, r"scale_ratio = 1: expected `float` > 1"),
        ("sweep", [{"models": ["ratio2"], "blocks": [0]}], r"sweep\[0\]\.blocks\[0\] = 0"),
        ("sweep", [{"models": ["ratio2"], "total_steps": [3]}], "3 steps are impossible"),
        ("sweep", [{"models": ["ratio9"], "blocks": [1]}], "no model 'ratio9'; there are ratio2"),
        ("sweep", [{"models": ["ratio2"]}], "a sweep needs `blocks` or `total_steps`"),
        ("data.kind", "cats", r"data\.kind = 'cats': invalid value"),
        ("data.image_size", 33, "expected a multiple of the tokenizer's stride 4"),
        ("model.heads", 5, "even multiple of the number of heads 5"),
        ("seeds", 0, r"models\.ratio2\.seeds = 0: expected `int` >= 1"),
        ("models.ratio2.seeds", 0, r"models\.ratio2\.seeds = 0: expected `int` >= 1"),
        ("models.ratio2.seeds", "many", r"models\.ratio2\.seeds = 'many': expected `int . null`"),
        ("model.order", "spiral", r"\.model\.order = 'spiral': there are checkerboard, raster, "),
        ("data", {"kind": "photographs", "tile": 100}, "tile 100 must be a multiple of shrink 3"),
        ("data", {"kind": "photographs", "tile": 90}, "by 3, has no room for a crop of 32"),
        ("models", {}, "expected at least one named model"),
        (
            "likelihood.images",
            451,
            r"likelihood\.images = 451: there are 450 held-out digits; more",
        ),
        ("sampling.images", 100, r"metrics: 100 images are too few for kid_subset_size 500"),
        ("sampling.images", 2001, r"metrics: 2001 images cannot be cut into 10 equal splits"),
        ("data.reference_images", 3, r"metrics: 3 reference images are too few"),
        ("metrics.extractor", "inception", "`classifier` as extractor goes with settings under"),
        (
            "models.ratio2",
            {"released": "x", "training": {"epochs": 1}},
            "a model needs either `training` or `released`",
        ),
        ("tokenizer.source", "requantize", "source `train` goes with `training`, and only it"),
        ("files", {"folder": "x"}, "the same for all presets; put it beside `presets`"),
    ],
)
def test_a_wrong_setting_names_its_path_and_what_was_expected(params, path, value, message):
    with pytest.raises(UserError, match=message) as raised:
        parse_preset(changed(params, ("mini", *path.split(".")), value), "mini")
    assert str(raised.value).startswith("params.yaml: presets.mini.")
    assert "\n" not in str(raised.value)


def test_presets_inherit_and_null_removes(params):
    tree = copy.deepcopy(params)
    tree["presets"]["small"] = {"extends": "smoke", "sampling": {"images": 48}}
    small = parse_preset(tree, "small")
    assert small.sampling.images == 48
    assert "ratio3" not in small.models
    tree["presets"]["smoke"]["extends"] = "small"
    with pytest.raises(UserError, match="extend in a circle"):
        parse_preset(tree, "small")


def test_an_unknown_preset_names_the_others():
    with pytest.raises(UserError, match="no preset 'huge'; there are mini"):
        load_preset("huge")


def test_the_environment_picks_the_preset(params, monkeypatch):
    monkeypatch.delenv("PCB_PRESET", raising=False)
    assert active_preset(params) == "mini"
    monkeypatch.setenv("PCB_PRESET", "smoke")
    assert active_preset(params) == "smoke"


def tasks_of(params, name):
    return {
        task.name for task in Pipeline(name, parse_preset(params, name)) if task.stage[0] != "s"
    }


def test_tasks_exist_only_where_something_reads_them(params):
    weights = {f"train/checkerboard-l-{ratio}x" for ratio in (2, 4)}
    found = {name for name in tasks_of(params, "paper-pretrained") if "metrics" not in name}
    assert found == {"tokenizer", "reference", *weights, "report"}
    params = changed(params, ("paper-smoke", "likelihood"), None)
    tree = changed(params, ("paper-smoke", "tokens", "source"), "images")
    cached, direct = tasks_of(params, "paper-smoke"), tasks_of(tree, "paper-smoke")
    assert cached - direct == {"tokens"} and direct < cached
    train = Pipeline("paper-smoke", parse_preset(tree, "paper-smoke")).task("train", "s-2x")
    assert [read.task.stage for read in train.inputs] == ["data", "tokenizer"]


def test_the_papers_scales_are_those_of_its_token_cache(params):
    sizes = parse_preset(params, "paper").all_sizes
    assert sizes == (1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 13, 16)
    assert num_tokens(sizes) == 850


def test_where_files_lie_is_this_machines_and_enters_no_key(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(PARAMS.read_text())
    before = Pipeline("paper", load_preset("paper", path))
    local = "files: {imagenet: /data/train, own: {llamagen: b}}\n"
    (tmp_path / "params.local.yaml").write_text(local)
    after = Pipeline("paper", load_preset("paper", path))
    assert after.preset.files.imagenet == "/data/train"
    assert after.preset.files.folder == before.preset.files.folder == "external"
    assert [task.key for task in before] == [task.key for task in after]
    (tmp_path / "params.local.yaml").write_text("files: {imagnet: /data}\n")
    with pytest.raises(UserError, match=r"files: unknown key `imagnet`; did you mean `imagenet`"):
        load_preset("paper", path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"models": {"checkerboard-l-2x": {"released": "autoenc"}}},
            r"checkerboard-l-2x\.released = 'autoenc': there are checkerboard-L-2x, ",
        ),
        (
            {"tokenizer": {"source": "requantize", "requantization": {}}},
            r"tokenizer\.source = 'requantize': checkerboard-l-2x has released weights",
        ),
    ],
)
def test_released_weights_go_with_the_released_tokenizer(change, message):
    params = load_params(PARAMS)
    presets = params["presets"]
    presets["paper-pretrained"] = merge(presets["paper-pretrained"], change)
    with pytest.raises(UserError, match=message):
        parse_preset(params, "paper-pretrained")


def test_released_model_does_not_take_over_the_training_of_others():
    params = load_params(PARAMS)
    preset = params["presets"]["paper-pretrained"]
    preset["training"] = {"epochs": 1}
    preset["models"]["own"] = {}
    models = parse_preset(params, "paper-pretrained").models
    assert models["own"].training is not None
    assert models["checkerboard-l-2x"].training is None


def written(tmp_path, text, local=None):
    """A params.yaml of this text, or of one preset without settings, and a local one beside it."""
    path = tmp_path / "params.yaml"
    path.write_text(text or "preset: x\npresets: {x: {}}\n")
    if local is not None:
        (tmp_path / "params.local.yaml").write_text(local)
    return path


@pytest.mark.parametrize(
    "name",
    ["Ratio2", "a/b", "../up", "..", ".hidden", "-x", "a b", "a\n", "", "all", "é", "x" * 101],
)
def test_names_are_checked_when_the_file_is_read(params, tmp_path, name):
    tree = changed(params, ("mini", "models", name), {"model": {"scale_ratio": 2}})
    with pytest.raises(UserError, match=r"presets\.mini\.models: .* cannot be a name, which has"):
        parse_preset(tree, "mini")
    path = written(tmp_path, f"preset: x\npresets: {{x: {{}}, {json.dumps(name)}: {{}}}}\n")
    with pytest.raises(UserError, match=r"presets: .* cannot be a name, which has"):
        load_params(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("preset: [x]\npresets: {x: {}}", r"preset = \['x'\]: expected the name of a preset"),
        ("preset: x\npresets: [x]", "expected a mapping with `preset` and `presets`"),
        ("preset: x\npresets: {x: [1]}", r"presets\.x = \[1\]: expected a mapping"),
        ("preset: x\npresets: {x: null}", r"presets\.x = None: expected a mapping"),
        ("preset: x\npresets: {x: {extends: [y]}}", r"no preset \['y'\]; there are x"),
        ("preset: x\npresets: {x: {models: [a]}}", r"models: expected at least one named model"),
        ("preset: x\npresets: {x: {models: {a: [1]}}}", r"models\.a = \[1\]: expected a mapping"),
        (
            "preset: x\npresets: {x: {model: [1], models: {a: {model: {}}}}}",
            r"presets\.x\.model = \[1\]: expected a mapping",
        ),
        ("preset: x\npresets: {x: {}}\ncluster: [1]", r"cluster = \[1\]: expected a mapping"),
        ("preset: x\npresets: {x: {}}\nfiles: text", r"files = 'text': expected a mapping"),
        ("# nothing", "expected a mapping with `preset` and `presets`"),
    ],
)
def test_lists_where_mappings_belong_are_one_line(tmp_path, text, message):
    path = written(tmp_path, text)
    with pytest.raises(UserError, match=message) as raised:
        load_preset("x", path)
    assert str(raised.value).startswith(str(path)) and "\n" not in str(raised.value)


@pytest.mark.parametrize("local", ["", "# mine\n", "cluster:\n", "files: {imagenet: null}\n"])
def test_a_local_file_may_say_nothing(tmp_path, local):
    assert load_files(written(tmp_path, "", local)).imagenet is None


@pytest.mark.parametrize(
    ("local", "message"),
    [
        ("preset: x", "unknown key 'preset'; expected `cluster` and `files` alone"),
        ("[1]", "expected `cluster` and `files` alone"),
        ("cluster: [1]", r"cluster = \[1\]: expected a mapping"),
        (
            "cluster: {stages: {data: {cpus: 2}, train: {gpus: -1}}}",
            r"cluster\.stages\.train\.gpus = -1: expected `int` >= 0",
        ),
        (
            "cluster: {stages: {trian: {gpus: 1}}}",
            r"cluster\.stages: unknown key `trian`; did you mean `train`\?",
        ),
        (
            "cluster: {stages: {train: {gpu: 1}}}",
            r"cluster\.stages\.train: unknown key `gpu`; did you mean `gpus`\?",
        ),
        ("cluster: {sbatch: {a: 1, b: [2]}}", r"cluster\.sbatch\.b = \[2\]: expected"),
        ("files: {own: {x: y}}", r"files\.own: no file 'x' is known"),
        ("cluster: {partition: 010}", 'line 1: 010 means different things .* "010" for a word'),
    ],
)
def test_errors_of_the_local_file_name_it_and_the_stage(tmp_path, local, message):
    path = written(tmp_path, "", local)
    with pytest.raises(UserError, match=message) as raised:
        load_preset("x", path)
    assert str(raised.value).startswith(str(tmp_path / "params.local.yaml"))


def test_what_is_wrong_only_together_names_both_files(tmp_path):
    text = "preset: x\npresets: {x: {}}\ncluster: {stages: {sample: {chunk: 2}}}\n"
    path = written(tmp_path, text, "cluster: {stages: {sample: {array: 2}}}\n")
    with pytest.raises(UserError, match=r"params\.yaml with .*params\.local\.yaml: cluster.*array"):
        load_cluster(path)


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("4", 4), ("0.5", 0.5), ("4:00", 4), ("0:30", 0.5), ("24:00:00", 24), ("'1:30'", 1.5),
        ("1-12:00:00", 36), ("0:00:36", 0.01),
    ],
)  # fmt: skip
def test_a_time_limit_is_hours_or_hours_and_minutes(tmp_path, text, hours):
    path = written(tmp_path, "", f"cluster: {{stages: {{train: {{hours: {text}}}}}}}\n")
    assert load_cluster(path).resources("train").hours == pytest.approx(hours)


@pytest.mark.parametrize("text", ["4:60", "4h", "1:2:3:4", "-1", "0:00", "1e999", ".inf"])
def test_a_time_limit_of_another_form_is_refused(tmp_path, text):
    path = written(tmp_path, "", f"cluster: {{stages: {{train: {{hours: {text}}}}}}}\n")
    with pytest.raises(UserError, match=r"local\.yaml(: cluster.*hours = |, line 1: 1e999)"):
        load_cluster(path)


def test_merge_leaves_its_arguments_alone():
    base = {"a": {"b": 1, "c": 2}}
    assert merge(base, {"a": {"b": 3}}) == {"a": {"b": 3, "c": 2}}
    assert base == {"a": {"b": 1, "c": 2}}


def test_changing_one_models_learning_rate_changes_only_its_keys(params):
    before = Pipeline("mini", parse_preset(params, "mini"))
    path = ("mini", "models", "ratio3", "training")
    after = Pipeline("mini", parse_preset(changed(params, path, {"learning_rate": 1e-5}), "mini"))
    stale = {task.name for task in before if task.key != after.task(task.stage, task.variant).key}
    assert stale == {
        task.name for task in before if "ratio3" in task.variant or task.stage == "report"
    }


def test_blocks_that_training_never_draws_are_said_once(params):
    """64 tokens in 14 blocks: 16 of 4 or 13 of 5 are the nearest numbers."""
    asked = {
        name: [said.split(":")[0] for said in untrained_blocks(parse_preset(params, name))]
        for name in params["presets"]
    }
    # Only where their sizes are given, to be compared with.
    by_hand = ["ratio2/k1-4-4x3.2x2-4x11.2x10", "ratio4/k1-4-4x6.8x5"]
    assert {name: found for name, found in asked.items() if found} == {
        "mini-seeds": by_hand,
        "mini-photos": by_hand,
    }
    tree = changed(params, ("mini", "sweep"), [
        {"models": ["ratio2", "ratio4"], "blocks": [4], "total_steps": [17]},
        {"models": ["ratio2"], "blocks": [[1, 4, 4, 14]], "cfg": [0, 1.5]},
    ])  # fmt: skip
    tree["presets"]["mini"]["seeds"] = 2
    (said,) = untrained_blocks(parse_preset(tree, "mini"))
    assert re.fullmatch(r"ratio2/k1-4-4-14: scale 8x8: blocks of sizes that .* without .*", said)


def test_seeds_are_models_of_their_own_and_the_first_keeps_its_key(params):
    before = Pipeline("mini", parse_preset(params, "mini"))
    after = Pipeline(
        "mini", parse_preset(changed(params, ("mini", "models", "ratio2", "seeds"), 3), "mini")
    )
    assert list(after.preset.models) == [
        *("ratio2", "ratio2.seed1", "ratio2.seed2"),
        *(name for name in before.preset.models if name != "ratio2"),
    ]
    seeds = [after.preset.models[seed_name("ratio2", seed)].training.seed for seed in range(3)]
    assert seeds == [0, 1, 2]
    assert {task.name for task in before} < {task.name for task in after}
    assert {t.name for t in before if t.key != after.task(t.stage, t.variant).key} == {"report"}
    for stage in ("train", "sample", "metrics"):
        tasks = [after.task(stage, variant) for variant in after.variants(stage)]
        own = [task for task in tasks if model_and_seed(task.model)[0] == "ratio2"]
        assert len(own) % 3 == 0
        assert len({task.key for task in own}) == len(own)
        assert {model_and_seed(task.model) for task in own} == {("ratio2", k) for k in range(3)}
    assert after.preset.sampling_configs("ratio2.seed2") == before.preset.sampling_configs("ratio2")
    assert not unused_models(after.preset)


def test_seeds_of_a_preset_are_those_of_its_models(params):
    tree = changed(params, ("mini", "seeds"), 2)
    tree["presets"]["mini"]["models"]["ratio3"]["seeds"] = 1
    models = parse_preset(tree, "mini").models
    assert {"ratio2.seed1", "ratio4.seed1"} < set(models)
    assert "ratio3.seed1" not in models
    tree = changed(params, ("mini", "models", "ratio2.seed1"), {})
    with pytest.raises(UserError, match=r"'ratio2\.seed1' is named like another training; set `s"):
        parse_preset(tree, "mini")
    tree = changed(params, ("paper-pretrained", "seeds"), 2)
    assert len(parse_preset(tree, "paper-pretrained").models) == 2
    tree = changed(params, ("paper-pretrained", "models", "checkerboard-l-2x", "seeds"), 2)
    with pytest.raises(UserError, match=r"2x\.seeds: released weights have no training to repeat"):
        parse_preset(tree, "paper-pretrained")


def test_the_papers_order_enters_no_key(params):
    """Models keep the keys that they had before there was another order."""
    before = Pipeline("mini", parse_preset(params, "mini"))
    assert set(before.task("train", "ratio2").settings["model"]) == {
        *("scale_ratio", "min_size", "width", "layers", "heads", "hidden"),
        *("mixing_layers", "head_mlp", "init"),
    }
    for order, changes in (("checkerboard", False), ("raster", True)):
        tree = changed(params, ("mini", "models", "ratio2", "model", "order"), order)
        after = Pipeline("mini", parse_preset(tree, "mini"))
        stale = {t.name for t in before if t.key != after.task(t.stage, t.variant).key}
        assert stale == {
            task.name
            for task in before
            if changes and (task.model == "ratio2" or task.stage == "report")
        }


def test_a_new_ratio_leaves_the_others_current(params):
    before = Pipeline("mini", parse_preset(params, "mini"))
    tree = changed(params, ("mini", "models", "ratio1.5"), {"model": {"scale_ratio": 1.5}})
    after = Pipeline("mini", parse_preset(tree, "mini"))
    assert after.preset.all_sizes == (1, 2, 3, 4, 5, 8)
    stale = {task.name for task in before if task.key != after.task(task.stage, task.variant).key}
    # The token cache grows by a partition; what was trained on the others stays.
    assert stale == {"tokens", "report"}
    assert set(before.task("tokens").partitions) < set(after.task("tokens").partitions)


def test_speed_settings_enter_no_key(params):
    before = Pipeline("mini", parse_preset(params, "mini"))
    tree = changed(params, ("mini", "compute"), {"threads": 7, "sampling_batch": 3})
    after = Pipeline("mini", parse_preset(tree, "mini"))
    assert [task.key for task in before] == [task.key for task in after]


def test_the_effective_settings_are_plain_data(params):
    settings = plain(parse_preset(params, "smoke"))
    assert settings["models"]["ratio2"]["training"]["ema"] == 0.995


def test_what_a_snakefile_imports_loads_neither_torch_nor_numpy():
    code = (
        "import sys, pcb.pipeline.tasks, pcb.config.loader;"
        "print({'torch', 'numpy'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"
