"""``affectkit train fusion``: what is fitted, compared and written, from the tables of runs; folds and leave-one-out against loops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from affectkit import plugins
from affectkit.api import BASIC7, BASIC8, Sources
from affectkit.builtin.class_weights import VERSIONS
from affectkit.builtin.fusing import GRIDS, Rows, check, choose, fit, folds, named, split
from affectkit.builtin.weight_report import weight_picture, weight_table
from affectkit.cli import cli
from affectkit.errors import ConfigError, UsageError
from affectkit.media import Media
from affectkit.options import build
from affectkit.store import Part, Run
from affectkit.timeline import Timeline
from affectkit.weight_files import metadata

CLASSES = ("neutral", "anger", "happiness")
SOURCES = ("some/face", "some/voice", "some/noise")
SKILL = {"some/face": 2.0, "some/voice": 1.0, "some/noise": 0.0}


def table(count: int = 90, seed: int = 0, missing: float = 0.0) -> Rows:
    """Rows of three sources, of which the last guesses, in groups of three."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, 3, count)
    powers = np.exp(random.normal(size=(count, 3, 3)) + np.array([2.0, 1.0, 0.0])[:, None] * np.eye(3)[truth][:, None])
    values = powers / powers.sum(axis=2, keepdims=True)
    values[random.random((count, 3)) < missing] = np.nan
    return Rows(SOURCES, values, truth, np.array([f"g{n // 3}" for n in range(count)]))


@given(st.integers(0, 2**31), st.integers(2, 5), st.integers(5, 30))
def test_folds_keep_groups_whole(seed: int, count: int, names: int) -> None:
    random = np.random.default_rng(seed)
    groups, truth = random.integers(0, names, 200).astype(str), random.integers(0, 4, 200)
    fold = folds(groups, truth, count, seed)
    assert all(len(set(fold[groups == group])) == 1 for group in set(groups))
    assert set(fold) == set(range(count))


def test_folds_have_about_the_same_classes() -> None:
    random = np.random.default_rng(0)
    truth = random.choice(4, 800, p=[0.5, 0.3, 0.15, 0.05])
    fold = folds(np.arange(800).astype(str), truth, 5, 0)
    for number in range(5):
        shares = np.bincount(truth[fold == number], minlength=4) / (fold == number).sum()
        np.testing.assert_allclose(shares, np.bincount(truth) / 800, atol=0.02)
    with pytest.raises(UsageError, match=r"3 folds need as many groups .* found 2"):
        folds(np.array(["a", "b"]), np.array([0, 1]), 3, 0)


