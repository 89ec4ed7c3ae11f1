"""ifdd/face_dynamic on drawn faces: files of weights of all kinds, views, and what every modality promises."""

from __future__ import annotations

import argparse
import json
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from affectkit_ifdd.face_dynamic import FaceDynamic
from affectkit_ifdd.model import IFDD
from affectkit_ifdd.sizes import Sizes
from click.testing import CliRunner

from affectkit.api import CheckpointError, Clip, ConfigError, Needs, Output
from affectkit.batching import collate
from affectkit.cli import cli
from affectkit.labels import DFEW7, FERV39K7, MAFW11, MAFW11_OFFICIAL
from affectkit.testing import ModalityContract, examples
from affectkit.weight_files import load_tensors, random_network, save_tensors

NARROW = Sizes(side=64, width=8, blocks=(1, 1, 1, 1))


def drawn(count: int, size: int = 64, number: int = 0) -> Clip:
    """A clip of so many crops."""
    clip = examples.clips(Needs(inputs=FaceDynamic.needs.inputs))[0]
    return replace(clip, inputs={"faces": examples.faces(size, np.linspace(0, 4, count, endpoint=False), number)})


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights as ``affectkit weights tiny`` writes them."""
    return FaceDynamic().write_random("checkpoint", tmp_path_factory.mktemp("ifdd"))


def authors(path: Path, classes: int = 7, frames: int = 16, **more: Any) -> Path:
    """A file as the authors' trainer writes it, of a narrow network."""
    network = random_network(lambda: IFDD(replace(NARROW, classes=classes, frames=frames, released=True)))
    optimiser = torch.optim.AdamW(network.parameters(), 1e-4)
    torch.save({"epoch": 12, "model": network.state_dict(), "opt": optimiser.state_dict(), **more}, path)
    return path


def made(path: Path | None, **options: Any) -> FaceDynamic:
    component = FaceDynamic(FaceDynamic.Options(checkpoint=None if path is None else str(path), **options))
    component.load(torch.device("cpu"), torch.float32)
    return component


def said(component: FaceDynamic, *clips: Clip) -> Output:
    with torch.inference_mode():
        return component.predict(collate([component.preprocess(clip) for clip in clips]))  # type: ignore[misc]


class TestWithRandomWeights(ModalityContract):
    """What every modality promises."""

    component = FaceDynamic

    @pytest.fixture(autouse=True)
    def _options(self, ours: Path) -> None:
        type(self).options = {"checkpoint": str(ours)}


def test_neighbours_change_nothing(ours: Path) -> None:
    """Windows of one, two and three views beside each other."""
    component = made(ours, stride=1)
    clips = [drawn(16), drawn(50, number=1), drawn(33, number=2), drawn(5, number=3)]
    together = said(component, *clips)
    for row, clip in enumerate(clips):
        alone = said(component, clip)
        torch.testing.assert_close(together.values[DFEW7][row], alone.values[DFEW7][0], atol=1e-5, rtol=0)
        torch.testing.assert_close(together.embeddings["motion"][row], alone.embeddings["motion"][0], atol=1e-5, rtol=1e-4)
        assert together.notes is not None
        assert len(together.notes[row]["static"]) == [1, 3, 2, 1][row]


def test_logits_are_averaged_over_consecutive_views(ours: Path) -> None:
    """Not probabilities, and what fills no view is not looked at."""
    component = made(ours, stride=1)
    clip = drawn(40)
    crops = clip.inputs["faces"].data["crops"]
    with torch.inference_mode():
        logits = component.see(torch.from_numpy(np.stack([crops[:16], crops[16:32]]))).logits
    torch.testing.assert_close(said(component, clip).values[DFEW7], logits.mean(0, keepdim=True).softmax(1), atol=1e-6, rtol=0)
    first = said(made(ours, stride=1, views=1), clip)
    torch.testing.assert_close(first.values[DFEW7], logits[:1].softmax(1), atol=1e-6, rtol=0)


