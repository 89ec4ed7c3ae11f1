"""A whole entry to the compound track of ABAW: videos with the names and lengths of C-EXPR-DB, analysed, answered, and checked.

    python benchmarks/abaw.py --data ../shared/data

The videos of C-EXPR-DB are not public. Here each has the number of frames that OpenCV counts in the real one, which in 15 of 56 is not
that of the organisers' list, and shows a real clip of ``video/`` over and over, 160 pixels high, with its sound. Everything
is done by the commands that a team gives: affectkit run, affectkit submit, affectkit submit --check.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from common import affectkit, guarded

from affectkit.decoding import read_frames, read_sound
from affectkit.media import open_media
from affectkit.tables import read_info, read_run
from affectkit.testing.media import make_video

CLIPS = ("talking_head_8s.mp4", "expressive_d10.mp4", "expressive_d11.mp4", "expressive_d14.mp4", "single_face.mp4")
FPS = 25
HEIGHT = 160  # pixels; the smallest at which the detector finds the faces of these clips
RATE = 16000


def main() -> None:
    """Prints what was made, found and written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds video/ and abaw/")
    parser.add_argument("--most", type=int, help="only videos of at most so many frames (default: all 56)")
    parser.add_argument("--keep", type=Path, help="folder for the videos, the run and the submission (default: thrown away)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as thrown_away:
        folder = given.keep or Path(thrown_away)
        folder.mkdir(parents=True, exist_ok=True)
        enter(given.data, folder, given.most)


def enter(data: Path, folder: Path, most: int | None) -> None:
    """Makes the corpus and the list, and goes the whole way with them."""
    with (data / "abaw" / "cexpr_official_frame_counts.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if most is None or int(row["official_frames"]) <= most]
    counts = {row["video"]: int(row["cv2_frame_count"]) for row in rows}
    header, *lines = (data / "abaw" / "cexpr_ce_template.txt").read_text(encoding="utf-8").splitlines()
    asked = [line for line in lines if line.partition("/")[0] in counts]
    template, run, out = folder / "list.txt", folder / "run", folder / "ce.txt"
    template.write_text("\n".join([header, *asked]) + "\n", encoding="utf-8")

    began = time.perf_counter()
    make_corpus(data / "video", folder / "corpus", counts)
    print(f"made {len(counts)} videos of {sum(counts.values())} frames in {time.perf_counter() - began:.0f} s", flush=True)

    began = time.perf_counter()
    affectkit("run", folder / "corpus", "--out", run, "--json")
    print(f"affectkit run: {time.perf_counter() - began:.0f} s", flush=True)
    windows = sum(record["windows"] for record in read_info(run)["media"].values())
    faces = sum(record["evidence"]["mini/face_static"]["with_evidence"] for record in read_info(run)["media"].values())
    table = read_run(run, "compound7")
    print(f"windows: {windows}; with a face {faces / windows:.1%}, with a compound expression {table['valid'].mean():.1%}")

    began = time.perf_counter()
    told = json.loads(affectkit("submit", run, "--to", "abaw-ce", "--template", template, "--out", out, "--json"))
    print(f"affectkit submit: {time.perf_counter() - began:.1f} s")
    found = told["sets"]["compound7"]
    print(f"lines: {told['lines']}; from evidence {found['share']['evidence']:.2%}, filled {found['share']['gaps']:.2%} ({told['gaps']})")
    more = sum(video["not_in_the_file"] > 0 for video in told["videos"].values())
    fewer = sum(video["not_asked_for"] > 0 for video in told["videos"].values())
    print(f"videos with fewer frames than the list: {more}, with more: {fewer}")
    print("answers: " + ", ".join(f"{label} {count / told['lines']:.1%}" for label, count in found["answers"].items()))
    written = out.read_text(encoding="utf-8").splitlines()
    same = [line.partition(",")[0] for line in written[1:]] == [line.partition(",")[0] for line in asked]
    print(f"every line of the list, in its order: {'yes' if same and written[0] == header else 'no'}")
    print(affectkit("submit", "--check", out, "--template", template).strip())


def make_corpus(clips: Path, folder: Path, counts: dict[str, int]) -> None:
    """Writes a video per name, of so many frames; each shows one of the clips over and over."""
    import cv2

    shown = []
    for name in CLIPS:
        media = open_media(clips / name)
        pictures: list[np.ndarray] = []
        for frame in read_frames(media):
            if frame.time - media.start >= len(pictures) / FPS:
                image = frame.rgb()
                width = round(image.shape[1] * HEIGHT / image.shape[0] / 2) * 2
                pictures.append(np.asarray(cv2.resize(image, (width, HEIGHT), interpolation=cv2.INTER_AREA), dtype=np.uint8))
        sound = np.concatenate([piece.samples for piece in read_sound(media, RATE)])
        shown.append((pictures, sound))
    for number, (name, count) in enumerate(counts.items()):
        pictures, sound = shown[number % len(shown)]
        make_video(
            folder / f"{name}.mp4",
            times=np.arange(count) / FPS,
            fps=FPS,
            size=pictures[0].shape[:2],
            picture=_over_and_over(pictures),
            sound=np.resize(sound, round(count / FPS * RATE)),
            rate=RATE,
        )


def _over_and_over(pictures: Sequence[np.ndarray]):
    return lambda seconds: pictures[round(seconds * FPS) % len(pictures)]


if __name__ == "__main__":
    guarded(main)
