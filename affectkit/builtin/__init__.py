"""The plugin ``core``: providers, fusions, heads, submitters and trainings that ship with affectkit, through the same hooks as any plugin.

The modules are imported by the hooks, and none of them imports torch before it computes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from affectkit.api import Fusion, Head, Provider, Submitter, Training, hookimpl


@hookimpl
def affectkit_providers() -> Iterable[type[Provider]]:
    """Faces, words and descriptions."""
    from affectkit.builtin.descriptions import Descriptions
    from affectkit.builtin.subtitles import Subtitles
    from affectkit.builtin.whisper import Whisper
    from affectkit.builtin.yunet import YuNet

    return [YuNet, Subtitles, Whisper, Descriptions]


@hookimpl
def affectkit_fusions() -> Iterable[type[Fusion]]:
    """One opinion of several sources."""
    from affectkit.builtin.class_weights import ConvexFusion, DirichletFusion, VersionFusion
    from affectkit.builtin.fusion import MHPFFusion
    from affectkit.builtin.gated import GatedFusion
    from affectkit.builtin.mean import Mean

    return [Mean, MHPFFusion, GatedFusion, ConvexFusion, DirichletFusion, VersionFusion]


@hookimpl
def affectkit_heads() -> Iterable[type[Head]]:
    """Basic emotions into compound expressions."""
    from affectkit.builtin.blend import Blend
    from affectkit.builtin.direct import Direct
    from affectkit.builtin.embedding_head import EmbeddingHead
    from affectkit.builtin.pfsa import PFSA
    from affectkit.builtin.ppa import PPA

    return [PPA, PFSA, Direct, Blend, EmbeddingHead]


@hookimpl
def affectkit_submitters() -> Iterable[type[Submitter]]:
    """The tracks of ABAW that ask for an answer per frame."""
    from affectkit.builtin.abaw import TRACKS

    return TRACKS


@hookimpl
def affectkit_trainings() -> Iterable[type[Training]]:
    """What is made of runs and labels: heads on embeddings, weights of a fusion, temperatures."""
    from affectkit.builtin.fusion_training import FusionTraining
    from affectkit.builtin.prototype_training import PrototypeTraining
    from affectkit.builtin.trainings import EmbeddingTraining, MHPFTraining, TemperatureTraining

    return [EmbeddingTraining, MHPFTraining, TemperatureTraining, FusionTraining, PrototypeTraining]


@hookimpl
def affectkit_training_recipes() -> Iterable[Path]:
    """The recipes of what is made of runs and labels alone."""
    return sorted((Path(__file__).parent / "recipes").glob("*.yaml"))
