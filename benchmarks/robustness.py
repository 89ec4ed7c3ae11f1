"""How well the modalities of mini read what is small, dark, noisy, short, long or foreign, on the parts that validated them.

    python benchmarks/robustness.py --data DIR [--rows 1000] [--only faces,sound] [--markdown]

``DIR`` holds ``faces/fer2013.parquet`` (the split public_test is read), ``audio/{ravdess,nemo}`` (each voice is
heard by networks that were not trained on it), ``text/goemotions_ekman_dev.tsv`` (rows with one label), ``scene/ras_descriptions/AFEW`` (dev), and
``images``, photos with the emotion in their names. No row of these trained a model; temperatures and thresholds were chosen on them.

Everything is read by the components as in a run, with their packaged weights. Evidence is the share of rows that are answered at all; accuracy,
with half a 95 % interval, and UAR are over all rows, and a row without an answer is wrong. Confidence is the mean of the largest probability of the
answers: where it is far above the accuracy, the model does not notice that it is lost.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

import cv2
import degradations as degrade
import numpy as np
import pandas as pd
from common import guarded, table

import affectkit
from affectkit import plugins, session
from affectkit.api import BASIC7, Clip, Evidence, Media, Modality, Span
from affectkit.decoding import read_sound
from affectkit.labels import canonical
from affectkit.media import open_media
from affectkit.pictures import read_picture
from affectkit.testing.media import make_wav

PARTS = ("faces", "motion", "sound", "text", "scene", "photos")
HEADINGS = ("modality and part", "condition", "rows", "evidence", "accuracy", "UAR", "confidence")
BATCH = 32
EMOTIONS = ("angry", "disgusted", "fearful", "happy", "neutral", "sad", "surprised")  # names of the photos
STEADY = 8  # pictures of a made sequence
LONG = 200  # rows of 2,000 words, at most
SPOKEN = 300  # sounds of a corpus, at most
VIEW = ("Qwen2.5-VL-32B-Instruct", 1)  # the kind of description that is read
MEDIA = Media(id="made", path=Path("made"), kind="video", duration=4.0, fps=25.0, size=(480, 640))
WINDOW = Span(0.0, 4.0)
FACES: Mapping[str, degrade.Picture] = {
    "as it is (grey, 48 pixels)": lambda picture: picture,
    "24 pixels": degrade.smaller(24),
    "16 pixels": degrade.smaller(16),
    "dark": degrade.lit(0.15, 0),
    "bright": degrade.lit(1.5, 60),
    "tilted 20 degrees left": degrade.tilted(20),
    "tilted 20 degrees right": degrade.tilted(-20),
    "orange light": lambda picture: (picture * np.array([1.0, 0.7, 0.4])).astype(np.uint8),
    "blurred": degrade.blurred(2.0),
    "JPEG of quality 20": degrade.jpeg(20),
    "lower half covered": degrade.covered("lower"),
    "left half covered": degrade.covered("left"),
}
SOUNDS: Mapping[str, degrade.Speech] = {
    "as it is (16 kHz)": lambda samples: (samples, degrade.RATE),
    **{f"{rate / 1000:g} kHz": degrade.recorded_at(rate) for rate in (8000, 11025, 44100, 48000)},
    "stereo, voice on one side": degrade.one_channel,
    "clipped (a fifth of it)": degrade.clipped(0.2),
    "0.5 s": degrade.piece(0.5),
    "0.2 s": degrade.piece(0.2),
    **{f"noise at {level} dB": degrade.noisy(level) for level in (20, 10, 0)},
    "telephone band": degrade.telephone,
    "3 s of silence around it": degrade.surrounded(3),
    "a pause of 1.5 s in it": degrade.paused(1.5),
    "quiet, after a click": degrade.clicked,
    "silence": degrade.silent,
}


@dataclass(frozen=True)
class Answers:
    """What a modality said of rows: probabilities (N, 7), NaN where it had no evidence, and the right labels (N,)."""

    values: np.ndarray
    truth: np.ndarray

    def row(self, part: str, condition: str) -> tuple[str, ...]:
        """A line of the table."""
        there = np.isfinite(self.values).all(1)
        right = np.where(there, np.where(there[:, None], self.values, 0).argmax(1) == self.truth, False)
        accuracy = right.mean()
        half = 1.96 * np.sqrt(accuracy * (1 - accuracy) / len(right))
        recall = np.mean([right[self.truth == label].mean() for label in np.unique(self.truth)])
        sure = f"{self.values[there].max(1).mean():.2f}" if there.any() else "-"
        figures = (f"{accuracy:.3f} ± {half:.3f}", f"{recall:.3f}") if there.any() else ("-", "-")
        return (part, condition, str(len(right)), f"{there.mean():.0%}", *figures, sure)


def read(modality: Modality, clips: Sequence[Clip]) -> np.ndarray:
    """Probabilities (N, 7) of clips, NaN rows where there is no evidence."""
    import torch

    from affectkit.batching import as_tensors, collate

    found = np.full((len(clips), len(BASIC7)), np.nan)
    rows = [(place, as_tensors(given)) for place, clip in enumerate(clips) if (given := modality.preprocess(clip)) is not None]
    for start in range(0, len(rows), BATCH):
        places, given = zip(*rows[start : start + BATCH], strict=True)
        with torch.inference_mode():
            found[list(places)] = modality.predict(collate(given)).values[BASIC7].numpy()
    return found


def sample(count: int, most: int) -> np.ndarray:
    """Places of at most ``most`` of ``count`` rows, the same ones each time."""
    return np.sort(np.random.default_rng(0).permutation(count)[:most])


def label(name: str) -> int:
    """The place of an emotion in the seven basic ones; calm counts as neutral."""
    name = name.lower()
    return BASIC7.index("neutral" if name == "calm" else canonical(name))


def faces_clip(pictures: Sequence[np.ndarray]) -> Clip:
    """A clip of crops (H, W, 3) uint8."""
    count, side = len(pictures), pictures[0].shape[0]
    boxes = np.tile(np.array([[0, 0, side, side]], np.float32), (count, 1))
    data = {"crops": np.stack(pictures), "boxes": boxes, "scores": np.ones(count, np.float32)}
    return Clip(MEDIA, WINDOW, 0, inputs={"faces": Evidence("faces", data, times=np.arange(count) / 5)})


def read_fer2013(data: Path, most: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Pictures (48, 48, 3) uint8 and labels of the public test."""
    rows = pd.read_parquet(data / "faces" / "fer2013.parquet")
    rows = rows[rows["split"] == "public_test"]
    rows = rows.iloc[sample(len(rows), most)]
    pictures = [cv2.cvtColor(cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_GRAYSCALE), cv2.COLOR_GRAY2RGB) for raw in rows["jpeg"]]
    return pictures, np.array([label(name) for name in rows["label"]])


