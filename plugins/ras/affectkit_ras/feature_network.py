"""The networks of ras/feature_fusion: one opinion out of an embedding of each source, in the four published versions.

EmotionFusionModel V1 to V4 of Team RAS (9th ABAW, arXiv 2507.02205; SMIL-SPCRAS/ICCVW_25, src/fusion/models/multimodal_models.py), with
the names of their parameters. B rows, M sources, D size of an embedding, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from affectkit.api import CheckpointError

Version = Literal["v1", "v2", "v3", "v4"]

TOKEN = 128  # numbers of a token
HIDDEN = 64  # of the composer of V1
HEADS, LAYERS = 4, 2  # of the encoder of V3 and V4


class FeatureFusion(nn.Module):
    """The common part: embeddings by name, of which some may be missing.

    Args:
        sizes: D of each source by its name, in order.
        classes: C.
    """

    def __init__(self, sizes: Mapping[str, int], classes: int = 8) -> None:
        super().__init__()
        self.sizes = dict(sizes)

    @property
    def names(self) -> tuple[str, ...]:
        """The sources, in order."""
        return tuple(self.sizes)

    def forward(self, features: Mapping[str, Tensor], there: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Fuse embeddings.

        Args:
            features: (B, D) float by name; what is missing holds zeros.
            there: (B,) bool by name, true where a source has an embedding; ``None`` takes an embedding of zeros for a missing one, as published.

        Returns:
            Logits (B, C) and the fused embedding (B, E).
        """
        raise NotImplementedError


