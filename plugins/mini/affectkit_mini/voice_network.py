"""The network of mini/audio: small networks side by side, some over the numbers of a voice, some over its course.

M members, B voices, C classes, T frames of a course (50 per second).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from affectkit_mini.sound import BANDS
from affectkit_mini.voice import NUMBERS, VOICED, VOICED_DB

LENGTH = 200  # frames of a course that are read, 4 seconds
INPUTS = BANDS + 5  # rows of a course as a member reads it
MIDDLE = 19.0  # semitones above 55 Hz, between the voices of men and women
TELLING = 0.5  # deviations between the corpora from which a number tells recordings apart rather than emotions
MOMENTUM = 0.01  # of what is noted of the rows of training
SHARE = 0.5  # of the logarithm of a probability that comes from the courses


def loop(course: Tensor, length: int = LENGTH) -> Tensor:
    """A course (T, 66) over and over again until it has ``length`` frames; of a longer one the first."""
    return course[torch.arange(length) % len(course)]


def relative(courses: Tensor) -> Tensor:
    """Courses (B, T, 66) without what the recording and its level say, as (B, 69, T) of about unit size.

    Levels are relative to the loud frames of the course. Pitch is there twice, relative to the median of its voiced frames and as it is; then its strength,
    the energy, and whether a frame is voiced.
    """
    levels, pitch, strength = courses[..., :BANDS], courses[..., BANDS], courses[..., BANDS + 1]
    energy = 10 * (10 ** (levels / 10)).sum(2).clamp_min(1e-9).log10()
    loud = torch.quantile(energy, 0.9, 1, keepdim=True)
    levels, energy = (levels - loud[..., None]).clamp(-60, 10), (energy - loud).clamp(-50, 10)
    voiced = (strength > VOICED) & (energy > -VOICED_DB)
    middle = pitch.masked_fill(~voiced, torch.nan).nanmedian(1, keepdim=True).values.nan_to_num(MIDDLE)
    parts = [
        (pitch - middle).clamp(-14, 14) / 4 * voiced,
        (pitch - MIDDLE).clamp(-20, 20) / 8 * voiced,
        2 * strength - 1,
        energy / 12 + 1,
        voiced,
    ]
    return torch.cat([(levels + 25) / 12, torch.stack(parts, 2)], 2).transpose(1, 2)


class CourseNet(nn.Module):
    """Three convolutions over the frames of a course, then mean and deviation over time.

    Args:
        hidden: channels.
        classes: logits that it gives.
        dropout: share of the numbers behind the frames that is left out in training.
    """

    def __init__(self, hidden: int = 96, classes: int = 7, dropout: float = 0.3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, width, stride in ((INPUTS, 5, 2), (hidden, 5, 2), (hidden, 3, 1)):
            layers += [nn.Conv1d(inputs, hidden, width, stride, width // 2, bias=False), nn.BatchNorm1d(hidden), nn.ReLU()]
        self.frames = nn.Sequential(*layers)
        self.answer = nn.Sequential(nn.BatchNorm1d(2 * hidden), nn.Dropout(dropout), nn.Linear(2 * hidden, classes))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C) of (B, 69, T), as :func:`relative` gives them."""
        frames = self.frames(x).float()
        mean = frames.mean(2)
        spread = ((frames - mean[..., None]).square().mean(2) + 1e-6).sqrt()
        found: Tensor = self.answer(torch.cat([mean, spread], 1))
        return found


