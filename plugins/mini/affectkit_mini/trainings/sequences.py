"""The training of mini/face_dynamic: sequences made of FER2013's stills, over the frozen weights of mini/face_static."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affectkit.api import BASIC7, About, Part, Training, Turn
from affectkit.fitting import halves
from affectkit_mini.records import FOLDER
from affectkit_mini.trainings.corpora import FER2013, read_fer2013

if TYPE_CHECKING:
    import torch

NEUTRAL = BASIC7.index("neutral")
APART = "No still is in two parts, and none of the training's is in FER2013's public_test. Within a part a still may be in several sequences; people are not named."
TOGETHER = 32  # sequences that are made together


@dataclass(frozen=True)
class SequenceOptions:
    """Options of mini/face_dynamic_training.

    Attributes:
        backbone: weights of mini/face_static; ``None`` for those in this package.
        sequences: how many are made for training; half as many are made for measuring, and an eighth for the temperature.
        seed: of what is made.
    """

    backbone: Path | None = None
    sequences: int = 6000
    seed: int = 1


class SequenceTraining(Training):
    """mini/face_dynamic: a cross-fade from a neutral still to one with an expression, backwards, or a still that stays.

    The two stills show two people: what the network learns is the order of expressions, not the motion of one face. The targets: an
    onset is its expression (0.9, the rest neutral), an offset is still mostly its expression (0.55), a steady one is its still's label.
    """

    name = "face_dynamic_training"
    labels = BASIC7
    Options = SequenceOptions

    def parts(self, data: Path) -> Mapping[str, Part]:
        """Sequences of stills of ``train`` that are not in ``public_test``, and of two halves of ``public_test``; those go forwards where they are measured."""
        pictures, truth, names = read_fer2013(data, "train")
        others = read_fer2013(data, "public_test")
        measured = halves(others[2], self.options.seed)
        new = ~np.isin(names, others[2])
        stills = {
            "train": (pictures[new], truth[new], 1.0),
            "validation": (others[0][measured], others[1][measured], 0.5),
            "calibration": (others[0][~measured], others[1][~measured], 0.125),
        }
        parts = {}
        for number, (name, (some, labels, share)) in enumerate(stills.items()):
            backbone = self.options.backbone or FOLDER / "face_static.safetensors"
            made = _Sequences(backbone, some, labels, int(share * self.options.sequences), self.options.seed + number)
            groups = np.array([f"{name} {row}" for row in range(len(made.truth))])
            views = {"steady": ~made.moving, "onset": made.moving} if name == "validation" else {}
            split = "train" if name == "train" else "half of public_test"
            about = f"sequences made of {len(some):,} stills of FER2013 {split}; each sequence is a group"
            parts[name] = Part(made.truth, groups, made, about=about, views=views)
        return parts

    def network(self) -> torch.nn.Module:
        from affectkit_mini.networks import FaceDynamics

        return FaceDynamics()

    def predict(self, network: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        found: torch.Tensor = network(batch["embeddings"], batch["logits"], batch["mask"])[0]
        return found

    def loss(self, network: torch.nn.Module, batch: Mapping[str, torch.Tensor], weights: torch.Tensor) -> torch.Tensor:
        from torch.nn.functional import cross_entropy

        found, way, _ = network(batch["embeddings"], batch["logits"], batch["mask"])
        return cross_entropy(found, batch["wanted"], weights) + 0.5 * cross_entropy(way, batch["direction"])

    def figures(self, network: torch.nn.Module, part: Part, logits: torch.Tensor, settings: Mapping[str, Any]) -> Mapping[str, float]:
        """How often the order is told in pairs of the same frames, and the accuracy of the mean of the single pictures."""
        from affectkit_mini.networks import DIRECTIONS

        batch = part.batch(np.arange(len(part)), None)
        moving = part.views["onset"]
        mask = batch["mask"]
        onset = []
        for embeddings, said in ((batch["embeddings"], batch["logits"]), (batch["embeddings"].flip(1), batch["logits"].flip(1))):
            way = network(embeddings, said, mask)[1].softmax(1)
            onset.append((way[:, DIRECTIONS.index("onset")] - way[:, DIRECTIONS.index("offset")]).numpy())
        told = (onset[0] > onset[1])[moving]
        found = {"pairs": float(len(told)), "order told in pairs": float(told.mean()) if len(told) else float("nan")}
        average = batch["logits"].softmax(2).mean(1).argmax(1).numpy() == part.truth
        for name, rows in {"all": np.ones(len(part), bool), **part.views}.items():
            if rows.any():
                found[f"accuracy of the mean of the pictures, {name}"] = float(average[rows].mean())
        return found

    def about(self) -> About:
        return About(
            title="mini/face_dynamic: the course of an expression over a window",
            what="A recurrent network over the frozen embeddings of mini/face_static (whose file it shares), five crops per second. It starts from "
            "the average over the pictures and corrects it. It also gives `onset`: the probability that an expression appears minus that it goes away.",
            data=f"{self.options.sequences:,} sequences made of stills of {FER2013}",
            licence="Apache-2.0 (weights); FER2013 is for research use",
            limits="It was trained on sequences made from stills: a cross-fade from one person's neutral face to another person's expression under a "
            "drifting camera. It has not seen a real face move, nor speech, and what it adds on real clips has not been measured. It needs at least "
            "two pictures.",
            commercial=False,
            apart=APART,
        )


class _Sequences:
    """What the frozen network of faces says of made sequences, made when they are first asked for and always in the same company."""

    def __init__(self, backbone: Path, pictures: np.ndarray, truth: np.ndarray, count: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        by_class = [np.flatnonzero(truth == label) for label in range(len(BASIC7))]
        self.moving = random.random(count) < 0.6
        self.last = np.array([random.choice(by_class[random.integers(1 if move else 0, len(BASIC7))]) for move in self.moving])
        self.first = np.where(self.moving, random.choice(by_class[NEUTRAL], count), self.last)
        self.truth = truth[self.last]
        self.backbone, self.pictures, self.seed = backbone, pictures, seed
        self._net: Any = None
        self._made: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def __call__(self, rows: np.ndarray, turn: Turn | None) -> Mapping[str, Any]:
        import torch

        for chunk in np.unique(rows // TOGETHER).tolist():
            if chunk * TOGETHER not in self._made:
                self._make(chunk)
        embeddings, logits = (torch.stack([self._made[row][item] for row in rows.tolist()]) for item in (0, 1))
        mask = torch.ones(logits.shape[:2], dtype=torch.bool)
        if turn is None:
            return {"embeddings": embeddings, "logits": logits, "mask": mask}
        random = turn.numpy()
        backwards, moving = torch.from_numpy(random.random(len(rows)) < 0.5), torch.from_numpy(self.moving[rows])
        embeddings, logits = (torch.where(backwards[:, None, None], part.flip(1), part) for part in (embeddings, logits))
        short = torch.from_numpy(random.integers(3, mask.shape[1] + 1, len(rows)))
        mask = moving[:, None] | (torch.arange(mask.shape[1]) < short[:, None])  # steady windows of any length
        share = torch.where(moving, torch.where(backwards, 0.55, 0.9), 1.0)[:, None]
        wanted = share * torch.nn.functional.one_hot(torch.from_numpy(self.truth[rows]), len(BASIC7))
        wanted[:, NEUTRAL] += 1 - share[:, 0]
        direction = torch.where(moving, torch.where(backwards, 2, 1), 0)
        return {"embeddings": embeddings, "logits": logits, "mask": mask, "wanted": wanted, "direction": direction}

    def _make(self, chunk: int) -> None:
        import torch

        from affectkit_mini.backbone import load_backbone
        from affectkit_mini.trainings.pictures import LENGTH, make_sequences

        if self._net is None:
            self._net = load_backbone(self.backbone, torch.device("cpu")).net
        rows = np.arange(chunk * TOGETHER, min((chunk + 1) * TOGETHER, len(self.truth)))
        before, after = (torch.from_numpy(self.pictures[which[rows]]).float().div(255) for which in (self.first, self.last))
        generator = torch.Generator().manual_seed(self.seed * 100_003 + chunk)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):  # reading takes nearly all of the time, and this halves it
            logits, embeddings = self._net.read(make_sequences(before, after, generator).flatten(0, 1))
        for place, row in enumerate(rows.tolist()):
            part = slice(place * LENGTH, (place + 1) * LENGTH)
            self._made[row] = embeddings[part].clone(), logits[part].clone()
