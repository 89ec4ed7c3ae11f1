"""Bad input of every kind: what is said, with which status, and what is kept of the rest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import affectkit
from affectkit.errors import MediaError
from affectkit.testing.media import make_frames, make_video, make_wav, tone
from tests.engine_helpers import analyse, command, plain, recipe_file, said, square, steps


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds: two dark, two bright, two dark."""
    return make_video(tmp_path_factory.mktemp("film") / "film.mp4", seconds=6, fps=5, size=(32, 48), picture=steps(60, 200, 60))


def windows(length: float = 2.0) -> dict:
    return {"windows": {"length": length, "step": length, "min_tail": 1.0}}


# before the first frame


@pytest.mark.parametrize(
    ("modalities", "extra", "arguments", "messages"),
    [
        (["fake/stil"], "", [], ["there is no modality 'fake/stil'. Did you mean fake/still?"]),
        (["fakes"], "", [], ["unknown plugin 'fakes'. Did you mean fake?"]),
        (["fake/still"], "hed: core/ppa", [], ["hed: unknown key. Did you mean head?"]),
        (["fake/still"], "head: core/pppa", [], ["there is no head 'core/pppa'. Did you mean core/ppa?"]),
        (["fake/still"], "fusion: core/ppa", [], ["core/ppa is a head, not a fusion."]),
        (["fake/fussy"], "components: {fake/fussy: {wher: nan}}", [], ["wher: unknown key. Did you mean where?"]),
        (["fake/still"], "outside: others", [], ["own.yaml:6: outside: 'others' is not one of other, drop, error. Did you mean other?"]),
        (["fake/still"], "windows: !!python/object/apply:os.system ['true']", [], ["python/object/apply:os.system"]),
        (["odd/heavy"], "", [], ["odd/heavy", "heavy.safetensors", "affectkit weights"]),
        (["odd/stubborn"], "", [], ["odd/stubborn could not be set up: RuntimeError: no"]),
        (
            ["fake/still"],
            "fusion: odd/elsewhere",
            [],
            ["odd/elsewhere was not fitted for fake/still: its weights are for [far/voice, far/face], the run has [fake/still]"],
        ),
        (
            ["fake/still"],
            "head: odd/peeking",
            [],
            ["odd/peeking reads the embedding 'far/face:features', and far/face is not in the run [fake/still]; add it with --plugins"],
        ),
        (
            ["fake/still"],
            "head: core/direct",
            [],
            ["core/direct needs a modality that says 'compound7' itself, and the run has none: fake/still (basic7)"],
        ),
        (
            ["fake/still"],
            "fusion: null\nhead: core/ppa",
            [],
            ["core/ppa reads fused values of 'basic8' and there is no fusion; add --fusion core/mean"],
        ),
        (["fake/still"], "head: odd/swing", [], ["odd/swing reads 'va' and core/mean gives 'basic8'; choose a head and a fusion that fit"]),
        (
            ["odd/drinks"],
            "",
            [],
            ["core/mean fuses 'basic8' and no modality of the run says that: odd/drinks (drinks); choose others, or --fusion none"],
        ),
        (["odd/hatching"], "", [], ["inputs need each other in a circle: chicken -> egg -> chicken"]),
        (
            ["odd/starving"],
            "",
            [],
            ["odd/starving needs the input 'ambrosia' and no provider is chosen for it; add providers.ambrosia to the recipe"],
        ),
        (["fake/face"], "sampling: {faces: 0}", [], ["frames per second must be greater than 0, found 0"]),
        (["fake/still"], "", ["--device", "cuda:7"], ["device 'cuda:7' is not here", "use --device auto or cpu"]),
        (["fake/still"], "components: {fake/still: {device: cuda:7}}", [], ["device 'cuda:7' is not here"]),
        (["fake/still"], "", ["--device", "gpu"], ["unknown device 'gpu'; use auto, cpu, cuda or cuda:0"]),
        (["fake/still"], "", ["--set", "windows.stepp=1"], ["windows.stepp: unknown key. Did you mean step?"]),
        (["fake/still"], "", ["--fusion", "core/men"], ["there is no fusion 'core/men'. Did you mean core/mean?"]),
        (["fake/still"], "", ["--plugins", "fake/nothing"], ["there is no modality 'fake/nothing'"]),
        (["fake/still"], "", ["--precision", "fp8"], ["'fp8' is not one of 'fp32', 'bf16', 'fp16'"]),
    ],
)
def test_what_is_wrong_before_the_first_frame(film, tmp_path, modalities, extra, arguments, messages):
    chosen = recipe_file(tmp_path / "own.yaml", *modalities, extra=extra)
    ran = command("run", film, "--recipe", chosen, "--out", tmp_path / "out", *arguments)
    assert ran.exit_code == 2, ran.output
    for message in messages:
        assert message in ran.stderr
    assert "Traceback" not in ran.output
    assert not (tmp_path / "out").exists(), "nothing is written"


