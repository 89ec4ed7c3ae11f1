"""What a modality says of the test items of folds, kept in a run folder item by item, so that a command that was stopped goes on where it was. N is items."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affectkit.components import Modality
from affectkit.config import Recipe
from affectkit.datasets.items import Fold, Item
from affectkit.datasets.scoring import Said
from affectkit.files import replacing
from affectkit.importing import told
from affectkit.labels import LabelSet
from affectkit.media import Media, MediaKind
from affectkit.pictures import PICTURE_SUFFIXES
from affectkit.store import Failure, Part, Run, stamp
from affectkit.tables import read_run
from affectkit.timeline import Timeline

if TYPE_CHECKING:
    import pandas as pd

LABELS = "labels.csv"


class Kept:
    """A run folder with one medium per test item, and their labels in ``labels.csv``; ``affectkit evaluate``, ``compare`` and ``fuse`` read it.

    Args:
        out: the folder.
        component: id of the modality.
        folds: the folds that are scored.
        options: of the component, by name of the fold.
        records: what ``run.json`` says of the component and its weights, by name of the fold.
        precision: of forward passes.
        recipe: with the providers; ``None`` for none.
        resume: whether answers that the folder holds are kept, or thrown away.
    """

    def __init__(
        self,
        out: Path,
        component: str,
        folds: Sequence[Fold],
        options: Mapping[str, Mapping[str, Any]],
        records: Mapping[str, Mapping[str, Any]],
        *,
        precision: str,
        recipe: Recipe | None = None,
        resume: bool = True,
    ) -> None:
        self.component, self.folds = component, folds
        alone = (recipe or Recipe((component,))).with_(modalities=[component], fusion=None, head=None)
        weights = {name: [found["sha256"] for found in record["weights"]] for name, record in records.items()}
        about = [alone.digest(), precision, folds[0].dataset, options, weights]
        settings = {
            "recipe": alone.to_mapping(),
            "precision": precision,
            "dataset": {
                "name": folds[0].dataset,
                "folds": {name: {"options": options[name], **record} for name, record in records.items()},
            },
        }
        self._before: dict[str, pd.DataFrame] = {}
        digest = sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()
        self._run = Run(out, settings, digest, resume=resume, stamp=cache(stamp))  # thousands of stretches may be of one folder

    @property
    def finished(self) -> int:
        """How many items of the folds have an answer."""
        return sum(item.id in self._run.records for fold in self.folds for item in fold.test)

    def check(self) -> None:
        """Refuses a folder that holds something else; changes nothing.

        Raises:
            UsageError: where it does, or holds what was said with other weights or options.
        """
        self._run.check()

    def begin(self, label_sets: Iterable[LabelSet]) -> None:
        """Makes the folder, or takes over what is in it.

        Args:
            label_sets: those of the modality with the weights of each fold.

        Raises:
            StoreError: where it cannot be written.
        """
        sets = {labels.name: told(labels) for labels in label_sets}
        self._run.info["label_sets"] = sets
        self._run.begin()
        self._before = {name: read_run(self._run.path, name) for name in sets} if self._run.records else {}
        rows = [(item.id, fold.labels.labels[item.label], fold.name) for fold in self.folds for item in fold.test]
        with replacing(self._run.path / LABELS) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([("media", "label", "fold"), *rows])

    def read(self, fold: Fold, modality: Modality) -> Said:
        """What is there of the test items of a fold; not of clips that have changed since."""
        said = Said.nothing(modality.label_sets, len(fold.test))
        numbers = {item.id: number for number, item in enumerate(fold.test) if self._finished(fold, item)}
        for labels, values in said.values.items() if numbers else ():
            table = self._before[labels.name]
            table = table[table["media"].isin(list(numbers))]
            values[table["media"].map(numbers).to_numpy()] = table[[f"p_{label}" for label in labels.labels]].to_numpy(np.float32)
        for id, number in numbers.items():
            record = self._run.records[id]
            said.done[number] = True
            if record["failures"]:
                said.reasons[number] = record["failures"][0]["message"]
            else:
                said.seconds[number] = record["duration"]
        return said

    def write(self, fold: Fold, number: int, said: Said) -> None:
        """Writes what is said of one item; it is kept when this returns.

        Raises:
            StoreError: where it cannot be written.
        """
        item, seconds = fold.test[number], float(np.nan_to_num(said.seconds[number]))
        rows = {labels: values[number : number + 1] for labels, values in said.values.items()}
        lines = [
            Timeline(item.id, -1, self.component, labels, np.zeros(1), np.array([seconds]), values, ~np.isnan(values).all(axis=1))
            for labels, values in rows.items()
        ]
        medium = _medium(item, seconds)
        about = {"kind": medium.kind, "start": 0.0, "duration": seconds, "fps": item.fps, "size": None, "windows": 1, **_asked(fold, item)}
        reason = said.reasons.get(number)
        failures = [] if reason is None else [Failure(item.id, str(item.path), "read", "", None, "MediaError", reason)]
        self._run.write(Part(medium, lines, record=about, failures=failures))

    def save(self) -> None:
        """Writes ``run.json``, so that other commands read what there is.

        Raises:
            StoreError: where it cannot be written.
        """
        self._run.save()

    def _finished(self, fold: Fold, item: Item) -> bool:
        asked = _asked(fold, item)
        record = self._run.records.get(item.id, {})
        return {key: record.get(key) for key in asked} == asked and self._run.finished(_medium(item))


def _asked(fold: Fold, item: Item) -> dict[str, Any]:
    """What the lists say of an item that its answer depends on, beside its file."""
    return {"fold": fold.name, "fps": item.fps, "frames": None if item.frames is None else list(item.frames)}


def _medium(item: Item, seconds: float = 0.0) -> Media:
    kind: MediaKind = "frames" if item.path.is_dir() else "image" if item.path.suffix.lower() in PICTURE_SUFFIXES else "video"
    return Media(item.id, item.path, kind, seconds, fps=item.fps)