def test_of_many_views_only_what_is_told_is_kept(ours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the network makes on its way is gone when the next views are looked at."""
    component, on_the_way = made(ours, stride=1), []
    see = component.see

    def watched(pictures: torch.Tensor) -> Any:
        assert all(made_before() is None for made_before in on_the_way)
        seen = see(pictures)
        on_the_way.extend(weakref.ref(value) for value in (seen.embedded, seen.pyramid, seen.lifted.static))
        return seen

    monkeypatch.setattr(component, "see", watched)
    said(component, drawn(16 * 8), drawn(16 * 8, number=1), drawn(16, number=2))
    assert len(on_the_way) == 3 * 3


def test_what_it_asks_for_depends_on_its_weights(ours: Path, tmp_path: Path) -> None:
    def asks(path: Path, **options: Any) -> tuple[int | None, int | None, int | None]:
        item = FaceDynamic(FaceDynamic.Options(checkpoint=str(path), **options)).needs.inputs[0]
        return item.count, item.stride, item.size

    seven, eleven = authors(tmp_path / "seven.pth"), authors(tmp_path / "eleven.pth", 11, 32)
    assert asks(ours) == (16, None, 64)
    assert asks(seven, labels="dfew7") == (16, None, 64)
    assert asks(seven, labels="ferv39k7") == (128, 1, 64)
    assert asks(seven, labels="ferv39k7", views=2) == (32, 1, 64)
    assert asks(eleven) == (256, 2, 64)
    assert asks(eleven, stride=0, frames=16) == (16, None, 64)


def test_files_of_the_authors(tmp_path: Path) -> None:
    """Loaded strictly under their names; eleven classes are MAFW's in its official order, which is not that of other lists."""
    eleven = made(authors(tmp_path / "MAFW_best_val_acc.pth", 11, 32))
    assert eleven.labels == MAFW11_OFFICIAL
    assert eleven.known.sizes.frames == 32
    assert eleven.known.sizes.released
    assert said(eleven, drawn(40)).values[MAFW11_OFFICIAL].shape == (1, 11)
    seven = made(authors(tmp_path / "DFEW_best_val_acc.pth"), labels="dfew7")
    assert said(seven, drawn(16)).values[DFEW7].shape == (1, 7)


def test_released_behaviour_is_what_files_of_the_authors_need(ours: Path, tmp_path: Path) -> None:
    """By default of those, and not of ours; the option changes both."""
    path = authors(tmp_path / "authors.pth")
    clip = drawn(16)

    def values(file: Path, labels: str | None = None, **options: Any) -> torch.Tensor:
        return said(made(file, labels=labels, **options), clip).embeddings["motion"]

    for file, labels, default in ((path, "dfew7", True), (ours, None, False)):
        found = {wanted: values(file, labels, released_behaviour=wanted) for wanted in (True, False)}
        assert torch.equal(values(file, labels), found[default])
        assert (found[True] - found[False]).abs().max() > 1e-4


@pytest.mark.parametrize(("frames", "repeated"), [(16, 0), (32, -1)])
def test_released_behaviour_repeats_pictures_of_short_clips_at_one_end(tmp_path: Path, frames: int, repeated: int) -> None:
    """At the beginning with 16 frames, as on FERV39k, and at the end with 32, as on MAFW; evenly without it."""
    path = authors(tmp_path / "file.pth", frames=frames)
    clip = drawn(frames - 3)
    crops = torch.from_numpy(clip.inputs["faces"].data["crops"])
    for released in (True, False):
        rows = made(path, labels="ferv39k7", frames=frames, released_behaviour=released).preprocess(clip)
        assert rows is not None
        often = [int((rows["views"][0] == crop).all(-1).all(-1).all(-1).sum()) for crop in crops]
        ends = [2] * 3 + [1] * (frames - 6)
        assert (often == (ends if repeated == 0 else ends[::-1])) is released
        assert sorted(often) == sorted(ends)


def test_notes_say_when_it_was_split(ours: Path) -> None:
    """The seconds of the places that were read, in the order of the window's own time."""
    component = made(ours)
    clip = drawn(16)
    notes = said(component, clip).notes
    assert notes is not None
    assert json.loads(json.dumps(notes[0])) == notes[0]
    times = clip.inputs["faces"].times
    assert times is not None
    for part in ("static", "dynamic"):
        index, seconds = np.array(notes[0][f"{part}_index"][0]), np.array(notes[0][part][0])
        assert index.shape == seconds.shape == (4,)
        frames = 2 * index.clip(0, 7)
        np.testing.assert_allclose(seconds, np.interp(frames, np.arange(16), times), atol=2e-3)
    assert np.shape(notes[0]["alike"]) == (1, 8, 8)


def test_a_temperature_in_the_header_is_used(ours: Path, tmp_path: Path) -> None:
    path = tmp_path / "warm.safetensors"
    settings = {"labels": FERV39K7.labels, "label_set": "ferv39k7", "frames": 16, "stride": 1, "released": False, "temperature": 0.01}
    save_tensors(path, load_tensors(ours), {"settings": json.dumps(settings)})
    warm = made(path)
    assert warm.labels == FERV39K7
    plain, clip = made(ours, stride=1), drawn(16)
    with torch.inference_mode():
        logits = plain.see(torch.from_numpy(clip.inputs["faces"].data["crops"])[None]).logits
    torch.testing.assert_close(said(warm, clip).values[FERV39K7], (logits / 0.01).softmax(1), atol=1e-4, rtol=0)


def test_labels_of_our_own(ours: Path, tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    names = ["a", "b", "c", "d", "e", "f", "g"]
    save_tensors(path, load_tensors(ours), {"settings": json.dumps({"labels": names, "label_set": "moods", "released": False})})
    component = made(path)
    assert (component.labels.name, list(component.labels.labels)) == ("moods", names)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "does not say what its 7 classes are"),
        ({"labels": "mafw11"}, "has 7 classes, and 'mafw11' has 11"),
        ({"labels": "dfew77"}, r"no label set 'dfew77'. Did you mean dfew7"),
    ],
)
def test_labels_that_do_not_fit(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, CheckpointError), match=message):
        made(authors(tmp_path / "file.pth"), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 32}, "was trained with clips of 16 frames, found frames 32"),
        ({"labels": "ferv39k7"}, "which are not those of 'ferv39k7'; leave labels out"),
    ],
)
def test_options_that_contradict_a_file_of_ours(ours: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made(ours, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"frames": 8}, "frames must be 16 or 32"), ({"views": 0}, "views must be at least 1"), ({"stride": -1}, "stride not negative")],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FaceDynamic.Options(**options)


