"""finecliper/parsing and finecliper/parsing_network: regions from landmarks and by a network, in the same colours; and how points are drawn."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from affectkit_finecliper import drawing, mesh, parsing_network, tiny_landmarker
from affectkit_finecliper.landmarks import Landmarks, LandmarksOptions
from affectkit_finecliper.parsing import Parsing
from affectkit_finecliper.parsing_network import CLASSES, FACE, ParsingNetwork, ParsingNetworkOptions

from affectkit.api import CheckpointError, Clip, ConfigError, Evidence
from affectkit.media import Span
from affectkit.testing import ProviderContract
from affectkit.testing.examples import face

from .conftest import CPU, MEDIA

SIZE = 128


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    """Of the drawn face, in a picture of 128 pixels."""
    return tiny_landmarker.face() * SIZE / 256


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small SegFormer, as its library writes it."""
    return parsing_network.write(tmp_path_factory.mktemp("segformer") / "default")


def network(folder: Path, **options: Any) -> ParsingNetwork:
    component = ParsingNetwork(ParsingNetworkOptions(**{"checkpoint": str(folder), "side": 64, **options}))
    component.id = "finecliper/parsing_network"
    component.load(CPU, torch.float32)
    return component


def clip(crops: np.ndarray | None) -> Clip:
    faces = (
        Evidence.none("faces", "nobody there") if crops is None else Evidence("faces", {"crops": crops}, times=np.arange(len(crops)) / 4)
    )
    return Clip(MEDIA, Span(0, 4), 0, inputs={"faces": faces})


def faces(count: int, side: int = 48) -> np.ndarray:
    return np.stack([face(side, number) for number in range(count)])


def inside(contour: np.ndarray) -> np.ndarray:
    """Which pixels (128, 128) have their middle in a contour (P, 2), by counting the sides that a ray crosses."""
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    crossed = np.zeros((SIZE, SIZE), bool)
    for (x0, y0), (x1, y1) in zip(contour, np.roll(contour, -1, axis=0), strict=True):
        if y0 != y1:
            crossed ^= ((y0 > y) != (y1 > y)) & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    return crossed


# drawing


@pytest.mark.parametrize("radius", [1.0, 2.0, 5.3])
def test_dots_are_round_and_where_the_points_are(radius: float):
    places = np.array([[20.5, 30.5], [100.2, 64.9], [64.0, 5.0]])
    picture = drawing.dots(places, SIZE, radius / SIZE)
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    distance = np.min([np.hypot(x - px, y - py) for px, py in places], axis=0)
    assert (picture[distance < radius - 0.8] == 255).all()
    assert not picture[distance > radius + 0.8].any()
    assert (picture[..., 0] == picture[..., 1]).all()
    assert (picture[..., 0] == picture[..., 2]).all()


def test_points_outside_are_cut_off():
    for far in (np.array([[-1e9, 5.0]]), np.array([[1e12, -1e12]]), np.array([[200.0, 200.0]])):
        assert not drawing.dots(far, 64).any()
    assert drawing.dots(np.array([[-0.5, 10.0]]), 64, 0.05)[..., 0].any(), "a part of the dot is still seen"
    labels = drawing.region_labels(tiny_landmarker.face() * 10, 64)
    assert labels.shape == (64, 64)


def test_regions_are_what_lies_within_their_contours(points: np.ndarray):
    labels, flat = drawing.region_labels(points, SIZE), points[:, :2].astype(float)
    wanted = np.zeros((SIZE, SIZE), np.uint8)
    wanted[inside(flat[list(mesh.OVAL)])] = mesh.REGIONS.index("skin")
    for name, contours in (
        ("nose", [mesh.NOSE]),
        ("brows", [mesh.RIGHT_BROW, mesh.LEFT_BROW]),
        ("eyes", [mesh.RIGHT_EYE, mesh.LEFT_EYE]),
        ("lips", [mesh.OUTER_LIPS]),
        ("inner_mouth", [mesh.INNER_LIPS]),
    ):
        for contour in contours:
            wanted[inside(flat[list(contour)])] = mesh.REGIONS.index(name)
    assert (labels == wanted).mean() > 0.97, "but for pixels on an edge"
    for region in range(7):
        both, either = ((labels == region) & (wanted == region)).sum(), ((labels == region) | (wanted == region)).sum()
        assert both / either > 0.6, mesh.REGIONS[region]


