"""The command line: ``affectkit plugins``, options about plugins, commands of plugins, and how errors are shown."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import click
import pytest
from click.testing import CliRunner, Result

import affectkit
from affectkit import plugins
from affectkit.cli import cli
from affectkit.cli.options import PluginChoice, plugin_options
from affectkit.cli.plugins import component
from affectkit.options import build
from affectkit.recipe_files import Source, override

GOOD = '''
"""Loudness of voices."""
from __future__ import annotations
from collections.abc import Mapping
from dataclasses import dataclass, field
from affectkit.api import BASIC7, Audio, Checkpoint, Input, Modality, Needs, Output, Provider, hookimpl

__version__ = "0.3"

@dataclass(frozen=True)
class Band:
    low: float = 20.0
    names: tuple[str, ...] = ("bass", "a: b")

@dataclass(frozen=True)
class LoudOptions:
    gain: float = 2.0
    path: str = field(kw_only=True)
    bands: tuple[int, ...] = (1, 2)
    weights: Mapping[str, float] = field(default_factory=lambda: {"a": 0.5})
    band: Band = Band(low=50.0)
    kind: str | None = "null"

class Loud(Modality):
    """Says how ``loud`` a voice is, as :class:`Loud` does.

    And more.
    """
    name = "loud"
    labels = BASIC7
    needs = Needs(audio=Audio(rate=8000), inputs=(Input("faces", fps=5, size=48),))
    context = 3.0
    Options = LoudOptions
    checkpoints = {"small": Checkpoint("package:x/y.safetensors", licence="MIT", sha256="0123456789abcdef0123", source="train.py", labels=BASIC7)}
    requires = ("package_that_is_not_there", "json")
    def preprocess(self, clip): return None
    def predict(self, batch): return Output({})

class Later(Loud):
    name = "later"
    Options = Modality.Options
    requires = ()
    checkpoints = {}
    @property
    def labels(self): return BASIC7
    @property
    def needs(self): return Needs()

class Ears(Provider):
    name = "ears"
    kind = "ears"
    scope = "frame"
    def provide(self, clips): return []

@hookimpl
def affectkit_modalities(): return [Loud, Later]

@hookimpl
def affectkit_providers(): return [Ears]

@hookimpl
def affectkit_run_started(run): pass
'''

COMMANDS = '''
"""Commands for tests."""
import click
from affectkit import errors
from affectkit.api import hookimpl

@click.command()
@click.option("--name", default="you")
def greet(name):
    """Say hello."""
    click.echo(f"hello {name}")

@click.command()
@click.argument("what")
def fail(what):
    """Fail in a way of your choice."""
    if what == "interrupt":
        raise KeyboardInterrupt
    if what == "interrupt-said":
        raise KeyboardInterrupt("Stopped; the same command goes on from here.")
    if what == "several":
        raise errors.Problems([errors.ConfigError("no key"), errors.LabelError("no label")])
    if what == "status":
        return 1
    if what == "abort":
        raise click.Abort
    if what == "bug":
        return {}["nothing"]
    raise getattr(errors, what)("it went wrong")

@click.group()
def tree():
    """A group."""

tree.add_command(fail, "leaf")

@hookimpl
def affectkit_commands(group):
    group.add_command(greet)
    group.add_command(fail)
    group.add_command(tree)
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two plugins that work and one that does not, as files."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "good.py").write_text(GOOD)
    (folder / "extra.py").write_text(COMMANDS)
    (folder / "broken.py").write_text("import package_that_is_not_there\n")
    return folder


def affectkit_(*arguments: object, **environment: str) -> Result:
    """Runs the program in this process."""
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], env={"AFFECTKIT_PLUGINS_DIR": None, **environment})


def line_of(name: str, result: Result) -> str:
    (line,) = [line for line in result.stdout.splitlines() if line.split()[0] == name]
    return " ".join(line.split())


def test_one_line_per_plugin(folder: Path) -> None:
    result = affectkit_("plugins", "--plugins-dir", folder)
    assert result.exit_code == 0
    assert line_of("good", result) == "good 0.3 good.py ok provider ears; modalities later, loud; follows runs"
    assert line_of("extra", result) == "extra - extra.py ok commands fail, greet, tree"
    assert (
        line_of("broken", result)
        == "broken - broken.py broken import: importing broken.py raised ModuleNotFoundError: No module named 'package_that_is_not_there'"
    )
    assert line_of("core", result).startswith(f"core {affectkit.__version__} affectkit ok")
    assert "affectkit plugins show" in result.stderr


def test_list_is_the_same(folder: Path) -> None:
    assert affectkit_("plugins", "list", "--plugins-dir", folder).output == affectkit_("plugins", "--plugins-dir", folder).output
    assert (
        affectkit_("plugins", "list", "--json", "--plugins-dir", folder).stdout
        == affectkit_("plugins", "--json", "--plugins-dir", folder).stdout
    )


def test_json(folder: Path) -> None:
    result = affectkit_("plugins", "--json", "--plugins-dir", folder)
    assert result.exit_code == 0
    told = {plugin["name"]: plugin for plugin in json.loads(result.stdout)}
    assert told["good"] == {
        "name": "good",
        "version": "0.3",
        "distribution": "good.py",
        "state": "ok",
        "summary": "Loudness of voices.",
        "licence": "",
        "location": str(folder / "good.py"),
        "hooks": ["affectkit_modalities", "affectkit_providers", "affectkit_run_started"],
        "components": [
            {"id": "good/ears", "kind": "provider"},
            {"id": "good/later", "kind": "modality"},
            {"id": "good/loud", "kind": "modality"},
        ],
        "recipes": {},
        "training_recipes": {},
        "commands": [],
        "failure": None,
    }
    assert told["broken"]["state"] == "broken"
    assert told["broken"]["failure"] == {
        "stage": "import",
        "error": "importing broken.py raised ModuleNotFoundError: No module named 'package_that_is_not_there'",
        "remedy": "Install the package that provides package_that_is_not_there, or leave it out with -p no:broken.",
    }


def test_what_a_plugin_prints_does_not_get_into_the_output(folder: Path) -> None:
    (folder / "chatty.py").write_text("print('Hello from the community!')\n" + GOOD.replace("from __future__ import annotations", ""))
    result = affectkit_("plugins", "--json", "--plugins-dir", folder)
    assert {plugin["name"]: plugin["state"] for plugin in json.loads(result.stdout)}["chatty"] == "ok"
    assert "Hello from the community!" in result.stderr


def test_show_tells_the_full_story(folder: Path) -> None:
    result = affectkit_("plugins", "show", "good", "--plugins-dir", folder)
    assert result.exit_code == 0
    assert result.stdout == dedent(
        f"""\
        good: ok
          summary:      Loudness of voices.
          distribution: good.py
          version:      0.3
          location:     {folder / "good.py"}
          hooks:        affectkit_modalities, affectkit_providers, affectkit_run_started

        provider good/ears
          evidence:     ears
          scope:        frame

        modality good/later
          labels:       depends on its options
          needs:        depends on its options
          unit:         window
          context:      3.0

        modality good/loud
          Says how loud a voice is, as Loud does.
          labels:       basic7: neutral, anger, disgust, fear, happiness, sadness, surprise
          needs:        Audio(rate=8000), Input(kind='faces', fps=5, size=48)
          unit:         window
          context:      3.0
          options:      gain: float = 2.0
                        path: str required
                        bands: tuple[int, ...] = [1, 2]
                        weights: Mapping[str, float] = {{a: 0.5}}
                        band.low: float = 50.0
                        band.names: tuple[str, ...] = [bass, 'a: b']
                        kind: str | None = 'null'
          checkpoints:  small: package:x/y.safetensors, licence MIT, sha256 0123456789ab..., train.py
          requires:     package_that_is_not_there: not installed
                        json: installed
        """
    )
    story = json.loads(affectkit_("plugins", "show", "good", "--json", "--plugins-dir", folder).stdout)
    loud = story["components"][2]
    assert loud["options"]["gain"] == {"type": "float", "default": 2.0}
    assert loud["options"]["path"] == {"type": "str", "required": True}
    assert loud["options"]["band.low"] == {"type": "float", "default": 50.0}
    assert loud["checkpoints"]["small"]["labels"] == {"basic7": ["neutral", "anger", "disgust", "fear", "happiness", "sadness", "surprise"]}


def test_options_are_shown_as_they_are_written() -> None:
    """What stands behind the equals sign, of every option of every component here, is read as the value that it has."""
    registry = plugins.load()
    shown = "\n".join(affectkit_("plugins", "show", plugin.name).stdout for plugin in registry.plugins)
    seen = 0
    for entry in registry.entries():
        page = shown.partition(f"\n{entry.kind} {entry.id}\n")[2].partition("\n\n")[0]
        lines = dict(re.findall(r"^ +(?:options: +)?([\w.]+): [^=\n]* = (.*)$", page, re.MULTILINE))
        given = override(Source({}), [f"{key}={value}" for key, value in lines.items()]).data
        needed = {name: value for name, value in component(entry)["options"].items() if "required" in value}
        if not needed:
            assert build(entry.cls.Options, given) == entry.cls.Options(), entry.id
            seen += len(lines)
    assert seen > 50


def test_show_of_a_broken_plugin(folder: Path) -> None:
    result = affectkit_("plugins", "show", "broken", "--plugins-dir", folder)
    assert result.exit_code == 0
    head, _, traceback = result.stdout.partition("  traceback:\n")
    assert head == dedent(
        f"""\
        broken: broken
          distribution: broken.py
          location:     {folder / "broken.py"}
          failed at:    import
          error:        importing broken.py raised ModuleNotFoundError: No module named 'package_that_is_not_there'
          what to do:   Install the package that provides package_that_is_not_there, or leave it out with -p no:broken.
        """
    )
    assert f'File "{folder / "broken.py"}", line 1, in <module>' in traceback
    assert (
        "ModuleNotFoundError"
        in json.loads(affectkit_("plugins", "show", "broken", "--json", "--plugins-dir", folder).stdout)["failure"]["traceback"]
    )


def test_show_of_commands_and_of_namesakes(folder: Path) -> None:
    shown = affectkit_("plugins", "show", "extra", "--plugins-dir", folder).stdout
    assert "command greet: Say hello." in shown
    (folder / "core.py").write_text(GOOD)
    shown = affectkit_("plugins", "show", "core", "--plugins-dir", folder).stdout
    assert "core: ok" in shown
    assert "core: broken" in shown
    assert "two plugins are called core: the one of affectkit" in shown


def test_show_of_an_unknown_plugin(folder: Path) -> None:
    result = affectkit_("plugins", "show", "god", "--plugins-dir", folder)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "Error: no plugin is called 'god'. Did you mean good?\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("-p", "no:good", "plugins", "--plugins-dir", "DIR"),
        ("--plugins-dir", "DIR", "plugins", "-p", "no:good"),
        ("-p", "no:good", "--plugins-dir", "DIR", "plugins", "list", "-p", "no:broken"),
        ("plugins", "-p", "no:good", "--plugins-dir", "DIR", "list"),
        ("plugins", "-p", "no:good.py", "--plugins-dir", "DIR"),
    ],
)
def test_blocking(folder: Path, arguments: tuple[str, ...]) -> None:
    result = affectkit_(*(folder if argument == "DIR" else argument for argument in arguments))
    assert result.exit_code == 0, result.output
    assert line_of("good", result) == "good - good.py blocked left out by -p no:good"
    assert line_of("broken", result).split()[3] == ("blocked" if "no:broken" in arguments else "broken")
    assert (
        "good: blocked (left out by -p no:good)"
        in affectkit_(*("-p", "no:good", "plugins", "show", "good", "--plugins-dir", folder)).stdout
    )


def test_blocking_what_is_not_there_is_said(folder: Path) -> None:
    result = affectkit_("plugins", "-p", "no:god", "--plugins-dir", folder)
    assert result.exit_code == 0
    assert result.stderr.startswith("Note: -p no:god blocks nothing. Did you mean good?\n")


@pytest.mark.parametrize("value", ["good", "no:"])
def test_a_wrong_p(value: str) -> None:
    result = affectkit_("plugins", "-p", value)
    assert result.exit_code == 2
    told = " ".join(result.stderr.split())
    assert f"Invalid value for '-p': takes no:NAME and blocks the plugin NAME, found {value!r}; --plugins of run selects plugins" in told


def test_plugins_dir(folder: Path, tmp_path: Path) -> None:
    result = affectkit_("plugins", "--plugins-dir", tmp_path / "nowhere")
    assert (result.exit_code, result.stderr) == (2, f"Error: --plugins-dir {tmp_path / 'nowhere'}: there is no such folder\n")
    assert line_of("good", affectkit_("plugins", AFFECTKIT_PLUGINS_DIR=str(folder)))
    # What is written beats the environment.
    assert "good.py" not in affectkit_("--plugins-dir", tmp_path, "plugins", AFFECTKIT_PLUGINS_DIR=str(folder)).stdout


@click.command()
@plugin_options(select=True)
def chosen(plugins: PluginChoice) -> None:
    """Prints what is selected."""
    click.echo(json.dumps(plugins.modalities()))


@pytest.mark.parametrize(
    ("arguments", "environment", "told"),
    [
        ((), None, None),
        (("--plugins", "good"), None, ["good/later", "good/loud"]),
        (("--plugins", "good/loud,good"), None, ["good/loud", "good/later"]),
        ((), "good/loud", ["good/loud"]),
        (("--plugins", "good/later"), "good/loud", ["good/later"]),
    ],
)
def test_selecting(folder: Path, arguments: tuple[str, ...], environment: str | None, told: list[str] | None) -> None:
    result = CliRunner().invoke(chosen, [*arguments, "--plugins-dir", str(folder)], env={"AFFECTKIT_PLUGINS": environment})
    assert json.loads(result.stdout) == told


def test_selecting_what_is_blocked_or_broken(folder: Path) -> None:
    (folder / "selects.py").write_text(
        dedent("""
            import click
            from affectkit.api import hookimpl
            from affectkit.cli.options import plugin_options
            @click.command()
            @plugin_options(select=True)
            def selects(plugins): click.echo(plugins.modalities())
            @hookimpl
            def affectkit_commands(group): group.add_command(selects)
        """)
    )
    common = ("--plugins-dir", folder)
    result = affectkit_(*common, "selects", "--plugins", "good", "-p", "no:good")
    assert (result.exit_code, result.stderr) == (2, "Error: plugin good cannot be used: plugin good is blocked; leave out -p no:good\n")
    result = affectkit_(*common, "selects", "--plugins", "broken,nope")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: 2 problems:\n1. plugin broken cannot be used: plugin broken (broken.py) is broken: importing ")
    assert "\n2. unknown plugin 'nope'. " in result.stderr
    # What is broken does not matter to what does not need it.
    assert affectkit_(*common, "selects", "--plugins", "good/loud").stdout == "['good/loud']\n"


def test_commands_of_plugins(folder: Path) -> None:
    result = affectkit_("--plugins-dir", folder, "greet", "--name", "Ada")
    assert (result.exit_code, result.stdout) == (0, "hello Ada\n")
    for flag in ("-h", "--help"):
        help_ = affectkit_("--plugins-dir", folder, flag)
        assert help_.exit_code == 0
        assert "Say hello." in help_.stdout
        assert "List the plugins, one line each" in help_.stdout
    assert affectkit_("--plugins-dir", folder, "-p", "no:extra", "greet").exit_code == 2


@pytest.mark.parametrize(
    ("what", "status", "told"),
    [
        ("UsageError", 2, "Error: it went wrong\n"),
        ("ConfigError", 2, "Error: it went wrong\n"),
        ("PluginError", 2, "Error: it went wrong\n"),
        ("CheckpointError", 2, "Error: it went wrong\n"),
        ("LabelError", 2, "Error: it went wrong\n"),
        ("MediaError", 1, "Error: it went wrong\n"),
        ("StoreError", 1, "Error: it went wrong\n"),
        ("several", 2, "Error: 2 problems:\n1. no key\n2. no label\n"),
        ("status", 1, ""),
        ("abort", 1, "Stopped.\n"),
        ("interrupt", 130, "\nStopped by Ctrl-C.\n"),
        ("interrupt-said", 130, "\nStopped; the same command goes on from here.\n"),
    ],
)
def test_errors_are_sentences(folder: Path, what: str, status: int, told: str) -> None:
    result = affectkit_("--plugins-dir", folder, "fail", what)
    assert (result.exit_code, result.stderr) == (status, told)


def test_defects_name_the_place(folder: Path) -> None:
    result = affectkit_("--plugins-dir", folder, "fail", "bug")
    line = COMMANDS.splitlines().index('        return {}["nothing"]') + 1
    assert result.exit_code == 70
    assert result.stderr == (
        f"Error: KeyError: 'nothing' (in extra.py, line {line}). affectkit did not expect this; run again with --debug for the traceback.\n"
    )


@pytest.mark.parametrize(
    "arguments",
    [("--debug", "fail", "bug"), ("fail", "bug", "--debug"), ("fail", "--debug", "PluginError"), ("tree", "leaf", "bug", "--debug")],
)
def test_debug_shows_the_traceback_wherever_it_stands(folder: Path, arguments: tuple[str, ...]) -> None:
    result = affectkit_("--plugins-dir", folder, *arguments)
    assert result.exit_code == (2 if "PluginError" in arguments else 70)
    assert "Traceback (most recent call last):" in result.stderr
    assert "Error: " in result.stderr.splitlines()[-1]


def test_unknown_commands(folder: Path, tmp_path: Path) -> None:
    result = affectkit_("plugns")
    assert result.exit_code == 2
    assert result.stderr.endswith("Error: there is no command 'plugns'. Did you mean plugins?\n")
    assert affectkit_("--plugins-dir", folder, "gret").stderr.endswith("Did you mean greet?\n")
    video = tmp_path / "a.mp4"
    video.touch()
    assert " ".join(affectkit_(video).stderr.split()).endswith(
        f"there is no command '{video}'. To analyse that file: affectkit run {video}"
    )


def test_version() -> None:
    assert affectkit_("--version").stdout == f"affectkit, version {affectkit.__version__}\n"


def test_nothing_heavy_is_imported_by_affectkit_plugins(folder: Path) -> None:
    script = """
        import sys
        from affectkit.cli import cli
        cli.main(["plugins", *sys.argv[1:]], standalone_mode=False)
        print(sorted({"torch", "pandas", "av", "cv2", "rich", "mmengine", "matplotlib", "scipy", "pyarrow"} & set(sys.modules)))
    """
    done = subprocess.run([sys.executable, "-c", dedent(script), "--plugins-dir", str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_reader_that_goes_away_is_no_error(folder: Path) -> None:
    program = subprocess.Popen(
        [sys.executable, "-m", "affectkit", "-p", "no:mini", "plugins", "show", "core"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert program.stdout is not None
    assert program.stderr is not None
    program.stdout.close()
    assert program.stderr.read() == b""
    program.stderr.close()
    assert program.wait() in (0, 1)


@pytest.fixture
def with_recipe(folder: Path) -> Path:
    """The same folder with a plugin that ships a recipe."""
    (folder / "calm.yaml").write_text("modalities: [good/loud]\nwindows: {length: 3.0}\n")
    (folder / "ships.py").write_text(
        dedent("""
            from pathlib import Path
            from affectkit.api import hookimpl
            @hookimpl
            def affectkit_recipes(): return [Path(__file__).with_name("calm.yaml")]
        """)
    )
    return folder


NO_PLUGIN = tuple(word for name in ("core", "mini", "ras", "s4d", "ifdd", "finecliper") for word in ("-p", f"no:{name}"))


def test_recipes_are_listed(with_recipe: Path) -> None:
    result = affectkit_("recipes", "--plugins-dir", with_recipe)
    assert (result.exit_code, line_of("ships/calm", result)) == (0, f"ships/calm {with_recipe / 'calm.yaml'}")
    told = json.loads(affectkit_("recipes", "--json", "--plugins-dir", with_recipe).stdout)
    assert told["ships/calm"] == str(with_recipe / "calm.yaml")
    none = affectkit_("recipes", *NO_PLUGIN)
    assert (none.stdout, "No plugin that is installed ships a recipe.\n" in none.stderr) == ("", True)


def test_recipes_of_trainings_are_listed_and_shown(folder: Path) -> None:
    (folder / "head.yaml").write_text("training: core/embedding_training\nepochs: 3\noptions: {labels: labels.csv, embedding: a/b:c}\n")
    (folder / "teaches.py").write_text(
        dedent("""
            from pathlib import Path
            from affectkit.api import hookimpl
            @hookimpl
            def affectkit_training_recipes(): return [Path(__file__).with_name("head.yaml")]
        """)
    )
    common = ("--plugins-dir", folder, "recipes")
    told = json.loads(affectkit_(*common, "--training", "--json").stdout)
    assert told["teaches/head"] == str(folder / "head.yaml")
    assert "teaches/head" not in json.loads(affectkit_(*common, "--json").stdout)
    none = affectkit_("recipes", "--training", *NO_PLUGIN)
    assert (none.stdout, "No plugin that is installed ships a training recipe.\n" in none.stderr) == ("", True)
    shown = affectkit_(*common, "show", "teaches/head", "--training", "--set", "epochs=5")
    assert shown.exit_code == 0, shown.output
    assert "training: core/embedding_training\n" in shown.stdout
    assert "epochs: 5\nbatch_size: 64\n" in shown.stdout
    (folder / "again.yaml").write_text(shown.stdout)
    assert affectkit_(*common, "show", folder / "again.yaml", "--training").stdout == shown.stdout
    wrong = affectkit_(*common, "show", "teaches/haed", "--training")
    assert (wrong.exit_code, wrong.stderr) == (2, "Error: there is no training recipe 'teaches/haed'. Did you mean teaches/head?\n")


def test_a_recipe_is_shown_as_run_takes_it(with_recipe: Path) -> None:
    common = ("--plugins-dir", with_recipe, "recipes", "show")
    shown = affectkit_(*common, "ships/calm", "--set", "windows.step=1.5")
    assert shown.exit_code == 0
    assert "length: 3.0\n  step: 1.5\n" in shown.stdout
    again = with_recipe / "again.yaml"
    again.write_text(shown.stdout)
    assert affectkit_(*common, again).stdout == shown.stdout
    wrong = affectkit_(*common, "ships/clam")
    assert (wrong.exit_code, wrong.stderr) == (2, "Error: there is no recipe 'ships/clam'. Did you mean ships/calm?\n")
    blocked = affectkit_(*common, "-p", "no:ships", "ships/calm")
    assert blocked.stderr == "Error: recipe ships/calm cannot be used: plugin ships is blocked; leave out -p no:ships\n"
