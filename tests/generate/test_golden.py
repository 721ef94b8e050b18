"""Against recorded values of the released codes: the likeliest codes and their images."""

import numpy as np
import pytest

import pcb
from pcb.generate.options import Options
from tests.recorded import PEERS, REFERENCE


@pytest.mark.parametrize("folder", ["tiny-2x", "tiny-3x"])
@pytest.mark.parametrize("cfg", [0.0, 1.5])
def test_the_papers_own_model_at_temperature_0(folder: str, cfg: float) -> None:
    model = pcb.load(REFERENCE / folder, device="cpu")
    with np.load(REFERENCE / folder / "expected.npz") as file:
        expected = dict(file)
    options = Options(
        blocks=int(expected["blocks_per_scale"]),
        guidance=cfg,
        guidance_start=2,
        temperature=0,
    )
    codes = model.codes(expected["labels"], options)
    grids = [expected[f"greedy_cfg{cfg}_codes_{size}"] for size in model.sizes]
    assert np.array_equal(codes, np.concatenate([grid.reshape(len(grid), -1) for grid in grids], 1))
    assert model.steps(options) == expected[f"greedy_cfg{cfg}_steps"]
    pixels = (expected[f"greedy_cfg{cfg}_image"].clip(-1, 1) + 1) * 127.5
    images = model.decode(codes).transpose(0, 3, 1, 2)
    # Rounded to the nearest gray level, of values that agree to 1e-4 of 2.
    assert np.abs(images - pixels).max() <= 0.5 + 0.02


def test_var_at_temperature_0() -> None:
    model = pcb.load(PEERS / "var", device="cpu")
    with np.load(PEERS / "var" / "expected.npz") as file:
        expected = dict(file)
    codes = model.codes(expected["labels"], Options(temperature=0))
    assert np.array_equal(codes, expected["gen_off_codes"])
    # In 0..1; the released scripts cut down to gray levels, as is done here.
    pixels = expected["gen_off_image"] * 255
    images = model.decode(codes).transpose(0, 3, 1, 2)
    assert np.abs(images - pixels).max() <= 1 + 0.02
    # Decoded in another batch, a value may fall to the next gray level.
    assert np.abs(model.frames(codes)[-1].astype(int) - model.decode(codes)).max() <= 1