def faces(modality: Modality, data: Path, most: int) -> Iterator[tuple[str, ...]]:
    """mini/face_static on single pictures."""
    pictures, truth = read_fer2013(data, most)
    for name, change in FACES.items():
        values = read(modality, [faces_clip([change(picture)]) for picture in pictures])
        yield Answers(values, truth).row("mini/face_static, FER2013 public test", name)


def motion(modality: Modality, data: Path, most: int) -> Iterator[tuple[str, ...]]:
    """mini/face_dynamic on a still that a trembling camera sees."""
    pictures, truth = read_fer2013(data, min(most, 300))
    steps = np.random.default_rng(0).integers(-1, 2, (STEADY, 2)).cumsum(0).clip(-2, 2)
    for name, change in FACES.items():
        clips = []
        for picture in pictures:
            wide = np.pad(change(picture), ((2, 2), (2, 2), (0, 0)), mode="edge")
            clips.append(faces_clip([wide[2 + y : 50 + y, 2 + x : 50 + x] for y, x in steps]))
        yield Answers(read(modality, clips), truth).row("mini/face_dynamic, steady stills", name)


def unheard(modality: Modality, voices: Sequence[str]) -> dict[str, Modality]:
    """For each voice that some of mini/audio's networks did not hear in training, a component of those alone."""
    import torch
    from affectkit_mini.trainings.voices import FOLDS, place

    parts = []
    for fold in range(FOLDS):
        parts.append(type(modality)(replace(modality.options, left_out=fold)))
        parts[-1].load(torch.device("cpu"), torch.float32)
    return {voice: parts[place(voice)[0]] for voice in voices}


def heard(path: Path) -> np.ndarray:
    """The sound of a file as a run delivers it: (N,) float32 mono at 16 kHz."""
    pieces = [piece.samples for piece in read_sound(open_media(path), degrade.RATE)]
    return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)


