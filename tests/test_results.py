"""From rows to timelines: averages over windows, broadcasting to subjects, projection, fusion and heads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from affectkit import results
from affectkit.api import BASIC7, BASIC8, COMPOUND7, VA, Fusion, Head, LabelSet, Modality, Output, PluginError, Span
from affectkit.batching import Row
from affectkit.builtin.mean import Mean
from affectkit.clips import Subject, Window

GRID = [(0, (0.0, 4.0)), (1, (2.0, 6.0)), (2, (4.0, 7.0))]


class Fake(Modality):
    """Never called; only its unit matters."""

    labels = BASIC7

    def preprocess(self, clip):
        return None

    def predict(self, batch):
        raise NotImplementedError


def unit(name: str) -> Modality:
    return type("Fake", (Fake,), {"unit": name})()


def row(happiness: float, labels: LabelSet = BASIC7, **quality: float) -> Row:
    values = torch.zeros(len(labels))
    values[labels.index("happiness")] = happiness
    values[labels.index("neutral")] = 1 - happiness
    return Row({labels: values}, {"e": torch.tensor([happiness, 1.0])}, quality, None)


def findings(tracks: dict[int, tuple[int, ...]], rows: dict[str, dict[tuple[int, float], Row]]) -> results.Findings:
    found = results.Findings(rows=rows)
    for index, span in GRID:
        subjects = tuple(Subject(track, 0.9, (8.0, 8.0, 24.0, 24.0)) for track in tracks.get(index, ()))
        found.take(Window(index, Span(*span), subjects, (), {}))
    return found


def happiness(column: results.Column) -> list[float | None]:
    values = column.values(BASIC7)[:, BASIC7.index("happiness")]
    return [None if np.isnan(v) else round(float(v), 6) for v in values]


def test_a_window_unit_says_one_thing_per_window():
    col = results.column("a/b", unit("window"), False, findings({}, {"a/b": {(-1, 0): row(0.2), (-1, 2): row(0.8)}}))
    assert happiness(col) == [0.2, None, 0.8]
    assert [(p.window, p.track) for p in col.places] == [(0, -1), (1, -1), (2, -1)]


def test_a_frame_unit_is_averaged_over_the_windows_that_show_its_pictures():
    rows = {(-1, t): row(v, size=v) for t, v in [(0.0, 0.1), (1.9, 0.3), (2.0, 0.5), (3.999, 0.7), (4.0, 0.9)]}
    col = results.column("a/b", unit("frame"), False, findings({}, {"a/b": rows}))
    assert happiness(col) == [0.4, 0.7, 0.9], "windows are half open"
    assert col.quality()["size"].tolist() == pytest.approx([0.4, 0.7, 0.9])
    assert col.embeddings()["e"][:, 0].tolist() == pytest.approx([0.4, 0.7, 0.9])


def test_pictures_of_one_subject_do_not_count_for_another():
    rows = {(0, 1.0): row(0.2), (1, 1.0): row(0.6), (1, 3.0): row(0.8)}
    col = results.column("a/b", unit("frame"), True, findings({0: (1, 0), 1: (1,)}, {"a/b": rows}))
    assert [(p.window, p.track) for p in col.places] == [(0, 1), (0, 0), (1, 1), (2, -1)]
    assert happiness(col) == [0.7, 0.2, 0.8, None]


def test_a_media_unit_holds_for_every_window():
    col = results.column("a/b", unit("media"), False, findings({}, {"a/b": {(-1, 0.0): row(0.2), (-1, 30.0): row(0.4)}}))
    assert happiness(col) == [pytest.approx(0.3)] * 3


def test_timelines_by_subject():
    found = findings({0: (0, 1), 1: (0,), 2: (0,)}, {"a/b": {(0, 0): row(0.1), (1, 0): row(0.2), (0, 1): row(0.3)}})
    col = results.column("a/b", unit("window"), True, found)
    lines = {t.track: t for t in results.timelines("clip", col, [BASIC7])}
    assert lines[0].start.tolist() == [0.0, 2.0, 4.0]
    assert lines[0].valid.tolist() == [True, True, False]
    assert np.isnan(lines[0].values[2]).all(), "no evidence is never zeros"
    assert lines[1].end.tolist() == [4.0]


def test_gathering_broadcasts_and_projects():
    found = findings(
        {0: (0, 1), 1: (1,)},
        {"face": {(0, 0): row(0.1), (1, 0): row(0.2), (1, 1): row(0.3)}, "sound": {(-1, 0): row(0.5), (-1, 2): row(0.6)}},
    )
    face = results.column("face", unit("window"), True, found)
    sound = results.column("sound", unit("window"), False, found)
    places = results.grid(found)
    assert [(p.window, p.track) for p in places] == [(0, 0), (0, 1), (1, 1), (2, -1)]
    sources = results.gather([(face, BASIC7), (sound, BASIC7)], places, BASIC8, "other")
    assert sources.names == ("face", "sound")
    said = sources.values[..., BASIC8.index("happiness")]
    assert said[:, 0].nan_to_num(-1).tolist() == pytest.approx([0.1, 0.2, 0.3, -1])
    assert said[:, 1].nan_to_num(-1).tolist() == pytest.approx([0.5, 0.5, -1, 0.6])
    assert not sources.valid[..., BASIC8.index("other")].any(), "a class that a source cannot say is not valid"
    assert sources.valid[0, 0, : BASIC8.index("other")].all()
    assert sources.embeddings["sound:e"][:, 0].nan_to_num(-1).tolist() == pytest.approx([0.5, 0.5, -1, 0.6])


def conclude(fusion: Fusion | None, head: Head | None, **sets: Any) -> list:
    found = findings(
        {}, {name: {(-1, 0): row(0.2, labels[0]), (-1, 1): row(0.4, labels[0])} for name, labels in sets.items() if labels[0] is BASIC7}
    )
    columns = {name: (results.column(name, unit("window"), False, found), labels) for name, labels in sets.items()}
    return results.conclude("clip", columns, results.grid(found), fusion, head, "other").timelines


class Keeping(Head):
    """Keeps what it was given."""

    def __init__(self, shape: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.id = "fake/keeping"
        self.shape = shape

    def convert(self, fused, sources):
        self.fused, self.sources = fused, sources
        return Output({COMPOUND7: torch.full(self.shape or (len(sources.values), 7), 1 / 7)})


def test_fusion_and_head_see_the_grid():
    fusion, head = Mean(), Keeping()
    fusion.id = "core/mean"
    lines = conclude(fusion, head, **{"a/b": [BASIC7], "a/va": [VA], "a/compound": [COMPOUND7]})
    assert [(t.source, t.labels.name, len(t.start)) for t in lines] == [("core/mean", "basic8", 3), ("fake/keeping", "compound7", 3)]
    assert lines[0].valid.tolist() == [True, True, False]
    assert lines[0].values[:2, BASIC8.index("happiness")].tolist() == pytest.approx([0.2, 0.4])
    assert head.sources.names == ("a/b",)
    assert {labels.name: s.names for labels, s in head.sources.others.items()} == {"va": ("a/va",), "compound7": ("a/compound",)}
    assert head.fused.values[BASIC8].shape == (3, 8)


def test_without_a_fusion_a_head_sees_the_sources_of_each_label_set():
    head = Keeping()
    conclude(None, head, **{"a/b": [BASIC7], "a/compound": [COMPOUND7]})
    assert head.fused.values == {}
    assert {labels.name: s.names for labels, s in head.sources.others.items()} == {"basic7": ("a/b",), "compound7": ("a/compound",)}


class Embedding(Mean):
    """A fusion that gives an embedding of its rows."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.id, self.rows = "fake/embedding", rows

    def fuse(self, sources):
        return Output(super().fuse(sources).values, {"z": torch.arange(2.0 * self.rows).reshape(self.rows, 2)})


