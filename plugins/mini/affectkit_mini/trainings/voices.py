"""The training of mini/audio: RAVDESS speech and nEMO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from affectkit import fitting
from affectkit.api import BASIC7, About, Part, Training, Turn, UsageError
from affectkit.intervals import scores
from affectkit_mini.trainings.corpora import columns, read_voices
from affectkit_mini.trainings.sounds import VERSIONS, version

if TYPE_CHECKING:
    import torch

FOLDS = 5
NEMO = ("EB0", "IC0", "KD0", "KS0", "MK0", "MP0")  # the last two are in one fifth
ROWS = 128  # of a step that a member reads
UNKNOWN = BASIC7.index("disgust")  # nEMO has none
FOUR = [BASIC7.index(name) for name in ("neutral", "anger", "happiness", "sadness")]  # of which most corpora have recordings
NOISE, SMOOTHING, MIXTURE = 0.1, 0.1, 0.4


@dataclass(frozen=True)
class VoiceOptions:
    """Options of the training of mini/audio.

    Attributes:
        features: a .npy file that keeps the numbers of all versions of all sounds (20 MB), which take about a quarter of an hour; made where it is not there.
        without: ``"ravdess"`` or ``"nemo"``: learn nothing of this corpus, and measure on it what a corpus and a language are worth that were never heard.
    """

    features: str | None = None
    without: Literal["ravdess", "nemo"] | None = None


class VoiceTraining(Training):
    """mini/audio: acted speech, in which calm counts as neutral.

    Six speakers and twenty actors are too few to keep some apart for good. So each member of the network leaves out a fifth of the voices, and a voice is
    measured by the members that did not hear it; together the members have heard all voices.
    """

    name = "audio_training"
    labels = BASIC7
    Options = VoiceOptions

    def parts(self, data: Path) -> Mapping[str, Part]:
        """All voices to learn from, and the same voices, unheard, in two halves to measure and to calibrate on."""
        table = read_voices(data)
        truth, voices = columns(table["emotion"]), table["voice"].to_numpy().astype(str)
        english = np.char.startswith(voices, "ravdess")
        places = {voice: place(voice) for voice in np.unique(voices).tolist()}
        folds = np.array([places[voice][0] for voice in voices])
        measured = np.array([places[voice][1] for voice in voices])
        path = None if self.options.features is None else Path(self.options.features)
        sounds = _Sounds(list(table["path"]), folds, english, path)
        heard = Part(truth, voices, sounds, chances=even_cells(truth, english))
        views = {"ravdess": english, "nemo": ~english}
        self._unheard = replace(heard, groups=np.char.add(voices, ", unheard"), chances=None, views=views)
        if self.options.without is not None:
            rows = views[self.options.without]
            heard, measured = heard.take(np.flatnonzero(~rows)), measured[rows]
            self._unheard = replace(self._unheard.take(np.flatnonzero(rows)), views={self.options.without: rows[rows]})
        parts = {
            "train": heard,
            "validation": self._unheard.take(np.flatnonzero(measured)),
            "calibration": self._unheard.take(np.flatnonzero(~measured)),
        }
        for name, part in parts.items():
            how = "" if name == "train" else "; each voice by the members that did not hear it"
            who = ", ".join(sorted({group.removesuffix(", unheard") for group in part.groups}))
            parts[name] = replace(part, about=f"{who}{how}")
        return parts

    def network(self) -> torch.nn.Module:
        from affectkit_mini.networks import VoiceNet

        return VoiceNet(FOLDS)

    def predict(self, network: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """What the members say that did not hear a row's voice."""
        found: torch.Tensor = network(batch["features"], batch["fold"])[0]
        return found

    def loss(self, network: Any, batch: Mapping[str, torch.Tensor], weights: torch.Tensor) -> torch.Tensor:
        """Each member reads rows of its own, none of which is of a voice that it leaves out; rows are mixed, and disgust is unknown to nEMO."""
        import torch
        from torch.nn.functional import one_hot

        device = batch["features"].device
        allowed = network.fold[:, None] != batch["fold"]
        size = min(ROWS, int(allowed.sum(1).min()))
        if size < 2:
            raise UsageError(f"a step of {len(batch['fold'])} rows has less than two that a member may read; give a larger batch_size")
        rows = torch.rand(allowed.shape, device=device).masked_fill(~allowed, -1.0).topk(size).indices  # (M, size)
        x = network.standardise(batch["features"][rows])
        x = x + NOISE * torch.randn_like(x)
        target, known = one_hot(batch["truth"][rows], len(BASIC7)).float(), torch.ones(*rows.shape, len(BASIC7), device=device)
        known[..., UNKNOWN] = batch["english"][rows].float()
        other = torch.randperm(size, device=device)
        share = torch.distributions.Beta(MIXTURE, MIXTURE).sample((*rows.shape, 1)).to(device)
        share = torch.maximum(share, 1 - share)
        x, target = share * x + (1 - share) * x[:, other], share * target + (1 - share) * target[:, other]
        known = torch.maximum(known, known[:, other])
        target = (1 - SMOOTHING) * target + SMOOTHING * known / known.sum(2, keepdim=True)
        said = network.classify(x).masked_fill(known == 0, -30.0).log_softmax(2)
        return -(target * known * said * weights).sum(2).mean(1).sum()

    def figures(self, network: Any, part: Part, logits: torch.Tensor, settings: Mapping[str, Any]) -> Mapping[str, float]:
        """UAR over all voices of a corpus, each by members that did not hear it, with intervals over voices, and that of four classes renormalised."""
        from affectkit.training_rows import logits_of

        values = self.probabilities(logits_of(self, network, self._unheard, 1000), settings).numpy()
        found: dict[str, float] = {}
        for name, rows in self._unheard.views.items():
            count = len(np.unique(self._unheard.groups[rows]))
            some = rows & np.isin(self._unheard.truth, FOUR)
            for what, answers, chosen in ((f"{count} voices", values, rows), ("four classes", only(values, FOUR), some)):
                uar = scores(fitting.tally(self.labels, self._unheard, answers, chosen))["uar"]
                found |= {f"{name} uar, {what}": uar.value}
                found |= {
                    f"{name} uar, {what}, {end}": value for end, value in (("lower", uar.low), ("upper", uar.high)) if value is not None
                }
        return found

    def about(self) -> About:
        return About(
            title="mini/audio: the emotion of a voice",
            what="Ten small networks side by side (two hidden layers) over 310 numbers of pitch, harmonicity, timing, energy, spectrum and modulation of a "
            "window (16 kHz). Each left out a fifth of the voices in training, and each saw a sound in eight versions: other speeds, microphones, rooms, "
            "noise, levels, missing bands, clipping. Figures are of voices by the members that did not hear them; the component averages all ten.",
            data="RAVDESS speech, actors 1-20 (Livingstone and Russo 2018), and nEMO, 6 speakers (Christop 2024), both CC BY-NC-SA 4.0",
            licence="CC-BY-NC-SA-4.0",
            limits="Trained on acted, studio-recorded speech: few voices, two English sentences and short Polish ones. Aimed at were UAR 0.65 on RAVDESS, 0.50 on "
            "nEMO, and 0.72 of four classes on a corpus and language that it never heard: the first is missed by less than the interval is wide, the second is the "
            "upper end of it, and the third is far away. With `--set options.without=nemo` and `options.without=ravdess` the training measures it: 0.34 and 0.37, "
            "where chance is 0.25. Not much more was reached where an oracle told these numbers' mean and spread in the other corpus: whether a voice is "
            "stirred carries over, anger against happiness and sadness against neutral hardly. Tried without gain on unseen voices: more numbers of voice quality and "
            "intonation, noise and offsets on the numbers by which the corpora differ, leaving those out, and leaving out those that disturbances move. The calibration error of a corpus by itself is above 0.05. Spontaneous speech, music, laughter and children are "
            "outside of what it has heard, and there it is often wrong with confidence. nEMO has no disgust. The corpora's terms forbid commercial use. "
            "Accuracy on poor input, condition by condition: `docs/robustness.md` in the repository.",
            commercial=False,
        )


