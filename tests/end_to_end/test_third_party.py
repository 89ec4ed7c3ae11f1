"""Plugins of third parties, installed by pip without a network: one of each kind as ``plugins new`` writes it, and broken ones beside a good one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import affectkit
from affectkit import scaffold
from affectkit.labels import BASIC8, COMPOUND7
from affectkit.testing.media import make_video

pytest.importorskip("pip", reason="pip is not installed")


@dataclass(frozen=True)
class Python:
    """A Python of its own, with all that this one has, and a folder to work in."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Python:
        """A virtual environment that looks into the packages of this one too."""
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
        packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder / "venv")}))
        places = dict.fromkeys(sysconfig.get_paths()[name] for name in ("purelib", "platlib"))
        lines = "".join(f"import site; site.addsitedir({place!r})\n" for place in places)
        (packages / "beside.pth").write_text(lines, encoding="utf-8")
        return cls(folder)

    @property
    def program(self) -> Path:
        """The interpreter."""
        return Path(sysconfig.get_path("scripts", "venv", {"base": str(self.folder / "venv")})) / Path(sys.executable).name

    def run(self, *words: object, expected: int = 0) -> subprocess.CompletedProcess[str]:
        """Runs a module of Python in the folder; its exit status must be the expected one."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("AFFECTKIT_", "PYTHON"))}
        command = [str(self.program), "-m", *map(str, words)]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == expected, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done

    def install(self, *folders: Path, editable: bool = False) -> None:
        """Installs packages as a user without a network does."""
        how = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-build-isolation", "--no-deps"]
        given = [word for folder in folders for word in ([*["-e"] * editable, str(folder)])]
        subprocess.run([sys.executable, "-m", "pip", "--python", str(self.program), "install", *how, *given], check=True, cwd=self.folder)

    def plugins(self) -> dict[tuple[str, str], dict[str, object]]:
        """What ``affectkit plugins --json`` says, by name and distribution."""
        told = json.loads(self.run("affectkit", "plugins", "--json").stdout)
        return {(plugin["name"], plugin["distribution"]): plugin for plugin in told}


@pytest.fixture(scope="module")
def one_of_each(tmp_path_factory: pytest.TempPathFactory) -> Python:
    """One plugin of each kind, the modality installed in place and the others as packages; a video with words beside it."""
    python = Python.make(tmp_path_factory.mktemp("kinds"))
    folders = {kind: scaffold.create(f"new-{kind}", kind, python.folder / f"new-{kind}").folder for kind in scaffold.KINDS}
    python.install(folders.pop("modality"), editable=True)
    python.install(*folders.values())
    make_video(python.folder / "talk.mp4", seconds=3)
    (python.folder / "talk.words.csv").write_text("start,end,word\n0.5,1.0,happy\n1.5,2.0,day\n", encoding="utf-8")
    (python.folder / "list.txt").write_text("talk.mp4\n", encoding="utf-8")
    return python


@pytest.fixture(scope="module")
def mood(one_of_each: Python) -> Path:
    """The weights that the plugin with a training makes of its example."""
    one_of_each.run("affectkit_new_training.example", "data")
    one_of_each.run("affectkit", "train", "new-training/mood", "--data", "data", "--out", "weights", "--device", "cpu")
    return one_of_each.folder / "weights" / "mood.safetensors"


def test_all_kinds_are_listed_beside_the_others(one_of_each: Python) -> None:
    found = one_of_each.plugins()
    for kind, written in scaffold.KINDS.items():
        plugin = found[f"new-{kind}", f"affectkit-new-{kind}"]
        assert (plugin["state"], plugin["version"], plugin["summary"]) == ("ok", "0.1.0", written.summary)
        further = [{"id": "new-training/mood", "kind": "modality"}] if kind == "training" else []
        assert plugin["components"] == [*further, {"id": f"new-{kind}/{written.component}", "kind": kind}]


def test_all_kinds_work_together_in_a_run(one_of_each: Python) -> None:
    given = ["--plugins-dir", "new-provider/tests/stand_ins", "--plugins", "new-modality,reader/reader", "--device", "cpu"]
    chosen = ["--set", "providers.transcript=new-provider/words", "--fusion", "new-fusion/log_pool", "--head", "new-head/minimum"]
    one_of_each.run("affectkit", "run", "talk.mp4", *given, *chosen, "--out", "run")
    table = affectkit.read_run(one_of_each.folder / "run")
    assert set(table["source"]) == {"new-modality/colours", "reader/reader", "new-fusion/log_pool", "new-head/minimum"}
    assert table["valid"].all()
    compound = affectkit.read_run(one_of_each.folder / "run", COMPOUND7.name)
    assert set(compound["source"]) == {"new-head/minimum"}
    one_of_each.run("affectkit", "submit", "run", "--to", "new-submitter/videos", "--template", "list.txt", "--out", "out.csv")
    header, line = (one_of_each.folder / "out.csv").read_text(encoding="utf-8").splitlines()
    assert (header, line.partition(",")[0]) == ("video,expression", "talk.mp4")
    assert line.partition(",")[2] in BASIC8.labels


def test_a_training_makes_what_its_modality_reads(one_of_each: Python, mood: Path) -> None:
    chosen = ["--plugins", "new-training", "--set", f"components.new-training/mood.checkpoint={mood}", "--fusion", "core/mean"]
    one_of_each.run("affectkit", "run", "data/pictures/000.png", *chosen, "--device", "cpu", "--out", "moods")
    table = affectkit.read_run(one_of_each.folder / "moods")
    assert set(table["source"]) >= {"new-training/mood", "core/mean"}
    assert table["valid"].all()


def test_without_weights_nothing_is_broken(one_of_each: Python) -> None:
    told = one_of_each.run("affectkit", "plugins", "check", "new-training").stdout
    assert "new-training/mood has no weights: make them with affectkit train new-training/mood --data DATA --out weights" in told
    assert ", 0 broken, " in told.splitlines()[-1]


def test_all_kinds_pass_the_checks(one_of_each: Python, mood: Path) -> None:
    names = [f"new-{kind}" for kind in scaffold.KINDS]
    given = ["--set", f"components.new-training/mood.checkpoint={mood}"]
    told = one_of_each.run("affectkit", "plugins", "check", *names, *given).stdout
    for kind, written in scaffold.KINDS.items():
        assert f"new-{kind}/{written.component}\n" in told
        (line,) = [line for line in told.splitlines() if line.startswith(f"new-{kind}: ")]
        assert line.endswith(", 0 broken, 0 cannot be checked here"), told


def test_all_kinds_pass_their_own_tests(one_of_each: Python) -> None:
    folders = [f"new-{kind}/tests" for kind in scaffold.KINDS]
    told = one_of_each.run("pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", *folders).stdout
    assert "skipped" not in told, told


def replaced(old: str, new: str, file: str) -> Callable[[Path], None]:
    """Damages one file of a package."""

    def damage(folder: Path) -> None:
        path = folder / file
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    return damage


HOOKS = "affectkit_{}/__init__.py"
NEXT = f"needs affectkit<3,>=2, this is {affectkit.__version__}"
BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "renamed": (
        replaced("import Modality,", "import Modalities as Modality,", HOOKS.format("renamed")),
        "import: importing affectkit_renamed raised ImportError: cannot import name 'Modalities' from 'affectkit.api'",
    ),
    "needy": (
        replaced("\nfrom affectkit.api", "\nimport emotions_of_tomorrow\nfrom affectkit.api", HOOKS.format("needy")),
        "import: importing affectkit_needy raised ModuleNotFoundError: No module named 'emotions_of_tomorrow'",
    ),
    "instance": (
        replaced("return [Colours]", "return [Colours()]", HOOKS.format("instance")),
        "components: affectkit_modalities returned <affectkit_instance.modality.Colours object at",
    ),
    "usurper": (
        replaced('usurper = "affectkit_usurper"', 'core = "affectkit_usurper"', "pyproject.toml"),
        f"duplicate: two plugins are called core: the one of affectkit {affectkit.__version__} is used, the one of affectkit-usurper 0.1.0 is not",
    ),
    "ahead": (replaced(f"affectkit{scaffold.pin(affectkit.__version__)}", "affectkit>=2,<3", "pyproject.toml"), f"version: {NEXT}"),
}
"""How each package is broken, and what ``affectkit plugins`` says about it."""


@pytest.fixture(scope="module")
def one_good_of_six(tmp_path_factory: pytest.TempPathFactory) -> Python:
    """Five packages that are broken, each in its own way, and one that is not."""
    python = Python.make(tmp_path_factory.mktemp("broken"))
    folders = [scaffold.create(name, out=python.folder / name).folder for name in (*BROKEN, "good")]
    for folder in folders[:-1]:
        BROKEN[folder.name][0](folder)
    python.install(*folders)
    make_video(python.folder / "clip.mp4", seconds=1)
    return python


def test_each_broken_package_is_listed_with_its_own_sentence(one_good_of_six: Python) -> None:
    listed = one_good_of_six.run("affectkit", "plugins")
    lines = [" ".join(line.split()) for line in listed.stdout.splitlines()]
    for name, (_, sentence) in BROKEN.items():
        (line,) = [line for line in lines if f" affectkit-{name} " in line]
        assert line.startswith(f"{'core' if name == 'usurper' else name} 0.1.0 affectkit-{name} broken {sentence}")
    assert "good 0.1.0 affectkit-good ok modality colours" in lines
    assert listed.stderr == "5 cannot be used. The full story: affectkit plugins show ahead\n"


def test_what_to_do_about_each(one_good_of_six: Python) -> None:
    found = one_good_of_six.plugins()
    broken = {
        distribution.removeprefix("affectkit-"): plugin["failure"] for (_, distribution), plugin in found.items() if plugin["failure"]
    }
    assert {name: failure["remedy"] for name, failure in broken.items()} == {  # type: ignore[index]
        "renamed": "This is a mistake in affectkit-renamed: correct or update it, or leave it out with -p no:renamed.",
        "needy": "Install the package that provides emotions_of_tomorrow, or leave it out with -p no:needy.",
        "instance": "This is a mistake in affectkit-instance: correct or update it, or leave it out with -p no:instance.",
        "usurper": "Correct, rename or uninstall affectkit-usurper, or leave it out with -p no:affectkit-usurper.",
        "ahead": "Install versions that fit each other (pip install --upgrade affectkit affectkit-ahead), or leave it out with -p no:ahead.",
    }


def test_the_good_one_runs_beside_them(one_good_of_six: Python) -> None:
    chosen = ["--plugins", "good", "--fusion", "core/mean", "--head", "core/ppa", "--device", "cpu"]
    one_good_of_six.run("affectkit", "run", "clip.mp4", *chosen, "--out", "run")
    table = affectkit.read_run(one_good_of_six.folder / "run")
    assert set(table["source"]) == {"good/colours", "core/mean", "core/ppa"}
    assert table["valid"].all()


def test_a_run_that_needs_them_says_all_that_is_wrong_with_them(one_good_of_six: Python) -> None:
    names = [name for name in BROKEN if name != "usurper"]
    told = one_good_of_six.run("affectkit", "run", "clip.mp4", "--plugins", ",".join(names), "--out", "never", expected=2).stderr
    assert told.startswith("Error: 4 problems:")
    for number, name in enumerate(names, 1):
        assert f"{number}. plugin {name} cannot be used: plugin {name} (affectkit-{name}) is broken: " in told
        assert BROKEN[name][1].partition(": ")[2] in told
    assert not (one_good_of_six.folder / "never").exists()


def test_the_check_of_each_says_why_it_cannot_be_made(one_good_of_six: Python) -> None:
    names = [name for name in BROKEN if name != "usurper"]
    told = one_good_of_six.run("affectkit", "plugins", "check", *names, "good/colours", expected=1).stdout
    for name in names:
        (line,) = [line for line in told.splitlines() if line.startswith(f"{name}: ")]
        assert BROKEN[name][1].partition(": ")[2] in line
    assert "good/colours" in told
