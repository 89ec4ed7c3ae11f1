"""``--commercial``: weights whose terms do not allow commercial use are refused before the first frame, and nothing else changes."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

import affectkit
from affectkit import terms
from affectkit.api import Checkpoint
from affectkit.checkpoints import sha256
from affectkit.cli import cli
from affectkit.errors import Problems, UsageError
from affectkit.testing.media import make_wav, tone
from affectkit.weight_files import RANDOM, save_tensors

PLUGIN = """
from dataclasses import dataclass
from affectkit.api import BASIC7, Audio, Checkpoint, Input, Modality, Needs, Output, Provider, hookimpl

@dataclass(frozen=True)
class Chosen:
    checkpoint: str = "default"

class Loud(Modality):
    name, labels, needs, Options = "loud", BASIC7, Needs(audio=Audio()), Chosen
    checkpoints = {{
        "default": Checkpoint("{folder}/free.safetensors", "{free}", licence="MIT", source="a paper"),
        "unclear": Checkpoint("{folder}/other.safetensors", licence="ask the author", source="a paper"),
        "bound": Checkpoint("{folder}/other.safetensors", licence="CC-BY-NC-4.0", source="a paper"),
        "research": Checkpoint("{folder}/other.safetensors", licence="Apache-2.0", source="a paper", commercial=False),
        "absent": Checkpoint("https://example.org/absent.safetensors", licence="CC-BY-NC-4.0", source="a paper"),
    }}

    def load(self, device, dtype):
        self.weights()

    def preprocess(self, clip):
        import torch
        return {{"x": torch.from_numpy(abs(clip.audio)).mean()}}

    def predict(self, batch):
        import torch
        x = batch["x"][:, None]
        return Output({{BASIC7: torch.cat([x, (1 - x) / 6 * torch.ones(1, 6)], 1)}})

class Cues(Provider):
    name, kind, scope, Options = "cues", "noise", "media", Chosen
    checkpoints = {{
        "default": Checkpoint("{folder}/other.safetensors", licence="CC-BY-NC-4.0", source="a paper"),
        "absent": Checkpoint("https://example.org/absent.safetensors", licence="CC-BY-NC-4.0", source="a paper"),
    }}

    def provide(self, clips):
        return []

class Noisy(Loud):
    name, needs = "noisy", Needs(inputs=(Input("noise"),))

@hookimpl
def affectkit_modalities():
    return [Loud, Noisy]

