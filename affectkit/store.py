"""The run folder: tables of results, one part per medium, and ``run.json``.

    OUT/
      run.json                    recipe, versions, weights, device, timings, and what each medium had
      basic8.parquet/PART.parquet     one table per label set, a part per medium (pandas opens the folder as one table)
      compound7.parquet/PART.parquet
      quality.parquet/PART.parquet    media, track, start, end, source, name, value
      notes.parquet/PART.parquet      what a component wants a person to see, where any does
      frames.parquet/PART.parquet     media, frame, time: every frame that was decoded
      subjects.parquet/PART.parquet   media, track, start, end, presence, x, y, width, height: who is seen where in the picture
      embeddings.parquet/PART.parquet on request
      failures.parquet            what went wrong, and where
      media/PART.json             written last: the medium is finished

Every file is written under a temporary name and renamed, so that a run that is killed leaves no half-written part, and
the next run of the same recipe goes on after what is finished.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affectkit import __version__
from affectkit.errors import StoreError, UsageError
from affectkit.files import replacing
from affectkit.labels import LabelSet
from affectkit.tables import FORMAT, KEYS, part_name, read_info, read_records

if TYPE_CHECKING:
    import pyarrow as pa

    from affectkit.clips import Subject
    from affectkit.media import Media
    from affectkit.timeline import Timeline

OTHER_TABLES = ("quality", "notes", "embeddings", "frames", "subjects", "failures")  # beside those of label sets
FAILURE_COLUMNS = ("media", "path", "stage", "component", "at", "error", "message")


@dataclass(frozen=True)
class Failure:
    """One thing that went wrong in a run.

    Attributes:
        media: id of the medium, or an empty text where the file could not be opened.
        path: the file.
        stage: ``"open"``, ``"video"``, ``"sound"``, ``"read"``, ``"provide"``, ``"preprocess"``, ``"predict"``, ``"fuse"`` (heads
            too) or ``"observer"``.
        component: component id, or an empty text.
        at: seconds at which it happened, or ``None``.
        error: class of the error.
        message: what happened and what to do.
    """

    media: str
    path: str
    stage: str
    component: str
    at: float | None
    error: str
    message: str


@dataclass
class Part:
    """All results of one medium, ready to be written.

    Attributes:
        media: the medium.
        timelines: one per source, label set and subject.
        embeddings: rows of (track, start, end, source, name, vector).
        notes: rows of (track, start, end, source, note).
        record: what ``run.json`` says of the medium: evidence by source, timings, streams decoded.
        failures: what went wrong in it.
        frame_times: seconds of its frames by their numbers; empty where no picture was decoded.
        subjects: rows of (start, end, subject) for every window and who is analysed in it.
    """

    media: Media
    timelines: Sequence[Timeline]
    embeddings: Sequence[tuple[int, float, float, str, str, Any]] = ()
    notes: Sequence[tuple[int, float, float, str, Mapping[str, Any]]] = ()
    record: Mapping[str, Any] = field(default_factory=dict)
    failures: Sequence[Failure] = ()
    frame_times: Mapping[int, float] = field(default_factory=dict)
    subjects: Sequence[tuple[float, float, Subject]] = ()


def stamp(path: Path) -> list[int]:
    """Size and time of change of a file, or of a folder of frames, by which a resumed run sees that it is the same."""
    try:
        stat = path.stat()
        if path.is_dir():
            files = [entry.stat() for entry in os.scandir(path) if entry.is_file()]
            return [sum(f.st_size for f in files), max((f.st_mtime_ns for f in files), default=0), len(files)]
    except OSError:
        return []
    return [stat.st_size, stat.st_mtime_ns]


class Run:
    """A run folder that is being written.

    Args:
        path: the folder; made where it is absent.
        settings: what the results depend on, as plain data: the resolved recipe, the precision, how files are read.
        digest: digest of the settings; a folder that holds a run of other settings is refused.
        resume: go on with what the folder holds; ``False`` removes the results of an earlier run first.
        embeddings: whether embeddings are wanted as well.
        files: files other than a medium itself that its results depend on; where one changes, the medium is not finished.
        stamp: gives what a file or folder of frames is known by, as :func:`stamp` does.
    """

    def __init__(
        self,
        path: Path,
        settings: Mapping[str, Any],
        digest: str,
        *,
        resume: bool = True,
        embeddings: bool = False,
        files: Callable[[Media], Sequence[Path]] = lambda media: (),
        stamp: Callable[[Path], list[int]] = stamp,
    ) -> None:
        self.path = Path(path)
        self.embeddings = embeddings
        self.info: dict[str, Any] = {"format": FORMAT, "affectkit": __version__, **settings, "digest": digest}
        self._settings = dict(settings)
        self.failures: list[Failure] = []
        self.records: dict[str, dict[str, Any]] = {}
        self._resume = resume
        self._files = files
        self._stamp = stamp

    def check(self) -> None:
        """Refuses a folder that this run cannot be written to; changes nothing.

        Raises:
            UsageError: if the path is a file, or the folder holds something else or a run of another recipe.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"{self.path} is a file; give a folder with --out")
        if not self.path.is_dir() or all(entry.name.startswith(".") for entry in self.path.iterdir()):
            return
        if not (self.path / "run.json").is_file():
            raise UsageError(f"{self.path} is not empty and holds no run of affectkit; give an empty or new folder with --out")
        if not self._resume:
            return
        old, digest = read_info(self.path), self.info["digest"]
        if old.get("digest") != digest:
            before = {key: old.get(key) for key in self._settings}
            changed = ", ".join(_differences(before, self._settings)) or "the version of affectkit"
            raise UsageError(
                f"{self.path} holds a run of another recipe (different: {changed}); "
                "give another folder with --out, or --no-resume to throw its results away and start again"
            )

    def begin(self) -> None:
        """Makes the folder, or takes over what is finished in it; without ``resume`` an earlier run is removed first.

        Raises:
            UsageError: as :meth:`check`.
            StoreError: if it cannot be written.
        """
        self.check()
        with self._writing():
            if not self._resume and self.path.is_dir():
                for name in self.path.iterdir():
                    if name.name in ("media", "run.json") or name.suffix == ".parquet":
                        shutil.rmtree(name) if name.is_dir() else name.unlink()
            self.path.mkdir(parents=True, exist_ok=True)
            if not (self.path / "run.json").exists():  # first of all, so that a run that is killed now can be gone on with
                _write_json(self.path / "run.json", self.info)
            (self.path / "media").mkdir(exist_ok=True)
        self.records = {record["id"]: record for record in read_records(self.path)}

    @property
    def known_ids(self) -> dict[Path, str]:
        """Ids that media of earlier runs in this folder have and keep, by resolved path; read before the folder is touched."""
        return {Path(record["path"]): record["id"] for record in (read_records(self.path) if self._resume else ())}

    def finished(self, media: Media) -> bool:
        """Whether the part of a medium is written with all that is wanted, and its files are still the same."""
        record = self.records.get(media.id)
        if record is None or (self.embeddings and not record["embeddings"]):
            return False
        return record["path"] == str(media.path.resolve()) and record["stamp"] == self._stamps(media)

    def write(self, part: Part) -> None:
        """Writes the part of a medium; it is finished when this returns.

        Raises:
            StoreError: if the disk is full or the folder cannot be written; nothing of the part counts then.
        """
        name = part_name(part.media.id)
        by_labels: dict[LabelSet, list[Timeline]] = {}
        for timeline in part.timelines:
            by_labels.setdefault(timeline.labels, []).append(timeline)
        tables = {labels.name: _values_table(labels, timelines) for labels, timelines in by_labels.items()}
        tables["quality"] = _quality_table(part.timelines)
        tables["notes"] = _notes_table(part)
        tables["embeddings"] = _embeddings_table(part)
        tables["frames"] = _frames_table(part)
        tables["subjects"] = _subjects_table(part)
        record = {
            "id": part.media.id,
            "path": str(part.media.path.resolve()),
            "stamp": self._stamps(part.media),
            "embeddings": self.embeddings,
            **part.record,
            "tables": {kind: table.num_rows for kind, table in tables.items() if table.num_rows},
            "failures": [vars(failure) for failure in part.failures],
        }
        with self._writing():
            import pyarrow.parquet as pq

            (self.path / "media").mkdir(parents=True, exist_ok=True)
            self.records.pop(part.media.id, None)
            (self.path / "media" / f"{name}.json").unlink(missing_ok=True)  # what an earlier file of this name gave counts no more
            for old in self.path.glob(f"*.parquet/{name}.parquet"):
                old.unlink()
            for kind, table in tables.items():
                if table.num_rows:
                    folder = self.path / f"{kind}.parquet"
                    folder.mkdir(exist_ok=True)
                    with replacing(folder / f"{name}.parquet") as temporary:
                        pq.write_table(table, temporary)
            _write_json(self.path / "media" / f"{name}.json", record)
        self.records[part.media.id] = record

    def save(self, **info: Any) -> None:
        """Writes ``run.json`` and ``failures.parquet`` as they stand."""
        self.info.update(info)
        failures = self.all_failures()
        with self._writing():
            _write_json(
                self.path / "run.json",
                {**self.info, "media": {k: public_record(v) for k, v in sorted(self.records.items())}, "failures": len(failures)},
            )
            _write_failures(self.path / "failures.parquet", failures)

    def all_failures(self) -> list[Failure]:
        """What went wrong in this run and in the finished media of earlier ones."""
        return [*(Failure(**f) for record in self.records.values() for f in record["failures"]), *self.failures]

    def _stamps(self, media: Media) -> list[list[int]]:
        return [self._stamp(path) for path in (media.path, media.sound, *self._files(media)) if path is not None]

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = error.filename or self.path
            raise StoreError(
                f"cannot write {where}: {error.strerror or error}; what was finished before is kept: "
                "make room or choose another disk, and give the same command again"
            ) from error


