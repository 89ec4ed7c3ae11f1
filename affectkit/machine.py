"""What a run needs of the machine: Python, torch, a GPU where there is one, decoding, OpenCV, disk. Checks for ``affectkit doctor``."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

Mark = Literal["ok", "note", "problem"]

OPENCV = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
NVIDIA = "0x10de"  # vendor of NVIDIA's devices on the PCI bus
DISPLAY = "0x03"  # how the class of graphics devices begins on the PCI bus
LITTLE = 1 << 30  # bytes of free space below which there is a note
SIDE = 64  # rows and columns of the matrices that are multiplied
TOLERANCE = 1e-3  # of a product of small matrices of numbers between 0 and 1, also where a GPU rounds to TF32
GB = 1e9


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        subject: what was looked at, in a word or two, or the id of a component.
        mark: ``"ok"``; ``"note"`` for what is not here and not needed; ``"problem"``.
        text: what was found.
        remedy: what to do, where there is something to do.
        data: numbers and names of it, for programs.
    """

    subject: str
    mark: Mark
    text: str
    remedy: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


def python() -> Iterator[Finding]:
    """Python, the operating system, and whether affectkit supports this version."""
    from packaging.specifiers import SpecifierSet

    version = platform.python_version()
    text = f"{version} on {platform.system()} {platform.machine()}"
    try:
        wanted = metadata.metadata("affectkit")["Requires-Python"] or ""
    except metadata.PackageNotFoundError:
        yield Finding(
            "Python", "note", f"{text}; affectkit runs without being installed", "pip install it, so that plugins can depend on it"
        )
        return
    if SpecifierSet(wanted).contains(version, prereleases=True):
        yield Finding("Python", "ok", text, data={"version": version, "wanted": wanted})
    else:
        yield Finding("Python", "problem", f"{text}; affectkit needs Python {wanted}", f"Make an environment with Python {wanted}")


def torch() -> Iterator[Finding]:
    """Whether torch is there and multiplies matrices on the processor."""
    import torch

    data = {"version": torch.__version__, "threads": torch.get_num_threads()}
    text = f"{torch.__version__}, {torch.get_num_threads()} {'thread' if torch.get_num_threads() == 1 else 'threads'}"
    if _multiplies("cpu"):
        yield Finding("torch", "ok", f"{text}, multiplies matrices", data=data)
    else:
        yield Finding("torch", "problem", f"{text}; a product of two matrices is wrong", "Install torch again", data)


def cuda() -> Iterator[Finding]:
    """Whether torch sees the GPU, where there is one; nothing where there is no torch, which is told already."""
    if find_spec("torch") is None:
        return
    import torch

    build: str | None = torch.version.cuda
    hardware = graphics_cards()
    if build is None and hardware:
        yield Finding(
            "CUDA",
            "note",
            f"there is a graphics card of NVIDIA ({hardware}), and this torch is built without CUDA: everything runs on the CPU",
            "To use it, install torch for CUDA: https://pytorch.org/get-started/locally",
        )
    elif build is None:
        yield Finding("CUDA", "ok", "this torch is built without CUDA: everything runs on the CPU")
    elif not torch.cuda.is_available() and hardware:
        yield Finding(
            "CUDA",
            "problem",
            f"there is a graphics card of NVIDIA ({hardware}), and torch cannot use it: {_reason()}",
            f"Install a driver for CUDA {build} (nvidia-smi shows the one that is there), or a torch built for that driver. "
            "Until then: --device cpu",
            {"built_for": build},
        )
    elif not torch.cuda.is_available():
        yield Finding("CUDA", "ok", "no CUDA device: everything runs on the CPU", data={"built_for": build})
    else:
        for index in range(torch.cuda.device_count()):
            yield _card(index)