class _Sounds:
    """The 310 numbers of every version of sound files, computed when they are first asked for."""

    def __init__(self, paths: Sequence[Path], folds: np.ndarray, english: np.ndarray, kept: Path | None) -> None:
        from affectkit_mini.voice import NUMBERS

        self.paths, self.folds, self.english = paths, folds, english
        shape = (VERSIONS, len(paths), NUMBERS)
        if kept is None:
            self.numbers = np.full(shape, np.nan, np.float32)
        elif kept.exists():
            self.numbers = np.load(kept, mmap_mode="r+")
            if self.numbers.shape != shape:
                raise UsageError(f"{kept} has the shape {self.numbers.shape}, expected {shape}; delete it, and it is made again")
        else:
            self.numbers = np.lib.format.open_memmap(kept, "w+", np.float32, shape)
            self.numbers[:] = np.nan

    def __call__(self, rows: np.ndarray, turn: Turn | None) -> Mapping[str, Any]:
        versions = np.zeros(len(rows), np.int64) if turn is None else turn.numpy().integers(VERSIONS, size=len(rows))
        for number, row in zip(versions.tolist(), rows.tolist(), strict=True):
            if np.isnan(self.numbers[number, row]).all():
                self.numbers[number, row] = self._read(number, row)
        return {"features": self.numbers[versions, rows], "fold": self.folds[rows], "english": self.english[rows]}

    def _read(self, number: int, row: int) -> np.ndarray:
        import librosa
        import torch

        from affectkit_mini.sound import RATE
        from affectkit_mini.voice import describe

        samples, _ = librosa.load(self.paths[row], sr=RATE)
        return describe(torch.from_numpy(version(samples, number, row))).numpy()


def only(values: np.ndarray, columns: Sequence[int]) -> np.ndarray:
    """Probabilities (N, C) with zeros outside of some columns, renormalised."""
    found = np.zeros_like(values)
    found[:, columns] = values[:, columns] / values[:, columns].sum(axis=1, keepdims=True)
    return found


def place(voice: str) -> tuple[int, bool]:
    """The fifth that a voice is in, and whether it is measured: in a fifth are two men and two women of RAVDESS and one or two speakers of nEMO.

    >>> place("ravdess 1"), place("ravdess 12"), place("nemo KS0")
    ((0, True), (0, False), (3, False))
    """
    corpus, name = voice.split(" ")
    number = (int(name) - 1) // 2 if corpus == "ravdess" else NEMO.index(name)
    return min(number, FOLDS - 1) if corpus == "nemo" else number % FOLDS, number % 2 == 0


def even_cells(truth: np.ndarray, english: np.ndarray) -> np.ndarray:
    """How often each row is drawn, (N,): every class of every corpus alike, so that neither language stands for a class."""
    chances = np.zeros(len(truth))
    for corpus in (english, ~english):
        for label in np.unique(truth[corpus]):
            cell = corpus & (truth == label)
            chances[cell] = 1 / cell.sum()
    return chances / chances.sum()