def sound(modality: Modality, data: Path, most: int) -> Iterator[tuple[str, ...]]:
    """mini/audio on files of other kinds, decoded as in a run; every voice by networks that did not hear it in training."""
    with tempfile.TemporaryDirectory() as folder:
        for corpus, title in (("ravdess", "RAVDESS"), ("nemo", "nEMO")):
            rows = pd.read_csv(data / "audio" / corpus / "labels.csv")
            rows["voice"] = f"{corpus} " + rows["actor" if corpus == "ravdess" else "speaker"].astype(str)
            listeners = unheard(modality, sorted(set(rows["voice"])))
            rows = rows[rows["voice"].isin(listeners)]
            rows = rows.iloc[sample(len(rows), min(most, SPOKEN))]
            speech, truth = [heard(data / "audio" / corpus / file) for file in rows["file"]], np.array([label(e) for e in rows["emotion"]])
            for name, change in SOUNDS.items():
                clips = [Clip(MEDIA, WINDOW, audio=heard(make_wav(Path(folder) / "sound.wav", *change(samples)))) for samples in speech]
                values = np.full((len(clips), len(BASIC7)), np.nan)
                for listener in dict.fromkeys(listeners.values()):
                    mine = np.flatnonzero([listeners[voice] is listener for voice in rows["voice"]])
                    values[mine] = read(listener, [clips[place] for place in mine])
                yield Answers(values, truth).row(f"mini/audio, {title} voices not trained on", name)


def words(kind: str, texts: Sequence[str]) -> list[Clip]:
    """Clips with a text each."""
    return [Clip(MEDIA, WINDOW, inputs={kind: Evidence(kind, {"text": text, "words": ()})}) for text in texts]


def text(modality: Modality, data: Path, most: int) -> Iterator[tuple[str, ...]]:
    """mini/text on comments, changed in ways that people and machines change them."""
    names = (data / "text" / "goemotions_ekman_labels.txt").read_text().split()
    lines = [line.split("\t") for line in (data / "text" / "goemotions_ekman_dev.tsv").read_text(encoding="utf-8").splitlines()]
    single = [(line[0], label(names[int(line[1])])) for line in lines if "," not in line[1]]
    said, truth = zip(*(single[place] for place in sample(len(single), most)), strict=True)
    neutral = [said for said, right in single if right == BASIC7.index("neutral")]

    def amid(before: int, comment: str) -> str:
        """A comment with so many words of neutral comments before it, and 2,000 words in all."""
        others = " ".join(neutral).split()
        return " ".join([*others[:before], *comment.split(), *others[before:]][:2000])

    changes: dict[str, Callable[[str], str]] = {
        "as it is": str,
        "upper case": str.upper,
        "letters swapped in every third longer word": degrade.mistyped,
        "2,000 words, the same comment again and again": degrade.repeated,
        "2,000 words, first the comment, then neutral ones": partial(amid, 0),
        "2,000 words, the comment after 1,000 neutral ones": partial(amid, 1000),
        "empty": lambda comment: "",
        "digits and dots": lambda comment: "... 123 ...",
    }
    for name, change in changes.items():
        count = min(LONG, len(said)) if name.startswith("2,000") else len(said)
        values = read(modality, words("transcript", [change(comment) for comment in said[:count]]))
        yield Answers(values, np.array(truth[:count])).row("mini/text, GoEmotions dev", name)
    polish = sorted(set(pd.read_csv(data / "audio" / "nemo" / "labels.csv")["text"]))
    values = read(modality, words("transcript", polish))
    everyday = np.full(len(polish), BASIC7.index("neutral"))
    yield Answers(values, everyday).row("mini/text, everyday sentences of nEMO", "Polish (neutral is right)")


def scene(modality: Modality, data: Path, most: int) -> Iterator[tuple[str, ...]]:
    """mini/scene on descriptions, changed."""
    folder, prompt = VIEW
    rows = pd.read_csv(data / "scene" / "ras_descriptions" / "AFEW" / folder / f"dev_segment_with_text_{prompt}.csv")
    rows = rows.iloc[sample(len(rows), most)]
    truth = rows[[name.capitalize() for name in BASIC7.labels]].to_numpy().argmax(1)
    changes: dict[str, Callable[[str], str]] = {
        "as it is": str,
        "upper case": str.upper,
        "letters swapped in every third longer word": degrade.mistyped,
        "first sentence alone": degrade.first_sentence,
        "2,000 words, the same description again and again": degrade.repeated,
        "empty": lambda description: "",
    }
    for name, change in changes.items():
        count = min(LONG, len(rows)) if name.startswith("2,000") else len(rows)
        values = read(modality, words("description", [change(str(given)) for given in rows["text"][:count]]))
        yield Answers(values, truth[:count]).row("mini/scene, AFEW dev", name)


