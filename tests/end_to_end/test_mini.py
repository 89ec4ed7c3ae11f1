"""The whole way, with the real models of ``mini``: one input is changed at a time, and the source concerned changes, and no other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import affectkit
from affectkit.decoding import read_frames, read_sound
from affectkit.media import open_media
from affectkit.testing.media import make_video, make_wav

pytest.importorskip("affectkit_mini", reason="the plugin mini is not installed: pip install -r requirements.txt")

SECONDS = 5.0
FPS = 10
SIZE = (288, 288)  # height, width of the clips in pixels
RATE = 16000

FACES = {"mini/face_static", "mini/face_dynamic"}
MODALITIES = {*FACES, "mini/audio", "mini/text", "mini/scene"}
DERIVED = {"core/mhpf", "core/ppa"}

CUES = ("I am so happy to see you, this is the best day of my life!", "And then it was time to go.")
OTHER_CUES = ("Get out of my house, I hate you, I am furious with all of you!", CUES[1])
LATE_CUES = (CUES[0], "I am so terribly afraid, please do not leave me alone in here.")
TIMES = ((0.5, 3.0), (4.1, 4.9))  # the second is in the second window only
SCENE = "A smiling woman laughs with her friends in a sunny garden and raises a glass in joy."
OTHER_SCENE = "A man weeps alone at a grave in the rain; his shoulders shake and tears run down his face."


@dataclass(frozen=True)
class Ingredients:
    """What a clip is made of.

    Attributes:
        pictures: SECONDS * FPS pictures, (T, H, W, 3) uint8 RGB.
        sound: (N,) float32 mono samples at RATE.
        cues: the words of both times.
        scene: a description of the whole clip.
    """

    pictures: np.ndarray
    sound: np.ndarray
    cues: tuple[str, str] = CUES
    scene: str = SCENE


def write(folder: Path, made_of: Ingredients) -> Path:
    """Writes ``clip.mkv`` with its subtitles and descriptions; without loss, so that the same pictures are the same pictures."""
    clip = make_video(
        folder / "clip.mkv",
        seconds=SECONDS,
        fps=FPS,
        size=SIZE,
        picture=lambda t: made_of.pictures[round(t * FPS)],
        sound=made_of.sound,
        rate=RATE,
        codec="ffv1",
    )
    cues = [f"{i}\n00:00:{a:06.3f} --> 00:00:{b:06.3f}\n{text}\n" for i, ((a, b), text) in enumerate(zip(TIMES, made_of.cues, strict=True))]
    clip.with_suffix(".srt").write_text("\n".join(cues), encoding="utf-8")
    clip.with_suffix(".descriptions.csv").write_text(f'media,text\nclip.mkv,"{made_of.scene}"\n', encoding="utf-8")
    return clip


def pictures_of(path: Path) -> np.ndarray:
    """FPS pictures a second from the beginning of a real video, as squares of SIZE."""
    import cv2

    taken: list[np.ndarray] = []
    for frame in read_frames(open_media(path)):
        if frame.time >= len(taken) / FPS:
            image = frame.rgb()
            side = min(image.shape[:2])
            top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
            taken.append(cv2.resize(image[top : top + side, left : left + side], SIZE[::-1], interpolation=cv2.INTER_AREA))
        if len(taken) == round(SECONDS * FPS):
            break
    return np.stack(taken)


def sound_of(path: Path) -> np.ndarray:
    """A spoken sentence, said twice, cut to SECONDS."""
    once = np.concatenate([piece.samples for piece in read_sound(open_media(path), RATE)])
    return np.tile(once, 3)[: round(SECONDS * RATE)]


@pytest.fixture(scope="module")
def table(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """What one run of the default recipe says about the base clip and its variants; ``media`` is the variant."""
    ravdess = shared_data / "audio" / "ravdess"
    face, other_face = (pictures_of(shared_data / "video" / name) for name in ("talking_head_8s.mp4", "expressive_d10.mp4"))
    voice = sound_of(ravdess / "03-01-03-02-01-01-05.ogg")  # happy, strong
    other_voice = sound_of(ravdess / "03-01-05-02-01-01-05.ogg")  # angry, strong; the same words by the same actor
    base = Ingredients(face, voice)
    variants = {
        "base": base,
        "words": Ingredients(face, voice, cues=OTHER_CUES),
        "late_words": Ingredients(face, voice, cues=LATE_CUES),
        "sound": Ingredients(face, other_voice),
        "silence": Ingredients(face, np.zeros_like(voice)),
        "face": Ingredients(other_face, voice),
        "black": Ingredients(np.zeros_like(face), voice),
        "scene": Ingredients(face, voice, scene=OTHER_SCENE),
    }
    folder = tmp_path_factory.mktemp("variants")
    clips = [write(folder / name, made_of) for name, made_of in variants.items()]
    result = affectkit.run(clips, folder / "run", device="cpu")
    assert not result.failures
    found = result.read()
    return found.assign(media=found["media"].str.partition("/")[0])


def rows(table: pd.DataFrame, media: str) -> dict[str, np.ndarray]:
    """Per source the values of a clip in time order: (windows, columns of all label sets), NaN where nothing is said."""
    mine = table[table["media"] == media].sort_values(["source", "labels", "start"])
    columns = [name for name in table.columns if name.startswith("p_")]
    return {str(source): part[columns].to_numpy(float) for source, part in mine.groupby("source")}


def valid(table: pd.DataFrame, media: str) -> Mapping[str, bool]:
    """Per source whether all rows of a clip have evidence (true), none has (false)."""
    found = table[table["media"] == media].groupby("source")["valid"]
    assert (found.all() == found.any()).all()
    return {str(source): bool(value) for source, value in found.all().items()}


def changed(table: pd.DataFrame, media: str, window: int | slice = slice(None)) -> dict[str, float]:
    """Per source the largest change of a probability against the base clip; sources that did not change are left out."""
    base, other = rows(table, "base"), rows(table, media)
    assert set(base) == set(other) == MODALITIES | DERIVED
    differences = {}
    for source in base:
        windows = table[(table["media"] == media) & (table["source"] == source)]["start"].nunique()
        a, b = (values.reshape(-1, windows, values.shape[1])[:, window] for values in (base[source], other[source]))
        if not np.allclose(a, b, rtol=0, atol=1e-5, equal_nan=True):
            differences[source] = float(np.nanmax(np.abs(a - b))) if np.isfinite(a - b).any() else float("nan")
    return differences


def test_the_base_clip_has_evidence_everywhere_and_rows_that_are_distributions(table: pd.DataFrame) -> None:
    base = table[table["media"] == "base"]
    assert valid(table, "base") == dict.fromkeys(MODALITIES | DERIVED, True)
    assert sorted(base["start"].unique()) == [0.0, 2.0]
    assert sorted(base["end"].unique()) == pytest.approx([4.0, SECONDS], abs=0.1)  # sound comes in packets
    for labels, part in base[base["labels"] != "mentioned7"].groupby("labels"):
        values = part[[name for name in part.columns if name.startswith("p_")]].to_numpy(float)
        np.testing.assert_allclose(np.nansum(values, axis=1), 1.0, atol=1e-4, err_msg=str(labels))


@pytest.mark.parametrize(
    ("variant", "sources"),
    [("words", {"mini/text"}), ("sound", {"mini/audio"}), ("face", FACES), ("scene", {"mini/scene"})],
)
def test_another_input_changes_the_source_concerned_and_no_other(table: pd.DataFrame, variant: str, sources: set[str]) -> None:
    differences = changed(table, variant)
    assert set(differences) == sources | DERIVED
    assert all(valid(table, variant).values())
    for source in sources:
        assert differences[source] > 0.05, differences
    assert min(differences[name] for name in DERIVED) > 1e-3


def test_words_count_in_the_windows_in_which_they_are_said(table: pd.DataFrame) -> None:
    assert changed(table, "late_words", window=0) == {}
    assert set(changed(table, "late_words", window=1)) == {"mini/text"} | DERIVED


@pytest.mark.parametrize(("variant", "sources"), [("black", FACES), ("silence", {"mini/audio"})])
def test_without_evidence_a_source_says_nothing_and_the_others_go_on(table: pd.DataFrame, variant: str, sources: set[str]) -> None:
    assert set(changed(table, variant)) == sources | DERIVED
    said = valid(table, variant)
    assert {source for source, value in said.items() if not value} == sources
    for source in sources:
        assert np.isnan(rows(table, variant)[source]).all()
    for source in DERIVED:
        values = rows(table, variant)[source]
        assert np.isfinite(values).any(axis=1).all()
        np.testing.assert_allclose(np.nansum(values, axis=1), 1.0, atol=1e-4)


OFFLINE = """
import socket, sys
def refuse(*_):
    raise OSError("this test has no network")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refuse
