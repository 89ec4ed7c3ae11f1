"""The network of S4D (UniLearn, arXiv 2409.06154): one ViT for pictures and clips of faces, with adapter experts in its upper half, and a head for each.

Names of layers and parameters are those of the authors' files, so that these load strictly. B is batch, T frames, N tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from affectkit.api import CheckpointError, UsageError
from affectkit_s4d.experts import ExpertLayer, Mlp, Routed

EPS = 1e-6  # of all layer norms
SPREAD = 0.02  # standard deviation of the first numbers of linear layers, at the published width
TUBELET = 2  # frames of a token
MEAN = (0.485, 0.456, 0.406)  # of ImageNet, for RGB in [0, 1]
STD = (0.229, 0.224, 0.225)
HEADS = ("image", "video")
AT_LEAST_ONE = ("side", "frames", "patch", "width", "depth", "heads", "hidden", *HEADS)


@dataclass(frozen=True)
class Sizes:
    """What the network is built of; the defaults are the published ViT-B.

    Attributes:
        side: of a frame in pixels.
        frames: of a clip.
        patch: side of a token in pixels.
        width: of a token.
        depth: blocks.
        heads: of attention.
        hidden: of the MLP of a block.
        first: first block with experts; the others above have them, too.
        experts: of such a block; 0 for none, as in the encoder of the pre-training.
        top_k: experts that a token goes to.
        adapter: hidden numbers of an expert.
        image: classes of the head for pictures.
        video: classes of the head for clips.
    """

    side: int = 160
    frames: int = 16
    patch: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    hidden: int = 3072
    first: int = 6
    experts: int = 8
    top_k: int = 2
    adapter: int = 192
    image: int = 7
    video: int = 7

    def __post_init__(self) -> None:
        if none := [f"{name} {getattr(self, name)}" for name in AT_LEAST_ONE if getattr(self, name) < 1]:
            raise UsageError(f"sizes must be at least 1, found {', '.join(none)}")
        for whole, part in (("side", "patch"), ("width", "heads")):
            if getattr(self, whole) % getattr(self, part):
                raise UsageError(f"{whole} {getattr(self, whole)} is not a multiple of {part} {getattr(self, part)}")
        if self.frames % TUBELET:
            raise UsageError(f"frames must be even, found {self.frames}")
        if self.experts and not 1 <= self.top_k <= self.experts:
            raise UsageError(f"top_k must be from 1 to the {self.experts} experts, found {self.top_k}")

    @property
    def places(self) -> int:
        """Tokens of two frames."""
        return (self.side // self.patch) ** 2

    @property
    def tokens(self) -> int:
        """Tokens of a clip."""
        return self.places * self.frames // TUBELET

    def to_mapping(self) -> dict[str, int]:
        """Plain data, as the header of a file holds it."""
        return asdict(self)

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], known: Mapping[str, int] | None = None) -> Sizes:
        """Sizes by the names and shapes of tensors; ``known`` says what shapes do not tell (side, frames, heads, top_k).

        Raises:
            CheckpointError: where they are not of this network.
        """
        fixed = {name: value for name, value in (known or {}).items() if name in ("side", "frames", "heads", "top_k")}
        return cls(**{**told_by(tensors), **fixed})


def told_by(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """The sizes that names and shapes of tensors tell: all of :class:`Sizes` but side, frames and top_k.

    Raises:
        CheckpointError: where they are not of this network.
    """
    try:
        patch = tensors["patch_embed.proj.weight"]
        hidden = tensors["blocks.0.mlp.fc1.weight"].shape[0]
        blocks = {int(name.split(".")[1]) for name in tensors if name.startswith("blocks.")}
        with_experts = sorted({int(name.split(".")[1]) for name in tensors if ".moe_layer." in name})
        found = {
            "patch": patch.shape[-1],
            "width": patch.shape[0],
            "depth": max(blocks) + 1,
            "heads": max(1, patch.shape[0] // 64),  # ViT-B: 768 of 64 each
            "hidden": hidden,
            "first": with_experts[0] if with_experts else max(blocks) + 1,
            "experts": 0,
        }
        if with_experts:
            layer = f"blocks.{with_experts[0]}.moe_layer"
            found["experts"] = tensors[f"{layer}.router.topkroute_linear.weight"].shape[0]
            found["adapter"] = tensors[f"{layer}.experts.0.fc1.weight"].shape[0]
        found |= {name: tensors[f"head.{name}.weight"].shape[0] for name in HEADS if f"head.{name}.weight" in tensors}
    except KeyError as error:
        raise CheckpointError(f"these are no weights of S4D: {error} is not among their {len(tensors)} names") from None
    except (ValueError, IndexError) as error:
        raise CheckpointError(f"these are no weights of S4D: their names or shapes are others ({error})") from None
    return found


class PatchEmbed(nn.Module):
    """Tokens of two frames by patch and patch; a picture is taken twice."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        kernel = (TUBELET, sizes.patch, sizes.patch)
        self.proj = nn.Conv3d(3, sizes.width, kernel_size=kernel, stride=kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Clips (B, 3, T, H, W) or pictures (B, 3, H, W) to tokens (B, N, D), by time, row and column."""
        if x.dim() == 4:
            x = x[:, :, None].expand(-1, -1, TUBELET, -1, -1)
        said: Tensor = self.proj(x)
        return said.flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention with biases of queries and values, and none of keys."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D)."""
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        found = functional.linear(x, self.qkv.weight, bias).unflatten(2, (3, self.heads, -1))
        query, key, value = found.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        said: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return said


class Block(nn.Module):
    """A block of the transformer; where it has experts, what they say is added to what the MLP says."""

    def __init__(self, width: int, heads: int, hidden: int, experts: ExpertLayer | None = None) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPS)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=EPS)
        self.moe_layer = experts
        self.mlp = Mlp(width, hidden)

    def forward(self, x: Tensor) -> tuple[Tensor, Routed | None]:
        """Tokens (B, N, D), and what the experts did."""
        x = x + self.attn(self.norm1(x))
        h = self.norm2(x)
        if self.moe_layer is None:
            return x + self.mlp(h), None
        routed: Routed = self.moe_layer(h)
        return x + self.mlp(h) + routed.values, routed


