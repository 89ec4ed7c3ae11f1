"""A training of points on a plane, made by a seed: a third party's, as small as one is."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from affectkit.api import About, LabelSet, Part, Training, Turn, hookimpl

SIDES = LabelSet("sides", ("left", "middle", "right"))


@dataclass(frozen=True)
class Options:
    rows: int = 240
    shared: bool = False
    slow: float = 0.0
    classes: int = 3
    unknown: int | None = None


class Points(Training):
    """Points on a plane, of twenty people."""

    name = "points"
    labels = SIDES
    Options = Options

    def parts(self, data: Path) -> Mapping[str, Part]:
        random = np.random.default_rng(7)
        rows = self.options.rows
        truth = random.choice(3, rows, p=[0.6, 0.3, 0.1]).clip(max=self.options.classes - 1)
        people = np.array([f"person {index % 20}" for index in range(rows)])
        points = (np.eye(3, 2)[truth] * 2 + random.normal(size=(rows, 2))).astype(np.float32)
        if self.options.unknown is not None:
            points[self.options.unknown] = np.nan

        def batch(some: np.ndarray, turn: Turn | None) -> Mapping[str, np.ndarray]:
            if turn is None:
                return {"points": points[some]}
            if self.options.slow:
                import time

                time.sleep(self.options.slow)
            return {"points": points[some] + turn.numpy().normal(size=(len(some), 2)).astype(np.float32) / 4}

        part = Part(truth, people, batch, about="points")
        held = np.isin(people, [f"person {index}" for index in range(8)])
        train = np.flatnonzero(~held) if not self.options.shared else np.arange(rows)
        return {"train": part.take(train), "validation": part.take(np.flatnonzero(held))}

    def network(self):
        from torch import nn

        return nn.Sequential(nn.Linear(2, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))

    def predict(self, network, batch):
        return network(batch["points"])

    def about(self) -> About:
        return About("Points", "A small network.", "points made by a seed", "Apache-2.0", "It knows points alone.", commercial=True)


@hookimpl
def affectkit_trainings() -> Iterable[type[Training]]:
    return [Points]
