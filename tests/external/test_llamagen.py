"""LlamaGen's file: its tensors by name and shape, and loading them strictly."""

import json
from pathlib import Path

import pytest
import torch

from pcb.config import Autoencoder
from pcb.errors import UserError
from pcb.external.llamagen import CODES, llamagen_tensors, load_llamagen
from pcb.tokenizer.vq import Tokenizer
from tests.llamagen import write_llamagen
from tests.models import TINY_AUTOENCODER
from tests.recorded import REFERENCE

LISTED = REFERENCE / "llamagen_vq16.json"
"""Every tensor of `vq_ds16_c2i.pt` and its shape."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of LlamaGen's form, of a small architecture."""
    return write_llamagen(tmp_path / "vq.pt", TINY_AUTOENCODER)


def edit(path: Path, change) -> None:
    content = torch.load(path, weights_only=True)
    change(content["model"])
    torch.save(content, path)


def test_the_expected_tensors_are_llamagens():
    listed = json.loads(LISTED.read_text())
    assert listed.pop("quantize.codebook_used") == [65536]
    with torch.device("meta"):
        expected = llamagen_tensors(Autoencoder(codebook_size=CODES))
    assert {name: list(x.shape) for name, x in expected.items()} == listed
    assert len(listed) == 343


def test_a_file_of_the_published_size_loads_and_encodes(tmp_path: Path):
    """71.9 M random weights, of the paper's architecture, and an image of its size."""
    tokenizer = load_llamagen(write_llamagen(tmp_path / "vq.pt", Autoencoder()), Autoencoder())
    assert sum(x.numel() for x in tokenizer.state_dict().values()) == 71_883_403
    images = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0)) * 2 - 1
    codes = tokenizer.codes(images, [1, 16])
    assert [codes[size].shape for size in (1, 16)] == [(1, 1, 1), (1, 16, 16)]
    assert tokenizer.decode(codes[16]).shape == (1, 3, 256, 256)


def test_the_weights_are_taken_as_they_are(path: Path):
    torch.manual_seed(0)
    written = torch.load(path, weights_only=True)["model"]
    tokenizer = load_llamagen(path, TINY_AUTOENCODER)
    assert tokenizer.codebook.shape == (CODES, 8)
    codes = written.pop("quantize.embedding.weight")
    torch.testing.assert_close(tokenizer.codebook, codes / codes.norm(dim=1, keepdim=True))
    written.pop("quantize.codebook_used")
    for name, tensor in written.items():
        assert torch.equal(tokenizer.state_dict()[name], tensor), name
    assert not any(weight.requires_grad for weight in tokenizer.parameters())


def test_the_usage_buffer_may_be_missing(path: Path):
    edit(path, lambda tensors: tensors.pop("quantize.codebook_used"))
    assert isinstance(load_llamagen(path, TINY_AUTOENCODER), Tokenizer)


def test_tensors_that_do_not_fit_are_named_as_in_the_file(path: Path):
    def spoil(tensors):
        tensors["stray"] = tensors.pop("encoder.mid.1.q.weight")
        tensors["quantize.embedding.weight"] = tensors["quantize.embedding.weight"][:10]

    edit(path, spoil)
    with pytest.raises(UserError) as error:
        load_llamagen(path, TINY_AUTOENCODER)
    for part in (
        str(path),
        "missing: encoder.mid.1.q.weight",
        "unknown: stray",
        "quantize.embedding.weight [10, 8] for [16384, 8]",
    ):
        assert part in str(error.value)


def test_other_files_are_refused(tmp_path: Path):
    with pytest.raises(UserError, match="no such file"):
        load_llamagen(tmp_path / "vq.pt", TINY_AUTOENCODER)
    torch.save({"state_dict": {}}, tmp_path / "vq.pt")
    with pytest.raises(UserError, match=r"no `model` in this file; is it LlamaGen's"):
        load_llamagen(tmp_path / "vq.pt", TINY_AUTOENCODER)
    torch.save({"model": Tokenizer(TINY_AUTOENCODER)}, tmp_path / "vq.pt")
    with pytest.raises(UserError, match="not a readable checkpoint"):
        load_llamagen(tmp_path / "vq.pt", TINY_AUTOENCODER)
