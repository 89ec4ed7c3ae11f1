"""The prototypes of core/pfsa in the embedding of mini/face_static."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affectkit.api import BASIC7, About, LabelSet, Part, Training, Turn, UsageError
from affectkit_mini.records import FOLDER
from affectkit_mini.trainings.corpora import FER2013, read_fer2013

if TYPE_CHECKING:
    import torch

BASIC6 = LabelSet("basic6", BASIC7.labels[1:])
"""The emotions that compound expressions are made of; neutral is none of them."""
EMBEDDING = "mini/face_static:face"
TOGETHER = 256  # pictures that are read at a time


@dataclass(frozen=True)
class PrototypeOptions:
    """Options of mini/pfsa_training.

    Attributes:
        backbone: weights of mini/face_static; ``None`` for those in this package.
        pictures: pictures per emotion that make a prototype, at most.
        seed: of which they are.
    """

    backbone: Path | None = None
    pictures: int = 600
    seed: int = 1


class PrototypeTraining(Training):
    """Prototypes for core/pfsa: the mean direction of the embeddings of FER2013's training pictures, per emotion; nothing is learned."""

    name = "pfsa_training"
    labels = BASIC6
    Options = PrototypeOptions
    learns = False

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self._net: Any = None
        self._found: torch.Tensor | None = None
        self._count = 0

    def parts(self, data: Path) -> Mapping[str, Part]:
        """Makes the prototypes of ``train``; ``public_test`` measures whether the nearest one is the right one."""
        import torch

        from affectkit.builtin.pfsa import fit_prototypes
        from affectkit_mini.backbone import load_backbone

        pictures, truth, known = read_fer2013(data, "train")
        held, held_truth, names = read_fer2013(data, "public_test")
        self._net = load_backbone(self.options.backbone or FOLDER / "face_static.safetensors", torch.device("cpu")).net
        random = np.random.default_rng(self.options.seed)
        fresh = ~np.isin(known, names)
        rows = [random.permutation(np.flatnonzero(fresh & (truth == label)))[: self.options.pictures] for label in range(1, len(BASIC7))]
        chosen = np.concatenate(rows)
        self._count = len(chosen)
        self._found = fit_prototypes(self._read(pictures[chosen]), [BASIC7.labels[label] for label in truth[chosen]])
        keep = np.flatnonzero(held_truth > 0)

        def batch(some: np.ndarray, turn: Turn | None) -> Mapping[str, Any]:
            return {"embedding": self._read(held[keep[some]])}

        about = "FER2013 public_test without neutral; groups are equal pictures"
        return {"validation": Part(held_truth[keep] - 1, names[keep], batch, about=about)}

    def network(self) -> torch.nn.Module:
        import torch

        if self._found is None:
            raise UsageError(f"{self.id} makes its prototypes when it has read the pictures")
        network = torch.nn.Module()
        network.register_buffer("prototypes", self._found)
        return network

    def predict(self, network: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Cosines to the prototypes."""
        from torch.nn.functional import normalize

        return normalize(batch["embedding"], dim=1) @ normalize(network.get_buffer("prototypes").float(), dim=1).T

    def about(self) -> About:
        return About(
            title="Prototypes for core/pfsa in the embedding of mini/face_static",
            what="The mean of the L2-normalised embeddings of FER2013's training pictures, per basic emotion. Measured is whether the nearest prototype "
            "is that of the picture's emotion.",
            data=f"{self._count:,} pictures of {FER2013}, at most {self.options.pictures:,} per emotion",
            licence="Apache-2.0 (weights); FER2013 is for research use",
            limits="Prototypes of basic emotions stand in for compound ones, of which no labels were at hand; how well PFSA works with them has not been "
            "measured.",
            commercial=False,
            more={"embedding": EMBEDDING},
        )

    def write(self, path: Path, tensors: Mapping[str, torch.Tensor], header: Mapping[str, str]) -> None:
        """In the format that core/pfsa reads."""
        from affectkit.builtin.pfsa import save_pfsa

        about = self.about()
        record = {"licence": about.licence, "source": about.data, "commercial": about.commercial}
        save_pfsa(path, tensors["prototypes"].float(), EMBEDDING, record)

    def _read(self, pictures: np.ndarray) -> torch.Tensor:
        """Embeddings (N, 128) of pictures."""
        import torch

        with torch.inference_mode():
            parts = np.array_split(pictures, len(pictures) // TOGETHER + 1)
            return torch.cat([self._net.read(torch.from_numpy(part).float().div(255))[1] for part in parts])