from affectkit.cli import main
main()
"""


def command(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own that cannot reach any network, as a user without one has it."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("AFFECTKIT_")}
    environment["AFFECTKIT_CACHE"] = str(folder / "empty-cache")
    call = [sys.executable, "-c", OFFLINE, *map(str, arguments)]
    return subprocess.run(call, cwd=folder, env=environment, capture_output=True, text=True, timeout=280, check=False)


def test_demo(tmp_path: Path) -> None:
    """The first command of a newcomer, without a network."""
    done = command("demo", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "affectkit-demo" / "run"
    assert "mini/audio has no evidence in demo: no sound" in done.stdout
    found = pd.read_parquet(run / "basic7.parquet")
    has = found.groupby("source")["valid"].all().to_dict()
    assert has == {name: name != "mini/audio" for name in MODALITIES}
    compound = pd.read_parquet(run / "compound7.parquet")
    assert compound["valid"].all()
    np.testing.assert_allclose(compound.filter(like="p_").sum(axis=1), 1.0, atol=1e-4)
    assert len(affectkit.read_run(run)) == len(pd.concat([found, compound])) + sum(
        len(pd.read_parquet(run / f"{name}.parquet")) for name in ("basic8", "mentioned7")
    )


def test_feature_similarity_works_offline(shared_data: Path, tmp_path: Path) -> None:
    clip = shutil.copy(shared_data / "video" / "single_face.mp4", tmp_path)
    done = command("run", clip, "--out", "run", "--head", "core/pfsa", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)["media"]["single_face"]["mean"]["core/pfsa"]
    assert set(said) == set(affectkit.COMPOUND7.labels)
    assert sum(said.values()) == pytest.approx(1.0, abs=1e-3)
    table = affectkit.read_run(tmp_path / "run", "compound7")
    assert set(table["source"]) == {"core/pfsa"}
    assert table["valid"].all()


@pytest.fixture(scope="module")
def real(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The default recipe on real files of several kinds, in one run."""
    folder = tmp_path_factory.mktemp("real")
    voice = make_wav(folder / "voice.wav", sound_of(shared_data / "audio" / "ravdess" / "03-01-05-02-01-01-05.ogg")[: 3 * RATE])
    names = ("video/debate_5s.mp4", "video/no_face.mp4", "images/happy.jpg", "video_edge/silent_audio_track.mp4")
    result = affectkit.run([voice, *(shared_data / name for name in names)], folder / "run", device="cpu")
    assert not result.failures
    return result.read()


