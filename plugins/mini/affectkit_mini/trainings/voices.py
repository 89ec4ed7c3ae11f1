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
from affectkit_mini.trainings.sounds import VERSIONS, vary, version

if TYPE_CHECKING:
    import torch

FOLDS = 5
NEMO = ("EB0", "IC0", "KD0", "KS0", "MK0", "MP0")  # the last two are in one fifth
ROWS = 128  # of a step that a member reads
UNKNOWN = BASIC7.index("disgust")  # nEMO has none
FOUR = [BASIC7.index(name) for name in ("neutral", "anger", "happiness", "sadness")]  # of which most corpora have recordings
NOISE, SMOOTHING, MIXTURE = 0.1, 0.1, 0.3
FRAMES = 128  # of a course that a member reads in training
LONGEST = 250  # frames of a course that are kept, 5 seconds
HIDDEN_BANDS, HIDDEN_FRAMES = 8, 10  # at most, twice each, in training


@dataclass(frozen=True)
class VoiceOptions:
    """Options of the training of mini/audio.

    Attributes:
        features: a folder that keeps the numbers of all versions of all sounds and their courses (90 MB), which take about a quarter of an hour; made where
            it is not there.
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
        from affectkit_mini.voice_network import VoiceNet

        return VoiceNet(FOLDS)

    def predict(self, network: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """What the members say that did not hear a row's voice."""
        found: torch.Tensor = network(batch["numbers"], batch["courses"], batch["fold"])[0]
        return found

    def loss(self, network: Any, batch: Mapping[str, torch.Tensor], weights: torch.Tensor) -> torch.Tensor:
        """Each member reads rows of its own, none of which is of a voice that it leaves out; rows are mixed, and disgust is unknown to nEMO."""
        import torch

        from affectkit_mini.voice_network import relative

        device = batch["numbers"].device
        folds = torch.cat([network.fold, torch.arange(len(network.courses), device=device)])
        allowed = folds[:, None] != batch["fold"]
        size = min(ROWS, int(allowed.sum(1).min()))
        if size < 2:
            raise UsageError(f"a step of {len(batch['fold'])} rows has less than two that a member may read; give a larger batch_size")
        rows = torch.rand(allowed.shape, device=device).masked_fill(~allowed, -1.0).topk(size).indices  # (M, size)
        other = torch.randperm(size, device=device)
        share = torch.distributions.Beta(MIXTURE, MIXTURE).sample((*rows.shape, 1)).to(device)
        share = torch.maximum(share, 1 - share)
        of_numbers, of_courses = rows.split([len(network.fold), len(network.courses)])
        numbers = batch["numbers"][of_numbers]
        network.compare(numbers, batch["english"][of_numbers])
        numbers = network.standardise(numbers)
        numbers = numbers + NOISE * torch.randn_like(numbers)
        numbers = _mixed(numbers, numbers[:, other], share[: len(of_numbers)])
        courses = _hidden(relative(batch["courses"]))
        said = [network.classify(numbers)]
        for member, some, part in zip(network.courses, of_courses, share[len(of_numbers) :], strict=True):
            said.append(member(_mixed(courses[some], courses[some[other]], part[..., None]))[None])
        target, known = self._targets(batch, rows, other, share)
        answers = torch.cat(said).float().masked_fill(known == 0, -30.0).log_softmax(2)
        return -(target * known * answers * weights).sum(2).mean(1).sum()

    @staticmethod
    def _targets(
        batch: Mapping[str, torch.Tensor], rows: torch.Tensor, other: torch.Tensor, share: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(M, size, C) what is wanted of mixed and smoothed rows, and which classes are known to them."""
        import torch
        from torch.nn.functional import one_hot

        known = torch.ones(*rows.shape, len(BASIC7), device=rows.device)
        known[..., UNKNOWN] = batch["english"][rows].float()
        known = torch.maximum(known, known[:, other])
        target = one_hot(batch["truth"][rows], len(BASIC7)).float()
        target = _mixed(target, target[:, other], share)
        return (1 - SMOOTHING) * target + SMOOTHING * known / known.sum(2, keepdim=True), known

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
            what="Fifteen small networks side by side for a window (16 kHz): ten with two hidden layers over 310 numbers of pitch, harmonicity, timing, energy, "
            "spectrum and modulation, and five with three convolutions over the course of mel levels and pitch. Each left out a fifth of the voices in training, "
            "and each saw sounds changed: other speeds, throats, microphones, rooms, noise, levels, missing bands, clipping. Figures are of voices by the "
            "members that did not hear them; the component averages all.",
            data="RAVDESS speech, actors 1-20 (Livingstone and Russo 2018), and nEMO, 6 speakers (Christop 2024), both CC BY-NC-SA 4.0",
            licence="CC-BY-NC-SA-4.0",
            limits="Trained on acted, studio-recorded speech: few voices, two English sentences and short Polish ones. Aimed at were UAR 0.65 on RAVDESS, 0.50 on "
            "nEMO, and 0.72 of four classes on a corpus and language that it never heard. The first is reached on unheard voices; the second is missed by less than the "
            "interval is wide; the third is far away as far as it can be measured: with `--set options.without=nemo` and `options.without=ravdess` one corpus is worth "
            "0.34 and 0.33 on the other, where chance is 0.25. Whether a voice is stirred carries over, anger against happiness and sadness against neutral hardly. "
            "Tried without gain there: more numbers of voice quality and intonation, noise and offsets on the numbers by which corpora differ, leaving out those that "
            "disturbances move, and the convolutions. The calibration error of a corpus by itself is higher, for nEMO 0.09. Spontaneous speech, music, "
            "laughter and children are outside of what it has heard, and there it is often wrong with confidence. nEMO has no disgust. The corpora's terms forbid "
            "commercial use. Accuracy on poor input, condition by condition: `docs/robustness.md` in the repository.",
            commercial=False,
        )


class _Sounds:
    """The numbers of every version of sound files, and the courses of the files as they are, computed when they are first asked for."""

    def __init__(self, paths: Sequence[Path], folds: np.ndarray, english: np.ndarray, kept: Path | None) -> None:
        from affectkit_mini.voice import NUMBERS
        from affectkit_mini.voice import ROWS as HEIGHT

        self.paths, self.folds, self.english = paths, folds, english
        self.numbers = _array(kept, "numbers", (VERSIONS, len(paths), NUMBERS), np.float32)
        self.courses = _array(kept, "courses", (len(paths), LONGEST, HEIGHT), np.float16)

    def __call__(self, rows: np.ndarray, turn: Turn | None) -> Mapping[str, Any]:
        import torch

        from affectkit_mini.voice_network import loop

        random = None if turn is None else turn.numpy()
        versions = np.zeros(len(rows), np.int64) if random is None else random.integers(VERSIONS, size=len(rows))
        for row in rows.tolist():
            self._read(0, row)
        for number, row in zip(versions.tolist(), rows.tolist(), strict=True):
            self._read(number, row)
        courses = torch.from_numpy(self.courses[rows]).float()
        lengths = (~courses[..., 0].isnan()).sum(1)
        if random is None:
            courses = torch.stack([loop(course[:length]) for course, length in zip(courses, lengths, strict=True)])
        else:
            courses = vary(courses, lengths, FRAMES, random)
        return {"numbers": self.numbers[versions, rows], "courses": courses, "fold": self.folds[rows], "english": self.english[rows]}

    def _read(self, number: int, row: int) -> None:
        if not np.isnan(self.numbers[number, row]).all():
            return
        import librosa
        import torch

        from affectkit_mini.sound import RATE
        from affectkit_mini.voice import describe

        samples, _ = librosa.load(self.paths[row], sr=RATE)
        numbers, course = describe(torch.from_numpy(version(samples, number, row)))
        if number == 0:
            self.courses[row, : len(course)] = course[:LONGEST].numpy()
        self.numbers[number, row] = numbers.numpy()


def _array(folder: Path | None, name: str, shape: tuple[int, ...], kind: type) -> np.ndarray:
    """An array that is not filled yet, or that of an earlier training in the folder."""
    if folder is None:
        return np.full(shape, np.nan, kind)
    path = folder / f"{name}.npy"
    if path.exists():
        found = np.load(path, mmap_mode="r+")
        if found.shape != shape:
            raise UsageError(f"{path} has the shape {found.shape}, expected {shape}; delete it, and it is made again")
        return found
    folder.mkdir(parents=True, exist_ok=True)
    made = np.lib.format.open_memmap(path, "w+", kind, shape)
    made[:] = np.nan
    return made


def _mixed(some: torch.Tensor, others: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    return share * some + (1 - share) * others


def _hidden(courses: torch.Tensor) -> torch.Tensor:
    """Courses (B, 69, T) without some of their bands, and of their frames (Park et al. 2019, "SpecAugment")."""
    import torch

    from affectkit_mini.sound import BANDS

    for length, most, along in ((BANDS, HIDDEN_BANDS, 1), (courses.shape[2], HIDDEN_FRAMES, 2)) * 2:
        first = torch.randint(length - most, (len(courses), 1), device=courses.device)
        count = torch.randint(most + 1, (len(courses), 1), device=courses.device)
        place = torch.arange(courses.shape[along], device=courses.device)
        courses = courses.masked_fill(((place >= first) & (place < first + count)).unsqueeze(3 - along), 0.0)
    return courses


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
