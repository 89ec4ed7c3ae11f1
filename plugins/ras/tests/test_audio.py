"""ras/audio on made voices and random weights in the real formats."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from affectkit_ras.audio import PUBLISHED, SHORTEST, AudioEmotion
from affectkit_ras.speech import KIND, RATE
from affectkit_ras.voice_frames import VoiceReader
from click.testing import CliRunner

from affectkit.api import BASIC8, CheckpointError, Clip, Evidence, Output
from affectkit.batching import collate
from affectkit.cli import cli
from affectkit.testing import examples
from affectkit.testing.contracts import examine
from affectkit.weight_files import load_tensors, save_tensors


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Options that name random weights."""
    folder = tmp_path_factory.mktemp("audio")
    component = AudioEmotion()
    return {tag: str(component.write_random(tag, folder)) for tag in component.used_checkpoints()}


def made(weights: Mapping[str, str], **options: Any) -> AudioEmotion:
    component = AudioEmotion(AudioEmotion.Options(**{**weights, **options}))
    component.id = "ras/audio"
    component.load(torch.device("cpu"), torch.float32)
    return component


def speech(share: float = 0.5) -> Evidence:
    return Evidence(KIND, {"share": share, "segments": ((0.0, 1.0),)}, quality={"speech": share})


def clips() -> list[Clip]:
    """Four voices of 4, 1.3, 2.7 and 4 seconds."""
    return [replace(clip, inputs={KIND: speech()}) for clip in examples.clips(AudioEmotion(AudioEmotion.Options(speech=False)).needs)]


def said(component: AudioEmotion, *given: Clip) -> Output:
    rows = [component.preprocess(clip) for clip in given]
    assert all(row is not None for row in rows)
    with torch.inference_mode():
        return component.predict(collate([row for row in rows if row is not None]))


def test_it_keeps_what_every_modality_promises(weights: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AudioEmotion, "examples", staticmethod(clips), raising=False)
    outcomes = list(examine("modality", AudioEmotion, weights, id="ras/audio"))
    assert {outcome.check: outcome.reason for outcome in outcomes if outcome.state != "ok"} == {}


@pytest.mark.parametrize("padding", ["own", "published"])
def test_neighbours_change_nothing(weights: dict[str, str], padding: str) -> None:
    component = made(weights, padding=padding)
    together = said(component, *clips())
    assert set(together.quality) == {"uncertainty", "speech"}
    assert together.embeddings["voice"].shape == (4, 256)
    for row, clip in enumerate(clips()):
        alone = said(component, clip)
        torch.testing.assert_close(together.values[BASIC8][row], alone.values[BASIC8][0], atol=1e-5, rtol=0)
        torch.testing.assert_close(together.embeddings["voice"][row], alone.embeddings["voice"][0], atol=1e-4, rtol=1e-4)


def test_a_mask_would_not_have_been_enough(weights: dict[str, str]) -> None:
    """WavLM's first layer normalises over time: padded sounds say something else there even with an attention mask."""
    reader = made(weights).frames
    sound = torch.from_numpy(examples.voice(1.3, RATE))[None]
    padded = torch.nn.functional.pad(sound, (0, RATE))
    real = torch.arange(padded.shape[1])[None] < sound.shape[1]
    with torch.inference_mode():
        frames, mask = reader(padded, real)
        masked = reader._model(padded, attention_mask=real.long()).last_hidden_state[:, : frames.shape[1]]
        torch.testing.assert_close(frames, reader(sound, torch.ones_like(sound, dtype=torch.bool))[0])
    assert mask.all()
    assert (masked - frames).abs().max() > 1e-2


def test_published_sounds_are_four_seconds(weights: dict[str, str]) -> None:
    component = made(weights, padding="published")
    short, long = clips()[1], replace(clips()[0], audio=examples.voice(6.0, RATE))
    rows = [component.preprocess(clip) for clip in (short, long)]
    assert [row["sound"].shape for row in rows if row is not None] == [(PUBLISHED,), (PUBLISHED,)]
    assert rows[0] is not None
    assert not rows[0]["sound"][len(short.audio) :].any()  # type: ignore[arg-type]
    assert (said(component, short).values[BASIC8] - said(made(weights), short).values[BASIC8]).abs().max() > 1e-4


def test_the_waveform_is_heard_as_it_is(weights: dict[str, str]) -> None:
    component = made(weights)
    row = component.preprocess(clips()[0])
    assert row is not None
    assert np.array_equal(row["sound"].numpy(), clips()[0].audio)


