"""The engine: reads media in threads, runs batches across windows and files on one device, fuses, and writes parts.

Reader threads decode, find faces and preprocess ahead of the forward passes; the calling thread alone runs forward passes
and writes. What is in flight between them is bounded in bytes, so memory does not grow with the length or number of media.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import Empty, Queue
from typing import Any

import torch

from affectkit import results
from affectkit.assembly import Assembly
from affectkit.batching import PRECISIONS, Batcher, Item, Row, as_tensors, bytes_of, choose_device
from affectkit.clips import Clock, Request, Window
from affectkit.errors import AffectKitError, MediaError
from affectkit.labels import LabelSet
from affectkit.media import Media
from affectkit.reader import Reader
from affectkit.store import Failure, Part, Run
from affectkit.timeline import Timeline

BATCH_SIZE = {"cpu": 16, "cuda": 64, "mps": 32}  # clips per forward pass where neither recipe nor command says
IN_FLIGHT = 512 * 2**20  # bytes of preprocessed clips that wait for a forward pass
WAITING_MEDIA = 8  # media that are read to the end and wait for full batches, before their batches run as they are
POLL = 0.05  # seconds without a clip after which those that wait for a full batch run as they are

Notify = Callable[..., Iterable[Any]]
Progress = Callable[[Media, float], None]


class Stopped(Exception):
    """Raised inside reader threads when the run is being stopped."""


@dataclass
class Job:
    """One medium on its way through the engine."""

    media: Media
    clock: Clock = field(default_factory=Clock)
    findings: results.Findings = field(default_factory=results.Findings)
    failures: list[Failure] = field(default_factory=list)
    decodes: list[str] = field(default_factory=list)
    frame_times: dict[int, float] = field(default_factory=dict)
    waiting: int = 0  # clips that this thread has taken and that are not predicted; its reader ends after its last clip
    began: float = field(default_factory=time.perf_counter)

    def fail(self, stage: str, component: str, error: BaseException, clip: float | None = None) -> None:
        """Records what went wrong, and with which clip of a modality; the same error of a component is recorded once."""
        if clip is not None:
            self.findings.failed.setdefault(component, set()).add(clip)
        text = str(error) if isinstance(error, AffectKitError) else f"{type(error).__name__}: {error}"
        failure = Failure(self.media.id, str(self.media.path), stage, component, getattr(error, "at", None), type(error).__name__, text)
        if failure not in self.failures:
            self.failures.append(failure)


class Budget:
    """A number of bytes that threads take from and give back to."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.waiting = 0
        self.stopped = False
        self._changed = threading.Condition()

    def take(self, size: int) -> None:
        """Waits until ``size`` bytes are free; one that is larger than the limit gets through alone."""
        with self._changed:
            self.waiting += 1
            self._changed.wait_for(lambda: self.stopped or self.used == 0 or self.used + size <= self.limit)
            self.waiting -= 1
            if self.stopped:
                raise Stopped
            self.used += size

    def give(self, size: int) -> None:
        """Gives ``size`` bytes back."""
        with self._changed:
            self.used -= size
            self._changed.notify_all()

    def stop(self) -> None:
        """Wakes whoever waits, with :class:`Stopped`."""
        with self._changed:
            self.stopped = True
            self._changed.notify_all()


