"""Networks of the published system, reproduced within the tolerance that each golden states."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from affectkit_ras import feature_network, sequence_network
from affectkit_ras.audio_network import TEMPERATURE, UncertaintyHead
from affectkit_ras.feature_network import FusionV1, FusionV2, FusionV3, FusionV4
from affectkit_ras.sequence_network import VideoFormer, VideoMamba, scan

from affectkit.api import CheckpointError

SEQUENCES = ["ras_videomamba_d128", "ras_videomamba_d512", "ras_videoformer_d128_pe", "ras_videoformer_d512"]
FUSIONS = {
    "ras_feature_fusion_v1": FusionV1,
    "ras_feature_fusion_v2": FusionV2,
    "ras_feature_fusion_v3": FusionV3,
    "ras_feature_fusion_v4": FusionV4,
}


@pytest.fixture
def stem(goldens: Path, request: pytest.FixtureRequest) -> Path:
    """The golden that a test names."""
    return goldens / "dev" / request.param


def filled(golden: ModuleType, meta: Mapping, network: torch.nn.Module) -> torch.nn.Module:
    """A network with the numbers of a golden; its names and shapes are those of the published one."""
    state = network.state_dict()
    assert {name: list(tensor.shape) for name, tensor in state.items()} == {
        name: entry["shape"] for name, entry in meta["state_dict"].items()
    }
    state |= tensors_of(golden, meta)
    network.load_state_dict(state, strict=True)
    return network.eval()


def tensors_of(golden: ModuleType, meta: Mapping) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.array(value)) for name, value in golden.fill(meta["state_dict"], meta["rules"], meta["salt"]).items()}


def inputs_of(golden: ModuleType, meta: Mapping) -> dict[str, torch.Tensor]:
    return {rule["name"]: torch.from_numpy(golden.make_input(rule, meta["salt"])) for rule in meta["inputs"]}


def check(golden: ModuleType, meta: Mapping, ref: Mapping, outputs: Mapping[str, torch.Tensor]) -> None:
    """Every output of the golden is given and within its tolerance."""
    rows = golden.compare(meta, ref, {name: tensor.detach().numpy() for name, tensor in outputs.items()})
    assert {name for name, *_ in rows} == set(meta["outputs"]) == set(outputs)
    assert [(name, error, allowed) for name, error, allowed, ok in rows if not ok] == []


def sequence_of(meta: Mapping) -> VideoMamba | VideoFormer:
    """The network with the settings of a golden."""
    given = meta["constructor"]
    sizes = {
        "inputs": given["input_dim"],
        "hidden": given["hidden_dim"],
        "features": given["out_features"],
        "classes": given["num_classes"],
    }
    if "mamba_d_state" in given:
        return VideoMamba(**sizes, states=given["mamba_d_state"], kernel=given["mamba_ker_size"], layers=given["mamba_layer_number"])
    return VideoFormer(
        **sizes, heads=given["num_transformer_heads"], layers=given["tr_layer_number"], positions=given["positional_encoding"]
    )


@pytest.mark.parametrize("stem", SEQUENCES, indirect=True)
@pytest.mark.parametrize("masked", [False, True])
def test_sequences(golden: ModuleType, stem: Path, masked: bool) -> None:
    """All that the golden holds, also of the first block; a mask without padding changes nothing."""
    meta, ref = golden.load(stem)
    network = filled(golden, meta, sequence_of(meta))
    seen: dict[str, torch.Tensor] = {}

    def note(module: torch.nn.Module, name: str) -> None:
        module.register_forward_hook(lambda _, inputs, output: seen.update({name: output, f"{name} inputs": inputs}))

    note(network.image_proj, "stem")
    if isinstance(network, VideoMamba):
        for name, module in {"block0": network.mamba[0], "ssm_norm0": network.mamba[0].add_norm, "out": network.mamba[0].out_proj}.items():
            note(module, name)
    else:
        note(network.transformer[0], "layer0")
    (frames,) = inputs_of(golden, meta).values()
    with torch.no_grad():
        seen["logits"], seen["pooled"] = network(frames, torch.ones(frames.shape[:2], dtype=torch.bool) if masked else None)
    if isinstance(network, VideoMamba):
        seen |= {"ssm_scan0": seen["ssm_norm0 inputs"][1], "gated0": seen["out inputs"][0]}
    check(golden, meta, ref, {name: seen[name] for name in meta["outputs"]})


@pytest.mark.parametrize("stem", SEQUENCES, indirect=True)
def test_sizes_are_read_off_the_tensors(golden: ModuleType, stem: Path) -> None:
    meta, _ = golden.load(stem)
    wanted = sequence_of(meta)
    found = sequence_network.network_of(wanted.state_dict(), {"heads": meta["constructor"].get("num_transformer_heads", 4)})
    assert type(found) is type(wanted)
    filled(golden, meta, found)


@pytest.mark.parametrize("stem", ["ras_audio_head_v5", "ras_audio_head_v5_t50"], indirect=True)
@pytest.mark.parametrize("masked", [False, True])
def test_audio_head(golden: ModuleType, stem: Path, masked: bool) -> None:
    meta, ref = golden.load(stem)
    network = filled(golden, meta, UncertaintyHead(meta["constructor"]["hidden_size"], meta["constructor"]["num_emotions"]))
    (features,) = inputs_of(golden, meta).values()
    mask = torch.ones(features.shape[:2], dtype=torch.bool)
    with torch.no_grad():
        mu, logvar, feature = network(features, mask if masked else None)
        thirds = network.temporal_module.means(features, mask)
        outputs = {"mu": mu, "logvar": logvar, "feature": feature, "probs": (mu / TEMPERATURE).softmax(1)}
        outputs |= {f"segment{part}": said for part, said in enumerate(thirds)}
        outputs |= {"temporal": network.temporal_module(features, mask), "global": network.global_fc(features.mean(1))}
    check(golden, meta, ref, outputs)


@pytest.mark.parametrize("stem", sorted(FUSIONS), indirect=True)
@pytest.mark.parametrize("named", [False, True])
def test_feature_fusion(golden: ModuleType, stem: Path, named: bool) -> None:
    """As published from zeros, and where V3 and V4 are told what is missing; names and sizes are read off the tensors."""
    meta, ref = golden.load(stem)
    network = filled(golden, meta, FUSIONS[stem.name](meta["constructor"]["modality_dims"], meta["constructor"]["num_emotions"]))
    version, again = feature_network.network_of(tensors_of(golden, meta), {})
    assert (version, str(again), again.names) == (stem.name[-2:], str(network), network.names)
    features = inputs_of(golden, meta)
    there = {name: ~(values == 0).all(1) for name, values in features.items()}
    if named and version == "v2":  # the one version that knew no missing sources
        there = {name: torch.ones_like(values) for name, values in there.items()}
    seen: dict[str, torch.Tensor] = {}
    if "token_first" in meta["outputs"]:
        network.token_encoders[network.names[0]].register_forward_hook(lambda _, inputs, output: seen.update(token_first=output))
    with torch.no_grad():
        seen["logits"], seen["feature"] = network(features, there if named else None)
    check(golden, meta, ref, {name: seen[name] for name in meta["outputs"]})


@pytest.mark.parametrize("length", [1, 2, 3, 7, 20, 33, 256])
def test_scan_is_the_loop(length: int) -> None:
    """Against the plain recursion in double precision, where factors are above 1, far below it, and zero."""
    generator = torch.Generator().manual_seed(length)
    kept = torch.rand(3, length, 5, 4, generator=generator) * 1.3
    kept[0] *= 1e-12
    kept[1, length // 2] = 0.0
    added = torch.randn(3, length, 5, 4, generator=generator)
    state, wanted = torch.zeros(3, 5, 4, dtype=torch.float64), []
    for step in range(length):
        state = kept[:, step].double() * state + added[:, step].double()
        wanted.append(state)
    found = scan(kept, added)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), torch.stack(wanted, 1), rtol=1e-4, atol=1e-4)


def test_scan_has_the_gradient_of_the_loop() -> None:
    kept, added = (
        torch.rand(2, 9, 3, dtype=torch.float64, requires_grad=True),
        torch.randn(2, 9, 3, dtype=torch.float64, requires_grad=True),
    )
    assert torch.autograd.gradcheck(scan, (kept, added))


@pytest.mark.parametrize(
    "network", [VideoMamba(), VideoMamba(hidden=32, kernel=6), VideoFormer(hidden=64), VideoFormer(hidden=32, positions=True)]
)
def test_padding_of_sequences_changes_nothing(network: torch.nn.Module) -> None:
    """Whatever lies where the mask is false; without a mask it enters the mean, as published."""
    network.eval()
    frames = torch.randn(2, 12, 512, generator=torch.Generator().manual_seed(0))
    padded = torch.cat([frames, torch.full((2, 8, 512), 50.0)], 1)
    mask = torch.arange(20).expand(2, 20) < 12
    with torch.no_grad():
        alone, together, published = network(frames), network(padded, mask), network(padded)
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    assert (published[1] - alone[1]).abs().max() > 1e-2


@pytest.mark.parametrize("frames", [1, 2, 3, 49, 50])
def test_padding_of_sounds_changes_nothing(frames: int) -> None:
    network = UncertaintyHead(64).eval()
    features = torch.randn(2, frames, 64, generator=torch.Generator().manual_seed(0))
    padded = torch.cat([features, torch.full((2, 30, 64), 50.0)], 1)
    mask = torch.arange(frames + 30).expand(2, -1) < frames
    with torch.no_grad():
        for one, other in zip(network(features), network(padded, mask), strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("cls", FUSIONS.values())
def test_what_is_missing_says_nothing(cls: type) -> None:
    """Whatever stands in its place; of V1 and of the scene of V4 the published zeros must stand there."""
    network = cls({"one": 4, "two": 6, "new_scene": 5}).eval()
    features = {"one": torch.randn(2, 4), "two": torch.randn(2, 6), "new_scene": torch.randn(2, 5)}
    there = {name: torch.tensor([True, name != "two"]) for name in features}
    other = {**features, "two": torch.where(there["two"][:, None], features["two"], 3.0)}
    with torch.no_grad():
        first, second = network(features, there)[0], network(other, there)[0]
    torch.testing.assert_close(first[0], second[0])
    assert torch.equal(first[1], second[1]) == (cls is not FusionV1)


def test_strange_tensors_are_refused() -> None:
    with pytest.raises(CheckpointError, match="no weights of VideoMamba or VideoFormer"):
        sequence_network.network_of({"weight": torch.zeros(1)}, {})
    with pytest.raises(CheckpointError, match="divisible"):
        sequence_network.network_of(VideoFormer(hidden=8).state_dict(), {"heads": 3})
    with pytest.raises(CheckpointError, match="no weights of a feature fusion"):
        feature_network.network_of({"weight": torch.zeros(1)}, {})
    with pytest.raises(CheckpointError, match="found one"):
        feature_network.network_of(FusionV3({"one": 4}).state_dict(), {"names": ["one", "two"]})
