"""From single clips to results: rows become timelines, timelines become sources, sources are fused and turned into compounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from affectkit.batching import Row
from affectkit.clips import Window
from affectkit.components import Fusion, Head, Modality, Output, Sources
from affectkit.errors import PluginError
from affectkit.faces import within
from affectkit.labels import BASIC8, LabelSet, Outside, project, projects
from affectkit.media import Span
from affectkit.timeline import Timeline

NO_EVIDENCE = "too little for it to go by"
FAILED = "it failed"  # the failures of the run say how


@dataclass
class Findings:
    """All that was found in one medium while it was read.

    Attributes:
        windows: the grid, in time order.
        rows: per modality what it said, by (track, at) as in :class:`affectkit.clips.Request`.
        reasons: why a modality had nothing to look at, by (modality, window index).
        failed: per modality the clips, by ``at``, that it or its preprocessing failed on.
    """

    windows: list[Window] = field(default_factory=list)
    rows: dict[str, dict[tuple[int, float], Row]] = field(default_factory=dict)
    reasons: dict[tuple[str, int], str] = field(default_factory=dict)
    failed: dict[str, set[float]] = field(default_factory=dict)

    def take(self, window: Window) -> None:
        """Adds a window of the grid, without its clips; the one with index -1 only carries reasons of media units."""
        if window.index >= 0:
            self.windows.append(replace(window, requests=()))
        self.reasons |= {(name, window.index): reason for name, reason in window.reasons.items()}


@dataclass(frozen=True)
class Place:
    """One line of the grid: a window and a subject in it (-1 where there is none)."""

    window: int
    span: Span
    track: int


@dataclass(frozen=True)
class Column:
    """What one modality says along the grid, one entry per place.

    Attributes:
        name: component id.
        places: N places.
        rows: N rows, ``None`` where there is no evidence.
        failed: the windows in which it failed on a clip, by index.
    """

    name: str
    places: tuple[Place, ...]
    rows: tuple[Row | None, ...]
    failed: frozenset[int] = frozenset()

    def values(self, labels: LabelSet) -> np.ndarray:
        """(N, C) float32, NaN without evidence."""
        blank = np.full(len(labels), np.nan, dtype=np.float32)
        return (
            np.stack([blank if row is None else row.values[labels].numpy() for row in self.rows])
            if self.rows
            else np.empty((0, len(labels)), np.float32)
        )

    def quality(self) -> dict[str, np.ndarray]:
        """(N,) float32 by name, NaN without evidence."""
        names = dict.fromkeys(name for row in self.rows if row is not None for name in row.quality)
        return {n: np.array([np.nan if row is None else row.quality.get(n, np.nan) for row in self.rows], dtype=np.float32) for n in names}

    def embeddings(self) -> dict[str, torch.Tensor]:
        """(N, D) float32 by name, NaN rows without evidence."""
        known = {name: e for row in self.rows if row is not None for name, e in row.embeddings.items()}
        return {
            name: torch.stack([torch.full_like(e, torch.nan) if row is None else row.embeddings[name] for row in self.rows])
            for name, e in known.items()
        }


@dataclass(frozen=True)
class Conclusion:
    """What fusion and head made of one medium.

    Attributes:
        timelines: one per source, label set and subject.
        embeddings: (N, D) float32 of the fusion by name, one row per place; NaN rows where there is none.
    """

    timelines: list[Timeline]
    embeddings: Mapping[str, torch.Tensor] = field(default_factory=dict)


def column(name: str, modality: Modality, bound: bool, findings: Findings) -> Column:
    """What a modality says at each place of the grid; pictures of a frame unit are averaged over their window."""
    rows = findings.rows.get(name, {})
    whole = _mean(list(rows.values())) if modality.unit == "media" else None
    series = _by_track(rows) if modality.unit == "frame" else {}
    places = []
    out = []
    for window in findings.windows:
        for track in (window.tracks or (-1,)) if bound else (-1,):
            places.append(Place(window.index, window.span, track))
            if modality.unit == "window":
                out.append(rows.get((track, window.index)))
            elif modality.unit == "media":
                out.append(whole)
            else:
                times, said = series.get(track, (np.empty(0), []))
                out.append(_mean([said[i] for i in np.flatnonzero(within(times, window.span))]))
    return Column(name, tuple(places), tuple(out), _failed_windows(modality, findings.failed.get(name, set()), findings.windows))


def timelines(media_id: str, col: Column, label_sets: Sequence[LabelSet]) -> list[Timeline]:
    """A column as one timeline per label set and subject."""
    quality = col.quality()
    valid = np.array([row is not None for row in col.rows], dtype=bool)
    return [t for labels in label_sets for t in _split(media_id, col.name, labels, col.places, col.values(labels), valid, quality)]


def grid(findings: Findings) -> tuple[Place, ...]:
    """The places that are fused: every analysed subject of every window, or -1 where there is none."""
    return tuple(Place(w.index, w.span, track) for w in findings.windows for track in (w.tracks or (-1,)))


def gather(columns: Sequence[tuple[Column, LabelSet]], places: Sequence[Place], labels: LabelSet, outside: Outside) -> Sources:
    """Sources of one label set side by side; sound, scene and words are broadcast to every subject of their window.

    Args:
        columns: M columns, each with the label set that is read from it.
        places: N places of the result.
        labels: label set onto which they are projected.
        outside: what becomes of labels that it does not have.
    """
    values = np.full((len(places), len(columns), len(labels)), np.nan, dtype=np.float32)
    embeddings: dict[str, torch.Tensor] = {}
    quality: dict[str, torch.Tensor] = {}
    for m, (col, spoken) in enumerate(columns):
        at = _broadcast(col, places)
        projected, _ = project(col.values(spoken), spoken, labels, outside)
        values[at >= 0, m] = projected[at[at >= 0]]
        embeddings |= {f"{col.name}:{k}": _take(v, at) for k, v in col.embeddings().items()}
        quality |= {f"{col.name}:{k}": _take(torch.from_numpy(v), at) for k, v in col.quality().items()}
    tensor = torch.from_numpy(values)
    return Sources(labels, tuple(col.name for col, _ in columns), tensor, torch.isfinite(tensor), embeddings, quality)


def conclude(
    media_id: str,
    columns: Mapping[str, tuple[Column, Sequence[LabelSet]]],
    places: Sequence[Place],
    fusion: Fusion | None,
    head: Head | None,
    outside: Outside,
) -> Conclusion:
    """Fuses the columns of one medium and applies the head, which may read the embeddings of the fusion as it reads those of a modality.

    Raises:
        PluginError: where a fusion or head returns the wrong shape.
    """
    if not places or (fusion is None and head is None):
        return Conclusion([])
    chosen = {} if fusion is None else {name: spoken(sets, fusion.labels) for name, (_, sets) in columns.items()}
    inside = [(columns[name][0], labels) for name, labels in chosen.items() if labels is not None]
    target = fusion.labels if fusion is not None else BASIC8
    chosen_sets = {target} if fusion is not None else set()
    others: dict[LabelSet, Sources] = {}
    wanted = {labels for _, sets in columns.values() for labels in sets} | ({head.labels} if head is not None else set())
    for labels in sorted(wanted - chosen_sets, key=lambda s: s.name):
        if fusion is not None and projects(labels, target):
            continue
        asked = head is not None and labels == head.labels  # sources of other sets are projected only where somebody asks for them
        speakers = [(col, own) for col, sets in columns.values() if (own := spoken(sets, labels)) is not None and (asked or own == labels)]
        if speakers:
            others[labels] = gather(speakers, places, labels, outside)
    sources = gather(inside, places, target, outside)
    everything = {k: v for s in (*others.values(), sources) for k, v in s.embeddings.items()}
    tracks = np.array([place.track for place in places], dtype=np.int64)
    times = np.array([(place.span.start + place.span.end) / 2 for place in places])
    sources = Sources(target, sources.names, sources.values, sources.valid, everything, sources.quality, others, tracks, times)
    fused = Output({})
    out = []
    embedded: dict[str, torch.Tensor] = {}
    with torch.inference_mode():
        if fusion is not None:
            fused = fusion.fuse(sources)
            out += _checked(media_id, fusion.id, fusion.labels, places, fused)
            embedded = _embedded(fusion.id, places, fused)
            sources = replace(sources, embeddings={**everything, **{f"{fusion.id}:{name}": e for name, e in embedded.items()}})
        if head is not None:
            out += _checked(media_id, head.id, head.labels, places, head.convert(fused, sources))
    return Conclusion(out, embedded)


def spoken(sets: Sequence[LabelSet], target: LabelSet) -> LabelSet | None:
    """The label set of a modality that can be read as ``target``: itself where it is there, else the first that projects."""
    return next((s for s in sets if s == target), next((s for s in sets if projects(s, target)), None))


def mean_by_source(found: Sequence[Timeline]) -> dict[str, dict[str, float]]:
    """Per source the mean of each label over the windows and subjects that have evidence; of the first of its label sets."""
    rows: dict[str, list[Timeline]] = {}
    for timeline in found:
        mine = rows.setdefault(timeline.source, [])
        if not mine or mine[0].labels == timeline.labels:
            mine.append(timeline)
    means = {}
    for source, parts in rows.items():
        values = np.concatenate([t.values[t.valid] for t in parts]).astype(np.float64)
        if len(values):
            said = np.isfinite(values).sum(axis=0) > 0
            means[source] = {label: round(float(np.nanmean(values[:, c])), 4) for c, label in enumerate(parts[0].labels.labels) if said[c]}
    return means


def quality_by_source(found: Sequence[Timeline]) -> dict[str, dict[str, float]]:
    """Per source the mean of each quality figure over the windows and subjects that have it; of the first of its label sets."""
    first: dict[str, LabelSet] = {}
    rows: dict[str, dict[str, list[np.ndarray]]] = {}
    for timeline in found:
        if first.setdefault(timeline.source, timeline.labels) == timeline.labels:
            for name, values in timeline.quality.items():
                rows.setdefault(timeline.source, {}).setdefault(name, []).append(values[timeline.valid].astype(np.float64))
    means: dict[str, dict[str, float]] = {}
    for source, figures in rows.items():
        for name, parts in figures.items():
            known = np.concatenate(parts)
            if (known := known[np.isfinite(known)]).size:
                means.setdefault(source, {})[name] = round(float(known.mean()), 4)
    return means


def evidence(columns: Mapping[str, tuple[Column, Sequence[LabelSet]]], findings: Findings) -> dict[str, dict[str, Any]]:
    """Per modality how many windows had evidence, the share, and why the others had none."""
    summary = {}
    for name, (col, _) in columns.items():
        had = {place.window for place, row in zip(col.places, col.rows, strict=True) if row is not None}
        media_wide = findings.reasons.get((name, -1), "")
        missing = [
            FAILED if w.index in col.failed else findings.reasons.get((name, w.index), "") or media_wide or NO_EVIDENCE
            for w in findings.windows
            if w.index not in had
        ]
        total = len(findings.windows)
        share = round(len(had) / total, 4) if total else 0.0
        summary[name] = {"windows": total, "with_evidence": len(had), "share": share, "reasons": dict(Counter(missing))}
    return summary


def _failed_windows(modality: Modality, failed: set[float], windows: Sequence[Window]) -> frozenset[int]:
    """The windows that clips belong to; those of a media unit belong to every window."""
    if modality.unit == "window":
        return frozenset(int(at) for at in failed)
    if modality.unit == "media":
        return frozenset(w.index for w in windows if failed)
    times = np.array(sorted(failed))
    return frozenset(w.index for w in windows if within(times, w.span).any())


def _by_track(rows: Mapping[tuple[int, float], Row]) -> dict[int, tuple[np.ndarray, list[Row]]]:
    """Rows of a frame unit in time order, per subject, with their times."""
    series: dict[int, list[tuple[float, Row]]] = {}
    for (track, at), row in sorted(rows.items(), key=lambda item: item[0]):
        series.setdefault(track, []).append((at, row))
    return {track: (np.array([at for at, _ in said]), [row for _, row in said]) for track, said in series.items()}


def _mean(rows: Sequence[Row]) -> Row | None:
    """Mean of what was said about several pictures; their notes are left to the first."""
    if not rows:
        return None
    first = rows[0]
    return Row(
        {labels: torch.stack([row.values[labels] for row in rows]).mean(dim=0) for labels in first.values},
        {name: torch.stack([row.embeddings[name] for row in rows]).mean(dim=0) for name in first.embeddings},
        {name: float(np.mean([row.quality[name] for row in rows])) for name in first.quality},
        first.note,
    )


def _broadcast(col: Column, places: Sequence[Place]) -> np.ndarray:
    """(N,) index of the column's entry for each place: that of the same subject, else that of the whole window, else -1."""
    index = {(p.window, p.track): i for i, p in enumerate(col.places)}
    return np.array([index.get((p.window, p.track), index.get((p.window, -1), -1)) for p in places], dtype=np.int64)


