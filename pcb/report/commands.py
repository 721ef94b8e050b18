"""The commands that make a grid's images again: `pcb generate` with the sample sets' settings."""

from collections.abc import Iterable, Sequence

from pcb.config import Preset, SamplingConfig
from pcb.config.sweep import GUIDANCE_START
from pcb.order.allocation import schedule_from_total
from pcb.order.blocks_text import blocks_text
from pcb.report.rows import Row


def generate_commands(
    name: str, preset: Preset, rows: Iterable[Row], images: int, *, animate: bool = False
) -> tuple[str, ...]:
    """Return commands that make the first images of these rows' sample sets: the same pixels.

    name: of the preset. Rows that differ in their number of steps alone share a command.
    """
    groups: dict[tuple[str, ...], list[int]] = {}
    for row in rows:
        blocks = _blocks(preset, row)
        key = (row.model, blocks, _guidance(row))
        groups.setdefault(key, []).extend([] if blocks else [row.steps])
    asked = _classes(preset.data.num_classes, images)
    shared = [f"--seed {preset.sampling.seed}"]
    if preset.sampling.temperature != 1:
        shared.append(f"--temperature {preset.sampling.temperature:g}")
    shared += ["--animate"] * animate + [f"--preset {name}"]
    return tuple(
        " ".join(
            filter(None, ("pcb generate", model, asked, blocks or _steps(steps), cfg, *shared))
        )
        for (model, blocks, cfg), steps in groups.items()
    )


def _classes(num_classes: int, images: int) -> str:
    """Return the options for images 0 to `images` - 1, whose labels go round; maybe some more."""
    classes = " ".join(map(str, range(min(num_classes, images))))
    return f"--classes {classes} --count {-(-images // num_classes)}"


def _steps(steps: Sequence[int]) -> str:
    return "--steps " + " ".join(map(str, dict.fromkeys(steps)))


def _blocks(preset: Preset, row: Row) -> str:
    """Return the option for blocks; nothing where the number of steps says the same."""
    if schedule_from_total(row.schedule.sizes, row.steps) == row.schedule:
        return ""
    config: SamplingConfig = next(
        p for p in preset.sampling_configs(row.model) if p.name == row.setting
    )
    if isinstance(config.blocks, int):
        return f"--blocks {config.blocks}"
    assert isinstance(config.blocks, tuple)
    return f"--blocks {blocks_text(config.blocks)}"


def _guidance(row: Row) -> str:
    if not row.guided:
        return ""
    start = (
        "" if row.cfg_start_step == GUIDANCE_START else f" --cfg-start-step {row.cfg_start_step}"
    )
    return f"--cfg {row.cfg:g}{start}"
