"""``affectkit weights tiny``: random weights that the real loaders take, and that no run hides. And ``--offline`` for a whole run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import cv2
import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner, Result
from matplotlib.cbook import get_sample_data

import affectkit
from affectkit import plugins, weight_files
from affectkit.caches import OFFLINE
from affectkit.cli import cli
from affectkit.config import Recipe
from affectkit.errors import CheckpointError
from affectkit.pictures import read_picture
from affectkit.session import Session
from affectkit.tables import read_info
from affectkit.testing.media import make_video, make_wav
from affectkit.weight_files import RANDOM

pytest.importorskip("affectkit_mini", reason="the plugin mini is not installed: pip install -r requirements.txt")

SIZE = (240, 200)  # height, width in pixels


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], terminal_width=200)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def no_switches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (*OFFLINE, "AFFECTKIT_PLUGINS", "AFFECTKIT_PLUGINS_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AFFECTKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of a face, with noise that Whisper may take for words and a description of the scene."""
    folder = tmp_path_factory.mktemp("clip")
    portrait = read_picture(Path(str(get_sample_data("grace_hopper.jpg", asfileobj=False))))
    picture = np.asarray(cv2.resize(portrait, SIZE[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8)
    noise = (0.1 * np.random.default_rng(0).normal(size=32000)).astype(np.float32)
    (folder / "clip.descriptions.csv").write_text('media,text\nclip,"A woman in uniform smiles."\n', encoding="utf-8")
    return make_video(folder / "clip.mp4", seconds=2, fps=10, size=SIZE, picture=lambda _: picture, sound=noise)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the command writes for the default recipe."""
    out = tmp_path_factory.mktemp("tiny") / "new"
    result = call("weights", "tiny", "--out", out)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == f"affectkit run --recipe {out / 'tiny.yaml'} VIDEO"
    return out


def test_a_whole_run_with_random_weights(tiny, clip, tmp_path):
    pytest.importorskip("whisper", reason="openai-whisper is not installed (pip install 'affectkit[whisper]')")
    result = call("run", clip, "--recipe", tiny / "tiny.yaml", "--out", tmp_path / "run", "--device", "cpu")
    assert result.exit_code == 0, result.output
    said = "mini/face_static, mini/face_dynamic, mini/audio, mini/text, mini/scene, core/whisper, core/mhpf"
    [note] = [line for line in result.stderr.splitlines() if line.startswith("Random weights")]
    names = note.removeprefix("Random weights, so this run says nothing that is true: ").removesuffix(" (affectkit weights tiny)")
    assert set(names.split(", ")) == set(said.split(", "))
    info = read_info(tmp_path / "run")
    for component in said.split(", "):
        for weights in info["components"][component]["weights"]:
            assert weights["licence"] == RANDOM
            assert Path(weights["uri"]).is_relative_to(tiny)
    assert all(had["share"] == 1 for had in info["media"]["clip"]["evidence"].values()), info["media"]["clip"]["evidence"]
    rows = affectkit.read_run(tmp_path / "run", labels="compound7")
    assert len(rows)
    assert rows["valid"].all()


def test_random_prototypes_of_pfsa(tiny, clip, tmp_path):
    recipe = Recipe.load(tiny / "tiny.yaml", find=plugins.load().recipe).with_(modalities=["mini/face_static"], head="core/pfsa")
    result = affectkit.run(clip, tmp_path / "run", recipe=recipe, device="cpu")
    assert not result.failures
    assert read_info(tmp_path / "run")["components"]["core/pfsa"]["weights"][0]["licence"] == RANDOM
    assert result.read("compound7")["valid"].all()


def test_real_weights_are_not_called_random(tmp_path):
    sound = make_wav(tmp_path / "a.wav", 0.1 * np.random.default_rng(0).normal(size=32000))
    result = call("run", sound, "--plugins", "mini/audio", "--fusion", "core/mean", "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert "Random" not in result.output
    assert RANDOM not in (tmp_path / "run" / "run.json").read_text()


def test_the_same_numbers_each_time(tiny, tmp_path):
    before = torch.get_rng_state()
    assert call("weights", "tiny", "--out", tmp_path).exit_code == 0
    assert torch.equal(torch.get_rng_state(), before)
    files = {path.relative_to(tmp_path): path for path in tmp_path.rglob("*") if path.is_file()}
    assert set(files) == {path.relative_to(tiny) for path in tiny.rglob("*") if path.is_file()}
    for name, path in files.items():
        if name.suffix != ".yaml":
            assert path.read_bytes() == (tiny / name).read_bytes(), name
            assert weight_files.is_random(path)
            assert path.stat().st_size < 20e6


def test_weights_of_some_components(tmp_path):
    result = call("weights", "tiny", "mini/audio", "mini/face_dynamic", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in result.stdout.splitlines()[:3]] == [
        "mini/audio:default",
        "mini/face_dynamic:backbone",
        "mini/face_dynamic:head",
    ]
    recipe = yaml.safe_load((tmp_path / "tiny.yaml").read_text())
    assert recipe["_base_"] == "mini/mini"
    assert recipe["components"] == {
        "mini/audio": {"checkpoint": str(tmp_path / "mini" / "audio" / "audio.safetensors")},
        "mini/face_dynamic": {
            "backbone": str(tmp_path / "mini" / "face_dynamic" / "backbone.safetensors"),
            "head": str(tmp_path / "mini" / "face_dynamic" / "head.safetensors"),
        },
    }
    session = Session(Recipe.load(tmp_path / "tiny.yaml", find=plugins.load().recipe), plugins.load())
    random = {name for name, record in session.assembly.record.items() if any(w["licence"] == RANDOM for w in record["weights"])}
    assert random == {"mini/audio", "mini/face_dynamic"}


@pytest.mark.parametrize("tag", ["tiny.en", "base", "large-v3"])
def test_whisper_as_the_real_loader_reads_it(tmp_path, tag):
    whisper = pytest.importorskip("whisper", reason="openai-whisper is not installed (pip install 'affectkit[whisper]')")
    from affectkit.builtin.whisper import Options, Whisper

    assert call("weights", "tiny", f"core/whisper:{tag}", "--out", tmp_path).exit_code == 0
    path = tmp_path / "core" / "whisper" / f"{tag}.pt"
    model = whisper.load_model(str(path), device="cpu")
    assert model.is_multilingual is not tag.endswith(".en")
    assert model.dims.n_mels == (128 if tag == "large-v3" else 80)
    component = Whisper(Options(str(path)))
    component.load(torch.device("cpu"), torch.float32)


def test_a_recipe_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("own.yaml").write_text("modalities: [mini/audio, mini/scene]\nfusion: core/mhpf\n")
    result = call("weights", "tiny", "--recipe", "own.yaml", "--out", "out")
    assert result.exit_code == 0, result.output
    recipe = Recipe.load(Path("out/tiny.yaml"))
    assert recipe.modalities == ("mini/audio", "mini/scene")
    path = Path(str(recipe.components["core/mhpf"]["checkpoint"]))
    assert json.loads(weight_files.metadata(path)["sources"]) == ["mini/audio", "mini/scene"]


@pytest.mark.parametrize(
    ("names", "messages"),
    [
        (["mini/adio"], ["there is no component 'mini/adio'. Did you mean mini/audio?"]),
        (["ers", "core/whisper:bse"], ["no plugin is called 'ers'", "core/whisper has no checkpoint 'bse' to choose. Did you mean base?"]),
        (["mini/face_dynamic:head"], ["mini/face_dynamic has no checkpoint 'head' to choose"]),
        (["core/mean"], ["core/mean has no weights and needs none"]),
        (
            ["core/yunet"],
            ["core/yunet has no random weights: they would be an ONNX file", "take mini/faces, whose weights are in its package"],
        ),
        (["--recipe", "none.yaml"], ["there is no recipe at none.yaml"]),
        (["--recipe", "mini/mni"], ["there is no recipe 'mini/mni'. Did you mean mini/mini?"]),
    ],
)
def test_mistakes(tmp_path, monkeypatch, names, messages):
    monkeypatch.chdir(tmp_path)
    result = call("weights", "tiny", *names)
    assert result.exit_code == 2
    for message in messages:
        assert message in result.stderr
    assert not Path("affectkit-tiny", "tiny.yaml").exists()


def test_what_a_plugin_does_not_write_is_left_out(tmp_path):
    result = call("weights", "tiny", "core", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert "core/yunet is as in mini/mini: has no random weights: they would be an ONNX file" in result.stderr
    asked = next(line for line in result.stdout.splitlines() if "To try it" in line)
    assert "with the weights of mini/mini for core/" in asked
    assert "core/yunet" in asked
    assert "core/mean is" not in result.stderr  # it needs no weights
    assert set(yaml.safe_load((tmp_path / "tiny.yaml").read_text())["components"]) >= {"core/mhpf", "core/pfsa"}


def test_without_the_package_of_whisper(tmp_path, monkeypatch):
    monkeypatch.setattr("affectkit.tiny.find_spec", lambda name: None)
    result = call("weights", "tiny", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert (
        "core/whisper is as in mini/mini: needs the package whisper, which is not installed: pip install 'affectkit[all]'" in result.stderr
    )
    assert "core/whisper" not in yaml.safe_load((tmp_path / "tiny.yaml").read_text())["components"]
    result = call("weights", "tiny", "core/whisper", "--out", tmp_path)
    assert result.exit_code == 2
    assert "core/whisper needs the package whisper" in result.stderr


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    result = call("weights", "tiny", "mini/audio", "--out", tmp_path / "file")
    assert result.exit_code == 2
    assert "cannot be made: Not a directory; give another folder with --out" in result.stderr


@pytest.fixture
def others(tmp_path: Path) -> Path:
    """A folder with a plugin whose components write random weights in ways of their own."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "own.py").write_text(
        dedent("""
        import os
        from dataclasses import dataclass

        import click
        from affectkit.api import Checkpoint, Evidence, Provider, hookimpl
        from affectkit.checkpoints import resolve

        from affectkit.weight_files import RANDOM

        @dataclass(frozen=True)
        class Choice:
            checkpoint: str = "model"

        class Folder(Provider):
            name, kind, scope, Options = "folder", "noise", "window", Choice
            checkpoints = {"model": Checkpoint("https://example.org/model.bin")}
            def provide(self, clips): return []
            def write_random(self, tag, folder, sources=()):
                (folder / "model").mkdir(exist_ok=True)
                (folder / "model" / "config.json").write_text(RANDOM)
                return folder / "model"

        class Liar(Folder):
            name = "liar"
            def write_random(self, tag, folder, sources=()):
                (folder / "model.bin").write_text("numbers")
                return folder / "model.bin"

        class Raises(Folder):
            name = "raises"
            def write_random(self, tag, folder, sources=()): raise ValueError("out of order")

        class Fixed(Folder):
            name, Options = "fixed", Provider.Options

        class Eager(Provider):
            name, kind, scope = "eager", "transcript", "media"
            def provide(self, clips): return [Evidence.none("transcript", "nothing") for _ in clips]
            def load(self, device, dtype): resolve(Checkpoint("https://example.org/model.bin"), fetch=True, owner=self.id)

        @hookimpl
        def affectkit_providers(): return [Folder, Liar, Raises, Fixed, Eager]

        @hookimpl
        def affectkit_commands(group):
            @group.command()
            def switches():
                click.echo(",".join(name for name in os.environ if name.endswith("_OFFLINE") and os.environ[name] == "1"))
        """),
        encoding="utf-8",
    )
    return folder


def test_plugins_of_others(others, tmp_path):
    result = call("weights", "tiny", "own/folder", "--plugins-dir", others, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    components = yaml.safe_load((tmp_path / "out" / "tiny.yaml").read_text())["components"]
    assert components == {"own/folder": {"checkpoint": str(tmp_path / "out" / "own" / "folder" / "model")}}
    for name, message in (
        ("liar", "without saying in it that its numbers are random; correct its write_random"),
        ("raises", "own/raises could not be set up: ValueError: out of order"),
        ("fixed", "has no option that takes the path of its checkpoint 'model'; its plugin must give it an option checkpoint, or model"),
    ):
        result = call("weights", "tiny", f"own/{name}", "--plugins-dir", others, "--out", tmp_path / name)
        assert result.exit_code == 2
        assert message in result.stderr
        assert not (tmp_path / name / "tiny.yaml").exists()


# --- offline


def test_a_run_offline_tells_all_that_is_missing_before_the_first_frame(clip, tmp_path):
    missing = ("--set", "providers.faces=core/yunet", "--set", "providers.transcript=core/whisper")
    result = call("run", clip, "--offline", "--out", tmp_path / "run", *missing)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: 2 problems:\n")
    assert "To fetch: affectkit weights fetch core/yunet core/whisper:base\n" in result.stderr
    for line in ("yunet_n_640_640.onnx from github.com; or --set", "base.pt (145 MB) from openaipublic.azureedge.net; or --set"):
        assert line in result.stderr
    assert (
        f"Downloads are forbidden here: fetch where they are allowed and copy the folder {tmp_path / 'cache'}. With --offline,"
        in result.stderr
    )
    by_hand = call("weights", "fetch", "core/yunet", "core/whisper:base", "--offline").stderr
    for file in ("yunet_n_640_640.onnx", "base.pt"):
        assert f"{file} and put it at {tmp_path / 'cache'}" in by_hand
    assert not (tmp_path / "run").exists()


def test_affectkit_run_respects_the_switch(others, clip, tmp_path, monkeypatch):
    monkeypatch.setenv("AFFECTKIT_OFFLINE", "1")
    recipe = Recipe(modalities=("mini/text",), providers={"transcript": "own/eager"})
    with pytest.raises(
        CheckpointError, match=r"own/eager: --offline or AFFECTKIT_OFFLINE forbids downloads, so model\.bin is not downloaded"
    ):
        affectkit.run(clip, tmp_path / "run", recipe=recipe, registry=plugins.load(plugins_dir=others))
    assert os.listdir(tmp_path) == ["plugins"]


def test_switches_hold_for_one_call_of_the_program(others, monkeypatch):
    said = [call(*words).stdout.strip() for words in (
        ("--plugins-dir", others, "--offline", "switches"),
        ("--plugins-dir", others, "switches", "--offline"),
        ("--plugins-dir", others, "switches"),
    )]  # fmt: skip
    assert [set(words.split(",")) - {""} for words in said] == [set(OFFLINE), set(OFFLINE), set()]
    assert not set(OFFLINE) & set(os.environ)
    monkeypatch.setenv("AFFECTKIT_OFFLINE", "1")
    assert set(call("--plugins-dir", others, "switches").stdout.strip().split(",")) == set(OFFLINE)
    assert {name for name in OFFLINE if name in os.environ} == {"AFFECTKIT_OFFLINE"}
    assert call("weights", "fetch", "--offline", "--no-such-option").exit_code == 2
    assert {name for name in OFFLINE if name in os.environ} == {"AFFECTKIT_OFFLINE"}
