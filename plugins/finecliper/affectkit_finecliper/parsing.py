"""``finecliper/parsing``: the regions of a face, drawn from its landmarks; it needs no network of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from affectkit.api import Clip, Evidence, Input, Needs, Provider
from affectkit.components import Scope
from affectkit_finecliper import drawing

KIND = "parsing"


class Parsing(Provider):
    """Skin, brows, eyes, nose, lips and the inside of the mouth, as areas within the contours of landmarks.

    ``maps`` (T, S, S, 3) uint8 in the colours of :data:`affectkit_finecliper.mesh.PALETTE`; ``labels`` (T, S, S) uint8, places in
    :data:`affectkit_finecliper.mesh.REGIONS`; ``valid`` (T,) bool. The mesh ends at the hairline and before the ears: hair, ears and neck are background, and what lies over a face (hands, glasses, hair) is not seen. A
    crop without a face has the map of the nearest with one.
    """

    name = "parsing"
    kind: ClassVar[str] = KIND
    scope: ClassVar[Scope] = "face"
    needs = Needs(inputs=(Input("landmarks"),))

    def provide(self, clips: Sequence[Clip]) -> list[Evidence]:
        """The regions in the crops of each clip."""
        return [_clip(clip.inputs["landmarks"]) for clip in clips]

    @staticmethod
    def examples() -> list[Clip]:
        """Drawn faces of several sizes, for checks."""
        from affectkit.api import Span
        from affectkit.testing.examples import media
        from affectkit_finecliper.tiny_landmarker import face

        clips = []
        for number, (size, count) in enumerate(((64, 4), (120, 1), (97, 3))):
            points = np.stack([(face() + 2 * step) * size / 256 for step in range(count)])
            data = {"maps": np.zeros((count, size, size, 3), np.uint8), "points": points, "valid": np.ones(count, bool)}
            marks = Evidence("landmarks", data, times=np.arange(count) / 4)
            clips.append(Clip(media(number), Span(0.0, 1.0), number, inputs={"landmarks": marks}))
        return clips


def _clip(marks: Evidence) -> Evidence:
    if not marks.valid:
        return Evidence.none(KIND, marks.reason)
    labels = np.stack([drawing.region_labels(points, marks.data["maps"].shape[1]) for points in marks.data["points"]])
    data = {"maps": drawing.coloured(labels), "labels": labels, "valid": marks.data["valid"]}
    return Evidence(KIND, data, times=marks.times, quality={"found": float(np.mean(marks.data["valid"]))})
