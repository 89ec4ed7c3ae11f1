"""``affectkit plugins new``: names, folders, and what is written. That it installs and works: ``end_to_end/test_third_party.py``."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from shutil import copytree

import pytest
from click.testing import CliRunner, Result
from packaging.requirements import Requirement

import affectkit
from affectkit import contract, scaffold
from affectkit.cli import cli
from affectkit.cli.new import KINDS
from affectkit.errors import StoreError, UsageError

ROOT = Path(__file__).resolve().parent.parent

# The tests of the package itself come after it is installed: mypy looks at the types, torch and pandas left out for speed.
MYPY = """
[mypy]
follow_imports = silent
disallow_untyped_defs = True
check_untyped_defs = True
warn_unused_ignores = True
[mypy-torch.*]
follow_imports = skip
[mypy-pandas.*]
follow_imports = skip
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def new(*arguments: object, **environment: str) -> Result:
    """Runs ``affectkit plugins new`` in this process."""
    words = ["plugins", "new", *map(str, arguments)]
    return CliRunner().invoke(cli, words, env={"AFFECTKIT_PLUGINS_DIR": None, **environment}, terminal_width=200)


def refused(*arguments: object, **environment: str) -> str:
    """The error of a command that must fail with status 2 and write nothing."""
    before = sorted(Path().rglob("*"))
    result = new(*arguments, **environment)
    assert result.exit_code == 2, result.output
    assert sorted(Path().rglob("*")) == before
    return result.stderr.removeprefix("Error: ").strip()


def test_what_is_said_at_the_end() -> None:
    result = new("my-model")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "my-model: modality my-model/colours, in the package affectkit_my_model of the distribution affectkit-my-model",
        "",
        "Next:",
        "  pip install -e my-model",
        "  affectkit run VIDEO --plugins my-model --fusion core/mean --out out",
        "  affectkit plugins check my-model",
        "",
        "Then put your own into my-model/affectkit_my_model/modality.py; my-model/README.md goes on from there.",
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written(kind: str) -> None:
    result = new("my_part", "--kind", kind, "--out", "deep/my part")
    assert result.exit_code == 0, result.output
    assert "pip install -e 'deep/my part'" in result.stdout
    folder = Path("deep/my part")
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    always = {"pyproject.toml", "README.md", "LICENSE", ".gitignore", "tests/test_plugin.py"}
    assert always | {"affectkit_my_part/__init__.py", f"affectkit_my_part/{kind}.py"} <= files
    assert not list(Path("deep").glob(".*"))
    for file in files:
        assert "$" not in (folder / file).read_text(encoding="utf-8"), file
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] == "affectkit-my-part"
    assert project["entry-points"] == {"affectkit": {"my_part": "affectkit_my_part"}}
    pinned = Requirement(project["dependencies"][0])
    assert pinned.name == "affectkit"
    assert pinned.specifier.contains(affectkit.__version__)
    assert not pinned.specifier.contains("99")
    assert scaffold.KINDS[kind].summary == project["description"]
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert f"affectkit plugins check {'my_part'}" in readme


def test_the_kinds_are_those_of_components() -> None:
    assert set(KINDS) == set(scaffold.KINDS) == set(contract.KINDS)
    with pytest.raises(UsageError, match=r"there is no kind of plugin 'modalty'. Did you mean modality\?"):
        scaffold.create("a", "modalty")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("My-Model", "; for instance my-model"),
        ("2fast", "beginning with a letter, at most 40"),
        ("über", ""),
        ("-x", ""),
        ("a--b", "; for instance a-b"),
        ("a/b", "; for instance a-b"),
        ("../up", "; for instance up"),
        ("x" * 41, f"; for instance {'x' * 40}"),
        ("", ""),
    ],
)
def test_names_that_cannot_be(name: str, told: str) -> None:
    message = refused("--", name)
    assert message.startswith(f"{name!r} cannot be the name of a plugin: lower-case letters and digits")
    assert message.endswith(told)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("core", "'core' is affectkit's own name; choose another, for instance my-core"),
        ("affectkit", "'affectkit' is affectkit's own name; choose another, for instance my-affectkit"),
        ("affectkit-voice", "leave out 'affectkit-': the plugin voice gets the distribution affectkit-voice"),
        ("affectkit_my_voice", "leave out 'affectkit_': the plugin my_voice gets the distribution affectkit-my-voice"),
    ],
)
def test_names_of_affectkit_itself(name: str, told: str) -> None:
    assert refused(name) == told


