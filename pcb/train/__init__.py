"""Weights: one loop, and the objectives of transformer, tokenizer, codebook and classifier."""
