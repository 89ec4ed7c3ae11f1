"""The grid of windows: specs of Team RAS, properties, and what cannot be."""

from __future__ import annotations

import csv
import math
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from affectkit.errors import ConfigError
from affectkit.planner import windows

DURATIONS = st.floats(0, 600)
LENGTHS = st.floats(0.05, 20)
STEPS = st.floats(0.05, 20)


def published(duration: float, length: float, step: float, min_tail: float) -> list[tuple[float, float]]:
    """Section 0 of the notes on Team RAS, with the time added up as they did."""
    if duration <= length:
        return [(0.0, duration)]
    time, out = 0.0, []
    while time < duration:
        end = time + length
        if end < duration:
            out.append((time, end))
        elif end == duration:
            out.append((time, end))
            break
        else:
            if duration - time < min_tail:
                break
            out.append((time, duration))
            break
        time += step
    return out


@given(st.integers(0, 4000), st.integers(1, 200), st.integers(1, 200), st.integers(0, 200))
def test_equals_the_published_loop_where_sums_are_exact(duration: int, length: int, step: int, min_tail: int) -> None:
    assume(min_tail <= length)
    case = [value / 16 for value in (duration, length, step, min_tail)]  # sixteenths of a second add up without rounding
    assert [(span.start, span.end) for span in windows(*case)] == published(*case)


@given(DURATIONS, LENGTHS, STEPS, st.floats(0, 1))
def test_properties_of_every_grid(duration: float, length: float, step: float, share: float) -> None:
    spans = windows(duration, length, step, share * length)
    assert spans[0].start == 0
    assert all(span.start == index * step for index, span in enumerate(spans))
    assert all(0 <= span.start <= span.end <= duration for span in spans)
    assert all(span.length <= length * (1 + 1e-9) for span in spans)
    assert all(math.isclose(span.length, length, abs_tol=1e-9) for span in spans[:-1])
    if duration > length >= step:
        assert duration - spans[-1].end < max(share * length, 1e-9)  # only a short tail is left out
        assert all(after.start <= before.end + 1e-9 for before, after in pairwise(spans))


@given(DURATIONS)
def test_the_default_grid_covers_everything(duration: float) -> None:
    spans = windows(duration)
    assert (spans[0].start, spans[-1].end) == (0.0, duration)
    assert all(after.start <= before.end for before, after in pairwise(spans))


def test_an_image_is_one_window_without_length() -> None:
    assert [(span.start, span.end) for span in windows(0.0)] == [(0.0, 0.0)]


def test_a_short_medium_is_one_window_even_below_min_tail() -> None:
    assert [(span.start, span.end) for span in windows(0.4)] == [(0.0, 0.4)]


def test_starts_do_not_drift() -> None:
    spans = windows(36_000.0, length=0.3, step=0.1, min_tail=0.0)
    assert spans[300_000].start == 300_000 * 0.1


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ((-1.0,), r"windows need a duration in seconds, 0 or more, found -1\.0"),
        ((math.nan,), r"windows need a duration in seconds, 0 or more, found nan"),
        ((math.inf,), r"windows need a duration in seconds, 0 or more, found inf"),
        ((9.0, 0.0), r"length must be greater than 0 seconds, found 0\.0"),
        ((9.0, math.nan), r"length must be greater than 0 seconds, found nan"),
        ((9.0, 4.0, -2.0), r"step must be greater than 0 seconds, found -2\.0"),
        ((9.0, 4.0, math.inf), r"length and step of windows must be finite numbers of seconds, found 4\.0 and inf"),
        ((9.0, 4.0, 2.0, 5.0), r"min_tail must be between 0 and length \(4\.0 seconds\), found 5\.0"),
        ((9.0, 4.0, 2.0, -1.0), r"min_tail must be between 0 and length \(4\.0 seconds\), found -1\.0"),
    ],
)
def test_what_cannot_be_is_refused(case: tuple[float, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        windows(*case)


def test_counts_of_a_published_corpus(shared_data: Path) -> None:
    """The published tables of C-EXPR-DB hold 449 windows of 56 videos; each count fits the frames at a usual frame rate."""
    with (shared_data / "abaw" / "cexpr_official_frame_counts.csv").open(newline="", encoding="utf-8") as file:
        frames = {row["video"]: int(row["cv2_frame_count"]) for row in csv.DictReader(file)}
    table = shared_data / "scene" / "ras_descriptions" / "C-EXPR-DB" / "Qwen2.5-VL-32B-Instruct" / "test_segment_with_text_1.csv"
    with table.open(newline="", encoding="utf-8") as file:
        published_counts = Counter(row["video_name"].partition("___")[0] for row in csv.DictReader(file))
    assert (len(frames), published_counts.total()) == (56, 449)
    for video, count in frames.items():
        possible = {len(windows(count / fps)) for fps in (24000 / 1001, 24, 25, 30000 / 1001, 30)}
        assert published_counts[video] in possible, video