def test_every_modality_with_evidence_gives_distributions(real: pd.DataFrame) -> None:
    categorical = real[real["labels"].isin(["basic7", "basic8", "compound7"])]
    values = categorical.filter(like="p_").to_numpy(float)
    said = categorical["valid"].to_numpy(bool)
    np.testing.assert_allclose(np.nansum(values[said], axis=1), 1.0, atol=1e-4)
    assert np.isnan(values[~said]).all()


@pytest.mark.parametrize(
    ("media", "with_evidence"),
    [
        ("debate_5s", {*FACES, "mini/audio"}),
        ("no_face", {"mini/audio"}),
        ("voice", {"mini/audio"}),
        ("happy", {"mini/face_static"}),  # one picture says nothing about a motion
        ("silent_audio_track", FACES),
    ],
)
def test_what_has_evidence_in_a_real_file(real: pd.DataFrame, media: str, with_evidence: set[str]) -> None:
    mine = real[real["media"] == media]
    has = mine.groupby("source")["valid"].any()
    assert {str(source) for source, value in has.items() if value} == with_evidence | DERIVED
    assert mine[mine["source"].isin(DERIVED)]["valid"].all()


def test_a_happy_face_is_a_happy_face(real: pd.DataFrame) -> None:
    row = real[(real["media"] == "happy") & (real["source"] == "mini/face_static") & (real["labels"] == "basic7")].iloc[0]
    said = row.filter(like="p_").dropna()
    assert said.astype(float).idxmax() == "p_happiness"
    assert (row["start"], row["end"], row["track"]) == (0.0, 0.0, 0)
