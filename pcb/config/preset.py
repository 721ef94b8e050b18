"""A preset: every group of settings together, and how it is computed.

Settings that change a result live with their stage and enter its key (`pcb.pipeline.tasks`); how
fast it is computed lives in `Compute`, which enters no key. A function takes the group that it
uses, never the whole.
"""

from typing import Literal

from pcb.config.base import Count, Positive, PositiveFloat, Settings
from pcb.config.files import Files
from pcb.config.images import Data
from pcb.config.model import ModelRun
from pcb.config.scores import Claims, Classifier, Likelihood, Metrics
from pcb.config.seeds import model_and_seed
from pcb.config.speed import Speed
from pcb.config.sweep import SERIAL, Sampling, SamplingConfig, Sweep
from pcb.config.system import SystemRun
from pcb.config.tokenizer import Tokenizer, Tokens
from pcb.order.schedule import Schedule


class Compute(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How fast, not what: none of this enters a key."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Positive = 2
    """CPU threads of a training process."""
    workers: Positive = 4
    """Threads that read and decode ImageNet's files, beside those."""
    sampling_batch: Positive = 64
    speed: Speed = Speed()
    encoding_batch: Positive = 64
    feature_batch: Positive = 250
    """Images decoded and seen by the metrics' extractor at a time."""
    checkpoint_seconds: PositiveFloat = 60.0
    """Longest time between two checkpoints of a training run."""
    compile: bool | Literal["auto"] = "auto"
    """Compile training's layers; `auto` does on a GPU."""
    attention: Literal["auto", "dense", "flex"] = "auto"
    """Training's mask: dense, or as tiles that FlexAttention skips; `auto` is `flex` where layers
    are compiled."""
    micro_batch: Positive | None = None
    """Most images that a process trains on at once; gradients add up to those of its batch."""
    recompute: bool = False
    """Compute a layer's activations again for its gradients: less memory, one more forward pass."""
    prefetch: Count = 2
    """Batches made ahead, in threads of their own: of training, of encoded and of decoded images; 0
    makes each when it is needed."""


class Preset(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One experiment: everything from data to report.

    `models` is checked entry by entry, and holds `systems` too in params.yaml.
    """

    description: str
    data: Data
    tokenizer: Tokenizer
    tokens: Tokens = Tokens()
    models: dict[str, ModelRun]
    """The paper's own transformers."""
    systems: dict[str, SystemRun] = {}
    """Those entries of `models` that name another system of Table 1."""
    sampling: Sampling
    sweep: tuple[Sweep, ...]
    classifier: Classifier | None = None
    metrics: Metrics
    likelihood: Likelihood | None = None
    """None measures no likelihood."""
    claims: Claims = Claims()
    compute: Compute = Compute()
    files: Files = Files()
    """The same for all presets: top-level `files` of params.yaml."""

    @property
    def grid(self) -> int:
        """Side of the finest token grid."""
        return self.data.image_size // self.tokenizer.autoencoder.stride

    def sizes(self, model: str) -> tuple[int, ...]:
        """Sides of a model's scales, coarse to fine."""
        return self.models[model].model.sizes(self.grid)

    @property
    def all_sizes(self) -> tuple[int, ...]:
        """Sides of every scale that some model needs: what the token cache holds."""
        return tuple(sorted({size for model in self.models for size in self.sizes(model)}))

    def sampling_configs(self, model: str) -> tuple[SamplingConfig, ...]:
        """Return every sampling config of a model once, in the order of params.yaml."""
        return self._configs(model, sampled=True)

    def likelihood_configs(self, model: str) -> tuple[SamplingConfig, ...]:
        """Return a config for every schedule under which a model's likelihood is measured.

        Guidance has none. One token per block comes first, what all others are compared with.
        """
        unguided = [config for config in self._configs(model) if not config.cfg]
        if self.likelihood is None or not unguided:
            return ()
        sizes = self.sizes(model)
        found: dict[Schedule, SamplingConfig] = {}
        for config in (SamplingConfig(blocks=SERIAL), *unguided):
            found.setdefault(config.schedule(sizes), config)
        return tuple(found.values())

    @property
    def likelihood_sizes(self) -> tuple[int, ...]:
        """Sides of every scale at which held-out images have codes."""
        models = [model for model in self.models if self.likelihood_configs(model)]
        return tuple(sorted({size for model in models for size in self.sizes(model)}))

    def _configs(self, model: str, *, sampled: bool = False) -> tuple[SamplingConfig, ...]:
        """Return a model's configs, or only those of which images are sampled.

        A sweep of a model is one of all its seeds.
        """
        names = {model, model_and_seed(model)[0]}
        own = (sweep for sweep in self.sweep if names & {*sweep.models})
        chosen = (sweep for sweep in own if sweep.samples or not sampled)
        return tuple(dict.fromkeys(config for sweep in chosen for config in sweep.configs()))
