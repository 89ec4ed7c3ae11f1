"""``affectkit ifdd picture`` on a real clip, with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from affectkit_ifdd.face_dynamic import FaceDynamic
from affectkit_ifdd.picture import Sight, between, draw, see
from click.testing import CliRunner, Result

from affectkit.api import UsageError
from affectkit.cli import cli
from affectkit.testing import examples


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return FaceDynamic().write_random("checkpoint", tmp_path_factory.mktemp("weights"))


def call(weights: Path, *words: object) -> Result:
    given = ["ifdd", "picture", *map(str, words), "--device", "cpu", "--set", f"components.ifdd/face_dynamic.checkpoint={weights}"]
    return CliRunner().invoke(cli, given)


def test_a_picture_of_a_real_clip(weights: Path, shared_data: Path, tmp_path: Path) -> None:
    """Of the window with a second; what it prints are places that lie in the clip and rise nowhere by more than it is long."""
    import cv2

    out = tmp_path / "seen.png"
    result = call(weights, shared_data / "video" / "expressive_d3.mp4", "--at", 5, "--out", out)
    assert result.exit_code == 0, result.output
    assert "expressive_d3, 4.0 to" in result.output or "expressive_d3, 2.0 to" in result.output
    picture = cv2.imread(str(out))
    assert picture is not None
    assert min(picture.shape[:2]) > 300
    assert picture.std() > 10
    for part in ("static", "dynamic"):
        line = next(line for line in result.output.splitlines() if line.strip().startswith(part))
        places = [float(number) for number in line.split("frames")[1].split(",")]
        assert len(places) == 4
        assert all(0 <= place <= 15 for place in places)


def test_what_it_says_of_a_view_is_what_the_component_says(weights: Path) -> None:
    component = FaceDynamic(FaceDynamic.Options(checkpoint=str(weights), stride=1))
    component.load(torch.device("cpu"), torch.float32)
    crops = np.stack([examples.face(64, 0, moment / 8) for moment in range(32)]).reshape(2, 16, 64, 64, 3)
    times = torch.arange(32, dtype=torch.float64).reshape(2, 16) / 8
    sights = see(component, torch.from_numpy(crops), times, "drawn")
    assert [sight.title for sight in sights] == ["drawn, view 1 of 2", "drawn, view 2 of 2"]
    with torch.inference_mode():
        seen = component.see(torch.from_numpy(crops))
    for row, sight in enumerate(sights):
        index = seen.lifted.split.dynamic_index[row]
        np.testing.assert_allclose(sight.frames["dynamic"], 2 * index.clamp(0, 7).numpy(), atol=1e-5)
        patches = seen.lifted.dynamic[row].double()
        far = (patches - patches.mean(0)).square().sum(1).sqrt().numpy().reshape(4, 2, 2)
        np.testing.assert_allclose(sight.maps["dynamic"], far, rtol=1e-5)
        assert sum(share for _, share in sight.answer) == pytest.approx(1, abs=1e-5)
        assert sight.answer[0][1] == max(share for _, share in sight.answer)


def sight() -> Sight:
    maps = {"static": np.ones((4, 2, 2)), "dynamic": np.ones((4, 2, 2))}
    frames = {"static": np.array([0.0, 4.0, 8.0, 12.0]), "dynamic": np.array([2.0, 6.0, 10.0, 14.0])}
    return Sight("made", np.zeros((16, 8, 8, 3), np.uint8), np.arange(16.0), frames, maps, [("happiness", 1.0)])


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_kinds_of_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "folder" / f"seen{suffix}"
    draw([sight(), sight()], path)
    begin = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix]
    assert path.read_bytes().startswith(begin)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_colours_have_a_legend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One for each view."""
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    written: list[str] = []
    save = Figure.savefig

    def saved(figure: Figure, *words: Any, **options: Any) -> None:
        written.extend(str(text.get_text()) for text in figure.findobj(Text))
        save(figure, *words, **options)

    monkeypatch.setattr(Figure, "savefig", saved)
    draw([sight(), sight()], tmp_path / "seen.png")
    assert written.count("distance from the mean of the part") == 2
    assert "largest\nof the row" in written


def test_a_file_that_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"seen\.txt is no picture that can be drawn; give a name that ends in \.png"):
        draw([sight()], tmp_path / "seen.txt")


def test_places_between_frames_show_both() -> None:
    pictures = np.stack([np.full((2, 2, 3), value, np.uint8) for value in (0, 100, 200)])
    for place, value in ((0.5, 50), (1.25, 125), (2.0, 200), (-1.0, 0), (9.0, 200)):
        assert between(pictures, place).ravel().tolist() == [value] * 12


def test_without_a_face_there_is_nothing_to_show(weights: Path, shared_data: Path, tmp_path: Path) -> None:
    result = call(weights, shared_data / "video" / "no_face.mp4", "--out", tmp_path / "seen.png")
    assert result.exit_code == 2
    assert "and there is nothing to show" in result.output
    assert not (tmp_path / "seen.png").exists()
