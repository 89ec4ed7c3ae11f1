"""Fusions on real labels: six descriptions of each AFEW clip are six sources, whose classifiers and fusions are chosen on train and reported once on dev.

    python benchmarks/afew_descriptions.py ../shared/data/scene/ras_descriptions --cexpr ../shared/data/abaw

Three sizes of Qwen2.5-VL (3B, 7B, 32B), asked in two ways, described every clip of AFEW (SMIL-SPCRAS/ICCVW_25, MIT): 855 windows with labels to learn from, 411 to
report. A source is a kernel ridge classifier over the words of one description; ``together`` reads all six, and their sentences with the sentence model of mini
besides. Its penalty and all options of the fusions are chosen by cross-validation over whole videos inside the 855; ``--check`` prints what an outer cross-validation
around all of that finds, and does not touch the 411. Names of windows, which hold the label, are read for their video alone. A video has one label: ``by video`` scores
the mean of a video's windows in place of each. Sentences take some minutes to read; ``--sentences FOLDER`` keeps what was read for another time.

``--cexpr ABAW`` goes on with C-EXPR-DB: its 449 windows through the same classifiers, the mean, PPA and PFSA, to submissions of 26,145 lines, with the histogram of the classes
against the database's shares before and after the correction of priors. ABAW is the folder of the organisers' list and counts of frames.
"""

from __future__ import annotations

import argparse
import csv
import json
import pickle
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
from common import affectkit, guarded, table

from affectkit.builtin.fusing import Fit, Rows, choose, fit, folds
from affectkit.builtin.simplex import score_rows
from affectkit.intervals import RESAMPLES, Difference, Score, Tally, differences, scores, tally_classes
from affectkit.labels import BASIC7, BASIC8
from affectkit.planner import windows
from affectkit.priors import PRIORS, divergence, histogram

VIEWS = tuple((size, prompt) for size in ("3B", "7B", "32B") for prompt in (1, 2))
NAMES = tuple(f"{size}_P{prompt}" for size, prompt in VIEWS)
TOGETHER = "together"
FUSIONS = ("mean", "dirichlet", "convex", "mhpf_published", "mhpf", "mhpf_gated")
YARDSTICKS = (
    ("their scene branch, fine-tuned", 32.30),
    ("TF-IDF and logistic regression, best view", 37.66),
    ("the mean of six such", 41.49),
)
GOAL = 45.0
OUTER, INNER, SEED = 5, 5, 0
PENALTIES = (0.25, 0.5, 1.0, 2.0, 4.0)
BY_VIDEO = "by video"
END = re.compile(r"(?<=[.!?;])\s+")  # of a sentence
RATES = (23.976, 24.0, 25.0, 29.97, 30.0)


