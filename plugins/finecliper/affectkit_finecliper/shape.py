"""What is tuned in a CLIP: how many frames it reads, which streams it mixes, how large its adapters are."""

from __future__ import annotations

from dataclasses import dataclass

from affectkit.api import ConfigError

STREAMS = ("frames", "parsing", "landmarks")


@dataclass(frozen=True)
class Shape:
    """What the tuned part is made of, beside the CLIP that it is in.

    Attributes:
        frames: T that it reads.
        streams: which of :data:`STREAMS` it mixes, frames first.
        ratio: width of an adapter as a share of its tower's.
        text_adapters: whether the text tower has adapters as well.
        negative: what the match with the negative text counts, in [0, 1].
    """

    frames: int = 16
    streams: tuple[str, ...] = ("frames",)
    ratio: float = 0.25
    text_adapters: bool = True
    negative: float = 1.0

    def __post_init__(self) -> None:
        check_streams(self.streams)
        if self.frames < 1 or not 0 < self.ratio <= 1 or not 0 <= self.negative <= 1:
            raise ConfigError(
                f"frames must be at least 1, ratio in (0, 1] and negative in [0, 1], found {self.frames}, {self.ratio} and {self.negative}"
            )


def check_streams(streams: tuple[str, ...]) -> None:
    """Nothing, where these streams can be mixed.

    Raises:
        ConfigError: where they do not begin with the frames, or one is named twice or is none.
    """
    if streams[:1] != ("frames",) or len(set(streams)) < len(streams) or not set(streams) <= set(STREAMS):
        raise ConfigError(f"streams must begin with frames and name each of {', '.join(STREAMS)} at most once, found {list(streams)}")
