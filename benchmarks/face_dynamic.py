"""Batches: clips per second and peak memory of a modality that looks at faces, in batches against the same network clip by clip.

    python benchmarks/face_dynamic.py s4d/face_dynamic [--published] [--set checkpoint=FILE] [--batches 1,8,32] [--clips 32] [--pairs 3] [--device auto]

Clips are made of noise that drifts, as squares of the size and number that the modality asks for; what they show does not change what they cost. Preprocessing is timed by
itself, as a run does it in other threads. Then, in one process and in turns, the same clips are looked at in batches and one by one, the answers compared, and the ratio
of each pair is taken. Memory is the peak of a fresh process per size while it looks at one batch, with the weights: on a GPU what torch has allocated, on a processor the
resident set, which has Python and torch in it as well. Weights are those of the options; with
--published random ones of the published size, for the systems that have one; with --tiny small random ones, which say nothing of the real network.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import published
import torch
import yaml
from common import guarded, spread, table
from torch import Tensor

from affectkit import plugins
from affectkit.batching import as_tensors, choose_device, collate
from affectkit.components import Modality
from affectkit.errors import UsageError
from affectkit.evidence import Evidence
from affectkit.faces import pick
from affectkit.media import Clip, Media, Span
from affectkit.options import build
from affectkit.tiny import option_of

FPS = 25.0
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes
RESET, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
Rows = Sequence[Mapping[str, Tensor]]


def made(modality: Modality, number: int, seconds: float) -> Clip:
    """A clip of soft noise that drifts, with the faces that the modality asks for; the same one each time."""
    wanted = next(item for item in modality.needs.inputs if item.kind == "faces")
    span, size = Span(0.0, seconds), wanted.size or 1
    times = np.arange(max(round(seconds * FPS), 2)) / FPS
    chosen = pick(times, span, wanted, FPS)[: 1 if modality.unit == "frame" else None]
    random = np.random.default_rng(number)
    field = np.cumsum(np.cumsum(random.normal(size=(size + len(times), size, 3)), 0), 1)
    field = (255 * (field - field.min()) / np.ptp(field)).astype(np.uint8)
    data = {
        "crops": np.stack([field[step : step + size] for step in chosen]),
        "boxes": np.tile(np.array([0, 0, size, size], np.float32), (len(chosen), 1)),
        "scores": np.ones(len(chosen), np.float32),
    }
    inputs = {item.kind: Evidence.none(item.kind, "only faces are there") for item in modality.needs.inputs}
    inputs["faces"] = Evidence("faces", data, times=times[chosen], quality={"face_size": float(size), "face_score": 1.0, "face_share": 1.0})
    return Clip(Media(str(number), Path(str(number)), "video", seconds, fps=FPS), span, track=0, inputs=inputs)


def loaded(given: argparse.Namespace, folder: Path, device: torch.device) -> Modality:
    """The modality with its weights on the device."""
    entry = plugins.load().get(given.modality, "modality")
    options = dict(_pair(text) for text in given.overrides)
    if given.published:
        options |= published.options(entry.id, folder)
    if given.tiny:
        plain = entry.cls(build(entry.cls.Options, options))
        for tag in list(plain.used_checkpoints()) or ["given"]:
            options[option_of(entry, tag)] = str(plain.write_random(tag, folder))
    modality = entry.cls(build(entry.cls.Options, options))
    modality.id = entry.id
    if not any(wanted.kind == "faces" for wanted in modality.needs.inputs):
        raise UsageError(f"{modality.id} does not look at faces; name a modality that does, for instance mini/face_dynamic")
    modality.load(device, torch.float32)
    found: Modality = modality
    return found


def _pair(text: str) -> tuple[str, Any]:
    key, equal, value = text.partition("=")
    if not equal:
        raise UsageError(f"--set takes KEY=VALUE, found {text!r}")
    return key, yaml.safe_load(value)


def preprocessed(modality: Modality, clips: int, seconds: float) -> tuple[list[dict[str, Tensor]], float]:
    """Preprocessed clips, and the seconds that one took."""
    watched = [made(modality, number, seconds) for number in range(clips)]
    begin = time.perf_counter()
    rows = [modality.preprocess(clip) for clip in watched]
    spent = (time.perf_counter() - begin) / clips
    if any(row is None for row in rows):
        raise UsageError(f"{modality.id} finds no evidence in faces alone, so there is nothing to measure")
    return [as_tensors(row) for row in rows], spent


def looked_at(modality: Modality, rows: Rows, size: int, device: torch.device) -> tuple[Tensor, float]:
    """What the modality says of clips in batches of a size, and the seconds that it took, with moving to the device and back."""
    said = []
    _wait(device)
    begin = time.perf_counter()
    with torch.inference_mode():
        for first in range(0, len(rows), size):
            batch = {name: value.to(device) for name, value in collate(rows[first : first + size]).items()}
            said.append(next(iter(modality.predict(batch).values.values())).float().cpu())
    _wait(device)
    return torch.cat(said), time.perf_counter() - begin


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak(given: argparse.Namespace, size: int) -> float:
    """Peak memory in MB of one batch of a size, in a process of its own."""
    command = [sys.executable, __file__, given.modality, "--device", given.device, "--seconds", str(given.seconds), "--memory", str(size)]
    command += [word for text in given.overrides for word in ("--set", text)] + ["--tiny"] * given.tiny
    command += ["--published"] * given.published
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"a batch of {size} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return float(json.loads(done.stdout.splitlines()[-1])["megabytes"])


def measure_memory(given: argparse.Namespace, modality: Modality, device: torch.device) -> None:
    """Prints the peak of one batch as JSON."""
    rows, _ = preprocessed(modality, given.memory, given.seconds)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif RESET.exists():
        RESET.write_text("5")  # Linux: the peak is counted from here on, without that of loading
    looked_at(modality, rows, given.memory, device)
    found = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _resident()
    print(json.dumps({"megabytes": found / 1e6}))


def _resident() -> int:
    """The peak of the resident set in bytes."""
    if RESET.exists():
        status = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
        return int(status["VmHWM"].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_UNIT


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modality", help="a modality that looks at faces, for instance mini/face_dynamic")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="an option of the modality")
    random = parser.add_mutually_exclusive_group()
    random.add_argument("--tiny", action="store_true", help="small random weights instead of those of the options")
    random.add_argument("--published", action="store_true", help="random weights of the published size: s4d, ifdd and finecliper")
    parser.add_argument("--batches", default="1,8,32", help="sizes of batches (default: 1,8,32)")
    parser.add_argument("--clips", type=int, default=32, help="clips that are looked at, by both sides of a pair (default: 32)")
    parser.add_argument("--pairs", type=int, default=3, help="how often both sides are measured (default: 3)")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a clip (default: 4)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:0")
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    device = choose_device(given.device)
    with tempfile.TemporaryDirectory() as folder:
        modality = loaded(given, Path(folder), device)
        if given.memory is not None:
            measure_memory(given, modality, device)
            return
        sizes = [int(size) for size in given.batches.split(",")]
        rows, spent = preprocessed(modality, given.clips, given.seconds)
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"a processor, {torch.get_num_threads()} threads"
        print(f"{modality.id} on {name}: {given.clips} clips of {given.seconds:g} s, preprocessing {1000 * spent:.1f} ms per clip")
        lines: list[Sequence[Any]] = [("batch", "clips/s", "one by one", "ratio", "peak MB")]
        for size in sizes:
            for rehearsal in (1, size):
                looked_at(modality, rows, rehearsal, device)
            pairs = []
            for turn in range(given.pairs):
                both = [looked_at(modality, rows, one, device) for one in ((size, 1) if turn % 2 == 0 else (1, size))]
                (batched, fast), (alone, slow) = both if turn % 2 == 0 else both[::-1]
                pairs.append((fast, slow))
                if (batched - alone).abs().max() > 1e-3:
                    raise SystemExit(
                        f"answers in batches of {size} differ from those one by one by {float((batched - alone).abs().max()):.1e}"
                    )
            rates = [given.clips / median(side) for side in zip(*pairs, strict=True)]
            lines.append((size, *rates, spread([slow / fast for fast, slow in pairs], ""), f"{peak(given, size):.0f}"))
            print(table(lines) if size == sizes[-1] else f"batch of {size} is done", flush=True)


if __name__ == "__main__":
    guarded(main)
