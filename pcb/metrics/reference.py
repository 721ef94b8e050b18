"""The stage `reference`: what samples are compared with, seen through the preset's extractor."""

from typing import Any

from pcb.metrics.classifier_build import build as build_classifier
from pcb.stage import Job


def build(job: Job) -> dict[str, Any]:
    """Make the extractor's view of the reference images."""
    return build_classifier(job)
