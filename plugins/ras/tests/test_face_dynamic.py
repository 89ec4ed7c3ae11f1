"""ras/face_dynamic on drawn faces and random weights in the real formats."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from affectkit_ras.face_dynamic import BACKBONE, LONGEST, SIDE, FaceDynamic
from affectkit_ras.face_frames import FrameReader
from affectkit_ras.sequence_network import VideoFormer

from affectkit.api import BASIC8, CheckpointError, ConfigError, Modality, Needs, Output
from affectkit.batching import collate
from affectkit.testing import examples
from affectkit.testing.contracts import examine
from affectkit.weight_files import load_tensors, save_tensors


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Options that name random weights."""
    folder = tmp_path_factory.mktemp("face_dynamic")
    component = FaceDynamic()
    return {tag: str(component.write_random(tag, folder)) for tag in component.used_checkpoints()}


def made(weights: Mapping[str, str], **options: Any) -> FaceDynamic:
    component = FaceDynamic(FaceDynamic.Options(**{**weights, **options}))
    component.id = "ras/face_dynamic"
    component.load(torch.device("cpu"), torch.float32)
    return component


def said(component: Modality, *clips: Any) -> Output:
    with torch.inference_mode():
        return component.predict(collate([component.preprocess(clip) for clip in clips]))


def clips() -> list[Any]:
    return examples.clips(Needs(inputs=FaceDynamic.needs.inputs))


def test_it_keeps_what_every_modality_promises(weights: dict[str, str]) -> None:
    outcomes = list(examine("modality", FaceDynamic, weights, id="ras/face_dynamic"))
    assert {outcome.check: outcome.reason for outcome in outcomes if outcome.state != "ok"} == {}


@pytest.mark.parametrize("padding", ["masked", "published"])
def test_neighbours_change_nothing(weights: dict[str, str], padding: str) -> None:
    """A window says the same beside a longer one as alone, also where it is filled up as published."""
    component = made(weights, padding=padding)
    together = said(component, *clips())
    for row, clip in enumerate(clips()):
        component.frames._said.forget()
        alone = said(component, clip)
        torch.testing.assert_close(together.values[BASIC8][row], alone.values[BASIC8][0], atol=1e-5, rtol=0)
        torch.testing.assert_close(together.embeddings["motion"][row], alone.embeddings["motion"][0], atol=1e-4, rtol=1e-4)


def test_published_padding_is_of_windows_that_are_not_full(weights: dict[str, str]) -> None:
    full, short = clips()[0], clips()[1]
    assert len(full.inputs["faces"].data["crops"]) == LONGEST
    masked, published = (said(made(weights, padding=padding), full, short) for padding in ("masked", "published"))
    torch.testing.assert_close(masked.embeddings["motion"][0], published.embeddings["motion"][0])
    assert (masked.embeddings["motion"][1] - published.embeddings["motion"][1]).abs().max() > 1e-2
    assert masked.quality["faces"].tolist() == [20.0, 6.0]


def test_crops_are_prepared_as_by_the_processor(weights: dict[str, str]) -> None:
    """Of the public settings, on crops of the size that the model reads."""
    from PIL import Image
    from transformers import CLIPImageProcessor

    reader = made(weights).frames
    reader._side = SIDE  # the random model reads smaller pictures than the public one
    crops = np.stack([examples.face(SIDE, number) for number in range(2)])
    wanted = CLIPImageProcessor()(images=[Image.fromarray(crop) for crop in crops], return_tensors="pt")["pixel_values"]
    assert wanted.shape == (2, 3, SIDE, SIDE)
    torch.testing.assert_close(reader.pixels(torch.from_numpy(crops)), wanted, atol=1e-5, rtol=1e-5)


def test_crops_of_another_size_are_resized_as_by_the_processor(weights: dict[str, str]) -> None:
    from PIL import Image
    from transformers import CLIPImageProcessor

    reader = made(weights).frames
    crop = examples.face(SIDE, 1)
    processor = CLIPImageProcessor.from_pretrained(weights["backbone"])
    wanted = processor(images=[Image.fromarray(crop)], return_tensors="pt")["pixel_values"]
    assert (reader.pixels(torch.from_numpy(crop[None])) - wanted).abs().max() < 0.05  # one step of 255, rounded differently


