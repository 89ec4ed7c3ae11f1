"""``ras/whisper``: the words of the system, by OpenAI Whisper.

Team RAS took NVIDIA's Parakeet TDT 0.6B (English), which needs the library NeMo. Here it is Whisper large-v3-turbo on English, of about the same
quality, with times of words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from affectkit.api import Clip, Evidence
from affectkit.builtin.whisper import Options as CoreOptions
from affectkit.builtin.whisper import Whisper as CoreWhisper
from affectkit_ras.transcripts import without_stutter


@dataclass(frozen=True)
class WhisperOptions(CoreOptions):
    """Options of :class:`Whisper`, those of ``core/whisper`` with other values.

    Attributes:
        checkpoint: one of the published models, or a file in the format of openai-whisper.
        language: code or name of the language; empty finds it out for each piece of sound. The text classifiers read English.
        no_speech: probability of no speech above which an uncertain piece has no words.
        beam: beams of the search; 0 decodes greedily.
    """

    checkpoint: str = "large-v3-turbo"
    language: str = "en"


class Whisper(CoreWhisper):
    """``core/whisper`` on English with the model large-v3-turbo, whose words are cleaned of loops within a word as well."""

    Options = WhisperOptions

    def provide(self, clips: Sequence[Clip]) -> Sequence[Evidence]:
        """The words of each piece of sound, as ``core/whisper`` gives them."""
        return [without_stutter(evidence) for evidence in super().provide(clips)]