def _card(index: int) -> Finding:
    """One graphics card that torch sees."""
    import torch

    name = torch.cuda.get_device_name(index)
    try:
        free, total = torch.cuda.mem_get_info(index)
        right = _multiplies(f"cuda:{index}")
    except RuntimeError as error:
        first = str(error).splitlines()[0]
        remedy = "Install a torch that is built for this card, or wait until others have finished with it; until then: --device cpu"
        return Finding(f"CUDA {index}", "problem", f"{name} cannot be used: {first}", remedy)
    text = f"{name}, {total / GB:.0f} GB, {free / GB:.0f} GB free, CUDA {torch.version.cuda}"
    data = {"name": name, "total": total, "free": free, "built_for": torch.version.cuda}
    if not right:
        return Finding(
            f"CUDA {index}", "problem", f"{text}; a product of two matrices is wrong", "Install torch again; else --device cpu", data
        )
    return Finding(f"CUDA {index}", "ok", f"{text}, multiplies matrices", data=data)


def _multiplies(device: str) -> bool:
    """Whether a product of two matrices on a device is that of numpy."""
    import numpy as np
    import torch

    left = np.linspace(0, 1, SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE)
    product = torch.from_numpy(left).to(device) @ torch.from_numpy(left.T.copy()).to(device)
    return bool(np.allclose(product.cpu().numpy(), left @ left.T, rtol=TOLERANCE))


def _reason() -> str:
    """Why torch sees no device, in its own words."""
    import torch

    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    return "it finds no device"


def graphics_cards() -> str:
    """A sign that there is a graphics card of NVIDIA, whether torch sees it or not; empty where there is none."""
    for card in sorted(Path("/sys/bus/pci/devices").glob("*")):
        try:
            vendor, kind = ((card / name).read_text(encoding="ascii").strip() for name in ("vendor", "class"))
        except OSError:
            continue
        if vendor == NVIDIA and kind.startswith(DISPLAY):
            return f"PCI {card.name}"
    if Path("/proc/driver/nvidia/version").exists() and list(Path("/dev").glob("nvidia[0-9]*")):
        return "its driver is loaded"
    return "nvidia-smi is installed" if shutil.which("nvidia-smi") and os.name == "nt" else ""


def torchvision() -> Iterator[Finding]:
    """Whether torchvision fits torch, where it is installed; affectkit itself does not need it."""
    if find_spec("torchvision") is None:
        return
    version = _version("torchvision")
    try:
        import_module("torchvision")
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        yield Finding(
            "torchvision",
            "problem",
            f"{version} does not fit torch {_version('torch')}: {' '.join(str(error).split())[:160]}",
            "Install the two that belong together, from one place: pip install --upgrade torch torchvision; "
            "or, as affectkit does not need it: pip uninstall torchvision",
        )
    else:
        yield Finding("torchvision", "ok", f"{version}, fits torch {_version('torch')}")


def decoding() -> Iterator[Finding]:
    """PyAV and the FFmpeg inside it; a video of H.264 and AAC is written, and decoded as a run does."""
    import av
    import numpy as np

    from affectkit.decoding import read_frames, read_sound
    from affectkit.media import open_media
    from affectkit.testing.media import make_video, tone

    text = f"PyAV {av.__version__} with FFmpeg {av.ffmpeg_version_info}"
    data = {"pyav": av.__version__, "ffmpeg": av.ffmpeg_version_info}
    again = "Install PyAV again from its wheel: pip install --force-reinstall --only-binary av av"
    if lacking := [name for name in ("h264", "aac", "hevc", "vp9", "mp3") if not _has_codec(name, "r")]:
        yield Finding("decoding", "problem", f"{text} cannot decode {', '.join(lacking)}", again, data)
        return
    if not _has_codec("libx264", "w"):
        yield Finding("decoding", "note", f"{text}; it has no encoder of H.264, so decoding was not tried", data=data)
        return
    with tempfile.TemporaryDirectory() as folder:
        media = open_media(make_video(Path(folder, "clip.mp4"), seconds=0.4, fps=25, size=(64, 96), sound=tone))
        pictures = sum(1 for _ in read_frames(media))
        heard = float(np.abs(np.concatenate([piece.samples for piece in read_sound(media, 16000)])).max())
    if pictures == 10 and heard > 0.1:
        yield Finding("decoding", "ok", f"{text}, decodes H.264 and AAC", data=data)
    else:
        yield Finding(
            "decoding", "problem", f"{text}: of a video of 10 frames and a tone it decodes {pictures} and {heard:.2f}", again, data
        )


