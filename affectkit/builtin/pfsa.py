"""Pair-Wise Feature Similarity Aggregation: compound expressions from the similarity of an embedding to basic emotions.

Only methods of tensors are used at import, so that importing this module imports no torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from affectkit.builtin.fitted import described, read_tensors
from affectkit.components import Head, Output, Sources
from affectkit.errors import CheckpointError, ConfigError, PluginError, UsageError
from affectkit.labels import BASIC8, COMPOUND7
from affectkit.needs import Checkpoint

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Variant = Literal["sum", "pair"]

EMOTIONS = BASIC8.labels[1:7]
"""The six basic emotions, in the order of the prototypes."""

PAIRS = tuple((EMOTIONS.index(one), EMOTIONS.index(other)) for one, other in COMPOUND7.pairs or ())


class PFSA(Head):
    """``core/pfsa``: Pair-Wise Feature Similarity Aggregation (Team RAS, 9th ABAW, arXiv 2507.02205). A reconstruction.

    The authors released no code for it; this is made from its name and description. With the mean direction mu_e of the
    training embeddings of each basic emotion e, an embedding z, and a compound expression of the emotions i and j::

        sum:   C = cos(z, mu_i) + cos(z, mu_j)
        pair:  C = cos(z, mu_i + mu_j)

    Rows are softmax(C / temperature).
    """

    name = "pfsa"
    reads = None

    @dataclass(frozen=True)
    class Options:
        """Options of ``core/pfsa``.

        Attributes:
            checkpoint: file of prototypes: a path, or for instance ``package:affectkit_mini/weights/pfsa.safetensors``.
            variant: ``"sum"`` of two similarities, or similarity to the ``"pair"`` of prototypes.
            temperature: of the softmax; smaller is more decided.
            rows: ``"normalised"`` rows sum to 1; ``"published"`` gives the similarities themselves.
        """

        checkpoint: str | None = None
        variant: Variant = "sum"
        temperature: float = 0.1
        rows: Literal["normalised", "published"] = "normalised"

        def __post_init__(self) -> None:
            if not (math.isfinite(self.temperature) and self.temperature > 0):
                raise ConfigError(f"temperature must be greater than 0, found {self.temperature}")

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self._prototypes: Tensor | None = None

    def used_checkpoints(self) -> Mapping[str, Checkpoint]:
        """The file of prototypes, with the licence and source that its own record names."""
        return described(super().used_checkpoints())

    def check_given(self) -> None:
        """Refuses a recipe that names no prototypes."""
        if not self.options.checkpoint:
            raise ConfigError(
                "core/pfsa has no prototypes: the recipe names no file of them; make them with the training core/pfsa_training and give "
                "components.core/pfsa.checkpoint (for instance package:affectkit_mini/weights/pfsa.safetensors), or take --head core/ppa, which needs none"
            )

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        """Loads the prototypes; they stay in single precision.

        Raises:
            ConfigError: where the recipe names none.
            CheckpointError: where the file is absent or damaged.
        """
        self.check_given()
        found = load_pfsa(self.weights())
        self._prototypes = found.prototypes.to(device)
        self.embedding_from = found.embedding

    def write_random(self, tag: str, folder: Path, sources: Sequence[str] = ()) -> Path:
        """Random prototypes for the embedding of those that the recipe names, whose name and size only their file knows."""
        import torch

        from affectkit.weight_files import RANDOM

        if not self.options.checkpoint:
            raise CheckpointError(
                f"{self.id} has random prototypes only in the shape of real ones, and the recipe names no file of them; "
                "give components.core/pfsa.checkpoint"
            )
        real = load_pfsa(self.weights())
        numbers = torch.randn(real.prototypes.shape, generator=torch.Generator().manual_seed(0))
        path = folder / "pfsa.safetensors"
        save_pfsa(path, numbers, real.embedding, {"licence": RANDOM, "source": "affectkit weights tiny"})
        return path

    def convert(self, fused: Output, sources: Sources) -> Output:
        """Values (N, 7); NaN where there is no embedding.

        Raises:
            ConfigError: where it is not loaded.
            PluginError: where the run does not give the embedding, or of another size.
        """
        if self._prototypes is None or self.embedding_from is None:
            raise ConfigError("core/pfsa has no prototypes: load them before converting")
        if self.embedding_from not in sources.embeddings:
            there = ", ".join(sorted(sources.embeddings)) or "none"
            raise PluginError(
                f"core/pfsa reads the embedding {self.embedding_from!r}, and the run gives {there}; "
                f"add {self.embedding_from.split(':')[0]} to the modalities, or take --head core/ppa"
            )
        embeddings = sources.embeddings[self.embedding_from]
        if embeddings.ndim != 2 or embeddings.shape[1] != self._prototypes.shape[1]:
            raise PluginError(
                f"core/pfsa has prototypes of {self._prototypes.shape[1]} numbers for {self.embedding_from!r}, "
                f"found embeddings {tuple(embeddings.shape)}; make prototypes for this version of the model"
            )
        temperature = None if self.options.rows == "published" else self.options.temperature
        prototypes = self._prototypes.to(embeddings.device)
        return Output({self.labels: pfsa(embeddings.to(prototypes.dtype), prototypes, self.options.variant, temperature)})


@dataclass(frozen=True)
class Prototypes:
    """What a file of prototypes holds.

    Attributes:
        prototypes: (6, D) float32, in the order of :data:`EMOTIONS`.
        embedding: the embedding they belong to, ``"source:name"``.
        record: how they were made.
    """

    prototypes: Tensor
    embedding: str
    record: Mapping[str, Any]


def pfsa(embeddings: Tensor, prototypes: Tensor, variant: Variant = "sum", temperature: float | None = None) -> Tensor:
    """Similarity of embeddings to the compound expressions.

    Args:
        embeddings: (N, D) floats of any length; an embedding of zeros or NaN says nothing.
        prototypes: (6, D) of the same type, in the order anger, disgust, fear, happiness, sadness, surprise, as
            :func:`fit_prototypes` makes them.
        variant: as in :class:`PFSA`.
        temperature: rows are softmax(similarity / temperature); ``None`` gives the similarities.

    Returns:
        (N, 7) in the order of ``COMPOUND7``, of the same type; NaN rows where there is no embedding.

    Raises:
        UsageError: for other shapes, types, variants or temperatures.

    >>> import torch
    >>> similarities = pfsa(torch.tensor([[0.0, 0, 2, 0, 0, 2]]), torch.eye(6))  # between fear and surprise
    >>> COMPOUND7.labels[similarities.argmax()]
    'fearfully_surprised'
    """
    shapes = f"{tuple(embeddings.shape)} {embeddings.dtype} and {tuple(prototypes.shape)} {prototypes.dtype}"
    if embeddings.ndim != 2 or tuple(prototypes.shape) != (len(EMOTIONS), embeddings.shape[1]):
        raise UsageError(f"pfsa expected embeddings (N, D) and prototypes ({len(EMOTIONS)}, D), found {shapes}")
    if not embeddings.is_floating_point() or embeddings.dtype != prototypes.dtype:
        raise UsageError(f"pfsa expected embeddings and prototypes of one floating point type, found {shapes}")
    if temperature is not None and not (math.isfinite(temperature) and temperature > 0):
        raise UsageError(f"pfsa expected a temperature greater than 0, found {temperature}")
    one, other = [i for i, _ in PAIRS], [j for _, j in PAIRS]
    if variant == "sum":
        cosine = unit(embeddings) @ unit(prototypes).T
        similarity = cosine[:, one] + cosine[:, other]
    elif variant == "pair":
        similarity = unit(embeddings) @ unit(prototypes[one] + prototypes[other]).T
    else:
        raise UsageError(f"pfsa has the variants sum and pair, not {variant!r}")
    return similarity if temperature is None else (similarity / temperature).softmax(dim=1)


def fit_prototypes(embeddings: Tensor, labels: Sequence[str] | Sequence[int] | Tensor) -> Tensor:
    """The mean direction of the embeddings of each basic emotion.

    Args:
        embeddings: (N, D) floats; an embedding of zeros or NaN is left out.
        labels: N names of emotions, or their indices in ``BASIC8``; neutral and other are left out.

    Returns:
        (6, D) of the same type: means of unit vectors, so shorter than 1 where an emotion's embeddings scatter.

    Raises:
        UsageError: for other shapes, or where an emotion has no embedding.
        LabelError: for a name that is not in ``BASIC8``.

    >>> import torch
    >>> fit_prototypes(torch.eye(6) * 3, ["angry", "disgust", "fear", "joy", "sad", "surprise"]).equal(torch.eye(6))
    True
    """
    names = labels if isinstance(labels, Sequence) else labels.tolist()
    if embeddings.ndim != 2 or not embeddings.is_floating_point() or len(names) != len(embeddings):
        raise UsageError(f"fit_prototypes expected embeddings (N, D) and N labels, found {tuple(embeddings.shape)} and {len(names)} labels")
    index = [BASIC8.index(name) if isinstance(name, str) else int(name) for name in names]
    if outside := [i for i in index if not 0 <= i < len(BASIC8)]:
        raise UsageError(f"fit_prototypes expected labels in [0, {len(BASIC8)}), found {outside[0]}")
    prototypes = mean_directions(embeddings, index)
    if missing := [emotion for emotion, row in zip(EMOTIONS, prototypes, strict=True) if row.isnan().any()]:
        raise UsageError(f"fit_prototypes has no embedding of {', '.join(missing)}; give at least one of each of {', '.join(EMOTIONS)}")
    return prototypes


def mean_directions(embeddings: Tensor, classes: Sequence[int]) -> Tensor:
    """The mean unit vector of each basic emotion, (6, D); NaN where an emotion has no embedding.

    Args:
        embeddings: (N, D) floats; an embedding of zeros or NaN is left out.
        classes: N indices in ``BASIC8``.
    """
    units = unit(embeddings)
    usable, index = units.isfinite().all(dim=1), embeddings.new_tensor(classes)
    found = embeddings.new_empty((len(EMOTIONS), embeddings.shape[1]))
    for row, emotion in enumerate(EMOTIONS):
        found[row] = units[(index == BASIC8.index(emotion)) & usable].mean(dim=0)
    return found


def save_pfsa(path: Path, prototypes: Tensor, embedding: str, record: Mapping[str, Any]) -> None:
    """Writes prototypes and what must travel with them.

    Args:
        path: the file, ending in .safetensors.
        prototypes: (6, D) floats, as :func:`fit_prototypes` makes them.
        embedding: the embedding they belong to, for instance ``"mini/face_static:face"``.
        record: how they were made, as plain data; its ``"licence"``, ``"source"`` and ``"commercial"`` (true or false) go into the record of a run.

    Raises:
        UsageError: for another shape, or an embedding without its source.
    """
    from affectkit.weight_files import save_tensors

    if prototypes.ndim != 2 or len(prototypes) != len(EMOTIONS):
        raise UsageError(f"save_pfsa expected prototypes of shape ({len(EMOTIONS)}, D), found {tuple(prototypes.shape)}")
    if not _names_embedding(embedding):
        raise UsageError(f"save_pfsa expected an embedding as 'plugin/component:name', found {embedding!r}")
    header = {"embedding": embedding, "labels": json.dumps(EMOTIONS), "record": json.dumps(dict(record))}
    save_tensors(path, {"prototypes": prototypes.float()}, header)


def load_pfsa(path: Path) -> Prototypes:
    """Reads what :func:`save_pfsa` wrote.

    Raises:
        CheckpointError: naming the file and what is wrong with it.
    """
    tensors, header = read_tensors(path, ("prototypes",), ("embedding", "labels", "record"), plain=("embedding",))
    prototypes = tensors["prototypes"]
    if header["labels"] != list(EMOTIONS) or prototypes.ndim != 2 or len(prototypes) != len(EMOTIONS):
        raise CheckpointError(
            f"{path}: expected prototypes ({len(EMOTIONS)}, D) of {list(EMOTIONS)}, found {tuple(prototypes.shape)} of {header['labels']}"
        )
    if not _names_embedding(header["embedding"]):
        raise CheckpointError(f"{path}: expected an embedding as 'plugin/component:name', found {header['embedding']!r}")
    return Prototypes(prototypes, header["embedding"], header["record"])


def unit(vectors: Tensor) -> Tensor:
    """Vectors of length 1; NaN where a vector has no direction."""
    return vectors / vectors.norm(dim=1, keepdim=True)


def _names_embedding(text: str) -> bool:
    source, colon, name = text.partition(":")
    return bool(colon and name) and "/" in source
