"""Kinds that are made from faces: their providers see the crops that were asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from affectkit.api import BASIC7, Clip, Evidence, Frames, Input, Modality, Needs, Output, Provider
from affectkit.clips import Clock
from affectkit.config import Recipe
from affectkit.media import open_media
from affectkit.planner import Plan
from affectkit.reader import Reader
from affectkit.testing.media import make_video
from tests.engine_helpers import square

OWN = Input("faces", count=3, size=20, margin=0.5)


class Square(Provider):
    """The box of what is bright."""

    name = "square"
    kind = "faces"
    scope = "frame"
    needs = Needs(frames=Frames(count=1))

    def provide(self, clips: Sequence[Clip]) -> list[Evidence]:
        found = []
        for clip in clips:
            rows, columns = np.nonzero(clip.frames[0].mean(axis=2) > 128)
            box = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], np.float32)
            found.append(Evidence("faces", {"boxes": box, "scores": np.ones(1, np.float32)}))
        return found


class Marks(Provider):
    """Keeps what it is shown."""

    name = "marks"
    kind = "landmarks"
    scope = "face"
    needs = Needs(inputs=(OWN,))

    def provide(self, clips: Sequence[Clip]) -> list[Evidence]:
        faces = [clip.inputs["faces"] for clip in clips]
        return [Evidence("landmarks", {"crops": face.data["crops"]}, times=face.times) for face in faces]


class Regions(Marks):
    """Made from landmarks alone."""

    name = "regions"
    kind = "parsing"
    needs = Needs(inputs=(Input("landmarks"), Input("mood", count=2)))

    def provide(self, clips: Sequence[Clip]) -> list[Evidence]:
        marks = [clip.inputs["landmarks"] for clip in clips]
        return [Evidence("parsing", {"crops": mark.data["crops"]}, times=mark.times) for mark in marks]


class Mood(Provider):
    """Of a window, not of a face; counts how often it is asked."""

    name = "mood"
    kind = "mood"
    scope = "window"
    asked = 0

    def provide(self, clips: Sequence[Clip]) -> list[Evidence]:
        type(self).asked += len(clips)
        return [Evidence("mood", {"level": 1.0}) for _ in clips]


class Viewer(Modality):
    """Asks for whatever it is made with."""

    name = "viewer"
    labels = BASIC7

    def __init__(self, *inputs: Input, context: float | None = None) -> None:
        super().__init__()
        self.needs = Needs(inputs=inputs)
        self.context = context  # type: ignore[misc]

    def preprocess(self, clip: Clip) -> None:
        return None

    def predict(self, batch: object) -> Output:
        raise NotImplementedError


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face that becomes brighter."""

    def draw(time: float) -> np.ndarray:
        return square(140 + 20 * time)(time)

    return make_video(tmp_path_factory.mktemp("video") / "face.mp4", seconds=4, fps=10, size=(32, 48), picture=draw)


def clips(video: Path, *viewers: Viewer) -> list[Clip]:
    """The clip of each viewer in the first window."""
    modalities = {f"test/viewer{number}": viewer for number, viewer in enumerate(viewers)}
    recipe = Recipe.from_mapping({"modalities": list(modalities), "providers": {}, "fusion": "core/mean"})
    plan = Plan(recipe, modalities, {"faces": [Square()], "landmarks": [Marks()], "parsing": [Regions()], "mood": [Mood()]})

    def fail(stage: str, component: str, error: Exception) -> None:
        raise error

    window = next(Reader(open_media(video), plan, Clock(), fail).windows())
    by_name = {request.modality: request.clip for request in window.requests}
    return [by_name[name] for name in modalities]


@pytest.mark.parametrize("kind", ["landmarks", "parsing"])
@pytest.mark.parametrize("asked", [{"count": 5}, {"fps": 2.0}, {"count": 3, "stride": 4}])
def test_it_is_made_of_the_crops_that_are_asked_for(video: Path, kind: str, asked: dict):
    faces, made = Input("faces", size=12, margin=0.25, **asked), Input(kind, size=12, margin=0.25, **asked)
    (clip,) = clips(video, Viewer(faces, made))
    np.testing.assert_array_equal(clip.inputs[kind].data["crops"], clip.inputs["faces"].data["crops"])
    np.testing.assert_array_equal(clip.inputs[kind].times, clip.inputs["faces"].times)
    assert len(clip.inputs[kind].times) == {"count": 5, "fps": 8, "stride": 3}[list(asked)[-1]]


def test_what_is_left_open_is_the_providers_choice(video: Path):
    (bare,) = clips(video, Viewer(Input("parsing"), OWN))
    (counted,) = clips(video, Viewer(Input("parsing", count=6)))
    (sized,) = clips(video, Viewer(Input("parsing", size=9)))
    np.testing.assert_array_equal(bare.inputs["parsing"].data["crops"], bare.inputs["faces"].data["crops"])
    assert counted.inputs["parsing"].data["crops"].shape == (6, 20, 20, 3)
    assert sized.inputs["parsing"].data["crops"].shape == (3, 9, 9, 3)


def test_each_gets_its_own_and_equal_ones_are_made_once(video: Path, monkeypatch: pytest.MonkeyPatch):
    shown: list[tuple[int, ...]] = []
    provide = Marks.provide

    def spy(self: Marks, given: Sequence[Clip]) -> list[Evidence]:
        shown.extend(clip.inputs["faces"].data["crops"].shape[:2] for clip in given)
        return provide(self, given)

    monkeypatch.setattr(Marks, "provide", spy)
    monkeypatch.setattr(Mood, "asked", 0)
    small, large = Input("landmarks", count=2, size=8), Input("landmarks", count=4, size=16)
    found = clips(video, Viewer(small), Viewer(large), Viewer(large, Input("parsing", count=4, size=16)), Viewer(Input("mood")))
    assert [clip.inputs["landmarks"].data["crops"].shape[:2] for clip in found[:3]] == [(2, 8), (4, 16), (4, 16)]
    assert found[2].inputs["parsing"].data["crops"].shape[:2] == (4, 16)
    assert sorted(shown) == [(2, 8), (4, 16)]
    assert Mood.asked == 1, "a mood is of the window, whatever numbers are asked for beside it"


@pytest.mark.parametrize("kind", ["landmarks", "parsing"])
def test_it_is_made_of_the_seconds_that_are_looked_at(video: Path, kind: str):
    """Two seconds around the middle of the window of four, beside a modality that sees the whole window."""
    faces, made = Input("faces", fps=5, size=12), Input(kind, fps=5, size=12)
    short, whole = clips(video, Viewer(faces, made, context=2.0), Viewer(faces, made))
    for clip, span in ((short, (1.0, 3.0)), (whole, (0.0, 4.0))):
        times = clip.inputs[kind].times
        assert span[0] <= times.min() < span[0] + 0.2
        assert span[1] - 0.25 < times.max() < span[1]
        np.testing.assert_array_equal(times, clip.inputs["faces"].times)
        np.testing.assert_array_equal(clip.inputs[kind].data["crops"], clip.inputs["faces"].data["crops"])


def test_a_kind_of_the_window_is_made_once_for_every_context(video: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Mood, "asked", 0)
    found = clips(video, Viewer(Input("mood"), context=2.0), Viewer(Input("mood")), Viewer(Input("parsing"), context=1.0))
    assert Mood.asked == 1
    assert found[0].inputs["mood"].data == found[1].inputs["mood"].data == {"level": 1.0}
