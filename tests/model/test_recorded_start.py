"""Fresh weights: statistics of the published size S, and initial phases."""

import math

import numpy as np
import pytest
import torch

from pcb.config import Model
from pcb.model.rotary import RotaryPhases, initial_angles
from pcb.model.transformer import Transformer
from pcb.order.schedule import scale_sizes
from tests.train.recorded import arrays_of

SIZES = scale_sizes(16, 2)


@pytest.fixture(scope="module")
def arrays():
    return arrays_of("init_S.npz")


@pytest.mark.parametrize("head_dim", [32, 64])
def test_initial_phases_are_the_recorded_ones(arrays, head_dim):
    phases = RotaryPhases(SIZES, head_dim, heads=2, mixing_layers=1).phases.detach()
    expected = torch.from_numpy(arrays[f"rotary_init_headdim{head_dim}"])
    torch.testing.assert_close(phases, expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize(("head_dim", "scale_entries"), [(8, 0), (12, 0), (24, 2), (40, 4)])
def test_an_odd_eighth_of_the_head_leaves_one_scale_entry_fewer(head_dim, scale_entries):
    """x and y take the entry: f = H - H // 8 is rounded up to even."""
    assert (head_dim // 8) % 2 == 1
    angles = initial_angles(SIZES, head_dim)
    f = head_dim - scale_entries
    assert f % 2 == 0
    x, y, size, index = 3, 1, 8, 3
    row = 1 + 4 + 16 + y * size + x
    stride = 16 / size
    for j in range(f // 2):
        wave = (16**2) ** (-2 * j / f)
        assert float(angles[row, j]) == pytest.approx((stride * x + 1) * wave, rel=1e-5)
        assert float(angles[row, f // 2 + j]) == pytest.approx((stride * y + 1) * wave, rel=1e-5)
    for j in range(scale_entries):
        expected = (index + 1) * (math.pi / 2) / 10 ** (j / scale_entries)
        assert float(angles[row, f + j]) == pytest.approx(expected, rel=1e-5)
    assert (angles[:-2] != 0).all(), "no entry is left over"


def test_fresh_weights_of_size_s_have_the_published_statistics(arrays):
    torch.manual_seed(0)
    codebook = torch.nn.functional.normalize(torch.randn(4096, 8), dim=1)
    model = Transformer(Model(), SIZES, 1000, codebook)
    found = dict(model.named_parameters())
    assert found.keys() == set(arrays["names"].tolist())
    recorded = zip(*(arrays[k].tolist() for k in ("names", "mean", "std", "numel")), strict=True)
    kurtoses = dict(zip(arrays["names"].tolist(), arrays["kurtosis"].tolist(), strict=True))
    for name, mean, std, numel in recorded:
        values = found[name].detach().double().flatten()
        assert values.numel() == numel, name
        # Six standard errors of the difference of two samples' statistics.
        slack = 6 * math.sqrt(2 / numel)
        spread = float(values.std(correction=0))
        assert abs(float(values.mean()) - mean) <= slack * max(std, spread) + 1e-12, name
        assert abs(spread - std) <= slack * max(std, spread) + 1e-12, name
        kurtosis = float(((values - values.mean()) ** 4).mean() / spread**4) if spread else np.nan
        expected = kurtoses[name]
        assert math.isnan(kurtosis) == math.isnan(expected), name
        if not math.isnan(expected):
            # Normal, kurtosis 3, or uniform, 1.8; its standard error is at most sqrt(24 / n).
            assert abs(kurtosis - expected) <= slack * math.sqrt(24) + 1e-9, name
