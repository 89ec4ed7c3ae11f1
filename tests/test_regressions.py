"""Faults that were found in review, each with the smallest run that shows it."""

from __future__ import annotations

import subprocess
import sys
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch

import affectkit
from affectkit import engine as engine_module
from affectkit.api import (
    BASIC7,
    COMPOUND7,
    Audio,
    Clip,
    ConfigError,
    Evidence,
    Frames,
    Input,
    LabelError,
    LabelSet,
    Modality,
    Needs,
    Output,
    PluginError,
    Provider,
    UsageError,
    Word,
)
from affectkit.assembly import Assembly, label_problems
from affectkit.buffers import Ticker
from affectkit.builtin.direct import Direct
from affectkit.builtin.mean import Mean
from affectkit.config import Recipe
from affectkit.decoding import Sound
from affectkit.engine import Engine, Stopped
from affectkit.faces import pick
from affectkit.media import Media, Span, open_media
from affectkit.needs import Sampling
from affectkit.planner import Plan
from affectkit.reader import Clock, Reader
from affectkit.session import Inputs
from affectkit.store import Part, Run
from affectkit.testing.media import make_video, make_wav, tone
from tests.engine_helpers import analyse, plain

DFEW = LabelSet("dfew", ("happiness", "sadness", "neutral"))
MANY = LabelSet("many", ("happiness", "sadness", "helplessness"))


class Says(Modality):
    """Says the same of every clip, and keeps the clips that it saw."""

    labels: Any = BASIC7
    needs = Needs(frames=Frames(count=1, size=16))

    def __init__(self, labels: Any = BASIC7, needs: Needs | None = None, id: str = "x/says") -> None:
        super().__init__()
        self.labels, self.needs, self.id = labels, needs or self.needs, id
        self.seen: list[Clip] = []

    def preprocess(self, clip: Clip) -> Mapping[str, Any] | None:
        self.seen.append(clip)
        return {"x": torch.ones(1)}

    def predict(self, batch: Mapping[str, torch.Tensor]) -> Output:
        n = len(batch["x"])
        return Output({labels: torch.full((n, len(labels)), 1 / len(labels)) for labels in self.label_sets})


class Gives(Provider):
    """Gives what it is told to, and keeps the clips that it saw."""

    kind = "thing"
    scope = "window"

    def __init__(self, answer: Any, kind: str = "thing", scope: str = "window", needs: Needs | None = None, id: str = "x/gives") -> None:
        super().__init__()
        self.answer, self.kind, self.scope, self.needs, self.id = answer, kind, scope, needs or Needs(), id  # type: ignore[misc,assignment]
        self.seen: list[Clip] = []

    def provide(self, clips: Sequence[Clip]) -> Sequence[Evidence]:
        self.seen += clips
        return [self.answer for _ in clips]


def assembled(*modalities: Modality, fusion: Any = None, head: Any = None, providers: Sequence[Provider] = (), **recipe: Any) -> Assembly:
    by_kind: dict[str, list[Provider]] = {}
    for provider in providers:
        by_kind.setdefault(provider.kind, []).append(provider)
    made = Recipe(modalities=tuple(m.id for m in modalities), **recipe)
    return Assembly(made, Plan(made, {m.id: m for m in modalities}, by_kind), fusion, head, {})


def worked(tmp_path: Path, assembly: Assembly, *paths: Path, seconds: float = 60.0, **options: Any) -> Run:
    """Runs an assembly, and fails where it does not come to an end."""
    run = Run(tmp_path / "run", {}, "digest")
    run.begin()
    engine = Engine(assembly, run, device="cpu", **options)
    engine.load()
    thread = Thread(target=lambda: engine.process([open_media(path) for path in paths]), daemon=True)
    thread.start()
    thread.join(timeout=seconds)
    alive = thread.is_alive()
    engine._budget.stop()
    assert not alive, "the run hangs"
    return run


def read(assembly: Assembly, path: Path) -> list[Any]:
    def fail(stage: str, component: str, error: Exception) -> None:
        raise error

    return list(Reader(open_media(path), assembly.plan, Clock(), fail).windows())


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return make_video(tmp_path / "grey.mp4", seconds=3, fps=5, size=(32, 48), picture=plain(100))


