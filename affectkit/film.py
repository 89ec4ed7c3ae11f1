"""The pictures of a medium, decoded in a thread of its own while somebody looks at those before."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from affectkit.buffers import Ticker
from affectkit.clips import Clock
from affectkit.decoding import read_frames
from affectkit.media import Media

AHEAD_FRAMES = 32  # decoded frames that wait, at most
AHEAD_BYTES = 64 * 2**20  # of pictures that wait: 24 frames at 1280 x 720, two at 3840 x 2160


@dataclass(frozen=True)
class Look:
    """One frame.

    Attributes:
        index: number of the frame, as in :class:`affectkit.decoding.Frame`.
        time: seconds.
        due: who wants to see it.
        image: (H, W, 3) uint8 RGB; ``None`` where nobody does.
    """

    index: int
    time: float
    due: tuple[Any, ...]
    image: np.ndarray | None


class Film:
    """Iterates over the frames of a medium; a bounded number of them is decoded ahead.

    Args:
        media: what is decoded.
        tickers: when a frame is due, for each who wants to see some.
        clock: where the seconds of decoding are added.

    Raises:
        MediaError: in its turn, where the medium breaks.
    """

    def __init__(self, media: Media, tickers: Mapping[Any, Ticker], clock: Clock) -> None:
        height, width = media.size or (1, 1)
        self._most = min(AHEAD_FRAMES, max(2, AHEAD_BYTES // (3 * height * width)))
        self._frames = read_frames(media)
        self._tickers = tickers
        self._clock = clock
        self._pool = ThreadPoolExecutor(1, "affectkit-film")
        self._ahead: deque[Future[Look]] = deque()

    def __iter__(self) -> Film:
        return self

    def __next__(self) -> Look:
        while len(self._ahead) < self._most:
            self._ahead.append(self._pool.submit(self._decode))
        return self._ahead.popleft().result()

    def close(self) -> None:
        """Ends decoding and closes the medium."""
        for waiting in self._ahead:
            waiting.cancel()
        self._pool.submit(self._frames.close).result()
        self._pool.shutdown()

    def _decode(self) -> Look:
        with self._clock("decode"):
            frame = next(self._frames)
            due = tuple(who for who, ticker in self._tickers.items() if ticker.due(frame.time))
            return Look(frame.index, frame.time, due, frame.rgb() if due else None)
