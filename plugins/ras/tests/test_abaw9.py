"""The recipe ras/abaw9 from a real clip to compound expressions, on small random checkpoints in the formats of the real ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

import affectkit
from affectkit.cli import cli
from affectkit.testing.media import make_video

MODALITIES = ("ras/face_static", "ras/face_dynamic", "ras/label_match", "ras/scene", "ras/audio", "ras/text")
SECONDS, SIZE, RATE = 4.4, (180, 320), 16000
WORDS = "1\n00:00:00,000 --> 00:00:04,000\n{}\n"
PICTURES = ("ras/face_static", "ras/face_dynamic", "ras/label_match")


def invoke(*words: object) -> str:
    done = CliRunner().invoke(cli, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.output


def frames_of(path: Path) -> list[np.ndarray]:
    """Pictures of the first seconds, made small."""
    with av.open(str(path)) as container:
        return [
            frame.to_ndarray(width=SIZE[1], height=SIZE[0], format="rgb24")
            for frame in container.decode(video=0)
            if frame.time is not None and frame.time < SECONDS
        ]


def sound_of(path: Path) -> np.ndarray:
    """Its sound, (N,) float32 at 16 kHz."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
    with av.open(str(path)) as container:
        parts = [piece.to_ndarray()[0] for frame in container.decode(audio=0) for piece in resampler.resample(frame)]
    return np.concatenate(parts)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe with random weights."""
    folder = tmp_path_factory.mktemp("tiny")
    invoke("weights", "tiny", "--recipe", "ras/abaw9", "--out", folder)
    return folder / "tiny.yaml"


@pytest.fixture(scope="module")
def media(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A real clip as it is, and with one thing changed: its words, its description, its sound, its pictures; and with pictures alone."""
    folder = tmp_path_factory.mktemp("media")
    shown = frames_of(shared_data / "video" / "debate_5s.mp4")
    speech = sound_of(shared_data / "video" / "talking_head_8s.mp4")  # in the other clip, people begin to speak after four seconds
    heard, other = speech[: int(SECONDS * RATE)], speech[-int(SECONDS * RATE) :]

    def write(
        name: str, sound: np.ndarray | None = heard, black: bool = False, words: str = "I am so glad.", scene: str = "Two people talk."
    ) -> Path:
        def picture(time: float) -> np.ndarray:
            return np.zeros((*SIZE, 3), np.uint8) if black else shown[min(round(time * 25), len(shown) - 1)]

        path = make_video(folder / f"{name}.mp4", seconds=SECONDS, size=SIZE, picture=picture, sound=sound, rate=RATE, codec="mpeg4")
        if words:
            path.with_suffix(".srt").write_text(WORDS.format(words))
        if scene:
            path.with_name(f"{name}.descriptions.csv").write_text(f'media,start,end,text\n{name}.mp4,0,4.4,"{scene}"\n')
        return path

    return {
        "base": write("base"),
        "words": write("words", words="Get out of my house!"),
        "described": write("described", scene="A man shouts in the rain."),
        "sound": write("sound", sound=other),
        "black": write("black", black=True),
        "bare": write("bare", words="", scene=""),
        "mute": write("mute", sound=None, words="", scene=""),
    }