class TestEngine:
    def test_a_plugin_that_exits_in_a_thread_does_not_hang_the_run(self, tmp_path, video):
        class Exits(Says):
            def preprocess(self, clip: Clip) -> Mapping[str, Any] | None:
                sys.exit("no licence")

        run = worked(tmp_path, assembled(Exits(id="x/exits")), video, seconds=20)
        [failure] = run.all_failures()
        assert (failure.error, failure.message) == ("SystemExit", "SystemExit: no licence")

    def test_what_is_no_tensor_costs_only_the_modality(self, tmp_path, video):
        class Arrays(Says):
            def preprocess(self, clip: Clip) -> Mapping[str, Any] | None:
                return {"x": np.ones(1)}

        run = worked(tmp_path, assembled(Arrays(id="x/arrays"), Says()), video)
        [failure] = run.all_failures()
        assert (failure.stage, failure.component) == ("preprocess", "x/arrays")
        assert failure.message == "preprocess must return a mapping of tensors, found ndarray for 'x'"
        assert run.records["grey"]["evidence"]["x/says"]["share"] == 1.0

    def test_embeddings_that_come_and_go_cost_a_clip_and_not_the_run(self, tmp_path):
        class Moody(Says):
            unit = "frame"

            def predict(self, batch: Mapping[str, torch.Tensor]) -> Output:
                self.calls = getattr(self, "calls", 0) + 1
                said = super().predict(batch)
                return Output(said.values, {"mood": torch.ones(len(batch["x"]), 2)} if self.calls < 3 else {})

        path = make_video(tmp_path / "grey.mp4", seconds=3, fps=5, size=(32, 48), picture=plain(100))
        run = worked(tmp_path, assembled(Moody(id="x/moody", needs=Needs(frames=Frames(fps=1, size=16)))), path, batch_size=1)
        [failure] = run.all_failures()
        assert failure.message == (
            "x/moody must return the same embeddings and quality for every batch, "
            "found embeddings {} and quality [] after embeddings {'mood': 2} and quality []"
        )
        assert run.records["grey"]["evidence"]["x/moody"]["share"] == 1.0

    def test_finished_media_are_forgotten(self, tmp_path, monkeypatch):
        alive: list[int] = []
        jobs: list[weakref.ref[Any]] = []

        class Job(engine_module.Job):
            def __init__(self, media: Any) -> None:
                super().__init__(media)
                jobs.append(weakref.ref(self))

        finish = Engine._finish

        def counted(self: Engine, job: Any) -> None:
            finish(self, job)
            alive.append(sum(ref() is not None and bool(ref().findings.rows) for ref in jobs))  # type: ignore[union-attr]

        monkeypatch.setattr(engine_module, "Job", Job)
        monkeypatch.setattr(engine_module, "WAITING_MEDIA", 0)
        monkeypatch.setattr(Engine, "_finish", counted)
        paths = [make_video(tmp_path / f"{i}.mp4", seconds=1, fps=5, size=(32, 48), picture=plain(100)) for i in range(6)]
        worked(tmp_path, assembled(Says()), *paths, workers=1, batch_size=1)
        assert len(alive) == 6
        assert alive[-1] <= 2, "results of media that are written stay in memory"

    def test_a_stopped_run_stops_reading_where_no_modality_has_a_clip(self, tmp_path):
        path = make_video(tmp_path / "long.mp4", seconds=30, fps=2, size=(32, 48), picture=plain(0))
        frames = Says(needs=Needs(inputs=(Input("faces", fps=1, size=16),)))
        frames.unit = "frame"  # type: ignore[misc]
        nobody = Gives(Evidence.none("faces", "no face"), "faces", "frame")
        assembly = assembled(frames, providers=[nobody])
        run = Run(tmp_path / "run", {}, "digest")
        run.begin()
        windows: list[float] = []
        engine = Engine(assembly, run, device="cpu", progress=lambda media, at: (windows.append(at), engine._budget.stop()))  # type: ignore[func-returns-value,arg-type,return-value]
        engine.load()
        with pytest.raises(Stopped):
            engine._read_windows(engine_module.Job(open_media(path)), None)  # type: ignore[arg-type]
        assert len(windows) == 1


