"""The documentation is true: its commands and code are run, its recipes load, its links lead somewhere, its options are those of --help.

Conventions of a fenced block in README.md and docs/*.md:

* ``sh`` is run line by line, in this process; lines of pip, git and python are left out. Every command must succeed. A package that was
  written before is installed by ``pip install -e FOLDER`` as far as Python can tell, and tested by ``pytest FOLDER``.
* ``python`` is run; the blocks of a file share their names.
* A block whose first line is a comment with a path (``# fast.yaml``) is written there instead.
* ``yaml`` must be a recipe, ``toml`` a pyproject.toml whose entry points are then installed.
* Anything else (``text``, ``csv``, ...) is only read by people.
"""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from affectkit import hookspecs, plugins
from affectkit.builtin.abaw import CE, EXPR
from affectkit.cli import COMMANDS, cli
from affectkit.config import Recipe
from affectkit.decoding import read_frames
from affectkit.errors import MediaError, UsageError
from affectkit.media import discover, open_media
from affectkit.tables import read_info
from affectkit.testing.media import make_frames, make_video, make_wav, tone
from affectkit.training_recipes import Plan

pytest.importorskip("affectkit_mini", reason="the plugin mini is not installed: pip install -r requirements.txt")

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NOT_RUN = ("pip", "git", "python", "cd", "pytest")
SIZE = (240, 200)  # height, width of the prepared video in pixels

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PATH_COMMENT = re.compile(r"# (\S+\.(?:py|yaml|toml|csv))\n")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_OPTION = re.compile(r"(?<![\w-])(--?[a-z][a-z-]*)")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and where it is written (empty where it is not)."""

    language: str
    text: str
    path: str


def blocks(page: Path) -> Iterator[Block]:
    for language, text in _FENCE.findall(page.read_text(encoding="utf-8")):
        comment = _PATH_COMMENT.match(text)
        yield Block(language, text, comment[1] if comment else "")


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the documentation speaks of."""
    import cv2
    from matplotlib.cbook import get_sample_data

    from affectkit.pictures import read_picture

    folder = tmp_path_factory.mktemp("prepared")
    portrait = read_picture(Path(str(get_sample_data("grace_hopper.jpg", asfileobj=False))))
    picture = np.asarray(cv2.resize(portrait, SIZE[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8)
    make_video(folder / "talk.mp4", seconds=3, fps=10, size=SIZE, picture=lambda _: picture, sound=lambda times: tone(times))
    for day in ("monday", "tuesday"):
        make_video(folder / "recordings" / day / "talk.mp4", seconds=1, fps=5, size=SIZE, picture=lambda _: picture)
    make_wav(folder / "talk.wav", tone(np.arange(3 * 16000) / 16000))
    for place, people in (("voices", ("ann", "bob", "cem", "dana", "eva")), ("others", ("fay",))):
        for number, person in enumerate(people):
            for which, (pitch, loud) in enumerate(((300.0, 1.0), (110.0, 0.3)), 1):
                sound = loud * tone(np.arange(3 * 16000) / 16000, pitch + 10 * number)
                make_wav(folder / place / f"{person}_{which}.wav", sound)
    make_frames(folder / "frames", [1, 2, 3, 5, 8], SIZE, lambda _: picture)
    for name in ("talk.srt", "words.srt"):
        (folder / name).write_text("1\n00:00:00,500 --> 00:00:02,500\nWhat a wonderful day!\n", encoding="utf-8")
    _prepare_challenge(folder, picture)
    _prepare_clips(folder / "DFEW", portrait)
    (folder / "scenes.csv").write_text('media,text\ntalk.mp4,"A woman in uniform smiles."\n', encoding="utf-8")
    return folder


def _prepare_challenge(folder: Path, picture: np.ndarray) -> None:
    """Two videos, lists of ABAW that ask for a frame more than the second has, and labels of the first."""
    for name in ("01", "02"):
        make_video(folder / "videos" / f"{name}.mp4", seconds=3, fps=10, size=SIZE, picture=lambda _: picture)
    names = [f"{video}/{frame:05d}.jpg" for video, frames in (("01", 30), ("02", 31)) for frame in range(1, frames + 1)]
    for file, track in (("list.txt", CE), ("expr_list.txt", EXPR)):
        (folder / file).write_text("\n".join([track.header, *(f"{name}," for name in names), ""]), encoding="utf-8")
    (folder / "expr_labels").mkdir()
    labels = [EXPR.header.partition(",")[2], *(str(frame % 8) for frame in range(30))]
    (folder / "expr_labels" / "01.txt").write_text("\n".join(labels), encoding="utf-8")


def _prepare_clips(folder: Path, picture: np.ndarray) -> None:
    """Two folds of DFEW in the form of its authors, of one picture."""
    for clip in range(1, 5):
        make_frames(folder / f"Clip/clip_224x224/{clip:05}", range(1, 13), (48, 48), lambda _: picture[:48, :48])
    for fold, (train, test) in ((1, ((1, 2), (3, 4))), (2, ((3, 4), (1, 2)))):
        for mode, clips in (("train", train), ("test", test)):
            file = folder / f"EmoLabel_DataSplit/{mode}(single-labeled)/set_{fold}.csv"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("\n".join(["video_name,label", *(f"{clip},{1 + clip % 2}" for clip in clips), ""]), encoding="utf-8")


def copied(source: Path, target: Path) -> None:
    """Puts the prepared files into another folder, by links where that can be."""
    import shutil

    shutil.copytree(source, target, dirs_exist_ok=True, copy_function=lambda a, b: os.link(a, b))


def commands(text: str) -> Iterator[list[str]]:
    """The commands of a block, with file names for patterns; what installs is left out."""
    for line in text.replace("\\\n", " ").splitlines():
        for part in line.split("&&"):
            words = shlex.split(part, comments=True)
            if words and (words[0] not in NOT_RUN or _about_a_package(words)):
                yield [name for word in words for name in (sorted(map(str, Path().glob(word))) if "*" in word else [word])]


def _about_a_package(words: list[str]) -> bool:
    """Whether a command installs or tests a package that a page has written."""
    return words[:-1] in (["pip", "install", "-e"], ["pytest"]) and (Path(words[-1]) / "pyproject.toml").is_file()


def carry_out(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Does what a command of a page does."""
    folder = Path(words[-1]).absolute()
    if words[0] == "pip":
        install((folder / "pyproject.toml").read_text(encoding="utf-8"), folder, monkeypatch)
    elif words[0] == "pytest":
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, sys.path)])}
        done = subprocess.run([sys.executable, "-m", *words], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}\n{done.stderr}"
    else:
        call(words)


def call(words: list[str]) -> None:
    """Runs affectkit in this process; it must succeed."""
    assert words[0] == "affectkit", f"only affectkit is run: {shlex.join(words)}"
    found = CliRunner().invoke(cli, words[1:], terminal_width=200)
    assert found.exit_code == 0, f"{shlex.join(words)}\n{found.output}\n{found.exception!r}"


def forget(folder: Path) -> None:
    """Lets the modules in a folder be imported anew, as a new process would."""
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(folder)):
            del sys.modules[name]


def install(pyproject: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the entry points of a package known, as pip does, without its files: they are found beside its pyproject.toml."""
    content = tomllib.loads(pyproject)
    project = content["project"]
    record = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    record.mkdir()
    lines = [f"Name: {project['name']}", f"Version: {project['version']}", *(f"Requires-Dist: {text}" for text in project["dependencies"])]
    (record / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", *lines, ""]), encoding="utf-8")
    points = [
        line for group, found in project["entry-points"].items() for line in (f"[{group}]", *(f"{k} = {v}" for k, v in found.items()))
    ]
    (record / "entry_points.txt").write_text("\n".join([*points, ""]), encoding="utf-8")
    monkeypatch.syspath_prepend(folder)


@pytest.mark.parametrize("page", [page for page in PAGES if any(b.language in ("sh", "python") for b in blocks(page))], ids=named)
def test_commands_and_code_work(page: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied(prepared, tmp_path)
    monkeypatch.chdir(tmp_path)
    for variable in [name for name in os.environ if name.startswith("AFFECTKIT_")]:
        monkeypatch.delenv(variable)
    names: dict[str, object] = {}
    for block in blocks(page):
        forget(tmp_path)
        if block.path:
            Path(block.path).parent.mkdir(parents=True, exist_ok=True)
            Path(block.path).write_text(block.text, encoding="utf-8")
        elif block.language == "sh":
            for words in commands(block.text):
                carry_out(words, monkeypatch)
        elif block.language == "python":
            code = Path("block.py")
            code.write_text(block.text, encoding="utf-8")
            names = runpy.run_path(str(code), init_globals=names)
    forget(tmp_path)


def test_a_package_as_documented_is_found_by_its_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = {block.path: block.text for block in blocks(ROOT / "docs" / "plugins.md") if block.path}
    project, module = "affectkit-motion/pyproject.toml", "my_plugins/motion.py"
    package = tmp_path / "affectkit_motion"
    package.mkdir()
    (package / "__init__.py").write_text(written[module], encoding="utf-8")
    install(written[project], tmp_path, monkeypatch)
    try:
        found = plugins.load(only=["motion"]).plugin("motion")
    finally:
        sys.modules.pop("affectkit_motion", None)
    assert (found.state, found.distribution) == ("ok", "affectkit-motion"), found.failure
    assert {entry.id for entry in found.components} == {"motion/pixels", "motion/energy", "motion/median", "motion/geometric"}


def test_recipes_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    registry = plugins.load()
    found = [(page, block) for page in PAGES for block in blocks(page) if block.language == "yaml"]
    assert found
    for page, block in found:
        path = Path(block.path or f"{page.stem}.yaml")
        path.write_text(block.text, encoding="utf-8")
        if block.text.partition("training:")[0].count("\n") < 2 and "training:" in block.text:
            assert Plan.load(path).training
            continue
        recipe = Recipe.load(path, find=registry.recipe)
        assert not recipe.unknown_components(entry.id for entry in registry.entries()), page.name


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    for link in _LINK.findall(text):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name} links to {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name} links to {link}"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def every_option(command: click.Command) -> Iterator[str]:
    """The options of a command and of those below it."""
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            yield from (*parameter.opts, *parameter.secondary_opts)
    for member in command.commands.values() if isinstance(command, click.Group) else ():
        yield from every_option(member)


def test_every_page_is_on_the_map() -> None:
    linked = _LINK.findall((ROOT / "docs" / "index.md").read_text(encoding="utf-8"))
    assert {page.name for page in PAGES if page.parent.name == "docs"} - {"index.md"} <= set(linked)


def test_options_are_those_of_the_command_line() -> None:
    text = (ROOT / "docs" / "usage.md").read_text(encoding="utf-8")
    context = click.Context(cli)
    own = {name: cli.get_command(context, name) for name in COMMANDS}
    known = {option for command in own.values() if command is not None for option in every_option(command)} | {"--help", "-h", "--version"}
    commands_only = "\n".join(line for line in text.splitlines() if not line.startswith("pip "))
    written = set(_OPTION.findall(commands_only))
    assert written <= known, f"not in --help: {sorted(written - known)}"
    run = own["run"]
    assert run is not None
    documented = {option for row in re.findall(r"^\| (`-.*?) \|", text, re.MULTILINE) for option in re.findall(r"`(--?[a-z-]+)`", row)}
    assert documented == set(every_option(run)), sorted(documented ^ set(every_option(run)))
    by_hand = "\n".join(page.read_text(encoding="utf-8") for page in PAGES if page.name != "reference.md")  # which is made of --help
    assert known - {"--help", "-h", "--version"} <= set(_OPTION.findall(by_hand))


def test_run_json_is_as_documented(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied(prepared, tmp_path)
    monkeypatch.chdir(tmp_path)
    call(["affectkit", "run", "talk.wav", "--plugins", "mini/audio", "--fusion", "core/mean", "--out", "talk"])
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    section = text[text.index("## run.json") : text.index("## Timelines")]
    whole, _, medium = section.partition("A medium:")
    info = read_info("talk")
    assert first_column(whole) == set(info)
    assert first_column(medium) == set(info["media"]["talk"])


def test_tables_have_the_documented_columns_and_types(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways, in their order, and every table of the run is documented."""
    copied(prepared, tmp_path)
    monkeypatch.chdir(tmp_path)
    call(["affectkit", "run", "talk.mp4", "--embeddings", "--out", "talk"])
    documented = dict(documented_tables((ROOT / "docs" / "results.md").read_text(encoding="utf-8")))
    info = read_info("talk")
    expected = {name.lower(): columns for name, columns in documented.items() if name != "Tables of values"}
    for name, labels in info["label_sets"].items():
        *fixed, (_, kind) = documented["Tables of values"]
        expected[name] = [*fixed, *((f"p_{label}", kind) for label in labels["labels"])]
    assert {path.stem for path in Path("talk").glob("*.parquet")} == set(expected)
    for name, columns in expected.items():
        path = Path("talk", f"{name}.parquet")
        schema = pq.read_schema(next(path.iterdir()) if path.is_dir() else path)
        assert [(field.name, TYPES[re.sub(r"<\w+: ", "<", str(field.type))]) for field in schema] == columns, name


TYPES = {
    "string": "text",
    "int32": "int32",
    "double": "float64",
    "float": "float32",
    "bool": "bool",
    "list<float>": "list of float32",
}
"""Names of types in the documentation, by their names in arrow."""


def documented_tables(text: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The tables of columns in a text: the heading above, and name and type of each column."""
    for heading, section in re.findall(r"^## (.*)\n((?:(?!## ).*\n)*)", text, re.MULTILINE):
        rows = re.search(r"^\| column \| type \| meaning \|\n(?:\|.*\n)+", section, re.MULTILINE)
        if rows:
            yield heading, re.findall(r"^\| `(.*?)` \| (.*?) \|", rows[0], re.MULTILINE)


def first_column(text: str) -> set[str]:
    """The words in backticks in the first column of the tables of a text."""
    return {word for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for word in re.findall(r"`(\w+)`", row)}


def test_the_message_about_another_recipe_is_as_documented(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied(prepared, tmp_path)
    monkeypatch.chdir(tmp_path)
    words = ["affectkit", "run", "talk.wav", "--plugins", "mini/audio", "--fusion", "core/mean", "--out", "talk"]
    call(words)
    found = CliRunner().invoke(cli, [*words[1:], "--set", "windows.step=1"], terminal_width=200)
    assert found.exit_code == 2
    page = " ".join((ROOT / "docs" / "usage.md").read_text(encoding="utf-8").split())
    assert " ".join(found.output.split()) in page


def test_every_hook_is_documented() -> None:
    text = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    assert {name for name in vars(hookspecs) if name.startswith("affectkit_")} <= set(re.findall(r"affectkit_\w+", text))


def test_environment_variables_are_those_that_are_read() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "affectkit").rglob("*.py"))
    read = set(re.findall(r"[\"'(]((?:AFFECTKIT|HF|XDG)_[A-Z_]+)[\"']", source)) - {"AFFECTKIT_TEST_DATA"}
    text = (ROOT / "docs" / "usage.md").read_text(encoding="utf-8")
    table = set(re.findall(r"`((?:AFFECTKIT|HF|XDG)_[A-Z_]+)`", text[text.index("## Environment variables") :]))
    assert table == read


def test_messages_about_files_are_those_of_the_documentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_video(Path("talk.mp4"), sound=tone)
    for folder, name in (("frames", "{:05d}.jpg"), ("twice", "{:05d}.jpg"), ("twice", "{:03d}.jpg")):
        make_frames(Path(folder), [1, 2, 4] if folder == "frames" else [1], name=name)
    Path("empty").mkdir()
    Path("empty.mp4").write_bytes(b"")
    Path("notes.mp4").write_text("these are notes, and no video\n" * 40, encoding="utf-8")
    Path("broken.jpg").write_bytes(b"no picture")
    said = [str(error) for _, error in discover(["missing.mp4", "empty.mp4", "notes.mp4", "broken.jpg", "frames"])[1]]
    said += [str(error) for _, error in discover(["twice"], fps=25)[1] + discover(["talk.mp4"], video_stream=7)[1]]
    said += [re.sub(r"\(\..*?\)", "(...)", str(error)) for _, error in discover(["empty"])[1]]
    with pytest.raises(UsageError) as usage:
        discover(["talk.mp4"], sound="talk.wav")
    Path("frames/00002.jpg").write_bytes(b"no picture")
    with pytest.raises(MediaError) as damaged:
        list(read_frames(open_media("frames", fps=25)))
    said += [str(usage.value), str(damaged.value)]
    text = (ROOT / "docs" / "media.md").read_text(encoding="utf-8")
    table = re.findall(r"^\|.*\| (.*) \|$", text[text.index("## Messages") : text.index("## Every file")], re.MULTILINE)[1:]
    assert sorted(table) == sorted([*said, next(message for message in table if "breaks after" in message)])


def test_no_page_names_a_machine() -> None:
    for page in PAGES:
        assert not re.search(r"(?<![\w.])/(?:home|root|tmp|work)/", page.read_text(encoding="utf-8")), page.name