def _take(values: torch.Tensor, at: np.ndarray) -> torch.Tensor:
    taken = values[torch.from_numpy(np.maximum(at, 0))].clone()
    taken[torch.from_numpy(at < 0)] = torch.nan
    return taken


def _checked(media_id: str, name: str, labels: LabelSet, places: Sequence[Place], output: Output) -> list[Timeline]:
    values = output.values.get(labels)
    if values is None or tuple(values.shape) != (len(places), len(labels)):
        found = {s.name: tuple(v.shape) for s, v in output.values.items()}
        raise PluginError(f"{name} must return ({len(places)}, {len(labels)}) values for {labels.name!r}, found {found}")
    array = values.detach().float().cpu().numpy()
    quality = {k: v.detach().float().cpu().numpy() for k, v in output.quality.items()}
    return _split(media_id, name, labels, places, array, np.isfinite(array).any(axis=1), quality)


def _embedded(name: str, places: Sequence[Place], output: Output) -> dict[str, torch.Tensor]:
    """The embeddings of a fusion, checked."""
    for key, tensor in output.embeddings.items():
        if tensor.dim() != 2 or len(tensor) != len(places):
            raise PluginError(f"{name} must return ({len(places)}, D) numbers for the embedding {key!r}, found {tuple(tensor.shape)}")
    return {key: tensor.detach().float().cpu() for key, tensor in output.embeddings.items()}


def _split(
    media_id: str,
    source: str,
    labels: LabelSet,
    places: Sequence[Place],
    values: np.ndarray,
    valid: np.ndarray,
    quality: Mapping[str, np.ndarray],
) -> list[Timeline]:
    """One timeline per subject."""
    tracks = np.array([place.track for place in places], dtype=np.int64)
    start = np.array([place.span.start for place in places], dtype=np.float64)
    end = np.array([place.span.end for place in places], dtype=np.float64)
    return [
        Timeline(media_id, int(track), source, labels, start[m], end[m], values[m], valid[m], {k: v[m] for k, v in quality.items()})
        for track in np.unique(tracks)
        for m in [tracks == track]
    ]
