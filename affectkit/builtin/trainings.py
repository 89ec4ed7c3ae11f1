"""What ``affectkit train`` makes of runs and labels: heads on frozen embeddings, weights of ``core/mhpf``, temperatures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from affectkit.builtin.labelled import Labelled, Window, apart, groups_of, labelled, said, side_by_side
from affectkit.errors import ConfigError, UsageError, did_you_mean
from affectkit.labels import BASIC8, LabelSet, project
from affectkit.trainings import About, Part, Training, Turn

if TYPE_CHECKING:
    import torch

LIMITS = "It was made of the runs and labels of whoever made it: it is as good as those are, on media like those."


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Where labels come from and what is kept apart.

    Attributes:
        labels: annotations, as ``affectkit evaluate`` reads them.
        set: name of their label set, where they do not tell.
        groups: regular expression whose first brackets find in the name of a medium what it is of (speaker, film), so that this is in one part
            alone; ``None`` takes each medium for itself.
        held: share of the groups that is kept for validation and calibration.
        seed: of what is kept.
        licence: terms of what is made.
    """

    labels: Path
    set: str | None = None
    groups: str | None = None
    held: float = 0.4
    seed: int = 0
    licence: str = "unknown"

    def __post_init__(self) -> None:
        if not 0 < self.held < 1:
            raise ConfigError(f"held must be between 0 and 1, found {self.held}")


@dataclass(frozen=True, kw_only=True)
class EmbeddingOptions(Labels):
    """Options of ``core/embedding_training``.

    Attributes:
        embedding: ``plugin/component:name``, for instance ``mini/face_static:face``.
        hidden: width of the hidden layer, 0 for none.
        dropout: share of the hidden numbers that are left out in training.
        smoothing: seconds, as in ``core/embedding_head``; travels with the weights.
        gate: as in ``core/embedding_head``; travels with the weights.
    """

    embedding: str
    hidden: int = 64
    dropout: float = 0.3
    smoothing: float = 0.0
    gate: float = 0.0


@dataclass(frozen=True, kw_only=True)
class FusionOptions(Labels):
    """Options of ``core/mhpf_training``.

    Attributes:
        sources: modalities of the run, in the order of the weights; none for all that speak labels of ``basic8``.
    """

    sources: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TemperatureOptions(Labels):
    """Options of ``core/temperature``.

    Attributes:
        source: the modality, for instance ``mini/audio``.
        weights: its file of weights, whose header holds a temperature.
    """

    source: str
    weights: Path


class RunTraining(Training):
    """What trainings from runs share: rows are windows with a label, shared out by groups."""

    def rows(self, found: Labelled, windows: list[Window], truth: np.ndarray, tensors: Mapping[str, np.ndarray]) -> dict[str, Part]:
        """The parts of the rows that have a label.

        Args:
            found: the runs and their labels.
            windows: N windows.
            truth: (N, C) what is annotated in each; NaN where nothing is.
            tensors: (N, ...) by name, of which a batch takes its rows.
        """
        kept = ~np.isnan(truth).all(axis=1)
        categorical = found.labels.kind == "categorical"
        if categorical:
            ordered = np.sort(np.nan_to_num(truth), axis=1)
            kept &= ordered[:, -1] > (ordered[:, -2] if truth.shape[1] > 1 else 0)  # of two classes that are as likely neither is true
        if not kept.any():
            raise UsageError(f"no window with something to learn from has a label in {self.options.labels}")
        rows = np.flatnonzero(kept)
        windows = [windows[row] for row in rows]
        given = {name: values[rows] for name, values in tensors.items()}
        wanted = np.nan_to_num(truth[rows]).argmax(axis=1) if categorical else truth[rows]
        groups = groups_of(windows, self.options.groups)
        series = np.unique(np.array([f"{run} {medium} {track}" for run, medium, track, _, _ in windows]), return_inverse=True)[1]
        given |= {"series": series.ravel(), "time": np.array([(start + end) / 2 for *_, start, end in windows])}

        def batch(some: np.ndarray, turn: Turn | None) -> Mapping[str, np.ndarray]:
            return {name: values[some] for name, values in given.items()}

        whole = Part(
            wanted, groups, batch, about=f"windows of {len({window[:2] for window in windows})} labelled media, shared out by groups"
        )
        held = apart(groups, self.options.held, self.options.seed) if self.learns else np.ones(len(groups), dtype=bool)
        parts = {"validation": whole.take(np.flatnonzero(held))}
        return parts | ({"train": whole.take(np.flatnonzero(~held))} if self.learns else {})

    def _about(self, title: str, what: str, runs: int, licence: str | None = None) -> About:
        data = f"windows of {runs} run{'s' * (runs != 1)} of affectkit, with the labels of {Path(self.options.labels).name} ({self.labels.name})"
        return About(title, what, data, licence or self.options.licence, LIMITS)


