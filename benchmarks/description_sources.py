"""Six descriptions of each window as sources: what each says of the emotion, chosen and learned on windows with labels.

Three sizes of Qwen2.5-VL, asked in two ways, described the windows of AFEW and C-EXPR-DB (SMIL-SPCRAS/ICCVW_25, MIT). A source is a kernel ridge classifier over the words
of one description; ``together`` reads all six, and their sentences with the sentence model of mini besides.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from affectkit.builtin.fusing import Rows, folds
from affectkit.builtin.simplex import score_rows
from affectkit.labels import BASIC7

VIEWS = tuple((size, prompt) for size in ("3B", "7B", "32B") for prompt in (1, 2))
NAMES = tuple(f"{size}_P{prompt}" for size, prompt in VIEWS)
TOGETHER = "together"
INNER, SEED = 5, 0  # parts of the windows, and the seed, by which penalties and options are chosen
PENALTIES = (0.25, 0.5, 1.0, 2.0, 4.0)
END = re.compile(r"(?<=[.!?;])\s+")  # of a sentence


@dataclass(frozen=True)
class Texts:
    """The descriptions of N windows.

    Attributes:
        names: names of the windows; never an input.
        videos: (N,) text, the part of the name before the label.
        truth: (N,) int64 columns of ``basic7``; -1 where there is no label.
        texts: N texts by view; empty where a view lacks a window.
        sentences: (N, 384) float32 means of the embeddings of a text's sentences by view; zeros for an empty text.
    """

    names: tuple[str, ...]
    videos: np.ndarray
    truth: np.ndarray
    texts: Mapping[str, tuple[str, ...]]
    sentences: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.names)


def read_texts(data: Path, corpus: str, part: str, folder: Path) -> Texts:
    """The six files of a part, with the embeddings of their sentences, which the folder keeps."""
    tables: dict[str, dict[str, dict[str, str]]] = {}
    for name, (size, prompt) in zip(NAMES, VIEWS, strict=True):
        path = data / corpus / f"Qwen2.5-VL-{size}-Instruct" / f"{part}_segment_with_text_{prompt}.csv"
        with path.open(encoding="utf-8", newline="") as file:
            tables[name] = {row["video_name"]: row for row in csv.DictReader(file)}
    names = tuple(dict.fromkeys(window for rows in tables.values() for window in rows))
    columns = [label.capitalize() for label in BASIC7.labels]
    truth = np.full(len(names), -1)
    for place, window in enumerate(names):
        row = next(rows[window] for rows in tables.values() if window in rows)
        if row[columns[0]]:
            truth[place] = int(np.argmax([float(row[column]) for column in columns]))
    texts = {name: tuple(rows[window]["text"] if window in rows else "" for window in names) for name, rows in tables.items()}
    found = {name: kept(folder, corpus, part, name, texts[name]) for name in NAMES}
    return Texts(names, np.array([name.partition("___")[0] for name in names]), truth, texts, found)


def kept(folder: Path, corpus: str, part: str, name: str, texts: Sequence[str]) -> np.ndarray:
    """:func:`sentence_means` of texts, from a file that an earlier call has kept; its name tells the texts apart."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{corpus}_{part}_{name}_{sha256(chr(0).join(texts).encode()).hexdigest()[:12]}.npy"
    if not path.is_file():
        print(f"reading {len(texts)} texts of {corpus} {part} {name}", flush=True)
        np.save(path, sentence_means(texts))
    return np.asarray(np.load(path, allow_pickle=False))


def sentence_means(texts: Sequence[str]) -> np.ndarray:
    """(N, 384) float32 means of the unit-length embeddings of each text's sentences; zeros for a text without words."""
    from affectkit_mini.trainings.sentence_features import Sentences

    parts = [[one for one in END.split(text) if re.search("[A-Za-z]", one)] for text in texts]
    every = {one: place for place, one in enumerate(dict.fromkeys(one for mine in parts for one in mine))}
    said = Sentences(list(every), means=True).batch(np.arange(len(every)))["embedding"].numpy()
    return np.stack([said[[every[one] for one in mine]].mean(axis=0) if mine else np.zeros_like(said[0]) for mine in parts])


def some(texts: Texts, rows: np.ndarray) -> Texts:
    """Some of the windows."""
    return Texts(
        tuple(texts.names[row] for row in rows),
        texts.videos[rows],
        texts.truth[rows],
        {name: tuple(mine[row] for row in rows) for name, mine in texts.texts.items()},
        {name: mine[rows] for name, mine in texts.sentences.items()},
    )


def kernel_of(source: str, parts: Sequence[Texts], learned: np.ndarray) -> np.ndarray:
    """(N, N) what a source reads of the windows of all parts, as a kernel whose diagonal is 1 on average over those that are learned from.

    A view is its words; ``together`` the words of all six and, with half of the weight, their sentences.

    Args:
        source: a view, or ``together``.
        parts: descriptions, one part after the other.
        learned: (N,) bool, the windows that may be learned from: the words that count, their rareness, means and distances are of these alone.
    """
    if source != TOGETHER:
        return words([text for part in parts for text in part.texts[source]], learned, least=2)
    texts = [" ".join(part.texts[view][row] for view in NAMES) for part in parts for row in range(len(part))]
    views = [np.concatenate([part.sentences[view] for part in parts]).astype(np.float64) for view in NAMES]
    means = np.mean([view - view[learned].mean(axis=0) for view in views], axis=0)
    return (words(texts, learned, least=3, sublinear=True) + gaussian(means, learned)) / 2


