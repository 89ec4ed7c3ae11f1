"""The classifiers of ras/face_dynamic over embeddings of face crops in their order: VideoMamba and VideoFormer.

Both are those of Team RAS (9th ABAW, arXiv 2507.02205; SMIL-SPCRAS/ICCVW_25, src/video/models/models.py), with the names of their parameters.
B windows, T crops, D size of their embeddings, H hidden width, S state of a channel, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from affectkit.api import CheckpointError
from affectkit_ras.means import over_time

LONGEST = 5000  # rows of the published table of positions


class VideoMamba(nn.Module):
    """A stem, blocks of a selective state space with a residual around each, the mean over time, and a classifier.

    Args:
        inputs: D.
        hidden: H.
        states: S.
        kernel: width of the causal convolution of a block.
        layers: blocks.
        features: width of the hidden layer of the classifier.
        classes: C.
        dropout: share of the numbers that are left out in training.
    """

    def __init__(
        self,
        inputs: int = 512,
        hidden: int = 128,
        states: int = 8,
        kernel: int = 3,
        layers: int = 2,
        features: int = 128,
        classes: int = 8,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.image_proj = _stem(inputs, hidden, dropout)
        self.mamba = nn.ModuleList(MambaBlock(hidden, states, kernel, dropout) for _ in range(layers))
        self.classifier = _classifier(hidden, features, classes, dropout)
        self.apply(_begin)

    def forward(self, frames: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Classify sequences.

        Args:
            frames: (B, T, D) float embeddings of crops, as the image tower gives them.
            mask: (B, T) bool, true where there is a crop, what is padded last; ``None`` takes every place as a crop, as published.

        Returns:
            Logits (B, C), and the mean over time (B, H).
        """
        x = self.image_proj(frames)
        for block in self.mamba:
            x = x + block(x)  # causal: what is padded at the end reaches nothing before it
        pooled = over_time(x, mask)
        return self.classifier(pooled), pooled


