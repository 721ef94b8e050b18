"""The VQ tokenizer: autoencoder, quantizer, pyramid, token cache."""
