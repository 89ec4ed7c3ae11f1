"""The small networks of affectkit-mini, one class per file of weights.

B batch, T frames or crops of a window, D embedding, C classes. Every ``forward`` returns logits and an embedding;
probabilities are made by the components.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

FACE_SIZE = 48  # pixels: FER2013 pictures are 48 x 48
FACE_EMBEDDING = 128
FACE_WIDTHS = (24, 48, 96, 176)
FACE_BLOCKS = (1, 2, 3)


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs))


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut of one convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = _conv(inputs, outputs, stride)
        self.second = _conv(outputs, outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            narrow = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(narrow, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        y = self.second(functional.relu(self.first(x), inplace=True))
        return functional.relu(y.add_(self.shortcut(x)), inplace=True)


def _stages(widths: tuple[int, ...], blocks: tuple[int, ...]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    inputs = widths[0]
    for width, count in zip(widths[1:], blocks, strict=True):
        for index in range(count):
            layers.append(ResidualBlock(inputs, width, 2 if index == 0 else 1))
            inputs = width
    return layers


class FaceNet(nn.Module):
    """A residual network of 1.9 million parameters over grey 48 x 48 face crops."""

    def __init__(self, classes: int = 7, dropout: float = 0.3) -> None:
        super().__init__()
        self.stem = nn.Sequential(_conv(1, FACE_WIDTHS[0]), nn.ReLU(inplace=True))
        self.stages = nn.Sequential(*_stages(FACE_WIDTHS, FACE_BLOCKS))
        self.project = nn.Sequential(nn.Linear(FACE_WIDTHS[-1], FACE_EMBEDDING, bias=False), nn.BatchNorm1d(FACE_EMBEDDING))
        self.dropout = nn.Dropout(dropout)
        self.classify = nn.Linear(FACE_EMBEDDING, classes)

    def forward(self, faces: Tensor) -> tuple[Tensor, Tensor]:
        """Classify standardised crops.

        Args:
            faces: (B, 1, 48, 48) float, zero mean and unit variance per crop (``standardise``).

        Returns:
            Logits (B, C) and embeddings (B, 128).
        """
        pooled = self.stages(self.stem(faces)).mean((2, 3))
        embedding = self.project(pooled)
        return self.classify(self.dropout(functional.silu(embedding))), embedding

    def read(self, grey: Tensor) -> tuple[Tensor, Tensor]:
        """What the components use: the mean over a crop and its mirror image.

        Args:
            grey: (N, 48, 48) float in [0, 1].

        Returns:
            Logits (N, C) and embeddings (N, 128), float32.
        """
        crops = standardise(grey[:, None])
        first, second = self(crops), self(crops.flip(3))
        return (first[0] + second[0]).float() / 2, (first[1] + second[1]).float() / 2


def standardise(grey: Tensor) -> Tensor:
    """Zero mean and unit variance per crop, so that the lamp and the camera's gain do not matter.

    Args:
        grey: (B, 1, H, W) float in [0, 1].

    Returns:
        (B, 1, H, W) float. A crop of one colour becomes zeros.
    """
    centred = grey - grey.mean((2, 3), keepdim=True)
    scale = centred.square().mean((2, 3), keepdim=True).sqrt()
    return centred / scale.clamp_min(1e-2)


DYNAMICS_EMBEDDING = 64
DIRECTIONS = ("steady", "onset", "offset")  # an expression stays, rises, fades


class FaceDynamics(nn.Module):
    """Reads the order of a window's faces: a recurrent network over the embeddings of the frozen ``FaceNet``.

    The average of the single pictures is the starting point, and the recurrent part adds to its logarithm, so that a
    steady face is read as the pictures read it.
    """

    def __init__(self, classes: int = 7, dropout: float = 0.3) -> None:
        super().__init__()
        hidden = DYNAMICS_EMBEDDING
        self.reduce = nn.Linear(FACE_EMBEDDING + 2 * classes, hidden)
        self.recur = nn.GRU(hidden, hidden, batch_first=True)
        self.weigh = nn.Linear(hidden, 1)
        self.join = nn.Linear(2 * hidden, hidden)
        self.dropout = nn.Dropout(dropout)
        self.correct = nn.Linear(hidden, classes)
        self.direct = nn.Linear(hidden, len(DIRECTIONS))
        nn.init.zeros_(self.correct.weight)
        nn.init.zeros_(self.correct.bias)

    def forward(self, embeddings: Tensor, logits: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Classify windows.

        Args:
            embeddings: (B, T, 128) float, of ``FaceNet.read``, in the order of time.
            logits: (B, T, C) float, of the same.
            mask: (B, T) bool, True where there is a face; what is padded comes last.

        Returns:
            Logits (B, C), logits of ``DIRECTIONS`` (B, 3) and embeddings (B, 64).
        """
        keep = mask[..., None]
        probabilities = logits.softmax(2)
        average = (probabilities * keep).sum(1) / keep.sum(1).clamp_min(1)
        change = functional.pad(probabilities[:, 1:] - probabilities[:, :-1], (0, 0, 1, 0))
        steps = functional.gelu(self.reduce(self.dropout(torch.cat([embeddings, probabilities * 4, change * 4], 2))))
        states = self.recur(steps * keep)[0]
        weights = self.weigh(states).masked_fill(~keep, -torch.inf).softmax(1)
        last = states.gather(1, (mask.sum(1).clamp_min(1) - 1)[:, None, None].expand(-1, 1, states.shape[2]))[:, 0]
        joined = functional.gelu(self.join(self.dropout(torch.cat([(weights * states).sum(1), last], 1))))
        return average.clamp_min(1e-4).log() + self.correct(joined), self.direct(joined), joined


