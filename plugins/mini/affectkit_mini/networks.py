"""The small networks of affectkit-mini, one class per file of weights.

B batch, T frames or crops of a window, D embedding, C classes. Every ``forward`` returns logits and an embedding;
probabilities are made by the components.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

FACE_SIZE = 48  # pixels: FER2013 pictures are 48 x 48
FACE_INSIDE = 96  # pixels, as large as a face is where the network learned to tell people
FACE_CONTRAST = 0.35  # standard deviation of the grey that the network sees inside
FACE_EMBEDDING = 128
FACE_STAGES = ((32, 3), (64, 4), (128, 3), (256, 3))  # channels and blocks at strides 4, 8, 16 and 32


class Convolution(nn.Module):
    """A convolution and its normalisation. At stride 2 it halves sides, and begins ``(size - 3) / 2`` pixels before the picture."""

    def __init__(self, inputs: int, outputs: int, size: int = 3, stride: int = 1) -> None:
        super().__init__()
        before, after = (size // 2, size // 2) if stride == 1 else ((size - 3) // 2, size // 2)
        self.pad = (before, after, before, after)
        self.weigh = nn.Conv2d(inputs, outputs, size, stride, size // 2 if stride == 1 else 0, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        found: Tensor = self.norm(self.weigh(x if self.weigh.stride == (1, 1) else functional.pad(x, self.pad)))
        return found


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions over a shortcut without parameters: the mean of four pixels where the stride is 2, zeros in channels that are new."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = Convolution(inputs, outputs, stride=stride)
        self.second = Convolution(outputs, outputs)
        self.stride, self.new = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        y = self.second(functional.relu(self.first(x), inplace=True))
        if self.stride > 1:
            x = functional.avg_pool2d(x, self.stride)
        if self.new:
            x = functional.pad(x, (0, 0, 0, 0, 0, self.new))
        return functional.relu(y.add_(x), inplace=True)


class FaceNet(nn.Module):
    """A residual network of 4.4 million parameters over grey 48 x 48 face crops, which it enlarges to 96 x 96.

    Its layers are those of dlib's face recognition network (King 2017) without the last block, so that it can begin with what that
    has learned (``affectkit_mini.trainings.recognition``).
    """

    def __init__(self, classes: int = 7, dropout: float = 0.3) -> None:
        super().__init__()
        width = FACE_STAGES[0][0]
        self.stem = Convolution(1, width, 7, 2)
        blocks, inputs = [], width
        for place, (width, count) in enumerate(FACE_STAGES):
            for index in range(count):
                blocks.append(ResidualBlock(inputs, width, 2 if place and not index else 1))
                inputs = width
        self.blocks = nn.Sequential(*blocks)
        self.project = nn.Sequential(nn.Linear(inputs, FACE_EMBEDDING, bias=False), nn.BatchNorm1d(FACE_EMBEDDING))
        self.dropout = nn.Dropout(dropout)
        self.classify = nn.Linear(FACE_EMBEDDING, classes)

    def forward(self, faces: Tensor) -> tuple[Tensor, Tensor]:
        """Classify standardised crops.

        Args:
            faces: (B, 1, 48, 48) float, zero mean and unit variance per crop (``standardise``).

        Returns:
            Logits (B, C) and embeddings (B, 128).
        """
        embedding = self.project(self.features(faces).mean((2, 3)))
        return self.classify(self.dropout(functional.silu(embedding))), embedding

    def features(self, faces: Tensor) -> Tensor:
        """What is seen at 3 x 3 places: (B, 256, 3, 3) of crops as :meth:`forward` takes them."""
        inside = functional.interpolate(faces * FACE_CONTRAST, size=(FACE_INSIDE, FACE_INSIDE), mode="bilinear", align_corners=False)
        x = functional.relu(self.stem(inside.contiguous(memory_format=torch.channels_last)), inplace=True)
        found: Tensor = self.blocks(functional.max_pool2d(functional.pad(x, (0, 1, 0, 1)), 3, 2))
        return found

    @property
    def convolutions(self) -> list[Convolution]:
        """All of them, in the order in which a picture passes through."""
        return [part for part in self.modules() if isinstance(part, Convolution)]

    def fold(self) -> None:
        """Puts every normalisation into the convolution before it: in evaluation the same answers in less time; it can no longer learn."""
        for layer in self.convolutions:
            layer.weigh, layer.norm = fuse_conv_bn_eval(layer.weigh, layer.norm), nn.Identity()

    def read(self, grey: Tensor) -> tuple[Tensor, Tensor]:
        """What the components use: the mean over a crop and its mirror image.

        Args:
            grey: (N, 48, 48) float in [0, 1].

        Returns:
            Logits (N, C) and embeddings (N, 128), float32.
        """
        crops = standardise(grey[:, None])
        both = self(torch.cat([crops, crops.flip(3)]))
        logits, embeddings = (said.float().unflatten(0, (2, len(grey))).mean(0) for said in both)
        return logits, embeddings


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


DENSE_SCALE, WORDS_SCALE = 0.1, 6.0  # how far a common pull to zero lets each part go
FULL = 30.0  # length of the tf-idf of an ordinary description, of a hundred words


class DescriptionHead(nn.Module):
    """Reads a description as a whole: one linear layer over what the sentence model makes of it and over its words.

    The mean token states and the sentence embedding are standardised; words count by tf-idf: (1 + ln count) times a word's rarity, to
    unit length. A text much shorter than those of training is left short: its few words say less.

    Args:
        terms: words that are known.
        states: width of the token states.
        embedding: width of the sentence embedding.
        classes: logits that it gives.

    Attributes:
        known: (V,) int64 hashes of the known words, rising.
        rarity: (V,) float, inverse document frequencies.
    """

    known: Tensor
    rarity: Tensor

    def __init__(self, terms: int = 2048, states: int = 768, embedding: int = 384, classes: int = 7) -> None:
        super().__init__()
        self.register_buffer("known", torch.arange(1, terms + 1))
        self.register_buffer("rarity", torch.ones(terms))
        self.standard = nn.BatchNorm1d(states + embedding, affine=False, momentum=0.01)
        self.dense = nn.Parameter(torch.zeros(states + embedding, classes))
        self.words = nn.Parameter(torch.zeros(terms, classes))
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, states: Tensor, mask: Tensor, embedding: Tensor, terms: Tensor) -> tuple[Tensor, Tensor]:
        """Classify descriptions.

        Args:
            states: (B, T, 768) float token states.
            mask: (B, T) bool, True where there is a token.
            embedding: (B, 384) float, unit length.
            terms: (B, W) int64 hashes of words, 0 where there is none.

        Returns:
            Logits (B, C) and the sentence embeddings (B, 384).
        """
        real = mask[..., None].to(states.dtype)
        return self.read((states * real).sum(1) / real.sum(1).clamp_min(1), embedding, terms), embedding

    def read(self, mean: Tensor, embedding: Tensor, terms: Tensor) -> Tensor:
        """Logits (B, C) from the mean token state (B, 768)."""
        halves = [functional.layer_norm(half, half.shape[1:]) for half in mean.float().chunk(2, dim=1)]
        whole = self.standard(torch.cat([*halves, embedding.float()], 1))
        return DENSE_SCALE * whole @ self.dense + WORDS_SCALE * self.count(terms) @ self.words + self.bias

    def count(self, terms: Tensor) -> Tensor:
        """tf-idf (B, V) of words (B, W)."""
        place = torch.searchsorted(self.known, terms).clamp_max(len(self.known) - 1)
        found = (self.known[place] == terms).float()
        counts = torch.zeros(len(terms), len(self.known), device=terms.device).scatter_add_(1, place, found)
        weighed = torch.where(counts > 0, 1 + counts.clamp_min(1).log(), 0.0) * self.rarity
        return weighed / weighed.norm(dim=1, keepdim=True).clamp_min(FULL)
