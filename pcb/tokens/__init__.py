"""The token cache: what the tokenizer makes of the training images."""
