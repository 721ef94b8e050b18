"""The report as files: whole, partial, and the same bytes each time."""

import csv
import json
import shutil
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pcb.cli.main import main
from pcb.pipeline.run import run_task
from pcb.pipeline.tasks import Pipeline
from pcb.report.build import write_report
from pcb.report.evidence import Evidence
from pcb.report.published import published_systems, published_table
from pcb.report.rows import NOT_RUN, make_row
from tests.report.results import ENTRIES, IMAGES, PARAMS, make_results, mini_pipeline

PAGES = Path("reports") / "mini"


def files(folder: Path) -> dict[str, bytes]:
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(n): (folder / n).read_bytes() for n in names if n.name != "complete.json"}


def test_the_same_evidence_gives_the_same_bytes(here: Path, mini: Pipeline, tmp_path: Path) -> None:
    write_report(Evidence.of(mini), tmp_path)
    assert files(tmp_path) == files(PAGES)


def test_the_report_says_what_was_measured(here: Path) -> None:
    lines = (PAGES / "metrics.csv").read_text().splitlines()
    assert len(lines) == 1 + 16
    verdicts = [(c["claim"], c["verdict"]) for c in json.loads((PAGES / "claims.json").read_text())]
    assert verdicts[:4] == [(claim, "holds") for claim in ("C1a", "C1b", "C2", "C3")]
    assert verdicts[4:] == [(claim, "undecided") for claim in ("C4", "C5")]
    page = (PAGES / "index.html").read_text()
    assert "Partial report" not in page
    for task in Evidence.of(mini_pipeline()).tasks:
        assert task.key in page


def test_codes_are_read_over_the_edges_of_shards(here: Path, mini: Pipeline) -> None:
    evidence = Evidence.of(mini)
    row = evidence.rows()[0]
    folder = mini.task("sample", row.variant).artifact
    shards = [np.load(folder / f"codes-0000{k}.npy") for k in range(2)]
    codes = evidence.codes(row, 20)
    assert codes is not None and len(shards[0]) == 16
    np.testing.assert_array_equal(codes, np.concatenate(shards)[:20])
    every = evidence.codes(row, 1000)
    assert every is not None and len(every) == IMAGES


@pytest.mark.usefixtures("svg_alone")
def test_a_partial_report_marks_what_is_missing(tree: Path, mini: Pipeline, tmp_path: Path) -> None:
    """Of one model there are scores alone, without the files that they come from; nothing else."""
    manifests = Path("results") / "manifests" / "mini" / "metrics" / "ratio2"
    shutil.copytree(tree / manifests, tmp_path / manifests)
    with chdir(tmp_path):
        facts = write_report(Evidence.of(mini), tmp_path)
    page = (tmp_path / "index.html").read_text()
    assert "11 of 16 sampling configs and 58 of 63 results" in page and NOT_RUN in page
    assert facts["settings_run"] == 5
    assert set(facts["verdicts"].values()) == {"undecided"}
    assert not list(tmp_path.glob("figures/samples*")) and (tmp_path / "figures/fid.svg").exists()


@pytest.mark.usefixtures("svg_alone")
def test_a_released_tokenizer_has_no_measures(folder: Path) -> None:
    tasks = mini_pipeline({"tokenizer": {"source": "released", "training": None}})
    write_report(Evidence.of(tasks), folder / "without")
    assert "there are no tokenizer yet" in (folder / "without" / "index.html").read_text()
    task = tasks.task("tokenizer")
    run_task(task, tasks.preset, ENTRIES["tokenizer"])
    write_report(Evidence.of(tasks), folder / "with")
    page = (folder / "with" / "index.html").read_text()
    assert "as it was released; it was not measured here" in page
    assert "there are no tokenizer yet" not in page and 'id="table-tokenizer"' not in page
    assert not list((folder / "with" / "figures").glob("*usage*"))


@pytest.mark.usefixtures("svg_alone")
def test_a_released_model_has_no_training(folder: Path) -> None:
    tokenizer = {"source": "released", "training": None}
    model = {"released": "checkerboard-L-2x"}
    tasks = mini_pipeline({"tokenizer": tokenizer, "models": {"ratio2": model}})
    make_results(tasks, without=["sample", "metrics", "likelihood", "train/ratio4"])
    write_report(Evidence.of(tasks), folder / "report")
    with (folder / "report" / "tables" / "models.csv").open(newline="") as file:
        cells = {line[0]: line[-3:] for line in csv.reader(file)}
    assert cells["ratio2"] == ["367.575", "released", "–"]
    assert cells["ratio3"][:2] == ["1.104", "1280"]
    assert cells["ratio4"] == [NOT_RUN] * 3
    assert (folder / "report" / "figures" / "training.svg").exists()


def test_results_of_other_settings_count_as_not_run(here: Path) -> None:
    changed = mini_pipeline({"models": {"ratio3": {"training": {"learning_rate": 1.0e-5}}}})
    run = {row.model for row in Evidence.of(changed).rows() if row.was_run}
    assert run == {"ratio2", "ratio4", "ratio2-unmixed"}


def test_published_numbers_never_fill_measured_cells(here: Path, mini: Pipeline) -> None:
    rows = Evidence.of(mini).rows()
    table = published_table(rows, {}, comparable=False, steps=17, sampled_on={})
    published, ours = table.rows[:14], table.rows[14:]
    assert len(published_systems()) == 14 and len(ours) == 7
    measured = [k for k, name in enumerate(table.header) if name.endswith("measured")]
    assert {line[k] for line in published for k in measured} == {NOT_RUN}
    assert {line[1] for line in ours} == {"other data, not comparable"}


def test_a_comparable_row_stands_beside_its_published_one(mini: Pipeline) -> None:
    point = mini.preset.sampling_configs("ratio2")[-1]
    small = make_row(mini.preset, "ratio2", point, {"fid": 2.9}, {"seconds_per_image": 0.1})
    row = replace(small, width=1024, layers=20)
    table = published_table(
        [small, row], {}, comparable=True, steps=17, sampled_on={row.variant: "one GPU"}
    )
    found = {line[0]: line for line in table.rows}
    beside = found["Checkerboard-L 2x cfg=1.5"]
    assert beside[5:7] == ("2.900", "+0.07") and beside[-1] == "one GPU"
    assert found["Checkerboard-L 2x cfg=1.4"][5:7] == (NOT_RUN, NOT_RUN)


@pytest.mark.usefixtures("svg_alone")
def test_the_command_makes_a_partial_report(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "--partial", "--preset", "smoke", "--params", str(PARAMS)]) == 0
    assert (
        capsys.readouterr().out == "reports/smoke/index.html: 0 of 7 sampling configs are in it\n"
    )
    assert "not run" in (folder / "reports" / "smoke" / "index.html").read_text()
