"""Prediction files of others as run folders, so that fusions, evaluation and submissions work on them. Times are seconds.

:mod:`affectkit.prediction_files` says which files are read, and how.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from affectkit.contract import is_id
from affectkit.errors import AffectKitError, UsageError, raise_all
from affectkit.labels import LabelSet
from affectkit.media import Media
from affectkit.prediction_files import Reading, Row, read_predictions
from affectkit.store import Part, Run
from affectkit.timeline import Timeline


@dataclass(frozen=True)
class Imported:
    """What was read and written.

    Attributes:
        path: the run folder.
        media: how many media.
        rows: rows by source.
        label_sets: names of the label sets by source.
    """

    path: Path
    media: int
    rows: Mapping[str, int]
    label_sets: Mapping[str, tuple[str, ...]]


def import_predictions(files: Sequence[str], out: Path, reading: Reading | None = None) -> Imported:
    """Writes a run folder of what files of others say.

    Args:
        files: paths, or ``NAME=path`` to name the source; several may be of one source, for instance one per video. A name without a slash
            becomes ``given/NAME``; one may be the id of a component (``ras/audio``).
        out: the run folder; new or empty. Nothing is written where something is wrong.
        reading: how they are read.

    Raises:
        UsageError: for files that are absent, damaged or of another form, several problems together; where the folder holds something.
        StoreError: where the folder cannot be written.
    """
    reading = reading or Reading()
    said: dict[str, dict[str, list[Row]]] = {}
    problems: list[AffectKitError] = []
    if out.is_dir() and any(out.iterdir()):
        problems.append(UsageError(f"{out} is not empty; give a new folder with --out"))
    given = [_named(text) for text in files]
    for named, path in given:
        try:
            for source, row in read_predictions(path, named, reading):
                said.setdefault(source if "/" in source else f"given/{source}", {}).setdefault(row.media, []).append(row)
        except AffectKitError as problem:
            problems.append(problem)
    raise_all(problems)
    if not said:
        raise UsageError("there is nothing to import; give at least one file")
    settings: dict[str, Any] = {
        "recipe": {"modalities": list(said), "subjects": "main", "fusion": None, "head": None, "outside": "other"},
        "imported": [{"file": path.name, "source": named, "sha256": sha256(path.read_bytes()).hexdigest()} for named, path in given],
        "read_as": {
            "fps": reading.fps,
            "length": reading.length,
            "step": reading.step,
            "logits": reading.logits,
            "labels": None if reading.labels is None else reading.labels.name,
        },
    }
    digest = sha256(repr((settings["imported"], settings["read_as"])).encode()).hexdigest()
    parts = [
        _part(media, {source: rows[media] for source, rows in said.items() if media in rows}, given[0][1], reading)
        for media in sorted({media for rows in said.values() for media in rows})
    ]
    run = Run(out, settings, digest, embeddings=True)
    run.begin()
    sets: dict[str, LabelSet] = {}
    for part in parts:
        sets |= {timeline.labels.name: timeline.labels for timeline in part.timelines}
        run.write(part)
    run.save(label_sets={name: told(labels) for name, labels in sorted(sets.items())})
    rows = {source: sum(len(mine) for mine in by_media.values()) for source, by_media in said.items()}
    spoken = {source: tuple(dict.fromkeys(s.name for mine in m.values() for row in mine for s in row.values)) for source, m in said.items()}
    return Imported(out, len(run.records), rows, spoken)


def _named(text: str) -> tuple[str, Path]:
    """The name of the source, empty where none is given, and the path of ``NAME=path`` or ``path``.

    >>> _named("voice=x.csv")[0], _named("ras/audio=x.csv")[0], _named("/results/a=b.csv")[0]
    ('voice', 'ras/audio', '')
    """
    name, equals, rest = text.partition("=")
    named = equals and ("/" not in name or is_id(name)) and not Path(text).exists()
    return (name, Path(rest)) if named else ("", Path(text))


def told(labels: LabelSet) -> dict[str, Any]:
    """A label set as ``run.json`` has it."""
    return {"labels": labels.labels, "kind": labels.kind, "low": labels.low, "high": labels.high, "pairs": labels.pairs}


def _part(media: str, rows: Mapping[str, list[Row]], path: Path, reading: Reading) -> Part:
    """All that is said of a medium."""
    last = max(row.end for mine in rows.values() for row in mine)
    frames, fps = reading.media.get(media, (0, reading.fps))
    duration = frames / fps if frames and fps else last
    timelines, embeddings = [], []
    for source, mine in rows.items():
        mine = sorted(mine, key=lambda row: (row.start, row.end))
        spans = [(row.start, row.end) for row in mine]
        if doubled := next((span for one, span in pairwise(spans) if one == span), None):
            raise UsageError(
                f"{source} says two things of {media} from {doubled[0]:g} to {doubled[1]:g} s; are two files of the same windows given?"
            )
        start, end = np.array([s for s, _ in spans]), np.array([min(e, duration) if frames else e for _, e in spans])
        for labels in dict.fromkeys(labels for row in mine for labels in row.values):
            values = np.stack([row.values.get(labels, np.full(len(labels), np.nan)) for row in mine]).astype(np.float32)
            timelines.append(Timeline(media, -1, source, labels, start, end, values, np.asarray(np.isfinite(values).all(axis=1))))
        embeddings += [(-1, start[i], end[i], source, "features", row.features) for i, row in enumerate(mine) if row.features is not None]
    kind: Literal["video", "audio"] = "video" if fps else "audio"
    record = {
        "kind": kind,
        "start": 0.0,
        "duration": duration,
        "fps": fps,
        "size": None,
        "windows": len(timelines[0].start),
    }
    medium = Media(media, path, kind, duration=duration, fps=fps)
    return Part(medium, timelines, embeddings, record={"path": str(path), **record})
