"""ras/face_static: EmoAffectNet, its preprocessing, its names, its order of classes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from affectkit_ras.face_static import MEAN, FaceStatic, pixels
from affectkit_ras.resnet import EmoAffectNet, own_names

from affectkit import weight_files
from affectkit.api import BASIC8, CheckpointError, Clip, Evidence
from affectkit.labels import AFFECTNET7, project
from affectkit.testing import ModalityContract

from .conftest import MEDIA, WINDOW, predict

CPU = torch.device("cpu")


def clip(count: int, seed: int = 0, side: int = 224) -> Clip:
    """A clip with so many crops of noise."""
    crops = np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    boxes = np.tile(np.array([[10, 20, 90, 120]], np.float32), (count, 1))
    faces = Evidence("faces", {"crops": crops, "boxes": boxes, "scores": np.ones(count, np.float32)}, times=np.arange(count) / 5)
    return Clip(MEDIA, WINDOW, 0, inputs={"faces": faces})


def spread(net: EmoAffectNet, seed: int = 0) -> EmoAffectNet:
    """A network whose normalisation has other numbers than its first ones, so that what it says depends on each tensor."""
    random = torch.Generator().manual_seed(seed)
    for name, tensor in net.state_dict().items():
        if name.endswith(("running_mean", "bias")):
            tensor.copy_(torch.randn(tensor.shape, generator=random) * 0.1)
        elif name.endswith("running_var"):
            tensor.copy_(torch.rand(tensor.shape, generator=random) + 0.5)
    return net.eval()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrow network under the names of the published file."""
    path = tmp_path_factory.mktemp("weights") / "narrow.safetensors"
    weight_files.save_tensors(path, spread(weight_files.random_network(lambda: EmoAffectNet(4))).state_dict())
    return path


def loaded(path: Path) -> FaceStatic:
    component = FaceStatic(FaceStatic.Options(str(path)))
    component.load(CPU, torch.float32)
    return component


class TestFaceStatic(ModalityContract):
    """What every modality promises, with random weights."""

    component = FaceStatic

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def random_weights(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        cls.options = {"checkpoint": str(FaceStatic().write_random("default", tmp_path_factory.mktemp("random")))}


def test_preprocessing_by_hand():
    """Two by two pixels: each becomes a quarter of the picture; blue, green, red, less 91.4953, 103.8827, 131.0912, and no scaling."""
    picture = torch.tensor([[[255, 0, 0], [0, 128, 0]], [[0, 0, 64], [10, 20, 30]]], dtype=torch.uint8)
    shown = pixels(picture[None])
    assert shown.shape == (1, 3, 224, 224)
    expected = {
        (0, 0): (0 - 91.4953, 0 - 103.8827, 255 - 131.0912),
        (0, 1): (0 - 91.4953, 128 - 103.8827, 0 - 131.0912),
        (1, 0): (64 - 91.4953, 0 - 103.8827, 0 - 131.0912),
        (1, 1): (30 - 91.4953, 20 - 103.8827, 10 - 131.0912),
    }
    for (row, column), values in expected.items():
        quarter = shown[0, :, row * 112 : row * 112 + 112, column * 112 : column * 112 + 112]
        torch.testing.assert_close(quarter, torch.tensor(values).view(3, 1, 1).expand(3, 112, 112), atol=1e-4, rtol=0)


@pytest.mark.parametrize("side", [5, 100, 223, 224, 300, 517])
def test_nearest_neighbours_are_those_of_pillow(side):
    from PIL import Image

    picture = np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)
    published = np.asarray(Image.fromarray(picture).resize((224, 224), Image.Resampling.NEAREST), np.float32)[..., ::-1] - np.array(MEAN)
    np.testing.assert_allclose(pixels(torch.from_numpy(picture)[None])[0].permute(1, 2, 0).numpy(), published, atol=1e-4)


