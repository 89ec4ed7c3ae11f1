"""What the network of voices hears with: reading the published ONNX file, and weights in a byte each."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from affectkit_mini.audio import AudioEmotion, AudioOptions
from affectkit_mini.listening import BLOCKS, HIDDEN, POSITIONS, WIDTH, Listener
from affectkit_mini.packing import pack, unpack
from affectkit_mini.trainings import hearing, published
from affectkit_mini.trainings.voices import VoiceOptions, VoiceTraining
from onnx import helper, numpy_helper

from affectkit.api import CheckpointError, UsageError
from affectkit.weight_files import save_tensors

from .test_audio import whisper

SIDES = {"self_attn.k_proj": (WIDTH, WIDTH), "self_attn.q_proj": (WIDTH, WIDTH), "self_attn.v_proj": (WIDTH, WIDTH), "self_attn.out_proj": (WIDTH, WIDTH),
         "fc1": (WIDTH, HIDDEN), "fc2": (HIDDEN, WIDTH)}  # fmt: skip


class Graph:
    """An ONNX graph in the form of Smart Turn's, with random numbers; nothing of it but what is read."""

    def __init__(self) -> None:
        self.random, self.nodes, self.tensors = np.random.default_rng(0), [], []
        self.expected: dict[str, np.ndarray] = {}

    def plain(self, name: str, *shape: int) -> str:
        value = self.random.normal(size=shape).astype(np.float32) * 0.05
        self.expected[name] = value
        self.tensors.append(numpy_helper.from_array(value, f"inner.encoder.{name}"))
        return f"inner.encoder.{name}"

    def whole(self, name: str, axis: int, *shape: int, kind: type = np.int8) -> str:
        """A packed weight of which ``axis`` has a scale each; returns the name of the unpacked one."""
        count, at = shape[axis], f"value_{len(self.tensors)}"
        numbers = self.random.integers(-127, 128, shape).astype(kind)
        scale = self.random.uniform(1e-3, 2e-3, count).astype(np.float32)
        zeros = np.zeros(count, kind)
        self.tensors += [numpy_helper.from_array(value, f"{at}_{part}") for part, value in (("q", numbers), ("s", scale), ("z", zeros))]
        self.nodes.append(helper.make_node("DequantizeLinear", [f"{at}_q", f"{at}_s", f"{at}_z"], [at], axis=axis))
        self.expected[name] = numbers.astype(np.float32) * scale.reshape([-1 if side == axis else 1 for side in range(len(shape))])
        return at

    def write(self, path: Path) -> Path:
        graph = helper.make_graph(self.nodes, "encoder", [], [], self.tensors)
        onnx.save(helper.make_model(graph), str(path))
        return path


@pytest.fixture
def published_file(tmp_path: Path) -> tuple[Path, dict[str, np.ndarray]]:
    graph = Graph()
    for index, inputs in ((1, 80), (2, WIDTH)):
        parts = [graph.whole(f"conv{index}.weight", 0, WIDTH, inputs, 3), graph.whole(f"conv{index}.bias", 0, WIDTH, kind=np.int32)]
        graph.nodes.append(helper.make_node("Conv", ["x", *parts], [f"y{index}"]))
    graph.plain("embed_positions.weight", POSITIONS, WIDTH)
    for layer in range(4):
        for product, shape in SIDES.items():
            name = graph.whole(f"layers.{layer}.{product}.weight", 1, *shape)
            graph.nodes.append(helper.make_node("MatMul", ["x", name], [f"z{layer}{product}"]))
            if product != "self_attn.k_proj":
                graph.plain(f"layers.{layer}.{product}.bias", shape[1])
        for norm in ("self_attn_layer_norm", "final_layer_norm"):
            graph.plain(f"layers.{layer}.{norm}.weight", WIDTH)
            graph.plain(f"layers.{layer}.{norm}.bias", WIDTH)
    return graph.write(tmp_path / "encoder.onnx"), graph.expected


def test_every_number_of_the_file_is_where_it_belongs(published_file) -> None:
    """By the names that transformers has for them."""
    path, expected = published_file
    listener = Listener().requires_grad_(False).eval()
    hearing.begin(listener, path)
    found = whisper(listener).state_dict()
    for name, value in expected.items():
        if name.startswith(f"layers.{BLOCKS}."):
            continue
        wanted = (
            value.T if name.rpartition(".")[0].rpartition(".")[2] in {"fc1", "fc2", "k_proj", "q_proj", "v_proj", "out_proj"} else value
        )
        np.testing.assert_allclose(found[name].numpy(), wanted, rtol=1e-6, atol=0, err_msg=name)


