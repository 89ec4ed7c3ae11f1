"""Memory: the peak of a run over a long video against one over a short video of the same pictures and sound.

    python benchmarks/memory.py --video FILE [--lengths 10,60,600] [-- options of affectkit run]

The first seconds of a real video are encoded small, and their packets repeated as often as it takes, so that both videos
hold the same and differ in length alone. Each is analysed by `affectkit run` in a fresh process; the peak is the largest
resident set of that process as the operating system counts it. The shortest video fills no batch: what a full batch takes more
is the same at every length, so that the ratio of the two longest videos says whether memory grows. The pictures that are looked
at, 5 a second, come to about 200 MB per minute for a video of 4:3.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
from av.video.reformatter import VideoReformatter

GOAL = 1.1
HEIGHT = 320  # pixels
FPS = 25
RATE = 48000  # samples per second
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes


def encode(video: Path, seconds: float, out: Path) -> None:
    """Encodes the first seconds of a video small, without B-frames, so that its packets can be repeated.

    Args:
        video: a video of at least this length; its sound is taken where it has any.
        seconds: length of the result.
        out: a Matroska file.
    """
    with av.open(str(video)) as source, av.open(str(out), "w") as target:
        stream = source.streams.video[0]
        width = 2 * round(HEIGHT * stream.width / stream.height / 2)
        pictures = target.add_stream("mpeg4", rate=FPS, width=width, height=HEIGHT, pix_fmt="yuv420p", bit_rate=1_000_000)
        pictures.codec_context.max_b_frames = 0
        reformat, written = VideoReformatter(), 0
        for frame in source.decode(stream):
            while written / FPS <= (frame.time or 0.0) and written < seconds * FPS:  # repeats or drops pictures to the wanted rate
                small = reformat.reformat(frame, width=width, height=HEIGHT, format="yuv420p")
                small.pts, small.time_base = written, Fraction(1, FPS)
                target.mux(pictures.encode(small))
                written += 1
        target.mux(pictures.encode())
    if written < seconds * FPS:
        raise SystemExit(f"{video} has {written / FPS:.1f} s of pictures, fewer than the {seconds:.0f} s of the shortest length")


def encode_sound(video: Path, seconds: float, out: Path) -> bool:
    """Writes the first seconds of sound as 16-bit mono samples; false where there is no sound."""
    with av.open(str(video)) as source:
        if not source.streams.audio:
            return False
        with av.open(str(out), "w") as target:
            sound = target.add_stream("pcm_s16le", rate=RATE, layout="mono")
            resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
            for frame in source.decode(source.streams.audio[0]):
                if (frame.time or 0.0) >= seconds:
                    break
                for piece in resampler.resample(frame):
                    target.mux(sound.encode(piece))
            target.mux(sound.encode())
    return True


def repeat(parts: Sequence[Path], seconds: float, times: int, out: Path) -> None:
    """Writes the packets of files with one stream each one after the other, ``times`` times, as one file."""
    with av.open(str(out), "w") as target:
        sources = [av.open(str(part)) for part in parts]
        streams = [target.add_stream_from_template(source.streams[0]) for source in sources]
        for turn in range(times):
            packets = []
            for source, stream in zip(sources, streams, strict=True):
                source.seek(0)
                for packet in source.demux(0):
                    if packet.pts is None or packet.pts * packet.time_base >= seconds:
                        continue
                    shift = round(turn * seconds / packet.time_base)
                    packets.append((float(packet.pts * packet.time_base), packet, stream, shift))
            for _, packet, stream, shift in sorted(packets, key=lambda item: item[0]):
                packet.pts += shift
                packet.dts = packet.pts
                packet.stream = stream
                target.mux(packet)
        for source in sources:
            source.close()


def peak(video: Path, options: Sequence[str], out: Path) -> tuple[float, float]:
    """Runs ``affectkit run`` on a video in a process of its own.

    Returns:
        Its peak memory in MB and its processor time in seconds.
    """
    command = [sys.executable, "-m", "affectkit", "run", str(video), "--out", str(out), "--device", "cpu", *options]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{said.read().decode(errors='replace')}")
    return usage.ru_maxrss * MAXRSS_UNIT / 1e6, usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=Path, required=True, help="a real video, at least as long as the first of --lengths")
    parser.add_argument("--lengths", default="10,60,600", help="rising seconds, multiples of the first (default: 10,60,600)")
    parser.add_argument("options", nargs="*", help="options of affectkit run, after --")
    given = parser.parse_args()
    lengths = sorted({float(length) for length in given.lengths.split(",")})
    piece, peaks = lengths[0], []
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        parts = [at / "pictures.mkv"]
        encode(given.video, piece, parts[0])
        if encode_sound(given.video, piece, at / "sound.wav"):
            parts.append(at / "sound.wav")
        for seconds in lengths:
            video = at / f"{seconds:g}s.mkv"
            repeat(parts, piece, round(seconds / piece), video)
            with av.open(str(video)) as container:
                found = (container.duration or 0) / av.time_base
            megabytes, processor = peak(video, given.options, at / f"run-{seconds:g}")
            peaks.append(megabytes)
            print(f"{found:7.1f} s of video: peak {megabytes:6.0f} MB, {processor:5.0f} s of processor time", flush=True)
    for before, after in dict.fromkeys([(0, -1), (-2, -1)] if len(peaks) > 2 else [(0, -1)]):
        print(f"{lengths[after]:g} s against {lengths[before]:g} s: ratio {peaks[after] / peaks[before]:.2f} (goal: at most {GOAL})")


if __name__ == "__main__":
    main()
