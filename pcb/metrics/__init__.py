"""How good samples are: features of images, and distances and scores of features."""