def test_another_network_is_refused(tmp_path: Path) -> None:
    graph = Graph()
    graph.plain("conv1.bias", WIDTH)
    with pytest.raises(CheckpointError, match=r"other\.onnx is no encoder of Smart Turn v3: 'conv1.weight'"):
        hearing.begin(Listener(), graph.write(tmp_path / "other.onnx"))


def test_what_is_not_there_is_named_with_the_command_that_gets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pipecat-ai is not installed; mini/audio begins .*pip install --no-deps pipecat-ai==1\.14\.0"):
        VoiceTraining(VoiceOptions("smart-turn")).network()
    with pytest.raises(UsageError, match=r"there is no .*absent\.onnx.*options\.start"):
        VoiceTraining(VoiceOptions(str(tmp_path / "absent.onnx"))).network()
    (tmp_path / "other.onnx").write_bytes(b"other")
    with pytest.raises(CheckpointError, match=r"other\.onnx is not the smart-turn-v3\.2-cpu\.onnx of pipecat-ai 1\.14\.0"):
        VoiceTraining(VoiceOptions(str(tmp_path / "other.onnx"))).network()


@pytest.mark.skipif(find_spec(hearing.NETWORK.module) is None, reason="the package pipecat-ai is not installed")
def test_the_package_carries_what_is_shipped(loaded) -> None:
    published_one: Any = VoiceTraining(VoiceOptions("smart-turn")).network()
    ours = loaded(AudioEmotion)._net.listener.state_dict()
    for name, value in published_one.listener.state_dict().items():
        torch.testing.assert_close(ours[name], value, atol=2e-3 if value.ndim < 2 or name == "positions" else 1e-7, rtol=1e-3)


def test_a_file_of_mini_audio_lends_its_encoder(tmp_path: Path, loaded) -> None:
    """By default the one that is shipped, so that a training needs no other package."""
    own = AudioEmotion().write_random("default", tmp_path)
    network: Any = VoiceTraining(VoiceOptions(str(own))).network()
    component = AudioEmotion(AudioOptions(checkpoint=str(own)))
    component.load(torch.device("cpu"), torch.float32)
    shipped: Any = VoiceTraining().network()
    for found, expected in ((network, component), (shipped, loaded(AudioEmotion))):
        for name, value in expected._net.listener.state_dict().items():
            assert torch.equal(found.listener.state_dict()[name], value), name
    save_tensors(tmp_path / "other.safetensors", {"a": torch.zeros(3)}, {})
    with pytest.raises(CheckpointError, match=r"other\.safetensors does not fit Listener"):
        VoiceTraining(VoiceOptions(str(tmp_path / "other.safetensors"))).network()
    with pytest.raises(CheckpointError, match=r"absent\.safetensors"):
        VoiceTraining(VoiceOptions(str(tmp_path / "absent.safetensors"))).network()


def test_packed_weights_come_back() -> None:
    random = torch.Generator().manual_seed(0)
    state = {
        "a.weight": torch.randn(6, 5, 3, generator=random),
        "a.bias": torch.randn(6, generator=random),
        "norm.weight": torch.ones(4),
        "b.in_proj_weight": torch.zeros(2, 3),
    }
    packed = pack(state)
    assert {name: (value.dtype, value.shape[0]) for name, value in packed.items()} == {
        "a.weight": (torch.int8, 6),
        "a.weight.scale": (torch.float32, 6),
        "a.bias": (torch.float16, 6),
        "norm.weight": (torch.float16, 4),
        "b.in_proj_weight": (torch.int8, 2),
        "b.in_proj_weight.scale": (torch.float32, 2),
    }
    again = unpack(packed)
    assert set(again) == set(state)
    steps = state["a.weight"].flatten(1).abs().amax(1) / 127
    assert ((again["a.weight"] - state["a.weight"]).abs().flatten(1).amax(1) <= steps / 2 + 1e-6).all()
    assert torch.equal(again["b.in_proj_weight"], state["b.in_proj_weight"])
    for name, value in pack(again).items():
        assert torch.equal(value, packed[name]) or value.dtype == torch.float32, "what was packed once loses nothing more"