class Seen(NamedTuple):
    """What the network makes of clips or pictures.

    Attributes:
        logits: (B, C) of the head that they belong to.
        feature: (B, D), the normalised mean over the tokens.
        balance: mean of the load-balance losses of the blocks with experts, a number; 0 where there are none.
    """

    logits: Tensor
    feature: Tensor
    balance: Tensor


class S4D(nn.Module):
    """Static-to-dynamic expressions with dual-modal learning: clips go to the head ``video``, pictures to the head ``image``; all else is shared.

    In evaluation it is deterministic, and what it says of a clip does not depend on the others of a batch. ``released_behaviour`` brings back what the
    authors' code does: the router is noisy also in evaluation, and an expert serves at most ``capacity`` times its even share of the batch, the first tokens first.

    Args:
        sizes: what it is built of.
        released_behaviour: whether it does as the authors' code.
        capacity: of an expert as a multiple of its even share, with ``released_behaviour`` alone.
    """

    positions: Tensor

    def __init__(self, sizes: Sizes | None = None, *, released_behaviour: bool = False, capacity: float = 1.0) -> None:
        super().__init__()
        self.sizes = sizes = sizes or Sizes()
        limit = capacity if released_behaviour else None

        def experts(block: int) -> ExpertLayer | None:
            if block < sizes.first or not sizes.experts:
                return None
            return ExpertLayer(sizes.width, sizes.experts, sizes.top_k, sizes.adapter, limit, released_behaviour)

        self.patch_embed = PatchEmbed(sizes)
        self.blocks = nn.ModuleList(Block(sizes.width, sizes.heads, sizes.hidden, experts(block)) for block in range(sizes.depth))
        self.fc_norm = nn.LayerNorm(sizes.width, eps=EPS)
        self.head = nn.ModuleDict({name: nn.Linear(sizes.width, getattr(sizes, name)) for name in HEADS})
        self.register_buffer("positions", sincos(sizes.tokens, sizes.width), persistent=False)
        first_numbers(self, SPREAD * (Sizes.width / sizes.width) ** 0.5)

    def forward(self, x: Tensor) -> Seen:
        """Looks at clips (B, 3, T, H, W) or pictures (B, 3, H, W), float, normalised.

        Raises:
            UsageError: where they have another number of frames or another size.
        """
        check_shape(x, self.sizes)
        tokens = self.patch_embed(x)
        tokens = tokens + self.positions[: tokens.shape[1]]
        losses = []
        for block in self.blocks:
            tokens, routed = block(tokens)
            if routed is not None:
                losses.append(routed.balance)
        feature = self.fc_norm(tokens.mean(1))
        logits = self.head["video" if x.dim() == 5 else "image"](feature)
        return Seen(logits, feature, torch.stack(losses).mean() if losses else feature.new_zeros(()))