def test_a_head_reads_the_embeddings_of_the_fusion_beside_those_of_the_modalities():
    head = Keeping()
    conclude(Embedding(3), head, **{"a/b": [BASIC7]})
    assert set(head.sources.embeddings) == {"a/b:e", "fake/embedding:z"}
    assert head.sources.embeddings["fake/embedding:z"].tolist() == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    with pytest.raises(PluginError, match=r"fake/embedding must return \(3, D\) numbers for the embedding 'z', found \(2, 2\)"):
        conclude(Embedding(2), head, **{"a/b": [BASIC7]})


def test_a_head_with_the_wrong_shape_is_refused():
    fusion = Mean()
    fusion.id = "core/mean"
    with pytest.raises(PluginError, match=r"fake/keeping must return \(3, 7\) values for 'compound7', found \{'compound7': \(3, 6\)\}"):
        conclude(fusion, Keeping((3, 6)), **{"a/b": [BASIC7]})


def test_evidence_says_how_much_there_was_and_why_not():
    found = findings({}, {"a/b": {(-1, 0): row(0.2)}})
    found.reasons["a/b", 1] = "digital silence"
    found.failed["a/b"] = {2}
    col = results.column("a/b", unit("window"), False, found)
    expected = {"windows": 3, "with_evidence": 1, "share": pytest.approx(0.3333), "reasons": {"digital silence": 1, "it failed": 1}}
    assert results.evidence({"a/b": (col, [BASIC7])}, found) == {"a/b": expected}
    empty = results.Findings()
    nothing = results.column("a/b", unit("window"), False, empty)
    assert results.evidence({"a/b": (nothing, [BASIC7])}, empty)["a/b"]["share"] == 0.0


@pytest.mark.parametrize(
    ("kind", "failed", "windows"), [("window", {1.0}, {1}), ("frame", {3.0}, {0, 1}), ("media", {30.0}, {0, 1, 2}), ("media", set(), set())]
)
def test_which_windows_a_failed_clip_belongs_to(kind, failed, windows):
    found = findings({}, {})
    found.failed["a/b"] = failed
    assert results.column("a/b", unit(kind), False, found).failed == windows


def test_the_mean_of_each_source_over_its_evidence():
    found = findings({}, {"a/b": {(-1, 0): row(0.2), (-1, 1): row(0.4)}})
    lines = results.timelines("clip", results.column("a/b", unit("window"), False, found), [BASIC7])
    means = results.mean_by_source(lines)
    assert means["a/b"]["happiness"] == 0.3
    assert sum(means["a/b"].values()) == pytest.approx(1.0)
    silent = results.timelines("clip", results.column("c/d", unit("window"), False, findings({}, {})), [BASIC7])
    assert results.mean_by_source(silent) == {}
