"""The contract suite: everything that ships with affectkit keeps it, and third parties can run it under plain pytest."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

from affectkit import plugins
from affectkit.components import Output
from affectkit.config import Recipe
from affectkit.labels import BASIC7
from affectkit.plugins import Registry
from affectkit.testing import CHECKS, Outcome, examine
from affectkit.testing.contracts import examine_plugin
from affectkit.testing.subjects import difference

BLEND = {"core/ppa": 0.7, "core/pfsa": 0.3}


@cache
def registry() -> Registry:
    """What is installed."""
    return plugins.load()


@cache
def options() -> Mapping[str, Mapping[str, Any]]:
    """Options of the default recipe, which names the fitted weights, heads to blend, and a training that begins without the package of another network."""
    own = {"core/blend": {"heads": BLEND}, "mini/face_static_training": {"start": "random"}}
    return {**Recipe.load("mini/mini", find=registry().recipe).components, **own}


def ids() -> list[str]:
    """Every component of the plugins that ship with affectkit."""
    return [entry.id for entry in registry().entries() if entry.plugin in ("core", "mini")]


def outcomes(id: str, given: Mapping[str, Mapping[str, Any]]) -> list[Outcome]:
    """Every outcome of a component."""
    entry = registry().get(id)
    return list(examine(entry.kind, entry.cls, given.get(id), id=id, registry=registry(), components=given))


def random_head(folder: Path) -> Path:
    """A head on the embedding of mini/face_static that knows nothing."""
    from affectkit.builtin.perceptron import Perceptron
    from affectkit.weight_files import RANDOM, save_tensors

    labels = {"labels": BASIC7.labels, "label_set": "basic7", "kind": "categorical"}
    settings = {**labels, "embedding": "mini/face_static:face", "size": 128, "hidden": 0}
    save_tensors(folder / "head.safetensors", Perceptron(128, 0, 7).state_dict(), {"settings": json.dumps(settings), "licence": RANDOM})
    return folder / "head.safetensors"


@pytest.mark.parametrize("id", ids())
def test_everything_that_ships_keeps_the_contract(id: str, tmp_path: Path) -> None:
    pytest.importorskip("affectkit_mini", reason="the plugin mini is not installed: pip install -r requirements.txt")
    given = dict(options())
    if id == "core/whisper":
        pytest.importorskip("whisper", reason="openai-whisper is not installed")
        given[id] = {"checkpoint": str(registry().get(id).cls().write_random("base", tmp_path))}
    if id in ("core/convex", "core/dirichlet", "core/mhpf_gated", "core/probability_fusion"):  # theirs too
        given[id] = {
            "checkpoint": str(registry().get(id).cls().write_random("given", tmp_path, ("mini/face_static", "mini/audio", "mini/text")))
        }
    if id == "core/embedding_head":  # its weights are made by whoever uses it
        given[id] = {"checkpoint": str(random_head(tmp_path))}
    found = outcomes(id, given)
    assert len(found) == len(CHECKS[registry().get(id).kind])
    assert [(o.check, o.reason) for o in found if o.state == "broken"] == []
    unchecked = {o.check: o.reason for o in found if o.state == "unchecked"}
    if id == "core/whisper":  # its library checks what it loads, which is not possible on the device meta, and noise is no speech
        assert set(unchecked) <= {"device moved", "well formed"}
    elif registry().get(id).kind == "training" and id.startswith("core/"):  # they are of the user's runs and labels
        assert set(unchecked) <= {"declaration", "network made"}
        assert all("labels is missing" in reason for reason in unchecked.values())
    elif id == "core/yunet":  # its weights have to be fetched
        assert all("affectkit weights fetch core/yunet" in reason for reason in unchecked.values())
    elif id == "mini/scene_training":  # the words that count are those of the data
        assert set(unchecked) <= {"network made"}
        assert all("call parts() first" in reason for reason in unchecked.values())
    else:
        assert unchecked == {}


@pytest.mark.parametrize("name", ["core", "mini"])
def test_plugins_that_ship_are_light_and_their_recipes_can_be_read(name: str) -> None:
    found = list(examine_plugin(registry().plugin(name), registry()))
    assert found
    assert {o.state for o in found} == {"ok"}


def test_importing_the_suite_loads_neither_torch_nor_pytest() -> None:
    code = "import sys, affectkit.testing; print(sorted({'torch', 'pytest', 'av', 'cv2', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


PLUGIN = '''
"""A modality for tests."""
from affectkit.api import BASIC7, Audio, Checkpoint, Modality, Needs, Output

class Even(Modality):
    name = "even"
    labels = BASIC7
    needs = Needs(audio=Audio(1000))

    def preprocess(self, clip):
        import torch
        return None if clip.audio is None else {"x": torch.from_numpy(clip.audio.copy())}

    def predict(self, batch):
        import torch
        return Output({BASIC7: torch.full((len(batch["x"]), 7), 1 / 7)})

class Tall(Even):
    name = "tall"

    def predict(self, batch):
        return Output({BASIC7: super().predict(batch).values[BASIC7] * 2})

class Away(Even):
    name = "away"
    checkpoints = {"main": Checkpoint("https://example.invalid/x.safetensors", sha256="0" * 64, licence="MIT", source="x.py")}

class Raising(Even):
    name = "raising"

    def predict(self, batch):
        return Output({BASIC7: batch["y"]})

class Picky(Even):
    name = "picky"

    def preprocess(self, clip):
        return super().preprocess(clip) if clip.audio is not None and clip.media.id == "mine" else None
'''

TESTS = """
from dataclasses import replace
from affectkit.testing import ModalityContract
from affectkit.testing.examples import clips, media
import acme

