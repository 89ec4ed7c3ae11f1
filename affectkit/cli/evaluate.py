"""``affectkit evaluate``: how well the sources of a run agree with what people have annotated."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from affectkit.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from affectkit.evaluation import Evaluation, Scored
    from affectkit.intervals import Score
    from affectkit.labels import LabelSet
    from affectkit.references import Annotations

TITLES = {
    "macro_f1": "macro-F1",
    "macro_f1_all": "over all",
    "uar": "UAR",
    "war": "WAR",
    "mean_f1": "mean F1",
    "mean_f1_all": "over all",
    "mean_ccc": "mean CCC",
    "ece": "ECE",
}
COLUMNS = {
    "categorical": ("macro_f1", "macro_f1_all", "uar", "war", "ece"),
    "multilabel": ("mean_f1", "mean_f1_all", "ece"),
    "continuous": ("mean_ccc",),
}
"""The metrics of the table by source, by kind of label set; the first of them comes with its interval."""


def label_options(function: Any) -> Any:
    """Options that ``evaluate`` and ``compare`` share."""
    for option in reversed(
        (
            click.option("--labels", "path", type=click.Path(path_type=Path), required=True, help="File or folder of annotations."),
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
@click.argument("run", type=click.Path(path_type=Path))
@label_options
@click.option("--source", metavar="ID", help="Source to show class by class.  [default: the head, else the fusion, else the best]")
@click.option(
    "--unanswered",
    type=click.Choice(["skip", "wrong"]),
    default="skip",
    show_default=True,
    help="What becomes of annotated rows that a source does not answer.",
)
def evaluate(run: Path, path: Path, name: str | None, source: str | None, as_json: bool, **given: Any) -> None:
    """Score every source of the run folder RUN against annotations.

    Annotations are tables with the columns media and label (and start, end or time or frame), or with a column per label; ABAW's annotation
    files; or lists of frames. Every source is scored in the label set that it speaks, with an interval over resampled videos.
    """
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


def text(score: Score | None, interval: bool = False) -> str:
    """A score for a table: ``-`` where it cannot be said."""
    if score is None or isnan(score.value):
        return "-"
    between = f" [{score.low:.2f}, {score.high:.2f}]" if interval and score.low is not None and score.high is not None else ""
    return f"{score.value:.3f}{between}"


def number(value: float | None) -> float | None:
    """A number for JSON, which has no NaN."""
    return None if value is None or isnan(value) else value


def show_table(columns: Sequence[Any], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """Prints a table, the first column to the left and numbers to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Column, Table

    heads = [Column(str(columns[0]), no_wrap=True), *(Column(str(c), justify="right", no_wrap=True) for c in columns[1:])]
    table = Table(*heads, box=SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0), title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    needed = Console(width=10_000).measure(table).maximum
    Console(highlight=False, width=max(needed, Console().width)).print(table)  # numbers are never cut, however narrow the terminal


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
                _show_one(row)
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


def _show_one(row: Scored) -> None:
    """Class by class, and which class was taken for which."""
    answers = row.answers
    if answers.reference.kind == "continuous" or not row.videos:
        return
    occurs = {name: int(n) for name, n in zip(answers.names, row.counted, strict=True)}
    classes = answers.reference.kind == "categorical"
    metrics = ("f1", "precision", "recall") if classes else ("f1", "ece")
    kept = [name for name in answers.names if occurs[name] or not isnan(row.scores[f"f1/{name}"].value)]
    table = [[name, *(text(row.scores[f"{m}/{name}"], interval=m == "f1") for m in metrics), str(occurs[name])] for name in kept]
    heads = {"f1": "F1", "precision": "precision", "recall": "recall", "ece": "ECE"}
    show_table(["class" if classes else "unit", *(heads[m] for m in metrics), "rows"], table, answers.source)
    confusion = answers.confusion()
    if confusion is not None:
        at = [answers.names.index(name) for name in kept] + ([-1] if confusion[:, -1].any() else [])
        cells = [[answers.names[r], *(str(confusion[r, c]) for c in at)] for r in range(len(confusion)) if confusion[r].any()]
        show_table(["is / was taken for", *kept, *(["no answer"] if at[-1] < 0 else [])], cells)


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
                "sources": {row.answers.source: _told_one(row) for row in rows},
                "not_evaluated": {source: reason for (name, source), reason in found.left_out.items() if name == labels.name},
            }
            for labels, rows in found.scored.items()
        },
        "notes": _notes(found, given),
    }


def _told_one(row: Scored) -> dict[str, Any]:
    answers, confusion = row.answers, row.answers.confusion()
    metrics: dict[str, Any] = {}
    for name, score in row.scores.items():
        metric, _, label = name.partition("/")
        values = {"value": number(score.value), "low": number(score.low), "high": number(score.high)}
        if label:
            metrics.setdefault(f"{metric}_by_label", {})[label] = values
        else:
            metrics[metric] = values
    return {
        "says": answers.labels.name,
        "rows": int(answers.asked.sum()),
        "answered": int(answers.answered.sum()),
        "coverage": number(row.coverage),
        "media": row.videos,
        "cannot_say": list(answers.unsaid),
        "metrics": metrics,
        **(
            {}
            if confusion is None
            else {
                "confusion": {"labels": list(answers.names), "counts": confusion[:, :-1].tolist(), "no_answer": confusion[:, -1].tolist()}
            }
        ),
    }