@pytest.fixture(scope="module")
def run(tiny: Path, media: Mapping[str, Path], shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of them in one run."""
    out = tmp_path_factory.mktemp("run") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AFFECTKIT_CACHE", str(out.with_name("cache")))
        changes = {
            "components.ras/speech.checkpoint": shared_data / "weights" / "silero_vad_16k_op15.onnx",
            "components.ras/describe.max_new_tokens": 8,
            "components.ras/describe.size": 112,
        }
        settings = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
        invoke("run", *media.values(), "--recipe", tiny, *settings, "--device", "cpu", "--offline", "--out", out)
    return out


def said(run: Path, medium: str) -> dict[str, pd.DataFrame]:
    """What each source says of a medium."""
    table = affectkit.read_run(run)
    table = table[table["media"] == medium]
    return {source: rows.sort_values(["labels", "start", "track"]).reset_index(drop=True) for source, rows in table.groupby("source")}


def changed(run: Path, medium: str) -> set[str]:
    """Sources that say something else than of the clip as it is."""
    before, after = said(run, "base"), said(run, medium)
    assert set(before) == set(after)
    return {source for source in before if not same(before[source], after[source])}


def same(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    columns = [name for name in one.columns if name.startswith("p_")]
    if len(one) != len(other) or not one["valid"].equals(other["valid"]):
        return False
    return np.allclose(one[columns].to_numpy(float), other[columns].to_numpy(float), atol=1e-6, equal_nan=True)


def test_every_component_with_weights_gets_random_ones(tiny: Path):
    written = yaml.safe_load(tiny.read_text())["components"]
    assert set(MODALITIES) <= set(written)
    assert {"ras/faces", "ras/whisper", "ras/describe", "core/mhpf"} <= set(written)
    assert set(written["ras/face_dynamic"]) == {"backbone", "head"}
    assert set(written["ras/scene"]) == {"distilroberta"}


def test_every_modality_speaks_of_the_clip_and_they_are_fused(run: Path):
    found = said(run, "base")
    assert set(found) == {*MODALITIES, "core/mhpf", "core/ppa"}
    for source, rows in found.items():
        assert rows["valid"].all(), source
    compound = found["core/ppa"]
    columns = [f"p_{label}" for label in affectkit.labels.COMPOUND7.labels]
    np.testing.assert_allclose(compound[columns].sum(axis=1), 1.0, atol=1e-5)
    assert compound["start"].tolist() == [0.0, 2.0]


CHANGES = {"words": {"ras/text"}, "described": {"ras/scene"}, "sound": {"ras/audio"}, "black": set(PICTURES)}


@pytest.mark.parametrize(("medium", "expected"), CHANGES.items(), ids=list(CHANGES))
def test_what_changes_one_input_changes_its_source_and_no_other(medium: str, expected: set[str], run: Path):
    assert changed(run, medium) == expected | {"core/mhpf", "core/ppa"}


def test_pictures_are_described_and_words_heard_where_nothing_is_given(run: Path, tiny: Path):
    assert {"ras/scene"} <= changed(run, "bare")
    assert said(run, "bare")["ras/scene"]["valid"].all()
    kept = list((run.with_name("cache") / "descriptions").rglob("*.json"))
    assert len(kept) == 4  # two windows of two media; the pictures of both are the same, the files are not


def test_what_is_not_there_is_no_evidence(run: Path):
    found = said(run, "mute")
    assert not found["ras/audio"]["valid"].any()
    assert not found["ras/text"]["valid"].any()
    assert found["core/ppa"]["valid"].all()
    for source in PICTURES:
        assert same(found[source], said(run, "base")[source])


def test_nothing_failed(run: Path):
    assert pd.read_parquet(run / "failures.parquet").empty


@pytest.mark.slow
@pytest.mark.parametrize("component", ["ras/scene", "ras/text", "ras/describe", "ras/whisper", "ras/scene_training"])
def test_components_keep_the_contract(component: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AFFECTKIT_CACHE", str(tmp_path))
    assert "0 broken" in invoke("plugins", "check", component, "--recipe", tiny)


def test_offline_says_all_that_is_missing(media: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("AFFECTKIT_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "empty"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    done = CliRunner().invoke(cli, ["run", str(media["base"]), "--recipe", "ras/abaw9", "--offline", "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    lines = [" ".join(line.split()) for line in done.output.splitlines()]
    assert lines[:2] == [
        "Error: 11 problems:",
        "To fetch: affectkit weights fetch ras/face_static ras/face_dynamic ras/label_match ras/scene:distilroberta ras/audio "
        "ras/text:distilroberta ras/faces ras/speech",
    ]
    made = lines.index("To make, since nobody publishes them:")
    beside = lines.index("A run goes on without these:")
    assert [line.split()[0] for line in lines[2:made]] == [*MODALITIES, "ras/faces", "ras/speech"]
    assert "ras/audio hf:microsoft/wavlm-base-plus-sd (405 MB); or --set components.ras/audio.backbone=FOLDER" in lines
    assert lines[made + 1 : beside] == [
        *(
            f"ras/{name} ras_{name}.safetensors: 'affectkit train ras/{name} --data RUN --labels FILE --out .'; or --set components.ras/{name}.head=FILE"
            for name in ("face_dynamic", "audio")
        ),
        "core/mhpf fusion_mhpf.safetensors: 'affectkit train fusion --predictions RUN --labels FILE --out .'; or --set components.core/mhpf.checkpoint=FILE; "
        "or --fusion core/mean, which needs none",
    ]
    assert lines[beside + 1 : -1] == [
        "ras/describe alternative for description, hf:Qwen/Qwen2.5-VL-32B-Instruct (68 GB): 'affectkit weights fetch ras/describe:32b'; "
        "or --set components.ras/describe.checkpoint=FOLDER",
        "ras/whisper alternative for transcript, large-v3-turbo.pt (1.6 GB) from openaipublic.azureedge.net: 'affectkit weights fetch ras/whisper:large-v3-turbo'; "
        "or --set components.ras/whisper.checkpoint=FILE",
    ]
    assert lines[-1] == (
        f"Downloads are forbidden here: fetch where they are allowed and copy the folder {tmp_path / 'empty'}. With --offline, "
        "'affectkit weights fetch' says what to download by hand and where to put it; 'affectkit weights list --json' says where each was looked for."
    )
    assert not (tmp_path / "out").exists()
    assert "Traceback" not in done.output


def test_an_encoder_without_a_published_head_gets_a_random_one_as_well(media: Mapping[str, Path], tmp_path: Path):
    recipe = tmp_path / "clip.yaml"
    recipe.write_text("_base_: ras/abaw9\nmodalities: [ras/text]\nfusion: core/mean\ncomponents: {ras/text: {encoder: clip}}\n")
    invoke("weights", "tiny", "ras/text", "--recipe", recipe, "--out", tmp_path / "tiny")
    written = yaml.safe_load((tmp_path / "tiny" / "tiny.yaml").read_text())["components"]["ras/text"]
    assert set(written) == {"clip", "head"}
    invoke(
        "run",
        media["base"],
        media["words"],
        "--recipe",
        tmp_path / "tiny" / "tiny.yaml",
        "--device",
        "cpu",
        "--embeddings",
        "--out",
        tmp_path / "out",
    )
    assert {"ras/text"} <= changed(tmp_path / "out", "words")