class VoiceNet(nn.Module):
    """Members over the numbers of a voice, two hidden layers each, and members over its course.

    Each leaves out a part of the voices in training, so that those can be measured by members that did not hear them.

    Args:
        folds: parts into which the voices are cut.
        each: members over the numbers that leave out the same part; there is one over the course for each part.
        inputs: numbers of a voice.
        hidden: width of the hidden layers.
        classes: logits that it gives.
        dropout: share of a hidden layer that is left out in training; of the inputs a third of it.

    Attributes:
        fold: (M,) int64, the part that a member over the numbers leaves out.
        difference: (M, 310) mean of the English less that of the Polish recordings that a member heard.
        courses: the members over the course; the first leaves out part 0, and so on.
    """

    fold: Tensor
    difference: Tensor

    def __init__(
        self, folds: int = 5, each: int = 2, inputs: int = NUMBERS, hidden: int = 128, classes: int = 7, dropout: float = 0.5
    ) -> None:
        super().__init__()
        members = folds * each
        self.dropout = dropout
        widths = (inputs, hidden, hidden, classes)
        self.register_buffer("fold", torch.arange(members) % folds)
        self.standard = nn.BatchNorm1d(members * inputs, affine=False, momentum=MOMENTUM)
        self.register_buffer("difference", torch.zeros(members, inputs))
        self.weights = nn.ParameterList(
            nn.Parameter((torch.rand(members, width, after) * 2 - 1) / width**0.5) for width, after in pairwise(widths)
        )
        self.bias = nn.Parameter(torch.zeros(members, 1, classes))
        self.norms = nn.ModuleList(nn.BatchNorm1d(members * hidden) for _ in range(2))
        self.courses = nn.ModuleList(CourseNet(classes=classes) for _ in range(folds))

    @torch.no_grad()
    def compare(self, numbers: Tensor, english: Tensor) -> None:
        """Notes how numbers (M, B, 310) of recordings in English, (M, B) bool, differ from those of the others; all emotions are alike frequent in both."""
        if english.any(1).all() and not english.all(1).any():
            heard = english.to(numbers.dtype)
            share = heard / heard.sum(1, keepdim=True) - (1 - heard) / (1 - heard).sum(1, keepdim=True)
            self.difference.lerp_((share[..., None] * numbers.nan_to_num()).sum(1), MOMENTUM)

    def standardise(self, numbers: Tensor) -> Tensor:
        """(M, B, 310) with zero mean and unit variance over the rows of training, within 4; zero where a number tells the corpora apart."""
        spread = self.standard.get_buffer("running_var").view_as(self.difference).sqrt()
        shared = self.difference.abs() < TELLING * spread
        return _side_by_side(self.standard, numbers.nan_to_num()).clamp(-4, 4) * shared[:, None]

    def classify(self, numbers: Tensor) -> Tensor:
        """Logits (M, B, C) of standardised numbers (M, B, 310), a member each."""
        x = functional.dropout(numbers, self.dropout / 3, self.training)
        for weight, norm in zip(self.weights, self.norms, strict=False):
            x = functional.dropout(functional.silu(_side_by_side(norm, torch.bmm(x, weight))), self.dropout, self.training)
        return torch.bmm(x, self.weights[-1]) + self.bias

    def forward(self, numbers: Tensor, courses: Tensor, left_out: int | Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Classify voices.

        Args:
            numbers: (B, 310) float, as ``voice.describe`` gives them.
            courses: (B, T, 66) float, its courses, looped to one length.
            left_out: part, or (B,) int64 part of each row, that a member must have left out to be asked; ``None`` asks all.

        Returns:
            Mean log-probabilities of the members (B, C), which a softmax makes a distribution, and the standardised numbers (B, 310).
        """
        standard = self.standardise(numbers.expand(len(self.fold), -1, -1))
        said = self.classify(standard).float().log_softmax(2)
        asked = torch.ones(len(self.fold), len(numbers), device=numbers.device)
        if left_out is not None:
            left_out = torch.as_tensor(left_out, device=numbers.device).expand(len(numbers))
            asked = (self.fold[:, None] == left_out).float()
        of_numbers = (said * asked[..., None]).sum(0) / asked.sum(0)[:, None]
        return (1 - SHARE) * of_numbers + SHARE * self._of_courses(relative(courses.float()), left_out), standard.mean(0)

    def _of_courses(self, x: Tensor, left_out: Tensor | None) -> Tensor:
        if left_out is None:
            return torch.stack([member(x).log_softmax(1) for member in self.courses]).mean(0)
        found = x.new_zeros(len(x), self.bias.shape[-1])
        for part, member in enumerate(self.courses):
            rows = left_out == part
            if rows.any():
                found[rows] = member(x[rows]).log_softmax(1)
        return found


def _side_by_side(norm: nn.Module, x: Tensor) -> Tensor:
    """A norm over the rows of (M, B, D), with statistics of its own for each of the M times D columns."""
    found: Tensor = norm(x.transpose(0, 1).flatten(1))
    return found.unflatten(1, (len(x), -1)).transpose(0, 1)
