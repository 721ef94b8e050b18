"""Numbers of a preset's images, as far as they are known before anything runs. No torch."""

from pcb.config import ImageFolder, ImageNet, Photographs, Preset
from pcb.config.images import DIGITS_PER_CLASS
from pcb.data.folder import find_images

IMAGENET_TRAIN = 1_281_167
IMAGENET_VALIDATION = 50_000


def train_images(preset: Preset) -> int:
    """Return the number of training images; ImageNet's where the settings take what there is.

    Those of a folder are counted. Raises UserError if it is not there.
    """
    data = preset.data
    if isinstance(data, ImageNet):
        return data.train_images or IMAGENET_TRAIN
    if isinstance(data, ImageFolder):
        return len(find_images(data).train)
    if isinstance(data, Photographs):
        return data.images
    return sum(DIGITS_PER_CLASS) - data.held_out_digits


def held_out_images(preset: Preset) -> int:
    """Return the number of held-out images of which the likelihood is measured, 0 if it is not."""
    if preset.likelihood is None or not preset.likelihood_sizes:
        return 0
    data = preset.data
    if isinstance(data, ImageNet):
        return preset.likelihood.images or data.validation_images or IMAGENET_VALIDATION
    if isinstance(data, ImageFolder):
        return preset.likelihood.images or len(find_images(data).held_out)
    return preset.likelihood.images or data.reference_images