class FusionV1(FeatureFusion):
    """Logits of each embedding, side by side, through two layers; what is missing says the bias of its layer, as published."""

    def __init__(self, sizes: Mapping[str, int], classes: int = 8) -> None:
        super().__init__(sizes, classes)
        self.heads = nn.ModuleDict({name: LogitHead(size, classes) for name, size in sizes.items()})
        self.composer = Composer(len(sizes) * classes, classes)

    def forward(self, features: Mapping[str, Tensor], there: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """(B, D) by name to logits (B, C) and, of M sources, (B, M C); ``there`` changes nothing."""
        said = torch.cat([head(features[name]) for name, head in self.heads.items()], dim=1)
        return self.composer(said), said


class FusionV2(FeatureFusion):
    """A token of the logits of each embedding, and attention with a learned vector over the tokens."""

    def __init__(self, sizes: Mapping[str, int], classes: int = 8) -> None:
        super().__init__(sizes, classes)
        self.heads = nn.ModuleDict({name: LogitHead(size, classes) for name, size in sizes.items()})
        self.attn_pooling = TokenPooling(tuple(sizes), classes)
        self.classifier = nn.Linear(TOKEN, classes)

    def forward(self, features: Mapping[str, Tensor], there: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """As :meth:`FeatureFusion.forward`; without ``there``, what is missing speaks by its biases, as published."""
        fused = self.attn_pooling({name: head(features[name]) for name, head in self.heads.items()}, there)
        return self.classifier(fused), fused


class FusionV3(FeatureFusion):
    """A learned query and a token of each embedding through a transformer; what the query becomes is the fused embedding.

    Args:
        sizes: D of each source by its name, in order.
        classes: C.
        dropout: share of the numbers that are left out in training.
        width: E, what the classifier reads.
    """

    def __init__(self, sizes: Mapping[str, int], classes: int = 8, *, dropout: float = 0.1, width: int = TOKEN) -> None:
        super().__init__(sizes, classes)
        self.token_encoders = nn.ModuleDict({name: TokenEncoder(size, dropout) for name, size in sizes.items()})
        self.query_token = nn.Parameter(torch.randn(1, 1, TOKEN))
        layer = nn.TransformerEncoderLayer(TOKEN, HEADS, dropout=dropout, batch_first=True)
        self.transformer = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.classifier = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, classes))

    def query(self, features: Mapping[str, Tensor], there: Mapping[str, Tensor] | None) -> Tensor:
        """What the query becomes, (B, 128); tokens of missing sources are heard by none."""
        tokens = torch.stack([encoder(features[name]) for name, encoder in self.token_encoders.items()], dim=1)
        missing = torch.stack([_missing(features, there, name) for name in self.token_encoders], dim=1)
        sequence = torch.cat([self.query_token.expand(len(tokens), -1, -1), tokens], dim=1)
        mask = torch.cat([missing.new_zeros(len(missing), 1), missing], dim=1)
        found: Tensor = self.transformer(sequence, src_key_padding_mask=mask)[:, 0]
        return found

    def forward(self, features: Mapping[str, Tensor], there: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """(B, D) and ``there`` (B,) by name to logits (B, C) and the fused embedding (B, 128)."""
        fused = self.query(features, there)
        return self.classifier(fused), fused


class FusionV4(FusionV3):
    """:class:`FusionV3` of all but the scene, which is put beside what the query becomes; a missing scene goes through its layer as zeros, as published.

    Args:
        sizes: D of each source by its name, in order.
        classes: C.
        scene: the source that is the scene.
        dropout: share of the numbers that are left out in training.
    """

    def __init__(self, sizes: Mapping[str, int], classes: int = 8, *, scene: str = "new_scene", dropout: float = 0.1) -> None:
        others = {name: size for name, size in sizes.items() if name != scene}
        super().__init__(others, classes, dropout=dropout, width=2 * TOKEN)
        self.sizes, self.scene = dict(sizes), scene
        self.scene_proj = nn.Linear(sizes[scene], TOKEN)

    def forward(self, features: Mapping[str, Tensor], there: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """(B, D) and ``there`` (B,) by name to logits (B, C) and the fused embedding (B, 256)."""
        fused = torch.cat([self.query(features, there), self.scene_proj(features[self.scene])], dim=1)
        return self.classifier(fused), fused


class LogitHead(nn.Module):
    """Logits of one embedding."""

    def __init__(self, size: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) to (B, C)."""
        found: Tensor = self.linear(x)
        return found


class Composer(nn.Module):
    """Two layers over the logits of all embeddings."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, M C) to (B, C)."""
        found: Tensor = self.fc2(self.fc1(x).relu())
        return found


class TokenPooling(nn.Module):
    """The mean of tokens, weighted by how much each resembles a learned vector."""

    def __init__(self, names: Sequence[str], classes: int) -> None:
        super().__init__()
        self.attn_vector = nn.Parameter(torch.randn(TOKEN))
        self.projections = nn.ModuleDict({name: nn.Linear(classes, TOKEN) for name in names})

    def forward(self, logits: Mapping[str, Tensor], there: Mapping[str, Tensor] | None) -> Tensor:
        """(B, 128) of logits (B, C) by name."""
        tokens = torch.stack([layer(logits[name]) for name, layer in self.projections.items()], dim=1)
        scores = tokens @ self.attn_vector
        if there is not None:
            scores = scores.masked_fill(~torch.stack([there[name] for name in self.projections], dim=1), -torch.inf)
            scores = scores.masked_fill(
                scores.isneginf().all(dim=1, keepdim=True), 0.0
            )  # nothing is there: whoever asks leaves the row out
        return (scores.softmax(dim=1)[..., None] * tokens).sum(dim=1)


class TokenEncoder(nn.Module):
    """A token of an embedding."""

    def __init__(self, size: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(size, TOKEN)
        self.norm = nn.LayerNorm(TOKEN)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) to (B, 128)."""
        found: Tensor = self.dropout(self.norm(self.linear(x)))
        return found


VERSIONS: Mapping[Version, type[FeatureFusion]] = {"v1": FusionV1, "v2": FusionV2, "v3": FusionV3, "v4": FusionV4}


def network_of(tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> tuple[Version, FeatureFusion]:
    """The network that tensors are of, still with its first parameters: version, names and sizes are read off their names and shapes.

    Args:
        tensors: the state of one of the four networks, in its order or any other.
        settings: ``"names"``, the sources in the order in which V1 puts them side by side, and ``"scene"`` of V4, where they are known.

    Raises:
        CheckpointError: where they are of none of them.
    """
    version: Version = "v3" if any(name.startswith("transformer.") for name in tensors) else "v2"
    version = "v4" if "scene_proj.weight" in tensors else "v1" if "composer.fc1.weight" in tensors else version
    encoders = "token_encoders" if version in ("v3", "v4") else "heads"
    sizes = {
        key.split(".")[1]: tensor.shape[1] for key, tensor in tensors.items() if key.startswith(encoders) and key.endswith("linear.weight")
    }
    scene = str(settings.get("scene", "new_scene"))
    if version == "v4":
        sizes[scene] = tensors["scene_proj.weight"].shape[1]
    names = settings.get("names", sorted(sizes))  # the order of the authors' own configuration is the alphabet's
    last = [tensors[key] for key in ("classifier.1.weight", "classifier.weight", "composer.fc2.weight") if key in tensors]
    if not sizes or not last or sorted(names) != sorted(sizes):
        raise CheckpointError(
            f"these are no weights of a feature fusion of {', '.join(names) or 'known sources'}: found {', '.join(sizes) or 'none'}"
        )
    ordered = {name: sizes[name] for name in names}
    if version == "v4":
        return version, FusionV4(ordered, last[0].shape[0], scene=scene)
    return version, VERSIONS[version](ordered, last[0].shape[0])


def _missing(features: Mapping[str, Tensor], there: Mapping[str, Tensor] | None, name: str) -> Tensor:
    """Which rows (B,) have no embedding of a source."""
    return (features[name] == 0).all(dim=1) if there is None else ~there[name]
