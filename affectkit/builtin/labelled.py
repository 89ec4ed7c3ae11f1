"""Windows of run folders with what people say of them: the rows that heads, fusions and temperatures are made of."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from affectkit.annotations import read
from affectkit.errors import ConfigError, UsageError, did_you_mean
from affectkit.evaluation import Placed, place
from affectkit.labels import BASIC8, KNOWN, LabelSet, project

Window = tuple[str, str, int, float, float]
"""Run, medium, subject, start and end in seconds."""


@dataclass(frozen=True)
class Labelled:
    """Labels of a run or of several, asked window by window.

    Attributes:
        labels: the label set.
        placed: the annotations in each run, by run folder.
        runs: the run folders.
    """

    labels: LabelSet
    placed: Mapping[str, Placed]
    runs: tuple[Path, ...]

    def truth(self, windows: list[Window]) -> np.ndarray:
        """(N, C) float64 mean of what is annotated in each window, weighted by overlap; NaN where nothing is.

        A row about a whole medium holds for all its windows, a stretch where it overlaps, a moment or frame in the windows that cover it.
        """
        out = np.full((len(windows), len(self.labels)), np.nan)
        parts: dict[tuple[str, str], list[int]] = {}
        for row, (run, medium, *_) in enumerate(windows):
            parts.setdefault((run, medium), []).append(row)
        for (run, medium), rows in parts.items():
            placed = self.placed[run]
            mine = [(track, at) for named, track, at in placed.groups if named.media == medium]
            reference = placed.annotations.references[self.labels]
            for row in rows:
                _, _, track, start, end = windows[row]
                at = np.concatenate([np.empty(0, np.int64), *(found for who, found in mine if who in (-1, track) or track == -1)])
                weight = _overlap(placed, at, start, end)
                said = ~np.isnan(reference[at]) & (weight > 0)[:, None]
                total = (weight[:, None] * said).sum(axis=0)
                np.divide((weight[:, None] * np.nan_to_num(reference[at])).sum(axis=0, where=said), total, out=out[row], where=total > 0)
        return out


def labelled(data: Path | Sequence[Path], labels: Path, name: str | None) -> Labelled:
    """Runs with their annotations.

    Args:
        data: a run folder, or a folder of run folders; or several of them.
        labels: annotations, as ``affectkit evaluate`` reads them.
        name: name of their label set, where they do not tell.

    Raises:
        UsageError: where there is no run, or annotations speak of several label sets or of people in pictures.
        ConfigError: where the annotations cannot be read.
    """
    runs = tuple(dict.fromkeys(run for folder in ([data] if isinstance(data, Path) else data) for run in _runs_in(folder)))
    if name is not None and name not in KNOWN:
        raise UsageError(f"there is no label set {name!r}. {did_you_mean(name, KNOWN)}")
    annotations = read(labels, None if name is None else KNOWN[name])
    sets = list(annotations.references)
    if len(sets) != 1:
        raise ConfigError(f"{labels} has labels of {', '.join(item.name for item in sets)}; say which are meant with options.set")
    placed = {str(run): place(annotations, run) for run in runs}
    if any(named is not None and named.side for found in placed.values() for named in found.named):
        raise UsageError(f"{labels} chooses people by the side of the picture, which is of no use here; give a column track instead")
    return Labelled(sets[0], placed, runs)


def _runs_in(data: Path) -> list[Path]:
    runs = [data] if (data / "run.json").is_file() else sorted(path.parent for path in data.glob("*/run.json"))
    if not runs:
        raise UsageError(f"{data} is not a run folder and holds none; make one with affectkit run --embeddings --out {data}")
    return runs


def side_by_side(found: Labelled, sources: Sequence[str] = ()) -> tuple[tuple[str, ...], list[Window], np.ndarray]:
    """What the sources of runs say of the same windows, in ``basic8``.

    The same window of the same medium and subject is one row, also where its sources are in different runs.

    Args:
        found: the runs.
        sources: names, in order; none for all modalities that speak labels of ``basic8``.

    Returns:
        M names, N windows, and (N, M, 8) float32 with NaN where nothing is said.

    Raises:
        UsageError: for a source that is not there, fewer than two of them, or one that says the same window in two runs.
    """
    from affectkit.tables import read_info

    runs = ", ".join(str(run) for run in found.runs)
    modalities = [str(name) for run in found.runs for name in read_info(run).get("recipe", {}).get("modalities", ())]
    rows = said(found, BASIC8)
    names = tuple(sources) or tuple(name for name in dict.fromkeys(modalities) if name in rows)
    if missing := [name for name in names if name not in rows]:
        raise UsageError(f"{runs} holds no source {missing[0]!r} that speaks labels of basic8. {did_you_mean(missing[0], rows)}")
    if len(names) < 2:
        raise UsageError(f"a fusion needs two sources or more, {runs} has {', '.join(names) or 'none'}")
    first: dict[tuple[str, int, float, float], Window] = {}
    by_source: dict[str, dict[Window, np.ndarray]] = {name: {} for name in names}
    for name in names:
        for window, row in rows[name].items():
            run, medium, track, start, end = window
            place = first.setdefault((medium, track, round(start, 3), round(end, 3)), window)
            if place in by_source[name]:
                raise UsageError(
                    f"{name} says the window of {medium} from {start:g} to {end:g} s in two runs, {place[0]} and {run}; give one of them"
                )
            by_source[name][place] = row
    windows = of_subjects(list(dict.fromkeys(window for name in names for window in by_source[name])))
    values = np.full((len(windows), len(names), len(BASIC8)), np.nan, dtype=np.float32)
    for column, name in enumerate(names):
        for number, window in enumerate(windows):
            _, medium, _, start, end = window
            whole = first.get((medium, -1, round(start, 3), round(end, 3)), window)
            if (spoken := by_source[name].get(window, by_source[name].get(whole))) is not None:
                values[number, column] = spoken
    return names, windows, values


def of_subjects(windows: Sequence[Window]) -> list[Window]:
    """The windows that a run fuses: one per subject, and one without a subject only where nobody is seen.

    >>> of_subjects([("run", "a", 0, 0.0, 4.0), ("run", "a", -1, 0.0, 4.0), ("run", "a", -1, 2.0, 6.0)])
    [('run', 'a', 0, 0.0, 4.0), ('run', 'a', -1, 2.0, 6.0)]
    """
    seen = {(medium, round(start, 3), round(end, 3)) for _, medium, track, start, end in windows if track >= 0}
    return [window for window in windows if window[2] >= 0 or (window[1], round(window[3], 3), round(window[4], 3)) not in seen]


def said(found: Labelled, labels: LabelSet) -> dict[str, dict[Window, np.ndarray]]:
    """What sources say in their windows with evidence, (C,) per window of the label set onto which they project, by source."""
    from affectkit.labels import projects
    from affectkit.tables import read_timelines

    out: dict[str, dict[Window, np.ndarray]] = {}
    for run in found.runs:
        for timeline in read_timelines(run):
            if timeline.labels != labels and not projects(timeline.labels, labels):
                continue
            values, _ = project(timeline.values, timeline.labels, labels, "other")
            for row in np.flatnonzero(timeline.valid):
                window = (str(run), timeline.media_id, timeline.track, float(timeline.start[row]), float(timeline.end[row]))
                out.setdefault(timeline.source, {})[window] = values[row]
    return out


def groups_of(windows: list[Window], pattern: str | None) -> np.ndarray:
    """What a window is of, (N,) text: the medium, or what the first group of a pattern finds in its name.

    Raises:
        ConfigError: where the pattern is none, or does not fit a name.
    """
    media = [window[1] for window in windows]
    if pattern is None:
        return np.array(media)
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"groups: {pattern!r} is no regular expression ({error})") from None
    found = {medium: compiled.search(medium) for medium in media}
    bad = [medium for medium, match in found.items() if match is None or compiled.groups < 1]
    if bad:
        raise ConfigError(
            f"groups: {pattern!r} finds nothing in {bad[0]!r}; write for instance '^(actor_\\d+)', with brackets around the group"
        )
    return np.array([match[1] for medium in media if (match := found[medium]) is not None])


def apart(groups: np.ndarray, held: float, seed: int) -> np.ndarray:
    """(N,) bool that keeps about a share ``held`` of the groups, at least two, for validation and calibration.

    Raises:
        UsageError: for fewer than four of them.
    """
    names = np.unique(groups)
    if len(names) < 4:
        raise UsageError(
            f"there are labels for {len(names)} media (or groups, where options.groups says what they are of); "
            "at least 4 are needed to learn, to measure and to calibrate"
        )
    count = min(max(round(held * len(names)), 2), len(names) - 1)
    return np.isin(groups, np.random.default_rng(seed).permutation(names)[:count])


def _overlap(placed: Placed, at: np.ndarray, start: float, end: float) -> np.ndarray:
    """How much rows of annotations say of a window: seconds; a moment counts 1."""
    first, last = placed.start[at], placed.end[at]
    seconds = np.nan_to_num(np.minimum(last, end) - np.maximum(first, start)).clip(0)
    moment = (first == last) & (start <= first) & (first < end)
    return np.where(placed.whole[at], max(end - start, 1.0), np.where(moment, 1.0, seconds))
