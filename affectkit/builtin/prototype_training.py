"""``core/pfsa_training``: the prototypes of ``core/pfsa``, from any run with embeddings and labels."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import affectkit
from affectkit.builtin.fusing import folds
from affectkit.builtin.trainings import LIMITS, EmbeddingTraining, Labels
from affectkit.errors import UsageError
from affectkit.files import replacing
from affectkit.labels import BASIC8, canonical
from affectkit.trainings import About, Written


@dataclass(frozen=True, kw_only=True)
class PrototypeOptions(Labels):
    """Options of ``core/pfsa_training``; ``held`` means nothing to it, because prototypes are of all rows.

    Attributes:
        embedding: ``plugin/component:name``, for instance ``mini/face_static:face``.
        folds: in which whole groups are held out, to measure how well the nearest prototype tells the emotion.
    """

    embedding: str
    folds: int = 5


class PrototypeTraining(EmbeddingTraining):
    """Prototypes of the six basic emotions, the mean directions of an embedding of labelled windows; made of runs with ``--embeddings``.

    Nothing is learned in steps: ``epochs``, ``optimiser`` and the like mean nothing to it.
    """

    name = "pfsa_training"
    Options = PrototypeOptions
    learns = False

    def make_at_once(self, data: Path | None, out: Path, name: str, *, seed: int, command: str, report: Callable[[str], None]) -> Written:
        """Writes ``NAME.safetensors`` and the record ``NAME.json``.

        Raises:
            UsageError: without data, or where an emotion has no embedding.
        """
        import torch

        from affectkit.builtin.pfsa import EMOTIONS, fit_prototypes, mean_directions, save_pfsa, unit

        if data is None:
            raise UsageError(f"{self.id} needs data: write data in the recipe or give --data")
        part = self.parts(data)["validation"]
        if self.labels.kind != "categorical":
            raise UsageError(f"prototypes are of emotions, {self.options.labels} has labels of {self.labels.name}")
        names = np.array([canonical(self.labels.labels[column]) for column in part.truth])
        rows = np.flatnonzero(np.isin(names, EMOTIONS))
        vectors = torch.as_tensor(part.batch(rows, None)["embedding"]).float()
        spoken, groups = names[rows].tolist(), np.asarray(part.groups)[rows].astype(str)
        few = [label for label in EMOTIONS if len(np.unique(groups[names[rows] == label])) < 2]
        if few:
            raise UsageError(
                f"{self.options.labels} labels fewer than two groups (media, or what options.groups finds) that have {self.options.embedding} as "
                f"{', '.join(few)}; prototypes are made of all of {', '.join(EMOTIONS)} and measured on groups that are held out"
            )
        prototypes = fit_prototypes(vectors, spoken)
        truth = np.array([EMOTIONS.index(label) for label in spoken])
        fold = folds(groups, truth, self.options.folds, seed)
        right = np.zeros(len(rows), dtype=bool)
        for number in range(self.options.folds):
            held, learned = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
            known = mean_directions(vectors[learned], [BASIC8.index(spoken[row]) for row in learned])
            near = (unit(vectors[held]) @ unit(known).T).nan_to_num(nan=-math.inf)  # rows of an emotion with none to learn from are missed
            right[held] = near.argmax(dim=1).numpy() == truth[held]
        recall = {label: float(right[truth == column].mean()) for column, label in enumerate(EMOTIONS)}
        about = self.about()
        record = {
            **about.record(name, command),
            "embedding": self.options.embedding,
            "rows": len(rows),
            "groups": len(np.unique(groups)),
            "folds": self.options.folds,
            "uar_of_the_nearest": float(np.mean(list(recall.values()))),
            "recall_of_the_nearest": recall,
            "affectkit": affectkit.__version__,
        }
        path, plain = out / f"{name}.safetensors", out / f"{name}.json"
        save_pfsa(path, prototypes, self.options.embedding, {"licence": about.licence, "source": about.data, "rows": len(rows)})
        with replacing(plain) as temporary:
            temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        line = (
            f"{len(rows)} rows of {record['groups']} groups; the nearest prototype tells the emotion of held-out groups with a UAR of "
            f"{record['uar_of_the_nearest']:.3f} (chance {1 / len(EMOTIONS):.3f})"
        )
        return Written((path, plain), record, (line,))

    def about(self) -> About:
        count = 0 if self._found is None else len(self._found.runs)
        what = f"Prototypes of the six basic emotions in the embedding `{self.options.embedding}`, for `core/pfsa`."
        data = f"windows of {count} run{'s' * (count != 1)} of affectkit, with the labels of {Path(self.options.labels).name}"
        return About("Prototypes for core/pfsa", what, data, self.options.licence, LIMITS)