def test_a_name_that_an_installed_plugin_has_even_a_broken_one(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = here / "site" / "somebodys_voice-1.2.dist-info"
    record.mkdir(parents=True)
    (record / "METADATA").write_text("Metadata-Version: 2.4\nName: somebodys-voice\nVersion: 1.2\n")
    (record / "entry_points.txt").write_text("[affectkit]\nmy_voice = module_that_is_not_there\n")
    monkeypatch.syspath_prepend(here / "site")
    told = "there is a plugin my_voice already, of somebodys-voice 1.2; choose another name, or uninstall somebodys-voice"
    assert refused("my_voice") == refused("my-voice") == told


def test_a_name_that_a_file_in_the_folder_of_plugins_has(here: Path) -> None:
    (here / "mine").mkdir()
    (here / "mine" / "voice.py").write_text("raise RuntimeError('not imported')\n")
    assert refused("voice", AFFECTKIT_PLUGINS_DIR=str(here / "mine")).startswith("there is a plugin voice already, of voice.py")


def test_a_package_that_would_be_hidden(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = here / "site" / "affectkit_voice.py"
    module.parent.mkdir()
    module.write_text("")
    monkeypatch.syspath_prepend(here / "site")
    assert refused("voice") == f"there is a package affectkit_voice already ({module}), which this one would hide; choose another name"


def test_folders_that_cannot_be_used(here: Path) -> None:
    (here / "voice").mkdir()
    assert new("voice").exit_code == 0  # an empty folder is fine
    assert refused("voice") == "voice is not empty; name an empty or new folder with --out, or remove what is in it"
    (here / "other").write_text("")
    assert refused("other") == "other is a file; name a folder with --out"


def test_the_current_folder_can_be_filled(here: Path) -> None:
    result = new("voice", "--out", ".")
    assert result.exit_code == 0, result.output
    assert "pip install -e .\n" in result.stdout
    assert {path.name for path in here.iterdir()} == {"pyproject.toml", "README.md", "LICENSE", ".gitignore", "affectkit_voice", "tests"}


def test_nothing_is_left_where_writing_fails(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_text

    def full(path: Path, *arguments: str, **named: str) -> int:
        if path.name == "README.md":
            raise OSError(28, "No space left on device")
        return write(path, *arguments, **named)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(StoreError, match="voice cannot be written: No space left on device"):
        scaffold.create("voice")
    assert not list(here.iterdir())
    result = new("voice")
    assert (result.exit_code, result.stderr) == (1, "Error: voice cannot be written: No space left on device\n")


def test_every_kind_is_clean_in_ruff_and_mypy(here: Path) -> None:
    for kind in KINDS:
        folder = scaffold.create(f"neat-{kind}", kind).folder
        copytree(folder / f"affectkit_neat_{kind}", here / "types" / f"affectkit_neat_{kind}")
        copytree(folder / "tests", here / "types" / f"tests_{kind}")
        (here / "types" / f"tests_{kind}" / "__init__.py").touch()
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["lint"]
    rules = ["--select", ",".join(settings["select"]), "--ignore", ",".join(settings["ignore"])]
    folders = sorted(map(str, here.glob("neat-*")))
    (here / "mypy.ini").write_text(MYPY)
    types = ["--config-file", str(here / "mypy.ini"), "--cache-dir", str(here / "cache"), "."]
    for words in (
        ["ruff", "check", "--no-cache", *rules, *folders],
        ["ruff", "format", "--check", "--no-cache", *folders],
        ["mypy", *types],
    ):
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=here / "types", env={"MYPYPATH": str(ROOT)}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_templates_are_part_of_the_package(here: Path) -> None:
    copytree(ROOT / "affectkit", here / "source" / "affectkit", ignore=lambda _, names: [name for name in names if name == "__pycache__"])
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (here / "source" / name).write_bytes((ROOT / name).read_bytes())
    words = ["wheel", "--quiet", "--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", str(here), str(here / "source")]
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *words], check=True)
    (wheel,) = here.glob("affectkit-*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(scaffold.SUFFIX)}
    assert packed == {path.relative_to(ROOT).as_posix() for path in scaffold.TEMPLATES.rglob(f"*{scaffold.SUFFIX}")}
