"""Which function makes a stage's units, and with how many threads. No torch until one is loaded."""

from importlib import import_module

from pcb.settings import Compute
from pcb.stage import Entry

ENTRIES = {
    "data": "pcb.data.prepare:prepare",
    "tokenizer": "pcb.tokenizer.build:build",
    "classifier": "pcb.metrics.classifier_build:build",
    "tokens": "pcb.tokens.build:build",
    "train": "pcb.train.run:run",
    "sample": "pcb.sample.run:run",
    "metrics": "pcb.metrics.run:run",
    "report": "pcb.report.build:build",
}
WIDE = {"tokenizer", "tokens", "train"}
"""Stages with few units, which much waits for: they get several threads. The others run side by
side, a thread each."""


def load_entry(stage: str) -> Entry:
    """Import a stage's entry, and with it what it needs."""
    module, _, function = ENTRIES[stage].partition(":")
    entry: Entry = getattr(import_module(module), function)
    return entry


def threads_of(stage: str, compute: Compute) -> int:
    """Return how many CPU threads a unit of this stage uses."""
    return compute.threads if stage in WIDE else 1
