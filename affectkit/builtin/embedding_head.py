"""``core/embedding_head``: a small network over the embedding of a modality, as ``affectkit train`` makes it of runs and labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from affectkit.components import Head, Output, Sources
from affectkit.errors import CheckpointError, ConfigError
from affectkit.gaps import smooth
from affectkit.labels import COMPOUND7, LabelSet

if TYPE_CHECKING:
    import torch


class EmbeddingHead(Head):
    """``core/embedding_head``: probabilities of a small network over the embedding of one modality.

    Its file says which embedding it reads and what its labels are. With ``smoothing`` the probabilities of a subject are averaged over neighbouring
    windows with the weights of a gaussian; with ``gate`` rows whose largest probability is below it say nothing.
    """

    name = "embedding_head"
    reads = None

    @dataclass(frozen=True)
    class Options:
        """Options of ``core/embedding_head``.

        Attributes:
            checkpoint: file that the training ``core/embedding_training`` wrote.
            smoothing: standard deviation in seconds, 0 for none; ``None`` for that of the file.
            gate: least probability of the largest class, 0 for any; ``None`` for that of the file.
        """

        checkpoint: str | None = None
        smoothing: float | None = None
        gate: float | None = None

        def __post_init__(self) -> None:
            if (self.smoothing or 0) < 0 or not 0 <= (self.gate or 0) < 1:
                raise ConfigError(f"smoothing must not be negative and gate be in [0, 1), found {self.smoothing} and {self.gate}")

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self._settings: Mapping[str, Any] | None = None
        self._network: torch.nn.Module | None = None

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the header of its file says.

        Raises:
            ConfigError: where the recipe names none.
            CheckpointError: where it is of another make.
        """
        if self._settings is None:
            from affectkit import headers

            self.check_given()
            path = self.weights()
            found = headers.mapping(path)
            if not {"labels", "label_set", "kind", "embedding", "size", "hidden"} <= set(found):
                raise CheckpointError(f"{path} is not a head on embeddings; give a file that the training core/embedding_training wrote")
            self._settings = found
        return self._settings

    def check_given(self) -> None:
        """Refuses a recipe that names no weights."""
        if not self.options.checkpoint:
            raise ConfigError(
                "core/embedding_head has no weights: the recipe names no file of them; make one with affectkit train "
                "and give components.core/embedding_head.checkpoint"
            )

    @property
    def labels(self) -> LabelSet:  # type: ignore[override]
        """The label set of its file; ``compound7`` where the recipe names none, and then it cannot be loaded."""
        if not self.options.checkpoint:
            return COMPOUND7
        from affectkit.headers import label_set

        found = self.settings
        return label_set(found["label_set"], found["labels"], found["kind"], found.get("low", 0.0), found.get("high", 1.0))

    @property
    def embedding_from(self) -> str | None:  # type: ignore[override]
        """The embedding that its file was made for."""
        return str(self.settings["embedding"]) if self.options.checkpoint else None

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        """Loads the network; it stays in single precision."""
        from affectkit import weight_files
        from affectkit.builtin.perceptron import Perceptron

        found = self.settings
        network = Perceptron(found["size"], found["hidden"], len(found["labels"]))
        weight_files.load_strict(network, weight_files.load_tensors(self.weights()), self.weights())
        self._network = network.float().to(device).eval().requires_grad_(False)

    def convert(self, fused: Output, sources: Sources) -> Output:
        """Values (N, C) of its labels; NaN where there is no embedding, or where the gate is closed.

        Raises:
            ConfigError: where the run does not have the embedding, or it has another size.
        """
        import torch

        found, labels = self.settings, self.labels
        if self._network is None:
            raise ConfigError("core/embedding_head is not loaded: load its weights before converting")
        embeddings = sources.embeddings.get(found["embedding"])
        if embeddings is None:  # nobody had evidence in this medium
            return Output({labels: torch.full((len(sources.values), len(labels)), torch.nan)})
        if embeddings.shape[1] != found["size"]:
            raise ConfigError(
                f"core/embedding_head was made for {found['embedding']} of {found['size']} numbers, the run has {embeddings.shape[1]}"
            )
        there = torch.isfinite(embeddings).all(dim=1)
        values = torch.full((len(embeddings), len(labels)), torch.nan)
        said = self._network(embeddings[there].float())
        if labels.kind == "continuous":
            values[there] = said.clamp(labels.low, labels.high)
        else:
            logits = said / float(found.get("temperature", 1.0))
            values[there] = logits.softmax(1) if labels.kind == "categorical" else logits.sigmoid()
        seconds = self.options.smoothing if self.options.smoothing is not None else float(found.get("smoothing") or 0)
        if seconds > 0:
            if sources.tracks is None or sources.times is None:
                raise ConfigError("core/embedding_head cannot smooth rows that do not say when they are")
            values = torch.from_numpy(smoothed(values.numpy(), sources.tracks, sources.times, seconds))
        gate = self.options.gate if self.options.gate is not None else float(found.get("gate") or 0)
        return Output({labels: gated(values, gate) if labels.kind == "categorical" else values})


def smoothed(values: np.ndarray, tracks: np.ndarray, times: np.ndarray, seconds: float) -> np.ndarray:
    """Values (N, C) float32 averaged over the neighbours of the same series, with the weights of a gaussian of that standard deviation in seconds.

    >>> smoothed(np.array([[0.0], [1.0], [8.0]]), np.array([0, 0, 1]), np.array([0.0, 0.0, 0.0]), 1.0)[:, 0].tolist()
    [0.5, 0.5, 8.0]
    """
    out = np.full(values.shape, np.nan, dtype=np.float32)
    for track in np.unique(tracks):
        rows = np.flatnonzero(tracks == track)
        rows = rows[np.argsort(times[rows], kind="stable")]
        out[rows] = smooth(times[rows], values[rows], "gaussian", seconds)
    return out


def gated(values: torch.Tensor, gate: float) -> torch.Tensor:
    """Values (N, C) in which rows whose largest is below ``gate`` say nothing."""
    import torch

    return values.where(values.amax(dim=1, keepdim=True) >= gate, torch.nan) if gate > 0 else values
