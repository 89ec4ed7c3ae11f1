"""What an IFDD is made of, and how the shapes of its tensors tell."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from affectkit.api import CheckpointError, ConfigError

LENGTHS = (16, 32)  # frames that a clip may have
SLOTS = 8  # of time, in which a clip is read
SHRINK = 32  # pixels of a side that become one patch of the last stage
PUBLISHED = (1, 2, 5, 2)
MEAN, STD = 0.45, 0.225  # of every channel, as the weights of Kinetics-400 expect them
TOLD_BY = ("embed.conv_proj.weight", "backbone.WaveLifts.project_compress.weight", "head.head.1.weight")

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Sizes:
    """What the network is made of; the defaults are the published one.

    Attributes:
        classes: of the answer.
        frames: of a clip, 16 or 32.
        side: of a frame in pixels, a multiple of 32.
        width: channels of the first stage; each stage has twice those of the one before.
        blocks: of each of the four stages.
        released: whether it does what the published code does, and weights trained by it need: pixels in [0, 1] as they are, indices of the splitting that
            read elsewhere than they say, and in training the whole feature left out for a fifth of the clips.

    Raises:
        ConfigError: for a network that cannot be.
    """

    classes: int = 7
    frames: int = 16
    side: int = 224
    width: int = 96
    blocks: tuple[int, ...] = PUBLISHED
    released: bool = False

    def __post_init__(self) -> None:
        if self.frames not in LENGTHS:
            raise ConfigError(f"IFDD reads 16 or 32 frames, found {self.frames}")
        if self.side < SHRINK or self.side % SHRINK:
            raise ConfigError(f"the side of a frame must be a multiple of {SHRINK} pixels, found {self.side}")
        if self.classes < 1 or self.width < 1 or len(self.blocks) != 4 or min(self.blocks) < 1:
            raise ConfigError(
                f"IFDD has four stages of at least one block, channels and classes; found {self.blocks} blocks, {self.width} channels and {self.classes} classes"
            )

    @property
    def grid(self) -> int:
        """Patches of a side after the last stage."""
        return self.side // SHRINK

    @property
    def channels(self) -> int:
        """Of a patch after the last stage."""
        return 8 * self.width

    @property
    def slot(self) -> int:
        """Frames of a slot."""
        return self.frames // SLOTS

    def frame(self, place: float) -> float:
        """The frame, from 0, in the middle of what the network reads at a place among the slots, fractional.

        >>> Sizes().frame(1), Sizes(frames=32).frame(1)
        (2.0, 5.0)
        """
        return place * self.slot + self.slot / 2 - 1


def sizes_of(shapes: Shapes, frames: int, released: bool) -> Sizes:
    """The sizes of the network that a state is of; it says all but the number of frames and how it was trained.

    Args:
        shapes: of its tensors, by name.
        frames: of a clip.
        released: as in :class:`Sizes`.

    Raises:
        CheckpointError: where it is the state of another network.
    """
    if lacking := [name for name in TOLD_BY if len(shapes.get(name, ())) < 2]:
        raise CheckpointError(f"it is no state of IFDD, it lacks {', '.join(lacking)}")
    width, patches, classes = (shapes[name][index] for name, index in zip(TOLD_BY, (0, 1, 0), strict=True))
    ends = [shape[0] for name, shape in shapes.items() if name.startswith("backbone.backbone.blocks.") and name.endswith(".mlp.3.weight")]
    count = Counter(ends)
    blocks = tuple(count[width * 2**stage] for stage in range(4))
    try:
        return Sizes(classes, frames, SHRINK * math.isqrt(patches * 2 // SLOTS), width, blocks, released)
    except ConfigError as problem:
        raise CheckpointError(f"it is no state of IFDD: {problem}") from None
