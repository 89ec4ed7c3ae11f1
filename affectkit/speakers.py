"""Which source of a run speaks for a label set: the chosen one, the head, the fusion, or the only one that can."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from affectkit.errors import UsageError, did_you_mean
from affectkit.labels import LabelSet, Outside, project, projects
from affectkit.tables import read_label_set, read_timelines
from affectkit.timeline import Timeline


@dataclass(frozen=True)
class Speaker:
    """The source of one label set: its id, the set that it speaks, and its timelines by medium, projected onto the wanted set."""

    labels: LabelSet
    source: str
    spoken: LabelSet
    timelines: Mapping[str, Sequence[Timeline]]


def speaker(run: str | Path, info: Mapping[str, Any], labels: LabelSet, who: str, chosen: str | None = None) -> Speaker:
    """The source of a label set in a run: the chosen one, else the head or the fusion, else the only one that can say it.

    Args:
        run: the run folder.
        info: what its ``run.json`` says.
        labels: the label set that is wanted.
        who: id of the submitter, for messages.
        chosen: component id, where the user chose one.

    Raises:
        UsageError: where none can say it, or several can and none is chosen; lists them.
    """
    sets = [read_label_set(info, name) for name in info.get("label_sets", {})]
    found = {own: _by_source(read_timelines(run, own.name)) for own in sets}
    can = {own: names for own, names in found.items() if own == labels or projects(own, labels)}
    exact, others = sorted(can.get(labels, {})), sorted({name for own, names in can.items() if own != labels for name in names})
    everyone = sorted({*exact, *others})
    if not everyone:
        there = "; ".join(f"{own.name} from {', '.join(sorted(names))}" for own, names in found.items() if names) or "nothing"
        raise UsageError(f"{who} needs {labels.name} ({', '.join(labels.labels)}), which the run {run} does not have; it has {there}")
    if chosen is not None and chosen not in everyone:
        raise UsageError(
            f"{chosen} says nothing in the run {run} that can be read as {labels.name}; {', '.join(everyone)} does. {did_you_mean(chosen, everyone)}"
        )
    recipe = info.get("recipe", {})
    wanted = chosen or next((name for name in (recipe.get("head"), recipe.get("fusion")) if name in exact), None)
    if wanted is None:
        choice = exact or others
        if len(choice) > 1:
            raise UsageError(
                f"several sources of the run {run} say {labels.name}: {', '.join(choice)}. Choose one with --source, for instance --source {choice[0]}"
            )
        wanted = choice[0]
    spoken = labels if wanted in exact else next(own for own, names in can.items() if wanted in names)
    timelines = can[spoken][wanted]
    if spoken != labels:
        timelines = [_projected(timeline, labels, recipe.get("outside", "other")) for timeline in timelines]
    grouped: dict[str, list[Timeline]] = {}
    for timeline in timelines:
        grouped.setdefault(timeline.media_id, []).append(timeline)
    return Speaker(labels, wanted, spoken, grouped)


def _by_source(timelines: Iterable[Timeline]) -> dict[str, list[Timeline]]:
    found: dict[str, list[Timeline]] = {}
    for timeline in timelines:
        found.setdefault(timeline.source, []).append(timeline)
    return found


def _projected(timeline: Timeline, labels: LabelSet, outside: Outside) -> Timeline:
    values, _ = project(timeline.values, timeline.labels, labels, outside)
    return Timeline(timeline.media_id, timeline.track, timeline.source, labels, timeline.start, timeline.end, values, timeline.valid)
