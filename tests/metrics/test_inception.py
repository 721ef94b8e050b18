"""Inception: which layers it gives, in which order, and how its file is refused."""

import os
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from pcb.errors import UserError
from pcb.metrics.features import extract, join_features, load_features, save_features
from pcb.metrics.inception import load_inception
from pcb.runtime.device import set_tf32
from tests.inception import LOGITS, POOL, SPATIAL, random_images

CPU = torch.device("cpu")


def pixels_of(count, seed=0):
    return torch.from_numpy(random_images(count, seed=seed).transpose(0, 3, 1, 2).copy())


@pytest.fixture(scope="module")
def extractor(inception):
    return load_inception(inception, CPU)


@pytest.fixture(scope="module")
def layers(extractor):
    return extractor(pixels_of(2))


def test_layers_are_torch_fidelitys(inception, layers):
    path = str(inception)
    names = ["logits_unbiased", "2048"]
    theirs = FeatureExtractorInceptionV3("theirs", names, feature_extractor_weights_path=path)
    logits, pool = theirs(pixels_of(2))
    torch.testing.assert_close(layers.pool, pool)
    torch.testing.assert_close(layers.logits, logits)
    assert layers.pool.shape == (2, POOL) and layers.logits.shape == (2, LOGITS)
    weight = torch.load(inception, weights_only=True)["fc.weight"]
    torch.testing.assert_close(layers.logits, pool @ weight.T)


def test_spatial_features_are_seven_channels_after_the_relu_by_rows_columns_channels(
    extractor, layers
):
    """Computed again from the block's input, by its convolution and normalization."""
    block, seen = extractor.network.Mixed_6d, []
    handle = block.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    extractor(pixels_of(2))
    handle.remove()
    branch = block.branch1x1
    expected = F.relu(branch.bn(F.conv2d(seen[0], branch.conv.weight)))
    assert expected.shape == (2, 192, 17, 17)
    assert layers.spatial.shape == (2, SPATIAL)
    for row, column, channel in ((0, 0, 0), (0, 1, 3), (5, 11, 6), (16, 16, 2)):
        flat = (row * 17 + column) * 7 + channel
        torch.testing.assert_close(layers.spatial[:, flat], expected[:, channel, row, column])
    assert layers.spatial.min() == 0 < layers.spatial.max()


def test_one_pass_gathers_all_and_parts_join_to_the_whole(extractor, tmp_path):
    pixels, seen = pixels_of(3), []
    whole = extract(extractor, pixels.split(2), seen.append)
    assert seen == [2, 1]
    parts = []
    for number, part in enumerate(pixels.split([1, 2])):
        path = tmp_path / f".features-{number}.npz"
        save_features(path, extract(extractor, [part], seen.append))
        parts.append(load_features(path))
    joined = join_features(parts)
    for name in ("pool", "logits"):
        torch.testing.assert_close(getattr(joined, name), getattr(whole, name))
    assert joined.spatial.count == 3
    one, other = joined.spatial.statistics(), whole.spatial.statistics()
    np.testing.assert_allclose(one.mean, other.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(one.covariance, other.covariance, rtol=1e-3, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_sees_what_the_cpu_sees(inception, layers):
    set_tf32(False)
    found = load_inception(inception, torch.device("cuda"))(pixels_of(2).cuda())
    for one, other in zip(found, layers, strict=True):
        torch.testing.assert_close(one.cpu(), other, rtol=1e-3, atol=1e-4)


def test_weights_in_pytorchs_old_file_format_are_read(inception, layers, tmp_path):
    """Published before the present one became the default."""
    state, path = torch.load(inception, weights_only=True), tmp_path / "old.pth"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    torch.testing.assert_close(load_inception(path, CPU)(pixels_of(2)).pool, layers.pool)


class _Command:
    """What a pickle may hold that is no tensor."""

    def __reduce__(self):
        return os.getcwd, ()


def test_a_file_of_another_kind_is_refused_in_one_line(tmp_path, inception):
    path = tmp_path / "weights.pth"
    with pytest.raises(UserError, match=r"weights\.pth: no such file"):
        load_inception(path, CPU)
    path.write_bytes(b"no weights")
    with pytest.raises(UserError, match=r"weights\.pth: not readable weights"):
        load_inception(path, CPU)
    path.write_bytes(inception.read_bytes()[:100_000])
    with pytest.raises(UserError, match=r"weights\.pth: not readable weights"):
        load_inception(path, CPU)
    torch.save({"fc.weight": torch.zeros(2)}, path)
    with pytest.raises(UserError, match=r"weights\.pth: not torch-fidelity's Inception"):
        load_inception(path, CPU)


def save_bare(value, path):
    path.write_bytes(pickle.dumps(value, protocol=2))


@pytest.mark.parametrize("save", [torch.save, save_bare])
def test_a_pickle_that_runs_something_is_not_run(tmp_path, save):
    path = tmp_path / "weights.pth"
    save({"fc.weight": _Command()}, path)
    with pytest.raises(UserError, match=r"weights\.pth: not readable weights") as caught:
        load_inception(path, CPU)
    assert "\n" not in str(caught.value)
