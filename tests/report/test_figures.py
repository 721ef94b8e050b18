"""Figures: deterministic files, one style per ratio, pictures that show what they claim."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from PIL import Image

from pcb.order.allocation import schedule_from_total
from pcb.pipeline.tasks import Pipeline
from pcb.report.charts import fid_map
from pcb.report.curves import score_figure
from pcb.report.evidence import Evidence
from pcb.report.order_figures import order_figure, plot_orders, steps_figure
from pcb.report.pictures import decode_images, sampling_frames, split_scales
from pcb.report.rows import Row, make_row
from pcb.report.strips import sheet, strip
from pcb.report.style import KINDS, figure_bytes, inline_svg, ratio_style
from pcb.tokenizer.vq import Tokenizer
from tests.tasks import ROOT, pipeline_of


@pytest.mark.parametrize("n", [1, 5, 8])
def test_the_order_is_plotted_as_png(tmp_path: Path, n: int) -> None:
    path = tmp_path / "order.png"
    plot_orders(n, path)
    first = path.read_bytes()
    plot_orders(n, path)
    assert path.read_bytes() == first
    assert min(Image.open(path).size) > 200


def test_a_step_is_one_panel() -> None:
    schedule = schedule_from_total((1, 2, 8), 9)
    svg = figure_bytes(steps_figure(schedule), "svg").decode()
    assert re.findall(r">(\d+)</text>", svg) == [str(k + 1) for k in range(9)]


def test_figures_are_the_same_bytes_each_time(here: Path, mini: Pipeline) -> None:
    rows = Evidence.of(mini).rows()
    for kind in ("svg", "png"):
        first, second = (figure_bytes(score_figure(rows, ["fid"], 17), kind) for _ in range(2))
        assert first == second


def test_a_figure_is_laid_out_once_and_drawn_once_for_each_format(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To draw is nearly all of a report's time."""
    drawn = []
    draw = Figure.draw

    def counted(figure: Figure, renderer: RendererBase) -> None:
        drawn.append(figure)
        draw(figure, renderer)

    monkeypatch.setattr(Figure, "draw", counted)
    figure = order_figure((2, 3), (2, 2))
    for kind in KINDS:
        figure_bytes(figure, kind)
    assert len(drawn) == 1 + len(KINDS)


@pytest.fixture(scope="module")
def many_rows() -> list[Row]:
    """Return rows of the preset `paper`, with made-up scores."""
    preset = pipeline_of("paper").preset
    scores = {"fid": 5.0, "is": 200.0, "precision": 0.8, "recall": 0.6, "kid": 0.001}
    return [
        make_row(preset, model, point, scores)
        for model in preset.models
        for point in preset.sampling_configs(model)
    ]


def _unguided(rows: list[Row]) -> set[str]:
    """Return the models that are sampled without guidance."""
    return {row.model for row in rows if not row.cfg}


@pytest.mark.parametrize("scores", [["fid"], ["is", "kid", "precision", "recall"]])
def test_a_legend_of_many_models_stays_inside_its_figure(
    many_rows: list[Row], scores: list[str]
) -> None:
    figure = score_figure(many_rows, scores, 17)
    figure.draw_without_rendering()
    box, legend = figure.bbox, figure.legends[0].get_window_extent()
    assert box.x0 <= legend.x0 and legend.x1 <= box.x1
    # One of them says what a hollow marker is.
    assert len(figure.legends[0].get_texts()) == len(_unguided(many_rows)) + 1


def test_many_steps_are_counted_in_octaves_and_few_evenly(
    many_rows: list[Row], here: Path, mini: Pipeline
) -> None:
    many, few = (score_figure(rows, ["fid"], 17) for rows in (many_rows, Evidence.of(mini).rows()))
    assert (many.axes[0].get_xscale(), few.axes[0].get_xscale()) == ("log", "linear")


