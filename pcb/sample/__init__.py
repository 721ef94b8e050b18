"""Sampling of tokens: random numbers, filters, guidance, block-parallel decoding."""
