"""Memory and time at size: many files in an index, and shards whose pixels would not fit."""

import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from pcb.runtime.weights import save_weights
from pcb.stages import tokens as module
from pcb.stages.data import run as prepare
from pcb.tokenizer.load import TOKENIZER_FILE
from pcb.tokenizer.vq import Tokenizer
from tests.clock import cpu_seconds
from tests.imagenet import TINY, imagenet_preset, jpeg, natural_image, wnid
from tests.tasks import ROOT, job_of

CLASSES, PER_CLASS = 3, 200
SHARD = {**TINY, "tokens": {"shard_images": 16384}}


def write_many(folder: Path, classes: int, per_class: int, side: int) -> None:
    files = [jpeg(natural_image(k, (side, side))) for k in range(20)]
    for label in range(classes):
        (folder / wnid(label)).mkdir(parents=True)
        for k in range(per_class):
            (folder / wnid(label) / f"{k}.JPEG").write_bytes(files[k % len(files)])


def peak() -> float:
    """Return the most memory that this process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def test_twenty_thousand_files_are_entered_in_seconds(tmp_path):
    write_many(tmp_path / "train", classes=100, per_class=200, side=16)
    preset = imagenet_preset(tmp_path / "train", num_classes=100)
    before, started = peak(), cpu_seconds()
    facts = prepare(job_of(preset, "data", tmp_path / "data"))
    assert facts["train_images"] == 20_000
    assert cpu_seconds() - started < 20
    assert peak() - before < 100


def fill_cache(root: Path) -> None:
    """Fill a cache with what stands for codes, and print by how many MiB memory grew."""

    def encode(tokenizer: Tokenizer, pixels: np.ndarray, sizes: Sequence[int]) -> dict:
        return {size: torch.zeros(len(pixels), size, size, dtype=torch.int64) for size in sizes}

    # The network would take minutes; its memory is that of one batch.
    module.encode = encode
    inputs = {"data": root / "data", "tokenizer": root / "tokenizer"}
    preset = imagenet_preset(root / "train", settings=SHARD)
    before = peak()
    module.run(job_of(preset, "tokens", root / "tokens", **inputs))
    print("grew by", peak() - before)


def test_the_pixels_of_a_shard_are_never_held(tmp_path):
    write_many(tmp_path / "train", CLASSES, PER_CLASS, side=281)
    preset = imagenet_preset(tmp_path / "train", settings=SHARD)
    prepare(job_of(preset, "data", tmp_path / "data"))
    (tmp_path / "tokenizer").mkdir()
    tokenizer = Tokenizer(preset.tokenizer.autoencoder)
    save_weights(tmp_path / "tokenizer" / TOKENIZER_FILE, tokenizer.state_dict())
    code = f"from tests.stages.test_memory import *; fill_cache(Path({str(tmp_path)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    pixels = CLASSES * PER_CLASS * 10 * 3 * 256 * 256 / 2**20
    assert pixels > 1000
    assert float(done.stdout.split()[-1]) < 300
