"""Which pictures of a clip the network sees: views of T pictures each, in their order."""

from __future__ import annotations

import numpy as np

from affectkit.clip_sampling import spread


def views(count: int, frames: int, stride: int, repeat: str | None = None) -> np.ndarray:
    """Positions of the pictures of each view, (V, T) int64.

    Pictures that are ``stride`` native frames apart are cut into consecutive views that share none, and what is left over at the end is not seen (IFDD's test
    rule). Where there are fewer than T, and where they are spread over the clip, there is one view over all of them.

    Args:
        count: pictures there are, at least one.
        frames: T.
        stride: 0 for pictures that are spread over the clip.
        repeat: which pictures are repeated where there are fewer than T: ``None`` repeats evenly, ``"first"`` or ``"last"`` those at one end, as the
            published code does.

    >>> views(7, 3, 1)
    array([[0, 1, 2],
           [3, 4, 5]])
    >>> views(7, 3, 0), views(3, 4, 1), views(3, 4, 1, "first"), views(3, 4, 1, "last")
    (array([[1, 3, 5]]), array([[0, 1, 1, 2]]), array([[0, 0, 1, 2]]), array([[0, 1, 2, 2]]))
    """
    if count < frames and repeat is not None:
        times, more = divmod(frames, count)
        place = np.arange(count)
        often = times + ((place < more) if repeat == "first" else (place >= count - more))
        return np.repeat(place, often)[None]
    if stride == 0 or count < frames:
        return spread(count, frames)[None]
    whole = count // frames
    return np.arange(whole * frames, dtype=np.int64).reshape(whole, frames)