def public_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """What ``run.json`` says of a medium, of what the record of its part holds."""
    return {k: v for k, v in record.items() if k not in ("id", "stamp", "embeddings", "tables", "failures")} | {
        "failures": len(record["failures"])
    }


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterable[str]:
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            yield from _differences(a, b, f"{prefix}{key}.")
        elif a != b:
            yield f"{prefix}{key}"


def _values_table(labels: LabelSet, timelines: Sequence[Timeline]) -> pa.Table:
    import numpy as np
    import pyarrow as pa

    lengths = [len(t.start) for t in timelines]
    values = np.concatenate([t.values for t in timelines])
    columns = {
        "media": pa.array(np.repeat([t.media_id for t in timelines], lengths), pa.string()),
        "track": pa.array(np.repeat([t.track for t in timelines], lengths), pa.int32()),
        "start": pa.array(np.concatenate([t.start for t in timelines]), pa.float64()),
        "end": pa.array(np.concatenate([t.end for t in timelines]), pa.float64()),
        "source": pa.array(np.repeat([t.source for t in timelines], lengths), pa.string()),
        "valid": pa.array(np.concatenate([t.valid for t in timelines]), pa.bool_()),
    }
    columns |= {f"p_{label}": pa.array(np.ascontiguousarray(values[:, c]), pa.float32()) for c, label in enumerate(labels.labels)}
    return pa.table(columns)


