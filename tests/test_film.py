"""The pictures of a medium, decoded ahead in a thread of their own."""

from __future__ import annotations

import threading
from itertools import islice

import numpy as np
import pytest

from affectkit import film as films
from affectkit.buffers import Ticker
from affectkit.clips import Clock
from affectkit.decoding import read_frames
from affectkit.errors import MediaError
from affectkit.media import open_media
from affectkit.testing.media import make_video
from tests.engine_helpers import square


@pytest.fixture
def video(tmp_path):
    return make_video(tmp_path / "film.mp4", seconds=4, fps=25, size=(32, 48), picture=square(200))


def test_gives_what_the_decoder_gives_in_its_order(video):
    media, clock = open_media(video), Clock()
    film = films.Film(media, {"slow": Ticker(5.0), "quick": Ticker(12.5)}, clock)
    looks, frames = list(film), list(read_frames(media))
    film.close()
    assert [(look.index, look.time) for look in looks] == [(frame.index, frame.time) for frame in frames]
    assert sum("slow" in look.due for look in looks) == 20
    assert sum("quick" in look.due for look in looks) == 50
    for look, frame in zip(looks, frames, strict=True):
        assert (look.image is None) is (look.due == ()), "what nobody wants to see is not made a picture"
        if look.image is not None:
            np.testing.assert_array_equal(look.image, frame.rgb())
    assert clock.seconds["decode"] > 0


def test_waits_with_a_bounded_number_of_pictures(video, monkeypatch):
    decoded = []
    monkeypatch.setattr(films, "read_frames", lambda media: (decoded.append(frame.index) or frame for frame in read_frames(media)))
    monkeypatch.setattr(films, "AHEAD_BYTES", 3 * 32 * 48 * 6)
    film = films.Film(open_media(video), {"detect": Ticker(25.0)}, Clock())
    assert [look.index for look in islice(film, 3)] == [0, 1, 2]
    film.close()
    assert len(decoded) <= 3 + 6, "six pictures fit into the memory that is allowed"


def test_a_break_comes_in_its_turn(tmp_path, video):
    broken = tmp_path / "broken.mp4"
    whole = make_video(tmp_path / "whole.mp4", seconds=8, fps=25, size=(64, 96), options={"movflags": "+faststart"}).read_bytes()
    broken.write_bytes(whole[: len(whole) * 2 // 3])
    film, times = films.Film(open_media(broken), {}, Clock()), []
    with pytest.raises(MediaError, match=r"broken\.mp4") as caught:
        times.extend(look.time for look in film)
    film.close()
    assert times == [frame.time for frame in islice(read_frames(open_media(broken)), len(times))]
    assert times[-1] > 1, "what comes before the break is given first"
    assert caught.value.at is not None


def test_closing_ends_the_thread_and_frees_the_file(video):
    film = films.Film(open_media(video), {"detect": Ticker(25.0)}, Clock())
    next(film)
    film.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("affectkit-film")]
    assert film._frames.gi_frame is None
