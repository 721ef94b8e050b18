"""Training: one loop, and objectives of transformer, tokenizer, codebook and classifier."""
