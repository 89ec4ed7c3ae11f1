"""ras/feature_fusion: embeddings of a run in, values and an embedding out, also where some are missing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from affectkit_ras.feature_fusion import PUBLISHED, FeatureFusion
from affectkit_ras.feature_network import VERSIONS, FusionV3

from affectkit.api import BASIC8, CheckpointError, ConfigError, Output, PluginError, Sources
from affectkit.builtin.pfsa import PFSA, save_pfsa
from affectkit.testing.contracts import examine
from affectkit.testing.opinions import NOTHING, ONLY_LAST, WITHOUT_FIRST
from affectkit.testing.opinions import sources as made_sources
from affectkit.weight_files import load_tensors, save_tensors

SOURCES = ("ras/audio", "ras/face_dynamic", "ras/face_static")
SIZES = {"audio_25": 6, "video": 5, "video_static": 7}


def sources() -> Sources:
    """Eight rows; of some of them one source, or all, had no evidence."""
    made = made_sources(BASIC8, SOURCES)
    random = torch.Generator().manual_seed(3)
    embeddings = {}
    for place, (name, size) in enumerate(SIZES.items()):
        values = torch.randn(len(made.values), size, generator=random)
        values[~made.valid[:, place].any(dim=1)] = torch.nan
        embeddings[PUBLISHED[name]] = values
    return replace(made, embeddings=embeddings)


def write(path: Path, version: str = "v3", **settings: Any) -> str:
    """Weights of one of the versions."""
    torch.manual_seed(0)
    network = VERSIONS[version]({**SIZES, **({"new_scene": 4} if version == "v4" else {})})  # type: ignore[index]
    save_tensors(path, network.state_dict(), {"settings": json.dumps({"labels": BASIC8.labels, **settings})})
    return str(path)


def made(checkpoint: str, **options: Any) -> FeatureFusion:
    component = FeatureFusion(FeatureFusion.Options(checkpoint=checkpoint, **options))
    component.id = "ras/feature_fusion"
    component.load(torch.device("cpu"), torch.float32)
    return component


def fused(component: FeatureFusion, given: Sources) -> Output:
    with torch.inference_mode():
        return component.fuse(given)


@pytest.mark.parametrize("version", VERSIONS)
def test_it_keeps_what_every_fusion_promises(tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FeatureFusion, "examples", staticmethod(sources), raising=False)
    outcomes = list(examine("fusion", FeatureFusion, {"checkpoint": write(tmp_path / "w.safetensors", version)}, id="ras/feature_fusion"))
    assert {outcome.check: outcome.reason for outcome in outcomes if outcome.state != "ok"} == {}


@pytest.mark.parametrize(("version", "size"), [("v1", 24), ("v2", 128), ("v3", 128), ("v4", 256)])
def test_rows_are_distributions_with_an_embedding(tmp_path: Path, version: str, size: int) -> None:
    output = fused(made(write(tmp_path / "w.safetensors", version)), sources())
    values, embedding = output.values[BASIC8], output.embeddings["fused"]
    assert embedding.shape == (8, size)
    said = torch.tensor([row != NOTHING for row in range(8)])
    assert torch.equal(values.isfinite().all(1), said)
    assert torch.equal(embedding.isfinite().all(1), said)
    torch.testing.assert_close(values[said].sum(1), torch.ones(7))


@pytest.mark.parametrize("version", ["v2", "v3", "v4"])
def test_a_source_that_is_missing_is_as_one_that_is_not_in_the_run(tmp_path: Path, version: str) -> None:
    component, given = made(write(tmp_path / "w.safetensors", version)), sources()
    assert component.trained_for is not None
    assert set(SOURCES) <= set(component.trained_for)
    without = replace(given, embeddings={name: value for name, value in given.embeddings.items() if name != "ras/audio:voice"})
    one, other = fused(component, given).values[BASIC8], fused(component, without).values[BASIC8]
    torch.testing.assert_close(one[WITHOUT_FIRST], other[WITHOUT_FIRST])
    torch.testing.assert_close(one[ONLY_LAST], other[ONLY_LAST])
    assert (one[0] - other[0]).abs().max() > 1e-4


def test_published_zeros_are_heard_by_v2_alone(tmp_path: Path) -> None:
    """V1 and V3 knew their missing sources by zeros; V2 took zeros for an embedding."""
    for version in VERSIONS:
        path = write(tmp_path / f"{version}.safetensors", version)
        rows = [fused(made(path, missing=missing), sources()).values[BASIC8] for missing in ("masked", "published")]
        torch.testing.assert_close(rows[0][0], rows[1][0])
        assert bool((rows[0][WITHOUT_FIRST] - rows[1][WITHOUT_FIRST]).abs().max() > 1e-4) == (version == "v2")


def test_values_of_the_sources_do_not_matter_but_their_embeddings_do(tmp_path: Path) -> None:
    component, given = made(write(tmp_path / "w.safetensors")), sources()
    same = fused(component, replace(given, values=given.values.flip(2)))
    assert torch.equal(fused(component, given).values[BASIC8][0], same.values[BASIC8][0])
    moved = {**given.embeddings, "ras/face_static:face": given.embeddings["ras/face_static:face"] + 1}
    assert not torch.allclose(
        fused(component, given).values[BASIC8][0], fused(component, replace(given, embeddings=moved)).values[BASIC8][0]
    )


def test_a_file_may_name_any_embeddings(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    settings = {
        "labels": BASIC8.labels,
        "inputs": {"mini_audio_voice": "mini/audio:voice"},
        "names": ["mini_audio_voice"],
        "temperature": 2.0,
    }
    save_tensors(path, FusionV3({"mini_audio_voice": 6}).state_dict(), {"settings": json.dumps(settings)})
    component = made(str(path))
    assert component.trained_for == ("mini/audio",)
    given = made_sources(BASIC8, ("mini/audio",))
    given = replace(given, embeddings={"mini/audio:voice": torch.randn(len(given.values), 6)})
    assert fused(component, given).values[BASIC8].isfinite().all()


def test_the_temperature_of_the_file_counts(tmp_path: Path) -> None:
    hot = fused(made(write(tmp_path / "hot.safetensors", temperature=100.0)), sources()).values[BASIC8]
    cold = fused(made(write(tmp_path / "cold.safetensors", temperature=0.1)), sources()).values[BASIC8]
    assert hot[0].max() < 0.15
    assert torch.equal(hot[0].argmax(), cold[0].argmax())


def test_pfsa_reads_what_it_gives(tmp_path: Path) -> None:
    save_pfsa(tmp_path / "p.safetensors", torch.randn(6, 128), "ras/feature_fusion:fused", {})
    head = PFSA(PFSA.Options(checkpoint=str(tmp_path / "p.safetensors")))
    head.load(torch.device("cpu"), torch.float32)
    component, given = made(write(tmp_path / "w.safetensors")), sources()
    output = fused(component, given)
    values = head.convert(output, replace(given, embeddings={"ras/feature_fusion:fused": output.embeddings["fused"]}))
    assert values.values[head.labels].isfinite().all(1).tolist() == [row != NOTHING for row in range(8)]


def test_random_weights_are_for_the_sources_of_the_recipe(tmp_path: Path) -> None:
    path = FeatureFusion().write_random("given", tmp_path, [*SOURCES, "mini/text"])
    assert made(str(path)).trained_for == SOURCES
    with pytest.raises(CheckpointError, match="only for the modalities of ras"):
        FeatureFusion().write_random("given", tmp_path, ["mini/text"])


def test_without_weights_the_command_that_makes_them_is_named() -> None:
    component = FeatureFusion()
    with pytest.raises(ConfigError, match=r"affectkit train ras/feature_fusion --data RUN --labels FILE --out \.'"):
        component.load(torch.device("cpu"), torch.float32)
    with pytest.raises(ConfigError, match="is not fitted"):
        component.fuse(sources())


def test_embeddings_of_another_size(tmp_path: Path) -> None:
    given = sources()
    other = replace(given, embeddings={**given.embeddings, "ras/audio:voice": torch.zeros(8, 3)})
    with pytest.raises(PluginError, match="was fitted to ras/audio:voice of 6 numbers, and the run has 3"):
        made(write(tmp_path / "w.safetensors")).fuse(other)


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        ({"query_token": None}, {}, r"^ras/feature_fusion: .*w\.safetensors does not fit FusionV3 .*1 missing: query_token"),
        ({}, {"inputs": {"audio_25": "ras/audio:voice"}}, "does not say which embeddings are meant by video, video_static"),
        (
            {},
            {"names": ["audio_25", "video"]},
            r"^ras/feature_fusion: .*w\.safetensors: these are no weights of a feature fusion of audio_25, video",
        ),
        ({}, {"labels": ["one"]}, "gives the labels"),
        ({}, {"inputs": ["ras/audio:voice"]}, r"inputs: expected .*, found \['ras/audio:voice'\]"),
        ({}, {"names": "audio_25"}, "names: expected a list, each text, found 'audio_25'"),
        ({}, {"temperature": None}, "temperature: expected a number, found null"),
    ],
)
def test_files_that_do_not_fit(tmp_path: Path, change: Mapping[str, Any], settings: Mapping[str, Any], message: str) -> None:
    path = Path(write(tmp_path / "w.safetensors"))
    tensors = {name: value for name, value in load_tensors(path).items() if name not in change}
    save_tensors(path, tensors, {"settings": json.dumps(settings)})
    with pytest.raises(CheckpointError, match=message):
        made(str(path))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("version", VERSIONS)
def test_a_gpu_agrees(tmp_path: Path, version: str) -> None:
    """Within 1e-4 of the values and 1e-3 of the embedding; it stays in single precision whatever is asked for."""
    path = write(tmp_path / "w.safetensors", version)
    component = FeatureFusion(FeatureFusion.Options(checkpoint=path))
    component.load(torch.device("cuda"), torch.bfloat16)
    found, wanted = fused(component, sources()), fused(made(path), sources())
    torch.testing.assert_close(found.values[BASIC8], wanted.values[BASIC8], atol=1e-4, rtol=0, equal_nan=True)
    torch.testing.assert_close(found.embeddings["fused"], wanted.embeddings["fused"], atol=1e-3, rtol=1e-3, equal_nan=True)
