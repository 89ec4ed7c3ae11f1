"""Scores of a modality over the folds of a data set: fold by fold, their mean, and all test items together.

Data sets of five folds are compared by the mean of the folds' figures, which is not the figure of all test items together: both are given.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affectkit.cells import SHOWN, shown
from affectkit.datasets.checks import check
from affectkit.datasets.items import Fold
from affectkit.errors import AffectKitError, LabelError, UsageError, raise_all
from affectkit.evaluation import Answers, Scored, Unanswered, shared_labels, side_by_side, why_not
from affectkit.intervals import RESAMPLES, scores
from affectkit.labels import LabelSet, canonical

if TYPE_CHECKING:
    import torch

    from affectkit.components import Modality
    from affectkit.config import Recipe
    from affectkit.datasets.keeping import Kept
    from affectkit.datasets.scoring import Report, Said
    from affectkit.planner import Plan
    from affectkit.plugins import Registry


@dataclass(frozen=True, eq=False)
class FoldScore:
    """How well a modality does on the test items of one fold.

    Attributes:
        fold: the lists.
        weights: what ``run.json`` would say of the component and its weights.
        said: what it says of every test item.
        scored: how well that agrees with the labels.
        before: items that were answered in an earlier call.
        seconds: how long it took to read the others and ask about them.
    """

    fold: Fold
    weights: Mapping[str, Any]
    said: Said
    scored: Scored
    before: int
    seconds: float


@dataclass(frozen=True, eq=False)
class FoldScores:
    """How well a modality does on folds of a data set.

    Attributes:
        component: id of the modality.
        folds: fold by fold.
        pooled: all test items together.
        notes: what a person should know so as not to read too much into the numbers, as sentences without a full stop.
    """

    component: str
    folds: Sequence[FoldScore]
    pooled: Scored
    notes: tuple[str, ...]

    def mean(self, metric: str) -> tuple[float, float | None]:
        """The mean over the folds of a metric, and its standard deviation over them where there are several; NaN where a fold cannot say it."""
        values = [fold.scored.scores[metric].value for fold in self.folds]
        return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def score_folds(
    component: str,
    folds: Sequence[Fold],
    registry: Registry,
    options: Callable[[Fold], Mapping[str, Any]],
    *,
    device: torch.device,
    dtype: torch.dtype,
    batch_size: int,
    recipe: Recipe | None = None,
    out: Path | None = None,
    resume: bool = True,
    unanswered: Unanswered | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    report: Report = lambda line: None,
) -> FoldScores:
    """Asks a modality about the test items of each fold, with the weights of that fold.

    Args:
        component: id of a modality that looks at faces.
        folds: as :func:`affectkit.datasets.read` gave them.
        registry: the plugins.
        options: of the component, by fold.
        device: where forward passes run.
        dtype: their precision.
        batch_size: clips per forward pass at most.
        recipe: whose providers make what the modality wants beside faces, as far as it is made from them; ``None`` for nothing.
        out: a run folder for what is said of each item, as soon as it is said: the same call after one that was stopped does not ask again; with
            ``labels.csv``, by which ``affectkit evaluate``, ``compare`` and ``fuse`` go on. ``None`` keeps nothing.
        resume: whether what the folder holds is kept, or thrown away.
        unanswered: whether items of which nothing is said are left out or count as wrong; where it is ``None`` they are left out, and clips that
            are not there are an error.
        resamples: of the intervals; 0 for none.
        seed: of the resamples.
        report: gets lines of progress.

    Raises:
        AffectKitError: what is wrong with the data, the component or its weights, before anything is scored where that can be seen; several
            problems are told together.
    """
    from affectkit.datasets.keeping import Kept
    from affectkit.datasets.scoring import say

    made, plan, notes = _ready(component, folds, registry, options, recipe, unanswered, kept=out is not None)
    kept = None
    if out is not None:
        given, records = {fold.name: options(fold) for fold in folds}, {fold.name: record for fold, _, record in made}
        kept = Kept(out, component, folds, given, records, precision=str(dtype).removeprefix("torch."), recipe=recipe, resume=resume)
        kept.check()
    _load(made, plan, device, dtype)
    if kept is not None:
        kept.begin(dict.fromkeys(labels for _, modality, _ in made for labels in modality.label_sets))
    found: list[FoldScore] = []
    try:
        while made:
            fold, modality, record = made.pop(0)
            begin = time.perf_counter()
            tell, keep = partial(_tell, report, f"fold {fold.name}: "), _nowhere if kept is None else partial(kept.write, fold)
            known = None if kept is None else kept.read(fold, modality)
            before = 0 if known is None else int(known.done.sum())
            if before:
                tell(f"{before} of {len(fold.test)} were answered before")
            ask = partial(say, device=device, dtype=dtype, batch_size=batch_size, plan=plan, report=tell)
            said = ask(modality, fold.test, said=known, keep=keep)
            scored = _scored(_answers(modality, fold, said), unanswered, resamples, seed)
            found.append(FoldScore(fold, record, said, scored, before, time.perf_counter() - begin))
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_stopped(kept, folds, out)) from None
    finally:
        if kept is not None:
            kept.save()
    pooled = _scored(_together([fold.scored.answers for fold in found]), unanswered, resamples, seed)
    return FoldScores(component, found, pooled, tuple(dict.fromkeys([*notes, *_left_out(found, unanswered)])))


def _nowhere(number: int, said: Said) -> None:
    """Keeps nothing."""


def _stopped(kept: Kept | None, folds: Sequence[Fold], out: Path | None) -> str:
    if kept is None:
        return "Stopped by Ctrl-C. Nothing is kept without --out DIR; with it, the same command goes on where it was stopped."
    items = sum(len(fold.test) for fold in folds)
    return f"Stopped by Ctrl-C: {kept.finished} of {items} clips are answered and kept in {out}; the same command goes on from there."


Made = list[tuple[Fold, "Modality", Mapping[str, Any]]]
"""A modality for each fold, and what ``run.json`` would say of it."""


def _ready(
    component: str,
    folds: Sequence[Fold],
    registry: Registry,
    options: Callable[[Fold], Mapping[str, Any]],
    recipe: Recipe | None,
    unanswered: Unanswered | None,
    *,
    kept: bool,
) -> tuple[Made, Plan | None, list[str]]:
    """The modality of each fold, what makes its further inputs, and notes; raises all that is wrong with data, options and weights."""
    from affectkit.assembly import collecting, make_modality, plan_for
    from affectkit.datasets.cutting import check_modality

    problems: list[AffectKitError] = []
    notes = [note for fold in folds for note in fold.notes]
    for flaw in check(folds, train=False):
        if flaw.kind == "missing" and unanswered is None:
            problems.append(UsageError(f"{flaw.text}; give --clips, or --unanswered skip or wrong to go on without them"))
        elif flaw.kind == "shared" and kept:
            problems.append(
                UsageError(f"{flaw.text}; a run folder has one answer for each clip: give each fold its own with --folds and --out")
            )
        else:
            notes.append(flaw.text)
    problems += [UsageError(f"{fold.dataset}, fold {fold.name} has no test items") for fold in folds if not fold.test]
    made: Made = []
    plan: Plan | None = None
    for fold in folds:
        with collecting(problems, component):
            modality, record = make_modality(component, options(fold), registry)
            if recipe is not None and plan is None and any(need.kind != "faces" for need in modality.needs.inputs):
                plan = plan_for(recipe, registry, {component: modality})
            notes += check_modality(modality, plan)
            notes += _of_other_folds(record, fold)
            made.append((fold, modality, record))
    raise_all(_each_once(problems))
    return made, plan, notes


def _load(made: Made, plan: Plan | None, device: torch.device, dtype: torch.dtype) -> None:
    """Loads all weights, so that a file that does not fit is told before an hour has gone into the folds before it."""
    from affectkit.assembly import collecting

    problems: list[AffectKitError] = []
    for provider in () if plan is None else [provider for kind in plan.window_kinds for provider in plan.providers[kind]]:
        with collecting(problems, provider.id):
            provider.load(device, dtype)
    for fold, modality, _ in made:
        with collecting(problems, modality.id):
            modality.load(device, dtype)
            _spoken(modality, fold)
    raise_all(_each_once(problems))


def _each_once(problems: Sequence[AffectKitError]) -> list[AffectKitError]:
    """Problems that every fold has, told once."""
    return list({str(problem): problem for problem in problems}.values())


def _tell(report: Report, before: str, line: str) -> None:
    report(before + line)


def _of_other_folds(record: Mapping[str, Any], fold: Fold) -> list[str]:
    """Whether weights were trained on another fold of the same data set, and so on items of this test list: their records say so."""
    found = []
    for weights in record["weights"]:
        path = Path(weights["uri"]).with_suffix(".json")
        try:
            options = json.loads(path.read_text(encoding="utf-8"))["plan"]["options"]
            trained = (options["dataset"], str(options.get("fold") or "1"))
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if trained[0] == fold.dataset and trained[1] != fold.name:
            found.append(
                f"{weights['file']} was trained on fold {trained[1]} and is tested on fold {fold.name}, whose items it may have learned from"
            )
    return found


def _spoken(modality: Modality, fold: Fold) -> LabelSet:
    """The label set of a modality that shares most with that of a data set.

    Raises:
        LabelError: where there is none, or its own texts are not one for each class of the data set.
    """
    own = max(modality.label_sets, key=lambda labels: shared_labels(labels, fold.labels))
    texts = getattr(modality.options, "labels", None) if modality.asked else None
    found = ""
    if isinstance(texts, Mapping):
        found = _not_one_to_one([canonical(label) for label in texts], fold)
    elif not shared_labels(own, fold.labels):
        found = why_not(modality.label_sets, fold.labels)
    if not found:
        return own
    advice = ""
    if texts is not None and not isinstance(texts, str):
        classes = ", ".join(f"{label}: TEXT" for label in fold.labels.labels if label in _occurring(fold))
        advice = f"; give each of its classes a text: --option 'labels={{{classes}}}'"
    raise LabelError(f"{modality.id} cannot be scored on {fold.dataset}: {found}{advice}")


def _occurring(fold: Fold) -> set[str]:
    """The classes that items of a fold have: the table of somebody's own may have fewer than its label set."""
    return {fold.labels.labels[item.label] for item in (*fold.train, *fold.test)}