def damaged(change: Callable[[dict[str, torch.Tensor]], Mapping[str, Any]]) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        content = torch.load(authors(path), weights_only=True)
        torch.save({**content, **change(content["model"])}, path)
        return path

    return write


def start(path: Path) -> Path:
    torch.save({"conv_proj.weight": torch.zeros(96, 3, 3, 7, 7), "head.1.weight": torch.zeros(400, 768)}, path)
    return path


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (
            damaged(lambda state: {"model": {k: v for k, v in state.items() if "q_d.bias" not in k}}),
            r"1 missing: backbone\.WaveLifts\.q_d\.bias",
        ),
        (damaged(lambda state: {"model": {**state, "more": torch.zeros(1)}}), "1 unexpected: more"),
        (damaged(lambda state: {"model": {"fc.weight": torch.zeros(7, 512)}}), "it is no state of IFDD, it lacks embed.conv_proj"),
        (
            damaged(lambda state: {"args": argparse.Namespace(lr=1), "model": {"patch_embed.proj.weight": torch.zeros(8, 3, 2, 16, 16)}}),
            "is for something else: it is no state of IFDD, it lacks embed.conv_proj",  # S4D's trainer writes its arguments so
        ),
        (damaged(lambda state: {"args": Path("x")}), "holds Python objects beside its tensors"),
        (start, "holds mvit_v2_s of torchvision, with which a training of IFDD begins"),
    ],
)
def test_files_that_do_not_fit(tmp_path: Path, write: Callable[[Path], Path], message: str) -> None:
    with pytest.raises(CheckpointError, match=f"^ifdd/face_dynamic: .*{message}"):
        made(write(tmp_path / "file.pth"), labels="dfew7")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frames": "x"}, "frames: expected a whole number, found 'x'"),
        ({"frames": 16.0}, r"frames: expected a whole number, found 16\.0"),
        ({"frames": 5}, "IFDD reads 16 or 32 frames, found 5"),
        ({"stride": "x"}, "stride: expected a whole number, found 'x'"),
        ({"stride": -1}, "stride must not be negative, found -1"),
        ({"released": 2}, "released: expected true or false, found 2"),
        ({"temperature": 0}, "temperature must be a number above 0, found 0"),
        ({"temperature": "x"}, "temperature: expected a number, found 'x'"),
        ({"labels": "joy"}, "labels: expected a list, each text, found 'joy'"),
        ({"labels": ["joy"] * 7}, "label set 'dfew7' names joy twice"),
    ],
)
def test_headers_that_cannot_be(ours: Path, tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    path = tmp_path / "odd.safetensors"
    header = {"labels": DFEW7.labels, "label_set": "dfew7", "frames": 16, "stride": 0, "released": False, "temperature": 1.0, **settings}
    save_tensors(path, load_tensors(ours), {"settings": json.dumps(header)})
    with pytest.raises(CheckpointError, match=rf"^ifdd/face_dynamic: .*odd\.safetensors .*{message}"):
        made(path)


def test_crops_show_the_whole_head(ours: Path) -> None:
    """As those of the data sets do, and as the other two that learn from them ask for."""
    for component in (made(ours), made(ours, stride=1)):
        assert component.needs.inputs[0].margin == FaceDynamic.needs.inputs[0].margin == 0.2


def test_without_weights_the_command_that_makes_them_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["run", "none.mp4", "--recipe", "ifdd/ifdd", "--dry-run"])
    assert result.exit_code == 2
    assert "affectkit train ifdd/face_dynamic --dataset NAME --data DIR --out ." in result.output
    assert "--set components.ifdd/face_dynamic.checkpoint=" in result.output
    with pytest.raises(CheckpointError, match="before its weights are loaded"):
        FaceDynamic().see(torch.zeros(1, 16, 224, 224, 3))


