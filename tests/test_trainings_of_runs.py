"""What is made of runs and labels: heads on embeddings, weights of a fusion, temperatures; and that a run takes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from affectkit import plugins, weight_files
from affectkit.api import BASIC7, BASIC8, COMPOUND7, CheckpointError, ConfigError, Output, Sources, UsageError
from affectkit.builtin.embedding_head import EmbeddingHead
from affectkit.builtin.fusion import MHPFFusion, load_mhpf
from affectkit.builtin.labelled import apart, groups_of, labelled
from affectkit.builtin.pfsa import PFSA
from affectkit.labels import KNOWN
from affectkit.making import Made, make
from affectkit.media import Media
from affectkit.options import build
from affectkit.store import Part, Run
from affectkit.timeline import Timeline
from affectkit.training_recipes import Plan

MEDIA = 24
WINDOWS = 4
CLASSES = ("neutral", "anger", "happiness")
EMBEDDING = "some/voice:sound"


def said(rows: np.ndarray, source: str, media: str, spans: np.ndarray) -> Timeline:
    return Timeline(media, -1, source, BASIC7, spans[:, 0], spans[:, 1], rows, np.ones(len(rows), dtype=bool))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 24 media of two windows' length whose embeddings, and two of three sources, know the label; the last is too sure."""
    folder = tmp_path_factory.mktemp("runs")
    random = np.random.default_rng(0)
    recipe = {"subjects": "main", "modalities": ["some/voice", "some/face", "some/noise"], "fusion": None, "head": None, "outside": "other"}
    run = Run(folder / "run", {"recipe": recipe}, digest="x" * 64, embeddings=True)
    run.begin()
    lines = ["media,label"]
    spans = np.stack([np.arange(WINDOWS) * 2.0, np.arange(WINDOWS) * 2.0 + 4], axis=1)
    for number in range(MEDIA):
        name, label = f"actor{number % 8}_{number}", CLASSES[number % 3]
        lines.append(f"{name},{label}")
        path = folder / f"{name}.wav"
        path.write_bytes(name.encode())
        truth = BASIC7.index(label)
        rows, vectors = {}, random.normal(size=(WINDOWS, 6)) + 2 * np.eye(7, 6)[truth]
        for source, strength in (("some/voice", 1.5), ("some/face", 3.0), ("some/noise", 0.0)):
            logits = random.normal(size=(WINDOWS, 7)) + strength * np.eye(7)[truth]
            logits = logits * (4 if source == "some/voice" else 1)
            rows[source] = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        media = Media(name, path, "audio", duration=10.0, fps=None, size=None)
        record = {"path": str(path), "kind": "audio", "start": 0.0, "duration": 10.0, "fps": None, "size": None}
        embeddings = [(-1, *spans[i], "some/voice", "sound", vectors[i].astype(np.float32)) for i in range(WINDOWS)]
        run.write(Part(media, [said(values, source, name, spans) for source, values in rows.items()], record=record, embeddings=embeddings))
    run.save(label_sets={"basic7": {"labels": BASIC7.labels, "kind": "categorical", "low": 0.0, "high": 1.0, "pairs": None}})
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def registry() -> plugins.Registry:
    return plugins.load(only=[])


def trained(data: Path, registry: plugins.Registry, out: Path, training: str, options: dict[str, Any], **changes: Any) -> Made:
    given = {"labels": str(data / "labels.csv"), "set": "basic7", "groups": "^(actor\\d)", "licence": "CC0-1.0", **options}
    plan = build(Plan, {"training": training, "data": str(data / "run"), "options": given, "seed": 1, **changes})
    return make(plan, registry, out, device="cpu")


def head(data: Path, registry: plugins.Registry, out: Path, **options: Any) -> Made:
    how = {"epochs": 20, "batch_size": 16, "optimiser": {"rate": 0.02}}
    return trained(data, registry, out, "core/embedding_training", {"embedding": EMBEDDING, "hidden": 16, **options}, **how)


def sources(embeddings: torch.Tensor, **more: Any) -> Sources:
    rows = len(embeddings)
    return Sources(BASIC8, (), torch.empty(rows, 0, 8), torch.empty(rows, 0, 8, dtype=torch.bool), {EMBEDDING: embeddings}, **more)


