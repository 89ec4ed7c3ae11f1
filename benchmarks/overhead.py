"""Overhead: the whole run against decoding, providers and forward passes alone, on the same real material, wall time.

    python benchmarks/overhead.py --data FOLDER [--seconds 60] [--pairs 5]

The whole run is what `affectkit run` does from opening the files to the last part written: decode, sample pictures, find and
follow faces, cut crops and windows, preprocess, batch, forward passes, check outputs, fuse, apply the head, write Parquet.

The plain loop is the least that the same results need, one step after the other in one thread: PyAV decodes every frame of
the same streams, converts the frames that the run sampled to RGB, and resamples the sound; the same providers get these
frames, in calls of the same size; the same modalities predict the same batches, kept from a run that counts for nothing.
Preprocessing is not in it; a second ratio has it, on the same clips. No tracking, crops, fusion, head and files in either.

Both are in one process with everything loaded. OpenCV, FFmpeg and torch use their own threads on both sides; the run reads
several media at once besides, so that it may even be faster. The processor time of both shows what that hides.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from common import Measured, guarded, material, measure, parser, sessions, spread, table

from affectkit.assembly import Assembly
from affectkit.buffers import Ticker
from affectkit.components import Modality, Provider
from affectkit.media import Clip, Media, Span, discover
from affectkit.reader import FACE_CHUNK

if TYPE_CHECKING:
    import torch

GOAL = 1.5


@dataclass
class Work:
    """What a run gave its components to do.

    Attributes:
        clips: per modality the clips that it preprocessed.
        batches: per modality the batches that it predicted.
        asked: per provider that is not asked about single frames, the clips of each call.
    """

    clips: dict[str, list[Clip]] = field(default_factory=dict)
    batches: dict[str, list[Mapping[str, torch.Tensor]]] = field(default_factory=dict)
    asked: dict[str, list[Sequence[Clip]]] = field(default_factory=dict)


@contextmanager
def recording(assembly: Assembly) -> Iterator[Work]:
    """Keeps what the components of an assembly are given meanwhile."""
    work = Work()
    kept: list[tuple[Modality | Provider, str]] = []

    def keep(component: Modality | Provider, method: str, into: dict[str, list[Any]]) -> None:
        original: Callable[[Any], Any] = getattr(component, method)
        calls = into.setdefault(component.id, [])

        def noted(given: Any) -> Any:
            calls.append(given)
            return original(given)

        setattr(component, method, noted)  # on the instance, so that the class stays as it is
        kept.append((component, method))

    plan = assembly.plan
    for modality in plan.modalities.values():
        keep(modality, "preprocess", work.clips)
        keep(modality, "predict", work.batches)
    for kind in (*plan.media_kinds, *plan.window_kinds):
        for provider in plan.providers[kind]:
            keep(provider, "provide", work.asked)
    try:
        yield work
    finally:
        for component, method in kept:
            delattr(component, method)


class PlainLoop:
    """The same decoding, providers and forward passes with nothing around them."""

    def __init__(self, assembly: Assembly, media: Sequence[Media], work: Work) -> None:
        self.assembly = assembly
        self.plan = assembly.plan
        self.media = media
        self.work = work

    def run(self, *, preprocess: bool) -> Counter[str]:
        """Seconds per step: decode, faces (all providers of single frames), providers, preprocess, forward."""
        import torch

        seconds = Counter[str]()
        for media in self.media:
            self._pictures(media, seconds)
            begin = time.perf_counter()
            self._sound(media)
            seconds["decode"] += time.perf_counter() - begin
        providers = {p.id: p for kind in self.plan.providers for p in self.plan.providers[kind]}
        begin = time.perf_counter()
        for name, calls in self.work.asked.items():
            for clips in calls:
                providers[name].provide(clips)
        seconds["providers"] += time.perf_counter() - begin
        if preprocess:
            begin = time.perf_counter()
            for name, clips in self.work.clips.items():
                for clip in clips:
                    self.plan.modalities[name].preprocess(clip)
            seconds["preprocess"] += time.perf_counter() - begin
        begin = time.perf_counter()
        with torch.inference_mode():
            for name, batches in self.work.batches.items():
                for batch in batches:
                    self.plan.modalities[name].predict(batch)
        seconds["forward"] += time.perf_counter() - begin
        return seconds

    def _pictures(self, media: Media, seconds: Counter[str]) -> None:
        if not self.plan.wants_pictures or media.video is None:
            return
        tickers = {what: Ticker(fps) for what, fps in self.plan.sampling(media).items()}
        waiting: list[Clip] = []
        begin = time.perf_counter()
        with av.open(str(media.path)) as container:
            stream = container.streams[media.video]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                at = float(frame.time or 0.0)
                due = [what for what, ticker in tickers.items() if ticker.due(at)]
                if due:
                    image = frame.to_ndarray(format="rgb24")
                if "detect" in due:
                    waiting.append(Clip(media, Span(at, at), frames=image[None], frame_times=np.array([at])))
                if len(waiting) == FACE_CHUNK:
                    seconds["decode"] += time.perf_counter() - begin
                    self._faces(waiting, seconds)
                    waiting, begin = [], time.perf_counter()
        seconds["decode"] += time.perf_counter() - begin
        if waiting:
            self._faces(waiting, seconds)

    def _faces(self, clips: list[Clip], seconds: Counter[str]) -> None:
        begin = time.perf_counter()
        for kind in self.plan.frame_kinds:
            self.plan.providers[kind][0].provide(clips)
        seconds["faces"] += time.perf_counter() - begin

    def _sound(self, media: Media) -> None:
        if media.audio is None or not (self.plan.rates or self.plan.listening_units):
            return
        resampler = av.AudioResampler(format="flt", layout="mono", rate=self.plan.decode_rate)
        with av.open(str(media.path)) as container:
            for frame in container.decode(container.streams[media.audio]):
                for piece in resampler.resample(frame):
                    piece.to_ndarray()


def timed(loop: PlainLoop, *, preprocess: bool) -> Measured:
    """One pass of the plain loop, over components that begin anew as those of a run do."""
    import torch  # here, because common sets how its threads wait before it is imported

    loop.assembly.load(torch.device("cpu"), torch.float32)
    begin, busy = time.perf_counter(), time.process_time()
    stages = loop.run(preprocess=preprocess)
    return Measured(time.perf_counter() - begin, time.process_time() - busy, Counter(), dict(stages), len(loop.media))


def main() -> None:
    """Measures and prints."""
    given = parser(__doc__).parse_args()
    whole, _ = sessions(given)
    with tempfile.TemporaryDirectory() as folder:
        paths = material(given.data, given.seconds, Path(folder))
        measure(whole, paths, given.workers)
        with recording(whole.assembly) as work:
            measure(whole, paths, given.workers)
        loop = PlainLoop(whole.assembly, discover(paths)[0], work)
        sides: dict[str, Callable[[], Measured]] = {
            "whole run": lambda: measure(whole, paths, given.workers),
            "plain loop": lambda: timed(loop, preprocess=False),
            "plain loop with preprocessing": lambda: timed(loop, preprocess=True),
        }
        taken: dict[str, list[Measured]] = {name: [] for name in sides}
        for turn in range(given.pairs):
            for name in list(sides) if turn % 2 == 0 else reversed(sides):
                taken[name].append(sides[name]())
    for name, runs in taken.items():
        print(f"{name:30} wall {spread([r.seconds for r in runs])}, processor {spread([r.processor for r in runs])}")
    steps = {name: {step: median(r.stages.get(step, 0.0) for r in runs) for step in runs[0].stages} for name, runs in taken.items()}
    print("\nseconds per step of the plain loop:", ", ".join(f"{k} {v:.2f}" for k, v in steps["plain loop with preprocessing"].items()))
    print("seconds per stage of the whole run, added over threads:")
    print(table([("", "s"), *sorted(steps["whole run"].items(), key=lambda item: -item[1])]))
    for name in list(sides)[1:]:
        wall = median(a.seconds / b.seconds for a, b in zip(taken["whole run"], taken[name], strict=True))
        busy = median(a.processor / b.processor for a, b in zip(taken["whole run"], taken[name], strict=True))
        goal = f" (goal: at most {GOAL})" if name == "plain loop" else ""
        print(f"whole run over {name}: ratio {wall:.2f}{goal}, in processor time {busy:.2f}")


if __name__ == "__main__":
    guarded(main)
