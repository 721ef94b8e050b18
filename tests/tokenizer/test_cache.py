"""The token cache as training reads it."""

import numpy as np
import pytest

from pcb.data.arrays import save_array
from pcb.errors import UserError
from pcb.tokenizer.cache import LABELS, TokenCache, token_shard

SIZES = (1, 3)
COUNTS = (4, 4, 2)
CROPS = 2


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for size in SIZES:
        for shard, count in enumerate(COUNTS):
            path = token_shard(tmp_path, size, shard)
            path.parent.mkdir(exist_ok=True)
            shape = (count, CROPS, size, size)
            save_array(path, rng.integers(65536, size=shape).astype(np.uint16))
    save_array(tmp_path / LABELS, np.arange(sum(COUNTS)))
    return tmp_path


def test_codes_come_from_all_shards_in_the_order_asked_for(folder):
    cache = TokenCache.open(folder, SIZES)
    images, crops = np.array([9, 0, 4, 3, 3]), np.array([1, 0, 1, 0, 1])
    codes = cache.codes(images, crops)
    for size in SIZES:
        whole = np.concatenate([np.load(token_shard(folder, size, i)) for i in range(len(COUNTS))])
        assert codes[size].dtype == np.int64
        np.testing.assert_array_equal(codes[size], whole[images, crops])
    assert cache.crops == CROPS
    np.testing.assert_array_equal(cache.labels, np.arange(10))


def test_scales_can_be_read_apart(folder):
    assert set(TokenCache.open(folder, (3,)).codes(np.array([5]), np.array([0]))) == {3}


def test_a_missing_scale_is_named(folder):
    with pytest.raises(UserError, match="no codes of scale 8"):
        TokenCache.open(folder, (1, 8))


def test_a_lost_shard_and_a_damaged_one_are_named(folder):
    token_shard(folder, 3, 1).write_bytes(b"not an array")
    with pytest.raises(UserError, match="00001.npy: damaged"):
        TokenCache.open(folder, SIZES)
    token_shard(folder, 3, 1).unlink()
    with pytest.raises(UserError, match="different numbers of images"):
        TokenCache.open(folder, SIZES)


def test_missing_labels_are_named(folder):
    (folder / LABELS).unlink()
    with pytest.raises(UserError, match="labels.npy: no such file"):
        TokenCache.open(folder, SIZES)