def test_a_head_on_embeddings_is_used_by_a_run(data: Path, registry: plugins.Registry, tmp_path: Path) -> None:
    made = head(data, registry, tmp_path)
    assert made.record["validation"]["all"]["war"]["value"] > 0.8
    assert (
        made.record["rows"]["train"]["groups"] + made.record["rows"]["validation"]["groups"] + made.record["rows"]["calibration"]["groups"]
        == 8
    )
    component = EmbeddingHead(EmbeddingHead.Options(checkpoint=str(made.files[0])))
    component.load(torch.device("cpu"), torch.float32)
    assert component.labels == BASIC7
    assert component.embedding_from == EMBEDDING
    embeddings = torch.zeros(4, 6)
    embeddings[torch.arange(3), [BASIC7.index(label) for label in CLASSES]] = 3.0
    embeddings[3] = torch.nan
    values = component.convert(Output({}), sources(embeddings)).values[BASIC7]
    assert [BASIC7.labels[i] for i in values[:3].argmax(1)] == list(CLASSES)
    assert values[:3].sum(1).tolist() == pytest.approx([1.0, 1.0, 1.0])
    assert values[3].isnan().all()


@pytest.mark.parametrize(
    ("set_name", "columns", "metric"), [("va", ("valence", "arousal"), "mean_ccc"), ("au12", ("AU4", "AU12"), "mean_f1")]
)
def test_labels_that_are_partly_unknown(
    data: Path, registry: plugins.Registry, tmp_path: Path, set_name: str, columns: tuple[str, str], metric: str
) -> None:
    """A head on quantities and on units; where nobody said anything, nothing is learned and nothing measured."""
    known = (
        {"neutral": (0, 0), "anger": (-1, 1), "happiness": (1, 1)}
        if set_name == "va"
        else {"neutral": (0, 0), "anger": (1, 0), "happiness": (0, 1)}
    )
    lines = ["media," + ",".join(columns)]
    for number, line in enumerate((data / "labels.csv").read_text().splitlines()[1:]):
        media, label = line.split(",")
        first, second = (0.8 * value if set_name == "va" else value for value in known[label])
        lines.append(f"{media},{'' if number % 6 == 1 else first},{'' if number % 6 == 3 else second}")
    path = tmp_path / "labels.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    made = head(data, registry, tmp_path / "out", labels=str(path), set=set_name)
    assert all(np.isfinite(epoch["loss"]) for epoch in made.record["history"])
    assert made.record["validation"]["all"][metric]["value"] > 0.7
    component = EmbeddingHead(EmbeddingHead.Options(checkpoint=str(made.files[0])))
    component.load(torch.device("cpu"), torch.float32)
    assert component.labels == KNOWN[set_name]
    found = component.convert(Output({}), sources(5 * torch.eye(7, 6)[[BASIC7.index("anger")]])).values[component.labels][0]
    first, second = (component.labels.index(column) for column in columns)
    assert found[first] < -0.3 < 0.3 < found[second] if set_name == "va" else found[second] < 0.5 < found[first]


def test_smoothing_and_the_gate(data: Path, registry: plugins.Registry, tmp_path: Path) -> None:
    made = head(data, registry, tmp_path, smoothing=2.0, gate=0.7)
    further = made.record["validation"]["further"]
    assert set(further) == {"macro_f1 smoothed", "macro_f1 behind the gate", "share of windows that pass the gate"}
    path = str(made.files[0])
    plain = EmbeddingHead(EmbeddingHead.Options(checkpoint=path, smoothing=0.0, gate=0.0))
    both = EmbeddingHead(EmbeddingHead.Options(checkpoint=path))
    for component in (plain, both):
        component.load(torch.device("cpu"), torch.float32)
    embeddings = torch.from_numpy(np.random.default_rng(1).normal(size=(5, 6)).astype(np.float32))
    given = sources(embeddings, tracks=np.array([0, 0, 0, 1, 1]), times=np.array([2.0, 4.0, 6.0, 2.0, 90.0]))
    alone, close = (component.convert(Output({}), given).values[BASIC7].numpy() for component in (plain, both))
    weights = np.exp(-0.5 * (np.array([2.0, 4.0, 6.0])[:, None] - np.array([2.0, 4.0, 6.0])) ** 2 / 2.0**2)
    expected = np.concatenate([weights @ alone[:3] / weights.sum(axis=1, keepdims=True), alone[3:]])
    expected[expected.max(axis=1) < 0.7] = np.nan
    np.testing.assert_allclose(close, expected, rtol=1e-5)
    with pytest.raises(ConfigError, match="cannot smooth rows that do not say when they are"):
        both.convert(Output({}), sources(embeddings))


