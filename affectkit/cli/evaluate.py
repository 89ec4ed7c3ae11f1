"""``affectkit evaluate``: how well the sources of a run agree with what people have annotated."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from affectkit.cli.evaluate_folds import evaluate_folds, folds_options
from affectkit.cli.options import PluginChoice, plugin_options
from affectkit.cli.score_tables import TITLES, show_class_by_class, show_table, text, told_of_one
from affectkit.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from affectkit.evaluation import Evaluation, Scored
    from affectkit.labels import LabelSet
    from affectkit.references import Annotations

COLUMNS = {
    "categorical": ("macro_f1", "macro_f1_all", "uar", "war", "ece"),
    "multilabel": ("mean_f1", "mean_f1_all", "ece"),
    "continuous": ("mean_ccc",),
}
"""The metrics of the table by source, by kind of label set; the first of them comes with its interval."""


def label_options(function: Any, *, required: bool = True) -> Any:
    """Options that ``evaluate`` and ``compare`` share."""
    for option in reversed(
        (
            click.option("--labels", "path", type=click.Path(path_type=Path), required=required, help="File or folder of annotations."),
            click.option(
                "--set", "name", metavar="NAME", help="Label set of the annotations, for instance basic8 where classes are numbers."
            ),
            click.option(
                "--bootstrap",
                type=click.IntRange(min=0),
                default=1000,
                show_default=True,
                help="Resamples of the intervals, by video; 0 for none.",
            ),
            click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the resamples."),
            click.option("--json", "as_json", is_flag=True, help="Print everything as JSON."),
        )
    ):
        function = option(function)
    return function


@click.command()
@click.argument("run", required=False)
@partial(label_options, required=False)
@click.option("--source", metavar="ID", help="Source to show class by class.  [default: the head, else the fusion, else the best]")
@click.option(
    "--unanswered",
    type=click.Choice(["skip", "wrong"]),
    help="What becomes of annotated rows that a source does not answer.  [default: skip]",
)
@folds_options
@plugin_options()
def evaluate(
    plugins: PluginChoice, run: str | None, path: Path | None, name: str | None, source: str | None, as_json: bool, **given: Any
) -> int | None:
    """Score every source of the run folder RUN against annotations, or the component RUN on a data set.

    With --labels: annotations are tables with the columns media and label (and start, end or time or frame), or with a column per label; ABAW's annotation
    files; or lists of frames. Every source is scored in the label set that it speaks, with an interval over resampled videos.

    With --dataset: a modality that looks at faces, for instance ras/face_dynamic, is asked about the test clips of each fold, with the weights of that fold.
    Without RUN, the lists and files of the data set are looked over.
    """
    _check_words(run, path, source, given)
    if given["dataset"] is not None:
        return evaluate_folds(run, lambda: plugins.registry, {**given, "set": name, "as_json": as_json})
    if run is None or path is None:
        raise click.UsageError("Missing argument 'RUN'." if run is None else "Missing option '--labels'.")
    _evaluate(Path(run), path, name, source, as_json, {**given, "unanswered": given["unanswered"] or "skip"})
    return None


def _check_words(run: str | None, path: Path | None, source: str | None, given: Mapping[str, Any]) -> None:
    """Refuses options of the one use of the command in the other."""
    if given["dataset"] is None:
        strange = [f"--{name}" for name in ("data", "folds", "clips", "fps", "weights", "recipe", "out") if given[name] is not None]
        strange += ["--option"] * bool(given["options"]) + ["--no-resume"] * (not given["resume"])
        if strange:
            raise UsageError(f"{', '.join(strange)} belongs to a data set; name it with --dataset")
    elif path is not None or source is not None:
        raise UsageError(
            f"{'--labels' if path is not None else '--source'} is for a run folder, and --dataset for a data set; give one of them"
        )
    elif run is not None and "/" not in run:
        raise UsageError(f"--dataset scores a component, for instance ras/face_dynamic; found {run!r}")


def _evaluate(run: Path, path: Path, name: str | None, source: str | None, as_json: bool, given: Mapping[str, Any]) -> None:
    from affectkit import evaluation

    annotations = read_annotations(path, name, [run])
    found = evaluation.evaluate(run, annotations, resamples=given["bootstrap"], seed=given["seed"], unanswered=given["unanswered"])
    chosen = _chosen(found, source)
    if as_json:
        click.echo(json.dumps(_told(found, given), indent=2, ensure_ascii=False))
    else:
        _show(found, chosen, given)


def read_annotations(path: Path, name: str | None, runs: Sequence[Path]) -> Annotations:
    """Reads annotations, in the label set of that name, which may be one of the runs.

    Raises:
        UsageError: where there is no label set of that name, or a folder holds no run.
    """
    from affectkit.annotations import read
    from affectkit.labels import KNOWN
    from affectkit.tables import read_info, read_label_set

    infos = [read_info(run) for run in runs]
    known = {**KNOWN, **{own: read_label_set(info, own) for info in infos for own in info.get("label_sets", {})}}
    if name is not None and name not in known:
        raise UsageError(f"there is no label set {name!r}. {did_you_mean(name, known)}")
    return read(path, None if name is None else known[name], known)


def _chosen(found: Evaluation, source: str | None) -> Mapping[LabelSet, str]:
    """The source to show class by class, per label set of the annotations."""
    if source is None:
        return found.default
    chosen = {labels: source for labels, rows in found.scored.items() if source in {row.answers.source for row in rows}}
    if chosen:
        return chosen
    reasons = [
        f"{source} is not evaluated against {labels}: {reason}" for (labels, left), reason in found.left_out.items() if left == source
    ]
    if reasons:
        raise UsageError("; ".join(reasons))
    known = {row.answers.source for rows in found.scored.values() for row in rows}
    raise UsageError(f"the run {found.placed.run} has no source {source!r}. {did_you_mean(source, known)}")


def _show(found: Evaluation, chosen: Mapping[LabelSet, str], given: Mapping[str, Any]) -> None:
    for labels, rows in found.scored.items():
        _show_sources(labels, rows, chosen.get(labels))
        for row in rows:
            if row.answers.source == chosen.get(labels):
                show_class_by_class(row)
    for line in _notes(found, given):
        click.echo(line)


def _show_sources(labels: LabelSet, rows: Sequence[Scored], chosen: str | None) -> None:
    names = COLUMNS[labels.kind]
    each = [f"ccc/{label}" for label in labels.labels] if labels.kind == "continuous" else []
    heads = [TITLES[name] + (f" {len(labels)}" if name.endswith("_all") else "") for name in names]
    columns = ["source", "says", *heads, *(name.removeprefix("ccc/") for name in each), "rows", "coverage", "media"]
    table = [
        [
            row.answers.source,
            row.answers.labels.name,
            *(text(row.scores[name], interval=i == 0) for i, name in enumerate(names)),
            *(text(row.scores[name], interval=True) for name in each),
            str(int(row.answers.asked.sum())),
            "-" if isnan(row.coverage) else f"{row.coverage:.0%}",
            str(row.videos),
        ]
        for row in rows
    ]
    show_table(columns, table, f"{labels.name}: {', '.join(labels.labels)}")


def _notes(found: Evaluation, given: Mapping[str, Any]) -> list[str]:
    """What a reader must know so as not to read too much into the numbers."""
    from affectkit.comparison import FEW

    lines = []
    rows = [row for scored in found.scored.values() for row in scored]
    videos = {row.videos for row in rows}
    if given["bootstrap"] and 1 in videos:
        lines.append("No intervals where the rows are of one medium: there is nothing to resample.")
    if given["bootstrap"] and any(2 <= n < FEW for n in videos):
        lines.append(f"Intervals of fewer than {FEW} media are too narrow.")
    if given["bootstrap"] and max(videos) >= 2:
        lines.append(f"Intervals: 95 % of {given['bootstrap']} resamples of whole media.")
    for labels, scored in found.scored.items():
        unsaid: dict[tuple[str, ...], list[str]] = {}
        for row in scored:
            if row.answers.unsaid:
                unsaid.setdefault(row.answers.unsaid, []).append(row.answers.source)
        for names, sources in unsaid.items():
            effect = "has no value there" if labels.kind == "continuous" else "every such row is an error of theirs"
            lines.append(f"{', '.join(sources)} cannot say {', '.join(names)}: {effect}.")
        unsure = _unannotated(found, labels)
        if unsure:
            lines.append(f"{unsure} rows of media of the run have no annotation of {labels.name} and are left out.")
    if given["unanswered"] == "wrong":
        lines.append("Rows without an answer count as wrong (--unanswered wrong).")
    for reason in dict.fromkeys(found.left_out.values()):
        sources = [source for (_, source), why in found.left_out.items() if why == reason]
        lines.append(f"Not evaluated: {', '.join(sources)}: {reason}.")
    return lines + [f"Note: {note}." for note in found.placed.notes]


def _unannotated(found: Evaluation, labels: LabelSet) -> int:
    row = found.scored[labels][0]
    return int(((row.answers.videos >= 0) & ~row.answers.asked).sum())


def _told(found: Evaluation, given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "run": str(found.placed.run),
        "labels": str(found.placed.annotations.path),
        "rows": len(found.placed.annotations),
        **{key: given[key] for key in ("bootstrap", "seed", "unanswered")},
        "sets": {
            labels.name: {
                "kind": labels.kind,
                "labels": list(labels.labels),
                "default": found.default[labels],
                "sources": {row.answers.source: told_of_one(row) for row in rows},
                "not_evaluated": {source: reason for (name, source), reason in found.left_out.items() if name == labels.name},
            }
            for labels, rows in found.scored.items()
        },
        "notes": _notes(found, given),
    }
