"""``affectkit submit``: a run into the submission file of a challenge; checking such a file, and scoring it where labels exist."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from affectkit.cli.options import PluginChoice, plugin_options
from affectkit.errors import AffectKitError, UsageError, raise_all

if TYPE_CHECKING:
    from affectkit.challenges import Problem, Submitter
    from affectkit.labels import LabelSet
    from affectkit.plugins import Registry
    from affectkit.submission import Answered, Choices, VideoReport

SHOWN = 10  # problems of one kind, and videos, that are printed one by one
ANOTHER_VERSION = 1.0  # seconds beyond the end of a file from which a list is thought to be of another version of the video


@click.command()
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option("--to", metavar="NAME", help="Challenge: abaw-ce, abaw-expr, abaw-va, abaw-au, abaw-mtl, or plugin/name of a plugin.")
@click.option("--template", type=click.Path(path_type=Path), metavar="LIST", help="The organisers' list of what to answer.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Submission file to write.")
@click.option(
    "--source", "sources", multiple=True, metavar="ID", help="Component whose values are taken; SET=ID where several label sets are needed."
)
@click.option(
    "--gaps",
    type=click.Choice(["hold", "interpolate", "published"]),
    default="hold",
    show_default=True,
    help="Frames without evidence: hold the last value, interpolate in time, or fill down the list as team RAS published.",
)
@click.option(
    "--default",
    "defaults",
    multiple=True,
    metavar="VALUE",
    help="Answer to lines without any evidence: a label, numbers, units or none; or SET=VALUE.",
)
@click.option(
    "--smooth",
    nargs=2,
    type=(click.Choice(["box", "gaussian"]), float),
    metavar="box|gaussian SECONDS",
    help="Smooth over time: whole width of the box, or standard deviation.",
)
@click.option("--threshold", type=float, help="Probability from which an action unit is there.  [default: 0.5]")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="An option of the challenge's plugin.")
@click.option(
    "--check", "check", type=click.Path(path_type=Path), metavar="FILE", help="Check this file against --template instead of writing one."
)
@click.option(
    "--score", "score", type=click.Path(path_type=Path), metavar="FILE", help="Score this file with --labels instead of writing one."
)
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Labels as the organisers give them out: a folder of VIDEO.txt, or a list.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@plugin_options()
def submit(plugins: PluginChoice, run: Path | None, check: Path | None, score: Path | None, as_json: bool, **given: Any) -> int:
    """Answer every line of a challenge's list from the run folder RUN.

    Windows that overlap are averaged per frame. To check a file: --check FILE --template LIST. To score one: --score FILE --labels PATH.
    """
    _refuse_mixtures(run, check, score, given)
    if check is not None:
        submitter = _find(plugins.registry, given["to"], (check, given["template"]), _options(given))
        return _show_problems(check, submitter, submitter.check(check, given["template"]), as_json)
    if score is not None:
        submitter = _find(plugins.registry, given["to"], (score,), _options(given))
        _show_score(score, submitter, submitter.score(score, given["labels"]), as_json)
        return 0
    from affectkit.submission import submit as write

    if run is None:
        raise UsageError("there is no run to submit: affectkit submit RUN --to NAME --template LIST --out FILE")
    submitter = _find(plugins.registry, given["to"], (given["template"],), _options(given))
    choices = _choices(submitter, given)
    answered = write(run, submitter, given["template"], given["out"], choices)
    report = _report(submitter, answered, choices, given["out"])
    click.echo(json.dumps(report, indent=2, ensure_ascii=False)) if as_json else _show(report, submitter, answered)
    return 0


def _refuse_mixtures(run: Path | None, check: Path | None, score: Path | None, given: Mapping[str, Any]) -> None:
    """What does not go together, and what is missing; all of it at once."""
    modes = [name for name, value in (("RUN", run), ("--check", check), ("--score", score)) if value is not None]
    if len(modes) > 1:
        raise UsageError(f"{' and '.join(modes)} are different things to do: submit a run, check a file, or score a file; give one of them")
    if not modes:
        raise UsageError("nothing to do: give a RUN to submit, --check FILE --template LIST, or --score FILE --labels PATH")
    needs = {"RUN": ("to", "template", "out"), "--check": ("template",), "--score": ("labels",)}[modes[0]]
    known = ("sources", "defaults", "smooth", "threshold", "settings") if run is not None else ("to", "settings")
    names = {"sources": "source", "defaults": "default", "settings": "set"}
    problems: list[AffectKitError] = []
    for option in ("to", "template", "out", "sources", "defaults", "smooth", "threshold", "settings", "labels"):
        there = given[option] is not None and given[option] != ()
        name = f"--{names.get(option, option)}"
        if option in needs and not there:
            problems.append(UsageError(f"{modes[0]} needs {name}"))
        elif there and option not in (*needs, *known):
            problems.append(UsageError(f"{name} means nothing with {modes[0]}; leave it out"))
    raise_all(problems)


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the submitter, as ``--set`` and ``--threshold`` give them."""
    import yaml

    options: dict[str, Any] = {}
    for text in given["settings"]:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"--set takes KEY=VALUE, found {text!r}")
        try:
            options[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UsageError(f"--set {key}: {value!r} is no value ({error})") from error
    return options | ({} if given["threshold"] is None else {"threshold": given["threshold"]})


def _find(registry: Registry, name: str | None, files: Sequence[Path], options: Mapping[str, Any]) -> Submitter:
    """The submitter of that name, else the only one that recognises one of the files."""
    from affectkit.challenges import Submitter
    from affectkit.options import build

    if name is None:
        absent = [str(file) for file in files if not file.is_file()]
        if absent:
            raise UsageError(f"there is no file {' and no file '.join(absent)}")
        made = {entry.id: entry.cls() for entry in registry.entries("submitter")}
        for file in files:
            found = [id for id, one in made.items() if isinstance(one, Submitter) and one.recognises(file)]
            if found:
                break
        if len(found) != 1:
            which = f"it may be of {' or '.join(found)}" if found else f"known are {', '.join(made)}"
            raise UsageError(f"the first line of {files[0]} does not tell which challenge it is of ({which}); give it with --to")
        name = found[0]
    entry = registry.get(name if "/" in name else f"core/{name}", "submitter")
    submitter = entry.cls(build(entry.cls.Options, options, where=(entry.id,)))
    submitter.id = entry.id
    if not isinstance(submitter, Submitter):
        raise TypeError(f"{entry.id} is no submitter")
    return submitter


def _choices(submitter: Submitter, given: Mapping[str, Any]) -> Choices:
    from affectkit.submission import Choices, default_of

    sets = {labels.name: labels for labels in submitter.label_sets}
    problems: list[AffectKitError] = []
    sources = _by_set("--source", given["sources"], sets, problems)
    defaults = {}
    for name, text in _by_set("--default", given["defaults"], sets, problems).items():
        try:
            defaults[name] = default_of(sets[name], text)
        except UsageError as problem:
            problems.append(problem)
    if given["smooth"] is not None and not (math.isfinite(given["smooth"][1]) and given["smooth"][1] > 0):
        problems.append(UsageError(f"--smooth needs seconds greater than 0, found {given['smooth'][1]:g}"))
    raise_all(problems)
    return Choices(given["gaps"], given["smooth"], sources, defaults)


def _by_set(option: str, texts: Sequence[str], sets: Mapping[str, LabelSet], problems: list[AffectKitError]) -> dict[str, str]:
    """What an option says by label set: ``SET=VALUE``, or only the value where there is one set."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals and len(sets) == 1:
            name, value = next(iter(sets)), text
        if name not in sets:
            problems.append(UsageError(f"{option} takes {' or '.join(f'{known}=...' for known in sets)}, found {text!r}"))
        elif name in found:
            problems.append(UsageError(f"{option} is given twice for {name}: {found[name]} and {value}"))
        else:
            found[name] = value
    return found


def _report(submitter: Submitter, answered: Answered, choices: Choices, out: Path) -> dict[str, Any]:
    """What is told of a submission, as plain data."""
    lines = len(answered.asked)
    sets = {}
    for report in answered.sets:
        sets[report.labels.name] = {
            "source": report.source,
            "read_from": report.spoken.name,
            "evidence": report.evidence,
            "gaps": report.filled,
            "from_other_videos": report.crossed,
            "default": report.default,
            "share": {
                name: round(n / lines, 4)
                for name, n in (("evidence", report.evidence), ("gaps", report.filled), ("default", report.default))
            },
            "unsaid": list(report.unsaid),
            "answers": _answers(submitter, report.labels, answered.values[report.labels]),
        }
    videos = {
        video.name: {
            "media": video.media or None,
            "subject": video.side or "most present",
            "lines": video.lines,
            "frames": video.frames,
            "not_in_the_file": video.extra,
            "seconds_beyond": round(video.beyond, 3),
            "not_asked_for": video.unasked,
        }
        for video in answered.videos
    }
    return {
        "out": str(out),
        "to": submitter.id,
        "lines": lines,
        "gaps": choices.gaps,
        "smooth": list(choices.smoothing) if choices.smoothing else None,
        "sets": sets,
        "remarks": {name: value if math.isfinite(value) else None for name, value in submitter.remarks(answered.values).items()},
        "videos": videos,
        "warnings": _warnings(answered.videos),
        "media_not_asked_for": list(answered.unasked),
    }


def _answers(submitter: Submitter, labels: LabelSet, values: Any) -> dict[str, Any]:
    """What was answered, in numbers: lines per class, mean and range, or the share of lines in which a unit is there."""
    import numpy as np

    from affectkit.metrics import THRESHOLD, predicted_class

    if labels.kind == "categorical":
        counts = np.bincount(predicted_class(values), minlength=len(labels))
        return dict(zip(labels.labels, counts.tolist(), strict=True))
    if labels.kind == "multilabel":
        there = values >= getattr(submitter.options, "threshold", THRESHOLD)
        return {label: round(float(share), 4) for label, share in zip(labels.labels, there.mean(axis=0), strict=True)}
    return {
        label: {"mean": round(float(column.mean()), 4), "low": round(float(column.min()), 4), "high": round(float(column.max()), 4)}
        for label, column in zip(labels.labels, values.T, strict=True)
    }


def _show(report: Mapping[str, Any], submitter: Submitter, answered: Answered) -> None:
    lines = report["lines"]
    for one in answered.sets:
        found = report["sets"][one.labels.name]
        through = "" if one.spoken == one.labels else f" (read from {one.spoken.name})"
        click.echo(f"{one.labels.name} from {one.source}{through}")
        crossed = f", {one.crossed} of them from another video" if one.crossed else ""
        for count, how in ((one.evidence, "evidence"), (one.filled, f"filled, {report['gaps']}{crossed}"), (one.default, "default")):
            if count or how == "evidence":
                click.echo(f"  {count / lines:6.1%}  {how} ({count} of {lines} lines)")
        if one.unsaid:
            click.echo(f"  never said by {one.source}: {', '.join(one.unsaid)}")
        for label, value in found["answers"].items():
            if one.labels.kind == "continuous":
                click.echo(f"  {label}: mean {value['mean']:.3f}, from {value['low']:.3f} to {value['high']:.3f}")
            else:
                share = value / lines if one.labels.kind == "categorical" else value
                click.echo(f"  {label:24} {share:6.1%}")
    remarks = submitter.remarks(answered.values)
    if remarks:
        click.echo("Diagnostics, which are no scores: " + ", ".join(f"{name} {value:.3f}" for name, value in remarks.items()))
    for text in _differences(answered.videos):
        click.echo(text)
    if answered.unasked:
        from affectkit.submission import listed

        click.echo(f"In the run and not in the list: {listed(answered.unasked)}")
    click.echo(f"{report['out']}: {lines} lines for {submitter.id}, checked")
    for text in report["warnings"]:
        click.echo(f"Warning: {text}", err=True)


def _differences(videos: Sequence[VideoReport]) -> list[str]:
    """A line per video whose frames are not those of the list."""
    found = []
    for video in videos:
        extra = f"{_count(video.extra, 'line')} for frames that the file does not have, filled" if video.extra else ""
        unasked = f"{_count(video.unasked, 'frame')} that the list does not ask for" if video.unasked else ""
        if extra or unasked:
            found.append(f"{video.name} (list {video.lines}, file {video.frames}): {', '.join(filter(None, (extra, unasked)))}")
    return found[:SHOWN] + ([f"... and {len(found) - SHOWN} more videos that differ; --json has them all"] if len(found) > SHOWN else [])


def _warnings(videos: Sequence[VideoReport]) -> list[str]:
    from affectkit.submission import listed

    found = [
        f"the list goes {video.beyond:.1f} s beyond the end of {video.media} ({video.lines} lines for {video.name}, {video.frames} frames); "
        "the file may be another version of the video"
        for video in videos
        if video.beyond > ANOTHER_VERSION
    ]
    computed = [video.name for video in videos if not video.exact]
    if computed:
        found.append(f"no pictures of {listed(computed)} were decoded, so the times of their frames follow from the frame rate")
    return found


def _show_problems(file: Path, submitter: Submitter, problems: Sequence[Problem], as_json: bool) -> int:
    kinds = Counter(problem.kind for problem in problems)
    if as_json:
        told = [{"line": problem.line, "kind": problem.kind, "message": problem.message} for problem in problems]
        click.echo(
            json.dumps({"file": str(file), "to": submitter.id, "problems": told, "kinds": dict(kinds)}, indent=2, ensure_ascii=False)
        )
        return 1 if problems else 0
    shown: Counter[str] = Counter()
    for problem in problems:
        shown[problem.kind] += 1
        if shown[problem.kind] <= SHOWN:
            click.echo(f"line {problem.line}: {problem.message}" if problem.line else problem.message)
        if shown[problem.kind] == kinds[problem.kind] > SHOWN:
            click.echo(
                f"... and {kinds[problem.kind] - SHOWN} more{f' of this kind ({problem.kind})' if problem.kind else ''}; --json has them all"
            )
    counted = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if kind)
    click.echo(
        f"{file}: {_count(len(problems), 'problem')} for {submitter.id}{f' ({counted})' if counted else ''}"
        if problems
        else f"{file}: nothing wrong for {submitter.id}"
    )
    return 1 if problems else 0


def _show_score(file: Path, submitter: Submitter, scores: Mapping[str, float], as_json: bool) -> None:
    if as_json:
        plain = {name: value if math.isfinite(value) else None for name, value in scores.items()}
        click.echo(json.dumps({"file": str(file), "to": submitter.id, "scores": plain}, indent=2, ensure_ascii=False))
        return
    for name, value in scores.items():
        click.echo(f"{name:24} {value:g}" if float(value).is_integer() and abs(value) > 1 else f"{name:24} {value:.4f}")
    click.echo(f"{file}: official metric of {submitter.id} first")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
