"""Reading a run folder: its tables as DataFrames and timelines, the times of its frames, and who is seen where.

Only the parts of finished media are read. Times are seconds of presentation time.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affectkit.errors import UsageError, did_you_mean
from affectkit.labels import LabelSet

if TYPE_CHECKING:
    import pandas as pd

    from affectkit.timeline import Timeline

FORMAT = "affectkit-run/1"
KEYS = ("media", "track", "start", "end", "source")
SUBJECT_COLUMNS = ("media", "track", "start", "end", "presence", "x", "y", "width", "height")


@dataclass(frozen=True, eq=False)
class FrameTimes:
    """When the frames of one medium are shown.

    Attributes:
        number: (T,) int64 rising, counted from 1; in a folder of numbered frames the numbers of the file names.
        time: (T,) float64 seconds.
        exact: whether they were read from the medium; ``False`` where no picture was decoded and they follow from its rate.
    """

    number: np.ndarray
    time: np.ndarray
    exact: bool


def read_run(path: str | Path, labels: str | None = None) -> pd.DataFrame:
    """All results of a run as one table.

    Args:
        path: the run folder.
        labels: name of a label set, to read only its table.

    Returns:
        A DataFrame with ``media, track, start, end, source, valid`` and ``p_<label>`` columns; start and end in seconds.
        Without ``labels`` also a column ``labels`` that names the label set, and NaN in the columns that a set does not have.

    Raises:
        UsageError: if the folder holds no run or no such label set.
    """
    import pandas as pd

    sets = read_info(path).get("label_sets", {})
    if labels is not None and labels not in sets:
        raise UsageError(f"the run {path} has no label set {labels!r}. {did_you_mean(labels, sets)}")
    tables = []
    for name in [labels] if labels is not None else sets:
        table = _read_parts(Path(path), name, (*KEYS, "valid", *(f"p_{label}" for label in sets[name]["labels"])))
        if labels is None:
            table.insert(5, "labels", name)
        tables.append(table)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=[*KEYS, "labels", "valid"])


def read_timelines(path: str | Path, labels: str | None = None, source: str | None = None) -> list[Timeline]:
    """The results of a run as one timeline per medium, subject, source and label set.

    Args:
        path: the run folder.
        labels: name of a label set, to read only its timelines.
        source: component id, to read only what it says.

    Raises:
        UsageError: if the folder holds no run, no such label set or no such source.
    """
    from affectkit.timeline import Timeline

    info = read_info(path)
    names = [labels] if labels is not None else list(info.get("label_sets", {}))
    found = [t for name in names for t in Timeline.from_frame(read_run(path, name), read_label_set(info, name))]
    if source is None:
        return found
    chosen = [t for t in found if t.source == source]
    if found and not chosen:
        raise UsageError(f"the run {path} has nothing of the source {source!r}. {did_you_mean(source, {t.source for t in found})}")
    return chosen


def read_frames(path: str | Path) -> dict[str, FrameTimes]:
    """When the frames of each finished medium are shown, by media id.

    Args:
        path: the run folder.

    Raises:
        UsageError: if the folder holds no run.
    """
    read_info(path)
    table = _read_parts(Path(path), "frames", ("media", "frame", "time"))
    seen = {str(media): rows for media, rows in table.groupby("media", sort=False)}
    return {
        record["id"]: FrameTimes(rows["frame"].to_numpy(np.int64), rows["time"].to_numpy(np.float64), True)
        if (rows := seen.get(record["id"])) is not None
        else _computed(record)
        for record in read_records(Path(path))
    }


def read_subjects(path: str | Path) -> pd.DataFrame:
    """Who is seen where in the picture: one row per window and analysed subject.

    Args:
        path: the run folder.

    Returns:
        A DataFrame with ``media``, ``track``, ``start`` and ``end`` in seconds, ``presence`` (sum of the detection scores over the
        number of sampled frames), and the mean box: its centre ``x``, ``y`` and its ``width`` and ``height`` as shares of the picture's width and height.

    Raises:
        UsageError: if the folder holds no run.
    """
    read_info(path)
    return _read_parts(Path(path), "subjects", SUBJECT_COLUMNS)


def read_quality(path: str | Path) -> pd.DataFrame:
    """How good the evidence was: one row per window, subject and source, and a column per figure.

    Args:
        path: the run folder.

    Returns:
        A DataFrame with ``media``, ``track``, ``start`` and ``end`` in seconds, ``source``, and a column for each figure that any component
        of the run gives, for instance ``side`` in pixels or ``words``; NaN where a source does not give it.

    Raises:
        UsageError: if the folder holds no run.
    """
    read_info(path)
    long = _read_parts(Path(path), "quality", (*KEYS, "name", "value"))
    wide = long.pivot(index=list(KEYS), columns="name", values="value").reset_index()
    return wide.rename_axis(columns=None)


def read_info(path: str | Path) -> dict[str, Any]:
    """What ``run.json`` of a run folder says.

    Args:
        path: the run folder.

    Raises:
        UsageError: if the folder holds no run that this version can read.
    """
    file = Path(path) / "run.json"
    try:
        info = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"{path} holds no run: there is no {file}; give the folder that affectkit run --out wrote") from None
    except ValueError as error:
        raise UsageError(f"{file} is damaged ({error}); run again with --no-resume, or give another folder") from error
    if info.get("format") != FORMAT:
        raise UsageError(
            f"{file} has the format {info.get('format')!r}, this version reads {FORMAT!r}; read it with the version that wrote it"
        )
    return info


def read_label_set(info: Mapping[str, Any], name: str) -> LabelSet:
    """The label set of a run by its name.

    Args:
        info: what :func:`read_info` gives.
        name: its name.

    Raises:
        UsageError: where the run has no such label set.
    """
    sets = info.get("label_sets", {})
    if name not in sets:
        raise UsageError(f"the run has no label set {name!r}. {did_you_mean(name, sets)}")
    return LabelSet(name, **sets[name])


def read_records(path: Path) -> list[dict[str, Any]]:
    """What the records ``media/PART.json`` of a run folder say, in the order of their names; one per finished medium."""
    return [
        json.loads(file.read_text(encoding="utf-8")) for file in sorted((path / "media").glob("*.json")) if not file.name.startswith(".")
    ]


def part_name(media_id: str) -> str:
    """File name of a medium's part: its id in safe characters, and a digest that keeps different ids apart.

    >>> part_name("day 1/talk")
    'day_1_talk-47b5c35a'
    """
    digest = hashlib.sha256(media_id.encode()).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9.-]', '_', media_id).strip('.')[:80]}-{digest}"


def _read_parts(folder: Path, name: str, columns: tuple[str, ...]) -> pd.DataFrame:
    """One table of the finished media of a run; an empty one with these columns where there is none."""
    import pandas as pd
    import pyarrow.parquet as pq

    parts = [folder / f"{name}.parquet" / f"{part_name(record['id'])}.parquet" for record in read_records(folder)]
    frames = [pq.ParquetFile(part).read().to_pandas() for part in parts if part.is_file()]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(columns))


def _computed(record: Mapping[str, Any]) -> FrameTimes:
    """The frames that a medium has by its duration and rate; none where it has no pictures."""
    rate = record.get("fps") or 0.0
    count = round((record.get("duration") or 0.0) * rate) if record.get("kind") in ("video", "frames") else 0
    return FrameTimes(np.arange(1, count + 1), record["start"] + np.arange(count) / (rate or 1.0), False)
