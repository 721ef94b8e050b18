"""`pcb.load`: the images of a sample set, from any kind of folder."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import pcb
from pcb.config import Autoencoder
from pcb.errors import UserError
from pcb.generate.options import Options
from pcb.pipeline.manifest import COMPLETE
from pcb.pipeline.tasks import Pipeline
from pcb.published.guidance import OFF
from pcb.sample.filter import EVERYTHING
from pcb.sample.sampler import Sampler
from pcb.sample.uniforms import uniforms
from pcb.systems.kinds import KINDS
from pcb.systems.parity.recording import read_recording
from pcb.tokenizer.load import TOKENIZER_FILE
from pcb.tokenizer.vq import Tokenizer
from tests.generate.models import codes_of
from tests.recorded import REFERENCE

TINY = REFERENCE / "tiny-2x"
LABELS = [3, 3, 7, 0, 3]


def test_images_are_those_of_the_sample_set(
    project: Path, inside: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From another working directory, in other batches, to the bit; nothing is written."""
    expected = codes_of(inside)
    monkeypatch.chdir(tmp_path)
    model = pcb.load(project, preset="smoke", model="ratio2", device="cpu")
    labels = np.arange(len(expected)) % model.num_classes
    model.batch = 5
    assert np.array_equal(model.codes(labels, Options(steps=17)), expected)
    chosen = model.codes(LABELS, Options(steps=17))
    assert np.array_equal(chosen, expected[[3, 13, 7, 0, 23]])
    assert not list(tmp_path.iterdir())


def test_a_models_own_folder_says_all(project: Path) -> None:
    folder = project / "results" / "artifacts" / "smoke" / "train" / "ratio2"
    by_folder, by_name = pcb.load(folder), pcb.load(project, preset="smoke")
    images = by_folder(["three", "THREE", 7])
    assert images.shape == (3, 32, 32, 3)
    assert np.array_equal(images, by_name([3, 3, 7]))
    assert by_folder.class_names is not None
    assert by_folder.class_names[3] == "three"


def test_torch_computes_afterwards_as_before(project: Path) -> None:
    model = pcb.load(TINY, device="cpu")
    torch.set_num_threads(2)
    assert not torch.are_deterministic_algorithms_enabled()
    model([1], steps=4)
    assert torch.get_num_threads() == 2
    assert not torch.are_deterministic_algorithms_enabled()


def test_seed_index_and_class_decide_an_image() -> None:
    model = pcb.load(TINY, device="cpu")
    one = model([3, 4], steps=9, seed=1)
    assert np.array_equal(one[1:], model([4], steps=9, seed=1))
    assert not np.array_equal(one, model([3, 4], steps=9, seed=2))
    assert not np.array_equal(one[:1], model([3], steps=9, seed=1, images=[5]))
    blocks = model.schedule(Options(steps=9)).blocks_per_scale
    assert np.array_equal(one, model([3, 4], blocks=blocks, seed=1))
    assert model([], steps=9).shape == (0, 32, 32, 3)


def test_frames_end_with_the_image() -> None:
    model = pcb.load(TINY, device="cpu")
    options = Options(steps=9)
    codes = model.codes([1, 2], options)
    frames, images = model.frames(codes, options), model.decode(codes)
    assert frames.shape == (9, 2, 32, 32, 3)
    # Decoded in another batch, a pixel may round the other way.
    assert np.abs(frames[-1].astype(int) - images).max() <= 1
    assert (frames[0] != frames[-1]).any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"labels": [10]}, "class 10: expected a number from 0 to 9"),
        ({"labels": ["threee"]}, "class 'threee': this model's classes have numbers alone"),
        ({"seed": -1}, r"seed -1: expected a number from 0 to 2\^64 - 1"),
        ({"steps": 3}, "no schedule of 3 steps for scales 1 2 4 8; the nearest has 4 "),
        ({"steps": 86}, "the nearest has 85 "),
        ({"blocks": 0}, "blocks 0: blocks per scale must be at least 1"),
        ({"blocks": [1, 2]}, "blocks 1,2: blocks per scale has 2 entries for 4 scales"),
        ({"steps": 9, "blocks": 2}, "steps and blocks exclude each other"),
        ({"guidance": float("nan")}, "guidance nan: expected a finite number"),
        ({"temperature": -1.0}, "temperature -1: expected"),
        ({"images": [0, 1]}, "2 images' indices for 1 labels"),
        ({"images": [-1]}, "images: expected a list of indices"),
    ],
)
def test_what_cannot_be_is_one_line(call: dict[str, object], message: str) -> None:
    model = pcb.load(TINY, device="cpu")
    with pytest.raises(UserError, match=message) as error:
        model(**{"labels": [1], **call})
    assert "\n" not in str(error.value)


