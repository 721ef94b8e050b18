"""Rows: what was asked, what was measured, and nothing in place of what was not."""

import csv
import io

from pcb.config import SamplingConfig
from pcb.pipeline.tasks import Pipeline
from pcb.report.rows import COLUMNS, NOT_RUN, Row, lines, make_row
from pcb.report.tables import latex, markdown, metrics_csv, number, results_table, steps_table

SCORES = {"fid": 575.123456789, "is": 5.5, "precision": 0.5, "recall": 0.25, "kid": 0.1}


def a_row(pipeline: Pipeline, scores: dict[str, float] | None, cfg: float = 0.0) -> Row:
    point = SamplingConfig(total_steps=17, cfg=cfg)
    sampling = {"images": 2000, "seconds_per_image": 0.5} if scores else None
    return make_row(pipeline.preset, "ratio4", point, scores, sampling)


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_metrics_csv_has_the_agreed_columns_and_every_digit(mini: Pipeline) -> None:
    text = metrics_csv([a_row(mini, {**SCORES, "fid_std": 3.0, "agreement": 0.8})])
    assert tuple(text.splitlines()[0].split(",")) == (*COLUMNS, "agreement", "fid_std")
    (cells,) = read(text)
    assert float(cells["fid"]) == SCORES["fid"]
    assert (cells["model"], cells["ratio"], cells["scales"]) == ("ratio4", "4", "1 2 8")
    assert (cells["steps"], cells["blocks_per_scale"]) == ("17", "1 4 12")
    assert (cells["images"], cells["sampling_seconds"]) == ("2000", "1000.0")


def test_scores_of_the_full_size_have_columns_where_they_were_measured(mini: Pipeline) -> None:
    row = a_row(mini, {**SCORES, "sfid": 6.25, "torch_fidelity_fid": 3.5})
    (cells,) = read(metrics_csv([row]))
    assert (cells["sfid"], cells["torch_fidelity_fid"]) == ("6.25", "3.5")
    header = results_table([row]).header
    assert "sFID" in header and "torch fidelity fid" not in header


def test_a_row_that_was_not_run_says_so(mini: Pipeline) -> None:
    row = a_row(mini, None)
    (cells,) = read(metrics_csv([row]))
    assert not row.was_run
    assert {cells[name] for name in (*SCORES, "sampling_seconds")} == {NOT_RUN}
    assert NOT_RUN in markdown(results_table([row]))
    assert steps_table([row]).rows == (("17", NOT_RUN),)


def test_words_among_the_scores_are_left_out(mini: Pipeline) -> None:
    row = make_row(
        mini.preset, "ratio2", SamplingConfig(blocks=1), {"fid": 3, "extractor": "x"}, None
    )
    assert dict(row.scores) == {"fid": 3.0}
    assert row.one_block and row.seconds_per_image is None


def test_curves_leave_out_guided_and_missing_rows(mini: Pipeline) -> None:
    rows = [a_row(mini, SCORES), a_row(mini, SCORES, cfg=1.5), a_row(mini, None)]
    assert lines(rows) == {"ratio4": [rows[0]]}


def test_models_that_differ_in_ratio_alone_have_one_architecture(mini: Pipeline) -> None:
    points = SamplingConfig(blocks=1)
    two, four = (make_row(mini.preset, model, points) for model in ("ratio2", "ratio4"))
    assert two.architecture == four.architecture and two.ratio != four.ratio


def test_tables_escape_what_latex_would_read(mini: Pipeline) -> None:
    text = latex(results_table([a_row(mini, {**SCORES, "fid_std": 3.0})]))
    assert r"575.1 $\pm$ 3" in text and r"\toprule" in text
    assert text.count("tabular") == 2


def test_numbers_keep_four_digits() -> None:
    assert [number(x) for x in (1358.6, 575.12, 2.7249, 0.0, 0.1234, 0.00012)] == [
        "1359",
        "575.1",
        "2.725",
        "0.000",
        "0.123",
        "0.000120",
    ]
