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
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from common import affectkit, guarded, table
from description_sources import INNER, NAMES, SEED, TOGETHER, Classifiers, Texts, learn, read_texts, say, some

from affectkit.builtin.fusing import Fit, Rows, choose, fit, folds
from affectkit.intervals import RESAMPLES, Difference, Score, Tally, differences, scores, tally_classes
from affectkit.labels import BASIC7, BASIC8
from affectkit.planner import windows
from affectkit.priors import PRIORS, divergence, histogram

FUSIONS = ("mean", "dirichlet", "convex", "mhpf_published", "mhpf", "mhpf_gated")
YARDSTICKS = (
    ("their scene branch, fine-tuned", 32.30),
    ("TF-IDF and logistic regression, best view", 37.66),
    ("the mean of six such", 41.49),
)
GOAL = 45.0
OUTER = 5  # parts of train in the check
BY_VIDEO = "by video"
HEADER = ["macro-F1 x 100", "", "low", "high", "accuracy", "- mean", "low", "high", BY_VIDEO, "low", "high"]
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
        together = tally(texts.truth, by_video(values, texts.videos), texts.videos)
        table_of.append([name, *cells, *_percent(scores(together, RESAMPLES)["macro_f1_all"])])
    return table_of


def _percent(found: Score | Difference, sign: str = "") -> list[str]:
    return [f"{100 * found.value:{sign}.2f}", *(f"{100 * (end or 0):{sign}.1f}" for end in (found.low, found.high))]


def report(train: Texts, dev: Texts, classifiers: Classifiers) -> None:
    """The report on dev."""
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
        theirs = say(train, some(train, held), classifiers, inside)
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