class EmbeddingTraining(RunTraining):
    """A small network over the frozen embedding of any modality, for ``core/embedding_head``; made of runs with ``--embeddings``."""

    name = "embedding_training"
    Options: ClassVar[type] = EmbeddingOptions

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self._found: Labelled | None = None
        self._size = 0

    @property
    def labels(self) -> LabelSet:  # type: ignore[override]
        """Those of the annotations; ``basic8`` until they were read."""
        return BASIC8 if self._found is None else self._found.labels

    def parts(self, data: Path) -> Mapping[str, Part]:
        """Windows that have the embedding and a label."""
        import pyarrow.parquet as pq

        self._found = found = labelled(data, self.options.labels, self.options.set)
        source, _, name = self.options.embedding.partition(":")
        windows: list[Window] = []
        vectors: list[np.ndarray] = []
        known: set[str] = set()
        for run in found.runs:
            for path in sorted((run / "embeddings.parquet").glob("*.parquet")):
                for row in pq.read_table(path).to_pylist():
                    known.add(f"{row['source']}:{row['name']}")
                    if (row["source"], row["name"]) == (source, name):
                        windows.append((str(run), row["media"], int(row["track"]), row["start"], row["end"]))
                        vectors.append(np.array(row["vector"], dtype=np.float32))
        if not known:
            raise UsageError(f"{data} holds no embeddings; make it with affectkit run --embeddings")
        if not vectors:
            raise UsageError(f"{data} holds no embedding {self.options.embedding!r}. {did_you_mean(self.options.embedding, known)}")
        self._size = len(vectors[0])
        return self.rows(found, windows, found.truth(windows), {"embedding": np.stack(vectors)})

    def network(self) -> torch.nn.Module:
        from affectkit.builtin.perceptron import Perceptron

        if not self._size:
            raise UsageError(f"{self.id} knows the size of {self.options.embedding} when it has read a run")
        return Perceptron(self._size, self.options.hidden, len(self.labels), self.options.dropout)

    def predict(self, network: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        found: torch.Tensor = network(batch["embedding"])
        return found

    def settings(self, logits: torch.Tensor, truth: np.ndarray) -> Mapping[str, Any]:
        """The temperature, and what ``core/embedding_head`` must know."""
        labels, mine = self.labels, self.options
        return {
            **super().settings(logits, truth),
            "label_set": labels.name,
            "kind": labels.kind,
            "low": labels.low,
            "high": labels.high,
            "embedding": mine.embedding,
            "size": self._size,
            "hidden": mine.hidden,
            "smoothing": mine.smoothing,
            "gate": mine.gate,
        }

    def figures(self, network: torch.nn.Module, part: Part, logits: torch.Tensor, settings: Mapping[str, Any]) -> Mapping[str, float]:
        """What smoothing and the gate do on the validation part."""
        from affectkit import fitting
        from affectkit.builtin.embedding_head import gated, smoothed

        if not (self.options.smoothing or self.options.gate) or self.labels.kind != "categorical":
            return {}
        values, batch = self.probabilities(logits, settings), part.batch(np.arange(len(part)), None)
        out = {}
        if self.options.smoothing:
            import torch

            values = torch.from_numpy(smoothed(values.numpy(), batch["series"], batch["time"], self.options.smoothing))
            out["macro_f1 smoothed"] = fitting.metrics(self.labels, part, values.numpy())["macro_f1"]
        if self.options.gate:
            values = gated(values, self.options.gate)
            out["macro_f1 behind the gate"] = fitting.metrics(self.labels, part, values.numpy())["macro_f1"]
            out["share of windows that pass the gate"] = float((~values.isnan().all(dim=1)).float().mean())
        return out

    def about(self) -> About:
        what = f"{'Two layers' if self.options.hidden else 'One layer'} over the frozen embedding `{self.options.embedding}`, for `core/embedding_head`."
        return self._about(f"A head on {self.options.embedding}", what, len(_seen(self._found).runs))


class MHPFTraining(RunTraining):
    """Weights of ``core/mhpf`` per source and class, from what the sources of labelled runs say; begins at about equal weights."""

    name = "mhpf_training"
    labels = BASIC8
    Options = FusionOptions

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self._found: Labelled | None = None
        self._sources: tuple[str, ...] = tuple(self.options.sources) if options is not None else ()

    def parts(self, data: Path) -> Mapping[str, Part]:
        """Windows with a label in which at least one source says something."""

        self._found = found = labelled(data, self.options.labels, self.options.set)
        self._sources, windows, values = side_by_side(found, self.options.sources)
        truth, _ = project(found.truth(windows), found.labels, BASIC8, "other")
        valid = np.isfinite(values)
        truth[~valid.any(axis=(1, 2))] = np.nan
        said_of = Labelled(BASIC8, found.placed, found.runs)
        return self.rows(said_of, windows, truth, {"values": np.nan_to_num(values), "valid": valid})

    def network(self) -> torch.nn.Module:
        from affectkit.builtin.perceptron import FusedLogits

        if not self._sources:
            raise UsageError(f"{self.id} knows its sources when it has read a run")
        return FusedLogits(len(self._sources), len(BASIC8))

    def predict(self, network: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        found: torch.Tensor = network(batch["values"], batch["valid"])
        return found

    def figures(self, network: torch.nn.Module, part: Part, logits: torch.Tensor, settings: Mapping[str, Any]) -> Mapping[str, float]:
        """Macro-F1 of the mean and of each source alone on the same rows, and its share of the weights."""
        from affectkit import fitting

        batch = part.batch(np.arange(len(part)), None)
        values = np.where(batch["valid"], batch["values"], np.nan)
        there = np.isfinite(values).sum(axis=1)
        mean = np.divide(np.nansum(values, axis=1), there, out=np.full(there.shape, np.nan), where=there > 0)
        of_mean = fitting.metrics(BASIC8, part, mean)
        out = {"macro_f1 of the mean": of_mean["macro_f1"], "ece of the mean": of_mean["ece"]}
        said = self.probabilities(logits, settings).numpy()
        counts = batch["valid"].any(axis=2).sum(axis=1)
        for count in np.unique(counts):
            rows = np.flatnonzero(counts == count)
            out[f"ece where {count} of the sources say something"] = fitting.metrics(BASIC8, part.take(rows), said[rows])["ece"]
        weights = network.fusion.weights().mean(dim=1).tolist()  # type: ignore[union-attr, operator]
        for place, name in enumerate(self._sources):
            out[f"macro_f1 of {name}, where it says something"] = fitting.metrics(BASIC8, part, values[:, place])["macro_f1"]
            out[f"weight of {name}"] = weights[place]
        return out

    def about(self) -> About:
        what = f"Multi-Head Probability Fusion over {', '.join(self._sources)}, for `core/mhpf`."
        return self._about("Weights of a fusion", what, len(_seen(self._found).runs))

    def write(self, path: Path, tensors: Mapping[str, torch.Tensor], header: Mapping[str, str]) -> None:
        """In the format that ``core/mhpf`` reads."""
        from affectkit.builtin.fitted import Sharpening
        from affectkit.builtin.fusion import save_mhpf
        from affectkit.builtin.perceptron import FusedLogits

        network = FusedLogits(len(self._sources), len(BASIC8))
        network.load_state_dict({name: value.float() for name, value in tensors.items()})
        fitted = float(json.loads(header["settings"])["temperature"])
        sharpening = Sharpening(fitted * float(network.temperature.detach()), float(network.growth.detach()))
        about = self.about()
        record = {"licence": about.licence, "source": about.data} | ({} if about.commercial is None else {"commercial": about.commercial})
        save_mhpf(path, network.fusion, self._sources, BASIC8, record, sharpening)


class TemperatureTraining(RunTraining):
    """A temperature for a modality whose weights hold one: a copy of its file with the temperature that fits labelled runs."""

    name = "temperature"
    Options = TemperatureOptions
    learns = False

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self._found: Labelled | None = None

    @property
    def labels(self) -> LabelSet:  # type: ignore[override]
        """Those of the annotations; ``basic8`` until they were read."""
        return BASIC8 if self._found is None else self._found.labels

    def parts(self, data: Path) -> Mapping[str, Part]:
        """Windows with a label in which the source says something."""
        self._header()
        self._found = found = labelled(data, self.options.labels, self.options.set)
        if found.labels.kind != "categorical":
            raise UsageError(f"a temperature is fitted with labels of classes, {self.options.labels} has {found.labels.kind} ones")
        rows = said(found, found.labels)
        if self.options.source not in rows:
            raise UsageError(
                f"{data} holds no source {self.options.source!r} of {found.labels.name}. {did_you_mean(self.options.source, rows)}"
            )
        windows = list(rows[self.options.source])
        values = np.stack(list(rows[self.options.source].values())).astype(np.float32)
        logits = np.log(np.nan_to_num(values).clip(1e-9))
        return self.rows(found, windows, found.truth(windows), {"logits": logits})

    def network(self) -> torch.nn.Module:
        from affectkit.builtin.perceptron import Unchanged

        return Unchanged()

    def predict(self, network: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        import torch

        found: torch.Tensor = network(torch.as_tensor(batch["logits"]))
        return found

    def about(self) -> About:
        return self._about(
            f"{self.options.source} with another temperature",
            f"The weights of {self.options.weights.name} as they are, with a temperature that fits labelled runs; the one below divides the one before.",
            len(_seen(self._found).runs),
            self._header().get("licence"),
        )

    def write(self, path: Path, tensors: Mapping[str, torch.Tensor], header: Mapping[str, str]) -> None:
        """The tensors of the file as they were, and its header with the new temperature."""
        from affectkit import weight_files

        before = self._header()
        settings = json.loads(before["settings"])
        settings["temperature"] = float(settings["temperature"]) * float(json.loads(header["settings"])["temperature"])
        weight_files.save_tensors(path, weight_files.load_tensors(self.options.weights), {**before, "settings": json.dumps(settings)})

    def _header(self) -> Mapping[str, str]:
        from affectkit import weight_files

        header = weight_files.metadata(self.options.weights)
        if "temperature" not in json.loads(header.get("settings", "{}")):
            raise UsageError(f"{self.options.weights} holds no temperature in its header, so there is nothing to fit")
        return header


def _seen(found: Labelled | None) -> Labelled:
    if found is None:
        raise UsageError("the labels are known when a run and its annotations were read")
    return found
