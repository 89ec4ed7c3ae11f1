"""FineCLIPER's network, reconstructed: CLIP with adapters in space, time and text, matched with what a class looks like and what it does not.

Its authors released no code and no weights (arXiv 2407.02157). From the paper's abstract: labels become positive and negative texts, frames are joined
by face parsing and landmarks, and CLIP is tuned by few parameters. The adapters are those of AIM (Yang et al., ICLR 2023), from which the family comes.
How the parts fit together is our own reconstruction, and where it stands in a formula it says so.

B clips, T frames, C classes, M streams, K tokens, W width of a tower, D size of a point.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from open_clip import CLIP
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from affectkit.api import UsageError
from affectkit_finecliper.shape import STREAMS, Shape

LARGEST_SCALE = 100.0  # as CLIP was trained


class Adapter(nn.Module):
    """Two layers through a narrow middle; the second begins at zero, so that an adapter that has learned nothing says nothing (AIM, section 3.2).

    Args:
        width: of what it adapts.
        ratio: of the middle to that.
    """

    def __init__(self, width: int, ratio: float) -> None:
        super().__init__()
        middle = max(round(width * ratio), 1)
        self.D_fc1 = nn.Linear(width, middle)
        self.D_fc2 = nn.Linear(middle, width)
        nn.init.zeros_(self.D_fc2.weight)
        nn.init.zeros_(self.D_fc2.bias)

    def forward(self, x: Tensor) -> Tensor:
        """What is to be added to ``x`` (..., W)."""
        found: Tensor = self.D_fc2(functional.gelu(self.D_fc1(x)))
        return found


class Mixer(nn.Module):
    """How much each stream of a clip counts: a softmax over those that are there. Reconstructed; the paper says that its weights adapt.

    Its last layer begins at zero, so that all streams that are there count the same at first.
    """

    def __init__(self, size: int, streams: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(size * streams, size)
        self.fc2 = nn.Linear(size, streams)
        nn.init.zeros_(self.fc2.weight)
        nn.init.zeros_(self.fc2.bias)

    def forward(self, points: Tensor, present: Tensor) -> Tensor:
        """Weights (B, M) that sum to 1 and are 0 where a stream is absent.

        Args:
            points: (B, M, D) of unit length; what stands where a stream is absent makes no difference.
            present: (B, M) bool, at least one per clip.
        """
        heard = points.masked_fill(~present[..., None], 0.0)
        scores = self.fc2(functional.gelu(self.fc1(heard.flatten(1))))
        return scores.float().masked_fill(~present, -math.inf).softmax(1)


class FineCliper(nn.Module):
    """Clips and texts as points of one space; how well they match.

    The CLIP stays as it is to the bit: nothing of it has a gradient, and nothing of it is in ``state_dict``, which holds what is tuned and no more. As long as
    nothing was tuned, every frame's token and every text's point are exactly CLIP's, and a clip is the mean of its frames.

    Args:
        clip: as open_clip makes it; it becomes part of this network.
        shape: of what is tuned.
        mean: of the channels of the pictures that CLIP learned from, in [0, 1].
        std: of the channels.

    Attributes:
        side: of the pictures that CLIP sees, in pixels; others are made so.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, clip: CLIP, shape: Shape, mean: Sequence[float] = OPENAI_DATASET_MEAN, std: Sequence[float] = OPENAI_DATASET_STD
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.clip = clip.requires_grad_(False)
        self.shape = shape
        self.recompute = False  # whether training keeps only the input of each layer, for a third of the memory and a third more time
        frozen = set(self.clip.state_dict())
        visual = clip.visual
        width = visual.conv1.out_channels
        size = visual.image_size
        self.side = int(size[0] if isinstance(size, tuple | list) else size)
        for block in visual.transformer.resblocks:
            for name in ("T_Adapter", "S_Adapter", "MLP_Adapter"):
                block.add_module(name, Adapter(width, shape.ratio))
        if shape.text_adapters:
            for block in clip.transformer.resblocks:
                for name in ("S_Adapter", "MLP_Adapter"):
                    block.add_module(name, Adapter(clip.transformer.width, shape.ratio))
        self.temporal_embedding = nn.Parameter(torch.zeros(1, shape.frames, width))
        self.scale = nn.Parameter(clip.logit_scale.detach().clone().flatten()[:1])
        self.mixer = Mixer(visual.output_dim, len(shape.streams)) if len(shape.streams) > 1 else None
        self._frozen = frozenset(f"clip.{name}" for name in frozen)
        self.register_state_dict_post_hook(_keep_tuned)
        self.register_load_state_dict_post_hook(_expect_tuned)

    def tuned(self) -> int:
        """Number of parameters that are tuned."""
        return sum(value.numel() for value in self.parameters() if value.requires_grad)

    def frozen(self) -> int:
        """Number of parameters of the CLIP, which are not."""
        return sum(value.numel() for value in self.parameters() if not value.requires_grad)

    def forward(self, streams: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """Points of clips.

        Args:
            streams: (B, T, 3, S, S) float32 RGB in [0, 1], by the names of ``shape.streams``; one that is left out is absent everywhere.
            present: (B, M) bool, in the order of ``shape.streams``; the frames are always there.

        Returns:
            (B, D) float32 of unit length.
        """
        frames = self.video(streams[STREAMS[0]])
        if self.mixer is None:
            return frames
        points = frames.new_zeros(len(frames), len(self.shape.streams), frames.shape[1])
        points[:, 0] = frames
        present = present.clone()
        for place, name in enumerate(self.shape.streams[1:], 1):
            if name not in streams:
                present[:, place] = False
            elif rows := present[:, place].nonzero()[:, 0].tolist():  # those without it cost nothing
                points[rows, place] = self.video(streams[name][rows])
        weights = self.mixer(points, present)
        return unit((points * weights[..., None]).sum(1))

    def video(self, pictures: Tensor) -> Tensor:
        """One stream: (B, T, 3, S, S) float32 RGB in [0, 1] to (B, D) float32 of unit length.

        Raises:
            UsageError: for pictures of another shape.
        """
        shape = tuple(pictures.shape)
        if len(shape) != 5 or shape[1:3] != (self.shape.frames, 3) or shape[3] != shape[4]:
            raise UsageError(f"FineCLIPER reads clips of shape (B, {self.shape.frames}, 3, S, S), found {shape}")
        visual = self.clip.visual
        batch, frames = pictures.shape[:2]
        x = visual.conv1(self._shown(pictures.flatten(0, 1))).flatten(2).transpose(1, 2)
        x = torch.cat([visual.class_embedding.to(x.dtype).expand(len(x), 1, -1), x], 1) + visual.positional_embedding.to(x.dtype)
        x = x.unflatten(0, (batch, frames)) + self.temporal_embedding.to(x.dtype)[:, :, None]
        x = visual.ln_pre(x.flatten(0, 1))
        for block in visual.transformer.resblocks:
            x = self._layer(_visual_layer, block, x, frames)
        x = visual.ln_post(x[:, 0]).unflatten(0, (batch, frames)).mean(1)
        return unit(x @ visual.proj)

    def texts(self, tokens: Tensor) -> Tensor:
        """Texts (N, K) int64 as CLIP's tokens, zeros behind the last, to (N, D) float32 of unit length.

        What stands behind the end of a text is never read, because a token looks back only; so the longest text decides how far is looked.
        """
        clip = self.clip
        longest = int(tokens.argmax(1).max()) + 1  # the token that ends a text has the highest number
        tokens, mask = tokens[:, :longest], clip.attn_mask[:longest, :longest]
        x = clip.token_embedding(tokens) + clip.positional_embedding[:longest]
        for block in clip.transformer.resblocks:
            x = self._layer(_text_layer, block, x, mask)
        x = clip.ln_final(x)[torch.arange(len(x), device=x.device), tokens.argmax(1)]
        return unit(x @ clip.text_projection)

    def factor(self) -> Tensor:
        """What cosines are multiplied with, (1,) float32."""
        return self.scale.float().exp().clamp(max=LARGEST_SCALE)

    def matched(self, points: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """How well clips match what a class is, and what it is not.

        Args:
            points: (B, D) of unit length.
            positive: (C, D) of unit length.
            negative: (C, D) of unit length.

        Returns:
            Scaled cosines (B, C) float32 with each.
        """
        scale = self.factor()
        return scale * cosines(points, positive), scale * cosines(points, negative)

    def logits(self, points: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """Logits (B, C): the match with the positive text less that with the negative one. Reconstructed."""
        fits, misses = self.matched(points, positive, negative)
        return fits - self.shape.negative * misses

    def _shown(self, pictures: Tensor) -> Tensor:
        """Pictures (N, 3, S, S) in [0, 1] as CLIP sees them: bicubic to its size where they have another, its mean and deviation."""
        if pictures.shape[-1] != self.side:
            pictures = functional.interpolate(pictures, (self.side, self.side), mode="bicubic", antialias=True).clamp(0, 1)
        return (pictures - self.mean) / self.std

    def _layer(self, layer: Any, block: nn.Module, x: Tensor, given: Any) -> Tensor:
        if self.recompute and self.training and torch.is_grad_enabled():
            again: Tensor = checkpoint(layer, block, x, given, use_reentrant=False)
            return again
        found: Tensor = layer(block, x, given)
        return found


def _visual_layer(block: Any, x: Tensor, frames: int) -> Tensor:
    """A layer of the visual tower on (B*T, K, W): over time, in space, through the MLP (AIM, equations 3 to 5)."""
    along = x.unflatten(0, (-1, frames)).transpose(1, 2).flatten(0, 1)  # (B*K, T, W)
    moved = block.T_Adapter(block.attention(block.ln_1(along)))
    x = x + moved.unflatten(0, (-1, x.shape[1])).transpose(1, 2).flatten(0, 1)
    seen = block.attention(block.ln_1(x))
    x = x + seen + block.S_Adapter(seen)
    inner = block.ln_2(x)
    return x + block.mlp(inner) + 0.5 * block.MLP_Adapter(inner)


def _text_layer(block: Any, x: Tensor, mask: Tensor) -> Tensor:
    """A layer of the text tower on (N, K, W), with adapters where it has them. Reconstructed."""
    read = block.attention(block.ln_1(x), attn_mask=mask)
    adapted = hasattr(block, "S_Adapter")
    x = x + (read + block.S_Adapter(read) if adapted else read)
    inner = block.ln_2(x)
    x = x + block.mlp(inner)
    return x + 0.5 * block.MLP_Adapter(inner) if adapted else x


def stirred(network: FineCliper) -> FineCliper:
    """The same network with small random numbers in place of the zeros that what is tuned begins with, so that every part of it says something."""
    with torch.no_grad():
        for value in network.parameters():
            if value.requires_grad and not value.any():
                nn.init.normal_(value, std=0.02)
    return network


def unit(points: Tensor) -> Tensor:
    """Points (..., D) at a distance of 1 from the origin, float32."""
    return functional.normalize(points.float(), dim=-1)


def cosines(points: Tensor, texts: Tensor) -> Tensor:
    """Products (N, M) of points (N, D) and (M, D) of unit length, in single precision also where a product of matrices would be made in half of it.

    Half precision has three digits, and cosines that differ in the third are told apart by a scale of 100.
    """
    return (points[:, None] * texts).sum(-1)


def _keep_tuned(network: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    """The state without the CLIP, which is on disk already and does not change."""
    for name in network._frozen:  # type: ignore[union-attr]
        state.pop(prefix + name, None)


def _expect_tuned(network: nn.Module, found: Any) -> None:
    """A state without the CLIP is whole."""
    found.missing_keys[:] = [name for name in found.missing_keys if name not in network._frozen]  # type: ignore[operator]