def test_no_speech_is_no_evidence_unless_told_otherwise(weights: dict[str, str]) -> None:
    component, deaf = made(weights), made(weights, speech=False)
    silent = replace(clips()[0], inputs={KIND: Evidence.none(KIND, "no speech")})
    bare = replace(clips()[0], inputs={})
    assert [item.kind for item in component.needs.inputs] == [KIND]
    assert deaf.needs.inputs == ()
    assert component.preprocess(silent) is None
    assert component.preprocess(bare) is None
    assert set(said(deaf, silent, bare).quality) == {"uncertainty"}
    assert said(component, replace(clips()[0], inputs={KIND: speech(0.25)})).quality["speech"].tolist() == [0.25]


def test_the_sound_that_it_needs_is_shown() -> None:
    done = CliRunner().invoke(cli, ["plugins", "show", "ras", "--json"])
    assert done.exit_code == 0, done.output
    (shown,) = [component for component in json.loads(done.stdout)["components"] if component["id"] == "ras/audio"]
    assert shown["needs"] == ["Audio(rate=16000)"]


def test_lower_precision_says_about_the_same(weights: dict[str, str]) -> None:
    component = made(weights)
    single = said(component, *clips())
    with torch.autocast("cpu", torch.bfloat16):
        half = said(component, *clips())
    assert half.values[BASIC8].dtype == torch.float32
    assert (single.values[BASIC8] - half.values[BASIC8]).abs().max() < 0.1


def test_too_little_sound_is_no_evidence(weights: dict[str, str]) -> None:
    component, clip = made(weights), clips()[0]
    assert component.preprocess(replace(clip, audio=None)) is None
    assert component.preprocess(replace(clip, audio=clip.audio[: SHORTEST - 1])) is None  # type: ignore[index]
    assert said(component, replace(clip, audio=clip.audio[:SHORTEST])).values[BASIC8].shape == (1, 8)  # type: ignore[index]


def test_uncertainty_is_that_of_the_classes_that_are_likely(weights: dict[str, str], tmp_path: Path) -> None:
    """With equal variances it is their root."""
    tensors = load_tensors(Path(weights["head"]))
    tensors["uncertainty_head.logvar_layer.weight"].zero_()
    tensors["uncertainty_head.logvar_layer.bias"].fill_(2.0)
    save_tensors(tmp_path / "head.safetensors", tensors, {"settings": "{}"})
    output = said(made(weights, head=str(tmp_path / "head.safetensors")), *clips())
    torch.testing.assert_close(output.quality["uncertainty"], torch.full((4,), float(np.e)))


def test_the_temperature_is_the_published_one_where_the_file_names_none(weights: dict[str, str], tmp_path: Path) -> None:
    tensors = load_tensors(Path(weights["head"]))
    files = {}
    for name, settings in {"plain": {}, "published": {"temperature": 1.5}, "cold": {"temperature": 0.3}}.items():
        files[name] = tmp_path / f"{name}.safetensors"
        save_tensors(files[name], tensors, {"settings": json.dumps(settings)})
    rows = {name: said(made(weights, head=str(path)), *clips()).values[BASIC8] for name, path in files.items()}
    assert torch.equal(rows["plain"], rows["published"])
    assert not torch.allclose(rows["plain"], rows["cold"])


def test_an_encoder_that_comes_with_the_head(weights: dict[str, str], tmp_path: Path) -> None:
    """The authors' file holds the tuned encoder as well, under the names that torch had for weight norm before version 2."""
    backbone = made(weights).frames._model.state_dict()
    old = {
        name.replace("parametrizations.weight.original0", "weight_g").replace("parametrizations.weight.original1", "weight_v"): value
        for name, value in backbone.items()
    }
    assert any(name.endswith("weight_g") for name in old)
    tensors = load_tensors(Path(weights["head"]))
    same = {**tensors, **{f"encoder.{name}": value for name, value in old.items()}}
    other = {**same, **{name: value * 1.5 for name, value in same.items() if name.startswith("encoder.") and "out_proj" in name}}
    rows = {"alone": said(made(weights), *clips()).embeddings["voice"]}
    for name, state in {"same": same, "other": other}.items():
        torch.save(state, tmp_path / f"{name}.pt")
        rows[name] = said(made(weights, head=str(tmp_path / f"{name}.pt")), *clips()).embeddings["voice"]
    torch.testing.assert_close(rows["same"], rows["alone"])
    assert (rows["other"] - rows["alone"]).abs().max() > 1e-4
    torch.save({**tensors, "encoder.strange": torch.zeros(1)}, tmp_path / "strange.pt")
    with pytest.raises(CheckpointError, match="holds an encoder of another shape than the backbone's: strange"):
        made(weights, head=str(tmp_path / "strange.pt"))