def test_the_weights_of_a_fusion(data: Path, registry: plugins.Registry, tmp_path: Path) -> None:
    how = {"epochs": 15, "batch_size": 8, "optimiser": {"name": "adam", "rate": 0.05, "decay": 0.0}, "store": "fp32"}
    made = trained(data, registry, tmp_path, "core/mhpf_training", {}, **how)
    fitted = load_mhpf(made.files[0], BASIC8)
    assert fitted.sources == ("some/voice", "some/face", "some/noise")
    weights = fitted.model.weights()[:, : len(BASIC7)].mean(dim=1)
    assert weights[1] > weights[2]
    further = made.record["validation"]["further"]
    assert (
        made.record["validation"]["all"]["macro_f1"]["value"]
        >= further["macro_f1 of the mean"]
        > further["macro_f1 of some/noise, where it says something"]
    )
    fusion = MHPFFusion(MHPFFusion.Options(checkpoint=str(made.files[0])))
    fusion.load(torch.device("cpu"), torch.float32)
    rows = torch.from_numpy(np.random.default_rng(0).dirichlet(np.ones(8), (4, 3)).astype(np.float32))
    valid = torch.ones(rows.shape, dtype=torch.bool)
    plain = fitted.model(rows)
    expected = (plain.log() * (1 + 2 * fitted.sharpening.growth) / fitted.sharpening.temperature).softmax(1)
    said = fusion.fuse(Sources(BASIC8, fitted.sources, rows, valid)).values[BASIC8]
    torch.testing.assert_close(said, expected)
    all_rows = made.record["validation"]["all"]
    assert all_rows["ece"]["value"] < made.record["validation"]["further"]["ece of the mean"]
    assert weight_files.metadata(made.files[0])["labels"] == json.dumps(list(BASIC8.labels))


