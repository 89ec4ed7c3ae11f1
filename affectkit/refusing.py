"""Fusing again: other fusions and heads over what the sources of runs have said, without running anything else. Times are seconds."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affectkit.components import Fusion, Head
from affectkit.errors import ConfigError, UsageError, did_you_mean
from affectkit.importing import told
from affectkit.labels import LabelSet
from affectkit.media import Media, Span
from affectkit.priors import Corrected, Prior, divergence, toward
from affectkit.store import Part, Run
from affectkit.tables import part_name, read_frames, read_info, read_records, read_timelines
from affectkit.timeline import Timeline

if TYPE_CHECKING:
    from affectkit.plugins import Registry
    from affectkit.results import Column

Key = tuple[int, float, float]
"""Subject, start and end of a window."""


@dataclass(frozen=True)
class Fused:
    """What was fused and written.

    Attributes:
        path: the run folder.
        sources: the sources that were fused.
        media: how many media.
        prior: what the correction of priors did, where one was asked for.
        divergences: of the prior from the predicted shares, before and after it.
    """

    path: Path
    sources: tuple[str, ...]
    media: int
    prior: Corrected | None = None
    divergences: tuple[float, float] | None = None


@dataclass
class _Said:
    """What the sources of several runs say of one medium."""

    record: Mapping[str, Any]
    run: Path
    timelines: list[Timeline] = field(default_factory=list)
    embeddings: list[tuple[int, float, float, str, str, np.ndarray]] = field(default_factory=list)


def fuse_again(
    runs: Sequence[Path],
    out: Path,
    registry: Registry,
    *,
    fusion: str | None = "core/mean",
    head: str | None = "core/ppa",
    sources: Sequence[str] = (),
    options: Mapping[str, Mapping[str, Any]] | None = None,
    prior: Prior | None = None,
    strength: float = 1.0,
    hard: bool = True,
) -> Fused:
    """Applies a fusion and a head to the sources of runs, and writes a run folder of both.

    Sources of the same media may be in different runs, where their windows are the same.

    Args:
        runs: run folders.
        out: the run folder to write; new or empty.
        registry: the plugins.
        fusion: id of the fusion, ``None`` for none.
        head: id of the head, ``None`` for none.
        sources: which sources, by id; none for all modalities of the runs.
        options: options of components, by id.
        prior: shares toward which the rows of the head, or else of the fusion, are moved.
        strength: how far, as in :func:`affectkit.priors.toward`.
        hard: as in :func:`affectkit.priors.toward`.

    Raises:
        UsageError: for folders, sources or priors that do not fit.
        AffectKitError: for components that cannot be made or loaded.
        StoreError: where the folder cannot be written.
    """
    if fusion is None and head is None:
        raise UsageError("there is neither a fusion nor a head, so there is nothing to do")
    said, names = _gather(runs, sources)
    made = {
        kind: _component(registry, name, kind, options or {}) for kind, name in (("fusion", fusion), ("head", head)) if name is not None
    }
    fuses, heads = made.get("fusion"), made.get("head")
    settings = {
        "recipe": {"modalities": list(names), "subjects": "main", "fusion": fusion, "head": head, "outside": "other"},
        "fused_from": [str(run) for run in runs],
        "options": {name: dict(given) for name, given in (options or {}).items()},
        "prior": None if prior is None else {"shares": list(prior.shares), "source": prior.source, "strength": strength, "hard": hard},
    }
    target = Run(out, settings, sha256(repr(sorted(settings.items())).encode()).hexdigest(), embeddings=True)
    target.begin()
    concluded = {media: _conclude(media, found, fuses, heads) for media, found in said.items()}
    last = heads or fuses
    corrected = None
    if prior is not None and last is not None:
        corrected = _correct(concluded, last.id, last.labels, prior, strength, hard)
    sets: dict[str, LabelSet] = {}
    for media, found in said.items():
        timelines = [*found.timelines, *concluded[media]]
        sets |= {timeline.labels.name: timeline.labels for timeline in timelines}
        _write(target, media, found, timelines)
    extra: dict[str, Any] = {}
    divergences = None
    if prior is not None and corrected is not None:
        divergences = (divergence(prior.shares, corrected.before), divergence(prior.shares, corrected.after))
        extra["prior_correction"] = {
            "source": getattr(last, "id", ""),
            "factors": corrected.factors.tolist(),
            "before": corrected.before.tolist(),
            "after": corrected.after.tolist(),
        }
    target.save(label_sets={name: told(labels) for name, labels in sorted(sets.items())}, **extra)
    return Fused(out, names, len(said), corrected, divergences)


def _component(registry: Registry, name: str, kind: str, options: Mapping[str, Mapping[str, Any]]) -> Any:
    """A fusion or a head with its options, loaded."""
    import torch

    from affectkit.config import component_options

    entry = registry.get(name, kind)
    component = entry.cls(component_options(entry.cls, options.get(name, {}), name))
    component.id = name
    if hasattr(component, "blends"):
        raise UsageError(f"{name} blends other heads, which affectkit fuse does not make; choose one of them with --head")
    component.load(torch.device("cpu"), torch.float32)
    return component


def _gather(runs: Sequence[Path], sources: Sequence[str]) -> tuple[dict[str, _Said], tuple[str, ...]]:
    """What the chosen sources say, by medium, and their ids in order.

    Raises:
        UsageError: for sources that are not there, or that say the same window twice.
    """
    import pyarrow.parquet as pq

    if not runs:
        raise UsageError("there is no run to fuse; give at least one")
    infos = {run: read_info(run) for run in dict.fromkeys(runs)}
    modalities = tuple(dict.fromkeys(str(name) for info in infos.values() for name in info.get("recipe", {}).get("modalities", ())))
    names = tuple(sources) or modalities
    if not names:
        raise UsageError(f"{', '.join(map(str, runs))} has no modalities; name sources with --source")
    said: dict[str, _Said] = {}
    there: set[str] = set()
    doubled: set[tuple[str, str, str, int, float, float]] = set()
    for run in infos:
        records = {record["id"]: record for record in read_records(run)}
        for timeline in read_timelines(run):
            there.add(timeline.source)
            if timeline.source not in names:
                continue
            found = said.setdefault(timeline.media_id, _Said(records[timeline.media_id], run))
            for start, end in zip(timeline.start, timeline.end, strict=True):
                key = (
                    timeline.media_id,
                    timeline.source,
                    timeline.labels.name,
                    timeline.track,
                    round(float(start), 3),
                    round(float(end), 3),
                )
                if key in doubled:
                    raise UsageError(f"{key[1]} says the window of {key[0]} from {start:g} to {end:g} s in two runs; give one of them")
                doubled.add(key)
            found.timelines.append(timeline)
        for path in sorted((run / "embeddings.parquet").glob("*.parquet")):
            for row in pq.read_table(path).to_pylist():
                if row["source"] in names and row["media"] in said:
                    vector = np.array(row["vector"], dtype=np.float32)
                    said[row["media"]].embeddings.append((int(row["track"]), row["start"], row["end"], row["source"], row["name"], vector))
    if missing := [name for name in names if name not in there]:
        raise UsageError(f"the runs have nothing of the source {missing[0]!r}. {did_you_mean(missing[0], there)}")
    return dict(sorted(said.items())), names


def _conclude(media: str, said: _Said, fusion: Fusion | None, head: Head | None) -> list[Timeline]:
    """What fusion and head make of one medium.

    Raises:
        ConfigError: where the sources do not speak what the fusion or the head reads.
    """
    from affectkit.results import Place, conclude, spoken

    spans = sorted({(round(float(a), 3), round(float(b), 3)) for t in said.timelines for a, b in zip(t.start, t.end, strict=True)})
    tracks: dict[tuple[float, float], set[int]] = {}
    for timeline in said.timelines:
        for start, end in zip(timeline.start, timeline.end, strict=True):
            tracks.setdefault((round(float(start), 3), round(float(end), 3)), set()).add(timeline.track)
    places = [Place(number, Span(*span), track) for number, span in enumerate(spans) for track in sorted(tracks[span] - {-1}) or [-1]]
    columns = {name: _column(name, said, spans) for name in dict.fromkeys(t.source for t in said.timelines)}
    if fusion is not None and not any(spoken(sets, fusion.labels) for _, sets in columns.values()):
        raise ConfigError(f"{fusion.id} fuses {fusion.labels.name}, and no source of {media} speaks it: {', '.join(columns)}")
    done = conclude(media, columns, places, fusion, head, "other")
    for name, vectors in done.embeddings.items():
        for place, vector in zip(places, vectors.numpy(), strict=True):
            if np.isfinite(vector).all() and fusion is not None:
                said.embeddings.append((place.track, place.span.start, place.span.end, fusion.id, name, vector))
    return list(done.timelines)


def _column(name: str, said: _Said, spans: Sequence[tuple[float, float]]) -> tuple[Column, list[LabelSet]]:
    """What one source says along the windows, and its label sets."""
    import torch

    from affectkit.batching import Row as Answer
    from affectkit.results import Column, Place

    number = {span: place for place, span in enumerate(spans)}
    mine = [timeline for timeline in said.timelines if timeline.source == name]
    sets = list(dict.fromkeys(timeline.labels for timeline in mine))
    values: dict[Key, dict[LabelSet, torch.Tensor]] = {}
    quality: dict[Key, dict[str, float]] = {}
    there: dict[Key, None] = {}
    for timeline in mine:
        for row in range(len(timeline.start)):
            key = (timeline.track, round(float(timeline.start[row]), 3), round(float(timeline.end[row]), 3))
            there[key] = None
            if timeline.valid[row]:
                values.setdefault(key, {})[timeline.labels] = torch.from_numpy(np.array(timeline.values[row], dtype=np.float32))
                quality.setdefault(key, {}).update({figure: float(numbers[row]) for figure, numbers in timeline.quality.items()})
    embeddings: dict[Key, dict[str, torch.Tensor]] = {}
    for track, start, end, source, embedding, vector in said.embeddings:
        if source == name:
            embeddings.setdefault((track, round(start, 3), round(end, 3)), {})[embedding] = torch.from_numpy(vector)
    known = {embedding: vector for found in embeddings.values() for embedding, vector in found.items()}
    places: list[Place] = []
    answers: list[Answer | None] = []
    for key in there:
        places.append(Place(number[key[1:]], Span(*key[1:]), key[0]))
        if key not in values:
            answers.append(None)
            continue
        spoken = {labels: values[key].get(labels, torch.full((len(labels),), torch.nan)) for labels in sets}
        vectors = {n: embeddings.get(key, {}).get(n, torch.full_like(vector, torch.nan)) for n, vector in known.items()}
        answers.append(Answer(spoken, vectors, quality.get(key, {}), None))
    return Column(name, tuple(places), tuple(answers)), sets


def _correct(concluded: dict[str, list[Timeline]], source: str, labels: LabelSet, prior: Prior, strength: float, hard: bool) -> Corrected:
    """Moves the rows of a source toward a prior, in place; a row counts as its seconds."""
    if prior.labels != labels:
        raise UsageError(f"the prior is of {prior.labels.name}, and {source} says {labels.name}")
    mine = [
        (media, place) for media, found in concluded.items() for place, t in enumerate(found) if t.source == source and t.labels == labels
    ]
    rows = [concluded[media][place] for media, place in mine]
    seconds = np.concatenate([timeline.end - timeline.start for timeline in rows]).clip(1e-3)
    corrected = toward(np.concatenate([t.values for t in rows]).astype(np.float64), prior, strength=strength, hard=hard, weights=seconds)
    at = 0
    for (media, place), timeline in zip(mine, rows, strict=True):
        values = corrected.values[at : at + len(timeline.start)].astype(np.float32)
        at += len(timeline.start)
        concluded[media][place] = replace(timeline, values=values, valid=np.asarray(np.isfinite(values).any(axis=1)))
    return corrected


def _write(target: Run, media: str, said: _Said, timelines: Sequence[Timeline]) -> None:
    """The part of a medium, with the tables of frames and of subjects of the run that it comes from."""
    record = said.record
    medium = Media(media, Path(record["path"]), record["kind"], duration=record["duration"], start=record["start"], fps=record.get("fps"))
    frames = read_frames(said.run)[media]
    times = dict(zip(frames.number.tolist(), frames.time.tolist(), strict=True)) if frames.exact else {}
    kept = {key: value for key, value in record.items() if key in ("path", "kind", "start", "duration", "fps", "size", "windows")}
    target.write(Part(medium, timelines, said.embeddings, record=kept, frame_times=times))
    subjects = Path("subjects.parquet") / f"{part_name(media)}.parquet"
    if (said.run / subjects).is_file():
        (target.path / subjects).parent.mkdir(exist_ok=True)
        shutil.copyfile(said.run / subjects, target.path / subjects)