def check_shape(x: Tensor, sizes: Sizes) -> None:
    """Nothing, where clips or pictures are of a network of these sizes.

    Raises:
        UsageError: naming what was expected.
    """
    clip, picture = (3, sizes.frames, sizes.side, sizes.side), (3, sizes.side, sizes.side)
    if tuple(x.shape[1:]) not in (clip, picture):
        raise UsageError(
            f"this S4D reads clips (B, {', '.join(map(str, clip))}) or pictures (B, {', '.join(map(str, picture))}), found {tuple(x.shape)}; "
            "affectkit_s4d.views chooses the frames of a clip of any length"
        )


def standardised(pixels: Tensor) -> Tensor:
    """RGB (..., 3, H, W) float in [0, 1], less the mean and over the standard deviation of ImageNet."""
    mean, std = (torch.tensor(values, device=pixels.device, dtype=pixels.dtype).view(3, 1, 1) for values in (MEAN, STD))
    return (pixels - mean) / std


def clips_of(crops: Tensor, side: int) -> Tensor:
    """Crops (B, T, H, W, 3) uint8 as :class:`S4D` reads them: (B, 3, T, side, side) float; their shape is not kept."""
    pixels = crops.permute(0, 1, 4, 2, 3).float() / 255
    if pixels.shape[-2:] != (side, side):
        pixels = functional.interpolate(pixels.flatten(0, 1), (side, side), mode="bilinear", antialias=True).unflatten(0, crops.shape[:2])
    return standardised(pixels).transpose(1, 2)


def sincos(count: int, width: int) -> Tensor:
    """Positions (count, width) float32: ``p / 10000 ** (2 * (j // 2) / width)``, its sine at even j and its cosine at odd j (Vaswani et al. 2017, section 3.5).

    >>> sincos(2, 4)[0].tolist()
    [0.0, 1.0, 0.0, 1.0]
    """
    column = torch.arange(width)
    rate = 10000.0 ** (-2 * (column // 2).double() / width)
    angle = torch.arange(count).double()[:, None] * rate
    return torch.where(column % 2 == 0, angle.sin(), angle.cos()).float()


def first_numbers(network: nn.Module, spread: float) -> None:
    """The numbers that linear layers begin with, as published: also the experts are not zero at first.

    Args:
        network: all its linear layers.
        spread: standard deviation; 0.02 as published, and more in a narrower network, so that the sums of a layer are as large.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=spread)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def layer_of(name: str, depth: int) -> int:
    """Which layer a parameter belongs to, for rates that fall towards the input: 0 the patches, 1 to ``depth`` the blocks, then the heads.

    >>> [layer_of(name, 12) for name in ("patch_embed.proj.bias", "blocks.0.mlp.fc1.weight", "blocks.11.norm1.weight", "fc_norm.weight", "head.video.bias")]
    [0, 1, 12, 13, 13]
    """
    if name.startswith("patch_embed."):
        return 0
    return int(name.split(".")[1]) + 1 if name.startswith("blocks.") else depth + 1


def rates(network: nn.Module, falloff: float) -> dict[str, float]:
    """What each parameter learns as a share of what the heads do: ``falloff ** (depth + 1 - layer)``.

    Args:
        network: with ``blocks``.
        falloff: what a layer learns less than the one above it, in (0, 1].
    """
    depth = len(network.get_submodule("blocks"))  # type: ignore[arg-type]
    return {name: falloff ** (depth + 1 - layer_of(name, depth)) for name, _ in network.named_parameters()}
