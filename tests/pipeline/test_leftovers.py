"""Results that params.yaml no longer asks for, and publishing without them."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pcb.cli.main import main
from pcb.errors import UserError
from pcb.pipeline import dvc
from pcb.pipeline.leftovers import leftovers
from pcb.pipeline.tasks import Pipeline
from tests.tasks import ROOT, make_all, pipeline_of


@pytest.fixture
def project(folder: Path, smoke: Pipeline) -> Path:
    """A finished `smoke` in a git repository, then a params.yaml without one of its models."""
    text = (ROOT / "params.yaml").read_text().replace("preset: mini", "preset: smoke", 1)
    Path("params.yaml").write_text(text)
    make_all(smoke)
    shutil.copy(ROOT / ".gitignore", ".gitignore")
    Path(".dvc").mkdir()
    Path("dvc.lock").write_text("schema: '2.0'\n")
    git("init", "-q")
    git("config", "user.email", "a@example.org")
    git("config", "user.name", "a")
    return folder


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def without_ratio4() -> Pipeline:
    """Rename a model, as far as the settings go."""
    path = Path("params.yaml")
    text = path.read_text()
    smoke = text.index("  smoke:")
    changed = text[smoke:].replace("ratio3: null", "ratio3: null\n      ratio4: null", 1)
    changed = changed.replace("[ratio2, ratio4]", "[ratio2]", 1)
    path.write_text(text[:smoke] + changed)
    return pipeline_of("smoke", path)


@pytest.fixture
def no_dvc(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Let DVC do nothing; return what it was told."""
    told: list[tuple[str, ...]] = []
    monkeypatch.setattr(dvc, "_dvc", lambda *arguments, **_: told.append(arguments) or "")
    monkeypatch.setattr(dvc, "hold_workflow", lambda: None)
    return told


OLD = [
    "results/manifests/smoke/metrics/ratio4/k1.json",
    "results/manifests/smoke/train/ratio4.json",
    "results/artifacts/smoke/metrics/ratio4",
    "results/artifacts/smoke/train/ratio4",
]


def test_what_settings_ask_for_is_no_leftover(project: Path, smoke: Pipeline) -> None:
    (project / "results/artifacts/smoke/data/.hidden").mkdir()
    (project / "results/artifacts/smoke/train/empty").mkdir()
    assert leftovers(smoke) == []


def test_clean_shows_and_then_deletes(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = without_ratio4()
    gone = project / "results" / "manifests" / "gone" / "data" / "all.json"
    gone.parent.mkdir(parents=True)
    gone.write_text("{}")
    log = project / "logs" / "smoke" / "train" / "ratio4.log"
    log.parent.mkdir(parents=True)
    log.write_text("")
    capsys.readouterr()
    assert main(["clean"]) == 0
    shown = capsys.readouterr().out
    assert all(path in shown for path in (*OLD, "results/manifests/gone"))
    assert "ratio2" not in shown
    assert "`pcb clean --yes` deletes them" in shown.splitlines()[-1]
    assert gone.exists() and all(Path(path).exists() for path in OLD)
    assert main(["clean", "--yes"]) == 0
    assert not gone.parents[1].exists() and not log.exists()
    assert not any(Path(path).exists() for path in OLD)
    assert all(task.manifest.exists() and task.artifact.exists() for task in pipeline)
    capsys.readouterr()
    assert main(["clean", "--yes"]) == 0
    assert capsys.readouterr().out.startswith("nothing: ")


def test_publish_commits_its_own_paths_alone(
    project: Path, smoke: Pipeline, no_dvc: list[tuple[str, ...]]
) -> None:
    Path("staged.py").write_text("mine")
    git("add", "staged.py")
    dvc.publish(smoke)
    files = git("show", "--name-only", "--format=", "HEAD").split()
    assert "staged.py" not in files and "dvc.lock" in files
    assert str(smoke.task("train", "ratio4").manifest) in files
    assert git("diff", "--cached", "--name-only").split() == ["staged.py"]
    assert [arguments[0] for arguments in no_dvc] == ["commit", "push"]
    # Nothing new: nothing is committed, and what is staged stays so.
    head = git("rev-parse", "HEAD")
    dvc.publish(smoke)
    assert git("rev-parse", "HEAD") == head
    assert git("diff", "--cached", "--name-only").split() == ["staged.py"]


def test_publish_names_leftovers_and_leaves_them_out(
    project: Path, no_dvc: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = without_ratio4()
    make_all(pipeline)
    dvc.publish(pipeline)
    shown = capsys.readouterr().out
    assert all(f"{path}: left out" in shown for path in OLD)
    files = git("show", "--name-only", "--format=", "HEAD").split()
    assert not any("ratio4" in name for name in files)
    ignored = Path("results/artifacts/smoke/.dvcignore").read_text().split()
    assert "/train/ratio4" in ignored and not any("ratio2" in line for line in ignored)
    assert "/train/ratio4.json" in Path("results/manifests/smoke/.dvcignore").read_text().split()
    main(["clean", "--yes"])
    dvc.publish(pipeline)
    assert not Path("results/artifacts/smoke/.dvcignore").exists()


def test_what_was_deleted_is_deleted_in_git_too(
    project: Path, smoke: Pipeline, no_dvc: list[tuple[str, ...]]
) -> None:
    dvc.publish(smoke)
    pipeline = without_ratio4()
    make_all(pipeline)
    main(["clean", "--yes"])
    dvc.publish(pipeline)
    assert not any("ratio4" in name for name in git("ls-files", "results/manifests").split())


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        (".dvc/tmp/rwlock", "", r"rwlock: .*delete it \(`rm \.dvc/tmp/rwlock`\)"),
        (".dvc/tmp/rwlock", "[]", "rwlock: .*delete it"),
        ("dvc.lock", "", "dvc.lock: empty or damaged; restore it with `git checkout -- dvc.lock`"),
        ("dvc.lock", "stages: [", "dvc.lock: empty or damaged"),
    ],
)
def test_an_empty_file_of_dvcs_own_is_named_with_the_way_out(
    project: Path, smoke: Pipeline, path: str, content: str, message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(dvc, "hold_workflow", lambda: None)
    Path(".dvc/tmp").mkdir()
    Path(path).write_text(content)
    with pytest.raises(UserError, match=message):
        dvc.publish(smoke)


def test_folders_that_dvc_does_not_follow_are_said_first(project: Path, smoke: Pipeline) -> None:
    os.rename("results", "elsewhere")
    Path("results").symlink_to("elsewhere")
    for verb in (dvc.publish, dvc.restore):
        with pytest.raises(UserError, match="^results is a symbolic link, which DVC does not"):
            verb(smoke)
