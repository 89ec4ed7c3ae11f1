"""Dynamic faces of four plugins in one recipe: swapping one for another is one word, and a clip is read as it would be alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import affectkit
from affectkit.cli import cli

RECIPE = """\
modalities: [NAME]
providers: {faces: mini/faces}
fusion: core/mean
head: core/ppa
"""


def run(*words: str | Path) -> None:
    done = CliRunner().invoke(cli, [str(word) for word in words])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("plugin", ["s4d", "ifdd", "finecliper", "ras"])
def test_one_word_takes_another_network(plugin: str, shared_data: Path, tmp_path: Path) -> None:
    """With random weights, through the command line; the second run, of one of the two clips, says the same of it."""
    videos = [shared_data / "video" / name for name in ("debate_5s.mp4", "single_face.mp4")]
    recipe, name = tmp_path / "recipe.yaml", f"{plugin}/face_dynamic"
    recipe.write_text(RECIPE.replace("NAME", name), encoding="utf-8")
    run("weights", "tiny", "--recipe", recipe, "--out", tmp_path / "tiny")
    for out, given in (("both", videos), ("one", videos[1:])):
        run("run", *given, "--recipe", tmp_path / "tiny" / "tiny.yaml", "--out", tmp_path / out, "--offline")
    both, one = (affectkit.read_run(tmp_path / out) for out in ("both", "one"))
    assert set(both["media"]) == {"debate_5s", "single_face"}
    assert {name, "core/mean", "core/ppa"} <= set(both["source"])
    rows = both[both["media"] == "single_face"].sort_values(["labels", "source", "start"])
    alone = one.sort_values(["labels", "source", "start"])
    assert rows["valid"].any()
    shares = [column for column in rows if column.startswith("p_")]
    np.testing.assert_allclose(rows[shares].to_numpy(float), alone[shares].to_numpy(float), atol=1e-5)
