"""Ablations: rows that differ in one thing stand together, all others are left out."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from pcb.config import SamplingConfig
from pcb.pipeline.tasks import Pipeline
from pcb.report.ablations import blocks_table, guidance_table, mixing_table
from pcb.report.build import WRITTEN
from pcb.report.charts import guided_lines
from pcb.report.rows import Row, make_row
from pcb.report.strips import animation


def row(mini: Pipeline, model: str = "ratio2", fid: float = 500.0, **point: object) -> Row:
    scores = {"fid": fid, "is": 5.0, "precision": 0.5, "recall": 0.25}
    return make_row(mini.preset, model, SamplingConfig(**point), scores, None)  # type: ignore[arg-type]


def test_guided_rows_stand_below_the_same_setting_without_guidance(mini: Pipeline) -> None:
    rows = [
        row(mini, total_steps=17),
        row(mini, total_steps=13),
        row(mini, total_steps=17, cfg=1.5, fid=400.0),
        row(mini, total_steps=17, cfg=1.5, cfg_start_step=0, fid=450.0),
    ]
    table = guidance_table(rows)
    assert [line[1:6] for line in table.rows] == [
        ("17", "off", "1", "–", "500.0"),
        ("17", "1.5", "2.5", "5", "400.0"),
        ("17", "1.5", "2.5", "0", "450.0"),
    ]
    assert guidance_table(rows[:2]).rows == ()


def test_lines_of_guidance_begin_without_it(mini: Pipeline) -> None:
    rows = [row(mini, total_steps=17, cfg=g) for g in (1.5, 0.0, 0.5)]
    lines = guided_lines(rows, 17)
    assert [[r.cfg for r in line] for line in lines.values()] == [[0.0, 0.5, 1.5]]
    assert guided_lines(rows, 13) == {}


def test_mixing_compares_models_that_are_alike_in_all_else(mini: Pipeline) -> None:
    mixed = row(mini, total_steps=17)
    plain = replace(mixed, model="plain", mixing_layers=0)
    other = row(mini, "ratio4", total_steps=17)
    assert [line[2] for line in mixing_table([mixed, plain, other]).rows] == ["0", "2"]
    assert mixing_table([mixed, other]).rows == ()


def test_allocations_of_equal_steps_stand_together(mini: Pipeline) -> None:
    rows = [
        row(mini, blocks=(1, 2, 4, 6)),
        row(mini, blocks=(1, 4, 4, 4)),
        row(mini, blocks=(1, 4, 4, 8)),
    ]
    table = blocks_table(rows)
    assert [line[1] for line in table.rows] == ["1 2 4 6", "1 4 4 4"]


def test_an_animation_has_a_frame_a_step_and_the_last_one_stays() -> None:
    frames = np.zeros((3, 2, 3, 8, 8), np.uint8)
    frames[1], frames[2] = 90, 180
    with Image.open(BytesIO(animation(frames))) as gif:
        assert gif.n_frames == 3  # type: ignore[attr-defined]
        durations = []
        for k in range(3):
            gif.seek(k)
            durations.append(gif.info["duration"])
            assert gif.convert("RGB").getpixel((2, 2)) == (90 * k,) * 3
    assert durations[0] == durations[1] < durations[2]


def test_tables_and_figures_are_files_in_every_format(here: Path) -> None:
    folder = here / "reports" / "mini"
    for name in WRITTEN:
        for kind in ("md", "csv", "tex"):
            assert (folder / "tables" / f"{name}.{kind}").stat().st_size
    for name in ("fid", "map", "guidance", "usage", "training"):
        for kind in ("svg", "png", "pdf"):
            assert (folder / "figures" / f"{name}.{kind}").stat().st_size
    assert (folder / "figures" / "drawing-ratio2.gif").stat().st_size