class Engine:
    """Runs an assembly over media and writes each finished medium into a run.

    Args:
        assembly: the components, made and checked.
        run: the run folder.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:0"``.
        precision: ``"fp32"``, ``"bf16"`` or ``"fp16"``; the latter two run forward passes under autocast.
        batch_size: clips per forward pass where the recipe does not say.
        workers: media that are read at once; ``None`` takes one per core, four at the most.
        strict: stop at the first failure instead of recording it.
        notify: calls a hook's observers, as :meth:`affectkit.plugins.Registry.notify`.
        progress: is told the medium and the time in seconds up to which it is read.
    """

    def __init__(
        self,
        assembly: Assembly,
        run: Run,
        *,
        device: str = "auto",
        precision: str = "fp32",
        batch_size: int | None = None,
        workers: int | None = None,
        strict: bool = False,
        notify: Notify | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.assembly = assembly
        self.run = run
        self._device = device
        self.precision = precision
        self.batch_size = batch_size
        self.workers = workers or min(4, os.cpu_count() or 1)
        self.strict = strict
        self.clock = Clock()
        self._notify = notify
        self._progress = progress
        self._budget = Budget(IN_FLIGHT)
        self._reading_threads = 1
        self._queue: Queue[Item | Job] = Queue()
        self._batchers: dict[str, Batcher] = {}

    def load(self) -> None:
        """Chooses the device and loads all weights; called once, before the first frame.

        Raises:
            AffectKitError: the problem, or :class:`affectkit.errors.Problems` for several.
        """
        self.device = choose_device(self._device)
        with self.clock("load"):
            self.assembly.load(self.device, PRECISIONS[self.precision])
        for name, modality in self.assembly.plan.modalities.items():
            device, dtype = self.assembly.place(name, self.device, PRECISIONS[self.precision])
            size = self.assembly.recipe.settings(name).batch_size or self.batch_size or BATCH_SIZE[device.type]
            self._batchers[name] = Batcher(name, modality, device, dtype, size)

    def process(self, media: Sequence[Media]) -> None:
        """Reads, predicts and writes every medium; returns when all parts are written.

        Raises:
            KeyboardInterrupt: after Ctrl-C; the parts that are written stay.
            StoreError: where a part cannot be written.
            MediaError: the first failure, where the engine is strict.
        """
        open_jobs: deque[Job] = deque()
        left = len(media)
        threads = torch.get_num_threads()
        self._reading_threads = max(1, threads // (2 * min(self.workers, max(left, 1))))  # half for all readers, half for forward passes
        readers = ThreadPoolExecutor(self.workers, thread_name_prefix="reader")
        helpers = ThreadPoolExecutor(self.workers, thread_name_prefix="preprocess")
        futures: list[Future[None]] = [readers.submit(self._read, Job(m), helpers) for m in media]  # no list of jobs: they hold results
        try:
            while left:
                event = self._next_event()
                if isinstance(event, Item):
                    self._add(event)
                elif isinstance(event, Job):
                    open_jobs.append(event)
                else:
                    self._run_fullest()  # nothing comes: the readers need room, or this device has nothing to do until they have read more
                event = None  # what is finished must not be held until the next event
                left -= self._finish_predicted(open_jobs)
                while open_jobs and self._queue.empty() and (len(open_jobs) > WAITING_MEDIA or len(open_jobs) == left):
                    self._flush(open_jobs[0])
                    left -= self._finish_predicted(open_jobs)
        finally:
            self._budget.stop()
            for future in futures:
                future.cancel()
            readers.shutdown(wait=True, cancel_futures=True)
            helpers.shutdown(wait=True, cancel_futures=True)
            torch.set_num_threads(threads)  # of a thread alone, but of those that begin later as well

    def timings(self) -> dict[str, Any]:
        """Seconds per stage, forward passes and halved batches so far."""
        return {
            "seconds": {stage: round(seconds, 3) for stage, seconds in sorted(self.clock.seconds.items())},
            "forward_passes": {name: batcher.forwards for name, batcher in self._batchers.items()},
            "batch_size": {name: batcher.batch_size for name, batcher in self._batchers.items()},
            "halved_for_memory": {name: batcher.halved for name, batcher in self._batchers.items() if batcher.halved},
        }

    # reader threads

    def _read(self, job: Job, helpers: ThreadPoolExecutor) -> None:
        job.began = time.perf_counter()
        torch.set_num_threads(self._reading_threads)
        try:
            self._read_windows(job, helpers)
        except Stopped:
            return
        except MediaError as error:
            job.fail("open", "", error)
        except BaseException as error:  # whatever it is, the run must hear of it, or it waits for this medium for ever
            job.fail("read", "", error)
        self._queue.put(job)

    def _read_windows(self, job: Job, helpers: ThreadPoolExecutor) -> None:
        reader = Reader(job.media, self.assembly.plan, job.clock, job.fail)
        job.decodes, job.frame_times = reader.decodes, reader.frame_times  # both grow while it reads
        for window in reader.windows():
            if self._budget.stopped:
                raise Stopped
            job.findings.take(window)
            self._preprocess(job, window, helpers)
            if self._progress is not None and window.index >= 0:
                self._progress(job.media, window.span.end)

    def _preprocess(self, job: Job, window: Window, helpers: ThreadPoolExecutor) -> None:
        def work(request: Request) -> dict[str, torch.Tensor] | None:
            if self._budget.stopped:
                raise Stopped
            with job.clock("preprocess"):
                tensors = self.assembly.plan.modalities[request.modality].preprocess(request.clip)
            return None if tensors is None else as_tensors(tensors)

        for request, future in [(request, helpers.submit(work, request)) for request in window.requests]:
            try:
                tensors = future.result()
            except Stopped:
                raise
            except BaseException as error:  # a plugin may raise anything, in a thread also SystemExit; this clip has no evidence
                job.fail("preprocess", request.modality, error, request.at)
                continue
            if tensors is not None:
                self._send(job, request, tensors)

    def _send(self, job: Job, request: Request, tensors: dict[str, torch.Tensor]) -> None:
        modality, key = request.modality, (request.track, request.at)  # the clip itself is not needed any more
        # Here and not of the item: one that its own callback refers to would keep its tensors until the next garbage collection.
        size = bytes_of(tensors)
        item = Item(modality, tensors, job, lambda said: self._take(job, modality, key, size, said))
        self._budget.take(size)
        self._queue.put(item)

    # the calling thread

    def _next_event(self) -> Item | Job | None:
        try:
            return self._queue.get(timeout=POLL)
        except Empty:
            return None

    def _add(self, item: Item) -> None:
        item.owner.waiting += 1
        with self.clock(f"forward {item.modality}"):
            self._batchers[item.modality].add(item)

    def _run_fullest(self) -> None:
        fullest = max(self._batchers.values(), key=lambda batcher: sum(item.size for item in batcher.pending))
        if fullest.pending:
            with self.clock(f"forward {fullest.id}"):
                fullest.run()

    def _flush(self, job: Job) -> None:
        """Runs batches as they are until nothing of this medium waits."""
        for batcher in self._batchers.values():
            while any(item.owner is job for item in batcher.pending):
                with self.clock(f"forward {batcher.id}"):
                    batcher.run()

    def _take(self, job: Job, modality: str, key: tuple[int, float], size: int, said: Row | Exception) -> None:
        """Receives what a modality says of one clip."""
        self._budget.give(size)
        job.waiting -= 1
        if isinstance(said, Exception):
            job.fail("predict", modality, said, key[1])
        else:
            job.findings.rows.setdefault(modality, {})[key] = said

    def _finish_predicted(self, open_jobs: deque[Job]) -> int:
        """Finishes the media of which nothing waits any more, and says how many there were."""
        predicted = [job for job in open_jobs if job.waiting == 0]
        for job in predicted:
            open_jobs.remove(job)
            self._finish(job)
        return len(predicted)

    def _finish(self, job: Job) -> None:
        """Fuses what was found in a medium and writes its part."""
        plan = self.assembly.plan
        columns = {
            name: (results.column(name, modality, name in plan.bound, job.findings), modality.label_sets)
            for name, modality in plan.modalities.items()
        }
        timelines = [t for col, sets in columns.values() for t in results.timelines(job.media.id, col, sets)]
        places, fused = results.grid(job.findings), results.Conclusion([])
        fusion = "" if self.assembly.fusion is None else self.assembly.fusion.id
        with job.clock("fuse"):
            try:
                fused = results.conclude(
                    job.media.id, columns, places, self.assembly.fusion, self.assembly.head, self.assembly.recipe.outside
                )
                timelines += fused.timelines
            except Exception as error:  # a fusion or head may raise anything; what the modalities said is kept
                job.fail("fuse", self.assembly.recipe.fusion or self.assembly.recipe.head or "", error)
        part = Part(
            job.media,
            timelines,
            [
                (p.track, p.span.start, p.span.end, name, k, e.tolist())
                for name, (col, _) in columns.items()
                for p, row in _said(col)
                for k, e in row.embeddings.items()
            ]
            + [
                (p.track, p.span.start, p.span.end, fusion, k, e.tolist())
                for k, rows in fused.embeddings.items()
                for p, e in zip(places, rows, strict=True)
                if bool(e.isfinite().all())
            ]
            if self.run.embeddings
            else (),
            [
                (p.track, p.span.start, p.span.end, name, row.note)
                for name, (col, _) in columns.items()
                for p, row in _said(col)
                if row.note is not None
            ],
            self._record(job, columns, timelines),
            job.failures,
            job.frame_times,
            [(w.span.start, w.span.end, subject) for w in job.findings.windows for subject in w.subjects],
        )
        with self.clock("write"):
            self.run.write(part)
        self._observe(job.media, "affectkit_media_finished", timelines=timelines)
        for failure in job.failures:
            if failure.stage in ("open", "video", "sound", "read"):
                self._observe(job.media, "affectkit_media_failed", error=MediaError(failure.message, at=failure.at))
        for stage, seconds in job.clock.seconds.items():
            self.clock.add(stage, seconds)
        if self.strict and job.failures:
            failure = job.failures[0]
            whose = f"{failure.component}: " if failure.component else ""
            raise MediaError(f"{failure.path}: {whose}{failure.message} (--strict stops at the first failure)", at=failure.at)

    def _record(
        self, job: Job, columns: Mapping[str, tuple[results.Column, Sequence[LabelSet]]], timelines: Sequence[Timeline]
    ) -> dict[str, Any]:
        media = job.media
        return {
            "kind": media.kind,
            "start": media.start,
            "duration": media.duration,
            "fps": media.fps,
            "size": media.size,
            "windows": len(job.findings.windows),
            "tracks": sorted({track for window in job.findings.windows for track in window.tracks}),
            "evidence": results.evidence(columns, job.findings),
            "mean": results.mean_by_source(timelines),
            "quality": results.quality_by_source(timelines),
            "broke_at": min((f.at for f in job.failures if f.stage in ("video", "sound") and f.at is not None), default=None),
            "decoded": job.decodes,
            "seconds": {"total": round(time.perf_counter() - job.began, 3)}
            | {k: round(v, 3) for k, v in sorted(job.clock.seconds.items())},
        }

    def _observe(self, media: Media, hook: str, **arguments: Any) -> None:
        """Tells the observers; one that raises is recorded with the run, and the part of the medium is as it was."""
        for f in self._notify(hook, run=self.run, media=media, **arguments) if self._notify is not None else ():
            failure = Failure(media.id, str(media.path), "observer", f.name, None, type(f.error).__name__, str(f.error))
            if failure not in self.run.failures:
                self.run.failures.append(failure)


def _said(col: results.Column) -> list[tuple[results.Place, Row]]:
    return [(place, row) for place, row in zip(col.places, col.rows, strict=True) if row is not None]
