"""``affectkit evaluate --dataset``: how well a modality does on the folds of a data set, and what is wrong with a data set."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from affectkit.cli.score_tables import TITLES, number, show_class_by_class, show_table, text, told_of_one
from affectkit.errors import AffectKitError, ConfigError, Problems, UsageError, did_you_mean, raise_all

if TYPE_CHECKING:
    from affectkit.datasets import Fold
    from affectkit.datasets.scores import FoldScores
    from affectkit.evaluation import Scored
    from affectkit.plugins import Registry

SHOWN = ("uar", "war", "macro_f1")
PLACE = "{fold}"  # what stands for the name of the fold in --weights and --option
_ADVICE = re.compile(r"--set (components\.([^\s.]+)\.(\w+)=(\S+))")


def folds_options(function: Any) -> Any:
    """The options of ``evaluate`` that are about data sets."""
    for option in reversed(
        (
            click.option("--dataset", metavar="NAME", help="Score the component RUN on a data set: dfew, ferv39k, mafw, csv, ..."),
            click.option("--data", type=click.Path(path_type=Path), metavar="DIR", help="Folder (or table) of the data set."),
            click.option("--folds", metavar="FOLDS", help="Folds, for instance 1-5 or 1,3.  [default: all]"),
            click.option("--clips", type=click.Path(path_type=Path), metavar="DIR", help="Folder of the clips, where it is not found."),
            click.option("--fps", type=float, help="Frames per second of folders of frames.  [default: 25]"),
            click.option("--weights", metavar="PATTERN", help="File of the weights; {fold} stands for the name of the fold."),
            click.option(
                "--option", "options", multiple=True, metavar="KEY=VALUE", help="Option of the component; {fold} as in --weights."
            ),
            click.option(
                "--recipe", metavar="RECIPE", help="Recipe with options of the component, and providers of what it wants beside faces."
            ),
            click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Run folder for what is said of each clip."),
            click.option("--resume/--no-resume", default=True, help="Go on with what --out holds, or throw it away and start again."),
            click.option("--batch-size", type=click.IntRange(min=1), default=16, show_default=True, help="Clips per forward pass."),
            click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:0."),
            click.option("--precision", type=click.Choice(["fp32", "bf16", "fp16"]), default="fp32", show_default=True, help="Of passes."),
        )
    ):
        function = option(function)
    return function


def evaluate_folds(component: str | None, registry: Callable[[], Registry], given: Mapping[str, Any]) -> int | None:
    """Scores a component on a data set, or only looks the data set over where there is no component.

    Args:
        component: id of a modality.
        registry: gives the plugins; asked only where there is a component.
        given: the options of the command.

    Returns:
        The exit status: 2 where there is no component and something is wrong with the data set.
    """
    from affectkit import datasets
    from affectkit.labels import KNOWN

    name, data = given["dataset"], given["data"]
    if data is None:
        raise UsageError(f"--dataset {name} needs --data DIR, the folder of {datasets.dataset(name).title}")
    if given["set"] is not None and given["set"] not in KNOWN:
        raise UsageError(f"there is no label set {given['set']!r}. {did_you_mean(given['set'], KNOWN)}")
    labels = None if given["set"] is None else KNOWN[given["set"]]
    chosen = _chosen(given["folds"], datasets.folds(name, data, labels=labels))
    folds: list[Fold] = []
    problems: list[AffectKitError] = []
    for fold in chosen:
        try:
            folds.append(datasets.read(name, data, fold, clips=given["clips"], fps=given["fps"], labels=labels))
        except ConfigError as error:  # in the lists of one fold; others may have their own
            problems.append(error)
        except Problems as error:
            problems += error.problems
    raise_all(list({str(problem): problem for problem in problems}.values()))
    if component is None:
        return _look_over(folds, as_json=given["as_json"])
    _score(component, folds, registry(), given)
    return None


def _chosen(wanted: str | None, known: Sequence[str]) -> list[str]:
    """The folds that are asked for, in order.

    >>> _chosen("1-2,4", ("1", "2", "3", "4", "5")), _chosen(None, ("1",))
    (['1', '2', '4'], ['1'])
    """
    if wanted is None:
        return list(known)
    found: list[str] = []
    for part in wanted.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        if dash and first.isdigit() and last.isdigit() and int(first) <= int(last):
            found += [str(i) for i in range(int(first), int(last) + 1)]
        else:
            found.append(part.strip())
    absent = [fold for fold in found if fold not in known]
    if absent:
        raise UsageError(f"--folds {wanted}: there is no fold {', '.join(map(repr, absent))}; there are {', '.join(known)}")
    return list(dict.fromkeys(found))


# looking over


def _look_over(folds: Sequence[Fold], *, as_json: bool) -> int:
    from affectkit.datasets.checks import check, class_counts

    problems = check(folds)
    status = 2 if problems else 0
    labels = folds[0].labels
    counts = [
        (fold, mode, class_counts(items, len(labels))) for fold in folds for mode, items in (("train", fold.train), ("test", fold.test))
    ]
    notes = dict.fromkeys(note for fold in folds for note in fold.notes)
    if as_json:
        told = {
            "dataset": folds[0].dataset,
            "labels": list(labels.labels),
            "folds": {
                fold.name: {mode: dict(zip(labels.labels, row, strict=True)) for own, mode, row in counts if own is fold} for fold in folds
            },
            "notes": list(notes),
            "problems": [{"kind": problem.kind, "text": problem.text} for problem in problems],
        }
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return status
    rows = [[fold.name, mode, *map(str, row), str(sum(row))] for fold, mode, row in counts]
    show_table(["fold", "list", *labels.labels, "all"], rows, f"{folds[0].dataset}: items by {labels.name}")
    for note in notes:
        click.echo(f"Note: {note}.")
    for problem in problems:
        click.echo(f"Problem: {problem.text}.")
    if not problems:
        click.echo("Every clip is there, and no item is in two lists that must not share any.")
    return status


# scores


def _score(component: str, folds: Sequence[Fold], registry: Registry, given: Mapping[str, Any]) -> None:
    from affectkit import recipe_files
    from affectkit.batching import PRECISIONS, choose_device
    from affectkit.config import SETTINGS, Recipe
    from affectkit.datasets.scores import score_folds
    from affectkit.inventory import trained_option
    from affectkit.recipe_files import Source

    entry = registry.get(component, "modality")
    recipe = None if given["recipe"] is None else Recipe.load(given["recipe"], find=registry.recipe)
    base = {} if recipe is None else {key: value for key, value in recipe.components.get(component, {}).items() if key not in SETTINGS}
    overrides = base | dict(recipe_files.override(Source({}), given["options"]).data)
    weights = trained_option(entry)
    if given["weights"] is not None:
        if weights is None:
            known = [item.name for item in fields(entry.cls.Options)]
            raise UsageError(
                f"{component} does not say which of its options takes the file that a training writes, so --weights cannot be used; "
                f"give it with --option NAME=PATTERN. Its options are {', '.join(known) or 'none'}"
            )
        overrides[weights] = given["weights"]
    with _advising(component, weights):
        found = score_folds(
            component,
            folds,
            registry,
            lambda fold: {key: _filled(value, fold.name) for key, value in overrides.items()},
            device=choose_device(given["device"]),
            dtype=PRECISIONS[given["precision"]],
            batch_size=given["batch_size"],
            recipe=recipe,
            out=given["out"],
            resume=given["resume"],
            unanswered=given["unanswered"],
            resamples=given["bootstrap"],
            seed=given["seed"],
            report=lambda line: click.echo(line, err=True),
        )
    notes = list(found.notes)
    if len(folds) > 1 and weights in overrides and PLACE not in str(overrides[weights]):
        notes.append(f"{weights} is the same in every fold; it must not have learned from any of the test lists")
    if given["as_json"]:
        click.echo(json.dumps(_told(found, notes, given), indent=2, ensure_ascii=False))
    else:
        _show(found, notes, given)


@contextmanager
def _advising(component: str, weights: str | None) -> Iterator[None]:
    """What messages advise by ``--set``, as ``affectkit run`` takes it, in the words of this command.

    Args:
        component: id of the modality.
        weights: which of its options ``--weights`` sets.
    """

    def said_here(match: re.Match[str]) -> str:
        whole, id, option, value = match.groups()
        if id != component:
            return f"{whole} in the file of --recipe"
        return f"--weights {value}" if option == weights else f"--option {option}={value}"

    try:
        yield
    except AffectKitError as error:
        problems, remarks = (error.problems, error.remarks) if isinstance(error, Problems) else ((error,), ())
        for problem in problems:
            problem.args = (_ADVICE.sub(said_here, str(problem)),)
            if problem.wanted:
                problem.wanted = replace(problem.wanted, give=_ADVICE.sub(said_here, problem.wanted.give))
        raise_all(problems, remarks)


def _filled(value: Any, fold: str) -> Any:
    return value.replace(PLACE, fold) if isinstance(value, str) else value


def _show(found: FoldScores, notes: Sequence[str], given: Mapping[str, Any]) -> None:
    first = found.folds[0].fold
    rows = [[fold.fold.name, *_cells(fold.scored)] for fold in found.folds]
    if len(rows) > 1:
        means = {name: found.mean(name) for name in SHOWN}
        rows += [
            ["mean", *("-" if isnan(value) else f"{value:.3f} ± {spread:.3f}" for value, spread in means.values()), "", ""],
            ["pooled", *_cells(found.pooled)],
        ]
    columns = ["fold", *(TITLES[name] for name in SHOWN), "clips", "coverage"]
    show_table(columns, rows, f"{found.component} on {first.dataset}: {', '.join(first.labels.labels)}")
    show_class_by_class(found.pooled)
    if given["bootstrap"]:
        click.echo(
            f"Intervals: 95 % of {given['bootstrap']} resamples of whole clips" + ("; ± is over the folds." if len(rows) > 1 else ".")
        )
    for note in notes:
        click.echo(f"Note: {note}.")
    if given["out"] is not None:
        click.echo(f"wrote {given['out']}; affectkit evaluate {given['out']} --labels {given['out'] / 'labels.csv'} reads it")


def _cells(scored: Scored) -> list[str]:
    return [
        *(text(scored.scores[name], interval=True) for name in SHOWN),
        str(int(scored.answers.asked.sum())),
        f"{scored.coverage:.0%}",
    ]


def _told(found: FoldScores, notes: Sequence[str], given: Mapping[str, Any]) -> dict[str, Any]:
    first = found.folds[0].fold
    means = {name: found.mean(name) for name in SHOWN}
    return {
        "component": found.component,
        "dataset": first.dataset,
        "labels": list(first.labels.labels),
        **{key: given[key] for key in ("bootstrap", "seed", "precision")},
        "unanswered": found.pooled.unanswered,
        "folds": {
            fold.fold.name: {
                **told_of_one(fold.scored),
                "weights": list(fold.weights["weights"]),
                "answered_before": fold.before,
                "seconds": round(fold.seconds, 3),
            }
            for fold in found.folds
        },
        "mean": {name: {"value": number(value), "standard_deviation": number(spread)} for name, (value, spread) in means.items()},
        "pooled": told_of_one(found.pooled),
        "notes": list(notes),
    }
