"""The VQ tokenizer: images to grids of codes at several scales, and codes back to images."""