def test_a_closed_mouth_has_no_inside(points: np.ndarray):
    closed = points.copy()
    closed[list(mesh.INNER_LIPS), 1] = closed[list(mesh.INNER_LIPS), 1].mean()
    count = [(drawing.region_labels(some, SIZE) == mesh.REGIONS.index("inner_mouth")).sum() for some in (points, closed)]
    assert count[1] < count[0] / 3


def test_the_mirrored_map_is_the_map_of_the_mirrored_face(points: np.ndarray):
    mirrored = points.copy()
    mirrored[:, 0] = SIZE - mirrored[:, 0]
    assert (drawing.region_labels(mirrored, SIZE)[:, ::-1] == drawing.region_labels(points, SIZE)).mean() > 0.98


def test_the_palette_tells_regions_apart():
    assert len(set(mesh.PALETTE.values())) == len(mesh.PALETTE) == 15
    assert mesh.PALETTE["background"] == (0, 0, 0)
    labels = np.arange(15, dtype=np.uint8).reshape(3, 5)
    assert [tuple(colour) for colour in drawing.coloured(labels).reshape(-1, 3).tolist()] == list(mesh.PALETTE.values())


def test_tables_of_points():
    assert len(mesh.OVAL) == len(set(mesh.OVAL)) == 36
    assert len(set(mesh.IBUG68)) == 68
    assert set(mesh.IBUG68[:17]) <= set(mesh.OVAL)
    assert set(mesh.IBUG68[36:42]) <= set(mesh.RIGHT_EYE)
    assert set(mesh.IBUG68[42:48]) <= set(mesh.LEFT_EYE)
    assert set(mesh.IBUG68[48:60]) <= set(mesh.OUTER_LIPS)
    assert set(mesh.IBUG68[60:]) <= set(mesh.INNER_LIPS)
    assert len(mesh.BLENDSHAPE_POINTS) == 146
    assert len(set(mesh.BLENDSHAPES)) == 52
    assert set(CLASSES.values()) == set(mesh.REGIONS)


# from landmarks


@pytest.fixture(scope="module")
def landmarks(tmp_path_factory: pytest.TempPathFactory) -> Landmarks:
    path = tiny_landmarker.write(tmp_path_factory.mktemp("tiny") / "face_landmarker.task")
    component = Landmarks(LandmarksOptions(str(path)))
    component.load(CPU, torch.float32)
    return component


class TestParsing(ProviderContract):
    """What every provider promises."""

    component = Parsing


def test_regions_of_the_landmarks(landmarks: Landmarks):
    (marks,) = landmarks.provide([clip(faces(3, 80))])
    (found,) = Parsing().provide([Clip(MEDIA, Span(0, 4), inputs={"landmarks": marks})])
    assert found.data["maps"].shape == (3, 80, 80, 3)
    np.testing.assert_array_equal(found.data["maps"], drawing.coloured(found.data["labels"]))
    np.testing.assert_array_equal(found.data["labels"][1], drawing.region_labels(marks.data["points"][1], 80))
    np.testing.assert_array_equal(found.data["valid"], marks.data["valid"])
    np.testing.assert_array_equal(found.times, marks.times)
    assert found.quality == {"found": 1.0}


def test_without_landmarks_there_are_no_regions():
    (found,) = Parsing().provide([Clip(MEDIA, Span(0, 4), inputs={"landmarks": Evidence.none("landmarks", "nobody there")})])
    assert (found.valid, found.reason) == (False, "nobody there")


# by a network


class TestParsingNetwork(ProviderContract):
    """What every provider promises, with random weights."""

    component = ParsingNetwork

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def random_weights(cls, folder: Path) -> None:
        cls.options = {"checkpoint": str(folder), "side": 64, "least": 0.0}


