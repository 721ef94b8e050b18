"""The schema of params.yaml: every setting, its type, its range and its default.

Reading the file, presets and overrides are `pcb.config.loader`; here is only what a checked setting
looks like. A function takes the part that it uses, never the whole. Settings that change a result
live with their stage and enter its key (`pcb.pipeline.tasks`); how fast it is computed lives in
`Compute`, which enters no key.
"""

from pcb.config.base import Settings
from pcb.config.cluster import Cluster, Resources
from pcb.config.files import Files
from pcb.config.images import Data, Digits, ImageFolder, ImageNet, Photographs
from pcb.config.model import LearningRateStep, Model, ModelRun, Training
from pcb.config.preset import Compute, Preset
from pcb.config.scores import Claims, Classifier, Likelihood, Metrics
from pcb.config.speed import Speed
from pcb.config.sweep import Sampling, SamplingConfig, Sweep
from pcb.config.system import SystemRun, SystemSetting, Ways
from pcb.config.tokenizer import (
    Autoencoder,
    Requantization,
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
    "ImageFolder",
    "ImageNet",
    "LearningRateStep",
    "Likelihood",
    "Metrics",
    "Model",
    "ModelRun",
    "Photographs",
    "Preset",
    "Requantization",
    "Resources",
    "Sampling",
    "Settings",
    "Speed",
    "Sweep",
    "SamplingConfig",
    "SystemRun",
    "SystemSetting",
    "Tokenizer",
    "TokenizerTraining",
    "Tokens",
    "Training",
    "Ways",
]