def test_a_recipe_that_is_not_there(film, tmp_path):
    ran = command("run", film, "--recipe", "minni/mini", "--out", tmp_path / "out")
    assert ran.exit_code == 2
    assert "there is no recipe 'minni/mini'" in ran.stderr
    ran = command("run", film, "--recipe", tmp_path / "own.yaml", "--out", tmp_path / "out")
    assert ran.exit_code == 2
    assert str(tmp_path / "own.yaml") in ran.stderr


def test_all_problems_are_in_one_report(film, tmp_path):
    chosen = recipe_file(
        tmp_path / "own.yaml",
        "fake/stil",
        "odd/heavy",
        "odd/starving",
        extra="fusion: core/men\nhead: core/pppa\ncomponents: {fake/nobody: {x: 1}}",
    )
    ran = command("run", film, "--recipe", chosen, "--out", tmp_path / "out")
    assert ran.exit_code == 2
    assert ran.stderr.startswith("Error: 6 problems:\n1. ")
    for message in [
        "'fake/stil'",
        "the weights heavy.safetensors are not here",
        "'ambrosia'",
        "'core/men'",
        "'core/pppa'",
        "components.fake/nobody",
    ]:
        assert ran.stderr.count(message) == 1, ran.stderr


def test_the_folder_and_the_device_are_in_one_report(film, tmp_path):
    (tmp_path / "out").write_text("a file")
    chosen = recipe_file(tmp_path / "own.yaml", "fake/still")
    ran = command("run", film, "--recipe", chosen, "--out", tmp_path / "out", "--device", "cuda:7")
    assert ran.exit_code == 2
    assert f"1. {tmp_path / 'out'} is a file; give a folder with --out\n2. device 'cuda:7' is not here" in ran.stderr
    assert (tmp_path / "out").read_text() == "a file"


