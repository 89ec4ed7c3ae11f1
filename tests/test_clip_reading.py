"""Clips of a data set: which of their frames are seen, and how they are read."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from affectkit import clip_reading
from affectkit.api import ConfigError, MediaError, UsageError
from affectkit.clip_reading import Cache, ClipReader, frame_files
from affectkit.clip_sampling import segments, spread, window
from affectkit.datasets.items import Item
from affectkit.decoding import read_frames
from affectkit.media import open_media
from affectkit.testing.media import make_video

# which frames


@pytest.mark.parametrize("count", [1, 5, 12, 16, 17, 64, 200])
def test_samplers_give_rising_frames_of_the_clip(count: int) -> None:
    tick = count / 16
    expected = [min(int(tick / 2 + tick * k), count - 1) for k in range(16)]  # as DFER-CLIP takes frames in its test
    assert spread(count, 16).tolist() == expected
    random = np.random.default_rng(0)
    drawn = np.array([segments(count, 16, random) for _ in range(200)])
    assert (np.diff(drawn) >= 0).all()
    assert set(drawn.ravel()) == set(range(count))
    for stride in (1, 4):
        for short in ("stretch", "hold"):
            for place in (0.0, 0.3, 0.999, 1.0):
                found = window(count, 16, stride, place, short)
                assert len(found) == 16
                assert (np.diff(found) >= 0).all()
                assert 0 <= found[0] <= found[-1] < count
                if count >= 15 * stride + 1:
                    assert (np.diff(found) == stride).all()
        if count >= 15 * stride + 1:
            assert window(count, 16, stride, 0.0)[0] == 0
            assert window(count, 16, stride, 1.0)[-1] == count - 1


def test_a_window_is_anywhere_equally_often() -> None:
    found = Counter(int(window(20, 16, 1, place)[0]) for place in (np.arange(1000) + 0.5) / 1000)
    assert found == dict.fromkeys(range(5), 200)


def test_there_is_no_choosing_from_nothing() -> None:
    with pytest.raises(UsageError, match="no choosing 16 frames of 0"):
        spread(0, 16)


# reading


def test_frames_of_a_folder_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 9, 2, 1):
        cv2.imwrite(str(tmp_path / f"frame_{number}.png"), np.full((8, 6, 3), number, np.uint8))
    (tmp_path / "notes.txt").write_text("not a frame")
    assert [path.stem for path in frame_files(tmp_path)] == ["frame_1", "frame_2", "frame_9", "frame_10"]
    frames = ClipReader().open(Item("a", tmp_path, 0, "a", 25.0), 4)
    assert len(frames) == 4
    assert frames.take(np.array([[3, 0], [1, 1]]))[..., 0, 0, 0].tolist() == [[10, 1], [2, 2]]
    assert frames.take(np.array([0])).shape == (1, 4, 4, 3)
    stretch = ClipReader().open(Item("a", tmp_path, 0, "a", 25.0, frames=(2, 9)), 4)
    assert stretch.take(np.arange(len(stretch)))[:, 0, 0, 0].tolist() == [2, 9]
    with pytest.raises(MediaError, match="no frames with the numbers 3 to 8, of which far is made"):
        ClipReader().open(Item("far", tmp_path, 0, "a", 25.0, frames=(3, 8)), 4)


def test_a_video_is_read_as_it_is_decoded(tmp_path: Path) -> None:
    path = make_video(tmp_path / "clip.mp4", seconds=1, fps=10, size=(48, 64))
    decoded = [frame.rgb() for frame in read_frames(open_media(path))]
    frames = ClipReader().open(Item("clip", path, 0, "clip"), 32)
    assert len(frames) == len(decoded) == 10
    expected = np.stack([cv2.resize(picture, (32, 32), interpolation=cv2.INTER_AREA) for picture in decoded])
    assert np.array_equal(frames.take(np.arange(10)), expected)
    stretch = ClipReader().open(Item("clip", path, 0, "clip", frames=(3, 5)), 32)
    assert np.array_equal(stretch.take(np.arange(3)), expected[2:5])


def test_what_was_decoded_is_kept_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_video(tmp_path / "clip.mp4", seconds=1, fps=10, size=(48, 64))
    item, kept = Item("clip", path, 0, "clip"), tmp_path / "kept"
    size = 10 * 32 * 32 * 3
    first = ClipReader(Cache(memory=0, folder=kept, disk=1)).open(item, 32).take(np.arange(10))
    ClipReader(Cache(memory=0, folder=tmp_path / "small", disk=size / 1e9 / 2)).open(item, 32)
    assert not list((tmp_path / "small").iterdir())
    roomy, narrow = ClipReader(Cache(memory=1.5 * size / 1e9)), ClipReader(Cache(memory=size / 1e9 / 2))
    for reader in (roomy, narrow):
        reader.open(item, 32)

    def decode(item: Item, size: int) -> np.ndarray:
        raise MediaError("decoded again")

    monkeypatch.setattr(clip_reading, "_decode", decode)
    assert np.array_equal(ClipReader(Cache(memory=0, folder=kept)).open(item, 32).take(np.arange(10)), first)
    assert np.array_equal(roomy.open(item, 32).take(np.arange(10)), first)
    with pytest.raises(MediaError, match="decoded again"):
        narrow.open(item, 32)
    with pytest.raises(MediaError, match="decoded again"):
        roomy.open(item, 24)
    path.write_bytes(path.read_bytes() + b"\0")  # another file, of which nothing is kept
    with pytest.raises(MediaError, match="decoded again"):
        ClipReader(Cache(memory=0, folder=kept)).open(item, 32)


def test_what_is_no_clip_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(MediaError, match="empty has no pictures; a clip is a video, a picture, or a folder of frames"):
        ClipReader().open(Item("a", tmp_path / "empty", 0, "a", 25.0), 8)
    with pytest.raises(MediaError, match="does not exist"):
        ClipReader().open(Item("a", tmp_path / "gone.mp4", 0, "a"), 8)
    monkeypatch.setattr(clip_reading, "LONGEST", 5)
    path = make_video(tmp_path / "clip.mp4", seconds=1, fps=10, size=(48, 64))
    with pytest.raises(MediaError, match="more than 5 frames"):
        ClipReader().open(Item("a", path, 0, "a"), 8)
    with pytest.raises(MediaError, match="has no frames 20 to 30"):
        ClipReader().open(Item("a", path, 0, "a", frames=(20, 30)), 8)
    with pytest.raises(ConfigError, match="memory and disk must not be negative"):
        Cache(memory=-1)
