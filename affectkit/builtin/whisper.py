"""``core/whisper``: words and their times from sound, by OpenAI Whisper, from a checkpoint that is already here.

The engine hands over pieces of sound of at most 30 seconds, the length that Whisper looks at, cut where it is quiet. Each
piece is decoded on its own, greedily and without the text before it, so that the same piece always gives the same words
and one slip cannot spoil what follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from affectkit import checkpoints, weight_files
from affectkit.components import Provider, Scope
from affectkit.errors import CheckpointError, ConfigError, PluginError, did_you_mean
from affectkit.evidence import Evidence, Word
from affectkit.needs import Audio, Checkpoint, Needs

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from affectkit.media import Clip

KIND = "transcript"
RATE = 16000  # samples per second that Whisper was trained on
SHORTEST = 0.1  # seconds; less sound than this holds no word
TAIL = 0.5  # seconds; left over at the end of a piece, they are too short for words of their own, and Whisper says "Thank you."
HOP = 160  # samples per step of Whisper's spectrogram, in which it says where it went on
FRAME = RATE // 10  # samples over which loudness is measured, 0.1 s
SILENCE = 1e-3  # root mean square of full scale, -60 dB; Whisper invents words for less
LONGEST_PHRASE = 12  # words of a phrase whose repetitions are looked for
MOST_REPEATS = 3  # a phrase said more often than this in a row is a loop of the decoder ("no, no, no" is speech)


def _published(tag: str, digest: str, size: int) -> Checkpoint:
    """A checkpoint as OpenAI publishes it; whisper itself keeps its downloads under ``~/.cache/whisper``."""
    return Checkpoint(
        uri=f"https://openaipublic.azureedge.net/main/whisper/models/{digest}/{tag}.pt",
        sha256=digest,
        licence="MIT",
        source="https://github.com/openai/whisper",
        also=(f"~/.cache/whisper/{tag}.pt",),
        size=size,
    )


CHECKPOINTS = {
    tag: _published(tag, digest, size)
    for tag, (digest, size) in {
        "tiny.en": ("d3dd57d32accea0b295c96e26691aa14d8822fac7d9d27d5dc00b4ca2826dd03", 75_571_315),
        "tiny": ("65147644a518d12f04e32d6f3b26facc3f8dd46e5390956a9424a650c0ce22b9", 75_572_083),
        "base.en": ("25a8566e1d0c1e2231d1c762132cd20e0f96a85d16145c3a00adf5d1ac670ead", 145_261_783),
        "base": ("ed3a0b6b1c0edf879ad9b11b1af5a0e6ab5db9205f891f668f8b0e6c6326e34e", 145_262_807),
        "small.en": ("f953ad0fd29cacd07d5a9eda5624af0f6bcf2258be67c92b79389873d91e0872", 483_615_683),
        "small": ("9ecf779972d90ba49c06d968637d720dd632c55bbf19d441fb42bf17a411e794", 483_617_219),
        "medium.en": ("d7440d1dc186f76616474e0ff0b3b6b879abc9d1a4926b7adfa41db2d497ab4f", 1_528_006_491),
        "medium": ("345ae4da62f9b3d59415adc60127b97c714f32e89e936602e85993674d08dcb1", 1_528_008_539),
        "large-v3": ("e5b1a55b89c1367dacf97e3e19bfd829a01529dbfdeefa8caeb59b3f1b81dadb", 3_087_371_615),
        "large-v3-turbo": ("aff26ae408abcba5fbf8813c21e62b0941638c5f6eebfb145be0c9839262a19a", 1_617_941_637),
    }.items()
}


@dataclass(frozen=True)
class Options:
    """Options of :class:`Whisper`.

    Attributes:
        checkpoint: ``tiny``, ``base``, ``small``, ``medium`` (``.en`` for English only), ``large-v3``, ``large-v3-turbo``, or a
            file in the format of openai-whisper.
        language: code (``en``) or name (``english``) of the language; empty finds it out for each piece.
        no_speech: probability of no speech above which an uncertain piece has no words.
        beam: beams of the search; 0 decodes greedily.
    """

    checkpoint: str = "base"
    language: str = ""
    no_speech: float = 0.6
    beam: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.no_speech <= 1:
            raise ConfigError(f"no_speech is a probability between 0 and 1, found {self.no_speech}")
        if self.beam < 0:
            raise ConfigError(f"beam must be 0 or the number of beams, found {self.beam}")


class Whisper(Provider):
    """Whisper (Radford et al., 2022, "Robust Speech Recognition via Large-Scale Weak Supervision", arXiv:2212.04356).

    Times of words come from cross-attention and dynamic time warping, as openai-whisper computes them.
    """

    name = "whisper"
    kind: ClassVar[str] = KIND
    scope: ClassVar[Scope] = "media"
    needs = Needs(audio=Audio(RATE))
    Options = Options
    checkpoints = CHECKPOINTS
    requires = ("whisper",)

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self._model: Any = None
        self._language: str | None = None
        self._half = False

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        """Loads the model; on CUDA in half precision where the run is in fp16 or bf16, which openai-whisper computes alike.

        Raises:
            CheckpointError: where the weights are absent, damaged or of another model.
            ConfigError: for a language that the model does not know.
            PluginError: where openai-whisper is not installed.
        """
        import torch

        path = self.weights()
        self._model = _read(path, device)
        self._language = _language(self.options.language, self._model.is_multilingual, path)
        self._half = device.type == "cuda" and dtype != torch.float32

    def provide(self, clips: Sequence[Clip]) -> Sequence[Evidence]:
        """The words of each piece of sound: ``text``, ``words`` with times of the medium, and in ``quality`` their number and mean probability."""
        return [self._transcribe(clip) for clip in clips]

    def write_random(self, tag: str, folder: Path, sources: Sequence[str] = ()) -> Path:
        """A file in openai-whisper's format with the vocabulary of the published model and few, narrow layers: it hears nonsense."""
        from dataclasses import asdict

        if find_spec("whisper") is None:
            raise CheckpointError(f"{self.id} needs the package whisper, which is not installed: pip install 'affectkit[whisper]'")
        from whisper.model import ModelDimensions
        from whisper.model import Whisper as Network

        mels, vocabulary = (128, 51866) if tag.startswith("large-v3") else (80, 51864 if tag.endswith(".en") else 51865)
        # The encoder always looks at 30 s (1500 steps). Half of the decoder's context bounds the words that it makes up of them.
        dims = ModelDimensions(mels, 1500, 16, 2, 1, vocabulary, 32, 16, 2, 2)
        state = {key: value.half() for key, value in weight_files.random_network(lambda: _stirred(Network(dims))).state_dict().items()}
        path = folder / (f"{tag}.pt" if tag in CHECKPOINTS else "random.pt")
        weight_files.save_torch(path, {"dims": asdict(dims), "licence": weight_files.RANDOM, "model_state_dict": state})
        return path

    def _transcribe(self, clip: Clip) -> Evidence:
        if self._model is None:
            raise PluginError(f"{self.id} is asked for words before its weights are loaded")
        if clip.audio is None or len(clip.audio) < SHORTEST * RATE:
            return Evidence.none(KIND, "no sound")
        if loudness(clip.audio) < SILENCE:
            return Evidence.none(KIND, "silence")
        from whisper import transcribe

        result = transcribe(
            self._model,
            np.array(clip.audio, dtype=np.float32),  # a copy: torch wants an array that may be written
            language=self._language,
            temperature=0.0,  # one deterministic attempt; higher temperatures draw at random
            beam_size=self.options.beam or None,
            condition_on_previous_text=False,
            no_speech_threshold=self.options.no_speech,
            word_timestamps=True,
            fp16=self._half,
            verbose=None,
        )
        last = (len(clip.audio) - TAIL * RATE) / HOP
        segments = [segment for segment in result["segments"] if segment["seek"] == 0 or segment["seek"] <= last]
        said = [word for segment in segments for word in segment["words"] if word["word"].strip()]
        said = [said[index] for index in without_loops([word["word"] for word in said])]
        if not said:
            return Evidence.none(KIND, "no speech")
        low = max(clip.span.start, clip.audio_start)
        high = min(clip.span.end, clip.audio_start + len(clip.audio) / RATE)
        words = tuple(_word(item, clip.audio_start, low, high) for item in said)
        text = "".join(item["word"] for item in said).strip()  # languages without spaces get none
        quality = {"words": float(len(words)), "confidence": float(np.mean([item["probability"] for item in said]))}
        return Evidence(KIND, {"text": text, "words": words, "language": result["language"]}, quality=quality)


