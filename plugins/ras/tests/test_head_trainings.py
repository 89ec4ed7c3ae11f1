"""Heads of ras/face_dynamic and ras/audio and the fusion of features, made of labelled runs, and used by runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from affectkit_ras.audio import AudioEmotion
from affectkit_ras.audio_network import UncertaintyHead
from affectkit_ras.face_dynamic import FaceDynamic
from affectkit_ras.feature_fusion import FeatureFusion
from affectkit_ras.headed import Headed
from affectkit_ras.sequence_network import VideoFormer, VideoMamba
from affectkit_ras.trainings.feature_fusion import FeatureFusionTraining, grid, name_of, stacked
from affectkit_ras.trainings.sequences import AudioTraining, FaceDynamicTraining
from click.testing import CliRunner

from affectkit import plugins, read_run, run
from affectkit.api import BASIC8, COMPOUND7, CheckpointError, ConfigError, UsageError
from affectkit.builtin.pfsa import save_pfsa
from affectkit.cli import cli
from affectkit.config import Recipe
from affectkit.making import Made, make
from affectkit.media import Media
from affectkit.options import build
from affectkit.store import Part, Run
from affectkit.testing import examples
from affectkit.testing.contracts import examine
from affectkit.testing.media import make_video
from affectkit.training_recipes import Plan
from affectkit.weight_files import load_tensors, metadata

MEDIA = 8
CLASSES = ("happiness", "sadness")
EMBEDDINGS = ("mini/audio:voice", "mini/face_static:face")


@pytest.fixture(scope="module")
def registry() -> plugins.Registry:
    return plugins.load()


@pytest.mark.parametrize("component", [FaceDynamic, AudioEmotion])
def test_what_a_training_writes_is_what_its_component_looks_for(component: type[Headed], registry: plugins.Registry) -> None:
    plan = Plan.load(f"ras/{component.name}", find=registry.training_recipe, data="runs")
    assert component().used_checkpoints()["head"].uri == f"{plan.name}.safetensors"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, registry: plugins.Registry) -> Path:
    """A run over eight clips of five seconds with a drawn face and a made voice, which look and sound like their labels, and their annotations."""
    folder = tmp_path_factory.mktemp("clips")
    lines, paths = ["media,label"], []
    for number in range(MEDIA):
        label = number % 2

        def picture(time: float, number: int = number, label: int = label) -> np.ndarray:
            image = examples.picture((240, 320), number, time)
            return image if label else image[:, ::-1] // 2 + 60

        def sound(times: np.ndarray, number: int = number, label: int = label) -> np.ndarray:
            return examples.voice(len(times) / 16000, 16000, 2 * number + label) * (1.0 if label else 0.3)

        paths.append(make_video(folder / f"clip{number}.mp4", seconds=5, fps=5, size=(240, 320), picture=picture, sound=sound))
        lines.append(f"clip{number},{CLASSES[label]}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    result = run(paths, folder / "run", plugins="mini/audio,mini/face_static", registry=registry, device="cpu", embeddings=True)
    assert result.failures == ()
    return folder


def trained(data: Path, registry: plugins.Registry, out: Path, training: str, options: dict[str, Any], **changes: Any) -> Made:
    given = {"labels": str(data / "labels.csv"), "set": "basic8", "licence": "CC0-1.0", **options}
    how = {"epochs": 6, "batch_size": 4, "optimiser": {"rate": 0.003}, "store": "fp32", "seed": 1, **changes}
    return make(build(Plan, {"training": training, "data": str(data / "run"), "options": given, **how}), registry, out, device="cpu")


def settings_of(made: Made) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(metadata(made.files[0])["settings"])
    return found


def rows_of(path: Path, source: str, labels: str = "basic8") -> pd.DataFrame:
    table = read_run(path, labels)
    return table[table["source"] == source]


@pytest.mark.parametrize("version", ["v1", "v2", "v3", "v4"])
def test_feature_fusion_is_trained_and_used(data: Path, registry: plugins.Registry, tmp_path: Path, version: str) -> None:
    """Also its embedding: it is in the run folder, and PFSA reads it."""
    options = {"embeddings": list(EMBEDDINGS), "version": version, "scene": EMBEDDINGS[0]}
    made = trained(data, registry, tmp_path / "out", "ras/feature_fusion_training", options)
    settings = settings_of(made)
    assert settings["inputs"] == dict(zip(("mini_audio_voice", "mini_face_static_face"), EMBEDDINGS, strict=True))
    component = FeatureFusion(FeatureFusion.Options(checkpoint=str(made.files[0])))
    component.load(torch.device("cpu"), torch.float32)
    assert component.trained_for == ("mini/audio", "mini/face_static")
    if version != "v3":
        return
    save_pfsa(tmp_path / "pfsa.safetensors", torch.randn(6, 128), "ras/feature_fusion:fused", {})
    recipe = Recipe(
        modalities=("mini/audio", "mini/face_static"),
        providers={"faces": ("mini/faces",)},
        fusion="ras/feature_fusion",
        head="core/pfsa",
        components={
            "ras/feature_fusion": {"checkpoint": str(made.files[0])},
            "core/pfsa": {"checkpoint": str(tmp_path / "pfsa.safetensors")},
        },
    )
    clips = [data / "clip0.mp4", data / "clip1.mp4"]
    result = run(clips, tmp_path / "run", recipe=recipe, registry=registry, device="cpu", embeddings=True)
    assert result.failures == ()
    fused = rows_of(tmp_path / "run", "ras/feature_fusion")
    assert fused["valid"].all()
    assert fused[[f"p_{label}" for label in BASIC8.labels]].sum(axis=1).to_numpy() == pytest.approx(1.0)
    assert rows_of(tmp_path / "run", "core/pfsa", COMPOUND7.name)["valid"].all()
    vectors = pd.read_parquet(tmp_path / "run" / "embeddings.parquet")
    mine = vectors[vectors["source"] == "ras/feature_fusion"]
    assert set(mine["name"]) == {"fused"}
    assert len(mine) == len(fused)
    assert {len(vector) for vector in mine["vector"]} == {128}


def test_feature_fusion_learns(registry: plugins.Registry, tmp_path: Path) -> None:
    """What one source alone cannot tell: each knows half of what tells four classes apart."""
    random = np.random.default_rng(0)
    target = Run(tmp_path / "run", {"recipe": {"modalities": []}}, digest="x" * 64, embeddings=True)
    target.begin()
    lines = ["media,label"]
    for number in range(32):
        label, name = number % 4, f"m{number}"
        lines.append(f"{name},{BASIC8.labels[label]}")
        path = tmp_path / name
        path.write_bytes(b"")
        rows: list[tuple[int, float, float, str, str, np.ndarray]] = []
        for window in range(3):
            for place, source in enumerate(("ras/audio:voice", "ras/face_static:face")):
                vector = random.normal(0, 0.3, 4) + 2 * np.eye(4)[(label // 2, 2 + label % 2)[place]]
                rows.append((-1, 2.0 * window, 2.0 * window + 4, *source.split(":"), vector.astype(np.float32)))  # type: ignore[arg-type]
        target.write(Part(Media(name, path, "audio", duration=8.0), [], embeddings=rows))
    target.save(label_sets={})
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    made = trained(tmp_path, registry, tmp_path / "out", "ras/feature_fusion_training", {}, epochs=8, batch_size=16)
    assert settings_of(made)["names"] == ["audio_25", "video_static"]
    assert made.record["validation"]["all"]["war"]["value"] > 0.9


@pytest.mark.parametrize("network", ["mamba", "former"])
def test_face_dynamic_is_trained_and_used(
    data: Path, registry: plugins.Registry, tmp_path: Path, network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = str(FaceDynamic().write_random("backbone", tmp_path))
    options = {
        "backbone": backbone,
        "network": network,
        "hidden": 16,
        "layers": 1,
        "heads": 2,
        "features": 8,
        "cache": str(tmp_path / "kept"),
    }
    made = trained(data, registry, tmp_path / "out", "ras/face_dynamic_training", options)
    assert (settings_of(made).get("heads") == 2) == (network == "former")
    component = FaceDynamic(FaceDynamic.Options(head=str(made.files[0]), backbone=backbone))
    component.load(torch.device("cpu"), torch.float32)
    assert isinstance(component._head, VideoMamba if network == "mamba" else VideoFormer)
    kept = sorted((tmp_path / "kept").iterdir())
    assert len(kept) == 2 * MEDIA
    with monkeypatch.context() as patch:  # the second training reads no medium
        patch.setattr("affectkit.reader.Reader.windows", lambda self: pytest.fail("read again"))
        again = trained(data, registry, tmp_path / "again", "ras/face_dynamic_training", options)
    one, other = (load_tensors(found.files[0]) for found in (made, again))
    assert all(torch.equal(one[name], other[name]) for name in one)
    recipe = Recipe(
        modalities=("ras/face_dynamic",),
        providers={"faces": ("mini/faces",)},
        components={"ras/face_dynamic": {"head": str(made.files[0]), "backbone": backbone}},
    )
    assert run([data / "clip0.mp4"], tmp_path / "run", recipe=recipe, registry=registry, device="cpu").failures == ()
    said = rows_of(tmp_path / "run", "ras/face_dynamic")
    before = rows_of(data / "run", "mini/face_static", "basic7")
    assert said["valid"].all()
    assert said["start"].tolist() == before[before["media"] == "clip0"]["start"].tolist()


def test_what_is_kept_is_what_a_run_sees(data: Path, registry: plugins.Registry, tmp_path: Path) -> None:
    """Frames of the training are those of the component on the same window, half as precise."""
    backbone = str(FaceDynamic().write_random("backbone", tmp_path))
    training = FaceDynamicTraining(
        FaceDynamicTraining.Options(labels=data / "labels.csv", set="basic8", backbone=backbone, cache=tmp_path / "kept", held=0.5)
    )
    training.id = "ras/face_dynamic_training"
    parts = training.parts(data / "run")
    batch = parts["train"].batch(np.arange(2), None)
    assert batch["frames"].shape[2] == training.known()
    assert batch["mask"].sum(axis=1).tolist() == parts["train"].lengths[:2].tolist()  # type: ignore[index]
    assert not batch["frames"][~batch["mask"]].any()
    assert batch["soft"].sum(axis=1) == pytest.approx(1.0)
    assert {BASIC8.labels[column] for column in parts["train"].truth} <= set(CLASSES)
    assert sum(len(part) for part in parts.values()) == 2 * MEDIA  # windows from 0 and 2 s of five seconds


@pytest.mark.parametrize(("training", "detectors"), [("face_dynamic", ["cpu:0"]), ("audio", [])])
def test_backbones_and_providers_read_where_device_says(
    data: Path, registry: plugins.Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, training: str, detectors: list[str]
) -> None:
    """As told by ``--device``; a processor with a number stands in for a GPU."""
    component: Any = registry.get(f"ras/{training}").cls
    there: dict[str, list[str]] = {"backbones": [], "detectors": []}
    backbone, detector = component.load_backbone, registry.get("mini/faces").cls.load  # type: ignore[attr-defined]

    def load_backbone(self: Any, device: torch.device) -> None:
        there["backbones"].append(str(device))
        backbone(self, device)

    def load(self: Any, device: torch.device, dtype: torch.dtype) -> None:
        there["detectors"].append(str(device))
        detector(self, device, dtype)

    monkeypatch.setattr(component, "load_backbone", load_backbone)
    monkeypatch.setattr(registry.get("mini/faces").cls, "load", load)
    words = [
        "train",
        f"ras/{training}",
        "--data",
        data / "run",
        "--labels",
        data / "labels.csv",
        "--out",
        tmp_path / "out",
        "--device",
        "cpu:0",
    ]
    changes = {"epochs": 1, "batch_size": 4, "options.set": "basic8", "options.cache": tmp_path / "kept"}
    changes["options.backbone"] = component().write_random("backbone", tmp_path)
    changes |= {"options.speech": False} if training == "audio" else {}
    done = CliRunner().invoke(cli, [*map(str, words), *(word for item in changes.items() for word in ("--set", "{}={}".format(*item)))])
    assert done.exit_code == 0, done.output
    assert there == {"backbones": ["cpu:0"], "detectors": detectors}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize(("training", "given"), [(FaceDynamicTraining, {}), (AudioTraining, {"speech": False})])
def test_what_is_kept_of_a_gpu_is_what_a_processor_says(data: Path, tmp_path: Path, training: Any, given: dict[str, Any]) -> None:
    backbone = str(training(training.Options(labels=data / "labels.csv")).component().write_random("backbone", tmp_path))
    kept = []
    for device in ("cpu", "cuda:0"):
        where = {"backbone": backbone, "cache": tmp_path / device}
        made = training(training.Options(labels=data / "labels.csv", set="basic8", **where, **given))
        made.device = device
        part = made.parts(data / "run")["train"]
        kept.append(part.batch(np.arange(len(part)), None))
    np.testing.assert_allclose(kept[0]["frames"], kept[1]["frames"], atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize(("training", "given"), [(FaceDynamicTraining, {}), (AudioTraining, {"speech": False})])
def test_windows_are_read_together_and_kept_as_if_alone(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, training: Any, given: dict[str, Any]
) -> None:
    """Windows of 4 and 3 seconds, within what half precision keeps."""
    component = training(training.Options(labels=data / "labels.csv")).component()
    sizes: list[int] = []
    embed = type(component).embed
    monkeypatch.setattr(
        type(component), "embed", lambda self, batch: (sizes.append(len(next(iter(batch.values())))), embed(self, batch))[1]
    )
    kept = []
    for together in (1, 16):
        monkeypatch.setattr("affectkit_ras.trainings.clips.TOGETHER", together)
        where = {"backbone": str(component.write_random("backbone", tmp_path)), "cache": tmp_path / f"kept{together}"}
        made = training(training.Options(labels=data / "labels.csv", set="basic8", **where, **given))
        parts = made.parts(data / "run")
        kept.append([parts[name].batch(np.arange(len(parts[name])), None) for name in sorted(parts)])
    assert sizes == [1] * 2 * MEDIA + [2] * MEDIA
    for one, other in zip(*kept, strict=True):
        assert np.array_equal(one["mask"], other["mask"])
        np.testing.assert_allclose(one["frames"], other["frames"], atol=2e-3, rtol=2e-3)


def test_audio_is_trained_and_used(data: Path, registry: plugins.Registry, tmp_path: Path) -> None:
    backbone = str(AudioEmotion().write_random("backbone", tmp_path))
    options = {"backbone": backbone, "speech": False, "soft": 0.5, "cache": str(tmp_path / "kept")}
    made = trained(data, registry, tmp_path / "out", "ras/audio_training", options)
    assert settings_of(made)["temperature"] > 0
    given = {"head": str(made.files[0]), "backbone": backbone, "speech": False}
    component = AudioEmotion(AudioEmotion.Options(**given))
    component.load(torch.device("cpu"), torch.float32)
    assert isinstance(component._head, UncertaintyHead)
    recipe = Recipe(modalities=("ras/audio",), components={"ras/audio": given})
    assert run([data / "clip0.mp4"], tmp_path / "run", recipe=recipe, registry=registry, device="cpu").failures == ()
    assert rows_of(tmp_path / "run", "ras/audio")["valid"].all()


@pytest.mark.parametrize(("component", "given"), [(FaceDynamic, {}), (AudioEmotion, {"speech": False})])
def test_the_advised_command_makes_the_head_where_it_is_looked_for(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, component: type[Headed], given: dict[str, Any]
) -> None:
    """As printed, but for the names of run and labels and what makes it quick."""
    monkeypatch.chdir(tmp_path)
    given = {**given, "backbone": str(component().write_random("backbone", tmp_path))}
    wanted = component(component.Options(**given))
    wanted.id = f"ras/{component.name}"
    with pytest.raises(CheckpointError) as absent:
        wanted.load(torch.device("cpu"), torch.float32)
    advised(
        str(absent.value),
        r"Make them with '(.*?)'",
        data,
        f"options.cache={tmp_path / 'kept'}",
        *(f"options.{k}={v}" for k, v in given.items()),
    )
    wanted.load(torch.device("cpu"), torch.float32)


def test_the_advised_command_makes_a_fusion(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as absent:
        FeatureFusion().load(torch.device("cpu"), torch.float32)
    advised(str(absent.value), r"'(affectkit train .*?)'", data, f"options.embeddings={json.dumps(EMBEDDINGS)}")
    (name,) = re.findall(r"ras/feature_fusion\.checkpoint=(\S+?);", str(absent.value))
    FeatureFusion(FeatureFusion.Options(checkpoint=name)).load(torch.device("cpu"), torch.float32)


def advised(message: str, pattern: str, data: Path, *overrides: str) -> None:
    """Calls the command in a message."""
    found = re.search(pattern, message)
    assert found is not None, message
    places = {"RUN": str(data / "run"), "FILE": str(data / "labels.csv")}
    words = [places.get(word, word) for word in found[1].split()[1:]]
    changes = ["epochs=1", "batch_size=4", "options.set=basic8", *overrides]
    done = CliRunner().invoke(cli, [*words, "--device", "cpu", *(word for text in changes for word in ("--set", text))])
    assert done.exit_code == 0, done.output


def test_an_input_that_nothing_makes_is_told(
    data: Path, registry: plugins.Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not taken for windows without speech, which would be kept as such."""
    monkeypatch.setenv("AFFECTKIT_CACHE", str(tmp_path / "empty"))
    options = {"backbone": str(AudioEmotion().write_random("backbone", tmp_path)), "cache": str(tmp_path / "kept")}
    with pytest.raises(
        UsageError,
        match=r"ras/audio learns from windows with 'speech', which nothing makes: ras/speech is not ready.* With --set options\.speech=false it learns",
    ):
        trained(data, registry, tmp_path / "out", "ras/audio_training", options)
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize(("training", "backbone"), [("face_dynamic", "clip-vit-base-patch32"), ("audio", "wavlm-base-plus-sd")])
def test_a_backbone_that_is_not_here_is_told_with_the_option_of_the_training(
    data: Path, registry: plugins.Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, training: str, backbone: str
) -> None:
    for name in ("AFFECTKIT_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "empty"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    expected = rf"affectkit weights fetch ras/{training}:backbone'.* or give a local folder: --set options\.backbone=/path/to/{backbone}$"
    with pytest.raises(CheckpointError, match=expected):
        trained(data, registry, tmp_path / "out", f"ras/{training}_training", {})


def test_recipes_that_ship_can_be_read(registry: plugins.Registry, data: Path, tmp_path: Path) -> None:
    """And are refused with the reason where the data are not as they must be."""
    for name in ("face_dynamic", "audio", "feature_fusion"):
        plan = Plan.load(f"ras/{name}", find=registry.training_recipe, overrides=[f"options.labels={data / 'labels.csv'}"], data=tmp_path)
        with pytest.raises(UsageError, match="is not a run folder"):
            make(plan, registry, tmp_path / "out", device="cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "a fusion needs two embeddings or more"),
        ({"embeddings": [EMBEDDINGS[0], "mini/audio:voices"]}, "Did you mean mini/audio:voice"),
        ({"embeddings": [EMBEDDINGS[0]]}, "a fusion needs two embeddings or more"),
        ({"embeddings": list(EMBEDDINGS), "version": "v4"}, "V4 needs the embedding of a scene"),
    ],
)
def test_runs_without_what_is_wanted(data: Path, registry: plugins.Registry, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        trained(data, registry, tmp_path, "ras/feature_fusion_training", options)


@pytest.mark.parametrize(
    ("training", "options", "message"),
    [
        (FeatureFusionTraining, {"version": "v5"}, "version must be one of v1, v2, v3, v4"),
        (FeatureFusionTraining, {"gamma": -1.0}, "gamma must not be negative"),
        (FaceDynamicTraining, {"network": "lstm"}, "network must be one of mamba, former"),
        (FaceDynamicTraining, {"layers": 0}, "must be at least 1"),
        (FaceDynamicTraining, {"network": "former", "hidden": 10, "heads": 4}, "a multiple of heads"),
        (AudioTraining, {"soft": 2.0}, r"soft must be in \[0, 1\]"),
    ],
)
def test_options_that_make_no_sense(training: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        training.Options(labels=Path("labels.csv"), **options)


@pytest.mark.parametrize("training", [FeatureFusionTraining, FaceDynamicTraining, AudioTraining])
def test_they_keep_what_every_training_promises(training: Any) -> None:
    outcomes = list(examine("training", training, {"labels": "labels.csv"}, id=f"ras/{training.name}"))
    assert {outcome.check for outcome in outcomes if outcome.state == "broken"} == set()


def test_names_of_embeddings() -> None:
    assert [name_of(name) for name in ("ras/label_match:image", "a/b-c:d.e")] == ["clip", "a_b_c_d_e"]


def test_sound_counts_for_every_subject() -> None:
    voice = {("run", "a", -1, 0.0, 4.0): np.ones(2, np.float32), ("run", "a", -1, 2.0, 6.0): np.zeros(2, np.float32)}
    face = {("run", "a", track, 0.0, 4.0): np.full(3, track, np.float32) for track in (0, 1)}
    windows = grid([voice, face])
    assert sorted(window[2:] for window in windows) == [(-1, 2.0, 6.0), (0, 0.0, 4.0), (1, 0.0, 4.0)]
    assert stacked(voice, windows, 2).tolist() == [[0.0, 0.0] if window[2] < 0 else [1.0, 1.0] for window in windows]
    assert np.isnan(stacked(face, windows, 3)).all(axis=1).tolist() == [window[2] < 0 for window in windows]


def test_the_beginning_of_the_training_is_soft(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    monkeypatch.setattr("affectkit_ras.trainings.losses.uncertain", lambda *given, soft: (seen.append(soft), torch.zeros(()))[1])
    training = AudioTraining(AudioTraining.Options(labels=Path("labels.csv"), soft=0.3))
    for done in (0.0, 0.29, 0.31, 0.9):
        batch = {"frames": torch.zeros(1, 9, 32), "mask": torch.ones(1, 9, dtype=torch.bool), "soft": torch.ones(1, 8) / 8}
        training.loss(UncertaintyHead(32), {**batch, "done": torch.tensor([done])}, torch.ones(8))
    assert seen == [True, True, False, False]


def test_before_runs_are_read() -> None:
    for training in (FaceDynamicTraining, AudioTraining):
        with pytest.raises(UsageError, match="knows its backbone when it has read a run"):
            training(training.Options(labels=Path("labels.csv"))).network()
    with pytest.raises(UsageError, match="knows its embeddings when it has read a run"):
        FeatureFusionTraining(FeatureFusionTraining.Options(labels=Path("labels.csv"))).network()