class TestProviders:
    def test_each_alternative_sees_what_it_asked_for(self, video):
        first = Gives(Evidence.none("thing", "nothing"), id="x/first")
        second = Gives(Evidence("thing"), needs=Needs(frames=Frames(count=2, size=16)), id="x/second")
        says = Says(needs=Needs(inputs=(Input("thing"),)))
        windows = read(assembled(says, providers=[first, second]), video)
        assert first.seen[0].frames is None
        assert second.seen[0].frames is not None
        assert windows[0].requests[0].clip.inputs["thing"].valid

    def test_a_media_scoped_provider_sees_the_words_that_it_asked_for(self, video):
        words = Gives(Evidence("transcript", {"words": (Word("ja", 0, 1),), "text": "ja"}), "transcript", "media", id="x/words")
        translation = Gives(Evidence("translation"), "translation", "media", Needs(inputs=(Input("transcript"),)), "x/translation")
        read(assembled(Says(needs=Needs(inputs=(Input("translation"),))), providers=[words, translation]), video)
        assert translation.seen[0].inputs["transcript"].data["text"] == "ja"

    def test_a_frame_scoped_provider_sees_the_boxes_that_it_asked_for(self, video):
        boxes = Evidence("faces", {"boxes": np.array([[4, 4, 20, 20]]), "scores": np.array([0.9])})
        needs = Needs(inputs=(Input("faces", fps=5, size=16),))
        faces, marks = Gives(boxes, "faces", "frame", id="x/faces"), Gives(Evidence("landmarks"), "landmarks", "frame", needs, "x/marks")
        read(assembled(Says(needs=Needs(inputs=(Input("landmarks"),))), providers=[faces, marks]), video)
        assert marks.seen[0].inputs["faces"].data["boxes"].tolist() == [[4, 4, 20, 20]]

    @pytest.mark.parametrize(
        ("scope", "needs", "message"),
        [
            ("media", Needs(frames=Frames(count=2)), r"x/gives is media-scoped and asks for whole frames; .* may ask for sound"),
            ("media", Needs(inputs=(Input("other"),)), r"x/gives is media-scoped and asks for 'other', which is made per window"),
            ("frame", Needs(inputs=(Input("other"),)), r"x/gives is frame-scoped and asks for 'other', which is made per window"),
        ],
    )
    def test_what_a_scope_cannot_be_given_is_refused(self, scope, needs, message):
        other = Gives(Evidence("other"), "other", id="x/other")
        with pytest.raises(PluginError, match=message):
            assembled(Says(needs=Needs(inputs=(Input("thing"),))), providers=[Gives(None, scope=scope, needs=needs), other])

    def test_a_provider_that_returns_something_else_is_reported(self, tmp_path, video):
        run = worked(tmp_path, assembled(Says(needs=Needs(inputs=(Input("thing"),)), id="x/asks"), Says(), providers=[Gives(None)]), video)
        [failure] = run.all_failures()
        assert (failure.stage, failure.component) == ("provide", "x/gives")
        assert "x/gives must return one Evidence per clip, found NoneType" in failure.message
        assert run.records["grey"]["evidence"]["x/says"]["share"] == 1.0

    @pytest.mark.parametrize(
        "needs", [Needs(frames=Frames(fps=5)), Needs(frames=Frames(count=4, stride=2)), Needs(inputs=(Input("thing"),))], ids=str
    )
    def test_a_media_unit_cannot_ask_for_what_grows_with_the_medium(self, needs):
        whole = Says(needs=needs)
        whole.unit = "media"  # type: ignore[misc]
        with pytest.raises(PluginError, match="a media unit may ask for counted frames, sound and words"):
            assembled(whole, providers=[Gives(Evidence("thing"))])

    def test_a_long_gap_in_the_sound_is_no_part_of_a_piece(self, tmp_path, monkeypatch):
        from affectkit import reader as reader_module

        listener = Gives(Evidence.none("transcript", "no speech"), "transcript", "media", Needs(audio=Audio(8000)))
        hum = tone(np.arange(8000) / 8000, 200.0).astype(np.float32)
        monkeypatch.setattr(reader_module, "read_sound", lambda media, rate: iter([Sound(0.0, hum), Sound(3000.0, hum)]))
        path = make_wav(tmp_path / "short.wav", hum, 8000)
        read(assembled(Says(needs=Needs(inputs=(Input("transcript"),))), providers=[listener]), path)
        assert [(clip.span.start, len(clip.audio)) for clip in listener.seen if clip.audio is not None] == [(0.0, 8000), (3000.0, 8000)]


