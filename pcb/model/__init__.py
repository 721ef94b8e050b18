"""The block-causal transformer: sequence, rotary phases, layers, cache."""