def test_a_model_of_another_tokenizer_is_refused(project: Path, tmp_path: Path) -> None:
    artifacts = project / "results" / "artifacts" / "smoke"
    other = tmp_path / "tokenizer"
    shutil.copytree(artifacts / "tokenizer" / "all", other)
    manifest = json.loads((other / COMPLETE).read_text())
    settings = manifest["settings"]["autoencoder"]
    save_file(Tokenizer(Autoencoder(**settings)).state_dict(), other / TOKENIZER_FILE)
    with pytest.raises(UserError, match="trained with another codebook than the tokenizer's"):
        pcb.load(artifacts / "train" / "ratio2", tokenizer=other)


def test_a_folder_of_nothing_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds neither complete.json .*config.yaml .*config.json"):
        pcb.load(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        pcb.load(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"no params.yaml in it"):
        pcb.load(tmp_path, model="ratio2")


TOY = {
    "width": 16, "hidden_width": 32, "heads": 2, "blocks": 1, "codes": 16, "classes": 3,
    "grid": [4, 4], "parallel_tokens": 4, "self_blocks": 1, "cross_blocks": 1, "code_width": 8,
    "scales": [1, 2, 3],
}  # fmt: skip


def system_folder(kind: str, folder: Path) -> Path:
    """A system of random weights in the layout of recorded folders."""
    torch.manual_seed(0)
    model = KINDS[kind].build({**TOY, "grid": (4, 4)}, "toy")
    passed_over = getattr(model, "passed_over", ())
    state = {k: x.contiguous() for k, x in model.state_dict().items() if k not in passed_over}
    save_file(state, folder / "weights.safetensors")
    (folder / "config.json").write_text(json.dumps({"peer": kind, "tiny": TOY, "runs": {}}))
    return folder


def toy_tokenizer(codes: int) -> Tokenizer:
    torch.manual_seed(1)
    settings = Autoencoder(
        channels=8,
        channel_multipliers=(1, 1),
        residual_blocks=1,
        latent_channels=8,
        codebook_size=codes,
        norm_groups=1,
    )
    return Tokenizer(settings).eval().requires_grad_(False)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "VAR"])
def test_a_system_samples_as_its_own_decoder_does(kind: str, tmp_path: Path) -> None:
    folder = system_folder(kind, tmp_path)
    model = pcb.load(folder, tokenizer=toy_tokenizer(16), device="cpu")
    codes, images = model.codes([0, 2, 0]), np.array([0, 2, 3])
    own = KINDS[kind].load(
        read_recording(folder).part("tiny"), "toy", folder / "weights.safetensors"
    )
    orders = KINDS[kind].orders
    expected = Sampler(KINDS[kind].decoder(own, OFF, None, None), filter=EVERYTHING).sample(
        torch.tensor([0, 2, 0]),
        torch.from_numpy(uniforms(0, images, (4,))),
        None if orders is None else torch.from_numpy(orders(own, None, 0, images)),
    )
    assert np.array_equal(codes, expected.numpy())
    assert model.decode(codes).shape == (3, 8, 8, 3)
    frames = model.frames(codes, images=images)
    assert np.abs(frames[-1].astype(int) - model.decode(codes)).max() <= 1
    assert len(frames) == model.steps(Options())


def test_a_systems_tokenizer_must_be_its_own(tmp_path: Path) -> None:
    folder = system_folder("NAR", tmp_path)
    with pytest.raises(UserError, match="samples from 16 codes, but the tokenizer has 12"):
        pcb.load(folder, tokenizer=toy_tokenizer(12))
    with pytest.raises(UserError, match=r"vq_ds16_c2i.pt: no such file"):
        pcb.load(folder)


def test_a_system_has_the_steps_that_its_order_gives(tmp_path: Path) -> None:
    model = pcb.load(system_folder("NAR", tmp_path), tokenizer=toy_tokenizer(16))
    with pytest.raises(UserError, match="no schedule of 9 steps; the nearest has 7"):
        model([1], steps=9)
    with pytest.raises(UserError, match="its order gives the blocks"):
        model([1], blocks=2)
    assert model([1], steps=7).shape == (1, 8, 8, 3)
