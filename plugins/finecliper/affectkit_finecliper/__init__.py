"""affectkit-finecliper: FineCLIPER (arXiv 2407.02157, ACM MM 2024), reconstructed from its description."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from affectkit.api import hookimpl


@hookimpl
def affectkit_recipes() -> Iterable[Path]:
    """Frames alone, and with the other streams."""
    return sorted((Path(__file__).parent / "recipes").glob("*.yaml"))


@hookimpl
def affectkit_training_recipes() -> Iterable[Path]:
    """A recipe for each training."""
    return sorted((Path(__file__).parent / "trainings").glob("*.yaml"))
