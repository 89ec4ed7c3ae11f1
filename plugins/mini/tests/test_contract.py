"""What holds for every component: packaged weights, distributions, batches without neighbours, None without evidence."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import affectkit_mini
import numpy as np
import pytest
import torch
from affectkit_mini.language import MENTIONED7, TextEmotion
from affectkit_mini.records import FOLDER, load_network, read_settings

from affectkit.api import BASIC7, CheckpointError, Evidence

from .conftest import MEDIA, MODALITIES, WINDOW, Clip, clips_for, predict, words_clip

every = pytest.mark.parametrize("cls", MODALITIES, ids=lambda cls: cls.name)


def test_hooks_give_every_component_and_the_recipe():
    assert tuple(affectkit_mini.affectkit_modalities()) == MODALITIES
    assert [path.name for path in affectkit_mini.affectkit_recipes()] == ["label_match.yaml", "mini.yaml"]


def test_hooks_import_no_torch():
    code = "import sys, affectkit_mini as m; list(m.affectkit_modalities()); list(m.affectkit_recipes()); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@every
def test_rows_are_distributions_in_the_order_of_the_label_set(cls, loaded):
    clips = clips_for(cls)
    output = predict(loaded(cls), *clips)
    rows = output.values[BASIC7]
    assert rows.shape == (len(clips), 7)
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows.sum(1), torch.ones(len(clips)))
    assert (rows >= 0).all()
    assert set(output.values) == set(cls().label_sets)
    for extra in (*output.embeddings.values(), *output.quality.values()):
        assert len(extra) == len(clips)
        assert torch.isfinite(extra).all()
    assert all(column.dim() == 1 for column in output.quality.values())


@every
def test_neighbours_and_padding_do_not_matter(cls, loaded):
    component, clips = loaded(cls), clips_for(cls)
    together = predict(component, *clips)
    for row, clip in enumerate(clips):
        alone = predict(component, clip)
        for labels, values in together.values.items():
            torch.testing.assert_close(values[row], alone.values[labels][0], atol=1e-5, rtol=0)
        for name, values in together.embeddings.items():
            torch.testing.assert_close(values[row], alone.embeddings[name][0], atol=1e-4, rtol=1e-4)
        for name, values in together.quality.items():
            torch.testing.assert_close(values[row], alone.quality[name][0], atol=1e-5, rtol=1e-5)


@every
def test_same_clip_same_answer_and_nothing_global_moves(cls, loaded):
    component, clips = loaded(cls), clips_for(cls)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate(), torch.get_num_threads()
    first, second = predict(component, *clips), predict(component, *clips)
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate(), torch.get_num_threads()
    assert torch.equal(first.values[BASIC7], second.values[BASIC7])
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


@every
def test_other_evidence_other_answer(cls, loaded):
    rows = predict(loaded(cls), *clips_for(cls)).values[BASIC7]
    assert (rows[0] - rows[1]).abs().max() > 1e-3


@every
def test_no_evidence_is_none(cls, loaded):
    component = loaded(cls)
    assert component.preprocess(Clip(MEDIA, WINDOW)) is None
    for item in component.needs.inputs:
        empty = Clip(MEDIA, WINDOW, inputs={item.kind: Evidence.none(item.kind, "nothing found")})
        assert component.preprocess(empty) is None


@every
def test_half_precision_says_about_the_same(cls, loaded):
    clips = clips_for(cls)
    single = predict(loaded(cls), *clips).values[BASIC7]
    with torch.autocast("cpu", torch.bfloat16):
        half = predict(loaded(cls), *clips).values[BASIC7]
    assert half.dtype == torch.float32
    assert (single - half).abs().max() < 0.1


@every
def test_checkpoints_carry_their_record(cls):
    for record in cls.checkpoints.values():
        assert len(record.sha256) == 64
        assert record.licence
        assert record.labels == BASIC7


def test_every_file_of_weights_has_a_card_and_a_record_and_is_small():
    files = sorted(FOLDER.glob("*.safetensors"))
    assert {path.stem for path in files} >= {cls.name for cls in MODALITIES}
    assert sum(path.stat().st_size for path in files) < 20e6
    for path in files:
        assert path.stat().st_size < 10e6, path
        assert (FOLDER / f"{path.stem}.md").is_file(), path
        record = json.loads((FOLDER / f"{path.stem}.json").read_text())
        assert record["bytes"] == path.stat().st_size
        assert record["command"].startswith("affectkit train ") or record["command"].split()[0].endswith(".py")
        assert record["commercial"] is (path.stem == "text")  # the data of all the others is for research or not for commerce


def test_weights_that_do_not_fit_are_refused():
    with pytest.raises(CheckpointError, match="does not fit Linear"):
        load_network(torch.nn.Linear(2, 2), FOLDER / "audio.safetensors")


def test_weights_of_another_make_are_refused(tmp_path: Path):
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="no settings"):
        read_settings(tmp_path / "other.safetensors")


def test_own_weights_can_be_given_by_path(tmp_path: Path):
    own = tmp_path / "own.safetensors"
    own.write_bytes((FOLDER / "text.safetensors").read_bytes())
    component = TextEmotion(replace(TextEmotion.Options(), checkpoint=str(own)))
    component.load(torch.device("cpu"), torch.float32)
    assert predict(component, words_clip("What a lovely day!")).values[MENTIONED7].shape == (1, 7)
