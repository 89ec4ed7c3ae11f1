"""``ras/describe``: what a vision-language model says of a window.

The two prompts in ``prompts/`` are those of Team RAS: LLMs/README.md of https://github.com/SMIL-SPCRAS/ICCVW_25 (MIT, Copyright (c) 2025 SMIL), word for
word. With which settings the authors had the model answer is not published; here it answers greedily, so that the same window gives the same text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar

from affectkit import checkpoints
from affectkit.api import Checkpoint, CheckpointError, Clip, ConfigError, Evidence, Frames, Needs, Provider
from affectkit.caches import cache_folder
from affectkit.components import Scope
from affectkit.errors import did_you_mean
from affectkit.files import replacing

if TYPE_CHECKING:
    import torch

    from affectkit_ras.vision_language import VisionLanguage

KIND = "description"
PROMPTS = Path(__file__).parent / "prompts"
FORMAT = 1  # of what is kept on disk

FILES = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "chat_template.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "model.safetensors.index.json",
    "*.safetensors",
)


def _published(size: str, revision: str, licence: str, count: int, commercial: bool) -> Checkpoint:
    return Checkpoint(
        uri=f"hf:Qwen/Qwen2.5-VL-{size}-Instruct@{revision}",
        licence=licence,
        source="Bai et al. (2025), Qwen2.5-VL Technical Report, arXiv 2502.13923",
        size=count,
        commercial=commercial,
        files=FILES,
    )


CHECKPOINTS = {
    "3b": _published("3B", "66285546d2b821cf421d4f5eb2576359d3770cd3", "Qwen Research License", 7_520_000_000, False),
    "7b": _published("7B", "cc594898137f460bfe9f0759e9844b3ce807cfb5", "Apache-2.0", 16_600_000_000, True),
    "32b": _published("32B", "7cfb30d71a1f4f49a57592323337a4a4727301da", "Apache-2.0", 68_300_000_000, True),
}


@lru_cache(maxsize=1)
def published_prompts() -> dict[str, str]:
    """The prompts of Team RAS by their number: ``"1"`` asks for an interpretation, ``"2"`` for one that names an emotion as well."""
    return {
        path.stem.removeprefix("describe_"): path.read_text(encoding="utf-8").strip() for path in sorted(PROMPTS.glob("describe_*.txt"))
    }


@dataclass(frozen=True)
class DescribeOptions:
    """Options of ras/describe.

    Attributes:
        checkpoint: ``3b``, ``7b`` or ``32b``, which the authors' scene classifier read, or the folder of another Qwen2.5-VL.
        prompt: ``1`` or ``2``, the published ones, or a question of your own (in English, of several words).
        frames: pictures of a window that it sees.
        size: shorter side of a picture in pixels.
        max_new_tokens: tokens of a description at most.
        cache: keep descriptions in the cache folder, by model, prompt, medium and window.
    """

    checkpoint: str = "32b"
    prompt: str = "1"
    frames: int = 8
    size: int = 448
    max_new_tokens: int = 256
    cache: bool = True

    def __post_init__(self) -> None:
        for name, least in (("frames", 1), ("size", 28), ("max_new_tokens", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, found {getattr(self, name)}")
        if " " not in self.prompt.strip() and self.prompt not in published_prompts():
            raise ConfigError(
                f"there is no prompt {self.prompt!r}, and one of your own has several words. {did_you_mean(self.prompt, published_prompts())}"
            )


class Describe(Provider):
    """Qwen2.5-VL describes each window, asked with one of the two prompts of Team RAS.

    Windows are described in batches (``components.ras/describe.batch_size`` of them, 4 where the recipe does not say). On a GPU the model is in the
    precision in which it is published, bf16. A description is kept on disk, and another run over the same medium reads it; the model is
    loaded for the first window that has none.
    """

    name = "describe"
    kind: ClassVar[str] = KIND
    scope: ClassVar[Scope] = "window"
    needs = Needs(frames=Frames(count=8, size=448))
    Options = DescribeOptions
    checkpoints: ClassVar = CHECKPOINTS
    requires = ("transformers",)

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self.needs = Needs(frames=Frames(count=self.options.frames, size=self.options.size))
        self._model: VisionLanguage | None = None
        self._folder: Path | None = None
        self._loading = Lock()
        self._media: dict[Path, str | None] = {}
        self._prompt = published_prompts().get(self.options.prompt, self.options.prompt)

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        """Checks the model, but does not load it yet: where every window has a description, 68 GB would be loaded for nothing.

        Raises:
            CheckpointError: where it is absent, damaged or of another kind.
            ConfigError: where descriptions are to be kept and the cache folder cannot be written.
        """
        import torch

        from affectkit_ras.vision_language import checked

        folder = self.weights()
        self._processor = checked(folder, self.id)
        self._model, self._device = None, device
        self._dtype = torch.bfloat16 if device.type == "cuda" and dtype == torch.float32 else dtype
        self._digest = checkpoints.sha256(folder)
        if self.options.cache:
            try:
                kept_in().mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigError(
                    f"{self.id} cannot keep descriptions in {kept_in()}: {error.strerror}; set AFFECTKIT_CACHE to another folder, "
                    f"or components.{self.id}.cache=false"
                ) from None
        self._folder = folder

    def provide(self, clips: Sequence[Clip]) -> Sequence[Evidence]:
        """One description per window: ``text``, and in ``quality`` its number of words."""
        from affectkit_ras.vision_language import VisionLanguage

        if self._folder is None:
            raise CheckpointError(f"{self.id} is asked for descriptions before its weights are loaded")
        seen = [number for number, clip in enumerate(clips) if clip.frames is not None and len(clip.frames)]
        places = {number: self._place(clips[number]) for number in seen}
        texts = {number: text for number, place in places.items() if place is not None and (text := read(place)) is not None}
        new = [number for number in seen if number not in texts]
        if new:
            with self._loading:  # media are read in several threads
                model = self._model = self._model or VisionLanguage(self._folder, self.id, self._processor, self._device, self._dtype)
            for number, text in zip(new, self._ask(model, [clips[number] for number in new]), strict=True):
                texts[number] = text
                if (place := places[number]) is not None:
                    self._keep(place, clips[number], text)
        return [_evidence(texts.get(number)) for number in range(len(clips))]

    def write_random(self, tag: str, folder: Path, sources: Sequence[str] = ()) -> Path:
        """A Qwen2.5-VL of few, narrow layers with a tokenizer of single bytes: it says nonsense."""
        from affectkit_ras.tiny_vision import write_qwen

        return write_qwen(folder / tag)

    def _ask(self, model: VisionLanguage, clips: Sequence[Clip]) -> list[str]:
        """Descriptions, by halves where the memory of the device is too small for all at once."""
        import torch

        from affectkit_ras.vision_language import Shown

        try:
            shown = [Shown(clip.frames, rate(clip)) for clip in clips if clip.frames is not None]
            return model.ask(shown, self._prompt, self.options.max_new_tokens)
        except torch.OutOfMemoryError:
            if len(clips) == 1:
                raise
        torch.cuda.empty_cache()  # outside of the handler, whose traceback holds the tensors of the batch
        half = (len(clips) + 1) // 2
        return self._ask(model, clips[:half]) + self._ask(model, clips[half:])

    def _place(self, clip: Clip) -> Path | None:
        """Where the description of a window is kept: by all that it depends on. ``None`` where none is, or the medium cannot be read any more."""
        medium = self._content(clip.media.path) if self.options.cache else None
        if medium is None:
            return None
        shape = () if clip.frames is None else clip.frames.shape
        times = [] if clip.frame_times is None else [round(float(time), 6) for time in clip.frame_times]
        known = {
            "format": FORMAT,
            "model": self._digest,
            "precision": str(self._dtype),
            "prompt": self._prompt,
            "max_new_tokens": self.options.max_new_tokens,
            "medium": medium,
            "stream": clip.media.video,
            "window": [clip.span.start, clip.span.end],
            "frames": times,
            "shape": list(shape),
        }
        digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()
        return kept_in() / digest[:2] / f"{digest}.json"

    def _content(self, path: Path) -> str | None:
        """The digest of a medium, computed once: a folder of frames has thousands of files."""
        if path not in self._media:
            self._media[path] = None
            with suppress(CheckpointError):
                self._media[path] = checkpoints.sha256(path)
        return self._media[path]

    def _keep(self, place: Path, clip: Clip, text: str) -> None:
        about = {"text": text, "medium": clip.media.path.name, "window": [clip.span.start, clip.span.end], "prompt": self.options.prompt}
        place.parent.mkdir(parents=True, exist_ok=True)
        with replacing(place) as temporary:  # another process may write the same at the same time
            temporary.write_text(json.dumps(about, ensure_ascii=False), encoding="utf-8")


def kept_in() -> Path:
    """The folder of descriptions."""
    return cache_folder() / "descriptions"


def read(place: Path) -> str | None:
    """A description that was kept; ``None`` where there is none, or its file is damaged."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        text = json.loads(place.read_text(encoding="utf-8"))["text"]
        return text if isinstance(text, str) else None
    return None


def rate(clip: Clip) -> float:
    """Pictures per second of a clip; 1 of a single picture."""
    times = clip.frame_times
    if times is None or len(times) < 2 or times[-1] <= times[0]:
        return 1.0
    return float((len(times) - 1) / (times[-1] - times[0]))


def _evidence(text: str | None) -> Evidence:
    if text is None:
        return Evidence.none(KIND, "no picture")
    if not text:
        return Evidence.none(KIND, "the model said nothing")
    return Evidence(KIND, {"text": text}, quality={"words": float(len(text.split()))})