def main() -> None:
    """Prints macro-F1 per view and per fusion."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with AFEW/ and C-EXPR-DB/")
    parser.add_argument("--sentences", type=Path, metavar="FOLDER", help="folder that keeps what the sentence model says")
    parser.add_argument("--check", action="store_true", help="print the nested cross-validation inside train alone")
    parser.add_argument("--cexpr", type=Path, metavar="ABAW", help="folder of the organisers' list of C-EXPR-DB")
    parser.add_argument("--keep", type=Path, help="folder for the runs and submissions of C-EXPR-DB (default: thrown away)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as thrown_away:
        read = partial(read_texts, given.data, folder=given.sentences or Path(thrown_away))
        train = read("AFEW", "train")
        if given.check:
            check(train)
            return
        classifiers = learn(train)
        report(train, read("AFEW", "dev"), classifiers)
        if given.cexpr is not None:
            cexpr(train, read("C-EXPR-DB", "test"), classifiers, given.cexpr, given.keep or Path(thrown_away))


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


def fused(train: Rows, others: Rows) -> Iterator[tuple[str, Fit, np.ndarray]]:
    """Every fusion with the options that cross-validation on train chooses: its name, what was fitted, and its rows."""
    for name in FUSIONS:
        made = fit(name, train, choose(name, train, INNER, SEED), seed=SEED, draws=10_000)
        yield name, made, made.fuse(others)


def tally(truth: np.ndarray, values: np.ndarray, videos: np.ndarray) -> Tally:
    return tally_classes(truth, values, videos, BASIC7.labels)


def told(lines: Mapping[str, tuple[np.ndarray, str]], texts: Texts) -> list[list[str]]:
    """Of rows (N, 7) by name, each with the name of those that they are compared with: macro-F1 over seven classes with its interval, accuracy and the
    difference, and the first of these by video; all times 100."""
    alone = {name: tally(texts.truth, values, texts.videos) for name, (values, _) in lines.items()}
    table_of = [HEADER]
    for name, (values, mean) in lines.items():
        found = scores(alone[name], RESAMPLES)
        cells = [*_percent(found["macro_f1_all"]), f"{100 * found['war'].value:.2f}"]
        cells += _percent(differences(alone[mean], alone[name], RESAMPLES)["macro_f1_all"], "+") if mean else [""] * 3
        table_of.append(
            [name, *cells, *_percent(scores(tally(texts.truth, by_video(values, texts.videos), texts.videos), RESAMPLES)["macro_f1_all"])]
        )
    return table_of


def _percent(found: Score | Difference, sign: str = "") -> list[str]:
    return [f"{100 * found.value:{sign}.2f}", *(f"{100 * (end or 0):{sign}.1f}" for end in (found.low, found.high))]


HEADER = ["macro-F1 x 100", "", "low", "high", "accuracy", "- mean", "low", "high", BY_VIDEO, "low", "high"]


def report(train: Texts, dev: Texts, classifiers: Classifiers) -> None:
    """The report on dev: one look."""
    mine, theirs = classifiers.rows, say(train, dev, classifiers)
    print(f"train {len(train)} windows of {len(set(train.videos))} videos, dev {len(dev)} of {len(set(dev.videos))}")
    for source in (NAMES[0], TOGETHER):
        chosen = classifiers.choices[source]
        print(
            f"chosen on train for {'each view' if source in NAMES else source}: penalty {chosen.penalty:g}, temperature {chosen.temperature:.3f}"
        )
    lines = {source: (theirs.values[:, place], "") for place, source in enumerate(theirs.sources)}
    for title, rows, others in (("six views", mine.without(TOGETHER), theirs.without(TOGETHER)), ("with together", mine, theirs)):
        for name, made, values in fused(rows, others):
            lines[f"{title}: {name}{_options(made)}"] = values, "" if name == "mean" else f"{title}: mean"
    print(table([*told(lines, dev), *([name, f"{value:.2f}", *[""] * 9] for name, value in YARDSTICKS)]))
    print(f"goal {GOAL:.2f}")


def by_video(values: np.ndarray, videos: np.ndarray) -> np.ndarray:
    """Rows (N, C) as the mean over the rows of their video that say something."""
    found = np.full_like(values, np.nan)
    for video in np.unique(videos[~np.isnan(values).any(axis=1)]):
        found[videos == video] = np.nanmean(values[videos == video], axis=0)
    return found


def check(train: Texts) -> None:
    """The same inside train: classifiers, fusions and all their options are chosen and fitted in each outer fold without its videos."""
    fold = folds(train.videos, train.truth, OUTER, SEED + 1)
    found: dict[str, tuple[np.ndarray, str]] = {}
    for number in range(OUTER):
        inside, held = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        classifiers = learn(train, inside)
        theirs = say(train, _some(train, held), classifiers, inside)
        said = {source: (theirs.values[:, place], "") for place, source in enumerate(theirs.sources)}
        for title, mine, others in (
            ("six views", classifiers.rows.without(TOGETHER), theirs.without(TOGETHER)),
            ("with together", classifiers.rows, theirs),
        ):
            for name, _, values in fused(mine, others):
                said[f"{title}: {name}"] = values, "" if name == "mean" else f"{title}: mean"
        for name, (values, mean) in said.items():
            found.setdefault(name, (np.full((len(train), len(BASIC7)), np.nan), mean))[0][held] = values
        print(f"outer fold {number + 1} of {OUTER}", flush=True)
    print(table(told(found, train)))


def _some(texts: Texts, rows: np.ndarray) -> Texts:
    """Some of the windows."""
    return Texts(
        tuple(texts.names[row] for row in rows),
        texts.videos[rows],
        texts.truth[rows],
        {name: tuple(mine[row] for row in rows) for name, mine in texts.texts.items()},
        {name: mine[rows] for name, mine in texts.sentences.items()},
    )


def _options(made: Fit) -> str:
    return f" ({', '.join(f'{key} {value}' for key, value in made.options.items())})" if made.options else ""


def cexpr(train: Texts, test: Texts, classifiers: Classifiers, abaw: Path, folder: Path) -> None:
    """C-EXPR-DB: import, fuse, submit, check; and the shares of the classes."""
    folder.mkdir(parents=True, exist_ok=True)
    counts = frame_counts(test, abaw)
    (folder / "media.csv").write_text("media,frames,fps\n" + "".join(f"{v},{n},{r}\n" for v, (n, r) in counts.items()), encoding="utf-8")
    said = say(train, test, classifiers)
    vectors, path = embedded(train, test, folder / "pfsa.safetensors")
    files = []
    for place, source in enumerate(said.sources):
        rows = [
            {
                "video_name": name,
                "probs": np.append(values, 0.0),
                **({"features": vectors[row]} if source == TOGETHER else {}),
            }
            for row, (name, values) in enumerate(zip(test.names, said.values[:, place], strict=True))
            if np.isfinite(values).all()
        ]
        files.append(folder / f"{source}.pkl")
        files[-1].write_bytes(pickle.dumps(rows))
    run, template = folder / "run", abaw / "cexpr_ce_template.txt"
    print(affectkit("import", *(f"{file.stem}={file}" for file in files), "--media", folder / "media.csv", "--out", run).strip())
    heads: dict[str, list[str | Path]] = {
        "ppa": [],
        "ppa_weighted": ["--set", "components.core/ppa.rule=weighted"],
        "pfsa": ["--head", "core/pfsa", "--set", f"components.core/pfsa.checkpoint={path}"],
    }
    lines = [["share of frames", *(label for label in PRIORS["cexpr_db"].labels.labels), "divergence"]]
    lines.append(["C-EXPR-DB, whole", *(f"{share:.3f}" for share in PRIORS["cexpr_db"].shares), ""])
    for name, options in heads.items():
        for corrected in (False, True):
            out = folder / f"{name}{'_prior' * corrected}"
            affectkit("fuse", run, "--out", out, *options, *(["--prior", "cexpr_db"] if corrected else []))
            answer = out.with_suffix(".txt")
            report_of = json.loads(affectkit("submit", out, "--to", "abaw-ce", "--template", template, "--out", answer, "--json"))
            print(affectkit("submit", "--check", answer, "--template", template).strip())
            answers = report_of["sets"]["compound7"]["answers"]
            shares = np.array([answers.get(label, 0) for label in PRIORS["cexpr_db"].labels.labels]) / report_of["lines"]
            apart = divergence(PRIORS["cexpr_db"].shares, shares)
            lines.append(
                [
                    f"{name}{', toward the prior' * corrected} ({report_of['lines']} lines)",
                    *(f"{share:.3f}" for share in shares),
                    f"{apart:.3f}",
                ]
            )
    print(table(lines))
    mean = histogram(np.nanmean(said.values, axis=1))
    print("basic emotions of the windows: " + ", ".join(f"{label} {share:.3f}" for label, share in zip(BASIC7.labels, mean, strict=True)))


def frame_counts(test: Texts, abaw: Path) -> dict[str, tuple[int, float]]:
    """Frames of each video, and the first usual rate at which it is cut into as many windows as there are descriptions of it."""
    with (abaw / "cexpr_official_frame_counts.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    out = {}
    for row in rows:
        count = int((test.videos == row["video"]).sum())
        frames = int(row["official_frames"])
        fits = [rate for rate in RATES if len(windows(int(row["cv2_frame_count"]) / rate)) == count]
        out[row["video"]] = (frames, fits[0] if fits else 25.0)
    return out


def embedded(train: Texts, test: Texts, path: Path, size: int = 64) -> tuple[np.ndarray, Path]:
    """Embeddings (N, 64) float32 of the words of all six texts of a window (latent semantic analysis), and the file of prototypes for PFSA, of train."""
    import torch
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    from affectkit.builtin.pfsa import fit_prototypes, save_pfsa

    texts = [" ".join(part.texts[view][row] for view in NAMES) for part in (train, test) for row in range(len(part))]
    vectoriser = TfidfVectorizer(min_df=3).fit(texts[: len(train)])
    reducer = TruncatedSVD(size, random_state=SEED).fit(vectoriser.transform(texts[: len(train)]))
    vectors = reducer.transform(vectoriser.transform(texts)).astype(np.float32)
    vectors -= vectors[: len(train)].mean(axis=0)
    labels = [BASIC8.index(BASIC7.labels[column]) for column in train.truth]
    prototypes = fit_prototypes(torch.from_numpy(vectors[: len(train)]), labels)
    save_pfsa(path, prototypes, f"given/{TOGETHER}:features", {"source": "words of the descriptions of AFEW train"})
    return vectors[len(train) :], path


if __name__ == "__main__":
    guarded(main)
