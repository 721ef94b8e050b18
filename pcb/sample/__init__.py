"""Tokens from weights: random numbers, filters, guidance, block-parallel decoding."""
