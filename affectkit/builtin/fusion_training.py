"""``core/fusion_training``: fits the named fusions on prediction tables, compares them by nested cross-validation, and writes each as a file."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import affectkit
from affectkit.builtin.class_weights import VERSIONS
from affectkit.builtin.fusing import GRIDS, Checked, Fit, Rows, check, choose, fit, named
from affectkit.builtin.labelled import Labelled, Window, groups_of, labelled, side_by_side
from affectkit.builtin.trainings import LIMITS, FusionOptions, MHPFTraining
from affectkit.builtin.weight_report import weight_picture, weight_table
from affectkit.errors import ConfigError, UsageError
from affectkit.files import replacing
from affectkit.intervals import RESAMPLES, Difference, Score, Tally, differences, scores, tally_classes
from affectkit.labels import BASIC8, project
from affectkit.tables import read_quality
from affectkit.trainings import About, Written

if TYPE_CHECKING:
    from affectkit.builtin.fitted import Sharpening

DRAWS = 10_000  # of the Dirichlet search that is written, as AVCER made
READERS: dict[str, str] = {
    "dirichlet": "core/dirichlet",
    "convex": "core/convex",
    "mhpf": "core/mhpf",
    "mhpf_published": "core/mhpf",
    "mhpf_gated": "core/mhpf_gated",
    **dict.fromkeys(VERSIONS, "core/probability_fusion"),
}
"""The component that reads the file of each fusion; the mean needs none."""


@dataclass(frozen=True, kw_only=True)
class ComparedOptions(FusionOptions):
    """Options of ``core/fusion_training``.

    Attributes:
        predictions: run folders, or folders of them, instead of ``--data``; sources of the same windows may be in different runs.
        fusions: which are fitted: ``mean``, ``dirichlet``, ``convex``, ``mhpf``, ``mhpf_published``, ``mhpf_gated``; also ``v1``, ``v3``,
            ``v4`` and ``v5``, which team RAS published before MHPF.
        outer: folds in which whole groups are held out.
        inner: folds of the rest, in which options are chosen.
        leave_out: whether each is fitted again without each source.
    """

    predictions: tuple[Path, ...] = ()
    fusions: tuple[str, ...] = tuple(name for name in GRIDS if name not in VERSIONS)
    outer: int = 5
    inner: int = 3
    leave_out: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.outer < 2 or self.inner < 2:
            raise ConfigError(f"outer and inner are numbers of folds, 2 or more, found {self.outer} and {self.inner}")


class FusionTraining(MHPFTraining):
    """Fusions of the sources of labelled runs: each is measured by nested cross-validation over whole groups, then fitted on all rows and written.

    Nothing is learned in steps: ``epochs``, ``optimiser`` and the like mean nothing to it. It writes a file of weights for each fusion, ``NAME_FUSION.safetensors``, the record
    ``NAME.json``, the card ``NAME.md`` with the weights as tables, and the picture ``NAME.png`` of them.
    """

    name = "fusion_training"
    Options = ComparedOptions

    def make_at_once(self, data: Path | None, out: Path, name: str, *, seed: int, command: str, report: Callable[[str], None]) -> Written:
        """See :class:`FusionTraining`.

        Raises:
            UsageError: for unknown fusions, no predictions, sources or labels that cannot be used, or too few groups.
        """
        wanted = named(self.options.fusions)
        places = self.options.predictions or (() if data is None else (data,))
        if not places:
            raise UsageError(f"{self.id} needs predictions: give run folders with --predictions RUN, or --data")
        self._found = found = labelled(places, self.options.labels, self.options.set)
        rows = read_rows(found, self.options.sources, self.options.groups)
        self._sources = rows.sources
        labels = BASIC8.labels
        checked: dict[str, Checked] = {}
        for fusion in wanted:
            report(f"{fusion}: {self.options.outer} x {self.options.inner} folds of {len(rows)} rows")
            checked[fusion] = check(
                fusion, rows, outer=self.options.outer, inner=self.options.inner, seed=seed, leave_out=self.options.leave_out
            )
        tallies = {fusion: _tally(rows, one.fused) for fusion, one in checked.items()}
        alone = {source: _tally(rows, rows.values[:, place]) for place, source in enumerate(rows.sources)}
        files, fits = [], {}
        about = self.about()
        record: dict[str, Any] = {
            **about.record(name, command),
            "sources": list(rows.sources),
            "label_set": BASIC8.name,
            "labels": list(labels),
            "rows": len(rows),
            "groups": len(np.unique(rows.groups)),
            "rows_of_class": {label: int((rows.truth == column).sum()) for column, label in enumerate(labels)},
            "outer": self.options.outer,
            "inner": self.options.inner,
            "seed": seed,
            "sources_alone": {source: _plain(scores(tally, RESAMPLES)) for source, tally in alone.items()},
            "fusions": {},
            "affectkit": affectkit.__version__,
            "python": platform.python_version(),
        }
        for fusion in wanted:
            options = choose(fusion, rows, self.options.outer, seed)
            fits[fusion] = made = fit(fusion, rows, options, seed=seed, draws=DRAWS)
            sharpening = _sharpening(checked[fusion].fused, rows.truth)
            record["fusions"][fusion] = told = {
                "measured": _plain(scores(tallies[fusion], RESAMPLES)),
                "chosen_in_folds": [dict(chosen) for chosen in checked[fusion].chosen],
                "options": dict(options),
                "weights": _numbers(made.weights),
                "temperature": sharpening.temperature,
                "macro_f1_without": dict(checked[fusion].without),
                "component": READERS.get(fusion, "core/mean"),
            }
            if "mean" in tallies and fusion != "mean":
                told["against_the_mean"] = _difference(differences(tallies["mean"], tallies[fusion], RESAMPLES)["macro_f1"])
            if fusion in READERS:
                path = out / f"{name}_{fusion}.safetensors"
                kept = {key: value for key, value in record.items() if key in ("licence", "command", "rows", "groups", "seed")}
                _write(path, made, rows, {**kept, "source": about.data, "fusion": fusion, "options": dict(options)}, sharpening)
                files.append(path)
                told["file"] = path.name
        picture, card, plain = (out / f"{name}.{suffix}" for suffix in ("png", "md", "json"))
        said = [column for column, label in enumerate(labels) if not np.isnan(rows.values[:, :, column]).all()]
        shown = tuple(labels[column] for column in said)
        weights = {fusion: made.weights[:, said] for fusion, made in fits.items()}
        weight_picture(picture, weights, rows.sources, shown)
        for path, text in ((card, _card(record, weights, shown, picture.name)), (plain, json.dumps(record, indent=2) + "\n")):
            with replacing(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        return Written((*files, picture, plain, card), record, tuple(_lines(record)))

    def about(self) -> About:
        count = 0 if self._found is None else len(self._found.runs)
        what = (
            f"Fusions of {', '.join(self._sources)}, fitted on what they say of labelled windows and compared by nested cross-validation."
        )
        return self._about("Weights of fusions", what, count)


def read_rows(found: Labelled, sources: Sequence[str] = (), groups: str | None = None) -> Rows:
    """The labelled windows of runs in which at least one source says something, with its quality figures.

    Args:
        found: the runs and their annotations.
        sources: names, in order; none for all modalities that speak labels of ``basic8``.
        groups: as in :class:`affectkit.builtin.trainings.Labels`.

    Raises:
        UsageError: where no window can be used.
    """
    names, windows, values = side_by_side(found, sources)
    truth, _ = project(found.truth(windows), found.labels, BASIC8, "other")
    ordered = np.sort(np.nan_to_num(truth), axis=1)
    kept = np.flatnonzero((ordered[:, -1] > ordered[:, -2]) & np.isfinite(values).any(axis=(1, 2)))
    if not len(kept):
        raise UsageError("no window of the predictions that some source says has a label; do the annotations name the same media?")
    windows = [windows[row] for row in kept]
    figures, quality = _quality(found, names, windows)
    return Rows(
        names, values[kept].astype(np.float64), np.nan_to_num(truth[kept]).argmax(axis=1), groups_of(windows, groups), quality, figures
    )


def _quality(found: Labelled, sources: Sequence[str], windows: Sequence[Window]) -> tuple[tuple[tuple[str, ...], ...], np.ndarray | None]:
    """Names of the quality figures of each source, and (N, M, Q) of them; ``None`` where there are none."""
    known: dict[tuple[str, str, int, float, float], dict[str, float]] = {}
    names: dict[str, dict[str, None]] = {source: {} for source in sources}
    for run in found.runs:
        table = read_quality(run)
        figures = [column for column in table.columns if column not in ("media", "track", "start", "end", "source")]
        for row in table.to_dict("records"):
            if row["source"] in names:
                there = {figure: float(row[figure]) for figure in figures if np.isfinite(row[figure])}
                names[row["source"]] |= dict.fromkeys(there)
                known[row["source"], row["media"], int(row["track"]), round(row["start"], 3), round(row["end"], 3)] = there
    count = max((len(own) for own in names.values()), default=0)
    listed = tuple(tuple(names[source]) for source in sources)
    if not count:
        return listed, None
    out = np.full((len(windows), len(sources), count), np.nan)
    for place, source in enumerate(sources):
        for number, (_, medium, track, start, end) in enumerate(windows):
            key = (round(start, 3), round(end, 3))
            found_here = known.get((source, medium, track, *key), known.get((source, medium, -1, *key), {}))
            for column, figure in enumerate(listed[place]):
                out[number, place, column] = found_here.get(figure, np.nan)
    return listed, out


def _write(path: Path, made: Fit, rows: Rows, record: Mapping[str, Any], sharpening: Sharpening) -> None:
    import torch

    from affectkit.builtin.class_weights import save_weights
    from affectkit.builtin.fitted import save_fitted
    from affectkit.builtin.fusion import save_mhpf
    from affectkit.builtin.gated import save_gated

    if made.name in ("dirichlet", "convex"):
        save_weights(path, READERS[made.name], torch.from_numpy(made.weights), rows.sources, BASIC8, record, sharpening)
    elif made.name in VERSIONS:
        save_fitted(path, READERS[made.name], made.model, rows.sources, BASIC8, record, sharpening)  # type: ignore[arg-type]
    elif made.name == "mhpf_gated":
        save_gated(path, made.model, rows.sources, rows.quality_names, BASIC8, record, sharpening)  # type: ignore[arg-type]
    else:
        save_mhpf(path, made.model, rows.sources, BASIC8, record, sharpening)  # type: ignore[arg-type]


def _sharpening(fused: np.ndarray, truth: np.ndarray) -> Sharpening:
    """The temperature that fits rows which were held out."""
    import torch

    from affectkit.builtin.fitted import Sharpening
    from affectkit.fitting import fit_temperature

    some = np.flatnonzero(~np.isnan(fused).all(axis=1))
    logits = torch.from_numpy(np.log(np.nan_to_num(fused[some]).clip(1e-9)))
    return Sharpening(fit_temperature(logits, truth[some]))


def _tally(rows: Rows, fused: np.ndarray) -> Tally:
    return tally_classes(rows.truth, fused, rows.groups, BASIC8.labels, unanswered=True)


def _plain(found: Mapping[str, Score]) -> dict[str, dict[str, float | None]]:
    return {
        metric: {"value": _number(score.value), "low": score.low, "high": score.high}
        for metric, score in found.items()
        if "/" not in metric or metric.startswith("f1/")
    }


def _difference(found: Difference) -> dict[str, float | None]:
    return {"value": found.value, "low": found.low, "high": found.high, "p": found.p}


def _numbers(weights: np.ndarray) -> list[list[float]]:
    return [[round(float(value), 6) for value in row] for row in weights]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _score(found: Mapping[str, Any], metric: str) -> str:
    score = found[metric]
    if score["value"] is None:
        return "-"
    return f"{score['value']:.3f}" + ("" if score["low"] is None else f" [{score['low']:.3f}, {score['high']:.3f}]")


def _lines(record: Mapping[str, Any]) -> list[str]:
    """What the command prints: one line per source and fusion."""
    width = max(len(name) for name in (*record["sources"], *record["fusions"]))
    lines = [
        f"{record['rows']} rows of {record['groups']} groups; {record['outer']} folds of whole groups, options chosen in {record['inner']} folds of the rest"
    ]
    for source, found in record["sources_alone"].items():
        lines.append(f"{source:{width}}  macro-F1 {_score(found, 'macro_f1')}  war {_score(found, 'war')}")
    for fusion, told in record["fusions"].items():
        line = f"{fusion:{width}}  macro-F1 {_score(told['measured'], 'macro_f1')}  war {_score(told['measured'], 'war')}"
        if against := told.get("against_the_mean"):
            line += f"  against the mean {against['value']:+.3f}" + ("" if against["p"] is None else f", p {against['p']:.3f}")
        lines.append(line)
    return lines


def _card(record: Mapping[str, Any], weights: Mapping[str, np.ndarray], labels: Sequence[str], picture: str) -> str:
    """The model card."""
    lines = [
        f"# {record['title']}",
        "",
        record["what"],
        "",
        f"- Data: {record['data']}",
        f"- Licence of the weights: {record['licence']}",
        f"- Rows: {record['rows']} of {record['groups']} groups",
        f"- Made by: `{record['command']}`",
        "",
        f"## Measured on groups that were held out ({record['outer']} folds)",
        "",
        f"Options are chosen in {record['inner']} folds of the rest. Intervals are bootstrap intervals over groups.",
        "",
        "| | macro-F1 | UAR | WAR | ECE | against the mean | p |",
        "|---|---|---|---|---|---|---|",
    ]
    for source, found in record["sources_alone"].items():
        lines.append(
            f"| {source} alone | " + " | ".join(_score(found, metric) for metric in ("macro_f1", "uar", "war", "ece")) + " | - | - |"
        )
    for fusion, told in record["fusions"].items():
        against = told.get("against_the_mean")
        compared = "- | -" if against is None else f"{against['value']:+.3f} | " + ("-" if against["p"] is None else f"{against['p']:.3f}")
        cells = " | ".join(_score(told["measured"], metric) for metric in ("macro_f1", "uar", "war", "ece"))
        lines.append(f"| {fusion} | {cells} | {compared} |")
    if any(told["macro_f1_without"] for told in record["fusions"].values()):
        lines += ["", "## Without one source", "", "| macro-F1 | " + " | ".join(f"without {source}" for source in record["sources"]) + " |"]
        lines.append("|---" * (len(record["sources"]) + 1) + "|")
        for fusion, told in record["fusions"].items():
            lines.append(f"| {fusion} | " + " | ".join(f"{told['macro_f1_without'][source]:.3f}" for source in record["sources"]) + " |")
    lines += ["", "## Which source carries which class", "", f"![Weights of each fusion]({picture})", ""]
    for fusion, table in weights.items():
        told = record["fusions"][fusion]
        chosen = ", ".join(f"{key} {value}" for key, value in told["options"].items()) or "no options"
        read = f"; read by `{told['component']}` from `{told['file']}`" if "file" in told else ""
        mean = ", the mean over the rows" if fusion == "mhpf_gated" else ""
        lines += [
            f"### {fusion}",
            "",
            f"Fitted on all rows with {chosen}{read}. Weights{mean}:",
            "",
            weight_table(table, record["sources"], labels),
            "",
        ]
    return "\n".join([*lines, "## Limits", "", LIMITS, ""])
