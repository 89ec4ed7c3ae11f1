"""mini/face_static and mini/face_dynamic."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from affectkit_mini import backbone
from affectkit_mini.detector import Faces
from affectkit_mini.face import SIDE, FaceDynamic, FaceStatic
from affectkit_mini.networks import FaceNet, standardise

from affectkit.api import BASIC7, Clip, Media, Span
from affectkit.faces import Detections, crop

from .conftest import face_clip, predict, says

PHOTOS = {
    "angry": "anger",
    "disgusted": "disgust",
    "fearful": "fear",
    "happy": "happiness",
    "neutral": "neutral",
    "sad": "sadness",
    "surprised": "surprise",
}


def with_crops(clip, crops):
    faces = clip.inputs["faces"]
    data = {**faces.data, "crops": crops, "boxes": faces.data["boxes"][: len(crops)]}
    return replace(clip, inputs={"faces": replace(faces, data=data)})


def photo_clip(path: Path):
    """The largest face that mini/faces finds in a photo, as a clip of one crop."""
    picture = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    detector = Faces()
    detector.load(torch.device("cpu"), torch.float32)
    still = Clip(Media(path.name, path, "image", 0.0), Span(0.0, 0.0), frames=picture[None], frame_times=np.zeros(1))
    found = Detections.from_evidence(detector.provide([still])[0])
    return with_crops(face_clip(1), crop(picture, found.boxes[found.area.argmax()], SIDE, margin=0.0)[None])


def test_light_and_contrast_do_not_matter():
    grey = torch.rand(3, 1, SIDE, SIDE)
    torch.testing.assert_close(standardise(grey), standardise(grey * 0.3 + 0.2), atol=1e-4, rtol=1e-4)
    assert torch.equal(standardise(torch.full((1, 1, 4, 4), 0.25)), torch.zeros(1, 1, 4, 4))


def test_a_mirrored_face_is_read_alike():
    net = FaceNet().eval()
    grey = torch.rand(2, SIDE, SIDE)
    with torch.inference_mode():
        torch.testing.assert_close(net.read(grey)[0], net.read(grey.flip(2))[0], atol=1e-5, rtol=1e-5)


def test_quality_gives_the_side_in_pixels_and_the_sharpness(loaded):
    clip = face_clip(1)
    crops = clip.inputs["faces"].data["crops"]
    blurred = with_crops(clip, cv2.GaussianBlur(crops[0], (9, 9), 3)[None])
    quality = predict(loaded(FaceStatic), clip, blurred).quality
    assert quality["side"].tolist() == [100.0, 100.0]  # the longer side of the box
    assert quality["sharpness"][1] < quality["sharpness"][0] / 2


def test_an_embedding_of_one_picture_has_unit_length(loaded):
    embedding = predict(loaded(FaceStatic), face_clip(1)).embeddings["face"]
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(1))


def test_a_still_is_no_evidence_for_a_dynamic_model(loaded):
    component = loaded(FaceDynamic)
    assert component.preprocess(face_clip(1)) is None
    assert component.preprocess(face_clip(2)) is not None


def test_the_least_number_of_pictures_is_an_option():
    component = FaceDynamic(replace(FaceDynamic.Options(), least=4))
    assert component.preprocess(face_clip(3)) is None
    assert component.preprocess(face_clip(4)) is not None


def test_a_crop_of_one_colour_gives_a_distribution(loaded):
    dark = with_crops(face_clip(1), np.zeros((1, SIDE, SIDE, 3), np.uint8))
    assert torch.isfinite(predict(loaded(FaceStatic), dark).values[BASIC7]).all()


def test_a_crop_is_read_once_for_all_windows_and_both_components(loaded, monkeypatch: pytest.MonkeyPatch):
    static, dynamic = loaded(FaceStatic), loaded(FaceDynamic)
    assert static._net is dynamic._net
    crops = face_clip(9, seed=77).inputs["faces"].data["crops"]
    early, late = (with_crops(face_clip(6), part) for part in (crops[:6], crops[3:]))
    read: list[int] = []
    network = FaceNet.read
    monkeypatch.setattr(FaceNet, "read", lambda self, grey: (read.append(len(grey)), network(self, grey))[1])
    first = predict(dynamic, early, late)
    stills = [predict(static, with_crops(face_clip(1), crop[None])).values[BASIC7] for crop in crops]
    second = predict(dynamic, early, late)
    assert read == [9]
    assert torch.equal(first.values[BASIC7], second.values[BASIC7])
    static._net.forget()
    torch.testing.assert_close(predict(dynamic, late).values[BASIC7], first.values[BASIC7][1:], atol=1e-5, rtol=0)
    torch.testing.assert_close(predict(static, with_crops(face_clip(1), crops[:1])).values[BASIC7], stills[0], atol=1e-5, rtol=0)
    assert read == [9, 6, 1]


def test_what_half_precision_says_is_kept_apart(loaded):
    clip = face_clip(1, seed=78)
    single = predict(loaded(FaceStatic), clip).values[BASIC7]
    with torch.autocast("cpu", torch.bfloat16):
        half = predict(loaded(FaceStatic), clip).values[BASIC7]
    assert not torch.equal(single, half)
    assert torch.equal(single, predict(loaded(FaceStatic), clip).values[BASIC7])


def test_only_the_last_crops_are_kept(loaded, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backbone, "KEPT", 4)
    shared = loaded(FaceDynamic)._net
    small = backbone.Backbone(shared.net, shared.settings)
    crops = torch.rand(1, 9, 48, 48, generator=torch.Generator().manual_seed(79))
    with torch.inference_mode():
        logits, _ = small.read(crops, torch.ones(1, 9, dtype=torch.bool))
        assert len(small._said) == 4
        torch.testing.assert_close(small.read(crops, torch.ones(1, 9, dtype=torch.bool))[0], logits, atol=1e-5, rtol=0)


def test_labelled_photos(shared_data: Path, loaded):
    found = {name: says(loaded(FaceStatic), photo_clip(shared_data / "images" / f"{name}.jpg")) for name in PHOTOS}
    assert sum(found[name] == label for name, label in PHOTOS.items()) >= 5, found


def test_order_is_seen(shared_data: Path, loaded):
    """The same crops forwards and backwards: neutral to happy against happy to neutral."""
    ends = [photo_clip(shared_data / "images" / f"{name}.jpg").inputs["faces"].data["crops"][0] for name in ("neutral", "happy")]
    share = np.clip((np.arange(20) - 6) / 6, 0, 1)[:, None, None, None]
    crops = ((1 - share) * ends[0] + share * ends[1]).astype(np.uint8)
    clips = [with_crops(face_clip(20), crops), with_crops(face_clip(20), crops[::-1])]
    output = predict(loaded(FaceDynamic), *clips)
    assert output.quality["onset"][0] > 0.3
    assert output.quality["onset"][1] < -0.3
    neutral = output.values[BASIC7][:, BASIC7.index("neutral")]
    assert neutral[0] < neutral[1]


@pytest.mark.parametrize("name", ["neutral", "happy"])
def test_a_steady_face_is_read_as_its_picture_is(name: str, shared_data: Path, loaded):
    clip = photo_clip(shared_data / "images" / f"{name}.jpg")
    crops = np.repeat(clip.inputs["faces"].data["crops"], 12, 0)
    steady = with_crops(face_clip(12), crops)
    output = predict(loaded(FaceDynamic), steady)
    assert says(loaded(FaceDynamic), steady) == says(loaded(FaceStatic), clip) == PHOTOS[name]
    assert abs(float(output.quality["onset"][0])) < 0.3
