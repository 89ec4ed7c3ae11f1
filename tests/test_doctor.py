"""``affectkit doctor``: what is well, what is not, and that nothing stops it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from affectkit import caches, doctor, machine
from affectkit.cli import cli
from affectkit.errors import UsageError
from affectkit.machine import Finding
from affectkit.weight_files import RANDOM

Install = Callable[..., Path]


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache and a working folder of the test's own, and no switches."""
    for name in (*caches.OFFLINE, "AFFECTKIT_PLUGINS_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AFFECTKIT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Makes an installed distribution, with its requirements and the code of a module."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)

    def write(
        name: str, version: str = "1.0", *, requires: tuple[str, ...] = (), module: str = "", code: str = "", points: str = ""
    ) -> Path:
        record = site / f"{name.replace('-', '_')}-{version}.dist-info"
        record.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {text}" for text in requires), ""]
        (record / "METADATA").write_text("\n".join(lines), encoding="utf-8")
        (record / "entry_points.txt").write_text(points, encoding="utf-8")
        if module:
            (site / f"{module}.py").write_text(dedent(code), encoding="utf-8")
        return site

    return write


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["doctor", *arguments])


def examined(*arguments: str) -> dict[str, dict[str, Any]]:
    """What doctor says, by subject."""
    return {finding["subject"]: finding for finding in json.loads(call("--json", *arguments).stdout)["findings"]}


def one(findings: Any) -> Finding:
    [finding] = list(findings)
    return finding


# --- all of it


def test_a_machine_that_is_well(tmp_path):
    pytest.importorskip("affectkit_mini", reason="the plugin mini is not installed")
    result = call()
    lines = [line for line in result.stdout.splitlines() if not line.startswith(" ")]
    assert result.exit_code == 0, result.output
    assert lines[-1] == "No problems."
    marks = {line.split()[0] for line in lines[:-1]}
    assert marks <= {"ok", "note"}
    found = examined()
    for subject in ("Python", "torch", "decoding", "OpenCV", "cache", "this folder", "offline", "plugin core", "plugin mini", "mini/audio"):
        assert found[subject]["mark"] == "ok", found[subject]
        assert any(line.startswith(f"ok       {subject} ") for line in lines)
    assert found["default recipe"]["text"].endswith("all that it must have is here")
    assert "decodes H.264 and AAC" in found["decoding"]["text"]
    assert found["torch"]["data"] == {"version": torch.__version__, "threads": torch.get_num_threads()}
    assert found["core/whisper"]["mark"] == "note"  # an alternative, not needed
    assert "affectkit weights fetch core/whisper:base" in found["core/whisper"]["remedy"]
    assert not (tmp_path / "cache").exists()
    assert os.listdir() == []


def test_json_says_the_same_and_whether_all_is_well(monkeypatch):
    monkeypatch.setitem(doctor.MACHINE, "torch", lambda: [Finding("torch", "problem", "is ill", "Install it again")])
    result = call("--json")
    told = json.loads(result.stdout)
    assert (result.exit_code, told["well"]) == (1, False)
    assert {"subject": "torch", "mark": "problem", "text": "is ill", "remedy": "Install it again", "data": {}} in told["findings"]
    result = call()
    assert result.exit_code == 1
    assert "problem  torch                  is ill\n                                -> Install it again\n" in result.stdout
    assert result.stdout.endswith("1 problem.\n")


@pytest.mark.parametrize(
    ("error", "text", "remedy"),
    [
        (OSError("libcudart.so.13: no such file"), "OSError: libcudart.so.13: no such file", "report it with what affectkit doctor --json"),
        (
            ImportError("no module x", name="x.y"),
            "ImportError: no module x",
            "Install the package that provides x, again where it is there",
        ),
        (UsageError("no such folder"), "no such folder", ""),
    ],
)
def test_a_check_that_fails_is_a_problem_and_stops_no_other(monkeypatch, error, text, remedy):
    def fail() -> Any:
        raise error

    monkeypatch.setitem(doctor.MACHINE, "torch", fail)
    found = examined()
    assert (found["torch"]["mark"], found["torch"]["text"]) == ("problem", text)
    assert remedy in found["torch"]["remedy"]
    assert ("in fail" in found["torch"]["data"].get("traceback", "")) is not isinstance(error, UsageError)
    assert {"Python", "OpenCV", "plugin core"} <= set(found)