@hookimpl
def affectkit_providers():
    return [Cues]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with weights, a second of sound, and a plugin ``ears`` that uses them."""
    save_tensors(tmp_path / "free.safetensors", {"x": torch.zeros(1)}, {"name": "free"})
    save_tensors(tmp_path / "other.safetensors", {"x": torch.ones(1)})
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "ears.py").write_text(dedent(PLUGIN).format(folder=tmp_path, free=sha256(tmp_path / "free.safetensors")))
    make_wav(tmp_path / "voice.wav", tone(np.arange(16000 * 2) / 16000))
    return tmp_path


def run(folder: Path, *arguments: str, names: str = "ears/loud", out: str = "out") -> Result:
    """``affectkit run`` of the plugin, without fusion and head unless the arguments name them."""
    rest = [] if "--fusion" in arguments else ["--fusion", "none"]
    rest += [] if "--head" in arguments else ["--head", "none"]
    call = ["--plugins-dir", folder / "plugins", "run", folder / "voice.wav", "--out", folder / out, "--plugins", names, "--device", "cpu"]
    return CliRunner().invoke(cli, [*map(str, call), *rest, *arguments], terminal_width=400)


def test_what_allows_it_runs_and_nothing_else_changes(folder):
    assert run(folder, "--commercial").exit_code == 0
    assert run(folder, out="plain").exit_code == 0
    bound, plain = (affectkit.read_run(folder / out) for out in ("out", "plain"))
    assert bound.equals(plain)
    infos = [json.loads((folder / out / "run.json").read_text()) for out in ("out", "plain")]
    assert infos[0]["digest"] == infos[1]["digest"]
    assert infos[0]["recipe"] == infos[1]["recipe"]
    assert [info["components"]["ears/loud"]["weights"][0]["commercial"] for info in infos] == [True, True]
    again = run(folder, "--commercial", out="plain")  # a run may be gone on with under the option
    assert "Finished before" in again.stdout


@pytest.mark.parametrize(
    ("tag", "licence"), [("bound", "CC-BY-NC-4.0"), ("research", "Apache-2.0"), ("absent", "CC-BY-NC-4.0")], ids=lambda text: text
)
def test_what_forbids_it_is_refused_before_the_first_frame(folder, tag, licence):
    ran = run(folder, "--commercial", "--set", f"components.ears/loud.checkpoint={tag}")
    assert ran.exit_code == 2
    name = "absent.safetensors" if tag == "absent" else "other.safetensors"
    message = (
        f"ears/loud: the terms of {name} (licence: {licence}) do not allow commercial use; leave it out with --plugins, "
        "or give other weights with --set components.ears/loud.checkpoint=FILE"
    )
    assert message in ran.stderr
    assert ("2 problems" in ran.stderr) is (tag == "absent"), "that it is not here either is told in the same report"
    assert not (folder / "out").exists()


def test_what_says_nothing_is_refused_with_that_reason(folder):
    ran = run(folder, "--commercial", "--set", "components.ears/loud.checkpoint=unclear")
    assert ran.exit_code == 2
    assert (
        "ears/loud: nothing says whether other.safetensors (licence: ask the author) may be used commercially, so --commercial refuses it; "
        "leave it out with --plugins, or give other weights with --set components.ears/loud.checkpoint=FILE. "
        "If its terms allow it, its record or its header can say so: see 'Commercial use' in docs/weights.md"
    ) in ran.stderr
    assert run(folder, "--set", "components.ears/loud.checkpoint=unclear").exit_code == 0, "without the option it runs"


def test_a_provider_is_refused_where_it_is_here_and_does_not_matter_where_it_is_not(folder):
    ran = run(folder, "--commercial", "--set", "providers.noise=[ears/cues]", names="ears/loud,ears/noisy")
    assert ran.exit_code == 2
    assert (
        "ears/cues: the terms of other.safetensors (licence: CC-BY-NC-4.0) do not allow commercial use; "
        "choose another provider with --set providers.noise=ID, or give other weights with --set components.ears/cues.checkpoint=FILE"
    ) in ran.stderr
    (folder / "other.safetensors").unlink()
    left_out = run(folder, "--commercial", "--set", "providers.noise=[ears/cues]", "--dry-run", names="ears/loud,ears/noisy")
    assert left_out.exit_code == 0, left_out.output
    assert "ears/cues is not ready" in left_out.stdout
    must = run(folder, "--commercial", "--set", "providers.noise=ears/cues", names="ears/loud,ears/noisy")
    assert "2 problems" in must.stderr
    assert "do not allow commercial use; choose another provider" in must.stderr


def test_all_of_mini_in_one_report(folder):
    pytest.importorskip("affectkit_mini")
    call = ["run", str(folder / "voice.wav"), "--out", str(folder / "out"), "--commercial", "--head", "core/pfsa"]
    ran = CliRunner().invoke(cli, call, terminal_width=400)
    assert ran.exit_code == 2
    for name in ("mini/face_static", "mini/face_dynamic", "mini/audio", "mini/scene", "core/mhpf"):
        assert f"{name}: the terms of " in ran.stderr
    assert "mini/text" not in ran.stderr
    assert "core/mhpf" in ran.stderr
    assert "choose another fusion, for instance --fusion core/mean, which has no weights, or give" in ran.stderr
    assert "choose another head, for instance --head core/ppa, which has no weights, or give" in ran.stderr
    words = run(folder, "--commercial", "--fusion", "core/mean", "--head", "core/ppa", names="mini/text")
    assert words.exit_code == 0, words.output


def test_in_python(folder):
    pytest.importorskip("affectkit_mini")
    with pytest.raises(UsageError, match=r"mini/audio: the terms of audio.safetensors \(licence: CC-BY-NC-SA-4.0\) do not allow"):
        affectkit.run(folder / "voice.wav", folder / "out", recipe=_alone("mini/audio"), commercial=True)
    with pytest.raises(Problems, match="mini/face_static"):
        affectkit.run(folder / "voice.wav", folder / "out", plugins="mini", commercial=True)
    with pytest.raises(UsageError, match=r"Did you mean commercial\?"):
        affectkit.run(folder / "voice.wav", folder / "out", comercial=True)


def _alone(name: str) -> affectkit.Recipe:
    return affectkit.Recipe(modalities=(name,))


@pytest.mark.parametrize(
    ("header", "may"),
    [
        ({"commercial": "yes"}, True),
        ({"commercial": "no", "licence": "MIT"}, False),
        ({"licence": "MIT"}, True),
        ({"licence": "CC-BY-NC-SA-4.0"}, False),
        ({"licence": "free for friends"}, None),
        ({"commercial": "maybe"}, None),
        ({"licence": RANDOM}, True),
        ({}, None),
    ],
)
def test_a_file_of_ones_own_speaks_for_itself(folder, header, may):
    own = folder / "own.safetensors"
    save_tensors(own, {"x": torch.full((3,), 2.0)}, header)
    assert terms.commercial_use(Checkpoint(str(own), licence="as given by the user"), own) is may
    ran = run(folder, "--commercial", "--set", f"components.ears/loud.checkpoint={own}")
    assert (ran.exit_code == 0) is (may is True)


def test_a_published_file_that_is_given_by_its_path_is_known_by_its_digest(folder):
    copy = folder / "copy.safetensors"
    copy.write_bytes((folder / "free.safetensors").read_bytes())
    assert run(folder, "--commercial", "--set", f"components.ears/loud.checkpoint={copy}").exit_code == 0


def test_files_that_are_no_safetensors_say_nothing(folder):
    torch.save({"x": torch.zeros(1)}, folder / "own.pt")
    assert terms.commercial_use(Checkpoint("own.pt", licence="as given by the user"), folder / "own.pt") is None
    (folder / "torn.safetensors").write_bytes(b"torn")
    assert terms.commercial_use(Checkpoint("torn.safetensors"), folder / "torn.safetensors") is None


@pytest.mark.parametrize(
    ("licence", "may"),
    [("MIT", True), ("CC-BY-4.0", True), ("CC-BY-NC-ND-4.0", False), ("GPL-3.0-only", None), ("CC-BY-SA-4.0", None), ("unknown", None)],
)
def test_what_identifiers_say(licence, may):
    assert terms.commercial_use(Checkpoint("w.pt", licence=licence)) is may
    assert terms.commercial_use(Checkpoint("w.pt", licence=licence, commercial=False)) is False


def test_the_list_shows_those_that_may_be_used(folder):
    def listed(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["--plugins-dir", str(folder / "plugins"), "weights", "list", *arguments])

    told = json.loads(listed("ears/loud", "--json").stdout)
    assert {item["tag"]: item["commercial"] for item in told} == {
        "default": True,
        "unclear": None,
        "bound": False,
        "research": False,
        "absent": False,
    }
    lines = listed("ears/loud", "--commercial").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["weights", "ears/loud:default*"]
    assert "None of 2 allows commercial use." in listed("ears/cues", "--commercial").stderr
    told = json.loads(listed("--commercial", "--json").stdout)
    assert {item["component"] for item in told} >= {"core/yunet", "core/whisper", "mini/text"}
    assert not {"mini/audio", "mini/face_static", "mini/scene", "core/mhpf"} & {item["component"] for item in told}