def test_embeddings_are_those_of_the_whole_clip(weights: dict[str, str]) -> None:
    """The features of CLIPModel itself, not of unit length."""
    from transformers import CLIPModel

    reader = made(weights).frames
    crops = torch.from_numpy(np.stack([examples.face(SIDE, number) for number in range(3)]))
    model = CLIPModel.from_pretrained(weights["backbone"]).eval()
    with torch.no_grad():
        wanted = model.get_image_features(pixel_values=reader.pixels(crops)).pooler_output
        found = reader.read(crops)
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)
    assert (found.norm(dim=1) - 1).abs().min() > 1e-2


def test_the_public_file_is_of_an_older_make(weights: dict[str, str], tmp_path: Path) -> None:
    """A ``pytorch_model.bin`` with both towers and the numbers of positions that transformers once kept."""
    for name in ("config.json", "preprocessor_config.json"):
        shutil.copy(Path(weights["backbone"]) / name, tmp_path)
    old = load_tensors(Path(weights["backbone"]) / "model.safetensors")
    positions = {f"{tower}_model.embeddings.position_ids": torch.arange(5)[None] for tower in ("text", "vision")}
    assert {"logit_scale", "text_projection.weight"} <= set(old)
    torch.save({**old, **positions}, tmp_path / "pytorch_model.bin")
    crops = torch.from_numpy(examples.face(SIDE)[None])
    found = FrameReader(tmp_path, "ras/face_dynamic", torch.device("cpu"), BACKBONE)
    torch.testing.assert_close(found.read(crops), made(weights).frames.read(crops), atol=1e-5, rtol=1e-5)
    assert found.fingerprint == made(weights).frames.fingerprint


def test_a_crop_that_windows_share_is_read_once(weights: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    component = made(weights)
    read = component.frames.read
    seen: list[int] = []
    monkeypatch.setattr(component.frames, "read", lambda crops: (seen.append(len(crops)), read(crops))[1])
    first = said(component, clips()[0])
    again = said(component, clips()[0], clips()[1])
    assert seen == [LONGEST, 6]
    assert torch.equal(first.values[BASIC8][0], again.values[BASIC8][0]) or torch.allclose(first.values[BASIC8][0], again.values[BASIC8][0])


def test_the_order_of_the_crops_matters_to_the_state_space(weights: dict[str, str]) -> None:
    component = made(weights)
    batch = collate([component.preprocess(clips()[0])])
    turned = {name: value.flip(1) if name in ("faces", "digests") else value for name, value in batch.items()}
    with torch.inference_mode():
        difference = component.predict(batch).embeddings["motion"] - component.predict(turned).embeddings["motion"]
    assert difference.abs().max() > 1e-4


def test_a_transformer_is_told_by_its_tensors(weights: dict[str, str], tmp_path: Path) -> None:
    width = load_tensors(Path(weights["head"]))["image_proj.0.weight"].shape[1]
    path = tmp_path / "former.safetensors"
    settings = {"labels": BASIC8.labels, "temperature": 2.0, "heads": 2}
    save_tensors(path, VideoFormer(width, 16, heads=2).state_dict(), {"settings": json.dumps(settings)})
    assert said(made(weights, head=str(path)), *clips()).embeddings["motion"].shape == (4, 16)


def test_tensors_alone_are_enough(weights: dict[str, str], tmp_path: Path) -> None:
    """A state as training scripts save it, without a header: its labels are those of the authors."""
    path = tmp_path / "authors.pt"
    torch.save({"model_state_dict": load_tensors(Path(weights["head"]))}, path)
    torch.testing.assert_close(
        said(made(weights, head=str(path)), *clips()).values[BASIC8], said(made(weights), *clips()).values[BASIC8], atol=1e-6, rtol=0
    )


def test_without_a_head_the_command_that_makes_one_is_named(
    weights: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tensors(tmp_path / "face_dynamic.safetensors", {"conv.weight": torch.zeros(3)})  # what another plugin's training wrote
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError) as problem:
        made(weights, head=None)
    assert "ras/face_dynamic: the weights ras_face_dynamic.safetensors are not here" in str(problem.value)
    assert "affectkit train ras/face_dynamic --data RUN --labels FILE --out ." in str(problem.value)
    assert "--set components.ras/face_dynamic.head=" in str(problem.value)


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        (lambda t: t, {"labels": list(BASIC8.labels[::-1])}, "gives the labels"),
        (lambda t: t, {"labels": None}, "labels: expected a list, each text, found null"),
        (lambda t: t, {"temperature": "hot"}, "temperature: expected a number, found 'hot'"),
        (lambda t: t, {"heads": [4]}, r"heads: expected a whole number, found \[4\]"),
        (lambda t: t, [], "'settings' in its header is no JSON object; give a file that 'affectkit train' wrote"),
        (lambda t: t, {"backbone": "0" * 16}, "was made with another backbone"),
        (lambda t: {k: v for k, v in t.items() if k != "mamba.0.D"}, {}, r"^ras/face_dynamic: .*1 missing: mamba\.0\.D"),
        (lambda t: {**t, "extra": torch.zeros(1)}, {}, "1 unexpected: extra"),
        (lambda t: {"weight": torch.zeros(2)}, {}, r"^ras/face_dynamic: .*head\.safetensors: these are no weights of VideoMamba"),
        (lambda t: {**t, "image_proj.0.weight": torch.zeros(32, 7)}, {}, "reads embeddings of 7 numbers, and the backbone gives 32"),
    ],
)
def test_heads_that_do_not_fit(weights: dict[str, str], tmp_path: Path, change: Callable[[Any], Any], settings: Any, message: str) -> None:
    path = tmp_path / "head.safetensors"
    save_tensors(path, change(load_tensors(Path(weights["head"]))), {"settings": json.dumps(settings)})
    with pytest.raises(CheckpointError, match=message):
        made(weights, head=str(path))