def loudness(audio: np.ndarray) -> float:
    """Greatest root mean square over a tenth of a second.

    Args:
        audio: (N,) float32 mono samples in [-1, 1] at 16000 per second.

    >>> loudness(np.concatenate([np.zeros(16000), np.full(1600, 0.5)]).astype(np.float32))
    0.5
    """
    whole = len(audio) // FRAME * FRAME
    if whole == 0:
        return float(np.sqrt(np.mean(np.square(audio, dtype=np.float64)))) if len(audio) else 0.0
    frames = np.square(audio[:whole], dtype=np.float64).reshape(-1, FRAME)
    return float(np.sqrt(frames.mean(axis=1).max()))


def without_loops(words: Sequence[str], most: int = MOST_REPEATS) -> list[int]:
    """Positions of the words that stay when loops are cut: a phrase repeated more than ``most`` times in a row is kept once.

    Args:
        words: the words; case and punctuation around them do not count.
        most: repetitions that still are speech.

    >>> words = "oh no, no, no! thank you. thank you. thank you. thank you. bye".split()
    >>> " ".join(words[i] for i in without_loops(words))
    'oh no, no, no! thank you. bye'
    """
    plain = ["".join(c for c in word.casefold() if c.isalnum()) or word.strip() for word in words]
    kept: list[int] = []
    start = 0
    while start < len(plain):
        for size in range(1, min(LONGEST_PHRASE, (len(plain) - start) // 2) + 1):
            phrase = plain[start : start + size]
            end = start + size
            while plain[end : end + size] == phrase:
                end += size
            if end - start > most * size:
                kept.extend(range(start, start + size))
                start = end
                break
        else:
            kept.append(start)
            start += 1
    return kept


def _word(item: dict[str, Any], offset: float, low: float, high: float) -> Word:
    """A word of a piece, with times of the medium that lie within the piece."""
    start = min(max(offset + float(item["start"]), low), high)
    return Word(item["word"].strip(), start, min(max(offset + float(item["end"]), start), high))


def _read(path: Path, device: torch.device) -> Any:
    """The model of a checkpoint in openai-whisper's format; nothing but tensors and numbers is unpickled."""
    import pickle

    try:
        import whisper
    except ImportError:
        raise PluginError("openai-whisper is not installed; pip install 'affectkit[whisper]'") from None
    try:
        model = whisper.load_model(str(path.absolute()), device=device)
    except (pickle.UnpicklingError, EOFError, OSError, RuntimeError, KeyError, TypeError, AttributeError, ValueError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path} is damaged or not a checkpoint of openai-whisper, which holds dims and model_state_dict ({first[:160]}); fetch it again"
        ) from None
    tags = {checkpoint.sha256: tag for tag, checkpoint in CHECKPOINTS.items()}
    heads = getattr(whisper, "_ALIGNMENT_HEADS", {}).get(tags.get(checkpoints.sha256(path)))
    if heads is not None:  # which attention heads follow time; known for the published models, all of the later layers otherwise
        model.set_alignment_heads(heads)
    return model.eval()


def _stirred(network: torch.nn.Module) -> torch.nn.Module:
    """The same network with larger numbers in all of its parameters: some are made without any value at all."""
    for parameter in network.parameters():
        parameter.data.normal_(std=0.1)
    return network


def _language(wanted: str, multilingual: bool, path: Path) -> str | None:
    """The code of a language, ``None`` to find it out."""
    from whisper.tokenizer import LANGUAGES, TO_LANGUAGE_CODE

    if not wanted:
        return None
    code = TO_LANGUAGE_CODE.get(wanted.lower(), wanted.lower())
    if code not in LANGUAGES:
        raise ConfigError(f"Whisper does not know the language {wanted!r}. {did_you_mean(wanted.lower(), [*LANGUAGES, *TO_LANGUAGE_CODE])}")
    if not multilingual and code != "en":
        raise ConfigError(f"{path.name} knows English only, the language asked for is {wanted!r}; choose a checkpoint without .en")
    return code
