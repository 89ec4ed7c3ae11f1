"""Numbers of the published implementations, reproduced within the tolerance that each golden states."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from affectkit.api import COMPOUND7
from affectkit.builtin.abaw import CE
from affectkit.builtin.mhpf import MHPF
from affectkit.builtin.ppa import ppa
from affectkit.cli import cli
from affectkit.planner import windows
from affectkit.timeline import frame_ranges, overlap_mean
from tests.run_folders import Film, write_run


def check(golden: ModuleType, meta: dict, ref: dict, outputs: dict[str, np.ndarray]) -> None:
    """Every output that is given is within its tolerance."""
    rows = golden.compare(meta, ref, outputs)
    assert {name for name, *_ in rows} == set(outputs)
    assert [(name, error, allowed) for name, error, allowed, ok in rows if not ok] == []


@pytest.mark.parametrize("stem", ["ras_windows"], indirect=True)
def test_windows(golden: ModuleType, stem: Path) -> None:
    meta, ref = golden.load(stem)
    cases = golden.make_input(meta["inputs"][0], meta["salt"])
    outputs = {f"windows_{i:02d}": np.array([(s.start, s.end) for s in windows(*case)]) for i, case in enumerate(cases.tolist())}
    assert set(outputs) == set(meta["outputs"])
    check(golden, meta, ref, outputs)
    assert all(np.array_equal(outputs[name], ref[name]) for name in outputs)  # to the last bit


@pytest.mark.parametrize("stem", ["ras_ppa"], indirect=True)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ppa(golden: ModuleType, stem: Path, dtype: torch.dtype) -> None:
    meta, ref = golden.load(stem)
    q = torch.from_numpy(golden.make_input(meta["inputs"][0], meta["salt"]))
    check(golden, meta, ref, {"compound": ppa(q.to(dtype)).numpy()})


@pytest.mark.parametrize("stem", ["ras_mhpf_v6", "ras_probability_fusion_v1"], indirect=True)
@pytest.mark.parametrize("mask", [None, "sources", "classes"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mhpf(golden: ModuleType, stem: Path, mask: str | None, dtype: torch.dtype) -> None:
    meta, ref = golden.load(stem)
    probs = torch.stack([torch.from_numpy(golden.make_input(rule, meta["salt"])) for rule in meta["inputs"]], dim=1).to(dtype)
    state = {key: torch.from_numpy(np.array(value)) for key, value in golden.fill(meta["state_dict"], meta["rules"], meta["salt"]).items()}
    heads = meta["constructor"].get("num_heads", 1)
    if heads == 1:  # v1 is MHPF with one head
        (theta,) = state.values()
        state = {"head_weights": theta[None], "head_combine": torch.zeros(1)}
    model = MHPF(probs.shape[1], probs.shape[2], heads)
    model.load_state_dict(state, strict=True)
    valid = None if mask is None else torch.ones(probs.shape[: 2 if mask == "sources" else 3], dtype=torch.bool)
    with torch.no_grad():
        fused = model(probs, valid)
    assert fused.dtype == dtype
    check(golden, meta, ref, {"fused": fused.numpy()})


@pytest.mark.parametrize("stem", ["ras_frames"], indirect=True)
def test_frames(golden: ModuleType, stem: Path) -> None:
    """Windows to frames as published: their expansion covers one frame more than fits, hence a policy of its own."""
    meta, ref = golden.load(stem)
    q = torch.from_numpy(golden.make_input(meta["inputs"][0], meta["salt"])).double()
    scores = ppa(q).numpy()
    at = 0
    segments, compounds, frames = [], [], []
    for video in meta["constructor"]["videos"]:
        spans = windows(video["duration"])
        start, end = np.array([span.start for span in spans]), np.array([span.end for span in spans])
        ranges = frame_ranges(start, end, fps=video["fps"], policy="published")
        mine = scores[at : at + len(spans)]
        at += len(spans)
        means, count = overlap_mean(mine, ranges)
        assert count.min() >= 1
        segments.append(ranges - [0, 1])
        compounds.append(mine)
        frames.append(means)
    outputs = {
        "segment_frames": np.concatenate(segments),
        "segment_compound": np.concatenate(compounds),
        "frame_count": np.array([len(one) for one in frames]),
        "frame_compound": np.concatenate(frames),
    }
    check(golden, meta, ref, outputs)


@pytest.mark.parametrize("stem", ["ras_frames"], indirect=True)
def test_submission_as_published(golden: ModuleType, stem: Path, tmp_path: Path) -> None:
    """The labels of the published list, by the command that users give: its gaps are filled down the list, across videos."""
    meta, ref = golden.load(stem)
    scores = ppa(torch.from_numpy(golden.make_input(meta["inputs"][0], meta["salt"])).double()).tolist()
    films = {}
    for video in meta["constructor"]["videos"]:
        said = [("core/ppa", COMPOUND7, -1, span.start, span.end, scores.pop(0)) for span in windows(video["duration"])]
        films[video["name"]] = Film(round(video["duration"] * video["fps"]), said, fps=video["fps"])
    run = write_run(tmp_path / "run", films)
    names = [f"{video['name']}/{n:05d}.jpg" for video in meta["constructor"]["template"] for n in range(1, video["frames"] + 1)]
    template, out = tmp_path / "list.txt", tmp_path / "ce.txt"
    template.write_text("\n".join([CE.header, *(f"{name}," for name in names)]))
    done = CliRunner().invoke(
        cli, ["submit", str(run), "--to", "abaw-ce", "--template", str(template), "--out", str(out), "--gaps", "published", "--json"]
    )
    assert done.exit_code == 0, done.output
    header, *lines = out.read_text().splitlines()
    assert header == CE.header
    assert [line.split(",")[0] for line in lines] == names
    check(golden, meta, ref, {"template_labels": np.array([int(line.split(",")[1]) for line in lines])})
    report = json.loads(done.stdout)["sets"]["compound7"]
    assert report["from_other_videos"] == 3  # video 20, which has no scores
    refused = CliRunner().invoke(cli, ["submit", str(run), "--to", "abaw-ce", "--template", str(template), "--out", str(out)])
    assert refused.exit_code == 2  # every other policy asks what video 20 is to hold
    assert "20 (not in the run)" in refused.output
