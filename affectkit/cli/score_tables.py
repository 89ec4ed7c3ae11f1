"""Scores as commands print them: tables, and plain data for ``--json``."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from affectkit.evaluation import Scored
    from affectkit.intervals import Score

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


def show_class_by_class(row: Scored) -> None:
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


def told_of_one(row: Scored) -> dict[str, Any]:
    """One source for JSON: its metrics with their intervals, and the confusions."""
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
