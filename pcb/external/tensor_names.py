"""Tensor names of the authors' released models, and this package's (method section 9)."""

import re

# (pattern of a released name, name here). The autoencoder's own names are kept as they are.
TRANSFORMER_NAMES = (
    (r"empty_token_emb", "empty_code"),
    (r"empty_token_pos", "empty_position"),
    (r"class_embeddings\.weight", "class_embedding.weight"),
    (r"embed_positions\.weight", "position_embedding.weight"),
    (r"embed_codevecs_mlp\.net\.(\d+)\.(weight|bias)", r"code_mlp.\1.\2"),
    (r"src_latents_proj\.(weight|bias)", r"source_projection.\1"),
    (r"combine_inputs\.(weight|bias)", r"combine.\1"),
    (r"lm_head\.(weight|bias)", r"head.\1"),
    (r"head_mlp\.net\.(\d+)\.(weight|bias)", r"head_mlp.\1.\2"),
    (r"llama\.norm\.weight", "norm.weight"),
    (r"llama\.rotary_emb\.mixing_coeffs", "rotary.mixing"),
    (
        r"llama\.rotary_emb\.position_embeddings\.parametrizations\.weight\.original",
        "rotary.phases",
    ),
    (r"llama\.layers\.(\d+)\.attention\.wqkv\.weight", r"layers.\1.attention.qkv.weight"),
    (r"llama\.layers\.(\d+)\.attention\.wo\.weight", r"layers.\1.attention.out.weight"),
    (r"llama\.layers\.(\d+)\.feed_forward\.w1\.weight", r"layers.\1.mlp.gate.weight"),
    (r"llama\.layers\.(\d+)\.feed_forward\.w3\.weight", r"layers.\1.mlp.up.weight"),
    (r"llama\.layers\.(\d+)\.feed_forward\.w2\.weight", r"layers.\1.mlp.down.weight"),
    (r"llama\.layers\.(\d+)\.attention_norm\.weight", r"layers.\1.attention_norm.norm.weight"),
    (r"llama\.layers\.(\d+)\.ffn_norm\.weight", r"layers.\1.mlp_norm.norm.weight"),
    (
        r"llama\.layers\.(\d+)\.input_modulation\.adaLN_modulation\.1\.(weight|bias)",
        r"layers.\1.attention_norm.modulation.\2",
    ),
    (
        r"llama\.layers\.(\d+)\.post_attention_modulation\.adaLN_modulation\.1\.(weight|bias)",
        r"layers.\1.mlp_norm.modulation.\2",
    ),
)


def rename(released: str) -> str:
    """Return this package's name of a released tensor; an unknown name stays as it is."""
    for pattern, name in TRANSFORMER_NAMES:
        if re.fullmatch(pattern, released):
            return re.sub(pattern, name, released)
    return released
