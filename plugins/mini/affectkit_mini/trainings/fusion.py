"""The training of the fusion of this package: weights of ``core/mhpf``, fitted on pairings of what its five sources say on their own validation parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affectkit.api import BASIC7, BASIC8, About, Part, Training, Turn
from affectkit.builtin.trainings import MHPFTraining
from affectkit.fitting import halves
from affectkit_mini.records import FOLDER

if TYPE_CHECKING:
    import torch

SOURCES = ("mini/face_static", "mini/face_dynamic", "mini/audio", "mini/text", "mini/scene")
PRESENT = {"face": 0.85, "audio": 0.7, "text": 0.5, "scene": 0.3}  # how often a kind of evidence is there
STILL = 0.1  # how often the face is a still, of which face_dynamic says nothing
TOGETHER = 64  # rows that are read at a time
APART = "Each pairing is a group of its own; the rows that pairings are made of are on one side, and nobody who is in one is on both."


@dataclass(frozen=True)
class PairingOptions:
    """Options of mini/mhpf_training.

    Attributes:
        weights: folder with the files of the five models; ``None`` for those of this package.
        rows: rows of each validation part that are read at most; of every label as many, as far as there are.
        pairings: how many are made to fit, and as many to measure.
        seed: of what is drawn.
    """

    weights: Path | None = None
    rows: int = 1400
    pairings: int = 10000
    seed: int = 1


@dataclass(frozen=True)
class Said:
    """What the sources of one kind of evidence say: rows (N, S, 7), labels (N,), and the side of every row (N,) bool."""

    rows: np.ndarray
    truth: np.ndarray
    fitting: np.ndarray


class PairingTraining(MHPFTraining):
    """Weights of core/mhpf for the sources of this package.

    There is no corpus here with faces, sound, words and descriptions of the same moment. So rows are pairings: for a label, one made face
    sequence, one sound, one text and one description of that label are drawn from the validation parts, and some are left out at random.
    Half of the groups of each validation part serve to fit, the other half to measure.
    """

    name = "mhpf_training"
    Options = PairingOptions

    def __init__(self, options: Any = None) -> None:
        Training.__init__(self, options)
        self._sources = SOURCES

    def parts(self, data: Path) -> Mapping[str, Part]:
        """Pairings to fit, and pairings of other rows to measure."""
        said = {"face": self._faces(data), **{name: self._others(data, name) for name in ("audio", "text", "scene")}}
        parts = {}
        for name, side in (("train", True), ("validation", False)):
            values, truth, valid = pair(said, self.options.pairings, side, self.options.seed)

            def batch(
                rows: np.ndarray, turn: Turn | None, values: np.ndarray = values, valid: np.ndarray = valid
            ) -> Mapping[str, np.ndarray]:
                return {"values": values[rows], "valid": valid[rows]}

            groups = np.array([f"{name} {row}" for row in range(len(truth))])
            parts[name] = Part(
                truth, groups, batch, about="pairings, not clips; each is a group, and the rows that they are made of are in one part"
            )
        return parts

    def about(self) -> About:
        return About(
            title="Fusion weights for core/mhpf over the five sources of mini",
            what="Fitted on pairings, not on clips: predictions of the five sources on their own validation parts (for faces, sequences made from stills), "
            "drawn so that all sources of a row have the same label, with sources left out at random as they are in real recordings. Only a few steps "
            "are made away from equal weights: more of them give nearly all weight to one source per class and are no more accurate.",
            data="pairings of equal label of the sources' predictions on their validation parts (FER2013 public_test, RAVDESS and nEMO, GoEmotions dev, AFEW dev)",
            licence="CC-BY-NC-SA-4.0",
            limits="Within a label the sources of a pairing are independent, which those of a real clip are not: real gains are smaller than these. The "
            "weights reflect how good each source is on its own validation part, and say nothing about how they agree in the wild.",
            commercial=False,
            apart=APART,
        )

    def _faces(self, data: Path) -> Said:
        """The average of the pictures of made sequences, and the dynamic reading."""
        import torch

        from affectkit_mini.trainings.sequences import SequenceOptions, SequenceTraining

        static = self._folder / "face_static.safetensors"
        training = SequenceTraining(SequenceOptions(backbone=static, sequences=4 * self.options.rows))
        part, dynamic = self._held(training, data), self._read("face_dynamic", training)
        warmth = float(self._settings("face_static")["temperature"])
        averages = []
        for rows in np.array_split(np.arange(len(part)), len(part) // TOGETHER + 1):
            averages.append((torch.as_tensor(part.batch(rows, None)["logits"]) / warmth).softmax(2).mean(1).numpy())
        return self._said(part, np.stack([np.concatenate(averages), dynamic(part)], axis=1))

    def _others(self, data: Path, name: str) -> Said:
        """mini/audio over its voices, mini/text over rows of one label, mini/scene over all kinds of description."""
        from affectkit_mini.trainings.language import SceneTraining, TextTraining
        from affectkit_mini.trainings.voices import VoiceOptions, VoiceTraining

        voices = VoiceTraining(VoiceOptions(start=str(self._folder / "audio.safetensors")))
        training = {"audio": voices, "text": TextTraining(), "scene": SceneTraining()}[name]
        part = self._held(training, data)
        return self._said(part, self._read(name, training)(part)[:, None])

    def _held(self, training: Training, data: Path) -> Part:
        """Some rows of the parts that it did not learn from; of texts those with one label."""
        parts = {name: part for name, part in training.parts(data).items() if name != "train"}
        part = parts["validation"] if len(parts) == 1 else _joined(*parts.values())
        known = np.arange(len(part)) if part.truth.ndim == 1 else np.flatnonzero(part.truth.sum(axis=1) == 1)
        known = np.random.default_rng(self.options.seed).permutation(known)
        return part.take(np.sort(known[_evenly(_labels(part.truth[known]))[: self.options.rows]]))

    def _read(self, name: str, training: Training) -> Any:
        """A function that gives the distribution (N, 7) that the component makes of a part."""
        from affectkit.training_rows import logits_of
        from affectkit_mini.records import load_network
        from affectkit_mini.trainings.language import distribution

        network = training.network().float()
        settings = load_network(network, self._folder / f"{name}.safetensors")

        def read(part: Part) -> np.ndarray:
            values = training.probabilities(logits_of(training, network, part, TOGETHER), settings).double().numpy()
            return distribution(values, settings["exponent"]) if training.labels.kind == "multilabel" else values

        return read

    def _said(self, part: Part, rows: np.ndarray) -> Said:
        return Said(rows, _labels(part.truth), halves(np.asarray(part.groups), self.options.seed))

    @property
    def _folder(self) -> Path:
        return FOLDER if self.options.weights is None else Path(self.options.weights)

    def _settings(self, name: str) -> Mapping[str, Any]:
        from affectkit_mini.records import read_settings

        return read_settings(self._folder / f"{name}.safetensors")


def pair(said: Mapping[str, Said], count: int, fitting: bool, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairings of equal label.

    Args:
        said: what sources say, by kind of evidence in the order of :data:`SOURCES`.
        count: how many.
        fitting: of the rows of which side.
        seed: of what is drawn.

    Returns:
        Probabilities (N, 5, 8) float32 with 0 where nothing is said, labels (N,) int64, and validity (N, 5, 8) bool.
    """
    random = np.random.default_rng([seed, fitting])
    truth = random.integers(0, len(BASIC7), count)
    values = np.zeros((count, len(SOURCES), len(BASIC8)), np.float32)
    valid = np.zeros(values.shape, bool)
    there = {kind: random.random(count) < share for kind, share in PRESENT.items()}
    there["face"] |= ~np.any(list(there.values()), axis=0)
    place = 0
    for kind, part in said.items():
        width = part.rows.shape[1]
        for label in range(len(BASIC7)):
            pool = np.flatnonzero((part.fitting == fitting) & (part.truth == label))
            rows = np.flatnonzero(there[kind] & (truth == label))
            if len(pool):
                values[rows, place : place + width, : len(BASIC7)] = part.rows[random.choice(pool, len(rows))]
                valid[rows, place : place + width, : len(BASIC7)] = True
        place += width
    valid[random.random(count) < STILL, SOURCES.index("mini/face_dynamic")] = False
    some = valid.any(axis=(1, 2))
    return np.where(valid, values, 0)[some], truth[some], valid[some]


