"""``ras/label_match``: how well whole frames match the texts of the basic and the compound expressions, by CLIP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from affectkit.api import BASIC8, COMPOUND7, Checkpoint, CheckpointError, Clip, Frames, LabelSet, Modality, Needs, Output
from affectkit_ras.label_texts import Set, texts

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from affectkit_ras import clip_model

SIDE = 224  # pixels
DEFAULT = "default"
OPENAI = Checkpoint(
    uri="hf:timm/vit_base_patch32_clip_224.openai@ab5b8ef490e86faa07d3523926b842c765de1de5",
    licence="Apache-2.0",
    source="Radford et al. (ICML 2021), CLIP ViT-B/32, as open_clip stores it",
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
    size=605_000_000,
    files=("open_clip_config.json", "open_clip_model.safetensors"),
)


@dataclass(frozen=True)
class LabelMatchOptions:
    """Options of ras/label_match.

    Attributes:
        checkpoint: ``default``, OpenAI's ViT-B/32; a folder with ``open_clip_config.json`` and weights; or a file of the weights of ViT-B/32.
        prompts: ``"words"`` (``fearfully surprised``; the authors' choice), ``"people"`` (their sentence), ``"faces"`` (descriptions of faces); or
            texts of your own by label, one or several, whose embeddings are averaged. Labels that are not named keep their word.
        templates: sentences with ``{}`` where a text goes; several are averaged.
        scale: what cosines are multiplied with before the softmax: ``"clip"``, what CLIP has learned (about 100), or ``"published"``, 1 as in the
            authors' code, which makes every row almost uniform.
    """

    checkpoint: str = DEFAULT
    prompts: Set | Mapping[str, str | tuple[str, ...]] = "words"
    templates: tuple[str, ...] = field(default=("{}",))
    scale: Literal["clip", "published"] = "clip"

    def __post_init__(self) -> None:
        texts(self.prompts, self.templates)


class LabelMatch(Modality):
    """How well whole frames match texts (modality C of Team RAS, 9th ABAW): 15 texts at once, eight basic and seven compound expressions.

    The softmax over the scaled cosines of a frame with all 15 texts, averaged over the frames of a window; its first eight and its last seven are
    each made to sum to 1, as published. **It is a similarity, not validated recognition.** It says the compound expressions itself, so a head
    such as ``core/direct`` can take them. CLIP sees the square in the middle of a frame; the authors looked at each frame, here it is five per second.

    Embedding ``image``: the mean of the frames' points, which feature-level fusion reads (512). Quality: ``cosine``, the mean over the frames of
    the largest cosine, in [-1, 1], and ``frames``, their number.
    """

    name = "label_match"
    labels: LabelSet | tuple[LabelSet, ...] = (BASIC8, COMPOUND7)
    needs = Needs(frames=Frames(fps=5.0, size=SIDE))
    unit = "window"
    Options = LabelMatchOptions
    checkpoints: ClassVar[Mapping[str, Checkpoint]] = {DEFAULT: OPENAI}
    requires = ("open_clip",)

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self._clip: clip_model.Clip | None = None
        self._points: torch.Tensor | None = None

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        from affectkit_ras.clip_model import Clip

        self._clip = Clip(self.weights(), self.id, device, openai=self.options.checkpoint == DEFAULT)
        self._points = text_points(self._clip, texts(self.options.prompts, self.options.templates))

    def write_random(self, tag: str, folder: Path, sources: Sequence[str] = ()) -> Path:
        """A small CLIP with both its towers; its tokens are the real ones, which open_clip brings."""
        from affectkit_ras.clip_model import write_tiny

        return write_tiny(folder)

    def preprocess(self, clip: Clip) -> Mapping[str, torch.Tensor] | None:
        import torch

        if clip.frames is None or not len(clip.frames):
            return None
        return {"frames": torch.from_numpy(middle(np.asarray(clip.frames)))}

    def predict(self, batch: Mapping[str, torch.Tensor]) -> Output:
        from affectkit_ras.means import per_clip

        if self._clip is None or self._points is None:
            raise CheckpointError(f"{self.id} has no weights; load it first")
        mask = batch["frames_mask"]
        pictures = self._clip.pictures(batch["frames"][mask])
        cosines = pictures @ self._points.T
        values = shares(per_clip(matched(cosines, self._clip.scale if self.options.scale == "clip" else 1.0), mask))
        return Output(
            values={labels: found.float() for labels, found in values.items()},
            embeddings={"image": per_clip(pictures.double(), mask).float()},
            quality={"cosine": per_clip(cosines.amax(1, keepdim=True).double(), mask)[:, 0].float(), "frames": mask.sum(1).float()},
        )


def text_points(clip: clip_model.Clip, groups: Sequence[Sequence[str]]) -> torch.Tensor:
    """One point of unit length per label (15, D) float32: the mean of its texts' points, as in section 3.1.4 of CLIP."""
    import torch

    from affectkit_ras.clip_model import unit

    with torch.inference_mode():
        return unit(torch.stack([clip.texts(group).mean(0) for group in groups]))


def matched(cosines: torch.Tensor, scale: float) -> torch.Tensor:
    """What each text has of a frame: the softmax of scaled cosines.

    Args:
        cosines: (N, 15) in [-1, 1].
        scale: what they are multiplied with.

    Returns:
        (N, 15) float64 in [0, 1], rows sum to 1. Single precision would lose what is left of seven texts that fit much worse than the other eight.
    """
    return (cosines.double() * scale).softmax(1)


def shares(rows: torch.Tensor) -> dict[LabelSet, torch.Tensor]:
    """Rows (B, 15) as the basic (B, 8) and the compound expressions (B, 7), each of which sums to 1."""
    basic, compound = rows[:, : len(BASIC8)], rows[:, len(BASIC8) :]
    return {BASIC8: basic / basic.sum(1, keepdim=True), COMPOUND7: compound / compound.sum(1, keepdim=True)}


def middle(frames: np.ndarray) -> np.ndarray:
    """The square in the middle of frames (T, H, W, 3), contiguous.

    >>> middle(np.arange(8).reshape(1, 2, 4, 1)).ravel()
    array([1, 2, 5, 6])
    """
    height, width = frames.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return np.ascontiguousarray(frames[:, top : top + side, left : left + side])
