"""Model cards: the record of a training as a page of Markdown. Every figure on it is in the record, and so comes from the command that it names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from affectkit.checkpoints import readable
from affectkit.fitting import COLDEST, HOTTEST

GROUPS_APART = "No group (a speaker, a subject, a film) is in two parts."
EACH_ALONE = "Each row is a group of its own: nothing says which rows are of one person or film, so those of one may be in two parts."


def card(record: Mapping[str, Any]) -> str:
    """The text of a model card.

    Args:
        record: as :func:`affectkit.making.make` writes it.
    """
    lines = [f"# {record['title']}", "", record["what"], ""]
    if record.get("limited_to"):
        lines += [f"**A quick try with at most {record['limited_to']} rows of each part; of no use.**", ""]
    lines += [
        f"- Data: {record['data']}",
        f"- Licence of the weights: {record['licence']}",
        f"- Size: {record['parameters']:,} numbers, {readable(record['bytes'])}; sha256 `{record['sha256']}`",
        f"- Labels ({record['label_set']}): {', '.join(record['labels'])}",
        f"- Made by: `{record['command']}`",
        *([f"- Kept: epoch {record['epoch']} of {record['epochs_made']}, {_chosen(record)}"] if record["epochs_made"] else []),
        *(f"- Note: {note}" for note in record.get("notes", ())),
        "",
        "| part | rows | groups | what |",
        "|---|---|---|---|",
    ]
    lines += [f"| {name} | {part['rows']:,} | {part['groups']:,} | {part['about']} |" for name, part in record["rows"].items()]
    grouped = any(part["groups"] < part["rows"] for part in record["rows"].values())
    lines += ["", record.get("apart") or (GROUPS_APART if grouped else EACH_ALONE), ""]
    views = {name: found for name, found in record["validation"].items() if name not in ("calibration", "further")}
    for name, found in views.items():
        lines += [
            f"## Measured on validation{'' if name == 'all' else f': {name}'}",
            "",
            "| metric | value | 95 % interval |",
            "|---|---|---|",
        ]
        lines += [f"| {metric} | {number(score['value'])} | {_interval(score)} |" for metric, score in found.items()]
        lines.append("")
    lines += ["Intervals are bootstrap intervals over groups; `ece` is the expected calibration error over 15 bins.", ""]
    if further := record["validation"].get("further"):
        lines += ["| further figure | value |", "|---|---|", *(f"| {name} | {number(value)} |" for name, value in further.items()), ""]
    if calibration := record["validation"].get("calibration"):
        lines += [
            f"The temperature {record['temperature']:.3f} was chosen on the calibration part. On the validation part, which it has not seen, "
            f"it takes the calibration error from {number(calibration['ece_before'])} to {number(calibration['ece_after'])}.",
            "",
        ]
        if not COLDEST * 1.01 < record["temperature"] < HOTTEST / 1.01:
            lines += [
                "**This temperature is at the end of what was looked at: the calibration part is too small, or all of it right or wrong.**",
                "",
            ]
    return "\n".join([*lines, "## Limits", "", record["limits"], ""])


def number(value: float | None) -> str:
    """A figure with three digits; ``-`` where there is none.

    >>> number(0.12345), number(None)
    ('0.123', '-')
    """
    return "-" if value is None else f"{value:.3f}"


def _interval(score: Mapping[str, float | None]) -> str:
    return "-" if score["low"] is None else f"{number(score['low'])} to {number(score['high'])}"


def _chosen(record: Mapping[str, Any]) -> str:
    metric = record["epoch_chosen_by"]
    return (
        "the last one"
        if metric is None
        else f"the one with the largest {metric} on the validation part, whose figures are therefore a little high"
    )