def test_regions_by_the_names_of_the_classes(folder: Path):
    """As the library's own processor prepares pictures and reads the answer."""
    from PIL import Image
    from transformers import SegformerForSemanticSegmentation, SegformerImageProcessor

    crops = faces(3, 56)
    (found,) = network(folder, least=0.0).provide([clip(crops)])
    processor = SegformerImageProcessor.from_pretrained(folder, size={"height": 64, "width": 64})
    model = SegformerForSemanticSegmentation.from_pretrained(folder).eval()
    with torch.inference_mode():
        answer = model(**processor([Image.fromarray(crop) for crop in crops], return_tensors="pt"))
    wanted = torch.stack(processor.post_process_semantic_segmentation(answer, target_sizes=[(56, 56)] * 3)).numpy()
    regions = np.array([mesh.REGIONS.index(name) for name in CLASSES.values()])
    assert len(np.unique(regions[wanted])) > 2
    assert (found.data["labels"] == regions[wanted]).mean() > 0.95
    np.testing.assert_array_equal(found.data["maps"], drawing.coloured(found.data["labels"]))


def test_rows_do_not_depend_on_each_other(folder: Path):
    component = network(folder, least=0.0)
    many = faces(parsing_network.BATCH + 3)
    together = component.provide([clip(many), clip(None), clip(many[4:6])])
    assert [found.valid for found in together] == [True, False, True]
    assert together[1].reason == "nobody there"
    alone = np.concatenate([component.provide([clip(many[i : i + 1])])[0].data["labels"] for i in range(len(many))])
    assert (together[0].data["labels"] == alone).mean() > 0.999, "but for pixels between two classes"
    assert (together[2].data["labels"] == alone[4:6]).mean() > 0.999


def test_a_crop_with_little_of_a_face_has_the_map_of_the_nearest(folder: Path):
    component = network(folder, least=0.0)
    crops = faces(4)
    labels = component.provide([clip(crops)])[0].data["labels"]
    share = np.isin(labels, FACE).mean(axis=(1, 2))
    order = np.argsort(share)
    assert share[order[-2]] < share[order[-1]]
    least = float((share[order[-2]] + share[order[-1]]) / 2)
    (found,) = network(folder, least=least).provide([clip(crops)])
    assert np.flatnonzero(found.data["valid"]).tolist() == [order[-1]]
    np.testing.assert_array_equal(found.data["labels"], labels[[order[-1]] * 4])
    assert found.quality == {"found": 0.25, "face": pytest.approx(share.mean())}
    (none,) = network(folder, least=1.0).provide([clip(crops)])
    assert (none.valid, none.reason) == (False, "no crop shows enough of a face")
    assert component.provide([clip(np.zeros((0, 8, 8, 3), np.uint8))])[0].reason == "no face"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("classes", "the classes of .* are not those of CelebAMask-HQ: it has 'left_eye'"),
        ("kind", "is a model of kind 'vit'; expected 'segformer'"),
        ("config", "is not the folder of a model: it has no config.json"),
        ("json", "config.json is damaged"),
        ("weights", "is damaged or of another kind than Segformer"),
        ("width", "does not fit Segformer.*tensors"),
    ],
)
def test_another_model_is_refused(change: str, said: str, folder: Path, tmp_path: Path):
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    config = json.loads((other / "config.json").read_text())
    if change == "classes":
        config["id2label"]["4"] = "left_eye"
    elif change == "kind":
        config["model_type"] = "vit"
    elif change == "width":
        config["decoder_hidden_size"] = 24
    (other / "config.json").write_text("{" if change == "json" else json.dumps(config))
    if change == "config":
        (other / "config.json").unlink()
    elif change == "weights":
        (other / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=said) as caught:
        network(other)
    assert str(caught.value).startswith("finecliper/parsing_network: ")


def test_the_random_network_is_marked(folder: Path):
    from affectkit.weight_files import is_random

    assert is_random(folder)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"side": 100}, "side must be a multiple of 32 pixels, found 100"), ({"least": 2.0}, "least must be in [0, 1], found 2.0")],
)
def test_options_that_cannot_be(options: dict, said: str):
    with pytest.raises(ConfigError, match=re.escape(said)):
        ParsingNetworkOptions(**options)
