"""DVC and Snakemake agree on what is up to date, and results move through a remote.

Tasks of a few bytes stand for the data, but for the tests that run stages; git, DVC and Snakemake
are the real ones.
"""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import chdir
from pathlib import Path

import pytest
import yaml

from pcb.config.paths import PINS
from pcb.config.stages import STAGES
from pcb.pipeline.run import run_task
from tests.tasks import make_all, pipeline_of, write_key
from tests.workflow.snakemake import NOTHING, copy_project, planned, snakemake

pytestmark = pytest.mark.workflow

WEIGHTS = Path("results/artifacts/smoke/train/ratio2/key.txt")


def environment_of(project: Path) -> dict[str, str]:
    """Return what a user's commands see: the project's programs, a name for git, no preset."""
    found = {k: v for k, v in os.environ.items() if k != "PCB_PRESET"}
    found["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{found['PATH']}"
    found["DVC_SITE_CACHE_DIR"] = str(project.parent / "dvc-site")
    for role in ("AUTHOR", "COMMITTER"):
        found[f"GIT_{role}_NAME"] = "Test"
        found[f"GIT_{role}_EMAIL"] = "test@example.org"
    return found


def run(project: Path, *command: str, status: int = 0) -> str:
    """Run a command in a project and return what it prints; its exit status must be `status`."""
    done = subprocess.run(
        command,
        cwd=project,
        env=environment_of(project),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == status, done.stdout
    return done.stdout


def pcb(project: Path, *arguments: str, status: int = 0) -> str:
    return run(project, sys.executable, "-m", "pcb", *arguments, status=status)


def dvc(project: Path, *arguments: str, status: int = 0) -> str:
    return run(project, sys.executable, "-m", "dvc", *arguments, status=status)


def make_repository(project: Path) -> Path:
    """Make the copy of a project a git repository whose active preset is `smoke`."""
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("preset: mini", "preset: smoke", 1))
    run(project, "git", "init", "--quiet", "--initial-branch", "main")
    run(project, "git", "add", "--all")
    run(project, "git", "commit", "--quiet", "-m", "begin")
    return project


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a repository in which everything was made and nothing was recorded."""
    team = tmp_path_factory.mktemp("made")
    project = make_repository(copy_project(team / "project"))
    with chdir(project):
        make_all(pipeline_of())
    pcb(project, "settings")
    return team


@pytest.fixture(scope="module")
def recorded(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a repository that DVC has recorded, not git, and what DVC said."""
    team = copy_of(made, tmp_path_factory.mktemp("recorded"))
    (team / "output.txt").write_text(dvc(team / "project", "repro"))
    return team


@pytest.fixture(scope="module")
def shared(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a repository whose results and manifests are in remotes beside it."""
    team = copy_of(made, tmp_path_factory.mktemp("shared"))
    project = team / "project"
    make_hub(project)
    dvc(project, "remote", "add", "--local", "--default", "team", "../remote")
    (project / PINS).write_text("{}")
    pcb(project, "publish")
    return team


def copy_of(team: Path, folder: Path) -> Path:
    """Copy a folder of repositories, hard links between their files as such, into an empty one."""
    run(folder, "cp", "-a", f"{team}/.", ".")
    return folder


def make_hub(project: Path) -> None:
    """Give a repository's manifests a bare repository beside it to go to."""
    run(project.parent, "git", "init", "--quiet", "--bare", "hub.git")
    run(project, "git", "remote", "add", "origin", "../hub.git")
    run(project, "git", "push", "--quiet", "--set-upstream", "origin", "main")


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the repository in which nothing was recorded."""
    monkeypatch.chdir(copy_of(made, tmp_path) / "project")
    return Path.cwd()


@pytest.fixture
def reproduced(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the repository that DVC has recorded."""
    monkeypatch.chdir(copy_of(recorded, tmp_path) / "project")
    return Path.cwd()


@pytest.fixture
def published(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the repository that was published, with its remotes."""
    monkeypatch.chdir(copy_of(shared, tmp_path) / "project")
    return Path.cwd()


def clone_of(published: Path) -> Path:
    """Return a clone, as another user would make it."""
    clone = published.parent / "clone"
    run(published.parent, "git", "clone", "--quiet", "-b", "main", "hub.git", "clone")
    dvc(clone, "remote", "add", "--local", "--default", "team", str(published.parent / "remote"))
    return clone


def nothing_to_do(project: Path) -> bool:
    return not planned(project)


def test_repro_after_snakemake_records_and_runs_nothing(reproduced: Path) -> None:
    out = (reproduced.parent / "output.txt").read_text()
    assert out.count(NOTHING) == len(STAGES)
    assert "up to date" in dvc(reproduced, "status")
    assert nothing_to_do(reproduced)
    assert "didn't change, skipping" in dvc(reproduced, "repro")


def test_snakemake_after_repro_has_nothing_to_do(tmp_path: Path) -> None:
    """The first real stage by DVC, then the same by Snakemake."""
    project = make_repository(copy_project(tmp_path / "project"))
    assert "data: making" in dvc(project, "repro", "data")
    assert (project / "results/artifacts/smoke/data/all/train_images.npy").exists()
    assert NOTHING in snakemake(project, "data")


def test_learning_rate_of_one_ratio_changes_that_ratio_alone_in_both(reproduced: Path) -> None:
    run(reproduced, "git", "add", "--all")
    run(reproduced, "git", "commit", "--quiet", "-m", "results")
    params = reproduced / "params.yaml"
    old = "ratio4: {model: {scale_ratio: 4}}"
    new = "ratio4: {model: {scale_ratio: 4}, training: {learning_rate: 1.0e-3}}"
    params.write_text(params.read_text().replace(old, new))
    pcb(reproduced, "settings")
    changed = json.loads(dvc(reproduced, "status", "--json"))
    assert set(changed) == {"settings", "train"}
    difference = json.loads(dvc(reproduced, "params", "diff", "--json", "--targets", settings()))
    found = difference[settings()]
    assert list(found) == ["train.ratio4.training.learning_rate"]
    tasks = {task.name for task in pipeline_of() if task.variant.startswith("ratio4")}
    assert planned(reproduced) == {*tasks, "report"}


def test_fewer_held_out_images_change_what_reads_them_in_both(project: Path) -> None:
    """Their codes are partitions of the tokens that no training reads: manifests of it stay."""
    dvc(project, "repro")
    params = project / "params.yaml"
    params.write_text(
        params.read_text().replace("likelihood: {images: 40}", "likelihood: {images: 20}")
    )
    changed = pipeline_of(params=params)
    run_task(changed.task("tokens"), changed.preset, write_key)
    assert dvc(project, "repro", "train").count(NOTHING) == 2
    assert set(json.loads(dvc(project, "status", "--json"))) == {"likelihood", "report"}
    assert planned(project) == {
        task.name for task in changed if task.stage in ("likelihood", "report")
    }


def settings() -> str:
    return "results/settings/smoke.json"


def test_clone_of_what_was_published_is_restored_without_making_anything(
    published: Path,
) -> None:
    clone = clone_of(published)
    assert not (clone / WEIGHTS).exists()
    assert (clone / PINS).read_text() == "{}"
    out = pcb(clone, "restore")
    assert f"all {len(list(pipeline_of()))} tasks of smoke are here and whole" in out
    assert "making" not in out
    assert nothing_to_do(clone)
    assert "up to date" in dvc(clone, "status")
    for task in pipeline_of():
        mine, theirs = (tree / task.artifact / "key.txt" for tree in (clone, published))
        if not task.partitions:
            assert mine.read_bytes() == theirs.read_bytes()


def test_damaged_and_missing_files_are_named_and_fetched_again(published: Path) -> None:
    clone = clone_of(published)
    pcb(clone, "restore")
    # Through the link, so that the cache's object is damaged too.
    (clone / WEIGHTS).chmod(0o644)
    with (clone / WEIGHTS).open("r+") as file:
        file.write("?")
    missing = clone / "results/artifacts/smoke/tokens/all/s001/key.txt"
    missing.unlink()
    assert f"{WEIGHTS} does not hold what its manifest says" in pcb(clone, "verify", status=1)
    assert f"{WEIGHTS} does not hold" in pcb(clone, "restore")
    assert (clone / WEIGHTS).read_bytes() == (published / WEIGHTS).read_bytes()
    assert missing.exists()


def test_what_is_damaged_in_the_remote_too_is_named_and_not_left_lying(published: Path) -> None:
    clone = clone_of(published)
    good = (published / WEIGHTS).read_bytes()
    for path in (published.parent / "remote").rglob("*"):
        if path.is_file() and path.read_bytes() == good:
            path.chmod(0o644)
            path.write_bytes(good[::-1])
    out = pcb(clone, "restore", status=1)
    assert "make it again with `pcb train ratio2 --preset smoke`" in out
    assert not (clone / WEIGHTS).exists()


def test_half_finished_run_is_not_published(project: Path) -> None:
    """Neither a stage that was not made, nor one whose data lack a file."""
    manifest = project / pipeline_of().task("metrics", "ratio2/t17").manifest
    manifest.rename(project / "aside.json")
    out = pcb(project, "publish", status=1)
    assert "not made  metrics/ratio2/t17" in out
    (project / "aside.json").rename(manifest)
    (project / WEIGHTS).unlink()
    assert f"{WEIGHTS} is missing" in pcb(project, "publish", status=1)
    assert run(project, "git", "log", "--oneline").count("\n") == 1


def test_killed_restore_goes_on_with_the_same_command(published: Path) -> None:
    clone = clone_of(published)
    kill_when(clone, "results/artifacts/smoke/**/key.txt", sys.executable, "-m", "pcb", "restore")
    pcb(clone, "restore")
    assert nothing_to_do(clone)


def kill_when(project: Path, pattern: str, *command: str) -> None:
    """Start a command and kill it with all its children once a file of this pattern is there."""
    process = subprocess.Popen(
        command,
        cwd=project,
        env=environment_of(project),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    limit = time.monotonic() + 60
    while not list(project.glob(pattern)):
        assert time.monotonic() < limit
        assert process.poll() is None
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def outputs(project: Path) -> dict[str, str]:
    """Return the hash that dvc.lock gives every output."""
    lock = yaml.safe_load((project / "dvc.lock").read_text())
    return {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage["outs"]}


def test_killed_publish_goes_on_with_the_same_command(project: Path) -> None:
    team = project.parent
    make_hub(project)
    dvc(project, "remote", "add", "--local", "--default", "team", str(project / "remote"))
    (project / ".git" / "info" / "exclude").write_text("remote/\n")
    kill_when(project, "remote/files/md5/*/*", sys.executable, "-m", "pcb", "publish")
    # As if the kill had come while the first listing was written.
    listing = next(project.glob("results/artifacts/smoke/*"))
    name = outputs(project)[str(listing.relative_to(project))]
    cut = project / "remote" / "files" / "md5" / name[:2] / name[2:]
    cut.parent.mkdir(parents=True, exist_ok=True)
    cut.unlink(missing_ok=True)
    cut.write_bytes(b"")
    pcb(project, "publish")
    assert cut.stat().st_size > 0
    clone = team / "clone"
    run(team, "git", "clone", "--quiet", "-b", "main", "hub.git", "clone")
    dvc(clone, "remote", "add", "--local", "--default", "team", str(project / "remote"))
    whole = f"all {len(list(pipeline_of()))} tasks of smoke are here and whole"
    assert whole in pcb(clone, "restore")


def test_killed_repro_goes_on_with_the_same_command(tmp_path: Path) -> None:
    project = make_repository(copy_project(tmp_path / "project"))
    work = "results/artifacts/smoke/data/all/.work.json"
    kill_when(project, work, sys.executable, "-m", "dvc", "repro", "data")
    dvc(project, "repro", "data")
    assert "up to date" in dvc(project, "status", "data")
    assert (project / "results/manifests/smoke/data/all.json").exists()


def test_restore_waits_for_no_other_run_but_says_which(published: Path) -> None:
    code = (
        "from pcb.pipeline.workflow import hold_workflow;"
        "hold_workflow(); print(1, flush=True); input()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=published,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert f"process {holder.pid} is running" in pcb(published, "restore", status=1)
    finally:
        holder.kill()
        holder.wait()


def test_preset_that_params_do_not_name_is_not_published(project: Path) -> None:
    assert "write `preset: mini` there first" in pcb(
        project, "publish", "--preset", "mini", status=1
    )


def test_experiment_changes_a_setting_and_can_be_compared(finished: Path, tmp_path: Path) -> None:
    """`dvc exp run -S` on a finished project: the report's claims, which is the cheapest stage."""
    run(tmp_path, "cp", "-r", str(finished), "project")
    project = make_repository(tmp_path / "project")
    pcb(project, "settings")
    dvc(project, "repro")
    run(project, "git", "add", "--all")
    run(project, "git", "commit", "--quiet", "-m", "results")
    out = dvc(project, "exp", "run", "-n", "wider", "-S", "presets.smoke.claims.equal_steps=[17]")
    assert "report: making" in out
    assert "tokenizer: making" not in out
    shown = json.loads(dvc(project, "metrics", "show", "--json"))
    table = shown[""]["data"]["reports/smoke/metrics.json"]["data"]
    assert set(table) == {"ratio2", "ratio4"}
    assert table["ratio2"]["t17"]["fid"] > 0
    difference = dvc(project, "params", "diff", "--targets", settings())
    assert "report.equal_steps" in difference
    page = project / "plots"
    dvc(project, "plots", "diff", "HEAD", "--out", str(page))
    pictures = list(page.rglob("*.png"))
    assert len(pictures) >= 2
