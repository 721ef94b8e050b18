"""Recorded quantities of VAR and its tokenizer, computed anew. Letters as in `pcb.systems.var`."""

import re
from typing import Any

import torch
from torch import Tensor

from pcb.errors import UserError
from pcb.published.guidance import Guidance, Ramp
from pcb.sample.filter import Filter, filtered
from pcb.systems.parity.greedy import Kept, Quantities, Schedules, greedy, guidance_of
from pcb.systems.parity.recording import CONFIG, WEIGHTS, Recording
from pcb.systems.var import VAR, VARConfig, load_var
from pcb.systems.var_decoding import VARDecoder, by_scale
from pcb.systems.var_quantizer import VARTokenizerConfig, phi_indices
from pcb.systems.var_tokenizer import VARTokenizer, load_var_tokenizer
from pcb.systems.weights import read_config

TOKENIZER_WEIGHTS = "vae.safetensors"
_SCHEDULES: Schedules = {"ramp over scales": lambda given: Ramp(given["scale"])}


def is_input(name: str) -> bool:
    """Whether a recorded array is given to the model."""
    return name in {"labels", "scales", "image", "teacher_codes"}


def quantities(recording: Recording) -> Quantities:
    """Load a folder's two models, strictly; yield name and value of all that can be computed."""
    source = f"{recording.folder / CONFIG}: "
    tiny, of_tokenizer = recording.part("tiny"), recording.part("tokenizer")
    if not isinstance(tiny, dict) or not isinstance(of_tokenizer, dict):
        raise UserError(f"{source}`tiny` and `tokenizer` are to be objects")
    shared = {"scales": tiny.get("scales"), "code_width": of_tokenizer.get("code_width")}
    config = read_config(tiny | shared, VARConfig, source + "tiny")
    tokenizer = load_var_tokenizer(
        recording.folder / TOKENIZER_WEIGHTS,
        read_config(of_tokenizer | shared, VARTokenizerConfig, source + "tokenizer"),
    )
    model = load_var(recording.folder / WEIGHTS, config)
    if not recording.expected:
        return
    yield from _tokenizer(tokenizer, recording)
    yield from _teacher_forced(model, tokenizer, recording)
    for name, run in recording.runs.items():
        if name.startswith("gen_"):
            yield from _run(model, tokenizer, name, run, recording)


def _tokenizer(tokenizer: VARTokenizer, recording: Recording) -> Quantities:
    """Which convolution smooths each scale; the recorded image's codes, sums and reconstruction."""
    scales = tokenizer.config.scales
    indices = phi_indices(len(scales), tokenizer.config.phi_convolutions)
    yield f"phi_index_{len(scales)}_scales", torch.tensor(indices)
    features_BDhw = tokenizer.features(recording.given("image", None, 3, None, None))
    yield "encoder_feature", features_BDhw
    codes = tokenizer.quantize.codes(features_BDhw)
    for side, codes_BP in zip(scales, codes, strict=True):
        yield f"encoded_codes_{side}", codes_BP
    yield from _sums(tokenizer, "encoded", codes)
    for name in ("reconstructed_image", "decoded_from_encoded_codes"):
        yield name, tokenizer.decode(codes)


def _sums(tokenizer: VARTokenizer, prefix: str, codes: list[Tensor]) -> Quantities:
    """The sum after every scale."""
    sums = list(tokenizer.quantize.sums(codes))
    for side, f_BDhw in zip(tokenizer.config.scales, sums, strict=True):
        yield f"{prefix}_fhat_scale{side}", f_BDhw
    yield f"{prefix}_fhat_last", sums[-1]


def _teacher_forced(model: VAR, tokenizer: VARTokenizer, recording: Recording) -> Quantities:
    """Inputs and logits of the recorded codes, and what each block hands on."""
    labels_B, config = _labels(model, recording), model.config
    codes_BT = recording.whole("teacher_codes", len(labels_B), config.tokens, below=config.codes)
    codes = by_scale(codes_BT, config.scales)
    inputs_BLD = tokenizer.quantize.inputs(codes)
    yield "teacher_input", inputs_BLD
    with Kept({str(i): block for i, block in enumerate(model.blocks)}) as hidden:
        yield "teacher_logits", model.teacher_forced(labels_B, inputs_BLD)
    for i, x_BTC in hidden.items():
        yield f"teacher_hidden_block{i}_sample0", x_BTC[0]
    null = torch.full_like(labels_B[:1], model.config.classes)
    yield "teacher_logits_uncond", model.teacher_forced(null, inputs_BLD[:1])
    yield from _sums(tokenizer, "teacher", codes)
    yield "teacher_image", tokenizer.decode(codes)


def _labels(model: VAR, recording: Recording) -> Tensor:
    return recording.whole("labels", None, below=model.config.classes + 1)


def _run(
    model: VAR, tokenizer: VARTokenizer, name: str, run: Any, recording: Recording
) -> Quantities:
    """Codes, logits, sum, image in 0..1 and filtered probabilities of a run."""

    def make(guidance: Guidance) -> VARDecoder:
        return VARDecoder(model, guidance, tokenizer.quantize)

    guidance = guidance_of(run, _SCHEDULES, recording)
    made = dict(greedy(make, guidance, name, _labels(model, recording)))
    yield from made.items()
    *_, f_BDhw = tokenizer.quantize.sums(by_scale(made[f"{name}_codes"], model.config.scales))
    yield f"{name}_fhat", f_BDhw
    yield f"{name}_image", (tokenizer.decode_sum(f_BDhw) + 1) / 2
    match run:
        case {"filter_shown_in_probs": {"top_k": int() as top_k, "top_p": float() as top_p}}:
            filter = Filter(top_k=top_k, top_p=top_p)
        case _:
            return
    for quantity in recording.expected:
        if found := re.fullmatch(rf"{re.escape(name)}_step(\d+)_probs_filtered", quantity):
            logits_BnV = made[f"{name}_step{found[1]}_logits_guided"]
            yield quantity, filtered(logits_BnV, filter).softmax(-1)