class TestTime:
    @pytest.mark.parametrize("fps", [24.0, 25.0, 30.0, 30000 / 1001, 50.0, 60.0])
    def test_times_rounded_to_milliseconds_lose_no_picture(self, fps):
        times = [round(i / fps, 3) for i in range(300)]
        ticker = Ticker(fps)
        assert [t for t in times if ticker.due(t)] == times, "Matroska keeps milliseconds"

    @pytest.mark.parametrize("wanted", [5.0, 7.5, 10.0, 15.0])
    def test_rounded_times_are_chosen_as_exact_ones(self, wanted):
        exact, rounded = np.arange(120) / 30, np.round(np.arange(120) / 30, 3)
        span, sampling = Span(0, 4), Sampling(fps=wanted)
        assert pick(rounded, span, sampling).tolist() == pick(exact, span, sampling).tolist()
        exactly, roughly = Ticker(wanted), Ticker(wanted)
        assert [exactly.due(t) for t in exact] == [roughly.due(t) for t in rounded]

    def test_a_picture_at_the_border_of_a_window_is_kept_whatever_the_rounding(self, tmp_path):
        # 3 * 0.1 is a little more than 0.3, the time of the fourth picture.
        path = make_video(tmp_path / "ten.mkv", seconds=1, fps=10, size=(32, 48), picture=plain(100))
        says = Says(needs=Needs(frames=Frames(fps=10, size=16)))
        grid = {"length": 0.2, "step": 0.1, "min_tail": 0.1}
        assembly = assembled(says, windows=Recipe.from_mapping({"modalities": ["x/says"], "windows": grid}).windows)
        windows = [window for window in read(assembly, path) if window.index >= 0]
        assert [len(window.requests[0].clip.frame_times) for window in windows] == [2] * len(windows)

    def test_the_reason_is_that_of_the_seconds_looked_at(self, tmp_path):
        # Sound in the last of four seconds; the modality looks at one second around the centre, which is silent.
        samples = np.concatenate([np.zeros(3 * 8000), tone(np.arange(8000) / 8000, 200.0)])
        says = Says(needs=Needs(audio=Audio(8000)))
        says.context = 1.0  # type: ignore[misc]
        [window, _] = read(assembled(says), make_wav(tmp_path / "late.wav", samples, 8000))
        assert window.requests[0].clip.audio is None
        assert window.reasons == {"x/says": "digital silence"}


class TestLabels:
    def test_two_label_sets_of_one_name_are_refused(self):
        other = LabelSet("basic7", ("good", "bad"))
        [problem] = label_problems({"x/a": Says(id="x/a"), "x/b": Says(other, id="x/b")}, None, None, "other")
        assert isinstance(problem, ConfigError)
        assert str(problem).startswith("x/a and x/b both have a label set 'basic7', and they differ: [neutral, anger, ")
        assert "[good, bad]" in str(problem)

    def test_a_label_set_cannot_have_the_name_of_another_table(self):
        [problem] = label_problems({"x/a": Says(LabelSet("quality", ("good", "bad")), id="x/a")}, None, None, "other")
        assert str(problem) == "x/a: 'quality' is the name of another table of a run; the label set needs another name"

    def test_labels_that_have_no_place_are_told_before_the_first_frame(self):
        mean = Mean()
        mean.id = "core/mean"
        says = Says(MANY, id="x/many")
        assert label_problems({"x/many": says}, mean, None, "other") == []
        [problem] = label_problems({"x/many": says}, mean, None, "error")
        assert isinstance(problem, LabelError)
        assert str(problem).startswith("x/many: 'many' has labels that 'basic8' does not: [helplessness]")
        direct = Direct()
        direct.id = "core/direct"
        more = LabelSet("compound8", (*COMPOUND7.labels, "happily_disgusted"))
        [problem] = label_problems({"x/more": Says(more, id="x/more")}, None, direct, "other")
        assert "has no class 'other' for [happily_disgusted]; choose outside='drop'" in str(problem)

    def test_sets_that_share_labels_do_not_meet_without_a_reason(self, tmp_path, video):
        direct = Direct()
        direct.id = "core/direct"
        sources = [Says(DFEW, id="x/dfew"), Says(MANY, id="x/many"), Says(COMPOUND7, id="x/compound")]
        run = worked(tmp_path, assembled(*sources, head=direct), video)
        assert run.all_failures() == []
        assert "core/direct" in run.records["grey"]["mean"]


