"""``affectkit compare``: which difference between runs, or between sources of a run, is larger than chance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from affectkit.cli.evaluate import label_options, read_annotations
from affectkit.cli.score_tables import TITLES, number, show_table

if TYPE_CHECKING:
    from affectkit.comparison import Compared, Comparison
    from affectkit.labels import LabelSet

COLUMNS = {"categorical": ("macro_f1", "uar", "war", "ece"), "multilabel": ("mean_f1", "f1/", "ece"), "continuous": ("mean_ccc", "ccc/")}
"""The metrics that are shown, by kind of label set; those that end in ``/`` for each label."""


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@label_options
@click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="ID",
    help="Source to compare; may be repeated.  [default: the head, else the fusion, else the best]",
)
@click.option("--across-grids", is_flag=True, help="Allow runs with different windows.")
def compare(runs: tuple[Path, ...], path: Path, name: str | None, sources: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Say which difference between run folders is larger than chance.

    Two or more RUNs are compared with each other, or several sources of one RUN, on the annotated rows that both answer. Whole media are
    resampled, because frames of one medium are no independent observations.
    """
    from affectkit import comparison

    annotations = read_annotations(path, name, runs)
    found = comparison.compare(
        runs, annotations, sources, resamples=given["bootstrap"], seed=given["seed"], across_grids=given["across_grids"]
    )
    if as_json:
        click.echo(json.dumps(_told(found, path, given), indent=2, ensure_ascii=False))
    else:
        for labels, pairs in found.pairs.items():
            for pair in pairs:
                _show(labels, pair, corrected=len(pairs) > 2)
        for line in _notes(found, given):
            click.echo(line)


def _show(labels: LabelSet, pair: Compared, corrected: bool) -> None:
    click.echo(f"A: {pair.first.name}\nB: {pair.second.name}")
    click.echo(f"{labels.name}: {pair.rows} of {pair.asked} rows, of {pair.media} media, which both answer")
    rows = [
        [TITLES.get(metric, metric.partition("/")[2]), *_numbers(pair, metric), pair.verdict(metric)]
        for metric in pair.differences
        if any(metric == shown or (shown.endswith("/") and metric.startswith(shown)) for shown in COLUMNS[labels.kind])
    ]
    show_table(["", "A", "B", "B - A", "95 %", "p (Holm)" if corrected else "p", "difference"], rows)


def _numbers(pair: Compared, metric: str) -> list[str]:
    found, p = pair.differences[metric], pair.p[metric]
    values = ["-" if isnan(value) else f"{value:.3f}" for value in (found.first, found.second)]
    between = "-" if found.low is None or found.high is None else f"[{found.low:+.3f}, {found.high:+.3f}]"
    return [*values, "-" if isnan(found.value) else f"{found.value:+.3f}", between, "-" if p is None else f"{p:.3f}"]


def _notes(comparison: Comparison, given: Mapping[str, Any]) -> list[str]:
    """What a reader must know so as not to read too much into the numbers."""
    from affectkit.comparison import FEW

    found = comparison.pairs
    pairs = [pair for compared in found.values() for pair in compared]
    metrics = {metric for labels in found for metric in COLUMNS[labels.kind]}
    lines = []
    if any(pair.media < 2 for pair in pairs):
        lines.append("With one medium there is nothing to resample, so no difference can be told from chance.")
    if any(pair.media < FEW for pair in pairs):
        lines.append(f"With fewer than {FEW} media even a difference that is the same way in every one of them may be chance.")
    if any(len(compared) > 2 for compared in found.values()):
        lines.append("p is corrected for the number of pairs (Holm), for each metric on its own.")
    if given["bootstrap"] and any(pair.media > 1 for pair in pairs):
        lines.append(f"Intervals and p: {given['bootstrap']} resamples of whole media, the same for A and B.")
    if len(metrics) > 1:
        lines.append(
            "Several metrics are shown: choose the one that counts before looking, since each further one is a further chance to be wrong."
        )
    if "ece" in metrics:
        lines.append("ECE: lower is better.")
    return lines + [f"Note: {note}." for note in comparison.notes]


def _told(found: Comparison, path: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "labels": str(path),
        **{key: given[key] for key in ("bootstrap", "seed", "across_grids")},
        "sets": {labels.name: [_told_pair(pair) for pair in pairs] for labels, pairs in found.pairs.items()},
        "holm": {labels.name: len(pairs) > 2 for labels, pairs in found.pairs.items()},
        "notes": _notes(found, given),
    }


def _told_pair(pair: Compared) -> dict[str, Any]:
    return {
        **{
            side: {"run": str(one.run), "source": one.answers.source, "says": one.answers.labels.name}
            for side, one in (("first", pair.first), ("second", pair.second))
        },
        "rows": pair.rows,
        "asked": pair.asked,
        "media": pair.media,
        "metrics": {
            name: {
                "first": number(value.first),
                "second": number(value.second),
                "difference": number(value.value),
                "low": number(value.low),
                "high": number(value.high),
                "p": number(pair.p[name]),
                "verdict": pair.verdict(name),
            }
            for name, value in pair.differences.items()
        },
    }