class SentenceHead(nn.Module):
    """Reads the frozen token states of the sentence model: learned queries pool them, two layers classify.

    Args:
        states: width of the token states.
        embedding: width of the sentence embedding.
        hidden: width of everything inside.
        queries: how many weighted means of the tokens are taken.
        classes: logits that it gives.
    """

    def __init__(
        self, states: int = 768, embedding: int = 384, hidden: int = 160, queries: int = 4, classes: int = 7, dropout: float = 0.4
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(states)
        self.reduce = nn.Linear(states, hidden)
        self.weigh = nn.Linear(hidden, queries)
        self.dropout = nn.Dropout(dropout)
        self.join = nn.Linear(queries * hidden + embedding, hidden)
        self.classify = nn.Linear(hidden, classes)

    def forward(self, states: Tensor, mask: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Classify texts.

        Args:
            states: (B, T, 768) float token states.
            mask: (B, T) bool, True where there is a token.
            embedding: (B, 384) float, unit length.

        Returns:
            Logits (B, C) and embeddings (B, hidden).
        """
        reduced = self.dropout(functional.gelu(self.reduce(self.norm(states))))
        weights = self.weigh(reduced).masked_fill(~mask[..., None], -torch.inf).softmax(1)
        pooled = torch.einsum("btq,bth->bqh", weights, reduced).flatten(1)
        scale = embedding.shape[1] ** 0.5  # unit length to unit variance
        joined = functional.gelu(self.join(self.dropout(torch.cat([pooled, embedding * scale], 1))))
        return self.classify(self.dropout(joined)), joined


AUDIO_WIDTHS = (24, 32, 48, 80, 128)
AUDIO_EMBEDDING = 128


class _SoundBlock(nn.Module):
    """A residual block that keeps padded frames at zero, so that a clip's length does not matter to its neighbours."""

    def __init__(self, inputs: int, outputs: int, stride: tuple[int, int]) -> None:
        super().__init__()
        self.stride = stride[0]
        self.first = nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs))
        self.second = _conv(outputs, outputs)
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, inputs, T, F) and mask (B, 1, T, 1) float to the same, shorter by the stride."""
        reached = mask[:, :, :: self.stride]
        y = functional.relu(self.first(x)) * reached
        return functional.relu(self.second(y) + self.shortcut(x)) * reached, reached


class AudioNet(nn.Module):
    """A convolutional network over log-mel frames with attentive statistics pooling.

    The pooling is that of Okabe et al. 2018 (https://arxiv.org/abs/1803.10963): frames are weighed by a small network, and
    their weighted mean and deviation are joined.
    """

    def __init__(self, classes: int = 7, dropout: float = 0.3) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, AUDIO_WIDTHS[0], 5, (2, 2), 2, bias=False), nn.BatchNorm2d(AUDIO_WIDTHS[0]))
        strides = ((1, 2), (2, 2), (1, 2), (2, 2))
        self.blocks = nn.ModuleList(
            _SoundBlock(inputs, outputs, stride) for inputs, outputs, stride in zip(AUDIO_WIDTHS, AUDIO_WIDTHS[1:], strides, strict=False)
        )
        width = AUDIO_WIDTHS[-1] * 2  # 64 bands become 2
        self.weigh = nn.Sequential(nn.Linear(width, 64), nn.Tanh(), nn.Linear(64, 1))
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(2 * width, AUDIO_EMBEDDING)
        self.classify = nn.Linear(AUDIO_EMBEDDING, classes)

    def forward(self, mel: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Classify sounds.

        Args:
            mel: (B, T, 64) float, normalised decibels, zeros where padded.
            mask: (B, T) bool, True where there is sound to read.

        Returns:
            Logits (B, C) and embeddings (B, 128).
        """
        keep = mask[:, None, :, None].to(mel.dtype)
        reached = keep[:, :, ::2]
        x = functional.relu(self.stem(mel[:, None] * keep)) * reached
        for block in self.blocks:
            x, reached = block(x, reached)
        frames = x.transpose(1, 2).flatten(2).float()  # (B, T / 8, 256), sums in single precision
        weights = self.weigh(frames).float().masked_fill(reached[:, 0] == 0, -torch.inf).softmax(1)
        mean = (weights * frames).sum(1)
        deviation = ((weights * (frames - mean[:, None]).square()).sum(1) + 1e-2).sqrt()
        embedding = functional.silu(self.project(self.dropout(torch.cat([mean, deviation], 1))))
        return self.classify(self.dropout(embedding)), embedding


class DescriptionHead(nn.Module):
    """Reads a description as a whole: the mean of its token states and its sentence embedding, two layers over both.

    Args:
        states: width of the token states.
        embedding: width of the sentence embedding.
        hidden: width of the first layer.
        classes: logits that it gives.
    """

    def __init__(self, states: int = 768, embedding: int = 384, hidden: int = 64, classes: int = 7, dropout: float = 0.5) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(states)
        self.dropout = nn.Dropout(dropout)
        self.join = nn.Linear(states + embedding, hidden)
        self.classify = nn.Linear(hidden, classes)

    def forward(self, states: Tensor, mask: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Classify descriptions.

        Args:
            states: (B, T, 768) float token states.
            mask: (B, T) bool, True where there is a token.
            embedding: (B, 384) float, unit length.

        Returns:
            Logits (B, C) and embeddings (B, hidden).
        """
        real = mask[..., None].to(states.dtype)
        return self.read((states * real).sum(1) / real.sum(1).clamp_min(1), embedding)

    def read(self, mean: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """The same from the mean token state (B, 768)."""
        scale = embedding.shape[1] ** 0.5  # unit length to unit variance
        joined = functional.gelu(self.join(self.dropout(torch.cat([self.norm(mean), embedding * scale], 1))))
        return self.classify(self.dropout(joined)), joined