def test_its_order_of_classes_is_its_own_and_projects(weights):
    assert AFFECTNET7.labels == ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger")
    component = loaded(weights)
    with torch.no_grad():
        component._net.fc2.weight.zero_()
        component._net.fc2.bias.copy_(torch.tensor([0.0, 9.0, 0, 0, 0, 0, 0]))  # the second says happiness
    values = predict(component, clip(2)).values[AFFECTNET7]
    assert values[0, AFFECTNET7.index("happiness")] > 0.99
    projected, support = project(values.numpy(), AFFECTNET7, BASIC8)
    assert np.nanargmax(projected[0]) == BASIC8.index("happiness")
    assert support.sum() == 7  # it cannot say "other"


def test_rows_are_distributions_and_neighbours_do_not_matter(weights):
    component = loaded(weights)
    clips = [clip(1, 1), clip(3, 2), clip(2, 3)]
    together = predict(component, *clips)
    rows = together.values[AFFECTNET7]
    torch.testing.assert_close(rows.sum(1), torch.ones(3))
    assert (rows[0] - rows[1]).abs().max() > 1e-4
    assert together.embeddings["face"].shape == (3, 512)
    assert together.quality["side"].tolist() == [100.0] * 3
    for row, one in enumerate(clips):
        alone = predict(component, one)
        torch.testing.assert_close(rows[row], alone.values[AFFECTNET7][0], atol=1e-5, rtol=0)
        torch.testing.assert_close(together.embeddings["face"][row], alone.embeddings["face"][0], atol=1e-5, rtol=1e-5)


def test_several_pictures_are_averaged(weights):
    component = loaded(weights)
    both = clip(2)
    parts = []
    for place in range(2):
        faces = both.inputs["faces"]
        data = {name: value[place : place + 1] for name, value in faces.data.items()}
        parts.append(predict(component, replace(both, inputs={"faces": replace(faces, data=data)})))
    whole = predict(component, both)
    mean = (parts[0].values[AFFECTNET7] + parts[1].values[AFFECTNET7]) / 2
    torch.testing.assert_close(whole.values[AFFECTNET7], mean, atol=1e-6, rtol=0)


def test_without_a_face_there_is_no_evidence():
    component = FaceStatic()
    assert component.preprocess(Clip(MEDIA, WINDOW)) is None
    assert component.preprocess(Clip(MEDIA, WINDOW, inputs={"faces": Evidence.none("faces", "no face")})) is None


