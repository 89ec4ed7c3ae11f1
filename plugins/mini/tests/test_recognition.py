"""What the network of faces begins with: reading dlib's file, and statistics that change nothing."""

from __future__ import annotations

import io
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from affectkit_mini.networks import FaceNet, standardise
from affectkit_mini.trainings import published, recognition
from affectkit_mini.trainings.faces import FaceOptions, FaceTraining
from torch.nn import functional

from affectkit.api import CheckpointError, UsageError


def number(value: int) -> bytes:
    """A whole number as dlib writes it."""
    raw = value.to_bytes((value.bit_length() + 7) // 8, "little")
    return bytes([len(raw)]) + raw


def array(values: np.ndarray) -> bytes:
    """A vector as dlib writes it: a version, four sides, the numbers."""
    return number(2) + number(len(values)) + number(1) * 3 + values.astype("<f4").tobytes()


@pytest.fixture
def file(tmp_path: Path) -> tuple[Path, list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]]:
    """Random layers in a file of dlib's form, and their weights, biases, factors and summands."""
    random, out, layers = np.random.default_rng(0), io.BytesIO(), []
    out.write(b"\x01\x01\x0dloss_metric_2")
    for layer in FaceNet().convolutions:
        outputs, inputs, height, width = layer.weigh.weight.shape
        weights = random.normal(size=(outputs, 3 if inputs == 1 else inputs, height, width)) / (inputs * height * width) ** 0.5
        bias, factors, summands = random.normal(size=outputs) * 0.1, random.uniform(0.5, 1.5, outputs), random.normal(size=outputs) * 0.1
        out.write(
            b"\x05con_5" + array(np.concatenate([weights.ravel(), bias])) + b"\x07affine_" + array(np.concatenate([factors, summands]))
        )
        layers.append((weights, bias, factors, summands))
    path = tmp_path / "network.dat"
    path.write_bytes(out.getvalue())
    return path, layers


def test_every_layer_says_what_that_of_the_file_says(file) -> None:
    path, layers = file
    network = FaceNet()
    recognition.begin(network, path)
    network.eval()
    for layer, (weights, bias, factors, summands) in zip(network.convolutions, layers, strict=True):
        x = torch.rand(2, layer.weigh.weight.shape[1], 12, 12)
        colours = x.expand(-1, 3, -1, -1) if weights.shape[1] == 3 else x
        size, stride = weights.shape[2], layer.weigh.stride[0]
        before, after = (size // 2, size // 2) if stride == 1 else ((size - 3) // 2, size // 2)
        padded = functional.pad(colours.double(), (before, after, before, after))
        found = functional.conv2d(padded, torch.from_numpy(weights), torch.from_numpy(bias), stride)
        expected = found * torch.from_numpy(factors)[:, None, None] + torch.from_numpy(summands)[:, None, None]
        torch.testing.assert_close(layer(x).double(), expected, atol=1e-4, rtol=1e-4)


def test_statistics_of_pictures_change_nothing_that_is_said(file) -> None:
    network = FaceNet()
    recognition.begin(network, file[0])
    crops = standardise(torch.rand(32, 1, 48, 48, generator=torch.Generator().manual_seed(0)))
    with torch.inference_mode():
        before = network.eval().features(crops)
    recognition.settle(network, crops)
    assert network.training
    with torch.inference_mode():
        torch.testing.assert_close(network.eval().features(crops), before, atol=1e-3, rtol=1e-3)
        stem = network.stem.norm(network.stem.weigh(functional.pad(enlarged(crops), network.stem.pad)))
    torch.testing.assert_close(stem.mean((0, 2, 3)), network.stem.norm.bias, atol=1e-4, rtol=1e-3)


def enlarged(crops: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(crops * 0.35, size=(96, 96), mode="bilinear", align_corners=False)


def test_a_file_that_is_cut_or_of_another_network_is_refused(file) -> None:
    path, _ = file
    whole = path.read_bytes()
    path.write_bytes(whole[:-1_000_000])
    with pytest.raises(CheckpointError, match=r"network\.dat ends after \d+ bytes, within the 590080 numbers"):
        recognition.begin(FaceNet(), path)
    path.write_bytes(whole.replace(b"\x01\x01", b"\x01\x02"))
    with pytest.raises(CheckpointError, match=r"network\.dat is damaged or of another network: it has not the \d+ numbers"):
        recognition.begin(FaceNet(), path)


def test_what_is_not_there_is_named_with_the_command_that_gets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"face_recognition_models is not installed.*pip install face_recognition_models==0\.3\.0"):
        FaceTraining().network()
    with pytest.raises(UsageError, match=r"there is no .*absent\.dat.*options\.start"):
        FaceTraining(FaceOptions(str(tmp_path / "absent.dat"))).network()
    (tmp_path / "other.dat").write_bytes(b"other")
    with pytest.raises(CheckpointError, match=r"other\.dat is not the dlib_face_recognition_resnet_model_v1\.dat"):
        FaceTraining(FaceOptions(str(tmp_path / "other.dat"))).network()


@pytest.mark.skipif(find_spec(recognition.NETWORK.module) is None, reason="the package face_recognition_models is not installed")
def test_the_published_file_is_read_whole() -> None:
    network = FaceNet()
    recognition.begin(network, recognition.NETWORK.path())
    spread = [float(layer.weigh.weight.detach().std()) for layer in network.convolutions]
    assert len(spread) == 27
    assert all(0.0001 < value < 0.1 for value in spread), "numbers that were learned, not what lies between them"