def _quality_table(timelines: Sequence[Timeline]) -> pa.Table:
    rows = {
        (t.media_id, t.track, float(t.start[i]), float(t.end[i]), t.source, name): float(values[i])
        for t in timelines
        for name, values in t.quality.items()
        for i in range(len(t.start))
        if t.valid[i]
    }
    return _long_table([(*key, value) for key, value in rows.items()], "name", "value")


def _notes_table(part: Part) -> pa.Table:
    rows = [(part.media.id, *row[:4], "note", json.dumps(row[4], default=str)) for row in part.notes]
    return _long_table(rows, "name", "value")


def _embeddings_table(part: Part) -> pa.Table:
    return _long_table([(part.media.id, *row) for row in part.embeddings], "name", "vector")


def _frames_table(part: Part) -> pa.Table:
    import pyarrow as pa

    numbers, times = pa.array(part.frame_times.keys(), pa.int32()), pa.array(part.frame_times.values(), pa.float64())
    return pa.table({"media": pa.array([part.media.id] * len(numbers), pa.string()), "frame": numbers, "time": times})


def _subjects_table(part: Part) -> pa.Table:
    import numpy as np
    import pyarrow as pa

    height, width = part.media.size or (1, 1)
    boxes = np.array([subject.box for _, _, subject in part.subjects], dtype=np.float64).reshape(-1, 4) / [width, height, width, height]
    return pa.table(
        {
            "media": pa.array([part.media.id] * len(boxes), pa.string()),
            "track": pa.array([subject.track for _, _, subject in part.subjects], pa.int32()),
            "start": pa.array([start for start, _, _ in part.subjects], pa.float64()),
            "end": pa.array([end for _, end, _ in part.subjects], pa.float64()),
            "presence": pa.array([subject.presence for _, _, subject in part.subjects], pa.float32()),
            "x": pa.array((boxes[:, 0] + boxes[:, 2]) / 2, pa.float32()),
            "y": pa.array((boxes[:, 1] + boxes[:, 3]) / 2, pa.float32()),
            "width": pa.array(boxes[:, 2] - boxes[:, 0], pa.float32()),
            "height": pa.array(boxes[:, 3] - boxes[:, 1], pa.float32()),
        }
    )


def _long_table(rows: Sequence[Sequence[Any]], *columns: str) -> pa.Table:
    import pyarrow as pa

    names = (*KEYS, *columns)
    types = {"track": pa.int32(), "vector": pa.list_(pa.float32())}  # the others are as the rows have them
    return pa.table({name: pa.array([row[i] for row in rows], types.get(name)) for i, name in enumerate(names)})


def _write_failures(path: Path, failures: Sequence[Failure]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.float64() if name == "at" else pa.string()) for name in FAILURE_COLUMNS])
    with replacing(path) as temporary:
        pq.write_table(pa.table({name: [getattr(f, name) for f in failures] for name in FAILURE_COLUMNS}, schema=schema), temporary)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