def torchvision_twin(net: EmoAffectNet) -> torch.nn.Module:
    """torchvision's own ResNet-50, changed to what differs, with the same numbers."""
    from torchvision.models import resnet50

    twin = resnet50()
    twin.conv1.padding = (0, 0)
    twin.maxpool.padding = 0
    for module in twin.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-3
    for stage in (twin.layer2, twin.layer3, twin.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = stage[0].conv2.stride, stage[0].conv1.stride
    twin.fc = torch.nn.Sequential(torch.nn.Linear(2048, 512), torch.nn.ReLU(), torch.nn.Linear(512, 7))
    names = {"conv_layer_s2_same": "conv1", "batch_norm": "bn", "i_downsample": "downsample", "fc1": "fc.0", "fc2": "fc.2"}
    state = net.state_dict()
    twin.load_state_dict({re.sub("|".join(names), lambda found: names[found[0]], name): tensor for name, tensor in state.items()})
    return twin.eval()


@pytest.mark.slow
def test_it_is_the_published_network_at_full_width():
    """Against torchvision's ResNet-50 with the stride in the first convolution, Keras's borders and epsilon; 25 million numbers, loaded strictly."""
    net = spread(weight_files.random_network(EmoAffectNet))
    assert sum(parameter.numel() for parameter in net.parameters()) == 24_560_711
    twin = torchvision_twin(net)
    shown = pixels(torch.randint(0, 256, (1, 224, 224, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)))
    with torch.inference_mode():
        logits, features = net(shown)
        expected = twin(torch.nn.functional.pad(shown, (2, 3, 2, 3)))
    assert features.shape == (1, 512)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


def test_the_names_of_others(weights, tmp_path):
    state = weight_files.load_tensors(weights)
    names = {"conv_layer_s2_same": "conv1", "batch_norm": "bn", "i_downsample": "downsample", "fc1": "fc_feats", "fc2": "fc"}
    other = {"model." + re.sub("|".join(names), lambda found: names[found[0]], name): tensor for name, tensor in state.items()}
    other = {name: tensor for name, tensor in other.items() if not name.endswith("num_batches_tracked")}
    assert own_names(other).keys() == state.keys()
    weight_files.save_tensors(tmp_path / "other.safetensors", other)
    weight_files.save_torch(tmp_path / "published.pt", state)
    expected = predict(loaded(weights), clip(1)).values[AFFECTNET7]
    for name in ("other.safetensors", "published.pt"):
        assert torch.equal(predict(loaded(tmp_path / name), clip(1)).values[AFFECTNET7], expected)


def test_torchscript_through_weights_convert(tmp_path):
    """The way of the published file: TorchScript, converted, loaded."""
    from click.testing import CliRunner

    from affectkit.cli import cli

    net = spread(weight_files.random_network(lambda: EmoAffectNet(4)))
    torch.jit.save(torch.jit.trace(net, torch.zeros(1, 3, 224, 224)), tmp_path / "net.pth")
    with pytest.raises(
        CheckpointError, match=r"net\.pth is TorchScript, a program, which is not opened here\. .*affectkit weights convert"
    ):
        loaded(tmp_path / "net.pth")
    done = CliRunner().invoke(cli, ["weights", "convert", str(tmp_path / "net.pth"), "--to", str(tmp_path / "net.safetensors")])
    assert done.exit_code == 0, done.output
    component = loaded(tmp_path / "net.safetensors")
    assert all(torch.equal(tensor, net.state_dict()[name]) for name, tensor in component._net.state_dict().items())


def test_weights_that_do_not_fit(weights, tmp_path):
    state = weight_files.load_tensors(weights)
    del state["layer4.2.conv3.weight"]
    state["head.weight"] = torch.zeros(1)
    state["fc2.weight"] = torch.zeros(8, 512)
    weight_files.save_tensors(tmp_path / "other.safetensors", state)
    with pytest.raises(CheckpointError) as error:
        loaded(tmp_path / "other.safetensors")
    assert "does not fit EmoAffectNet" in str(error.value)
    assert "1 missing: layer4.2.conv3.weight; 1 unexpected: head.weight" in str(error.value)
    assert "fc2.weight (8, 512) instead of (7, 512)" in str(error.value)
    weight_files.save_tensors(tmp_path / "nothing.safetensors", {"a": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="does not fit EmoAffectNet"):
        loaded(tmp_path / "nothing.safetensors")


def test_absent_weights_say_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("AFFECTKIT_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    component = FaceStatic()
    component.id = "ras/face_static"
    with pytest.raises(
        CheckpointError, match=r"FER_static_ResNet50_AffectNet\.pt are not here .* 'affectkit weights fetch ras/face_static'"
    ):
        component.load(CPU, torch.float32)


def test_random_weights_are_loaded(tmp_path):
    path = FaceStatic().write_random("default", tmp_path)
    assert weight_files.is_random(path)
    assert path.stat().st_size < 1e6
    assert predict(loaded(path), clip(1)).values[AFFECTNET7].shape == (1, 7)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_cpu_and_gpu_agree(weights):
    """In single precision within 1e-4, in half precision within 0.02."""
    here, there = loaded(weights), FaceStatic(FaceStatic.Options(str(weights)))
    there.load(torch.device("cuda"), torch.float32)
    row = {name: tensor[None] for name, tensor in here.preprocess(clip(3)).items()}
    row |= {f"{name}_mask": torch.ones(1, 3, dtype=torch.bool) for name in ("crops", "side")}
    expected = here.predict(row).values[AFFECTNET7]
    moved = {name: tensor.cuda() for name, tensor in row.items()}
    torch.testing.assert_close(there.predict(moved).values[AFFECTNET7].cpu(), expected, atol=1e-4, rtol=0)
    with torch.autocast("cuda", torch.bfloat16):
        torch.testing.assert_close(there.predict(moved).values[AFFECTNET7].cpu(), expected, atol=0.02, rtol=0)