@pytest.mark.parametrize("name", list(GRIDS))
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_every_fusion_is_fitted_and_fuses(name: str, missing: float) -> None:
    rows = table(missing=missing)
    made = fit(name, rows, GRIDS[name][-1], seed=1, draws=200)
    fused = made.fuse(rows)
    some = ~np.isnan(rows.values).all(axis=(1, 2))
    assert np.array_equal(~np.isnan(fused).all(axis=1), some)
    np.testing.assert_allclose(fused[some].sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(made.weights.sum(axis=0), 1, atol=1e-5)
    again = fit(name, rows, GRIDS[name][-1], seed=1, draws=200).fuse(rows)
    assert np.array_equal(again, fused, equal_nan=True)
    if name not in ("mean", "mhpf_published", *VERSIONS):  # as published, they hardly leave the numbers that they begin with
        assert made.weights[0].mean() > made.weights[2].mean()


def test_nothing_of_a_group_that_is_held_out_is_seen() -> None:
    """Rows of one fold with wrong classes change what is said of others, and not what is said of them."""
    rows = table()
    held = folds(rows.groups, rows.truth, 3, 0) == 0
    fused = check("convex", rows, outer=3, inner=2).fused
    for learned, out in split(rows, 3, 0):
        assert not set(rows.groups[learned]) & set(rows.groups[out])
        options = choose("convex", rows.take(learned), 2, 1)
        np.testing.assert_allclose(fused[out], fit("convex", rows.take(learned), options).fuse(rows.take(out)))
    assert held.any()


def test_sources_left_out() -> None:
    rows = table(120)
    found = check("mean", rows, outer=3, leave_out=True)
    for place, source in enumerate(SOURCES):
        mean = np.delete(rows.values, place, axis=1).mean(axis=1)
        assert found.without[source] == pytest.approx(f1_score(rows.truth, mean.argmax(axis=1), average="macro"))
    assert found.without["some/face"] < found.without["some/noise"]
    assert check("mean", rows, outer=3).without == {}
    assert rows.without("some/face").sources == SOURCES[1:]


def test_names() -> None:
    assert named(["mean", "convex", "mean"]) == ("mean", "convex")
    with pytest.raises(UsageError, match=r"there is no fusion 'convec' to fit. Did you mean convex"):
        named(["convec"])
    with pytest.raises(UsageError, match="there is no fusion to fit; name some of mean, dirichlet"):
        named([])
    with pytest.raises(UsageError, match="there is no fusion 'max' to fit"):
        fit("max", table())


def test_the_report_of_weights(tmp_path: Path) -> None:
    weights = np.array([[0.25, 0.6], [0.75, np.nan]])
    text = weight_table(weights, ("a/b", "c/d"), ("anger", "fear"))
    assert text.splitlines()[2:] == ["| a/b | 0.25 | **0.60** |", "| c/d | **0.75** | - |"]
    weight_picture(tmp_path / "w.png", {"one": weights, "two": weights}, ("a/b", "c/d"), ("anger", "fear"))
    import cv2

    picture = cv2.imread(str(tmp_path / "w.png"))
    assert picture is not None
    assert picture.std() > 5
    with pytest.raises(UsageError, match="expected weights for 2 sources and 3 labels, found"):
        weight_table(weights, ("a/b", "c/d"), ("x", "y", "z"))
    with pytest.raises(UsageError, match="there are no weights to draw"):
        weight_picture(tmp_path / "n.png", {}, (), ())


def write_run(folder: Path, sources: tuple[str, ...], media: int = 18, quality: bool = True, track: int = -1) -> Path:
    """A run of two windows per medium in which the sources know the label as well as SKILL says; the first of SOURCES sees the subject ``track``."""
    run = Run(folder, {"recipe": {"modalities": list(sources), "subjects": "main", "fusion": None, "head": None}}, digest="x" * 64)
    run.begin()
    spans = np.array([[0.0, 4.0], [2.0, 6.0]])
    for number in range(media):
        name, truth = f"actor{number % 6}_{number}", BASIC7.index(CLASSES[number % 3])
        path = folder.parent / f"{name}.wav"
        path.write_bytes(name.encode())
        timelines = []
        for source in sources:
            random = np.random.default_rng([number, SOURCES.index(source)])
            powers = np.exp(random.normal(size=(2, 7)) + SKILL[source] * np.eye(7)[truth])
            values = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
            valid = np.array([True, not (source == SOURCES[0] and number == 0)])
            values[~valid] = np.nan
            figures = {"size": random.random(2).astype(np.float32)} if quality and source == SOURCES[0] else {}
            subject = track if source == SOURCES[0] else -1
            timelines.append(Timeline(name, subject, source, BASIC7, spans[:, 0], spans[:, 1], values, valid, figures))
        record = {"path": str(path), "kind": "audio", "start": 0.0, "duration": 6.0, "fps": None, "size": None}
        run.write(Part(Media(name, path, "audio", duration=6.0), timelines, record=record))
    run.save(label_sets={"basic7": {"labels": BASIC7.labels, "kind": "categorical", "low": 0.0, "high": 1.0, "pairs": None}})
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predictions")
    write_run(folder / "run", SOURCES)
    write_run(folder / "faces", SOURCES[:1])
    write_run(folder / "others", SOURCES[1:], quality=False)
    lines = [f"actor{n % 6}_{n},{CLASSES[n % 3]}" for n in range(18)]
    (folder / "labels.csv").write_text("\n".join(["media,label", *lines]) + "\n", encoding="utf-8")
    return folder


FEW = ["--set", "options.set=basic7", "--set", "options.outer=3", "--set", "options.inner=2"]


def train(data: Path, out: Path, *arguments: str, runs: tuple[str, ...] = ("run",), labels: Path | None = None) -> Any:
    given = [word for run in runs for word in ("--predictions", str(data / run))]
    return CliRunner().invoke(
        cli, ["train", "fusion", *given, "--labels", str((labels or data) / "labels.csv"), "--out", str(out), *FEW, *arguments]
    )


class TestCommand:
    def test_everything_is_fitted_compared_and_written(self, data: Path, tmp_path: Path) -> None:
        done = train(data, tmp_path, "--set", "options.groups=^(actor\\d)")
        assert done.exit_code == 0, done.output
        names = {path.name for path in tmp_path.iterdir()}
        fitted = {"dirichlet", "convex", "mhpf", "mhpf_published", "mhpf_gated"}
        assert names == {"fusion.json", "fusion.md", "fusion.png"} | {f"fusion_{name}.safetensors" for name in fitted}
        record = json.loads((tmp_path / "fusion.json").read_text())
        assert (record["rows"], record["groups"], record["sources"]) == (36, 6, list(SOURCES))
        assert set(record["fusions"]) == {"mean", *fitted}
        for name, told in record["fusions"].items():
            assert f"{name} " in done.output
            assert set(told["macro_f1_without"]) == set(SOURCES)
            assert 0 <= told["measured"]["macro_f1"]["value"] <= 1
            assert len(told["chosen_in_folds"]) == 3
            assert ("against_the_mean" in told) == (name != "mean")
        card = (tmp_path / "fusion.md").read_text()
        assert "![Weights of each fusion](fusion.png)" in card
        assert "| source | neutral | anger |" in card
        assert " --predictions RUN --labels FILE`" in card
        assert str(data) not in card
        registry = plugins.load(only=[])
        for name in fitted:
            told = record["fusions"][name]
            component = registry.get(told["component"], "fusion").cls
            fusion = component(component.Options(checkpoint=str(tmp_path / told["file"])))
            fusion.load(torch.device("cpu"), torch.float32)
            assert fusion.trained_for == SOURCES
            rows = torch.full((2, 3, 8), 1 / 8)
            fused = fusion.fuse(Sources(BASIC8, SOURCES, rows, torch.ones(rows.shape, dtype=torch.bool))).values[BASIC8]
            torch.testing.assert_close(fused, rows[:, 0])
        assert json.loads(metadata(tmp_path / "fusion_mhpf_gated.safetensors")["quality"]) == [["size"], [], []]

    def test_sources_in_several_runs_are_rows_of_one_table(self, data: Path, tmp_path: Path) -> None:
        one = train(data, tmp_path / "one", "--set", "options.fusions=[mean, convex]", "--json")
        two = train(data, tmp_path / "two", "--set", "options.fusions=[mean, convex]", "--json", runs=("faces", "others"))
        assert one.exit_code == two.exit_code == 0, two.output
        first, second = (json.loads(done.stdout) for done in (one, two))
        assert first["fusions"]["convex"]["weights"] == second["fusions"]["convex"]["weights"]
        assert first["fusions"]["mean"]["measured"] == second["fusions"]["mean"]["measured"]
        doubled = train(data, tmp_path / "three", runs=("run", "faces"))
        assert doubled.exit_code == 2
        assert "some/face says the window of actor0_0 from 0 to 4 s in two runs" in doubled.output

    def test_the_versions_before_mhpf_are_fitted_and_read(self, data: Path, tmp_path: Path) -> None:
        done = train(data, tmp_path, "--set", "options.fusions=[mean, v1, v3, v4, v5]", "--set", "options.leave_out=false", "--json")
        assert done.exit_code == 0, done.output
        component = plugins.load(only=[]).get("core/probability_fusion", "fusion").cls
        for version in VERSIONS:
            told = json.loads(done.stdout)["fusions"][version]
            assert told["component"] == "core/probability_fusion"
            fusion = component(component.Options(checkpoint=str(tmp_path / told["file"])))
            fusion.load(torch.device("cpu"), torch.float32)
            torch.testing.assert_close(fusion._model.by_class()[:, :7], torch.tensor(told["weights"])[:, :7], atol=1e-5, rtol=0)

    def test_a_window_without_a_subject_is_no_row_of_its_own(self, data: Path, tmp_path: Path) -> None:
        write_run(tmp_path / "run", SOURCES, track=0)
        few = ("--set", "options.fusions=[mean, convex]", "--json")
        seen, plain = train(tmp_path, tmp_path / "seen", *few, labels=data), train(data, tmp_path / "plain", *few)
        assert seen.exit_code == plain.exit_code == 0, seen.output
        first, second = (json.loads(done.stdout) for done in (seen, plain))
        assert first["rows"] == second["rows"] == 36
        assert first["fusions"] == second["fusions"]

    def test_it_can_be_run_and_the_recipe_is_listed(self, data: Path, tmp_path: Path) -> None:
        done = train(data, tmp_path, "--set", "options.fusions=[convex]", "--set", "options.leave_out=false")
        assert done.exit_code == 0, done.output
        weights = tmp_path / "fusion_convex.safetensors"
        fused = CliRunner().invoke(
            cli,
            [
                "fuse",
                str(data / "run"),
                "--fusion",
                "core/convex",
                "--set",
                f"components.core/convex.checkpoint={weights}",
                "--out",
                str(tmp_path / "run"),
            ],
        )
        assert fused.exit_code == 0, fused.output
        assert "core/fusion" in CliRunner().invoke(cli, ["recipes", "--training"]).output
        measured = CliRunner().invoke(cli, ["evaluate", str(tmp_path / "run"), "--labels", str(data / "labels.csv"), "--set", "basic7"])
        assert measured.exit_code == 0, measured.output
        assert "core/convex" in measured.output

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--set", "options.fusions=[convec]"], "there is no fusion 'convec' to fit. Did you mean convex"),
            (["--set", "options.outer=1"], "outer and inner are numbers of folds, 2 or more, found 1 and 2"),
            (["--set", "options.outer=30"], "30 folds need as many groups"),
            (
                ["--set", "options.sources=[some/fac, some/voice]"],
                "holds no source 'some/fac' that speaks labels of basic8. Did you mean some/face",
            ),
            (["--set", "options.sources=[some/face]"], "a fusion needs two sources or more"),
            (["--limit", "3"], "core/fusion_training has no parts to limit; leave --limit out"),
        ],
    )
    def test_mistakes(self, data: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
        done = train(data, tmp_path, *arguments)
        assert done.exit_code == 2, done.output
        assert message in " ".join(done.output.split())
        assert not list(tmp_path.glob("fusion*"))

    def test_without_predictions_or_labels_it_says_what_is_missing(self, data: Path, tmp_path: Path) -> None:
        nothing = train(data, tmp_path, runs=())
        assert nothing.exit_code == 2
        assert "core/fusion_training needs predictions: give run folders with --predictions RUN, or --data" in nothing.output
        unlabelled = CliRunner().invoke(cli, ["train", "fusion", "--predictions", str(data / "run"), "--out", str(tmp_path)])
        assert unlabelled.exit_code == 2
        assert "options.labels" in unlabelled.output
        (tmp_path / "others.csv").write_text("media,label\nnobody,anger\n")
        strange = train(data, tmp_path, "--labels", str(tmp_path / "others.csv"))
        assert strange.exit_code in (1, 2), strange.output

    def test_numbers_of_folds_are_checked(self) -> None:
        from affectkit.builtin.fusion_training import ComparedOptions

        with pytest.raises(ConfigError, match="outer and inner are numbers of folds"):
            build(ComparedOptions, {"labels": "x.csv", "inner": 1})
