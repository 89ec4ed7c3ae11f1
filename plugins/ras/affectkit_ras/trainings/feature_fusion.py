"""The training of ras/feature_fusion, from runs with embeddings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affectkit.api import BASIC8, About, ConfigError, Part, UsageError
from affectkit.builtin.labelled import Labelled, Window, labelled, of_subjects
from affectkit.builtin.trainings import Labels, RunTraining
from affectkit.errors import did_you_mean
from affectkit.labels import project
from affectkit_ras.feature_fusion import PUBLISHED
from affectkit_ras.trainings.shares import shares_of

if TYPE_CHECKING:
    import torch

    from affectkit_ras.feature_network import FeatureFusion

VERSIONS = ("v1", "v2", "v3", "v4")
Vectors = dict[Window, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class FeatureFusionOptions(Labels):
    """Options of ras/feature_fusion_training.

    Attributes:
        version: ``v1`` to ``v4`` of the published networks; V3 is the one whose feature the authors' PFSA read.
        embeddings: ``plugin/component:name`` in order; none for those of ras that the runs hold.
        scene: of these, the one that V4 puts beside its query.
        gamma: of the focal loss.
        smoothing: share of a label that goes to all classes alike.
    """

    version: str = "v3"
    embeddings: tuple[str, ...] = ()
    scene: str = PUBLISHED["new_scene"]
    gamma: float = 2.0
    smoothing: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.version not in VERSIONS:
            raise ConfigError(f"version must be one of {', '.join(VERSIONS)}, found {self.version!r}")
        if self.gamma < 0 or not 0 <= self.smoothing < 1:
            raise ConfigError(f"gamma must not be negative and smoothing in [0, 1), found {self.gamma} and {self.smoothing}")


class FeatureFusionTraining(RunTraining):
    """A network over the frozen embeddings of several modalities, for ``ras/feature_fusion``; made of runs with ``--embeddings``."""

    name = "feature_fusion_training"
    labels = BASIC8
    Options = FeatureFusionOptions

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self._sizes: dict[str, int] = {}
        self._inputs: dict[str, str] = {}
        self._found: Labelled | None = None

    def parts(self, data: Path) -> Mapping[str, Part]:
        """Windows that have a label and at least one of the embeddings; those of sound, scene and words count for every subject of their window."""
        self._found = found = labelled(data, self.options.labels, self.options.set)
        held = read_embeddings(found.runs)
        if not held:
            raise UsageError(f"{data} holds no embeddings; make it with affectkit run --embeddings")
        chosen = tuple(self.options.embeddings) or tuple(name for name in PUBLISHED.values() if name in held)
        if missing := [name for name in chosen if name not in held]:
            raise UsageError(f"{data} holds no embedding {missing[0]!r}. {did_you_mean(missing[0], held)}")
        if len(chosen) < 2:
            raise UsageError(
                f"a fusion needs two embeddings or more; {data} has {', '.join(held)}. Name them with options.embeddings where they are not of ras"
            )
        if self.options.version == "v4" and self.options.scene not in chosen:
            raise UsageError(f"V4 needs the embedding of a scene, options.scene={self.options.scene}, and {data} has {', '.join(chosen)}")
        self._inputs = {name_of(embedding): embedding for embedding in chosen}
        self._sizes = {name: len(next(iter(held[embedding].values()))) for name, embedding in self._inputs.items()}
        windows = grid([held[embedding] for embedding in chosen])
        vectors = {name: stacked(held[embedding], windows, self._sizes[name]) for name, embedding in self._inputs.items()}
        tensors = {name: np.nan_to_num(rows) for name, rows in vectors.items()}
        tensors["there"] = np.stack([np.isfinite(rows).all(axis=1) for rows in vectors.values()], axis=1)
        truth, _ = project(found.truth(windows), found.labels, BASIC8, "other")
        tensors["soft"] = shares_of(truth)
        return self.rows(Labelled(BASIC8, found.placed, found.runs), windows, truth, tensors)

    def network(self) -> FeatureFusion:
        from affectkit_ras import feature_network

        if not self._sizes:
            raise UsageError(f"{self.id} knows its embeddings when it has read a run")
        if self.options.version == "v4":
            return feature_network.FusionV4(self._sizes, len(BASIC8), scene=name_of(self.options.scene))
        return feature_network.VERSIONS[self.options.version](self._sizes, len(BASIC8))

    def predict(self, network: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        import torch

        there = dict(zip(self._inputs, torch.as_tensor(batch["there"]).unbind(dim=1), strict=True))
        found: torch.Tensor = network({name: torch.as_tensor(batch[name]) for name in self._inputs}, there)[0]
        return found

    def loss(self, network: torch.nn.Module, batch: Mapping[str, torch.Tensor], weights: torch.Tensor) -> torch.Tensor:
        """The published focal loss on soft labels."""
        from affectkit_ras.trainings.losses import soft_focal

        logits = self.predict(network, batch).float()
        return soft_focal(logits, batch["soft"], weights / weights.mean(), self.options.gamma, self.options.smoothing)

    def settings(self, logits: torch.Tensor, truth: np.ndarray) -> Mapping[str, Any]:
        """The temperature, and which embeddings are meant."""
        about = {"version": self.options.version, "names": list(self._inputs), "inputs": self._inputs}
        scene = {"scene": name_of(self.options.scene)} if self.options.version == "v4" else {}
        return {**super().settings(logits, truth), **about, **scene}

    def about(self) -> About:
        runs = len(self._found.runs) if self._found is not None else 0
        what = (
            f"{self.options.version.upper()} of the published networks over {', '.join(self._inputs.values())}, for `ras/feature_fusion`."
        )
        return self._about("Fusion of features", what, runs)


def name_of(embedding: str) -> str:
    """The name of an embedding within a network: the published one, or its own without the marks that a module's name cannot have.

    >>> name_of("ras/audio:voice"), name_of("mini/face_static:face")
    ('audio_25', 'mini_face_static_face')
    """
    return next((name for name, known in PUBLISHED.items() if known == embedding), re.sub(r"\W+", "_", embedding))


def read_embeddings(runs: Sequence[Path]) -> dict[str, Vectors]:
    """The embeddings of runs: (D,) float32 per window, by ``"source:name"``."""
    import pyarrow.parquet as pq

    found: dict[str, Vectors] = {}
    for run in runs:
        for path in sorted((run / "embeddings.parquet").glob("*.parquet")):
            table = pq.read_table(path)
            keys = zip(*(table[name].to_pylist() for name in ("source", "name", "media", "track", "start", "end")), strict=True)
            vectors = table["vector"].to_numpy()
            for (source, name, medium, track, start, end), vector in zip(keys, vectors, strict=True):
                found.setdefault(f"{source}:{name}", {})[str(run), medium, int(track), start, end] = np.asarray(vector, dtype=np.float32)
    return found


def grid(held: Sequence[Vectors]) -> list[Window]:
    """The windows of embeddings, one per subject; one without a subject only where nobody is seen."""
    return of_subjects(list(dict.fromkeys(window for vectors in held for window in vectors)))


def stacked(vectors: Vectors, windows: Sequence[Window], size: int) -> np.ndarray:
    """(N, D) float32 in the order of windows; NaN where there is none of the subject, nor of the window as a whole."""
    blank = np.full(size, np.nan, np.float32)
    found = [vectors.get(window, vectors.get((window[0], window[1], -1, window[3], window[4]), blank)) for window in windows]
    return np.stack(found) if found else np.empty((0, size), np.float32)