def test_without_a_head_the_command_that_makes_one_is_named(
    weights: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tensors(tmp_path / "audio.safetensors", {"conv.weight": torch.zeros(3)})  # what another plugin's training wrote
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        CheckpointError,
        match=r"the weights ras_audio\.safetensors are not here .* 'affectkit train ras/audio --data RUN --labels FILE --out \.'",
    ):
        made(weights, head=None)


@pytest.mark.parametrize(
    ("name", "value", "settings", "message"),
    [
        ("global_fc.0.bias", None, {}, r"^ras/audio: .*1 missing: global_fc\.0\.bias"),
        ("extra", torch.zeros(1), {}, "1 unexpected: extra"),
        ("global_fc.0.bias", torch.zeros(3), {}, "1 of another shape"),
        ("global_fc.0.bias", torch.zeros(256), {"backbone": "f" * 16}, "was made with another backbone"),
        ("global_fc.0.bias", torch.zeros(256), {"labels": ["joy"] * 8}, "label set 'labels' names joy twice"),
        ("global_fc.0.bias", torch.zeros(256), {"labels": 8}, "labels: expected a list, each text, found 8"),
        ("global_fc.0.bias", torch.zeros(256), {"temperature": -1}, "temperature must be a number above 0, found -1"),
    ],
)
def test_heads_that_do_not_fit(
    weights: dict[str, str], tmp_path: Path, name: str, value: torch.Tensor | None, settings: dict[str, Any], message: str
) -> None:
    tensors = {**load_tensors(Path(weights["head"])), name: value}
    save_tensors(tmp_path / "head.safetensors", {k: v for k, v in tensors.items() if v is not None}, {"settings": json.dumps(settings)})
    with pytest.raises(CheckpointError, match=message):
        made(weights, head=str(tmp_path / "head.safetensors"))


def test_a_backbone_that_lacks_a_tensor(weights: dict[str, str], tmp_path: Path) -> None:
    for file in Path(weights["backbone"]).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    kept = {k: v for k, v in load_tensors(tmp_path / "model.safetensors").items() if "layers.1.attention.q_proj.bias" not in k}
    save_tensors(tmp_path / "model.safetensors", kept, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 tensors missing: encoder\.layers\.1\.attention\.q_proj\.bias"):
        made(weights, backbone=str(tmp_path))


def test_the_public_file_is_of_an_older_make(weights: dict[str, str], tmp_path: Path) -> None:
    """A ``pytorch_model.bin`` with the names that torch had for weight norm before version 2, and the head of another task."""
    shutil.copy(Path(weights["backbone"]) / "config.json", tmp_path)
    old = {
        name.replace("parametrizations.weight.original0", "weight_g").replace("parametrizations.weight.original1", "weight_v"): value
        for name, value in load_tensors(Path(weights["backbone"]) / "model.safetensors").items()
    }
    assert {"classifier.weight", "wavlm.encoder.pos_conv_embed.conv.weight_g"} <= set(old)
    torch.save(old, tmp_path / "pytorch_model.bin")
    wanted = said(made(weights), *clips()).embeddings["voice"]
    torch.testing.assert_close(said(made(weights, backbone=str(tmp_path)), *clips()).embeddings["voice"], wanted)


@pytest.mark.slow
def test_the_published_width(tmp_path: Path) -> None:
    """WavLM base as the library defines it, with random numbers: loaded strictly, heard once, 199 frames of 4 seconds."""
    from transformers import WavLMConfig, WavLMForAudioFrameClassification

    WavLMForAudioFrameClassification(WavLMConfig()).save_pretrained(tmp_path)
    reader = VoiceReader(tmp_path, "ras/audio", torch.device("cpu"))
    sound = torch.from_numpy(examples.voice(4.0, RATE))[None]
    with torch.inference_mode():
        frames, mask = reader(sound, torch.ones_like(sound, dtype=torch.bool))
    assert (frames.shape, int(mask.sum())) == ((1, 199, 768), 199)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_agrees(weights: dict[str, str]) -> None:
    """Within 1e-3 in single precision, and 0.1 in bf16."""
    component = AudioEmotion(AudioEmotion.Options(**weights))
    component.load(torch.device("cuda"), torch.float32)
    wanted = said(made(weights), *clips()).values[BASIC8]
    rows = [row for clip in clips() if (row := component.preprocess(clip)) is not None]
    moved = {name: value.cuda() for name, value in collate(rows).items()}
    with torch.inference_mode():
        found = component.predict(moved).values[BASIC8].cpu()
        with torch.autocast("cuda", torch.bfloat16):
            half = component.predict(moved).values[BASIC8].cpu()
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=0)
    torch.testing.assert_close(half, wanted, atol=0.1, rtol=0)
