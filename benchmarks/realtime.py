"""Real-time factor: seconds of video that a second of computing analyses, of the whole recipe and of each of its stages.

    python benchmarks/realtime.py --data VIDEO [--pairs 5]

What is timed is what `affectkit run` does from opening the file to the last part written; components are made and weights are loaded
before, and one run counts for nothing. Subtitles and a description are put beside a copy of the video, so that every modality has
evidence. A factor of 10 is ten times real time.

Stages are added up over threads: pictures are decoded in a thread of their own, faces and preprocessing are in the thread that reads, forward passes and
writing in a third, so that the whole may be faster than its stages one after the other. `processor` is the time of all threads on all cores,
which other work on the machine does not count in; it does in the seconds of a stage.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from common import Measured, guarded, material, measure, parser, sessions, spread, table

from affectkit.media import discover
from affectkit.session import Session

GOAL = 10.0
READING = ("track", "preprocess")  # stages of the reading thread, beside the providers


def readers(session: Session) -> set[str]:
    """Stages that run in the thread which reads a medium."""
    return {*READING, *(provider.id for kind in session.assembly.plan.providers.values() for provider in kind)}


def thread_of(stage: str, reading: set[str]) -> str:
    """The thread in which a stage is."""
    return "decoding" if stage == "decode" else "reading" if stage in reading else "main"


def report(session: Session, runs: Sequence[Measured], duration: float) -> None:
    """Prints the factors and what bounds them."""
    names = sorted(
        {name for run in runs for name in run.stages if name != "total"}, key=lambda n: -median(r.stages.get(n, 0) for r in runs)
    )
    seconds = {name: median(run.stages.get(name, 0.0) for run in runs) for name in names}
    reading = readers(session)
    total = sum(seconds.values())
    rows: list[Sequence[object]] = [("stage", "thread", "seconds", "factor", "share of all stages")]
    rows += [
        (name, thread_of(name, reading), seconds[name], f"{duration / seconds[name]:.1f}", f"{seconds[name] / total:.0%}")
        for name in names
        if seconds[name] >= 0.0005
    ]
    print(table(rows))
    threads: dict[str, float] = {}
    for name in names:
        threads[thread_of(name, reading)] = threads.get(thread_of(name, reading), 0.0) + seconds[name]
    slower = max(threads, key=lambda thread: threads[thread])
    first = max((name for name in names if thread_of(name, reading) == slower), key=lambda name: seconds[name])
    wall = [run.seconds for run in runs]
    factor = duration / median(wall)
    print(f"wall {spread(wall)}; processor {spread([run.processor for run in runs])}")
    print(
        f"bounded by the {slower} thread ({threads[slower]:.2f} s of {median(wall):.2f} s), and there by {first} ({seconds[first]:.2f} s)"
    )
    print(f"two cores at work all the time: factor {duration / median(run.processor / 2 for run in runs):.1f}")
    print(f"real-time factor {factor:.1f} (fastest run {duration / min(wall):.1f}; goal: at least {GOAL:.0f})")


def main() -> None:
    """Measures and prints."""
    given = parser(__doc__).parse_args()
    whole, _ = sessions(given)
    with tempfile.TemporaryDirectory() as folder:
        paths = material(given.data, 0.0, Path(folder))
        media, _ = discover(paths)
        duration = sum(medium.duration for medium in media)
        runs = [measure(whole, paths, given.workers) for _ in range(given.pairs + 1)][1:]
        size = " x ".join(str(side) for side in reversed(media[0].size or ()))
        print(f"{given.data.name}: {duration:.2f} s, {size} pixels, {media[0].fps:.0f} frames per second; {len(runs)} runs")
        report(whole, runs, duration)


if __name__ == "__main__":
    guarded(main)
