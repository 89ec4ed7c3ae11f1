"""Run folders whose every value a test decides, written by the store itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from affectkit.clips import Subject
from affectkit.labels import LabelSet
from affectkit.media import Media
from affectkit.store import Part, Run
from affectkit.timeline import Timeline

SIZE = (100, 200)  # height, width of every picture in pixels


@dataclass(frozen=True)
class Film:
    """A medium of a made-up run.

    Attributes:
        frames: how many frames it has; 0 for a sound file.
        said: rows of (source, label set, track, start, end, values); no values say that there is no evidence.
        fps: its frame rate.
        seen: rows of (track, start, end, x), x as a share of the width; those of one window stand most present first.
        numbers: numbers of its frames where it is a folder of frames.
        decoded: whether its pictures were decoded, so that the times of its frames are known.
        suffix: of its file.
    """

    frames: int
    said: Sequence[tuple[str, LabelSet, int, float, float, Sequence[float] | None]] = ()
    fps: float = 5.0
    seen: Sequence[tuple[int, float, float, float]] = ()
    numbers: Sequence[int] | None = None
    decoded: bool = True
    suffix: str = ".mp4"


def write_run(
    folder: Path, films: Mapping[str, Film], *, subjects: str = "main", fusion: str = "core/mean", head: str = "core/ppa"
) -> Path:
    """Writes a run folder of these films and gives its path."""
    run = Run(folder, {"recipe": {"subjects": subjects, "fusion": fusion, "head": head, "outside": "other"}}, digest="x" * 64)
    run.begin()
    sets: dict[str, Any] = {}
    for id, film in films.items():
        path = folder.parent / f"{id}{film.suffix}"
        path.write_bytes(id.encode())
        numbers = list(film.numbers) if film.numbers is not None else list(range(1, film.frames + 1))
        kind = "audio" if not numbers else "video" if film.numbers is None else "frames"
        length = (numbers[-1] if numbers else 10) / film.fps
        media = Media(id, path, kind, duration=length, fps=film.fps if numbers else None, size=SIZE if numbers else None)
        times = {number: (number - 1) / film.fps for number in numbers} if film.decoded else {}
        record = {"path": str(path), "kind": kind, "start": 0.0, "duration": length, "fps": media.fps, "size": list(SIZE)}
        people = [(start, end, Subject(track, 0.5, (x * 200 - 10, 40.0, x * 200 + 10, 60.0))) for track, start, end, x in film.seen]
        run.write(Part(media, list(_timelines(id, film)), record=record, frame_times=times, subjects=people))
        for _, labels, *_ in film.said:
            sets[labels.name] = {
                "labels": labels.labels,
                "kind": labels.kind,
                "low": labels.low,
                "high": labels.high,
                "pairs": labels.pairs,
            }
    run.save(label_sets=sets)
    return folder


def _timelines(id: str, film: Film) -> Sequence[Timeline]:
    rows: dict[tuple[str, LabelSet, int], list[tuple[float, float, Sequence[float] | None]]] = {}
    for source, labels, track, start, end, values in film.said:
        rows.setdefault((source, labels, track), []).append((start, end, values))
    return [
        Timeline(
            id,
            track,
            source,
            labels,
            np.array([start for start, _, _ in mine]),
            np.array([end for _, end, _ in mine]),
            np.array([[np.nan] * len(labels) if values is None else values for _, _, values in mine]),
            np.array([values is not None for _, _, values in mine]),
        )
        for (source, labels, track), mine in rows.items()
    ]


def one_hot(labels: LabelSet, label: str) -> list[float]:
    """A row that is sure of one label."""
    return [1.0 if other == label else 0.0 for other in labels.labels]
