"""Drawing images: random numbers, guidance, the sampler and the stage that runs it."""