def words(texts: Sequence[str], learned: np.ndarray, least: int, sublinear: bool = False) -> np.ndarray:
    """The kernel of words in ones, twos and threes, by their frequency (or its logarithm) and rareness; of those in ``least`` texts or more."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectoriser = TfidfVectorizer(ngram_range=(1, 3), min_df=least, sublinear_tf=sublinear)
    vectoriser.fit([texts[row] for row in np.flatnonzero(learned)])
    found = vectoriser.transform(texts)
    return centred((found @ found.T).toarray(), learned)


def gaussian(vectors: np.ndarray, learned: np.ndarray) -> np.ndarray:
    """The kernel ``exp(-d^2 / (2 m))`` of vectors (N, D), where m is the median of the squared distances among what is learned from."""
    squares = (vectors**2).sum(axis=1)
    apart = (squares[:, None] + squares - 2 * vectors @ vectors.T).clip(0)
    among = apart[np.ix_(learned, learned)][~np.eye(learned.sum(), dtype=bool)]
    return centred(np.exp(-apart / (2 * max(float(np.median(among)), 1e-12))), learned)


def centred(kernel: np.ndarray, learned: np.ndarray) -> np.ndarray:
    """The kernel about the mean of what is learned from, with a diagonal of 1 on average there."""
    mean = kernel[:, learned].mean(axis=1)
    found = kernel - mean[:, None] - mean[None] + kernel[np.ix_(learned, learned)].mean()
    return np.asarray(found / max(np.trace(found[np.ix_(learned, learned)]) / learned.sum(), 1e-12))


def ridge(kernel: np.ndarray, truth: np.ndarray, learned: np.ndarray, asked: np.ndarray, penalty: float) -> np.ndarray:
    """(K, 7) scores of kernel ridge regression on indicators of the classes; classes count alike."""
    target = np.eye(len(BASIC7))[truth[learned]]
    mass = 1 / np.bincount(truth[learned], minlength=len(BASIC7))[truth[learned]]
    root = np.sqrt(mass / mass.mean())
    mean = np.average(target, axis=0, weights=mass)
    weighed = kernel[np.ix_(learned, learned)] * root[:, None] * root + penalty * np.eye(len(learned))
    return np.asarray(kernel[np.ix_(asked, learned)] @ (root[:, None] * np.linalg.solve(weighed, root[:, None] * (target - mean))) + mean)


@dataclass(frozen=True)
class Choice:
    """What was chosen for a source.

    Attributes:
        penalty: of the ridge.
        temperature: of the softmax of its scores, under which the rows that were held out are most likely.
    """

    penalty: float
    temperature: float


@dataclass(frozen=True)
class Classifiers:
    """What was learned on train.

    Attributes:
        choices: by source, in order.
        rows: what each source says of each window of train, by classifiers that saw no window of its video.
    """

    choices: Mapping[str, Choice]
    rows: Rows


def learn(train: Texts, inside: np.ndarray | None = None) -> Classifiers:
    """Chooses what each source reads, and how, by the macro-F1 of rows that are held out; the six views alike, together by itself.

    Args:
        train: the windows.
        inside: (K,) int64 windows that count; ``None`` for all.
    """
    inside = np.arange(len(train)) if inside is None else inside
    is_inside = np.isin(np.arange(len(train)), inside)
    truth = train.truth[inside]
    fold = folds(train.videos[inside], truth, INNER, SEED)
    held: dict[tuple[str, float], np.ndarray] = {}
    for source in (*NAMES, TOGETHER):
        kernel = kernel_of(source, [train], is_inside)
        for penalty in PENALTIES:
            held[source, penalty] = out = np.empty((len(inside), len(BASIC7)))
            for number in range(INNER):
                out[fold == number] = ridge(kernel, train.truth, inside[fold != number], inside[fold == number], penalty)
    choices: dict[str, Choice] = {}
    said = []
    for group in (NAMES, (TOGETHER,)):
        worth = [np.mean([float(score_rows(held[source, penalty], truth, "macro_f1")) for source in group]) for penalty in PENALTIES]
        penalty = PENALTIES[int(np.argmax(worth))]
        for source in group:
            scores_of = held[source, penalty]
            choices[source] = Choice(penalty, temperature_of(scores_of, truth))
            said.append(softmax(scores_of, choices[source].temperature))
    return Classifiers(choices, Rows((*NAMES, TOGETHER), np.stack(said, axis=1), truth, train.videos[inside]))


def say(train: Texts, others: Texts, classifiers: Classifiers, inside: np.ndarray | None = None) -> Rows:
    """What the sources say of other windows, learned from all windows of train that count; NaN where a view lacks a window."""
    inside = np.arange(len(train)) if inside is None else inside
    learned = np.concatenate([np.isin(np.arange(len(train)), inside), np.zeros(len(others), dtype=bool)])
    truth = np.concatenate([train.truth, others.truth])
    asked = np.arange(len(train), len(train) + len(others))
    said = []
    for source, chosen in classifiers.choices.items():
        kernel = kernel_of(source, [train, others], learned)
        rows = softmax(ridge(kernel, truth, np.flatnonzero(learned), asked, chosen.penalty), chosen.temperature)
        views = NAMES if source == TOGETHER else (source,)
        rows[[not any(others.texts[view][row] for view in views) for row in range(len(others))]] = np.nan
        said.append(rows)
    return Rows(tuple(classifiers.choices), np.stack(said, axis=1), others.truth, others.videos)


def softmax(values: np.ndarray, temperature: float) -> np.ndarray:
    """Rows that sum to 1."""
    powers = np.exp((values - values.max(axis=1, keepdims=True)) / temperature)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def temperature_of(values: np.ndarray, truth: np.ndarray) -> float:
    """The temperature of the largest likelihood."""
    tried = np.geomspace(0.01, 2, 100)
    return float(tried[int(np.argmax([np.log(softmax(values, t)[np.arange(len(truth)), truth]).mean() for t in tried]))])
