"""A clip that anyone can make: the public-domain portrait that matplotlib ships, filmed by a slow camera, with subtitles.

The portrait is Grace Hopper's, by James S. Davis, United States Navy, 1984. The clip has no sound, so the demo also shows
how a run speaks of a modality that has no evidence.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

SECONDS = 6.0
FPS = 25
SIZE = (480, 384)  # height, width of the clip in pixels, even as the codec wants them
ZOOM = 0.55  # share of the portrait's height that is still seen at the end

WORDS = (
    (0.3, 2.8, "If it's a good idea, go ahead and do it."),
    (3.0, 5.8, "It's much easier to apologize than it is to get permission."),
)
DESCRIPTION = (
    "A woman in navy uniform with glasses looks straight into the camera in front of a flag. Her lips are closed in a slight, "
    "confident smile and her posture is upright and calm."
)


def render(folder: Path) -> Path:
    """Writes the clip, ``demo.mp4``, with ``demo.srt`` and ``demo.descriptions.csv`` beside it.

    Args:
        folder: where to write; made where it is absent.

    Returns:
        The clip: 6 s at 25 frames per second, 480 x 384 pixels, no sound.
    """
    import av
    import cv2
    from matplotlib.cbook import get_sample_data

    from affectkit.pictures import read_picture

    portrait = read_picture(Path(str(get_sample_data("grace_hopper.jpg", asfileobj=False))))
    folder.mkdir(parents=True, exist_ok=True)
    clip = folder / "demo.mp4"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(FPS))
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        stream.bit_rate = 2_000_000
        frames = round(SECONDS * FPS)
        for index in range(frames):
            view = _view(portrait, index / (frames - 1))
            picture = np.asarray(cv2.resize(view, SIZE[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    cues = "\n".join(f"{i}\n{_stamp(start)} --> {_stamp(end)}\n{text}\n" for i, (start, end, text) in enumerate(WORDS, 1))
    clip.with_suffix(".srt").write_text(cues, encoding="utf-8")
    clip.with_suffix(".descriptions.csv").write_text(f'media,text\ndemo,"{DESCRIPTION}"\n', encoding="utf-8")
    return clip


def _view(portrait: np.ndarray, progress: float) -> np.ndarray:
    """The part of the portrait (H, W, 3) that the camera sees at ``progress`` in [0, 1]: it closes in on the face."""
    height, width = portrait.shape[:2]
    share = 1.0 - (1.0 - ZOOM) * progress
    seen_height = int(height * share)
    seen_width = min(width, int(seen_height * SIZE[1] / SIZE[0]))
    top = int((height - seen_height) * 0.12 * progress)
    left = int((width - seen_width) * 0.5)
    return portrait[top : top + seen_height, left : left + seen_width]


def _stamp(seconds: float) -> str:
    """A time as SubRip writes it.

    >>> _stamp(3.25)
    '00:00:03,250'
    """
    millis = round(seconds * 1000)
    return f"{millis // 3600000:02}:{millis // 60000 % 60:02}:{millis // 1000 % 60:02},{millis % 1000:03}"