def photos(data: Path) -> Iterator[tuple[str, ...]]:
    """The detector of the default recipe and mini/face_static on labelled photos: whole runs."""
    known = {path: label(path.stem) for path in sorted((data / "images").glob("*.jpg")) if path.stem in EMOTIONS}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        clean = analysed(list(known), folder / "clean")
        sizes = affectkit.read_quality(folder / "clean").set_index("media")["side"]
        boxes = affectkit.read_subjects(folder / "clean").set_index("media")
        for path in known:
            if path.stem not in sizes:
                continue
            picture, side = read_picture(path), float(sizes[path.stem])
            x, y, width, height = (float(boxes.loc[path.stem, name]) for name in ("x", "y", "width", "height"))
            box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            for name, change in photo_changes(side, box).items():
                target = folder / f"{path.stem}--{name}.png"
                target.write_bytes(cv2.imencode(".png", cv2.cvtColor(change(picture), cv2.COLOR_RGB2BGR))[1].tobytes())
        changed = analysed(sorted(folder.glob("*.png")), folder / "changed")
    for name in ("as it is", *photo_changes(48, (0, 0, 1, 1))):
        said = clean if name == "as it is" else {key.partition("--")[0]: row for key, row in changed.items() if key.endswith(f"--{name}")}
        values = np.stack([said.get(path.stem, np.full(len(BASIC7), np.nan)) for path in known])
        yield Answers(values, np.array(list(known.values()))).row("detector and mini/face_static, labelled photos", name)


def photo_changes(side: float, box: tuple[float, float, float, float]) -> dict[str, degrade.Picture]:
    """What is done to a photo whose face has a side of so many pixels, in ``box`` (x0, y0, x1, y1 as shares of the picture)."""

    def shrunk(pixels: int, picture: np.ndarray) -> np.ndarray:
        return cv2.resize(picture, None, fx=pixels / side, fy=pixels / side, interpolation=cv2.INTER_AREA)

    return {
        "face of 48 pixels": partial(shrunk, 48),
        "face of 24 pixels": partial(shrunk, 24),
        "dark": degrade.lit(0.15, 0),
        "bright": degrade.lit(1.5, 60),
        "tilted 20 degrees left": degrade.tilted(20),
        "tilted 20 degrees right": degrade.tilted(-20),
        "grey": degrade.grey,
        "blurred": degrade.blurred(side / 24),
        "JPEG of quality 20": degrade.jpeg(20),
        "lower half covered": degrade.covered("lower", box),
        "left half covered": degrade.covered("left", box),
    }


def analysed(paths: Sequence[Path], out: Path) -> dict[str, np.ndarray]:
    """What mini/face_static says of the main face of each picture, by the name of its file."""
    recipe = session.load_recipe(None, plugins.load(), modalities=["mini/face_static"], fusion="none", head="none")
    result = affectkit.run(paths, out, recipe=recipe, device="cpu")
    if result.failures:
        raise SystemExit("\n".join(failure.message for failure in result.failures))
    rows = result.read("basic7")
    columns = [f"p_{name}" for name in BASIC7.labels]
    return {str(row["media"]): row[columns].to_numpy(float) for _, row in rows[rows["valid"]].iterrows()}


READERS = {"faces": faces, "motion": motion, "sound": sound, "text": text, "scene": scene}
COMPONENTS = {"faces": "face_static", "motion": "face_dynamic", "sound": "audio", "text": "text", "scene": "scene"}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1000, help="rows per part, at most (default: 1000)")
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, of {','.join(PARTS)}")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    given = parser.parse_args()
    chosen = given.only.split(",")
    if unknown := sorted(set(chosen) - set(PARTS)):
        raise SystemExit(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    import torch

    registry = plugins.load()
    lines: list[tuple[str, ...]] = []
    used: dict[str, str] = {}
    for part in chosen:
        if part == "photos":
            lines += photos(given.data)
            continue
        modality = cast(Modality, registry.get(f"mini/{COMPONENTS[part]}", "modality").cls())
        used |= {checkpoint.uri.rpartition("/")[2]: str(checkpoint.sha256)[:8] for checkpoint in modality.checkpoints.values()}
        modality.load(torch.device("cpu"), torch.float32)
        lines += READERS[part](modality, given.data, given.rows)
    print(f"Weights, by the first digits of their sha256: {', '.join(f'{name} {digits}' for name, digits in used.items())}.\n")
    if given.markdown:
        print("\n".join(f"| {' | '.join(line)} |" for line in (HEADINGS, ("---",) * len(HEADINGS), *lines)))
        return
    for name in dict.fromkeys(line[0] for line in lines):
        print(f"\n{name}")
        print(table([HEADINGS[1:], *(line[1:] for line in lines if line[0] == name)]))


if __name__ == "__main__":
    guarded(main)