def test_prototypes_of_a_run(data: Path, registry: plugins.Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels of all six emotions; the nearest prototype knows those of held-out groups, and the head takes the file."""
    emotions = BASIC7.labels[1:]
    lines = [line.split(",")[0] for line in (data / "labels.csv").read_text().splitlines()[1:]]
    labels = tmp_path / "labels.csv"
    labels.write_text("media,label\n" + "".join(f"{name},{emotions[n % 6]}\n" for n, name in enumerate(lines)), encoding="utf-8")
    given = {"embedding": EMBEDDING, "labels": str(labels), "groups": None, "folds": 3}
    made = trained(data, registry, tmp_path, "core/pfsa_training", given)
    assert made.record["rows"] == MEDIA * WINDOWS
    assert 0 <= made.record["uar_of_the_nearest"] <= 1
    assert "the nearest prototype tells the emotion of held-out groups" in made.lines[0]
    with monkeypatch.context() as patched:  # all of surprise is held out at once, so there is none to tell it by
        patched.setattr("affectkit.builtin.prototype_training.folds", lambda groups, truth, count, seed: np.where(truth == 5, 0, 1))
        lost = trained(data, registry, tmp_path / "lost", "core/pfsa_training", given)
    assert lost.record["recall_of_the_nearest"]["surprise"] == 0
    head = PFSA(PFSA.Options(checkpoint=str(made.files[0])))
    head.load(torch.device("cpu"), torch.float32)
    assert head.embedding_from == EMBEDDING
    assert head.convert(Output({}), sources(torch.randn(3, 6))).values[COMPOUND7].sum(dim=1).tolist() == pytest.approx([1.0] * 3)
    with pytest.raises(
        UsageError, match=r"fewer than two groups \(media, or what options\.groups finds\) that have .* as disgust, fear, .*; proto"
    ):
        trained(data, registry, tmp_path, "core/pfsa_training", {"embedding": EMBEDDING})
    alone = labels.read_text().replace("surprise", "fear").replace("fear", "surprise", 1)
    labels.write_text(alone, encoding="utf-8")
    with pytest.raises(
        UsageError, match=r"fewer than two groups .* as surprise; prototypes are made of all of anger, .* measured on groups that"
    ):
        trained(data, registry, tmp_path, "core/pfsa_training", given)


def test_a_temperature_is_written_where_the_component_reads_it(data: Path, registry: plugins.Registry, tmp_path: Path) -> None:
    weights = tmp_path / "voice.safetensors"
    header = {"settings": json.dumps({"labels": BASIC7.labels, "temperature": 0.5}), "licence": "MIT"}
    weight_files.save_tensors(weights, {"a": torch.arange(3.0)}, header)
    made = trained(data, registry, tmp_path / "out", "core/temperature", {"source": "some/voice", "weights": str(weights)})
    calibration = made.record["validation"]["calibration"]
    assert calibration["ece_after"] < calibration["ece_before"]
    found = weight_files.metadata(made.files[0])
    assert json.loads(found["settings"])["temperature"] == pytest.approx(0.5 * made.record["temperature"])
    assert made.record["temperature"] > 1.5  # its logits were multiplied by four
    assert found["licence"] == "MIT"
    assert weight_files.load_tensors(made.files[0])["a"].tolist() == [0.0, 1.0, 2.0]
    assert "Kept: epoch" not in made.files[2].read_text()


def test_labels_of_windows(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "stretches.csv"
    path.write_text("media,start,end,label\nactor0_0,0,3,anger\nactor0_0,3,10,happiness\n", encoding="utf-8")
    found = labelled(data / "run", path, "basic7")
    run = str(data / "run")
    windows = [(run, "actor0_0", -1, 0.0, 4.0), (run, "actor0_0", -1, 4.0, 8.0), (run, "actor1_1", -1, 0.0, 4.0)]
    truth = found.truth(windows)
    assert truth[0, [BASIC7.index("anger"), BASIC7.index("happiness")]].tolist() == pytest.approx([0.75, 0.25])
    assert truth[1, BASIC7.index("happiness")] == 1.0
    assert np.isnan(truth[2]).all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"embedding": "some/voice:sounds"}, UsageError, r"holds no embedding 'some/voice:sounds'. Did you mean some/voice:sound\?"),
        ({"groups": "actor"}, ConfigError, r"groups: 'actor' finds nothing in 'actor\d+_\d+'; write for instance"),
        ({"groups": "("}, ConfigError, r"groups: '\(' is no regular expression"),
        ({"set": "basic"}, UsageError, r"there is no label set 'basic'. Did you mean basic"),
        (
            {"groups": "^(act)"},
            UsageError,
            r"there are labels for 1 media \(or groups, where options.groups says what they are of\); at least 4 are needed",
        ),
        ({"held": 1.0}, ConfigError, r"held must be between 0 and 1, found 1.0"),
    ],
)
def test_mistakes(
    data: Path, registry: plugins.Registry, tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        head(data, registry, tmp_path, **options)


def test_files_and_folders_of_another_make(data: Path, registry: plugins.Registry, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a run folder and holds none; make one with affectkit run --embeddings"):
        labelled(tmp_path, data / "labels.csv", None)
    other = tmp_path / "other.safetensors"
    weight_files.save_tensors(other, {"a": torch.zeros(1)}, {"settings": "{}"})
    with pytest.raises(CheckpointError, match="is not a head on embeddings; give a file that the training core/embedding_training wrote"):
        EmbeddingHead(EmbeddingHead.Options(checkpoint=str(other))).load(torch.device("cpu"), torch.float32)
    with pytest.raises(ConfigError, match="core/embedding_head has no weights: the recipe names no file of them"):
        EmbeddingHead().load(torch.device("cpu"), torch.float32)
    with pytest.raises(UsageError, match="holds no temperature in its header, so there is nothing to fit"):
        trained(data, registry, tmp_path / "out", "core/temperature", {"source": "some/voice", "weights": str(other)})
    weight_files.save_tensors(other, {"a": torch.zeros(1)}, {"settings": json.dumps({"temperature": 1.0})})
    with pytest.raises(UsageError, match=r"holds no source 'some/voic' of basic7. Did you mean some/voice"):
        trained(data, registry, tmp_path / "out", "core/temperature", {"source": "some/voic", "weights": str(other)})


def test_groups_are_kept_whole() -> None:
    windows = [("run", f"actor{n % 6}_{n}", -1, 0.0, 4.0) for n in range(30)]
    groups = groups_of(windows, r"^(actor\d)")
    held = apart(groups, 0.4, 0)
    assert not set(groups[held]) & set(groups[~held])
    assert len(set(groups[held])) == 2
    assert set(groups_of(windows, None)) == {window[1] for window in windows}
