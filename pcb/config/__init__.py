"""The settings of params.yaml: schema, loader, checks across fields, and all paths."""

from pcb.config.base import Settings
from pcb.config.cluster import Cluster, Resources
from pcb.config.files import Files
from pcb.config.images import Data, Digits, ImageFolder, ImageNet, Photographs
from pcb.config.model import LearningRateStep, Model, ModelRun, Training
from pcb.config.preset import Compute, Preset
from pcb.config.scores import Claims, Classifier, Likelihood, Metrics
from pcb.config.speed import Speed
from pcb.config.sweep import Sampling, SamplingConfig, Sweep
from pcb.config.system import SystemConfig, SystemRun, Ways
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
    "SystemConfig",
    "Tokenizer",
    "TokenizerTraining",
    "Tokens",
    "Training",
    "Ways",
]