class TestEven(ModalityContract):
    component = acme.Even

class TestTall(ModalityContract):
    component = acme.Tall

class TestAway(ModalityContract):
    component = acme.Away

class TestRaising(ModalityContract):
    component = acme.Raising

class TestPicky(ModalityContract):
    component = acme.Picky

class TestGiven(TestPicky):
    @staticmethod
    def examples():
        return [replace(clip, media=replace(media(), id="mine")) for clip in clips(acme.Picky.needs)]

class TestNothing(ModalityContract):
    pass

class TestWrong(ModalityContract):
    component = acme.Even
    options = {"gain": 2}
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, tuple[str, str]]:
    """What pytest says of a third party's tests: outcome and message by test."""
    folder = tmp_path_factory.mktemp("acme")
    (folder / "acme.py").write_text(PLUGIN)
    (folder / "test_acme.py").write_text(TESTS)
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rA", "--tb=line", "--no-header", "test_acme.py"]
    done = subprocess.run(
        words, cwd=folder, env={**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "1000"}, capture_output=True, text=True, check=False
    )
    lines = re.findall(r"^(PASSED|FAILED) test_acme\.py::(\w+)::test_(\w+)(?: - (.*))?$", done.stdout, re.MULTILINE)
    told = {f"{cls}.{check}": (state, message) for state, cls, check, message in lines}
    skips = re.findall(r"^SKIPPED \[\d+\] (.*)$", done.stdout, re.MULTILINE)
    return told | {"skips": ("SKIPPED", "\n".join(skips)), "text": ("", done.stdout)}


def test_a_good_component_passes_one_test_per_check(report: Mapping[str, tuple[str, str]]) -> None:
    mine = {test.partition(".")[2]: state for test, (state, _) in report.items() if test.startswith("TestEven.")}
    assert mine == dict.fromkeys((check.__name__ for check in CHECKS["modality"]), "PASSED")


def test_a_broken_component_fails_the_test_of_what_it_breaks(report: Mapping[str, tuple[str, str]]) -> None:
    failed = {test: message for test, (state, message) in report.items() if state == "FAILED" and test.startswith("TestTall.")}
    assert list(failed) == ["TestTall.rows_sum_to_one"]
    assert "rows of 'basic7' must sum to 1, found one that sums to 2; use softmax" in failed["TestTall.rows_sum_to_one"]


def test_a_component_that_raises_is_shown_with_its_own_lines_only(report: Mapping[str, tuple[str, str]]) -> None:
    failed = {test: message for test, (state, message) in report.items() if state == "FAILED" and test.startswith("TestRaising.")}
    assert list(failed) == ["TestRaising.answers"]  # what needs an answer is skipped
    assert "cannot be checked: it does not answer: predict raised KeyError: 'y'" in report["skips"][1]
    assert re.search(
        r"^predict raised KeyError: 'y'\n\nTraceback.*\n  File .*acme\.py\", line \d+, in predict\n", report["text"][1], re.MULTILINE
    )