def test_plugins_that_cannot_be_looked_for(tmp_path):
    found = examined("--plugins-dir", str(tmp_path / "nowhere"))
    assert "there is no such folder" in found["plugins"]["text"]
    assert found["Python"]["mark"] == "ok"


def test_the_program_from_a_folder_of_its_own(tmp_path):
    environment = os.environ | {"AFFECTKIT_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "affectkit", "doctor", "--offline", "--json"], capture_output=True, text=True, env=environment
    )
    told = json.loads(done.stdout)
    assert done.returncode == (0 if told["well"] else 1), done.stderr
    [offline] = [finding for finding in told["findings"] if finding["subject"] == "offline"]
    assert offline["data"]["set"] == list(caches.OFFLINE)


# --- Python and packages


def test_a_python_that_is_not_supported(monkeypatch):
    monkeypatch.setattr("platform.python_version", lambda: "3.9.2")
    finding = one(machine.python())
    assert finding.mark == "problem"
    assert finding.text.endswith("affectkit needs Python >=3.11")
    assert finding.remedy == "Make an environment with Python >=3.11"


def test_a_torchvision_that_does_not_fit(install, monkeypatch):
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    install("torchvision", "0.1", module="torchvision", code="raise RuntimeError('operator torchvision::nms does not exist')")
    finding = one(machine.torchvision())
    assert finding.mark == "problem"
    assert finding.text == f"0.1 does not fit torch {machine._version('torch')}: operator torchvision::nms does not exist"
    assert "pip install --upgrade torch torchvision" in finding.remedy


def test_packages_that_are_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.setitem(sys.modules, "torch", None)
    finding = one(machine.opencv())
    assert (finding.mark, finding.text, finding.remedy) == ("problem", "is not installed", "pip install opencv-python")
    assert list(machine.cuda()) == []
    [finding] = doctor.guarded("torch", machine.torch)
    assert finding.remedy == "Install the package that provides torch, again where it is there"


def test_two_packages_of_opencv(install):
    install("opencv-python-headless", "4.10.0")
    there = [name for name in machine.OPENCV if machine._version(name)]
    if len(there) < 2:
        pytest.skip("OpenCV is not installed by pip here")
    finding = one(machine.opencv())
    assert finding.mark == "problem"
    assert finding.text == "opencv-python and opencv-python-headless are installed, and all write into one folder cv2"
    assert finding.remedy == "pip uninstall -y opencv-python opencv-python-headless && pip install opencv-python"


def test_requirements_of_a_distribution(install):
    install("needy", requires=("numpy>=1", "numpy<1", "no-such-package>=2", "other; extra == 'all'", "old; python_version < '3'"))
    numpy = machine._version("numpy")
    assert machine.requirements("needy") == [f"numpy<1, found {numpy}", "no-such-package>=2, which is not installed"]


# --- CUDA


@pytest.mark.parametrize(
    ("build", "seen", "card", "mark", "text", "remedy"),
    [
        (None, False, "", "ok", "this torch is built without CUDA: everything runs on the CPU", ""),
        (None, False, "PCI 1", "note", "and this torch is built without CUDA: everything runs on the CPU", "install torch for CUDA"),
        ("13.0", False, "", "ok", "no CUDA device: everything runs on the CPU", ""),
        ("13.0", False, "PCI 1", "problem", "torch cannot use it: Found no NVIDIA driver", "Install a driver for CUDA 13.0"),
    ],
)
def test_without_a_device(monkeypatch, build, seen, card, mark, text, remedy):
    def init() -> None:
        raise RuntimeError("Found no NVIDIA driver on your system.\nPlease check")

    monkeypatch.setattr(torch.version, "cuda", build)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: seen)
    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.setattr(machine, "graphics_cards", lambda: card)
    finding = one(machine.cuda())
    assert finding.mark == mark
    assert text in finding.text
    assert remedy in finding.remedy


def test_devices(monkeypatch):
    def multiplies(device: str) -> bool:
        if device == "cuda:1":
            raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nmore")
        return True

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"Card {index}")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (60 * 10**9, 80 * 10**9))
    monkeypatch.setattr(machine, "_multiplies", multiplies)
    good, bad = machine.cuda()
    assert (good.subject, good.mark, good.text) == ("CUDA 0", "ok", "Card 0, 80 GB, 60 GB free, CUDA 13.0, multiplies matrices")
    assert (bad.subject, bad.mark) == ("CUDA 1", "problem")
    assert bad.text == "Card 1 cannot be used: CUDA error: no kernel image is available for execution on the device"
    assert "--device cpu" in bad.remedy


