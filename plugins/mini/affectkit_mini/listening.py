"""What a network that was made for speech hears in a voice: the first blocks of a speech encoder, and what they say over the frames that hold sound.

B batch, T frames of an encoder (50 per second).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from affectkit_mini.sound import BANDS, HOP, RATE, decibels, loudest, mel_power, sounding

WIDTH, HEADS, HIDDEN = 384, 6, 1536  # of a block, as in Whisper tiny
BLOCKS = 3  # of its four, whose last one says less of a voice
POSITIONS = 400  # frames that it has places for, 8 seconds
NUMBERS = BLOCKS * 2 * WIDTH  # of a voice
FRAME = 2 * HOP  # samples of a frame, 20 ms
RANGE = 8.0  # bels below the loudest stretch, beneath which all is alike
ABOVE = 1.0  # bels above it, and so is what is louder
AROUND = 10  # frames, 0.2 s, that are kept before and behind sound


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
            most 8 below the loudest stretch, then moved and scaled to about [-1, 1]; NaN where no frame sounds.
        frames: (T,) bool, the frames of 20 ms that hold sound.
        loudest: the loudest mel band in dB, of the recording as it is.
        share: of the recording that holds sound, in [0, 1].
    """

    levels: Tensor
    frames: Tensor
    loudest: Tensor
    share: Tensor

    @property
    def seconds(self) -> float:
        """Length of the frames that hold sound."""
        return int(self.frames.sum()) * FRAME / RATE


def hear(samples: Tensor) -> Heard:
    """What the encoder is given of samples (N,) float32 in [-1, 1] at 16 kHz, of at least 20 ms.

    Silence of more than 0.4 s is shortened to that, and to 0.2 s at the ends: the encoder looks at all that it is given, and pauses say more about the
    recording than about the voice.
    """
    samples = samples[: len(samples) // FRAME * FRAME]
    samples = samples - samples.mean()
    levels = decibels(mel_power(samples))[:-1]
    frames = sounding(levels).view(-1, 2).any(1)
    share, most = frames.float().mean(), levels.amax()
    near = functional.max_pool1d(frames[None].float(), 2 * AROUND + 1, 1, AROUND)[0] > 0
    if near.any() and not near.all():
        samples = samples.view(len(frames), FRAME)[near].flatten()
        levels = decibels(mel_power(samples))[:-1]
        frames = frames[near]
    top = loudest(levels) / 10
    steady = frames & (levels.reshape(len(frames), -1).amax(1) / 10 <= top + ABOVE)  # without clicks
    power = samples.view(len(frames), FRAME).square().mean(1)[steady].mean().clamp_min(1e-12)
    scaled = ((levels / 10).clamp(top - RANGE, top + ABOVE) - power.log10() + 4) / 4
    return Heard(scaled.reshape(len(frames), -1), frames, most, share)
