"""Commands under a grid: what they ask for, and that the command line takes them."""

import shlex

import pytest

from pcb.cli.main import build_parser
from pcb.config import Preset
from pcb.config.loader import load_params, parse_preset
from pcb.report.commands import generate_commands
from pcb.report.rows import make_row
from tests.tasks import ROOT


def preset_with(**own: object) -> Preset:
    """Return the miniature with these settings."""
    params = load_params(ROOT / "params.yaml")
    settings = {"extends": "mini", **own}
    return parse_preset({"presets": {**params["presets"], "own": settings}}, "own")


def commands(preset: Preset, images: int, *, animate: bool = False) -> tuple[str, ...]:
    rows = [make_row(preset, "ratio2", config) for config in preset.sampling_configs("ratio2")]
    return generate_commands("own", preset, rows, images, animate=animate)


SWEEP = [
    {"models": ["ratio2"], "blocks": [1], "total_steps": [9, 17], "cfg": [0, 1.5]},
    {"models": ["ratio2"], "blocks": [[1, 2, 2, 8], 4], "cfg": [0.75], "cfg_start_step": 0},
]


def test_rows_that_differ_in_steps_alone_share_a_command() -> None:
    preset = preset_with(sweep=SWEEP, sampling={"seed": 3, "temperature": 0.9})
    start = "pcb generate ratio2 --classes 0 1 2 3 4 5 6 7 8 9 --count 2"
    end = "--seed 3 --temperature 0.9 --preset own"
    assert commands(preset, 20) == (
        f"{start} --steps 4 9 17 {end}",
        f"{start} --steps 4 9 17 --cfg 1.5 {end}",
        f"{start} --blocks 1,2,2,8 --cfg 0.75 --cfg-start-step 0 {end}",
        f"{start} --steps 13 --cfg 0.75 --cfg-start-step 0 {end}",
    )


@pytest.mark.parametrize(
    ("images", "asked"),
    [
        (1, "--classes 0 --count 1"),
        (4, "--classes 0 1 2 3 --count 1"),
        (11, "--classes 0 1 2 3 4 5 6 7 8 9 --count 2"),
    ],
)
def test_labels_go_round(images: int, asked: str) -> None:
    assert f"ratio2 {asked} --steps" in commands(preset_with(), images)[0]


def test_the_command_line_takes_them() -> None:
    for animate in (False, True):
        for command in commands(preset_with(sweep=SWEEP), 12, animate=animate):
            program, *words = shlex.split(command)
            arguments = build_parser().parse_args(words)
            assert (program, arguments.animate) == ("pcb", animate)
            assert len(arguments.classes) == 10
