"""The schema of params.yaml: every setting, its type, its range and its default.

Reading the file, presets and overrides are `pcb.params`; here is only what a checked setting looks
like. A function takes the part that it uses, never the whole. Settings that change a result live
with their stage and enter its key (`pcb.pipeline`); how fast it is computed lives in `Compute`,
which enters no key.
"""

from pcb.settings.base import Settings
from pcb.settings.cluster import Cluster, Resources
from pcb.settings.files import Files
from pcb.settings.images import Data, Digits, ImageNet
from pcb.settings.model import LearningRateStep, Model, ModelRun, Training
from pcb.settings.preset import Compute, Preset
from pcb.settings.scores import Claims, Classifier, Metrics
from pcb.settings.speed import Speed
from pcb.settings.sweep import Sampling, Sweep, SweepPoint
from pcb.settings.tokenizer import (
    Autoencoder,
    Requantisation,
    Tokenizer,
    TokenizerTraining,
    Tokens,
)

__all__ = [
    "Autoencoder",
    "Claims",
    "Classifier",
    "Cluster",
    "Compute",
    "Data",
    "Digits",
    "Files",
    "ImageNet",
    "LearningRateStep",
    "Metrics",
    "Model",
    "ModelRun",
    "Preset",
    "Requantisation",
    "Resources",
    "Sampling",
    "Settings",
    "Speed",
    "Sweep",
    "SweepPoint",
    "Tokenizer",
    "TokenizerTraining",
    "Tokens",
    "Training",
]