def test_a_map_tells_models_of_one_ratio_apart(many_rows: list[Row]) -> None:
    figure = fid_map(many_rows)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(names) == len(set(names)) and set(names) >= {"s-2x", "s-2x-unmixed"}
    assert len(names) == len(_unguided(many_rows))
    assert figure.get_figwidth() < 14


def test_inline_figures_follow_the_theme_and_share_no_id() -> None:
    svg = figure_bytes(order_figure((2, 3), (2, 2)), "svg").decode()
    inline = inline_svg(svg, "order", 'Ranks & "blocks"')
    assert inline.startswith('<svg role="img" aria-label="Ranks &amp; &quot;blocks&quot;"')
    assert "var(--ink)" in inline and "#24292f" not in inline
    ids = re.findall(r' id="([^"]+)"', inline)
    assert all(name.startswith("order-") for name in ids) and len(set(ids)) == len(ids)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', inline))
    assert used <= set(ids)


def test_ratios_differ_in_color_marker_and_dash() -> None:
    styles = [ratio_style(ratio) for ratio in (2.0, 3.0, 4.0)]
    for part in ("color", "marker", "dash"):
        assert len({getattr(style, part) for style in styles}) == 3
    assert ratio_style(7.0) != ratio_style(2.0) != ratio_style(None)


def test_strips_hold_their_images() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 8, 8), dtype=np.uint8)
    pixels = np.asarray(Image.open(io.BytesIO(strip(images))))
    assert pixels.shape == (8, 3 * 8 + 2 * 2, 4)
    np.testing.assert_array_equal(pixels[:, 10:18, :3], images[1].transpose(1, 2, 0))
    assert Image.open(io.BytesIO(sheet([images, images]))).size == (28, 18)


def test_large_images_are_made_smaller() -> None:
    assert Image.open(io.BytesIO(strip(np.zeros((1, 3, 256, 256), np.uint8)))).size == (96, 96)


def test_the_last_frame_is_the_finished_image(mini: Pipeline) -> None:
    torch.manual_seed(0)
    tokenizer = Tokenizer(mini.preset.tokenizer.autoencoder).eval().requires_grad_(False)
    schedule = schedule_from_total((1, 3, 8), 9)
    codes = np.random.default_rng(0).integers(0, 32, (2, schedule.tokens))
    frames = sampling_frames(tokenizer, codes, schedule)
    assert len(frames) == 9 and {frame.shape for frame in frames} == {(2, 3, 32, 32)}
    np.testing.assert_array_equal(frames[-1], decode_images(tokenizer, codes, schedule.sizes))
    assert not np.array_equal(frames[-2], frames[-1])
    grids = split_scales(codes, schedule.sizes)
    assert grids[3][1].flatten().tolist() == codes[1, 1:10].tolist()


PLOT = """
import sys
from pcb.cli.main import main
sys.exit(main(["order", "4", "--png", "order.png"]))
"""
RC = """
text.usetex: True
font.family: monospace
font.size: 30
axes.prop_cycle: cycler('color', ['r'])
lines.linewidth: 9
figure.dpi: 10
savefig.bbox: tight
backend: tkagg
no such line
"""


def test_figures_do_not_depend_on_ones_own_matplotlib(tmp_path: Path) -> None:
    """Neither a notebook's backend nor a matplotlibrc, wherever one is found, changes a byte."""
    found = []
    for name, variables in (
        ("plain", {}),
        ("notebook", {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}),
        ("unknown", {"MPLBACKEND": "nonsense"}),
        ("own", {"MATPLOTLIBRC": "own"}),
    ):
        folder = tmp_path / name
        (folder / "own").mkdir(parents=True)
        for place in (folder, folder / "own"):
            (place / "matplotlibrc").write_text(RC if name != "plain" else "")
        done = subprocess.run(
            [sys.executable, "-c", PLOT],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        found.append((folder / "order.png").read_bytes())
    assert len(set(found)) == 1
