"""From a recipe to components: providers and their alternatives, devices of single components, everything checked at once."""

from __future__ import annotations

import pytest
import torch

from affectkit.assembly import assemble
from affectkit.errors import CheckpointError, ConfigError, PluginError, Problems
from affectkit.planner import Plan
from tests.engine_helpers import recipe, registry


def test_a_plugin_stands_for_all_its_modalities():
    made = assemble(recipe("fake", head="core/ppa"), registry())
    names = [entry.id for entry in registry().entries("modality") if entry.plugin == "fake"]
    assert list(made.plan.modalities) == names
    assert list(made.recipe.modalities) == names, "the recipe that is written down says which"
    assert [c.id for c in made.components][-2:] == ["core/mean", "core/ppa"]
    assert {c.id for c in made.components} >= {"fake/squares", "odd/cues"}


def test_the_fusion_reads_what_projects_onto_its_labels():
    made = assemble(recipe("fake/still", "fake/loudness", "fake/compound", "odd/drinks"), registry())
    assert made.fused == ("fake/still", "fake/loudness")
    assert made.missing_sources == ()


def test_inputs_of_providers_come_before_them():
    made = assemble(
        recipe("odd/smile", "odd/moody", providers={"faces": "odd/halves", "smile": "odd/smiles", "mood": "odd/mood"}), registry()
    )
    assert made.plan.frame_kinds == ("faces",)
    assert made.plan.window_kinds == ("smile", "mood")
    assert made.plan.bound == {"faces", "smile", "odd/smile"}


def test_the_only_provider_of_a_kind_need_not_be_named():
    made = assemble(recipe("odd/moody", providers={}), registry())
    assert [p.id for p in made.plan.providers["mood"]] == ["odd/mood"]


def test_alternatives_that_are_not_ready_are_left_out_and_say_why():
    made = assemble(recipe("fake/words", providers={"transcript": ["core/whisper", "odd/cues"]}), registry())
    ready = [p.id for p in made.plan.providers["transcript"]]
    assert ready[-1] == "odd/cues"
    if "core/whisper" not in ready:
        assert made.plan.unavailable["transcript"][0].startswith("core/whisper is not ready: ")


def test_a_recipe_that_lacks_weights_is_told_of_all_at_once(monkeypatch):
    monkeypatch.setattr("affectkit.checkpoints.resolve", absent)
    providers = {"transcript": ["core/whisper", "odd/cues"]}
    with pytest.raises(Problems) as raised:
        assemble(recipe("fake/words", "odd/heavy", fusion="core/mhpf", providers=providers), registry())
    assert [str(problem).partition(":")[0] for problem in raised.value.problems] == ["odd/heavy", "core/mhpf is not fitted"]
    (remark,) = raised.value.remarks
    assert str(remark).startswith("Not here either, an alternative for transcript without which a run goes on: core/whisper: ")
    assert str(raised.value).splitlines()[-1] == str(remark)


def test_what_a_run_goes_on_without_is_no_problem_beside_others(monkeypatch):
    monkeypatch.setattr("affectkit.checkpoints.resolve", absent)
    with pytest.raises(ConfigError, match=r"core/mhpf is not fitted: .*affectkit train fusion") as raised:
        assemble(recipe("fake/words", fusion="core/mhpf", providers={"transcript": ["core/whisper", "odd/cues"]}), registry())
    assert "core/whisper" not in str(raised.value)


def absent(checkpoint, *, owner, **_):
    raise CheckpointError(f"{owner}: the weights are not here")


def test_alternatives_of_different_scope_are_refused():
    faces, mood = (registry().get(name).cls() for name in ("fake/squares", "odd/mood"))
    faces.id, mood.id = "fake/squares", "odd/mood"
    with pytest.raises(
        ConfigError, match=r"the alternatives for 'faces' must have one scope, found fake/squares \(frame\), odd/mood \(window\)"
    ):
        Plan(recipe("fake/face"), {"fake/face": registry().get("fake/face").cls()}, {"faces": [faces, mood]})


def test_a_provider_of_another_kind_is_refused():
    with pytest.raises(ConfigError, match=r"^providers.faces: odd/mood makes 'mood', not 'faces'"):
        assemble(recipe("fake/face", providers={"faces": "odd/mood"}), registry())


def test_components_run_where_the_recipe_says():
    components = {"fake/still": {"precision": "bf16", "device": "cpu"}}
    made = assemble(recipe("fake/still", "fake/long", components=components), registry())
    meta = torch.device("meta")
    assert made.place("fake/still", meta, torch.float32) == (torch.device("cpu"), torch.bfloat16)
    assert made.place("fake/long", meta, torch.float16) == (meta, torch.float16)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(registry().get("fake/still").cls, "requires", ("a_package_that_nobody_has",))
    with pytest.raises(PluginError, match="fake/still needs the package a_package_that_nobody_has, which is not installed"):
        assemble(recipe("fake/still"), registry())


def test_a_head_may_read_the_embedding_of_a_source(tmp_path):
    from affectkit.testing.media import make_video
    from tests.engine_helpers import analyse, plain, said

    made = assemble(recipe("odd/slow", head="odd/shares"), registry())
    made.load(torch.device("cpu"), torch.float32)
    video = make_video(tmp_path / "a.mp4", seconds=3, fps=4, size=(32, 48), picture=plain(102))
    result = analyse(video, tmp_path / "out", "odd/slow", changes={"head": "odd/shares", "components": {"odd/slow": {"seconds": 0.0}}})
    assert said(result, "odd/shares", "compound7", "p_fearfully_surprised") == [pytest.approx(0.4, abs=0.012)]


def test_weights_are_in_the_record():
    pytest.importorskip("affectkit_mini")
    made = assemble(recipe("mini/audio"), registry())
    weights = made.record["mini/audio"]["weights"]
    assert len(weights) == 1
    assert len(weights[0]["sha256"]) == 64
    assert made.record["core/mean"]["weights"] == []