def _has_codec(name: str, mode: Literal["r", "w"]) -> bool:
    import av

    try:
        av.codec.Codec(name, mode)
    except ValueError:
        return False
    return True


def opencv() -> Iterator[Finding]:
    """OpenCV, and whether two packages have overwritten each other."""
    if find_spec("cv2") is None:
        yield Finding("OpenCV", "problem", "is not installed", "pip install opencv-python")
        return
    installed = [name for name in OPENCV if _version(name)]
    if len(installed) > 1:
        yield Finding(
            "OpenCV",
            "problem",
            f"{' and '.join(installed)} are installed, and all write into one folder cv2",
            f"pip uninstall -y {' '.join(installed)} && pip install opencv-python",
            {"installed": installed},
        )
    try:
        import cv2
    except (ImportError, OSError) as error:
        remedy = "Install the libraries that it names (Debian, Ubuntu: apt install libgl1 libglib2.0-0)"
        yield Finding("OpenCV", "problem", f"cannot be imported: {' '.join(str(error).split())}", remedy)
        return
    if len(installed) <= 1:
        yield Finding("OpenCV", "ok", cv2.__version__, data={"version": cv2.__version__})


def disk() -> Iterator[Finding]:
    """The folder where downloads go and the one where this is called: whether they can be written, and free space."""
    from affectkit.caches import cache_folder

    yield _folder("cache", cache_folder(), "downloaded weights", "Set AFFECTKIT_CACHE to a folder that can be written")
    yield _folder("this folder", Path.cwd(), "run folders", "Go to a folder that can be written, or give one with --out")


def _folder(subject: str, folder: Path, holds: str, remedy: str) -> Finding:
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"affectkit")
        free = shutil.disk_usage(there).free
    except OSError as error:
        return Finding(subject, "problem", f"{folder} cannot hold {holds}: {error.strerror} ({there})", remedy, {"folder": str(folder)})
    mark: Mark = "ok" if free >= LITTLE else "note"
    text = f"{folder}{'' if there == folder else ' (not made yet)'}, {free / GB:.1f} GB free for {holds}"
    return Finding(subject, mark, text, "" if mark == "ok" else "Make room", {"folder": str(folder), "free": free})


def offline() -> Iterator[Finding]:
    """The switches that forbid downloads."""
    from affectkit.caches import OFFLINE
    from affectkit.caches import offline as forbidden

    set_ = [name for name in OFFLINE if forbidden(name)]
    text = f"{', '.join(set_)}: nothing is downloaded" if set_ else "no: affectkit weights fetch may download, nothing else does"
    yield Finding("offline", "note" if set_ else "ok", text, data={"set": set_})


def requirements(distribution: str) -> list[str]:
    """Packages that a distribution needs and that are not here, or not in a version that it takes, a phrase each.

    A distribution that is not installed (a plugin of one file) needs none.

    >>> requirements("no-such-distribution")
    []
    """
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        requires = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return []
    wrong = []
    for text in requires:
        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            wrong.append(f"{text!r}, which is no requirement")
            continue
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        version = _version(wanted.name)
        if version is None:
            wrong.append(f"{wanted.name}{wanted.specifier}, which is not installed")
        elif not wanted.specifier.contains(version, prereleases=True):
            wrong.append(f"{wanted.name}{wanted.specifier}, found {version}")
    return wrong


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
