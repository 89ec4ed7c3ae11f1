"""Words from subtitles: a file beside the medium, or a text stream inside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from affectkit.api import Clip, ConfigError, Evidence, Media, Provider, Word
from affectkit.components import Scope

if TYPE_CHECKING:
    import torch

SUFFIXES = (".srt", ".vtt")
STARTS_ANYWHERE = frozenset({".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".vob"})  # recordings; subtitle files count from their start
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]+)*")


class Subtitles(Provider):
    """Subtitle cues with their times, as the words of a transcript.

    Looked for in this order: the file that the option names; ``talk.srt`` and ``talk.vtt`` beside ``talk.mp4`` (or beside the
    folder of frames ``talk``); ``talk.en.srt`` and the like; the first text stream inside the file. With the option
    ``language``, files and streams of that language come first.
    """

    name: ClassVar[str] = "subtitles"
    kind: ClassVar[str] = "transcript"
    scope: ClassVar[Scope] = "media"

    @dataclass(frozen=True)
    class Options:
        """Options of core/subtitles.

        Attributes:
            path: the subtitle file, for every medium of the run; empty looks beside and inside each medium.
            language: the language to prefer where there are several, as the files name it: ``"en"`` takes ``talk.en.srt``
                and a stream tagged ``eng``.
        """

        path: str = ""
        language: str = ""

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        """Checks that the file named by the option ``path`` is there.

        Raises:
            ConfigError: where it is not.
        """
        if self.options.path and not Path(self.options.path).is_file():
            raise ConfigError(f"{self.id}: there is no subtitle file {self.options.path}; correct the option path, or leave it out")

    def provide(self, clips: Sequence[Clip]) -> Sequence[Evidence]:
        """The cues of each clip's whole medium.

        Raises:
            MediaError: where the subtitles are there and damaged.
        """
        return [self._of(clip.media) for clip in clips]

    def files(self, media: Media) -> Sequence[Path]:
        """The file that the option names, or those beside the medium."""
        return [Path(self.options.path)] if self.options.path else list(_beside(media.path))

    def _of(self, media: Media) -> Evidence:
        from affectkit.cues import read_cues, text_streams

        if self.options.path:
            return _evidence(read_cues(Path(self.options.path)), self.options.path, _origin(media))
        texts: dict[int, str] = {}
        pictures: tuple[str, ...] = ()
        if media.kind in ("video", "audio"):
            found, pictures = text_streams(media.path)
            texts = dict(found)
        beside = _beside(media.path)
        wanted = self.options.language
        choices: list[tuple[Path, int | None, str]] = [(path, None, language) for path, language in beside.items()]
        choices += [(media.path, index, language) for index, language in texts.items()]
        if wanted:
            choices.sort(key=lambda choice: not _same_language(choice[2], wanted))  # stable: the order stays otherwise
        if not choices:
            inside = f"those inside are pictures ({', '.join(pictures)})" if pictures else "none embedded"
            return Evidence.none(self.kind, f"no subtitles beside the file and {inside}")
        path, stream, _ = choices[0]
        return _evidence(read_cues(path, stream), path.name, _origin(media) if stream is None else 0.0)


def _evidence(cues: Sequence[Word], name: str, origin: float) -> Evidence:
    if not cues:
        return Evidence.none("transcript", f"the subtitles of {name} are empty")
    words = tuple(Word(cue.text, cue.start + origin, cue.end + origin) for cue in cues)
    return Evidence("transcript", {"text": " ".join(word.text for word in words), "words": words})


def _origin(media: Media) -> float:
    """Time of the medium that stands for 0 in a subtitle file, in seconds."""
    return media.start if media.path.suffix.lower() in STARTS_ANYWHERE else 0.0


def _beside(path: Path) -> dict[Path, str]:
    """Subtitle files beside a medium with their languages, those without a language first."""
    path = path.resolve()
    stem = path.name if path.is_dir() else path.stem
    plain = {path.with_name(stem + suffix): "" for suffix in SUFFIXES if path.with_name(stem + suffix).is_file()}
    tagged = {}
    for file in sorted(path.parent.iterdir()):
        language = file.stem.removeprefix(stem + ".")
        if file.suffix.lower() in SUFFIXES and language != file.stem and _LANGUAGE.fullmatch(language) and file.is_file():
            tagged[file] = language
    return plain | tagged


def _same_language(tag: str, wanted: str) -> bool:
    """Whether two language tags mean the same: ``en`` and ``eng``, ``en-GB`` and ``en``."""
    tag, wanted = (re.split("[-_]", text.lower())[0] for text in (tag, wanted))
    return bool(tag) and (tag.startswith(wanted) or wanted.startswith(tag))