class TestResume:
    def test_words_that_are_put_beside_a_finished_medium_are_read(self, tmp_path, video):
        from affectkit.builtin.descriptions import Descriptions
        from affectkit.builtin.subtitles import Subtitles

        asks = Says(needs=Needs(inputs=(Input("transcript"), Input("description"))))
        plan = assembled(asks, providers=[Subtitles(), Descriptions()]).plan
        run = Run(tmp_path / "run", {}, "digest", files=plan.files)
        run.begin()
        media = open_media(video)
        run.write(Part(media, []))
        assert run.finished(media)
        for name in ("grey.srt", "grey.descriptions.csv"):
            (tmp_path / name).write_text("new")
            assert not run.finished(media)
            run.write(Part(media, []))
            assert run.finished(media)
        (tmp_path / "grey.srt").write_text("newer")
        assert not run.finished(media)

    def test_a_wrong_command_throws_no_results_away(self, tmp_path, video):
        result = analyse(video, tmp_path / "out", "fake/still")
        before = result.read()
        with pytest.raises(UsageError, match="a sound file belongs to exactly one folder of frames"):
            analyse(video, tmp_path / "out", "fake/still", resume=False, inputs=Inputs(sound=video))
        assert affectkit.read_run(tmp_path / "out").equals(before)


@pytest.mark.parametrize("module", ["affectkit", "affectkit.api", "affectkit.cli", "affectkit.plugins", "affectkit.planner"])
def test_what_imports_no_torch(module):
    code = f"import sys, {module}; print(sorted({{'torch', 'pandas', 'av', 'cv2', 'pyarrow'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("start", "duration", "spans"),
    [
        (0.0, 5.0, [(0, 4), (2, 5)]),
        (0.033, 2.4, [(0, 2.433)]),  # time is the container's own, windows lie on multiples of the step
        (-0.021, 5.021, [(0, 4), (2, 5)]),  # the pre-roll of an encoder is no window
        (-1.0, 3.0, [(-2, 2)]),
        (3601.4, 4.6, [(3600, 3604), (3602, 3606)]),
    ],
)
def test_the_grid_lies_on_multiples_of_the_step(start: float, duration: float, spans: list[tuple[float, float]]) -> None:
    plan = Plan(Recipe(modalities=("x/says",)), {"x/says": Says()}, {})
    media = Media("talk", Path("talk.mp4"), "video", duration, start)
    assert [(span.start, pytest.approx(span.end)) for span in plan.spans(media)] == spans


def test_full_frames_that_wait_for_a_detector_are_bounded_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    class Counts(Provider):
        name, kind, scope = "counts", "faces", "frame"

        def provide(self, clips: Sequence[Clip]) -> Sequence[Evidence]:
            seen.append(len(clips))
            return [Evidence.none("faces", "no face") for _ in clips]

    clip = make_video(tmp_path / "talk.mp4", seconds=2, fps=10, size=(96, 128))
    monkeypatch.setattr("affectkit.reader.CHUNK_BYTES", 3 * 96 * 128 * 3)
    plan = Plan(
        Recipe(modalities=("x/says",)), {"x/says": Says(needs=Needs(inputs=(Input("faces", fps=10, size=16),)))}, {"faces": [Counts()]}
    )
    list(Reader(open_media(clip), plan, Clock(), lambda *_: None).windows())
    assert max(seen) == 3
    assert sum(seen) == 20