def test_wrong_products(monkeypatch):
    monkeypatch.setattr(machine, "_multiplies", lambda device: False)
    assert one(machine.torch()).mark == "problem"


# --- decoding, disk, switches


def test_ffmpeg_without_decoders_or_encoders(monkeypatch):
    monkeypatch.setattr(machine, "_has_codec", lambda name, mode: name not in ("hevc", "mp3"))
    finding = one(machine.decoding())
    assert finding.mark == "problem"
    assert finding.text.endswith("cannot decode hevc, mp3")
    assert "--only-binary av av" in finding.remedy
    monkeypatch.setattr(machine, "_has_codec", lambda name, mode: mode == "r")
    finding = one(machine.decoding())
    assert finding.mark == "note"
    assert "no encoder of H.264, so decoding was not tried" in finding.text


def test_decoding_that_loses_pictures(monkeypatch):
    monkeypatch.setattr("affectkit.decoding.read_frames", lambda media: iter(()))
    finding = one(machine.decoding())
    assert finding.mark == "problem"
    assert "of a video of 10 frames and a tone it decodes 0 and 0." in finding.text


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AFFECTKIT_CACHE", str(tmp_path / "file"))
    cache, folder = machine.disk()
    assert (cache.subject, cache.mark) == ("cache", "problem")
    assert cache.text.startswith(f"{tmp_path / 'file'} cannot hold downloaded weights: ")
    assert cache.remedy == "Set AFFECTKIT_CACHE to a folder that can be written"
    assert (folder.subject, folder.mark) == ("this folder", "ok")


def test_little_room(monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=5e8))
    cache, folder = machine.disk()
    assert (cache.mark, folder.mark, folder.remedy) == ("note", "note", "Make room")
    assert "(not made yet), 0.5 GB free for downloaded weights" in cache.text


def test_switches(monkeypatch):
    assert one(machine.offline()).mark == "ok"
    monkeypatch.setenv("HF_HUB_OFFLINE", "true")
    finding = one(machine.offline())
    assert (finding.mark, finding.text) == ("note", "HF_HUB_OFFLINE: nothing is downloaded")


# --- plugins and weights


def test_plugins_that_are_broken_blocked_or_lack_a_package(install, tmp_path):
    hook = "from affectkit.api import Provider, hookimpl\n\n@hookimpl\ndef affectkit_providers(): return []\n"
    install("needy", requires=("no-such-package>=2",), module="needy", code=hook, points="[affectkit]\nneedy = needy\n")
    install("shut", module="shut", code=hook, points="[affectkit]\nshut = shut\n")
    install("torn", module="torn", code="import no_such_module", points="[affectkit]\ntorn = torn\n")
    found = examined("-p", "no:shut")
    assert (found["plugin shut"]["mark"], found["plugin shut"]["text"]) == ("note", "shut 1.0 is blocked")
    assert found["plugin torn"]["mark"] == "problem"
    assert "torn 1.0 is broken: " in found["plugin torn"]["text"]
    assert "Install the package that provides no_such_module" in found["plugin torn"]["remedy"]
    assert found["plugin needy"]["text"] == "needy 1.0 needs no-such-package>=2, which is not installed"
    assert found["plugin needy"]["remedy"] == "pip install --upgrade needy, or those packages"
    assert found["plugin core"]["mark"] == "ok"
    assert call("-p", "no:shut").exit_code == 1


