"""A small token cache in the format of the stage `tokens`, for tests of training."""

import numpy as np

from pcb.config.paths import token_part

SIZES = (1, 2, 4)
CODES = 64


def write_tokens(folder, *, images, crops, sizes=SIZES, seed=0):
    """Write random codes; cell (0, 0) of the 4x4 scale is the image, (0, 1) the crop."""
    random = np.random.default_rng(seed)
    for size in sizes:
        codes = random.integers(CODES, size=(images, crops, size, size)).astype(np.uint16)
        if size == 4:
            codes[:, :, 0, 0] = np.arange(images)[:, None]
            codes[:, :, 0, 1] = np.arange(crops)
        part = folder / token_part(size)
        part.mkdir(parents=True)
        half = images // 2
        np.save(part / "00000.npy", codes[:half])
        np.save(part / "00001.npy", codes[half:])
    np.save(folder / "labels.npy", np.arange(images) % 10)
