"""Which difference between sources, or runs, is larger than chance: on the same rows, resampled by video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from affectkit.errors import AffectKitError, LabelError, UsageError, did_you_mean, raise_all
from affectkit.evaluation import MAIN, Answers, Placed, answers, first_choice, listed, place
from affectkit.intervals import RESAMPLES, Difference, differences, holm
from affectkit.labels import LabelSet
from affectkit.references import Annotations
from affectkit.tables import read_info

ALPHA = 0.05  # a difference that chance gives less often is called larger than chance
FEW = 6  # media; below, one sign in every one of them is no rarity: 2 / 2**5 > 0.05
ALL_PAIRS = 3  # contestants up to which every pair is compared; of more, each with the first


@dataclass(frozen=True, eq=False)
class Contestant:
    """A source of a run that is compared with others.

    Attributes:
        name: what it is called in the comparison.
        run: the run folder.
        answers: what it says in the annotated rows.
    """

    name: str
    run: Path
    answers: Answers


@dataclass(frozen=True, eq=False)
class Compared:
    """Two contestants on the rows that both answer.

    Attributes:
        first: the one.
        second: the other; differences are its metrics less those of the first.
        rows: how many rows both answer.
        asked: how many rows have a reference in both runs.
        media: of how many media they are.
        differences: by the name of the metric.
        p: by the name of the metric, corrected by Holm's method where there are more than two pairs; ``None`` where it cannot be told.
    """

    first: Contestant
    second: Contestant
    rows: int
    asked: int
    media: int
    differences: Mapping[str, Difference]
    p: Mapping[str, float | None]

    def verdict(self, metric: str) -> str:
        """Whether the difference of a metric is larger than chance, in words."""
        p = self.p[metric]
        if self.media < FEW:
            return f"{self.media} of {FEW} media needed to tell"
        if p is None:
            return "cannot be told"
        return "larger than chance" if p < ALPHA else "not larger than chance"


@dataclass(frozen=True, eq=False)
class Comparison:
    """What a comparison found.

    Attributes:
        pairs: all pairs, per label set of the annotations.
        notes: what a person should know about them.
    """

    pairs: Mapping[LabelSet, Sequence[Compared]]
    notes: tuple[str, ...]


def compare(
    runs: Sequence[str | Path],
    annotations: Annotations,
    sources: Sequence[str] = (),
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    across_grids: bool = False,
) -> Comparison:
    """Compares sources of one or several runs on the rows that both of a pair answer.

    Args:
        runs: run folders.
        annotations: what people say is true.
        sources: component ids, each of them of each run; without any, the head, else the fusion, else the best source of each run.
        resamples: resamples of the differences; 0 for none.
        seed: of their random numbers.
        across_grids: whether runs with different windows may be compared.

    Returns:
        Every pair of up to three, else each with the first, per label set of the annotations that at least two speak.

    Raises:
        UsageError: where there is nothing to compare, a run has no such source, the runs have different windows or no annotated medium in common.
        LabelError: where a run does not speak the label set; the message shows both.
        Problems: for several of these.
    """
    folders = [Path(run) for run in runs]
    for given in (list(map(str, folders)), list(sources)):
        doubled = [name for name in dict.fromkeys(given) if given.count(name) > 1]
        if doubled:
            raise UsageError(f"{', '.join(doubled)} is given twice; give different run folders, or one and several --source")
    if len(folders) * max(1, len(sources)) < 2:
        raise UsageError("a comparison needs two of something: two run folders, or one and --source twice")
    if not across_grids:
        _same_grid(folders)
    placed = [place(annotations, run) for run in folders]
    _common(placed)
    chosen: dict[LabelSet, list[Contestant]] = {}
    problems: list[AffectKitError] = []
    for mine in placed:
        try:
            for contestant in _contestants(mine, sources, several=len(folders) > 1):
                chosen.setdefault(contestant.answers.reference, []).append(contestant)
        except (LabelError, UsageError) as error:
            problems.append(error)
    raise_all(problems)
    compared = {
        labels: corrected([_pair(one, other, resamples, seed) for one, other in _pairs(found)])
        for labels, found in chosen.items()
        if len(found) > 1
    }
    if not compared:
        said = "; ".join(f"{found[0].name}: {labels.name}" for labels, found in chosen.items())
        raise LabelError(f"no two of what is compared speak the same labels of {annotations.path} ({said}); give sources that do")
    notes = dict.fromkeys(f"{mine.run}: {note}" if len(folders) > 1 else note for mine in placed for note in mine.notes)
    notes |= dict.fromkeys(
        f"{found[0].name} alone speaks {labels.name}, so nothing is compared there" for labels, found in chosen.items() if len(found) == 1
    )
    return Comparison(compared, tuple(notes))


def corrected(pairs: Sequence[Compared]) -> list[Compared]:
    """Corrects probabilities for the number of pairs, metric by metric, where there are more than two."""
    if len(pairs) < 3:
        return list(pairs)
    names = dict.fromkeys(name for pair in pairs for name in pair.differences)
    p = {name: holm([pair.p.get(name) for pair in pairs]) for name in names}
    return [replace(pair, p={name: p[name][i] for name in pair.differences}) for i, pair in enumerate(pairs)]


def _pairs(found: Sequence[Contestant]) -> list[tuple[Contestant, Contestant]]:
    return list(combinations(found, 2)) if len(found) <= ALL_PAIRS else [(found[0], other) for other in found[1:]]


def _pair(one: Contestant, other: Contestant, resamples: int, seed: int) -> Compared:
    first, second = one.answers, other.answers
    rows = first.answered & second.answered
    if not rows.any():
        raise UsageError(f"{one.name} and {other.name} answer no row of {first.reference.name} both, so there is nothing to compare")
    if first.reference.kind != "categorical":
        first, second = _same_cells(first, second), _same_cells(second, first)
    videos = first.videos  # ids of the first run: in another run the same medium may have another id
    tallies = first.tally(rows), replace(second, videos=videos).tally(rows)
    found = differences(*tallies, resamples, seed)
    asked = int((first.asked & second.asked).sum())
    return Compared(one, other, int(rows.sum()), asked, len(tallies[0].videos), found, {name: value.p for name, value in found.items()})


def _same_cells(one: Answers, other: Answers) -> Answers:
    """Without the values of units or dimensions that the other does not say in a row, but says in some."""
    silent = np.isnan(other.values)
    return replace(one, values=np.where(silent & ~silent.all(axis=0), np.nan, one.values))


def _contestants(placed: Placed, sources: Sequence[str], several: bool) -> list[Contestant]:
    found, left_out = answers(placed)
    by_set: dict[LabelSet, dict[str, Answers]] = {}
    for mine in found:
        by_set.setdefault(mine.reference, {})[mine.source] = mine
    out = []
    for named in by_set.values():
        wanted = sources or [
            first_choice(named, {name: _main(mine) for name, mine in named.items()}, read_info(placed.run).get("recipe", {}))
        ]
        out += [Contestant(f"{placed.run} {name}" if several else name, placed.run, named[name]) for name in wanted if name in named]
    problems: list[AffectKitError] = []
    for name in sources:
        if not any(name in named for named in by_set.values()):
            reasons = [f"it cannot be compared: {why}" for (_, source), why in left_out.items() if source == name]
            known = {source for named in by_set.values() for source in named}
            problems.append(
                UsageError(
                    f"{name} of the run {placed.run}: {reasons[0] if reasons else 'there is no such source. ' + did_you_mean(name, known)}"
                )
            )
    raise_all(problems)
    return out


def _main(found: Answers) -> float:
    return float(found.tally().metrics()[MAIN[found.reference.kind]][0])


def _same_grid(runs: Sequence[Path]) -> None:
    grids = {run: read_info(run).get("recipe", {}).get("windows") for run in runs}
    first = grids[runs[0]]
    for run, grid in grids.items():
        if grid != first:
            raise UsageError(
                f"{runs[0]} and {run} have different windows ({_grid(first)} and {_grid(grid)}), so a difference between them may be that of the "
                "windows; run one of them again with the same, or allow it with --across-grids"
            )


def _grid(windows: Mapping[str, float] | None) -> str:
    return ", ".join(f"{key} {value:g}" for key, value in windows.items()) if windows else "none"


def _common(placed: Sequence[Placed]) -> None:
    """Refuses runs that have no annotated medium in common."""
    first = placed[0]
    for other in placed[1:]:
        if not ((first.videos >= 0) & (other.videos >= 0)).any():
            raise UsageError(
                f"{first.run} and {other.run} have no labelled medium in common: {listed(first.media)} in the one, "
                f"{listed(other.media)} in the other"
            )