def _not_one_to_one(given: Sequence[str], fold: Fold) -> str:
    """In what way texts of these labels are not one for each class of a data set; nothing where they are."""
    classes = {canonical(label): label for label in fold.labels.labels}
    flaws = [
        ("has no text for", [label for name, label in classes.items() if label in _occurring(fold) and name not in given]),
        ("has two texts for", [label for name, label in classes.items() if given.count(name) > 1]),
        ("has a text for what is none of its classes,", [name for name in dict.fromkeys(given) if name not in classes]),
    ]
    told = " and ".join(f"{words} {', '.join(labels)}" for words, labels in flaws if labels)
    return told and f"labels {told}"


def _answers(modality: Modality, fold: Fold, said: Said) -> Answers:
    """What is said and what is true, in the same columns."""
    own = _spoken(modality, fold)
    truth = np.eye(len(fold.labels))[[item.label for item in fold.test]]
    groups = np.unique([item.group for item in fold.test], return_inverse=True)[1]
    return side_by_side(modality.id, own, fold.labels, truth, said.values[own], groups)


def _together(parts: Sequence[Answers]) -> Answers:
    """The answers of several folds as those of one."""
    first = parts[0]
    if any((part.names, part.labels) != (first.names, first.labels) for part in parts):
        raise LabelError(f"{first.source} says other labels in other folds: {'; '.join(', '.join(part.labels.labels) for part in parts)}")
    before = np.cumsum([0, *(part.videos.max(initial=-1) + 1 for part in parts[:-1])])
    return replace(
        first,
        truth=np.concatenate([part.truth for part in parts]),
        values=np.concatenate([part.values for part in parts]),
        videos=np.concatenate([part.videos + shift for part, shift in zip(parts, before, strict=True)]),
    )


def _scored(answers: Answers, unanswered: Unanswered | None, resamples: int, seed: int) -> Scored:
    policy = unanswered or "skip"
    tally = answers.tally(unanswered=policy)
    return Scored(answers, scores(tally, resamples, seed), len(tally.videos), policy)


def _left_out(found: Sequence[FoldScore], unanswered: Unanswered | None) -> list[str]:
    """Of which items nothing was said, why, and what became of them."""
    fate = "count as wrong" if unanswered == "wrong" else "are left out (--unanswered wrong counts them as wrong)"
    broken = [(fold.fold.test[i].id, reason) for fold in found for i, reason in fold.said.reasons.items()]
    silent = [
        fold.fold.test[i].id
        for fold in found
        for i in np.flatnonzero(~fold.scored.answers.answered & fold.scored.answers.asked).tolist()
        if i not in fold.said.reasons
    ]
    lines = []
    if broken:
        named = shown([f"{id} ({reason})" for id, reason in broken[:SHOWN]])
        lines.append(f"{len(broken)} clips cannot be read and {fate}: {named}")
    if silent:
        lines.append(f"{len(silent)} clips do not show {found[0].scored.answers.source} enough and {fate}: {shown(silent[:SHOWN])}")
    return lines
