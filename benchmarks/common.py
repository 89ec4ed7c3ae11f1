"""What the benchmarks share: real material with words beside it, a recipe from the command line, and a measured run."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from affectkit import plugins
from affectkit.config import Recipe
from affectkit.errors import AffectKitError
from affectkit.media import Media, discover
from affectkit.session import Execution, Session, load_recipe

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line has it, before torch is imported

CUE_SECONDS = 4.0
CUE = "I really did not expect that, and now I am not sure what to do."  # 15 words in 4 s, as people talk
DESCRIPTION = (
    "A person stands in a bright room and looks at somebody beside the camera. The eyebrows are raised, the mouth is slightly open, "
    "and the hands move while the person speaks."
)
SHORTEST = 1.0  # seconds; shorter files are left out


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that choose material and recipe, as ``affectkit run`` calls them."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", type=Path, required=True, help="folder of videos; they are taken in alphabetical order")
    made.add_argument("--seconds", type=float, default=60.0, help="least material, in seconds (default: 60)")
    made.add_argument("--pairs", type=int, default=5, help="how often both sides are measured (default: 5)")
    made.add_argument("--recipe", help="recipe, by name or file (default: mini/mini)")
    made.add_argument("--plugins", help="modalities instead of those of the recipe")
    made.add_argument("--fusion", help="fusion instead of the recipe's")
    made.add_argument("--head", help="head instead of the recipe's")
    made.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="change one key of the recipe")
    made.add_argument("--workers", type=int, help="media that are read at once (default: as in affectkit run)")
    return made


def sessions(given: argparse.Namespace, *, each: bool = False) -> tuple[Session, dict[str, Session]]:
    """The components of the recipe, and with ``each`` those of one recipe per modality, with providers of their own."""
    registry = plugins.load()
    modalities = registry.select(given.plugins) if given.plugins else None
    recipe = load_recipe(given.recipe, registry, overrides=given.overrides, modalities=modalities, fusion=given.fusion, head=given.head)
    whole = Session(recipe, registry)
    ids = list(whole.assembly.plan.modalities) if each else []
    return whole, {name: Session(_only(whole.assembly.recipe, name), registry) for name in ids}


def _only(recipe: Recipe, modality: str) -> Recipe:
    return recipe.with_(modalities=[modality], name=modality)


def material(data: Path, seconds: float, into: Path) -> list[Path]:
    """Copies videos of a folder until there are enough seconds of them, with subtitles and descriptions beside each.

    The words are the same for every clip: the modalities that read words cost what they cost, and what they say does not
    matter here. The folder itself is not written to.
    """
    found, problems = discover([data])
    videos = [media for media in found if media.kind == "video" and media.duration >= SHORTEST]
    if not videos:
        raise SystemExit(f"no videos in {data}" + "".join(f"\n{error}" for _, error in problems))
    chosen: list[Path] = []
    total = 0.0
    for media in videos:
        copy = into / f"{len(chosen):02d}_{media.path.name}"
        shutil.copyfile(media.path, copy)
        _write_words(copy, media)
        chosen.append(copy)
        total += media.duration
        if total >= seconds:
            return chosen
    print(f"note: {data} has {total:.0f} s of video, fewer than the {seconds:.0f} s asked for")
    return chosen


def _write_words(path: Path, media: Media) -> None:
    cues, rows, start = [], ["media,start,end,text"], 0.0
    while start < media.duration:
        end = min(start + CUE_SECONDS, media.duration)
        cues.append(f"{len(cues) + 1}\n{_stamp(start)} --> {_stamp(end)}\n{CUE}\n")
        rows.append(f'{path.name},{start},{end},"{DESCRIPTION}"')
        start = end
    path.with_suffix(".srt").write_text("\n".join(cues), encoding="utf-8")
    path.with_name(f"{path.stem}.descriptions.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def _stamp(seconds: float) -> str:
    whole, thousandths = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d},{thousandths:03d}"


@dataclass(frozen=True)
class Measured:
    """One run.

    Attributes:
        seconds: wall time from opening the files to the last part written; making components and loading weights is not in it.
        processor: processor time of all threads in the same stretch, in seconds; other processes of a busy machine do not count in it.
        decodes: how often each kind of stream was decoded, over all media.
        stages: seconds per stage as ``run.json`` has them, added up over threads.
        media: number of media that were analysed.
    """

    seconds: float
    processor: float
    decodes: Counter[str]
    stages: dict[str, float]
    media: int


def measure(session: Session, paths: Sequence[Path], workers: int | None = None) -> Measured:
    """Runs a session over media into a run folder that is thrown away; stops where anything fails."""
    with tempfile.TemporaryDirectory() as folder:
        run, engine = session.prepare(Path(folder) / "run", Execution(device="cpu", workers=workers))
        run.begin()
        begin, busy = time.perf_counter(), time.process_time()
        media, problems = discover(paths)
        engine.process(media)
        seconds, processor = time.perf_counter() - begin, time.process_time() - busy
        failures = [*(str(error) for _, error in problems), *(failure.message for failure in run.all_failures())]
        if failures:
            raise SystemExit("the run has failures, so its time means nothing:\n" + "\n".join(failures))
        decodes = Counter(stream for record in run.records.values() for stream in record["decoded"])
        return Measured(seconds, processor, decodes, {k: v for k, v in engine.clock.seconds.items() if k != "load"}, len(media))


def spread(values: Sequence[float], unit: str = " s") -> str:
    """Median and range of a few numbers, as text."""
    return f"{median(values):.2f}{unit} ({min(values):.2f} to {max(values):.2f})"


def table(rows: Sequence[Sequence[Any]]) -> str:
    """Rows as aligned text: the first column to the left, the others to the right.

    >>> print(table([("stage", "all"), ("decode", 1.5)]))
    stage    all
    decode  1.50
    """
    texts = [[f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in texts) for i in range(len(texts[0]))]
    return "\n".join(
        "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))) for row in texts
    )


def affectkit(*arguments: str | Path) -> str:
    """What the program prints; stops where it fails."""
    done = subprocess.run([sys.executable, "-m", "affectkit", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"affectkit {' '.join(map(str, arguments))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def guarded(main: Any) -> None:
    """Calls ``main``; an error of affectkit becomes its message."""
    try:
        main()
    except AffectKitError as error:
        raise SystemExit(str(error)) from None
