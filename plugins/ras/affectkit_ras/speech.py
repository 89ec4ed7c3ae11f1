"""``ras/speech``: whether somebody speaks in a window, by Silero's detector of speech activity through onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from affectkit.api import Audio, Checkpoint, CheckpointError, Clip, ConfigError, Evidence, Needs, Provider

if TYPE_CHECKING:
    from pathlib import Path

    import torch

KIND = "speech"
RATE = 16000  # samples per second
STEP = 512  # samples of a step, 32 ms
CONTEXT = 64  # samples before each step that the network hears again
STATE = 128  # numbers of each of its two states
INPUTS = {"input", "state", "sr"}
HYSTERESIS = 0.15  # by which the probability must fall below the threshold before speech ends, as Silero has it


@dataclass(frozen=True)
class SpeechOptions:
    """Options of ras/speech.

    Attributes:
        checkpoint: ``default``, or the path of another ONNX file of Silero's detector (version 5 or later).
        threshold: probability from which a step of 32 ms begins speech.
        least_speech: seconds; a shorter stretch is no speech.
        least_silence: seconds; a shorter gap does not end it.
        share: of the window that speech must fill, in [0, 1]; with less the window is without evidence.
    """

    checkpoint: str = "default"
    threshold: float = 0.5
    least_speech: float = 0.25
    least_silence: float = 0.1
    share: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ConfigError(f"threshold must be between 0 and 1, found {self.threshold}")
        if not 0 <= self.share <= 1:
            raise ConfigError(f"share must be in [0, 1], found {self.share}")
        if min(self.least_speech, self.least_silence) < 0:
            raise ConfigError(f"least_speech and least_silence must not be negative, found {self.least_speech} and {self.least_silence}")


class Speech(Provider):
    """Stretches of speech in a window, ``segments`` (start, end) in seconds of the medium, and their ``share`` of it (Silero VAD).

    Each window is heard from a state of zeros, so that it says the same whatever was heard before. Team RAS divided samples by
    seconds, which made their threshold of 0.1 let any speech at all pass; here the share is seconds of seconds.
    """

    name = "speech"
    kind = KIND
    scope = "window"
    needs = Needs(audio=Audio(rate=RATE))
    Options = SpeechOptions
    checkpoints: ClassVar = {
        "default": Checkpoint(
            uri="https://github.com/snakers4/silero-vad/raw/v6.2.3/src/silero_vad/data/silero_vad_16k_op15.onnx",
            sha256="7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49",
            licence="MIT",
            source="https://github.com/snakers4/silero-vad",
            size=1_289_603,
        )
    }

    _session: Any = None

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        """Reads the network; it runs on the processor whatever the device.

        Raises:
            CheckpointError: where the file is none that onnxruntime reads, or another network.
        """
        from affectkit_ras import onnx_files

        path = self.weights()
        session = onnx_files.session(path, self.id, threads=1)
        found = {item.name for item in session.get_inputs()}
        if found != INPUTS:
            raise CheckpointError(
                f"{self.id}: {path} is not Silero's detector (version 5 or later): its inputs are {sorted(found)}, expected {sorted(INPUTS)}"
            )
        self._session = session

    def write_random(self, tag: str, folder: Path, sources: Sequence[str] = ()) -> Path:
        """A network that takes loud steps for speech: of random numbers it would take all, or none."""
        from affectkit.weight_files import RANDOM, writing

        path = folder / "speech.onnx"
        try:
            content = _tiny(RANDOM)
        except ImportError:
            raise CheckpointError(
                f"{self.id} has no random weights without the package that writes ONNX: pip install onnx; "
                "or leave it out with components.ras/audio.speech=false"
            ) from None
        with writing(path) as file:
            file.write(content)
        return path

    def provide(self, clips: Sequence[Clip]) -> list[Evidence]:
        """Speech of each window; windows are heard side by side, step by step."""
        heard = [clip for clip in clips if clip.audio is not None and len(clip.audio)]
        said = iter(self.probabilities([np.asarray(clip.audio, np.float32) for clip in heard]))
        return [
            self._evidence(clip, next(said)) if clip.audio is not None and len(clip.audio) else Evidence.none(KIND, "no sound")
            for clip in clips
        ]

    def probabilities(self, sounds: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The probability of speech in each step of 512 samples.

        Args:
            sounds: (N,) float32 in [-1, 1] at 16 kHz each; the last step is filled with zeros.

        Returns:
            (ceil(N / 512),) float32 each.

        Raises:
            CheckpointError: before it is loaded.
        """
        if self._session is None:
            raise CheckpointError(f"{self.id} is asked before its weights are loaded")
        steps = [-(-len(sound) // STEP) for sound in sounds]
        order = np.argsort(
            [-count for count in steps], kind="stable"
        )  # the longest first, so that those that still go on are the first rows
        padded = np.zeros((len(sounds), CONTEXT + max(steps, default=0) * STEP), np.float32)
        for row, place in enumerate(order):
            padded[row, CONTEXT : CONTEXT + len(sounds[place])] = sounds[place]
        out = np.zeros((len(sounds), max(steps, default=0)), np.float32)
        state = np.zeros((2, len(sounds), STATE), np.float32)
        for step in range(out.shape[1]):
            count = sum(steps[place] > step for place in order)
            heard = padded[:count, step * STEP : (step + 1) * STEP + CONTEXT]
            said, state = self._session.run(None, {"input": heard, "state": state[:, :count], "sr": np.array(RATE, np.int64)})
            out[:count, step] = said[:, 0]
        found: list[np.ndarray] = [np.empty(0, np.float32)] * len(sounds)
        for row, place in enumerate(order):
            found[place] = out[row, : steps[place]]
        return found

    def _evidence(self, clip: Clip, probabilities: np.ndarray) -> Evidence:
        length = len(clip.audio) / RATE if clip.audio is not None else 0.0
        mine = self.options
        found = stretches(probabilities, mine.threshold, mine.least_speech * RATE / STEP, mine.least_silence * RATE / STEP)
        segments = tuple(
            (clip.audio_start + first * STEP / RATE, clip.audio_start + min(last * STEP / RATE, length)) for first, last in found
        )
        share = min(sum(end - start for start, end in segments) / length, 1.0)
        if not segments or share < mine.share:
            return Evidence.none(KIND, "no speech")
        return Evidence(KIND, {"segments": segments, "share": share}, quality={"speech": share})


def stretches(probabilities: np.ndarray, threshold: float, least_speech: float, least_silence: float) -> list[tuple[int, int]]:
    """Stretches of speech: one begins at the threshold, and ends where it has been lower by :data:`HYSTERESIS` for long enough.

    Args:
        probabilities: (T,) float in [0, 1], one per step.
        threshold: in (0, 1).
        least_speech: steps; shorter stretches are left out.
        least_silence: steps; shorter gaps are part of a stretch.

    Returns:
        First step and the one after the last, each.

    >>> stretches(np.array([0.1, 0.9, 0.4, 0.9, 0.1, 0.1, 0.1, 0.9]), 0.5, 2, 2)
    [(1, 4)]
    """
    found: list[tuple[int, int]] = []
    begin: int | None = None
    quiet: int | None = None  # the step from which it has been quiet
    for step, probability in enumerate([*probabilities.tolist(), *[0.0] * (int(least_silence) + 1)]):
        if probability >= threshold:
            begin = step if begin is None else begin
            quiet = None
        elif begin is not None and probability < threshold - HYSTERESIS:
            quiet = step if quiet is None else quiet
            if step + 1 - quiet >= least_silence:
                found.append((begin, min(quiet, len(probabilities))))
                begin = quiet = None
    return [(first, last) for first, last in found if last - first >= least_speech]


def _tiny(note: str) -> bytes:
    """An ONNX file with the inputs and outputs of Silero's: the mean amplitude of a step, against a random threshold between 0.005 and 0.01."""
    from onnx import TensorProto, helper

    threshold = float(np.random.default_rng(0).uniform(0.005, 0.01))
    nodes = [
        helper.make_node("Abs", ["input"], ["amplitude"]),
        helper.make_node("ReduceMean", ["amplitude"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Sub", ["mean", "threshold"], ["above"]),
        helper.make_node("Mul", ["above", "steepness"], ["sure"]),
        helper.make_node("Sigmoid", ["sure"], ["output"]),
        helper.make_node("Identity", ["state"], ["stateN"]),
    ]
    held = [
        helper.make_tensor("threshold", TensorProto.FLOAT, (1,), [threshold]),
        helper.make_tensor("steepness", TensorProto.FLOAT, (1,), [1000.0]),
    ]
    given = [
        helper.make_tensor_value_info("input", TensorProto.FLOAT, ("batch", "sequence")),
        helper.make_tensor_value_info("state", TensorProto.FLOAT, (2, "batch", STATE)),
        helper.make_tensor_value_info("sr", TensorProto.INT64, ()),
    ]
    said = [
        helper.make_tensor_value_info("output", TensorProto.FLOAT, ("batch", 1)),
        helper.make_tensor_value_info("stateN", TensorProto.FLOAT, (2, "batch", STATE)),
    ]
    graph = helper.make_graph(nodes, "speech", given, said, held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8, doc_string=note)
    content: bytes = model.SerializeToString(deterministic=True)
    return content
