"""The training of mini/audio: RAVDESS speech and nEMO."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from affectkit import fitting
from affectkit.api import BASIC7, About, Part, Training, Turn, UsageError
from affectkit.intervals import scores
from affectkit_mini.records import FOLDER
from affectkit_mini.trainings.corpora import columns, read_voices
from affectkit_mini.trainings.sounds import VERSIONS, version

if TYPE_CHECKING:
    import torch

    from affectkit_mini.listening import Listener

FOLDS = 5
NEMO = ("EB0", "IC0", "KD0", "KS0", "MK0", "MP0")  # the last two are in one fifth
ROWS = 128  # of a step that a member reads
UNKNOWN = BASIC7.index("disgust")  # nEMO has none
FOUR = [BASIC7.index(name) for name in ("neutral", "anger", "happiness", "sadness")]  # of which most corpora have recordings
NOISE, SMOOTHING, MIXTURE = 0.1, 0.1, 0.3
SHIPPED, SMART_TURN, RANDOM = "shipped", "smart-turn", "random"
SPEECH = (
    "; before, as the encoder of Smart Turn v3.2 (Daily, BSD-2-Clause), turns of speech in 23 languages, and as that of Whisper tiny "
    "(Radford et al. 2023, MIT), 680,000 hours of speech from the web"
)
VOICES = "RAVDESS speech, actors 1-20 (Livingstone and Russo 2018), and nEMO, 6 speakers (Christop 2024), both CC BY-NC-SA 4.0"
APART = (
    "Every voice is in the training, and is measured by the members that did not hear it; no voice is in both validation and calibration. "
    "The five members together, as the component takes them, have heard every voice and are measured on none."
)
LIMITS = (
    "Trained on acted, studio-recorded speech: few voices, two English sentences and short Polish ones. Aimed at were UAR 0.65 on RAVDESS, 0.50 on nEMO, and 0.72 "
    "of four classes on a corpus and language that it never heard. The first two are reached on unheard voices. The third cannot be measured for the network of both "
    "corpora; with `--set options.without=nemo` and `options.without=ravdess` the other corpus alone is worth 0.43 [0.34, 0.54] on nEMO and 0.53 [0.48, 0.59] on RAVDESS, where chance is 0.25. The encoder "
    "learned from speech in many languages, of whom and in which moods is not known; it was made to tell words and ends of turns, so what is said may sway what is "
    "heard in it. The calibration error of a corpus by itself is higher. Spontaneous speech, music, laughter and children are outside of what the small networks have "
    "heard. nEMO has no disgust. The corpora's terms forbid commercial use. Accuracy on poor input, condition by condition: `docs/robustness.md` in the "
    "repository."
)


@dataclass(frozen=True)
class VoiceOptions:
    """Options of the training of mini/audio.

    Attributes:
        start: the encoder that hears, which is not trained: ``"shipped"``, that of this package's weights; ``"smart-turn"``, where it came from, in the
            package ``pipecat-ai``; a path of its ONNX file, or of a file that this training wrote; or ``"random"`` numbers, to try the way.
        features: a folder that keeps what the encoder says of all versions of all sounds (105 MB), which takes about ten minutes; made where it is not
            there.
        without: ``"ravdess"`` or ``"nemo"``: learn nothing of this corpus, and measure on it what a corpus and a language are worth that were never heard.
    """

    start: str = SHIPPED
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
    _fitted = float("nan")

    def parts(self, data: Path) -> Mapping[str, Part]:
        """All voices to learn from, and the same voices, unheard, in two halves to measure and to calibrate on."""
        table = read_voices(data)
        truth, voices = columns(table["emotion"]), table["voice"].to_numpy().astype(str)
        english = np.char.startswith(voices, "ravdess")
        places = {voice: place(voice) for voice in np.unique(voices).tolist()}
        folds = np.array([places[voice][0] for voice in voices])
        measured = np.array([places[voice][1] for voice in voices])
        path = None if self.options.features is None else Path(self.options.features)
        sounds = _Sounds(list(table["path"]), folds, english, self._listener, path)
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

    @cached_property
    def _listener(self) -> Listener:
        """What hears the sounds, on the processor."""
        from affectkit_mini.listening import Listener
        from affectkit_mini.trainings import hearing

        listener, start = Listener().requires_grad_(False).eval(), self.options.start
        if start == SMART_TURN or start.endswith(".onnx"):
            hearing.begin(listener, hearing.NETWORK.path(None if start == SMART_TURN else Path(start)))
        elif start != RANDOM:
            hearing.take(listener, FOLDER / "audio.safetensors" if start == SHIPPED else Path(start))
        return listener

    def network(self) -> torch.nn.Module:
        from affectkit_mini.voice_network import VoiceNet

        network = VoiceNet(FOLDS)
        network.listener.load_state_dict(self._listener.state_dict())
        return network

    def predict(self, network: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """What the members say that did not hear a row's voice: all of them where its corpus was left out, else one."""
        found: torch.Tensor = network(batch["numbers"], batch["fold"] if self.options.without is None else None)[0]
        return found

    def loss(self, network: Any, batch: Mapping[str, torch.Tensor], weights: torch.Tensor) -> torch.Tensor:
        """Each member reads rows of its own, none of which is of a voice that it leaves out; rows are mixed, and disgust is unknown to nEMO."""
        import torch

        device = batch["numbers"].device
        allowed = torch.arange(network.folds, device=device)[:, None] != batch["fold"]
        size = min(ROWS, int(allowed.sum(1).min()))
        if size < 2:
            raise UsageError(f"a step of {len(batch['fold'])} rows has less than two that a member may read; give a larger batch_size")
        rows = torch.rand(allowed.shape, device=device).masked_fill(~allowed, -1.0).topk(size).indices  # (M, size)
        other = torch.randperm(size, device=device)
        share = torch.distributions.Beta(MIXTURE, MIXTURE).sample((*rows.shape, 1)).to(device)
        share = torch.maximum(share, 1 - share)
        numbers = network.standardise(batch["numbers"][rows])
        numbers = numbers + NOISE * torch.randn_like(numbers)
        said = network.classify(_mixed(numbers, numbers[:, other], share))[0].float()
        target, known = self._targets(batch, rows, other, share)
        answers = said.masked_fill(known == 0, -30.0).log_softmax(2)
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

    def write(self, path: Path, tensors: Mapping[str, torch.Tensor], header: Mapping[str, str]) -> None:
        """The members in half precision, and the encoder in a byte for each number, as it was published."""
        from affectkit_mini.packing import pack
        from affectkit_mini.trainings.hearing import PREFIX

        heard = {PREFIX + name: value for name, value in pack(self._listener.state_dict()).items()}
        members = {name: value for name, value in tensors.items() if not name.startswith(PREFIX)}
        super().write(path, members | heard, header)

    def settings(self, logits: torch.Tensor, truth: np.ndarray) -> Mapping[str, Any]:
        """The temperature of the calibration part, but never less than 1: who is heard later is less like the voices of the training than these are, and nothing
        should be said of them with more confidence."""
        self._fitted = float(super().settings(logits, truth)["temperature"])
        return {"temperature": max(1.0, self._fitted)}

    def figures(self, network: Any, part: Part, logits: torch.Tensor, settings: Mapping[str, Any]) -> Mapping[str, float]:
        """UAR over all voices of a corpus, each by members that did not hear it, with intervals over voices, and that of four classes renormalised."""
        from affectkit.training_rows import logits_of

        unheard = self.limited(self._unheard)
        values = self.probabilities(logits_of(self, network, unheard, 1000), settings).numpy()
        found = {"temperature that the calibration part asks for": self._fitted}
        for name, rows in unheard.views.items():
            count = len(np.unique(unheard.groups[rows]))
            some = rows & np.isin(unheard.truth, FOUR)
            for what, answers, chosen in ((f"{count} voices", values, rows), ("four classes", only(values, FOUR), some)):
                if not chosen.any():
                    continue
                uar = scores(fitting.tally(self.labels, unheard, answers, chosen))["uar"]
                found |= {f"{name} uar, {what}": uar.value}
                found |= {
                    f"{name} uar, {what}, {end}": value for end, value in (("lower", uar.low), ("upper", uar.high)) if value is not None
                }
        return found

    def about(self) -> About:
        encoder = (
            "The encoder has random numbers."
            if self.options.start == RANDOM
            else "The encoder is that of Smart Turn v3.2, as it was published; it is not trained here."
        )
        return About(
            title="mini/audio: the emotion of a voice",
            what="Five small networks side by side over what an encoder of speech says of a window (16 kHz): means and deviations, over the frames that hold "
            f"sound, of what its first three blocks say. {encoder} Each small network "
            "left out a fifth of the voices in training, and each heard sounds changed: other speeds, throats, microphones, rooms, noise, levels, missing bands, "
            "clipping, telephones, single words. Figures are of voices by the network that did not hear them; the component averages all.",
            data=VOICES if self.options.start == RANDOM else VOICES + SPEECH,
            licence="CC-BY-NC-SA-4.0",
            limits=LIMITS,
            commercial=False,
            apart=APART,
        )