def test_a_folder_with_something_else_in_it_is_left_alone(film, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("dear")
    chosen = recipe_file(tmp_path / "own.yaml", "fake/still")
    for more in ([], ["--no-resume"]):
        ran = command("run", film, "--recipe", chosen, "--out", tmp_path / "out", *more)
        assert ran.exit_code == 2
        assert f"{tmp_path / 'out'} is not empty and holds no run of affectkit; give an empty or new folder with --out" in ran.stderr
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_results_are_not_thrown_away_for_a_run_that_cannot_start(film, tmp_path):
    chosen = recipe_file(tmp_path / "own.yaml", "fake/still")
    assert command("run", film, "--recipe", chosen, "--out", tmp_path / "out").exit_code == 0
    other = recipe_file(tmp_path / "other.yaml", "odd/stubborn")
    assert command("run", film, "--recipe", other, "--out", tmp_path / "out", "--no-resume").exit_code == 2
    assert len(affectkit.read_run(tmp_path / "out")) == 4


def test_a_damaged_run_json_says_so(film, tmp_path):
    chosen = recipe_file(tmp_path / "own.yaml", "fake/still")
    start = ["run", film, "--recipe", chosen, "--out", tmp_path / "out"]
    assert command(*start).exit_code == 0
    (tmp_path / "out" / "run.json").write_text("{")
    ran = command(*start)
    assert ran.exit_code == 2
    assert f"{tmp_path / 'out' / 'run.json'} is damaged" in ran.stderr
    assert "run again with --no-resume, or give another folder" in ran.stderr
    assert command(*start, "--no-resume").exit_code == 0


def test_nothing_to_analyse():
    ran = command("run", "--plugins", "fake/still")
    assert ran.exit_code == 2
    assert "Missing argument 'VIDEO...'" in ran.stderr


# files that cannot be read


def test_unreadable_files_are_recorded_and_the_others_analysed(film, tmp_path):
    folder = tmp_path / "media"
    folder.mkdir()
    (folder / "good.mp4").write_bytes(film.read_bytes())
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("this is no video at all\n" * 50)
    chosen = recipe_file(tmp_path / "own.yaml", "fake/still")
    ran = command("run", folder, tmp_path / "absent.mp4", "--recipe", chosen, "--out", tmp_path / "out", "--json")
    assert ran.exit_code == 1
    told = json.loads(ran.stdout)
    assert told["analysed"] == ["good"]
    messages = {Path(f["path"]).name: f["message"] for f in told["failures"]}
    assert messages["empty.mp4"] == f"{folder / 'empty.mp4'} is empty (0 bytes); was it copied to its end?"
    assert messages["absent.mp4"] == f"{tmp_path / 'absent.mp4'} does not exist"
    assert messages["text.mp4"].startswith(f"{folder / 'text.mp4'} ")
    table = pd.read_parquet(tmp_path / "out" / "failures.parquet")
    assert list(table.columns) == ["media", "path", "stage", "component", "at", "error", "message"]
    assert set(table.stage) == {"open"}
    assert len(table) == 3
    assert len(affectkit.read_run(tmp_path / "out")) == 4
    ran = command("run", folder, "--recipe", chosen, "--out", tmp_path / "out")
    assert ran.exit_code == 1
    assert f"Failed: {folder / 'empty.mp4'} is empty (0 bytes); was it copied to its end?" in ran.stderr


def test_an_empty_folder(tmp_path):
    (tmp_path / "nothing").mkdir()
    ran = command("run", tmp_path / "nothing", "--recipe", recipe_file(tmp_path / "own.yaml", "fake/still"), "--out", tmp_path / "out")
    assert ran.exit_code == 1
    assert f"{tmp_path / 'nothing'} holds nothing to analyse; looked for videos, sound and pictures" in ran.stderr
    assert affectkit.read_run(tmp_path / "out").empty


def test_frames_without_a_rate(tmp_path):
    folder = make_frames(tmp_path / "frames", range(1, 4), (16, 24))
    ran = command("run", folder, "--recipe", recipe_file(tmp_path / "own.yaml", "fake/still"), "--out", tmp_path / "out")
    assert ran.exit_code == 1
    assert "numbered frames, which do not say how fast they follow each other; pass --fps, for instance --fps 30" in ran.stderr


def test_strict_stops_at_the_first_unreadable_file(film, tmp_path):
    (tmp_path / "empty.mp4").touch()
    chosen = recipe_file(tmp_path / "own.yaml", "fake/still")
    ran = command("run", film, tmp_path / "empty.mp4", "--recipe", chosen, "--out", tmp_path / "out", "--strict")
    assert ran.exit_code == 1
    assert "is empty (0 bytes)" in ran.stderr
    assert affectkit.read_run(tmp_path / "out").empty


def test_a_file_that_breaks_keeps_what_came_before(tmp_path):
    whole = make_video(tmp_path / "whole.mp4", seconds=10, fps=10, size=(64, 96), options={"movflags": "+faststart"})
    content = whole.read_bytes()
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(content[: int(len(content) * 0.55)])
    other = make_video(tmp_path / "other.mp4", seconds=3, fps=5, size=(32, 48), picture=plain(51))
    result = analyse([broken, other], tmp_path / "out", "fake/still", changes=windows(1.0))
    assert [f.stage for f in result.failures] == ["video"]
    failure = result.failures[0]
    assert failure.media == "broken"
    assert 2.0 < failure.at < 9.0
    assert result.media["broken"]["broke_at"] == failure.at
    assert result.media["other"]["broke_at"] is None
    table = result.read("basic7")
    mine = table[table.media == "broken"]
    assert mine[mine.end <= failure.at].valid.all()
    assert mine.start.max() <= failure.at, "there are no windows of what could not be read"
    reference = analyse(whole, tmp_path / "reference", "fake/still", changes=windows(1.0)).read("basic7")
    before = mine[mine.end <= failure.at]
    assert len(before) >= 1
    expected = reference[reference.end <= failure.at]
    assert before.p_happiness.tolist() == pytest.approx(expected.p_happiness.tolist(), abs=1e-6)


# plugins that fail


@pytest.mark.parametrize(
    ("where", "stage", "message"),
    [
        ("preprocess", "preprocess", "ValueError: too bright to look at"),
        ("predict", "predict", "ValueError: too bright"),
        ("nan", "predict", "fake/fussy returned values that are not finite for 'basic7'"),
        ("sum", "predict", "fake/fussy must return rows that sum to 1 for 'basic7', found a row that sums to 0.500"),
    ],
)
def test_a_failing_modality_costs_only_its_own_rows(film, tmp_path, where, stage, message):
    changes = {"components": {"fake/fussy": {"where": where}}, **windows()}
    result = analyse(film, tmp_path / "out", "fake/fussy", "fake/brightness", changes=changes, batch_size=8)
    good = said(result, "fake/brightness")
    assert None not in good
    expected = [good[0], None, good[2]] if where in ("preprocess", "predict") else [None] * 3
    assert said(result, "fake/fussy") == expected, "one bad clip costs only itself"
    assert said(result, "core/mean", "basic8") == pytest.approx(good)
    assert [(f.media, f.stage, f.component, f.message) for f in result.failures] == [("film", stage, "fake/fussy", message)]
    had = result.media["film"]["evidence"]["fake/fussy"]
    assert had["with_evidence"] == sum(v is not None for v in expected)
    assert list(had["reasons"]) == ["it failed"]


def test_a_failing_modality_ends_with_status_1_and_a_message(film, tmp_path):
    chosen = recipe_file(tmp_path / "own.yaml", "fake/fussy", "fake/brightness", extra="windows: {length: 2, step: 2}")
    ran = command("run", film, "--recipe", chosen, "--out", tmp_path / "out")
    assert ran.exit_code == 1
    assert f"Failed: {film}: fake/fussy: ValueError: too bright" in ran.stderr
    assert "Traceback" not in ran.output
    table = pd.read_parquet(tmp_path / "out" / "failures.parquet")
    assert table[["media", "stage", "component", "error", "message"]].values.tolist() == [
        ["film", "predict", "fake/fussy", "ValueError", "ValueError: too bright"]
    ]
    again = command("run", film, "--recipe", chosen, "--out", tmp_path / "out")
    assert again.exit_code == 1, "finished, and still with a failure"


def test_strict_stops_at_the_first_failure(film, tmp_path):
    chosen = recipe_file(tmp_path / "own.yaml", "fake/fussy", "fake/brightness", extra="windows: {length: 2, step: 2}")
    ran = command("run", film, "--recipe", chosen, "--out", tmp_path / "out", "--strict")
    assert ran.exit_code == 1
    assert f"Error: {film}: fake/fussy: ValueError: too bright (--strict stops at the first failure)" in ran.stderr
    with pytest.raises(MediaError, match="too bright"):
        analyse(film, tmp_path / "other", "fake/fussy", strict=True)


def test_a_failing_provider_costs_what_needs_it(tmp_path):
    video = make_video(tmp_path / "face.mp4", seconds=3, fps=5, size=(32, 48), picture=square(200))
    result = analyse(video, tmp_path / "out", "fake/face", "fake/still", changes={"providers": {"faces": "fake/clumsy"}})
    assert said(result, "fake/face") == [None]
    assert None not in said(result, "fake/still")
    assert [(f.stage, f.component, f.message) for f in result.failures] == [("provide", "fake/clumsy", "RuntimeError: fell over")]
    assert result.media["face"]["evidence"]["fake/face"]["reasons"] == {"no face": 1}


def test_a_failing_provider_has_alternatives(tmp_path):
    video = make_video(tmp_path / "face.mp4", seconds=3, fps=5, size=(32, 48), picture=square(200))
    result = analyse(video, tmp_path / "out", "fake/face", changes={"providers": {"faces": ["fake/clumsy", "fake/squares"]}})
    assert said(result, "fake/face") == [pytest.approx(200 / 255, abs=0.03)]
    assert [f.component for f in result.failures] == ["fake/clumsy"]


@pytest.mark.parametrize(
    ("how", "message"), [("raise", "RuntimeError: cannot fuse"), ("short", "odd/crooked must return (3, 8) values for 'basic8'")]
)
def test_a_failing_fusion_keeps_what_the_modalities_said(film, tmp_path, how, message):
    changes = {"fusion": "odd/crooked", "components": {"odd/crooked": {"how": how}}, **windows()}
    result = analyse(film, tmp_path / "out", "fake/still", changes=changes)
    assert None not in said(result, "fake/still")
    assert [(f.stage, f.component) for f in result.failures] == [("fuse", "odd/crooked")]
    assert result.failures[0].message.startswith(message)


def test_a_batch_that_does_not_fit_is_halved_and_the_run_goes_on(film, tmp_path):
    result = analyse(film, tmp_path / "out", "fake/hungry", "fake/brightness", changes=windows(1.0), batch_size=8)
    assert said(result, "fake/hungry") == pytest.approx(said(result, "fake/brightness"), abs=1e-6)
    assert result.failures == ()
    timings = json.loads((tmp_path / "out" / "run.json").read_text())["timings"]
    assert list(timings["halved_for_memory"]) == ["fake/hungry"]
    assert timings["batch_size"] == {"fake/hungry": 1 if timings["halved_for_memory"]["fake/hungry"] > 1 else 3, "fake/brightness": 8}


def test_one_clip_that_does_not_fit_is_a_clear_failure(film, tmp_path):
    result = analyse(film, tmp_path / "out", "odd/tight", "fake/still", changes={"components": {"odd/tight": {"seconds": 0.0}}})
    assert said(result, "odd/tight") == [None, None]
    assert None not in said(result, "fake/still")
    assert [f.message for f in result.failures] == [
        "odd/tight: one clip does not fit the memory of cpu; use --device cpu, or --precision bf16 on a GPU (CUDA out of memory (made up))"
    ]


def test_a_broken_plugin_does_not_stop_a_run_that_does_not_need_it(film, tmp_path):
    folder = tmp_path / "plugins"
    folder.mkdir()
    for file in (Path(__file__).with_name("plugin_files") / "fake.py", Path(__file__).with_name("plugin_files") / "odd.py"):
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "broken.py").write_text("import a_package_that_nobody_has\n")
    chosen = recipe_file(tmp_path / "own.yaml", "fake/still")
    ran = command("run", film, "--recipe", chosen, "--plugins-dir", folder, "--out", tmp_path / "out")
    assert ran.exit_code == 0, ran.output
    info = json.loads((tmp_path / "out" / "run.json").read_text())
    assert "a_package_that_nobody_has" in info["broken_plugins"]["broken"]


def test_a_sound_stream_that_is_not_there(film, tmp_path):
    wav = make_wav(tmp_path / "voice.wav", tone(np.arange(8000) / 8000), 8000)
    chosen = recipe_file(tmp_path / "own.yaml", "fake/loudness")
    ran = command("run", wav, "--recipe", chosen, "--audio-stream", "3", "--out", tmp_path / "out")
    assert ran.exit_code == 1
    assert f"{wav} has no audio stream with index 3; its streams are 0: audio" in ran.stderr


def test_a_real_file_that_breaks_in_the_middle(shared_data, tmp_path):
    path = shared_data / "video_edge" / "corrupted.mp4"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    ran = command(
        "run", path, "--recipe", recipe_file(tmp_path / "own.yaml", "fake/still", "fake/loudness"), "--out", tmp_path / "out", "--json"
    )
    assert ran.exit_code == 1
    told = json.loads(ran.stdout)
    assert told["media"]["corrupted"]["broke_at"] == pytest.approx(2.7, abs=0.2)
    assert {f["stage"] for f in told["failures"]} <= {"video", "sound"}
    assert affectkit.read_run(tmp_path / "out", "basic7").query("source == 'fake/still'").valid.iloc[0]