@pytest.fixture
def ears(tmp_path: Path) -> Path:
    """A folder with a plugin whose components have weights in every state."""
    (tmp_path / "good.bin").write_bytes(b"good")
    (tmp_path / "random.bin").write_bytes(RANDOM.encode())
    folder = tmp_path / "plugins"
    folder.mkdir()
    digest = hashlib.sha256(b"good").hexdigest()
    (folder / "ears.py").write_text(
        dedent(f"""
        from dataclasses import dataclass
        from affectkit.api import Checkpoint, Provider, hookimpl

        class Base(Provider):
            kind, scope = "noise", "window"
            def provide(self, clips): return []

        def component(called, packages=(), **records):
            return type(called.title(), (Base,), {{"name": called, "checkpoints": records, "requires": packages}})

        @dataclass(frozen=True)
        class Size:
            size: int

        class Sized(Base):
            name, Options, checkpoints = "sized", Size, {{"a": Checkpoint({str(tmp_path / "good.bin")!r})}}

        class Raises(Base):
            name = "raises"
            def used_checkpoints(self): raise ValueError("out of order")

        GOOD = {str(tmp_path / "good.bin")!r}

        @hookimpl
        def affectkit_providers():
            return [
                component("verified", one=Checkpoint(GOOD, {digest!r})),
                component("unknown", one=Checkpoint(GOOD)),
                component("damaged", one=Checkpoint(GOOD, {digest!r}), two=Checkpoint(GOOD, {"0" * 64!r})),
                component("random", one=Checkpoint({str(tmp_path / "random.bin")!r})),
                component("gone", one=Checkpoint({str(tmp_path / "gone.bin")!r})),
                component("made", one=Checkpoint({str(tmp_path / "made.bin")!r}, source="affectkit train ears/made")),
                component("astray", one=Checkpoint("package:no_such_package/a.bin")),
                component("far", one=Checkpoint("https://example.org/far.bin", {digest!r}, size=2_000_000)),
                component("lacking", ("no_such_package",), one=Checkpoint("https://example.org/far.bin", {digest!r})),
                component("bare"), Sized, Raises,
            ]
        """),
        encoding="utf-8",
    )
    return folder


def test_weights_in_every_state(ears, tmp_path):
    found = examined("--plugins-dir", str(ears))
    assert (found["ears/verified"]["mark"], found["ears/verified"]["text"]) == ("ok", "good.bin is here, verified")
    assert (found["ears/unknown"]["mark"], found["ears/unknown"]["text"]) == ("ok", "good.bin is here, no digest is published")
    assert found["ears/damaged"]["mark"] == "problem"  # the worse of two
    assert "good.bin is here, verified; " in found["ears/damaged"]["text"]
    assert f"{tmp_path / 'good.bin'} is damaged or another version" in found["ears/damaged"]["text"]
    assert (found["ears/random"]["mark"], found["ears/random"]["text"]) == ("note", "random.bin holds random numbers, for trying only")
    assert found["ears/gone"]["mark"] == "problem"
    assert "the weights gone.bin are not here" in found["ears/gone"]["text"]
    assert (found["ears/made"]["mark"], found["ears/made"]["text"]) == ("note", "made.bin is not here, and nobody publishes it")
    assert found["ears/made"]["remedy"] == "Where it is wanted: affectkit train ears/made"
    assert found["ears/astray"]["mark"] == "problem"
    assert "the package no_such_package is not installed" in found["ears/astray"]["text"]
    assert (found["ears/far"]["mark"], found["ears/far"]["text"]) == ("note", "far.bin (2.0 MB) is not here")
    assert found["ears/far"]["remedy"] == "Where it is wanted: affectkit weights fetch ears/far"
    assert found["ears/lacking"]["text"] == "far.bin is not here; the package no_such_package is not installed"
    assert "pip install" in found["ears/lacking"]["remedy"]
    assert (found["ears/raises"]["mark"], found["ears/raises"]["text"]) == ("problem", "ValueError: out of order")
    assert not {"ears/bare", "ears/sized"} & set(found)


def test_offline_says_where_to_fetch(ears):
    found = examined("--plugins-dir", str(ears), "--offline")
    assert found["ears/far"]["remedy"] == "Where it is wanted: affectkit weights fetch ears/far, where downloads are allowed"


def test_a_large_file_is_not_read(ears, monkeypatch):
    monkeypatch.setattr(doctor, "LARGE", 3)
    found = examined("--plugins-dir", str(ears))
    assert "too large to compare its digest now (affectkit weights verify ears/verified)" in found["ears/verified"]["text"]


def test_the_default_recipe(monkeypatch):
    pytest.importorskip("affectkit_mini", reason="the plugin mini is not installed")
    blocked = examined("-p", "no:mini")
    assert blocked["default recipe"]["mark"] == "problem"
    assert "plugin mini is blocked" in blocked["default recipe"]["text"]
    assert "pip install affectkit-mini" in blocked["default recipe"]["remedy"]
    monkeypatch.setattr("affectkit.inventory.find", lambda record: None)  # so that the checks of weights themselves say nothing of use
    monkeypatch.setattr("affectkit.checkpoints.sha256", lambda path: "0" * 64)
    damaged = examined()["default recipe"]
    assert damaged["mark"] == "problem"
    assert "is damaged or another version" in damaged["text"]