class _Sounds:
    """What a listener says of every version of sound files, computed when it is first asked for."""

    def __init__(self, paths: Sequence[Path], folds: np.ndarray, english: np.ndarray, listener: Listener, kept: Path | None) -> None:
        from affectkit_mini.listening import NUMBERS

        self.paths, self.folds, self.english, self.listener = paths, folds, english, listener
        self.numbers = _array(kept, f"heard-{_mark(listener)}", (VERSIONS, len(paths), NUMBERS), np.float16)

    def __call__(self, rows: np.ndarray, turn: Turn | None) -> Mapping[str, Any]:
        random = None if turn is None else turn.numpy()
        versions = np.zeros(len(rows), np.int64) if random is None else random.integers(VERSIONS, size=len(rows))
        for number, row in zip(versions.tolist(), rows.tolist(), strict=True):
            self._read(number, row)
        return {"numbers": self.numbers[versions, rows].astype(np.float32), "fold": self.folds[rows], "english": self.english[rows]}

    def _read(self, number: int, row: int) -> None:
        if not np.isnan(self.numbers[number, row]).any():
            return
        import librosa
        import torch

        from affectkit_mini.listening import hear
        from affectkit_mini.sound import RATE

        samples, _ = librosa.load(self.paths[row], sr=RATE)
        heard = hear(torch.from_numpy(version(samples, number, row)))
        with torch.inference_mode():
            found = self.listener(heard.levels[None], heard.frames[None], torch.ones_like(heard.frames)[None])
        self.numbers[number, row] = found[0].numpy()


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


def _mark(network: torch.nn.Module) -> str:
    """Eight hexadecimal digits that tell the numbers of networks apart, so that what one has said is not taken for what another says."""
    digest = hashlib.sha256()
    for value in network.state_dict().values():
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()[:8]


def _mixed(some: torch.Tensor, others: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    return share * some + (1 - share) * others


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
