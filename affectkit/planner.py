"""What a run does before the first frame: the grid of windows over a medium. Times are seconds."""

from __future__ import annotations

import math

from affectkit.config import Windows
from affectkit.errors import ConfigError
from affectkit.media import Span


def windows(duration: float, length: float = 4.0, step: float = 2.0, min_tail: float = 1.0) -> list[Span]:
    """The windows over a medium, in time order.

    A medium no longer than one window is one window, however short it is. Otherwise windows begin at 0, ``step``,
    2 ``step``, ... until one reaches the end; the last one is cut there, and left out where it is shorter than ``min_tail``.

    Args:
        duration: seconds from the start of the medium to its end; 0 for an image, which is one window without length.
        length: length of a window in seconds.
        step: seconds from the start of one window to the start of the next.
        min_tail: a last window that is shorter than this many seconds is left out.

    Raises:
        ConfigError: for a duration, length, step or min_tail that cannot be.

    >>> [(span.start, span.end) for span in windows(7.5)]
    [(0.0, 4.0), (2.0, 6.0), (4.0, 7.5)]
    """
    if not (math.isfinite(duration) and duration >= 0):
        raise ConfigError(f"windows need a duration in seconds, 0 or more, found {duration}")
    grid = Windows(length, step, min_tail)
    if not (math.isfinite(grid.length) and math.isfinite(grid.step)):
        raise ConfigError(f"length and step of windows must be finite numbers of seconds, found {length} and {step}")
    if duration <= length:
        return [Span(0.0, float(duration))]
    spans: list[Span] = []
    while (start := len(spans) * step) < duration:  # a product: adding steps up would add up their rounding errors
        end = start + length
        if end < duration:
            spans.append(Span(float(start), float(end)))
        elif duration - start < min_tail:
            break
        else:
            spans.append(Span(float(start), float(duration)))
            break
    return spans
