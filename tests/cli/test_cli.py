import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pcb.cli.main import build_parser, main
from pcb.config.stages import STAGES
from pcb.external.catalog import CATALOG
from pcb.order.names import ORDER_NAMES
from pcb.preflight.doctor import examine
from tests.clock import cpu_seconds
from tests.tasks import ROOT, make_all, pipeline_of

VERBS = [
    *STAGES,
    "order",
    "schedule",
    "doctor",
    "parity",
    "fetch",
    "import",
    "evaluate",
    "verify-metrics",
]


@pytest.fixture
def project(folder: Path) -> Path:
    """Return a working directory with the project's params.yaml."""
    shutil.copy(ROOT / "params.yaml", folder)
    return folder


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that a user got wrong; return the one line that it prints."""
    try:
        status = main(arguments)
    except SystemExit as stop:  # argparse's way
        assert isinstance(stop.code, int)
        status = stop.code
    assert status in (1, 2)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("pcb: ")
    return lines[0]


def edit_params(project: Path, old: str, new: str) -> None:
    path = project / "params.yaml"
    text = path.read_text()
    assert text.count(old) >= 1, f"params.yaml has no {old!r}"
    path.write_text(text.replace(old, new, 1))


# ---- help ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb_has_an_example_that_parses(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([verb, "--help"])
    _, _, examples = capsys.readouterr().out.partition("example:\n")
    commands = [shlex.split(line) for line in examples.splitlines() if line.strip()]
    assert commands
    for command in commands:
        assert command[:2] == ["pcb", verb]
        assert build_parser().parse_args(command[1:]).run


def test_help_is_quick_and_loads_neither_torch_nor_numpy() -> None:
    code = (
        "import sys; from pcb.cli.main import build_parser; build_parser().format_help();"
        "assert not {'torch', 'numpy', 'matplotlib', 'snakemake'} & set(sys.modules)"
    )
    before = cpu_seconds()
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    assert cpu_seconds() - before < 2


# ---- order and schedule -------------------------------------------------------------------------


def test_order_prints_the_ranks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["order", "4"]) == 0
    assert capsys.readouterr().out == " 0  8  2 10\n12  4 14  6\n 3 11  1  9\n15  7 13  5\n"


@pytest.mark.parametrize(
    ("name", "first_row"),
    [
        ("raster", " 0  1  2  3"),
        ("regions", " 0  4  1  5"),
        ("diagonals", " 0  1  3  6"),
        ("halton", "10  3 13  7"),
        ("random", None),
        ("locality", None),
    ],
)
def test_orders_have_names(
    name: str, first_row: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["order", "4", "--order", name]) == 0
    out = capsys.readouterr().out
    assert sorted(map(int, out.split())) == list(range(16))
    assert first_row is None or out.splitlines()[0] == first_row
    assert "is none of checkerboard, raster" in error_of(capsys, "order", "4", "--order", "odd")
    assert main(["order", "5", "--order", name]) == 0
    assert sorted(map(int, capsys.readouterr().out.split())) == list(range(25))


def test_order_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "order.png"
    assert main(["order", "8", "--png", str(picture)]) == 0
    checkerboard = picture.read_bytes()
    assert checkerboard.startswith(b"\x89PNG")
    assert main(["order", "8", "--order", "diagonals", "--png", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.read_bytes() != checkerboard
    capsys.readouterr()
    assert main(["order", "3", "--order", "all", "--png", str(picture)]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.endswith(":")] == [
        f"{name}:" for name in ORDER_NAMES
    ]
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "last"),
    [
        ("--ratio 2 --blocks 4", "5 scales, 341 tokens, 17 steps"),
        ("--ratio 4 --blocks 8", "3 scales, 273 tokens, 17 steps"),
        ("--ratio 3 --total-steps 17", "4 scales, 286 tokens, 17 steps"),
        ("--ratio 2 --blocks 1,4,4,4,4", "5 scales, 341 tokens, 17 steps"),
        ("--ratio single --blocks 16", "1 scale, 256 tokens, 16 steps"),
        ("--ratio 3 --total-steps 13 --final 8", "3 scales, 74 tokens, 13 steps"),
    ],
)
def test_schedule_prints_scales_blocks_and_steps(
    arguments: str, last: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["schedule", *arguments.split()]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == last


def test_schedule_is_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    main(["schedule", "--ratio", "2", "--total-steps", "5", "--final", "4"])
    assert capsys.readouterr().out.splitlines() == [
        "scale    tokens  blocks  known as   sizes of the blocks",
        "1x1           1       1  aligned    1 x 1",
        "2x2           4       2  aligned    2 x 2",
        "4x4          16       2  aligned    2 x 8",
        "3 scales, 21 tokens, 5 steps",
    ]


def test_schedule_warns_of_untrained_blocks(capsys: pytest.CaptureFixture[str]) -> None:
    main(["schedule", "--ratio", "4", "--total-steps", "29", "--final", "8"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2] == "3 scales, 69 tokens, 29 steps"
    assert lines[-1].startswith("scale 8x8: blocks of sizes that training never draws")
    assert lines[-1].endswith("27 and 34 steps")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("order 0", "at least one cell"),
        ("order x", "argument N: invalid int value: 'x'.*see `pcb order --help`"),
        ("order 4 --png /dev/null/order.png", "/dev/null"),
        ("schedule --ratio 1 --blocks 4", "must be greater than 1, got 1.0"),
        ("schedule --ratio 0.5 --blocks 4", "must be greater than 1, got 0.5"),
        ("schedule --ratio nan --blocks 4", "must be greater than 1, got nan"),
        ("schedule --ratio two --blocks 4", "'two' is neither a number nor `single`"),
        ("schedule --ratio 2 --blocks 0", "at least 1, got 0"),
        ("schedule --ratio 2 --blocks 1,2", "2 entries for 5 scales"),
        ("schedule --ratio 2 --blocks 1,5,4,4,4", "4 tokens cannot be cut into 5 blocks"),
        ("schedule --ratio 2 --blocks a", "'a' is neither K nor a list"),
        ("schedule --ratio 2 --total-steps 4", "4 steps are impossible.*from 5 .* to 341"),
        ("schedule --ratio 2 --total-steps 342", "342 steps are impossible"),
        ("schedule --ratio 2 --final 0 --blocks 1", "min size 1"),
        ("schedule --ratio 2", "--blocks --total-steps is required"),
        ("schedule --ratio 2 --blocks 1 --total-steps 9", "not allowed with"),
        ("tain ratio2", "invalid choice: 'tain'"),
    ],
)
def test_wrong_arguments_are_one_line(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert re.search(message, error_of(capsys, *arguments.split()))


# ---- wrong settings -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("image_size: 32", "image_sise: 32", r"data: unknown key `image_sise`.*`image_size`"),
        ("renderings: 16", "renderings: many", r"data\.renderings = 'many': expected `int`"),
        ("{scale_ratio: 2}", "{scale_ratio: 1}", r"ratio2\.model\.scale_ratio = 1"),
        ("blocks: [1]", "blocks: [0]", r"sweep\[0\]\.blocks\[0\] = 0"),
        ("[13, 17, 37]", "[9, 1300]", r"sweep\[0\].* 1300 steps are impossible"),
        ("[13, 17, 37]", "[2]", r"sweep\[0\].* 2 steps are impossible"),
        ("preset: mini", "preset: [", r"not YAML"),
        ("preset: mini", "preset: maxi", r"no preset 'maxi'; there are mini, smoke"),
    ],
)
def test_wrong_setting_is_one_line(
    project: Path, old: str, new: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_params(project, old, new)
    line = error_of(capsys, "data")
    assert "params.yaml" in line
    assert re.search(message, line)


def test_no_params_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "params.yaml: no such file" in error_of(capsys, "data")


def test_unknown_variant_lists_those_that_there_are(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = error_of(capsys, "train", "ratio9", "--preset", "smoke")
    assert line == "pcb: preset smoke has no train 'ratio9'; there are: ratio2, ratio4"
    assert "ratio2/t17" in error_of(capsys, "sample", "ratio2", "--preset", "smoke")


# ---- making results -----------------------------------------------------------------------------


def test_complete_task_is_found_without_loading_torch(project: Path) -> None:
    make_all(pipeline_of())
    before = cpu_seconds()
    command = [sys.executable, "-X", "importtime", "-m", "pcb", "train", "ratio2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PCB_PRESET": "smoke"}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0
    assert "train/ratio2: already complete" in done.stdout
    assert not re.search(r"\| +(torch|numpy)$", done.stderr, flags=re.MULTILINE)
    assert cpu_seconds() - before < 2


def test_missing_upstream_is_one_line(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = error_of(capsys, "train", "ratio2", "--preset", "smoke")
    assert "train/ratio2 reads tokens, but it was not made yet" in line
    assert "`pcb tokens --preset smoke`" in line


@pytest.mark.parametrize("damage", ["missing", "truncated", "altered"])
def test_damaged_artifact_is_one_line(
    project: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = pipeline_of()
    make_all(pipeline)
    path = pipeline.task("train", "ratio2").artifact / "key.txt"
    path.write_text({"truncated": "x", "altered": "x" * 16}.get(damage, ""))
    if damage == "missing":
        path.unlink()
    line = error_of(capsys, "sample", "ratio2/t17", "--preset", "smoke", "--force")
    assert str(path) in line
    assert f"`dvc pull {path.parent}`" in line
    assert "`pcb train ratio2 --preset smoke`" in line


def test_file_in_the_place_of_results_is_one_line(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("results").write_text("")
    assert "results" in error_of(capsys, "data", "--preset", "smoke")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become a user without rights")
def test_unwritable_folder_is_one_line(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("results").mkdir(mode=0o755)
    Path(".pcb").mkdir()
    Path(".pcb").chmod(0o777)
    project.chmod(0o755)
    os.seteuid(65534)
    try:
        line = error_of(capsys, "data", "--preset", "smoke")
    finally:
        os.seteuid(0)
    assert line.startswith("pcb: results/artifacts: permission denied; let this user write there")


def test_full_disk_is_one_line_and_leaves_nothing(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(ROOT / "params.yaml", small_disk)
    with monkeypatch.context() as there:
        there.chdir(small_disk)
        line = error_of(capsys, "data", "--preset", "smoke")
    assert re.match(r"pcb: results/artifacts/smoke/data/all\S*: no space left", line)
    assert not list(small_disk.rglob("complete.json"))
    assert not list(small_disk.glob("results/artifacts/**/*.npy"))


def test_interrupt_is_one_line(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pcb.cli.make.run_task", interrupt)
    assert main(["data", "--preset", "smoke"]) == 130
    assert capsys.readouterr().err == "pcb: interrupted; the same command resumes\n"


def test_package_that_is_absent_is_named(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent(stage: str, name: str) -> None:
        raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn")

    monkeypatch.setattr("pcb.pipeline.job.stage_function", absent)
    assert "package sklearn, which is not installed" in error_of(capsys, "data")


def test_reader_that_stops_early_is_no_error() -> None:
    command = f"{sys.executable} -m pcb order 256 | head -n 1"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == ""


# ---- doctor -------------------------------------------------------------------------------------


def test_doctor_looks_at_machine_presets_and_results(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert examine(project / "params.yaml") == 0
    out = capsys.readouterr().out
    for thing in ["python", "cores", "memory", "disk", "torch", "snakemake", "GPU"]:
        assert re.search(rf"^  ok    {thing} +\S", out, flags=re.MULTILINE)
    assert "preset mini (active)" in out
    assert f"0 of {len(list(pipeline_of()))} are current" in out


def test_doctor_says_why_a_gpu_cannot_be_used(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("SLURM_JOB_GPUS", "0")
    assert examine(project / "params.yaml") == 1
    out = capsys.readouterr().out
    assert re.search(r"LACK  GPU +none; SLURM_JOB_GPUS = 0, but torch .* cannot use a GPU", out)


def test_doctor_says_what_a_preset_lacks(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit_params(project, "renderings: 16", "renderings: 0")
    assert examine(project / "params.yaml") == 1
    assert re.search(r"LACK  settings +wrong; .*renderings = 0", capsys.readouterr().out)


def test_doctor_looks_for_files_from_outside(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PCB_PRESET", "paper")
    (project / "images" / "n01440764").mkdir(parents=True)
    put = project / "external" / CATALOG["inception"].path
    put.parent.mkdir(parents=True)
    put.write_bytes(b"spoilt")
    (project / "mine.pt").write_bytes(b"mine")
    local = "files: {imagenet: images, imagenet_validation: nowhere, own: {llamagen: mine.pt}}"
    (project / "params.local.yaml").write_text(local)
    assert examine(project / "params.yaml") == 1
    out = capsys.readouterr().out
    paper = out[out.index("preset paper (active)") : out.index("preset paper-pretrained")]
    for line in (
        rf"LACK  inception +corrupt, external/{CATALOG['inception'].path}, 6 bytes; its SHA-256",
        r"LACK  adm-reference +missing, external/adm/\S+\.npz; `pcb fetch adm-reference`\n",
        r"ok    llamagen +own, mine\.pt, 4 bytes\n",
        r"LACK  imagenet +present, images, 1 classes; 1000 are expected",
        r"LACK  imagenet_validation +missing; nowhere: no such folder",
    ):
        assert re.search(line, paper), line
    mini = out[out.index("preset mini") : out.index("preset smoke")]
    assert "imagenet" not in mini
    assert "adm-reference" not in mini
    pretrained = out[out.index("preset paper-pretrained") : out.index("preset table1")]
    assert "LACK  checkerboard-L-4x-config" in pretrained
    assert "llamagen" not in pretrained
    assert "LACK  imagenet" not in pretrained