def test_what_cannot_be_checked_is_skipped_with_the_reason(report: Mapping[str, tuple[str, str]]) -> None:
    told = report["skips"][1]
    assert (
        "cannot be checked: the weights x.safetensors are not here" in told or "cannot be checked: away: the weights x.safetensors" in told
    )
    assert "cannot be checked: none of the clips that were made from its needs is evidence to it" in told
    assert report["TestAway.declaration"][0] == "PASSED"
    assert "TestAway.loads" not in report


def test_better_examples_can_be_given(report: Mapping[str, tuple[str, str]]) -> None:
    mine = {test: state for test, (state, _) in report.items() if test.startswith("TestGiven.")}
    assert len(mine) == len(CHECKS["modality"])
    assert set(mine.values()) == {"PASSED"}


def test_a_class_without_a_component_says_so(report: Mapping[str, tuple[str, str]]) -> None:
    state, message = report["TestNothing.loads"]
    assert state == "FAILED"
    assert "TestNothing names no component; write component = YourClass in it" in message


def test_options_that_the_component_does_not_have_are_told(report: Mapping[str, tuple[str, str]]) -> None:
    state, message = report["TestWrong.loads"]
    assert state == "FAILED"
    assert "it cannot be made with the options that are given: components.even.gain: unknown key" in message


def test_a_module_that_imports_torch_is_told_with_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "heavy_acme.py").write_text("import json\nimport torch\n" + dedent(PLUGIN))
    monkeypatch.syspath_prepend(str(tmp_path))
    from importlib import import_module

    found = {o.check: o for o in examine("modality", import_module("heavy_acme").Even)}["light import"]
    del sys.modules["heavy_acme"]
    assert found.state == "broken"
    assert re.search(r"importing heavy_acme imports torch \(.*heavy_acme\.py, line 2: import torch\); import it inside load", found.reason)


def test_a_hook_that_imports_torch_is_told(tmp_path: Path) -> None:
    code = "from affectkit.api import hookimpl\n@hookimpl\ndef affectkit_modalities():\n    import torch\n    return []\n"
    (tmp_path / "slow.py").write_text(code)
    known = plugins.load(plugins_dir=tmp_path, only=["slow"])
    (found,) = examine_plugin(known.plugin("slow"), known, tmp_path)
    assert found.state == "broken"
    assert "slow.py, line 4: import torch" in found.reason


def test_a_recipe_that_names_what_is_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("modalities: [far/away]\nfusion: core/mean\n")
    code = f"from affectkit.api import hookimpl\n@hookimpl\ndef affectkit_recipes():\n    return [{str(tmp_path / 'r.yaml')!r}]\n"
    (tmp_path / "cook.py").write_text(code)
    known = plugins.load(plugins_dir=tmp_path, only=["cook"])
    found = {o.check: o for o in examine_plugin(known.plugin("cook"), known, tmp_path)}["recipes readable"]
    assert found.state == "broken"
    assert "recipe cook/r names far/away, which is not installed" in found.reason


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        ({"a": 1.0}, {"a": 1.0 + 1e-7}, ""),
        (np.array([np.nan, 1.0]), np.array([np.nan, 1.0]), ""),
        ({"a": 1.0}, {"b": 1.0}, "it has ['a'] and ['b']"),
        ([1, 2], [1], "it has 2 and 1 entries"),
        (np.zeros(2), np.zeros(3), "it has the shapes (2,) and (3,)"),
        (np.array([np.nan]), np.array([0.0]), "it is NaN in one and a number in the other"),
        ("a", "b", "it is 'a' and 'b'"),
        ("a", None, "it is a str and a NoneType"),
        (True, False, "it is True and False"),
        (np.array(["a"]), np.array(["b"]), "it differs"),
        (Output({BASIC7: np.zeros((1, 7))}), Output({BASIC7: np.ones((1, 7))}), "basic7 differs by up to 1"),  # type: ignore[dict-item]
    ],
)
def test_differences_are_told_in_words(one: Any, other: Any, told: str) -> None:
    assert difference(one, other, 1e-5) == told