def test_a_file_that_lies_about_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the training of another plugin wrote into the folder in which one works."""
    save_tensors(tmp_path / "face_dynamic.safetensors", {"conv.weight": torch.zeros(3)})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"affectkit train ifdd/face_dynamic"):
        made(None)


def test_one_picture_is_no_clip(ours: Path) -> None:
    component = made(ours)
    assert component.preprocess(drawn(1)) is None
    rows = component.preprocess(drawn(2))
    assert rows is not None
    assert rows["views"].shape == (1, 16, 64, 64, 3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_agrees(ours: Path) -> None:
    """Within 1e-4 in single precision, and 0.05 in bf16."""
    component = FaceDynamic(FaceDynamic.Options(checkpoint=str(ours)))
    component.load(torch.device("cuda"), torch.float32)
    clip = drawn(16)
    batch = {name: value.cuda() for name, value in collate([component.preprocess(clip)]).items()}  # type: ignore[list-item]
    with torch.inference_mode():
        found = component.predict(batch).values[DFEW7].cpu()
        with torch.autocast("cuda", torch.bfloat16):
            half = component.predict(batch).values[DFEW7].float().cpu()
    wanted = said(made(ours), clip).values[DFEW7]
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    torch.testing.assert_close(half, wanted, atol=0.05, rtol=0)


def test_orders_of_labels_differ() -> None:
    """Which is why they are never taken from the number of classes alone, but for the authors' eleven."""
    assert DFEW7.labels != FERV39K7.labels
    assert MAFW11.labels != MAFW11_OFFICIAL.labels