class MambaBlock(nn.Module):
    """A selective state space (Gu and Dao, arXiv 2312.00752) as Team RAS has it.

    With a step dt of its input, a channel of the state is ``h_t = exp(-A) dt_t h_(t-1) + B_t dt_t a_t``. The textbook's factor is ``exp(-A dt_t)``;
    this one can be greater than 1, and is kept because published weights were learned with it.

    Args:
        hidden: H.
        states: S.
        kernel: width of the causal convolution.
        dropout: share of the numbers that are left out in training.
    """

    def __init__(self, hidden: int, states: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.in_proj = nn.Linear(hidden, 2 * hidden, bias=False)
        self.out_proj = nn.Linear(hidden, hidden, bias=False)
        self.s_B = nn.Linear(hidden, states, bias=False)
        self.s_C = nn.Linear(hidden, states, bias=False)
        narrow = max(hidden // 16, 1)
        self.s_D = nn.Sequential(nn.Linear(hidden, narrow, bias=False), nn.Linear(narrow, hidden, bias=False))
        self.conv = nn.Conv1d(hidden, hidden, kernel, padding=kernel - 1, groups=hidden)
        self.A = nn.Parameter(torch.arange(1, states + 1, dtype=torch.float32).repeat(hidden, 1))
        self.D = nn.Parameter(torch.ones(hidden))
        self.add_norm = AddNorm(hidden, dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, H) of (B, T, H), before its residual."""
        a, gate = self.in_proj(x).chunk(2, dim=-1)
        a = functional.silu(self.conv(a.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2))
        y = self.add_norm(self.D * a, self.remember(a))
        found: Tensor = self.out_proj(y * functional.silu(gate))
        return found

    def remember(self, a: Tensor) -> Tensor:
        """What the states say of (B, T, H), in single precision whatever the network runs in: products over time do not bear less."""
        with torch.autocast(a.device.type, enabled=False):
            a = a.float()
            step = functional.softplus(self.D + self.s_D(a))
            kept = torch.exp(-self.A) * step[..., None]
            added = step[..., None] * self.s_B(a)[..., None, :] * a[..., None]
            return torch.einsum("bths,bts->bth", scan(kept, added), self.s_C(a))


class VideoFormer(nn.Module):
    """The stem and classifier of :class:`VideoMamba` around transformer layers, again with a residual around each.

    Args:
        inputs: D.
        hidden: H.
        heads: of the attention.
        layers: transformer layers.
        features: width of the hidden layer of the classifier.
        classes: C.
        dropout: share of the numbers that are left out in training.
        positions: whether each layer adds sinusoidal positions; without them the order of the crops does not matter.
    """

    def __init__(
        self,
        inputs: int = 512,
        hidden: int = 512,
        heads: int = 4,
        layers: int = 1,
        features: int = 128,
        classes: int = 8,
        dropout: float = 0.15,
        positions: bool = False,
    ) -> None:
        super().__init__()
        self.image_proj = _stem(inputs, hidden, dropout)
        self.transformer = nn.ModuleList(FormerLayer(hidden, heads, dropout, positions) for _ in range(layers))
        self.classifier = _classifier(hidden, features, classes, dropout)
        self.apply(_begin)

    def forward(self, frames: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As :meth:`VideoMamba.forward`."""
        x = self.image_proj(frames)
        for layer in self.transformer:
            x = x + layer(x, mask)
        pooled = over_time(x, mask)
        return self.classifier(pooled), pooled


class FormerLayer(nn.Module):
    """Attention and two linear layers of width H, each added to its input and normalised.

    Args:
        hidden: H.
        heads: of the attention.
        dropout: share of the numbers that are left out in training.
        positions: whether positions are added to query, key and value, and so to the first residual.
    """

    def __init__(self, hidden: int, heads: int, dropout: float, positions: bool) -> None:
        super().__init__()
        self.self_attention = nn.MultiheadAttention(hidden, heads, dropout=dropout, batch_first=True)
        self.feed_forward = FeedForward(hidden, dropout)
        self.add_norm_after_attention = AddNorm(hidden, dropout)
        self.add_norm_after_ff = AddNorm(hidden, dropout)
        self.positional_encoding = Positions(hidden) if positions else None

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, T, H) of (B, T, H), before the outer residual; padded places are heard by none."""
        if self.positional_encoding is not None:
            x = self.positional_encoding(x)
        heard, _ = self.self_attention(x, x, x, key_padding_mask=None if mask is None else ~mask, need_weights=False)
        x = self.add_norm_after_attention(x, heard)
        found: Tensor = self.add_norm_after_ff(x, self.feed_forward(x))
        return found


class FeedForward(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, hidden: int, dropout: float) -> None:
        super().__init__()
        self.layer_1 = nn.Linear(hidden, hidden)
        self.layer_2 = nn.Linear(hidden, hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, H) to (B, T, H)."""
        found: Tensor = self.layer_2(self.dropout(functional.gelu(self.layer_1(x))))
        return found


class AddNorm(nn.Module):
    """``norm(x + dropout(y))``."""

    def __init__(self, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(B, T, H) and (B, T, H) to (B, T, H)."""
        found: Tensor = self.norm(x + self.dropout(y))
        return found


class Positions(nn.Module):
    """Adds a table of sines and cosines (Vaswani et al., arXiv 1706.03762, section 3.5)."""

    pe: Tensor

    def __init__(self, hidden: int) -> None:
        super().__init__()
        place = torch.arange(LONGEST, dtype=torch.float32)[:, None]
        wave = place * torch.exp(torch.arange(0, hidden, 2, dtype=torch.float32) * (-math.log(10000.0) / hidden))
        self.register_buffer("pe", torch.stack([wave.sin(), wave.cos()], dim=2).flatten(1)[:, :hidden].contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, H) to (B, T, H)."""
        return x + self.pe[: x.shape[1]]


def scan(kept: Tensor, added: Tensor) -> Tensor:
    """``h_t = kept_t h_(t-1) + added_t`` from ``h_0 = 0``, for all t in about log2(T) steps over whole tensors.

    Two neighbours (k1, a1) and (k2, a2) are as one (k2 k1, k2 a1 + a2), and joining is associative; after the step with distance d every place has joined the
    2 d places up to it (Hillis and Steele, Data parallel algorithms, 1986). Nothing is divided and no logarithm is taken, so a factor
    of zero, or sums that cancel, are no special case; a product that becomes very small says that the past is forgotten.

    Args:
        kept: (B, T, ...) float.
        added: (B, T, ...) float.

    Returns:
        (B, T, ...), the h.

    >>> scan(torch.tensor([[0.5, 0.5, 2.0]]), torch.tensor([[1.0, 1.0, 1.0]])).tolist()
    [[1.0, 1.5, 4.0]]
    """
    distance = 1
    while distance < added.shape[1]:
        later = kept[:, distance:]
        added = torch.cat([added[:, :distance], later * added[:, :-distance] + added[:, distance:]], dim=1)
        kept = torch.cat([kept[:, :distance], later * kept[:, :-distance]], dim=1)
        distance *= 2
    return added


def network_of(tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> VideoMamba | VideoFormer:
    """The network that tensors are of, still with its first parameters: sizes are read off their shapes.

    Args:
        tensors: the state of one of the two networks.
        settings: what shapes do not tell, ``"heads"`` of a transformer, 4 where it is absent.

    Raises:
        CheckpointError: where they are of neither.
    """
    try:
        hidden, inputs = tensors["image_proj.0.weight"].shape
        classes, features = tensors["classifier.4.weight"].shape
        sizes: dict[str, Any] = {"inputs": inputs, "hidden": hidden, "features": features, "classes": classes}
        if "mamba.0.A" in tensors:
            states, kernel = tensors["mamba.0.A"].shape[1], tensors["mamba.0.conv.weight"].shape[2]
            return VideoMamba(**sizes, states=states, kernel=kernel, layers=_layers(tensors, "mamba"))
        positions = "transformer.0.positional_encoding.pe" in tensors
        return VideoFormer(**sizes, heads=int(settings.get("heads", 4)), layers=_layers(tensors, "transformer"), positions=positions)
    except (KeyError, ValueError, IndexError, AssertionError) as error:  # torch asserts that heads fit a width
        raise CheckpointError(f"these are no weights of VideoMamba or VideoFormer ({error})") from None


def _layers(tensors: Mapping[str, Tensor], what: str) -> int:
    return 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith(f"{what}."))


def _stem(inputs: int, hidden: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.LayerNorm(hidden), nn.Dropout(dropout))


def _classifier(hidden: int, features: int, classes: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(hidden, features), nn.LayerNorm(features), nn.GELU(), nn.Dropout(dropout), nn.Linear(features, classes))


def _begin(module: nn.Module) -> None:
    """The published start of linear layers."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
