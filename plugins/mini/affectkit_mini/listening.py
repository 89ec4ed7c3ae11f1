"""What a network that was made for speech hears in a voice: the first blocks of a speech encoder, and what they say over the frames that hold sound.

B batch, T frames of an encoder (50 per second).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from affectkit_mini.sound import BANDS, HOP, RATE, decibels, mel_power, sounding

WIDTH, HEADS, HIDDEN = 384, 6, 1536  # of a block, as in Whisper tiny
BLOCKS = 3  # of its four, whose last one says less of a voice
POSITIONS = 400  # frames that it has places for, 8 seconds
NUMBERS = BLOCKS * 2 * WIDTH  # of a voice
FRAME = 2 * HOP  # samples of a frame, 20 ms
RANGE = 8.0  # bels below the loudest band, beneath which all is alike


class Listener(nn.Module):
    """Two convolutions and the first three transformer blocks of the encoder of Whisper tiny (Radford et al. 2023, "Robust Speech Recognition via
    Large-Scale Weak Supervision", section 2.2), 5.9 million parameters.

    What mini/audio carries is that of Smart Turn v3.2, which was trained on to tell from a voice in 23 languages whether someone has finished speaking.
    It is not trained here.

    Args:
        blocks: transformer blocks.
    """

    def __init__(self, blocks: int = BLOCKS) -> None:
        super().__init__()
        self.first = nn.Conv1d(BANDS, WIDTH, 3, padding=1)
        self.second = nn.Conv1d(WIDTH, WIDTH, 3, 2, padding=1)
        self.positions = nn.Parameter(torch.randn(POSITIONS, WIDTH) * 0.02)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(WIDTH, HEADS, HIDDEN, 0.0, functional.gelu, batch_first=True, norm_first=True) for _ in range(blocks)
        )

    def forward(self, levels: Tensor, heard: Tensor, real: Tensor) -> Tensor:
        """Mean and deviation, over the frames that hold sound, of what each block says.

        Args:
            levels: (B, T, 160) float, as :func:`hear` gives them. More than 8 seconds are read in pieces of 8 seconds.
            heard: (B, T) bool, frames that hold sound; at least one of each voice.
            real: (B, T) bool, frames that a voice has; what comes behind does not matter.

        Returns:
            (B, 2304): for each block the means of its 384 numbers, and then their deviations.
        """
        heard = heard & real
        pieces = -(-heard.shape[1] // POSITIONS)
        short = pieces > 1 and pieces * POSITIONS - heard.shape[1]
        if short:
            levels = functional.pad(levels, (0, 0, 0, short))
            heard, real = functional.pad(heard, (0, short)), functional.pad(real, (0, short))
        length = heard.shape[1] // pieces
        x = levels.reshape(len(levels) * pieces, 2 * length, BANDS).transpose(1, 2)
        known = real.unflatten(1, (pieces, length)).flatten(0, 1)
        nothing = ~known.repeat_interleave(2, 1)[:, None]
        x = functional.gelu(self.first(x.masked_fill(nothing, 0.0))).masked_fill(nothing, 0.0)
        begin = POSITIONS - known.sum(1, keepdim=True).clamp(min=1)  # what is short stands at the end, as where the encoder was trained
        places = begin + torch.arange(length, device=x.device)
        x = functional.gelu(self.second(x)).transpose(1, 2) + self.positions[places.clamp(max=POSITIONS - 1)]
        absent = ~known & known.any(1, keepdim=True)  # a piece of nothing but padding looks at itself, which is not read
        weights = heard.float() / heard.sum(1, keepdim=True)
        found = []
        for block in self.blocks:
            x = block(x, src_key_padding_mask=absent)
            frames = x.unflatten(0, (-1, pieces)).flatten(1, 2).float()
            mean = torch.einsum("bt,btd->bd", weights, frames)
            spread = torch.einsum("bt,btd->bd", weights, (frames - mean[:, None]).square())
            found += [mean, (spread + 1e-8).sqrt()]
        return torch.cat(found, 1)


@dataclass(frozen=True)
class Heard:
    """A sound as the encoder takes it, whatever the level of the recording.

    Attributes:
        levels: (T, 160) float32, for each frame of the encoder two of 80 mel bands: bels of the sound at a mean square of one over its sounding frames, at
            most 8 below the loudest, then moved and scaled to about [-1, 1]; NaN where no frame sounds.
        frames: (T,) bool, the frames of 20 ms that hold sound.
        loudest: the loudest mel band in dB, of the recording as it is.
    """

    levels: Tensor
    frames: Tensor
    loudest: Tensor

    @property
    def seconds(self) -> float:
        """Length of the frames that hold sound."""
        return int(self.frames.sum()) * FRAME / RATE


def hear(samples: Tensor) -> Heard:
    """What the encoder is given of samples (N,) float32 in [-1, 1] at 16 kHz, of at least 20 ms."""
    samples = samples[: len(samples) // FRAME * FRAME]
    samples = samples - samples.mean()
    levels = decibels(mel_power(samples))[:-1]
    frames = sounding(levels).view(-1, 2).any(1)
    power = samples.view(len(frames), FRAME).square().mean(1)[frames].mean().clamp_min(1e-12)
    bels = levels / 10 - power.log10()
    scaled = (torch.maximum(bels, bels.amax() - RANGE) + 4) / 4
    return Heard(scaled.reshape(len(frames), -1), frames, levels.amax())