def test_backbones_that_do_not_fit(weights: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not here"):
        made(weights, backbone=str(tmp_path / "gone"))
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        made(weights, backbone=str(tmp_path))
    short = tmp_path / "short"
    short.mkdir()
    for file in Path(weights["backbone"]).iterdir():
        (short / file.name).write_bytes(file.read_bytes())
    kept = {name: value for name, value in load_tensors(short / "model.safetensors").items() if name != "visual_projection.weight"}
    save_tensors(short / "model.safetensors", kept, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 tensors missing: visual_projection\.weight"):
        made(weights, backbone=str(short))
    (short / "model.safetensors").write_bytes((Path(weights["backbone"]) / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged"):
        made(weights, backbone=str(short))


def test_lower_precision_says_about_the_same(weights: dict[str, str]) -> None:
    component = made(weights)
    single = said(component, *clips())
    with torch.autocast("cpu", torch.bfloat16):
        half = said(component, *clips())
    assert half.values[BASIC8].dtype == torch.float32
    assert 0 < (single.values[BASIC8] - half.values[BASIC8]).abs().max() < 0.05
    assert torch.equal(
        said(component, *clips()).values[BASIC8], single.values[BASIC8]
    )  # what half precision said of a crop is not kept for single


def test_no_face_is_no_evidence(weights: dict[str, str]) -> None:
    clip = clips()[1]
    assert made(weights, least=6).preprocess(clip) is not None
    assert made(weights, least=7).preprocess(clip) is None
    with pytest.raises(ConfigError, match="least must be from 1 to 20"):
        FaceDynamic.Options(least=0)


def test_before_loading() -> None:
    with pytest.raises(CheckpointError, match="before its weights are loaded"):
        FaceDynamic().predict({})


@pytest.mark.slow
def test_the_published_width(tmp_path: Path) -> None:
    """CLIP ViT-B/32 as the library defines it, with random numbers: loaded strictly, run once."""
    from transformers import CLIPConfig, CLIPModel

    CLIPModel(CLIPConfig()).save_pretrained(tmp_path)
    reader = FrameReader(tmp_path, "ras/face_dynamic", torch.device("cpu"), BACKBONE)
    with torch.inference_mode():
        assert reader.read(torch.zeros(2, SIDE, SIDE, 3, dtype=torch.uint8)).shape == (2, 512)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_agrees(weights: dict[str, str]) -> None:
    """Within 1e-4 in single precision, and 0.05 in bf16."""
    component = FaceDynamic(FaceDynamic.Options(**weights))
    component.load(torch.device("cuda"), torch.float32)
    batch = collate([component.preprocess(clip) for clip in clips()])
    wanted = said(made(weights), *clips()).values[BASIC8]
    moved = {name: value.cuda() for name, value in batch.items()}
    with torch.inference_mode():
        found = component.predict(moved).values[BASIC8].cpu()
        with torch.autocast("cuda", torch.bfloat16):
            half = component.predict(moved).values[BASIC8].cpu()
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    torch.testing.assert_close(half, wanted, atol=0.05, rtol=0)
