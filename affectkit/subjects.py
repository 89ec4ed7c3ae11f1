"""Which rows of a medium speak of the person that a list means: the one most present, or the one on the left or on the right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from affectkit.challenges import Asked
from affectkit.errors import UsageError
from affectkit.references import Named, Side, match
from affectkit.timeline import Timeline

if TYPE_CHECKING:
    import pandas as pd

MIDDLE = 0.5  # of the picture's width


@dataclass(frozen=True)
class Video:
    """One video of a list.

    Attributes:
        name: as the list calls it.
        media: id of the medium, ``None`` where the run has none.
        side: which person of the picture; empty for the one most present.
        lines: positions of its lines in the list, from 0.
    """

    name: str
    media: str | None
    side: Side
    lines: np.ndarray


def find(asked: Asked, records: Mapping[str, Mapping[str, Any]]) -> list[Video]:
    """The medium and the person that each video of a list means (:func:`affectkit.references.match`), in the order of the list.

    Where a film and its sound have one name, the list means the film.

    Args:
        asked: the lines.
        records: what ``run.json`` says of the media, by id.

    Raises:
        UsageError: for names that several media have.
    """
    lines: dict[str, list[int]] = {}
    for line, name in enumerate(asked.videos):
        lines.setdefault(name, []).append(line)
    films = {id: str(record["path"]) for id, record in records.items() if record["kind"] in ("video", "frames")}
    found = match(lines, films)
    found |= match(set(lines) - set(found), {id: str(record["path"]) for id, record in records.items() if id not in films})
    nothing = Named("")
    return [
        Video(name, found.get(name, nothing).media or None, found.get(name, nothing).side, np.array(mine)) for name, mine in lines.items()
    ]


def of_subject(timelines: Sequence[Timeline], seen: pd.DataFrame, side: Side = "") -> Timeline:
    """What one source says about one person, a row per window in which it says something about that person.

    In a window with several subjects, ``"left"`` is the one whose face is furthest to the left and ``"right"`` the one furthest
    to the right; a single subject is on the side of the half of the picture that it is in. An empty side is the subject that is
    most present in each window. Rows without a subject (sound, words, a window in which nobody is seen) hold for everybody.

    Args:
        timelines: those of one medium, source and label set; at least one.
        seen: rows of :func:`affectkit.tables.read_subjects` of this medium; those of one window stand most present first.
        side: whose rows are wanted.

    Returns:
        One timeline in time order, with track -1.

    Raises:
        UsageError: where the run does not say where the subjects of a window are.
    """
    first = timelines[0]
    rows: dict[tuple[float, float], dict[int, tuple[int, int]]] = {}  # window to track to (timeline, row)
    for number, timeline in enumerate(timelines):
        for row in range(len(timeline)):
            rows.setdefault((float(timeline.start[row]), float(timeline.end[row])), {})[timeline.track] = (number, row)
    places: dict[tuple[float, float], dict[int, float]] = {}  # window to track to x, most present first
    for start, end, track, x in zip(seen["start"], seen["end"], seen["track"], seen["x"], strict=True):
        places.setdefault((float(start), float(end)), {})[int(track)] = float(x)
    chosen = []
    for window in sorted(rows):
        here = rows[window]
        tracks = [track for track in here if track >= 0]
        if not tracks:
            chosen.append(here[-1])
            continue
        if not side and len(tracks) == 1:
            chosen.append(here[tracks[0]])
            continue
        placed = {track: x for track, x in places.get(window, {}).items() if track in here}
        if len(placed) < len(tracks):
            raise UsageError(
                f"the run does not say where the subjects of {first.media_id} are in the window from {window[0]:g} to {window[1]:g} s, "
                "so nobody can be chosen; run again with this version of affectkit and --no-resume"
            )
        track = next(iter(placed)) if not side else _on_side(placed, side)
        if track is not None:
            chosen.append(here[track])
    if not chosen:
        blank = np.empty((0, len(first.labels)))
        return Timeline(first.media_id, -1, first.source, first.labels, np.empty(0), np.empty(0), blank, np.empty(0, dtype=bool))
    return Timeline(
        first.media_id,
        -1,
        first.source,
        first.labels,
        np.array([timelines[n].start[row] for n, row in chosen]),
        np.array([timelines[n].end[row] for n, row in chosen]),
        np.stack([timelines[n].values[row] for n, row in chosen]),
        np.array([timelines[n].valid[row] for n, row in chosen], dtype=bool),
    )


def _on_side(placed: dict[int, float], side: Side) -> int | None:
    """The subject on one side of the picture, by the x of each as a share of its width; ``None`` where nobody is there."""
    if len(placed) == 1:
        ((track, x),) = placed.items()
        return track if (x < MIDDLE) == (side == "left") else None
    return (min if side == "left" else max)(placed, key=lambda track: placed[track])