def _labels(truth: np.ndarray) -> np.ndarray:
    """The label of each row (N,), also where labels are columns and a row has one."""
    return truth if truth.ndim == 1 else truth.argmax(axis=1)


def _evenly(truth: np.ndarray) -> np.ndarray:
    """An order of the rows (N,) in which the first of every label come first, then the second, and so on.

    >>> _evenly(np.array([5, 5, 5, 2, 2])).tolist()
    [0, 3, 1, 4, 2]
    """
    place = np.zeros(len(truth), np.int64)
    for label in np.unique(truth):
        rows = np.flatnonzero(truth == label)
        place[rows] = np.arange(len(rows))
    return np.argsort(place, kind="stable")


def _joined(first: Part, second: Part) -> Part:
    """Two parts one after the other; rows of one batch may be of both."""
    size = len(first)

    def batch(rows: np.ndarray, turn: Turn | None) -> Mapping[str, torch.Tensor]:
        import torch

        found = [part.batch(some, turn) for part, some in ((first, rows[rows < size]), (second, rows[rows >= size] - size)) if len(some)]
        if len(found) == 1:
            return found[0]
        order = torch.from_numpy(np.argsort(np.concatenate([np.flatnonzero(rows < size), np.flatnonzero(rows >= size)])))
        widths = {name: max(part[name].shape[1] for part in found) if found[0][name].ndim > 1 else 0 for name in found[0]}
        return {name: torch.cat([_wide(torch.as_tensor(part[name]), widths[name]) for part in found])[order] for name in found[0]}

    return Part(np.concatenate([first.truth, second.truth]), np.concatenate([first.groups, second.groups]), batch)


def _wide(tensor: torch.Tensor, width: int) -> torch.Tensor:
    """Padded with zeros in its second dimension, as far as it has one."""
    import torch

    if tensor.ndim < 2 or tensor.shape[1] == width:
        return tensor
    return torch.nn.functional.pad(tensor, (*(0,) * (2 * (tensor.ndim - 2)), 0, width - tensor.shape[1]))
