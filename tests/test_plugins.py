"""Loading of plugins: real installed distributions, good ones beside broken ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

import affectkit
from affectkit import plugins
from affectkit.errors import ConfigError, PluginError, Problems, UsageError
from tests.plugin_site import GOOD, PREAMBLE, Site, failure_of


def test_core_is_a_plugin_through_the_same_hooks() -> None:
    core = plugins.load(only=[]).plugin("core")
    assert (core.state, core.distribution, core.version) == ("ok", "affectkit", affectkit.__version__)
    assert core.hooks == (
        "affectkit_fusions",
        "affectkit_heads",
        "affectkit_providers",
        "affectkit_submitters",
        "affectkit_training_recipes",
        "affectkit_trainings",
    )
    assert {entry.id: entry.kind for entry in core.components} == {
        "core/blend": "head",
        "core/convex": "fusion",
        "core/descriptions": "provider",
        "core/direct": "head",
        "core/dirichlet": "fusion",
        "core/embedding_head": "head",
        "core/embedding_training": "training",
        "core/fusion_training": "training",
        "core/mean": "fusion",
        "core/mhpf": "fusion",
        "core/mhpf_gated": "fusion",
        "core/mhpf_training": "training",
        "core/pfsa": "head",
        "core/pfsa_training": "training",
        "core/ppa": "head",
        "core/probability_fusion": "fusion",
        "core/subtitles": "provider",
        "core/temperature": "training",
        "core/whisper": "provider",
        "core/yunet": "provider",
        **{f"core/abaw-{track}": "submitter" for track in ("au", "ce", "expr", "mtl", "va")},
    }


def test_a_good_plugin_is_found_by_its_entry_point(site: Site) -> None:
    site.install("affectkit-good", plugin="good", version="1.2", requires=("affectkit>=0.1,<1",))
    registry = plugins.load()
    found = registry.plugin("good")
    assert (found.state, found.distribution, found.version, found.summary, found.licence) == (
        "ok",
        "affectkit-good",
        "1.2",
        "A test",
        "MIT",
    )
    assert found.location == str(site.folder / "affectkit_good.py")
    assert found.hooks == ("affectkit_modalities",)
    entry = registry.get("good/loud", "modality")
    assert (entry.id, entry.kind, entry.plugin, entry.distribution, entry.version) == (
        "good/loud",
        "modality",
        "good",
        "affectkit-good",
        "1.2",
    )
    assert entry.cls.name == "loud"
    assert [e.id for e in registry.entries("modality") if e.plugin == "good"] == ["good/loud", "good/quiet"]
    assert registry.manager.has_plugin("good")


def test_five_plugins_broken_in_five_ways_beside_a_good_one(site: Site) -> None:
    site.install("a-imports", "import package_that_is_not_there")
    site.install("b-misspells", GOOD.replace("affectkit_modalities", "affectkit_modalitys"))
    site.install("c-doubles", GOOD.replace('"quiet"', '"loud"'))
    site.install("d-raises", GOOD.replace("return [Quiet, Loud]", "raise RuntimeError('no luck today')"))
    site.install("e-pins", GOOD, requires=("affectkit>=2",))
    site.install("z-good", plugin="good")
    registry = plugins.load(only=["a-imports", "b-misspells", "c-doubles", "d-raises", "e-pins", "good"])
    told = {failure.name: (failure.stage, str(failure.error)) for failure in registry.failures}
    assert told == {
        "a-imports": ("import", "importing a_imports raised ModuleNotFoundError: No module named 'package_that_is_not_there'"),
        "b-misspells": ("hooks", "there is no hook affectkit_modalitys. Did you mean affectkit_modalities?"),
        "c-doubles": ("duplicate", "two of its components have the id c-doubles/loud; ids must differ"),
        "d-raises": ("hooks", "affectkit_modalities raised RuntimeError: no luck today"),
        "e-pins": ("version", f"needs affectkit>=2, this is {affectkit.__version__}"),
    }
    assert registry.select("good") == ["good/loud", "good/quiet"]
    assert sorted(registry.manager.hook.affectkit_modalities()[0], key=lambda cls: cls.name)[0].name == "loud"
    registry.manager.check_pending()
    assert {failure.name: failure.remedy for failure in registry.failures} == {
        "a-imports": "Install the package that provides package_that_is_not_there, or leave it out with -p no:a-imports.",
        "b-misspells": "This is a mistake in b-misspells: correct or update it, or leave it out with -p no:b-misspells.",
        "c-doubles": "Correct, rename or uninstall c-doubles, or leave it out with -p no:c-doubles.",
        "d-raises": "This is a mistake in d-raises: correct or update it, or leave it out with -p no:d-raises.",
        "e-pins": "Install versions that fit each other (pip install --upgrade affectkit e-pins), or leave it out with -p no:e-pins.",
    }
    tracebacks = {failure.name: failure.traceback for failure in registry.failures}
    assert 'a_imports.py", line 1' in tracebacks["a-imports"]
    assert 'd_raises.py", line ' in tracebacks["d-raises"]
    assert "RuntimeError: no luck today" in tracebacks["d-raises"]
    with pytest.raises(PluginError) as caught:
        registry.get("a-imports/loud")
    assert str(caught.value) == (
        "a-imports/loud cannot be used: plugin a-imports (a-imports) is broken: importing a_imports raised ModuleNotFoundError: "
        "No module named 'package_that_is_not_there'. Install the package that provides package_that_is_not_there, or leave it out with "
        "-p no:a-imports. The full story: affectkit plugins show a-imports"
    )


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import sys; sys.exit('I need a GPU')", "importing bad raised SystemExit: I need a GPU"),
        ("class Own(BaseException): pass\nraise Own('x')", "importing bad raised Own: x"),
        ("class Own(Exception):\n    def __str__(self): raise ValueError\nraise Own", "importing bad raised Own"),
        ("def f(:", "importing bad raised SyntaxError: invalid syntax (bad.py, line 1)"),
        ("from affectkit.api import Needs, Audio\nNeeds(audio=Audio(rate=0))", "Audio rate must be positive, found 0"),
        (
            "from affectkit.api import LabelSet\nLabelSet('x', ())",
            "importing bad raised LabelError: label set 'x' has no labels; give at least one",
        ),
    ],
)
def test_whatever_an_import_raises_is_recorded(site: Site, source: str, told: str) -> None:
    failure = failure_of(site, source)
    assert (failure.stage, str(failure.error)) == ("import", told)
    assert failure.traceback.startswith("Traceback")


def test_ctrl_c_during_an_import_is_the_users(site: Site) -> None:
    site.install("bad", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        plugins.load(only=["bad"])


@pytest.mark.parametrize(
    ("points", "stage", "told"),
    [
        (
            "[affectkit]\nbad = bad:nothing\n",
            "import",
            "importing bad:nothing raised AttributeError: module 'bad' has no attribute 'nothing'",
        ),
        ("[affectkit]\nbad = bad:NOTHING\n", "hooks", "its entry point names None; it must name a module or an object with hooks"),
        ("[affectkit]\nb/d = bad\n", "name", "the plugin of bad has the name 'b/d'; a name consists of letters, digits, '_' and '-',"),
        ("[affectkit]\nbad.x = bad\n", "name", "the plugin of bad has the name 'bad.x'"),
        ("[affectkit]\nbad\n", "import", "its entry_points.txt cannot be read"),
    ],
)
def test_bad_entry_points(site: Site, points: str, stage: str, told: str) -> None:
    site.install("bad", GOOD + "\n    NOTHING = None\n", points=points)
    (failure,) = [failure for failure in plugins.load().failures if failure.distribution == "bad"]
    assert failure.stage == stage
    assert str(failure.error).startswith(told)


def test_damaged_metadata_of_others_do_not_matter(site: Site) -> None:
    site.install("bad", "", points="neither = here\n[nor there")
    (site.folder / "worse-1.0.dist-info").mkdir()
    (site.folder / "worse-1.0.dist-info" / "entry_points.txt").write_bytes(b"[affectkit]\nx = \xff\xfe\n")
    site.install("good")
    registry = plugins.load()
    assert registry.plugin("good").state == "ok"
    assert not {failure.name for failure in registry.failures} & {"bad", "worse"}


def test_a_distribution_without_metadata_still_works(site: Site) -> None:
    site.install("good")
    (site.folder / "good-1.0.dist-info" / "METADATA").unlink()
    found = plugins.load().plugin("good")
    assert (found.state, found.distribution, found.version) == ("ok", "good", "")


@pytest.mark.parametrize(
    ("requires", "told"),
    [
        (("affectkit>=2",), "needs affectkit>=2, this is 0.1.0"),
        (("AffectKit [whisper] <0.1",), "needs affectkit<0.1, this is 0.1.0"),
        (("affectkit==0.0.*; python_version>='3'",), "needs affectkit==0.0.*, this is 0.1.0"),
        (("affectkit (>=1)",), "needs affectkit>=1, this is 0.1.0"),
        (("affectkit >> 1",), "reading what it requires raised InvalidRequirement"),
        (("affectkit>=0.1,<1", "affectkit-other>=9", "affectkitten>=9", "affectkit>=3; extra == 'future'"), None),
        (("affectkit",), None),
        ((), None),
    ],
)
def test_the_pin_is_checked_before_the_import(
    site: Site, monkeypatch: pytest.MonkeyPatch, requires: tuple[str, ...], told: str | None
) -> None:
    monkeypatch.setattr(affectkit, "__version__", "0.1.0")
    if told is None:
        site.install("pinned", requires=requires)
        assert plugins.load(only=["pinned"]).plugin("pinned").state == "ok"
    else:
        failure = failure_of(site, "raise AssertionError('imported')", requires=requires)
        assert failure.stage == "version"
        assert str(failure.error).startswith(told)


def test_a_pre_release_of_affectkit_satisfies_a_pin(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(affectkit, "__version__", "0.2.0.dev3")
    site.install("pinned", requires=("affectkit>=0.1",))
    assert plugins.load(only=["pinned"]).plugin("pinned").state == "ok"


def test_two_distributions_with_a_plugin_of_one_name(site: Site) -> None:
    site.install("first", plugin="same", version="1.0")
    site.install("second", plugin="same", version="2.0")
    registry = plugins.load(only=["same"])
    assert [(p.distribution, p.state) for p in registry.plugins if p.name == "same"] == [("first", "ok"), ("second", "broken")]
    assert registry.plugin("same").distribution == "first"
    (failure,) = [failure for failure in registry.failures if failure.name == "same"]
    assert (failure.stage, failure.distribution) == ("duplicate", "second")
    assert str(failure.error) == "two plugins are called same: the one of first 1.0 is used, the one of second 2.0 is not"
    assert failure.remedy == "Correct, rename or uninstall second, or leave it out with -p no:second."
    assert registry.get("same/loud").distribution == "first"
    # Either is chosen by blocking the other's distribution.
    assert plugins.load(only=["same"], blocked=["first"]).get("same/loud").distribution == "second"


def test_a_broken_namesake_stops_nothing(site: Site) -> None:
    site.install("first", "import package_that_is_not_there", plugin="same")
    site.install("second", plugin="same")
    registry = plugins.load(only=["same"])
    assert registry.get("same/loud").distribution == "second"
    assert registry.plugin("same").state == "ok"
    assert [(failure.distribution, failure.stage) for failure in registry.failures if failure.name == "same"] == [("first", "import")]


def test_core_cannot_be_replaced(site: Site) -> None:
    site.install("impostor", plugin="core")
    registry = plugins.load()
    (failure,) = [failure for failure in registry.failures if failure.name == "core"]
    assert failure.stage == "duplicate"
    assert "the one of impostor 1.0 is not" in str(failure.error)
    assert registry.plugin("core").distribution == "affectkit"


def test_the_first_distribution_of_a_name_on_the_path_counts(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.install("good", version="1.0")
    nearer = tmp_path / "nearer"
    nearer.mkdir()
    Site(nearer).install("good", version="2.0")
    monkeypatch.syspath_prepend(str(nearer))
    registry = plugins.load()
    assert [(p.version, p.state) for p in registry.plugins if p.name == "good"] == [("2.0", "ok")]
    del sys.modules["good"]


def test_two_entry_points_of_one_module(site: Site) -> None:
    site.install("bad", points="[affectkit]\none = bad\ntwo = bad\n")
    registry = plugins.load(only=["one", "two"])
    assert registry.plugin("one").state == "ok"
    assert str(registry.plugin("two").failure.error) == "its entry point names the same object as that of plugin one"  # type: ignore[union-attr]
    assert registry.manager.has_plugin("one")


def test_every_kind_and_what_properties_declare(site: Site) -> None:
    source = """
    class Late(Face):
        name = "late"
        @property
        def labels(self): return BASIC8
        @cached_property
        def needs(self): return Needs()

    @hookimpl
    def affectkit_modalities(): return (cls for cls in (Late, Face))
    @hookimpl
    def affectkit_providers(): return (Boxes,)
    @hookimpl
    def affectkit_fusions(): return {Mix}
    @hookimpl(specname="affectkit_heads")
    def heads(): return [Compound]
    @hookimpl
    def affectkit_submitters(): return [Challenge]
    @hookimpl
    def affectkit_recipes(): return [Path(__file__).with_name("calm.yaml")]
    @hookimpl
    def affectkit_commands():
        "An implementation may take fewer arguments than the hook gives."
    @hookimpl(optionalhook=True)
    def affectkit_of_a_later_version(): return []
    """
    site.install("whole", source, preamble=PREAMBLE)
    recipe = site.folder / "calm.yaml"
    recipe.write_text("plugins: [whole]\n")
    registry = plugins.load(only=["whole"])
    found = registry.plugin("whole")
    assert found.failure is None
    assert {entry.id: entry.kind for entry in found.components} == {
        "whole/boxes": "provider",
        "whole/challenge": "submitter",
        "whole/compound": "head",
        "whole/face": "modality",
        "whole/late": "modality",
        "whole/mix": "fusion",
    }
    assert registry.recipes()["whole/calm"] == registry.recipe("whole/calm") == recipe
    with pytest.raises(ConfigError, match=r"^there is no recipe 'whole/cam'\. Did you mean whole/calm\?$"):
        registry.recipe("whole/cam")
    with pytest.raises(PluginError, match=r"^recipe whole/calm cannot be used: plugin whole is blocked; leave out -p no:whole$"):
        plugins.load(only=["whole"], blocked=["whole"]).recipe("whole/calm")


def test_a_plugin_may_be_an_object(site: Site) -> None:
    source = """
    class Plugin:
        @hookimpl
        def affectkit_modalities(self): return [Face]
    plugin = Plugin()
    """
    site.install("thing", source, points="[affectkit]\nthing = thing:plugin\n", preamble=PREAMBLE)
    assert plugins.load(only=["thing"]).get("thing/face").kind == "modality"


def test_blocked_plugins_are_not_imported(site: Site) -> None:
    site.install("affectkit-loudly", "raise AssertionError('imported')", plugin="loudly")
    for name in ("loudly", "affectkit-loudly"):
        registry = plugins.load(blocked=[name])
        assert registry.plugin("loudly").state == "blocked"
        assert not [failure for failure in registry.failures if failure.name == "loudly"]
        with pytest.raises(PluginError, match=r"^loudly/face cannot be used: plugin loudly is blocked; leave out -p no:loudly$"):
            registry.get("loudly/face")
        with pytest.raises(PluginError, match=r"^plugin loudly cannot be used: plugin loudly is blocked; leave out -p no:loudly$"):
            registry.select("loudly")
    assert "affectkit_loudly" not in sys.modules


def test_core_may_be_blocked() -> None:
    assert plugins.load(blocked=["core"], only=[]).entries() == []


def test_only_loads_what_is_named(site: Site) -> None:
    site.install("good")
    site.install("other", "raise AssertionError('imported')")
    registry = plugins.load(only=["good"])
    assert (registry.plugin("good").state, registry.plugin("other").state) == ("ok", "skipped")
    with pytest.raises(PluginError, match=r"^other/x cannot be used: plugin other was not loaded because it was not asked for$"):
        registry.get("other/x")


def test_get_and_select_say_what_is_wrong(site: Site) -> None:
    site.install("good")
    site.install("empty", "@hookimpl\ndef affectkit_fusions(): return [Mix]", preamble=PREAMBLE)
    registry = plugins.load(only=["good", "empty"])
    with pytest.raises(PluginError, match=r"^there is no component 'good/lud'\. Did you mean good/loud\?$"):
        registry.get("good/lud")
    with pytest.raises(PluginError, match=r"^there is no modality 'nope/x'\. Known: good/loud, good/quiet\.$"):
        registry.get("nope/x", "modality")
    with pytest.raises(PluginError, match=r"^empty/mix is a fusion, not a modality\. "):
        registry.get("empty/mix", "modality")
    with pytest.raises(PluginError, match=r"^no plugin is called 'god'\. Did you mean good\?$"):
        registry.plugin("god")
    with pytest.raises(PluginError, match=r"^plugin empty has no modalities; plugins that have: good$"):
        registry.select("empty")
    with pytest.raises(UsageError, match=r"^--plugins names nothing; write for instance --plugins mini, or mini/audio,mini/text$"):
        registry.select(" , ")
    assert registry.select("good/quiet, good") == ["good/quiet", "good/loud"]
    with pytest.raises(Problems) as caught:
        registry.select("god,good,good/loude")
    assert [str(problem) for problem in caught.value.problems] == [
        "unknown plugin 'god'. Did you mean good?",
        "there is no modality 'good/loude'. Did you mean good/loud?",
    ]


def test_one_file_plugins(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "tiny.py").write_text(
        dedent(GOOD).replace("from dataclasses", "from __future__ import annotations\nfrom dataclasses") + "\n__version__ = '0.3'\n"
    )
    (folder / "_helper.py").write_text("raise AssertionError('imported')")
    (folder / "broken.py").write_text("1 / 0")
    (folder / "my plugin.py").write_text(dedent(GOOD))
    (folder / "core.py").write_text(dedent(GOOD))
    registry = plugins.load(plugins_dir=folder, only=["tiny", "broken", "my plugin"])
    tiny = registry.plugin("tiny")
    assert (tiny.state, tiny.distribution, tiny.version, tiny.summary) == ("ok", "tiny.py", "0.3", "A plugin that works.")
    assert tiny.location == str(folder / "tiny.py")
    assert registry.get("tiny/loud").version == "0.3"
    assert {(failure.name, failure.stage, failure.distribution) for failure in registry.failures} >= {
        ("broken", "import", "broken.py"),
        ("core", "duplicate", "core.py"),
        ("my plugin", "name", "my plugin.py"),
    }
    assert "affectkit_file_broken" not in sys.modules
    del sys.modules["affectkit_file_tiny"]


def test_plugins_dir_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no-such: there is no such folder$"):
        plugins.load(plugins_dir=tmp_path / "no-such")


def test_observers_are_called_one_by_one(site: Site) -> None:
    site.install("a-fails", "@hookimpl\ndef affectkit_run_started(run): raise RuntimeError('not today')", preamble=PREAMBLE)
    site.install("b-works", "@hookimpl\ndef affectkit_run_started(run): run.append('b')", preamble=PREAMBLE)
    site.install("c-works", "@hookimpl\ndef affectkit_media_failed(media, error): media.append(str(error))", preamble=PREAMBLE)
    registry = plugins.load(only=["a-fails", "b-works", "c-works"])
    seen: list[str] = []
    (failure,) = registry.notify("affectkit_run_started", run=seen)
    assert (failure.name, failure.stage, str(failure.error)) == (
        "a-fails",
        "observers",
        "affectkit_run_started raised RuntimeError: not today",
    )
    assert seen == ["b"]
    assert registry.notify("affectkit_media_failed", run=None, media=seen, error=ValueError("cut")) == ()
    assert seen == ["b", "cut"]


def test_commands_of_plugins(site: Site) -> None:
    source = "import click\n@hookimpl\ndef affectkit_commands(group): group.add_command(click.Command('greet'))"
    site.install("a-first", source, preamble=PREAMBLE)
    site.install("b-second", source, preamble=PREAMBLE)
    registry = plugins.load(only=["a-first", "b-second"])
    assert list(registry.commands()) == ["greet"]
    assert str(registry.plugin("b-second").failure.error) == "its command 'greet' is already one of a-first; give it another name"  # type: ignore[union-attr]


def test_in_a_process_of_its_own(site: Site) -> None:
    """The same through a fresh interpreter: nothing broken reaches the others, and nothing heavy is imported."""
    site.install("a-imports", "import package_that_is_not_there")
    site.install("good")
    script = """
        import json, sys
        from affectkit import plugins
        registry = plugins.load()
        heavy = sorted({"torch", "pandas", "av", "cv2", "rich", "mmengine", "matplotlib", "scipy", "pyarrow"} & set(sys.modules))
        print(json.dumps([registry.select("good"), [failure.name for failure in registry.failures], heavy]))
    """
    environment = os.environ | {"PYTHONPATH": str(site.folder)}
    done = subprocess.run([sys.executable, "-c", dedent(script)], capture_output=True, text=True, env=environment, check=True)
    chosen, failures, heavy = json.loads(done.stdout)
    assert chosen == ["good/loud", "good/quiet"]
    assert "a-imports" in failures
    assert heavy == []


def test_importing_affectkit_imports_nothing_heavy() -> None:
    script = "import sys, affectkit, affectkit.api; print(sorted({'torch', 'pandas', 'av', 'cv2', 'click', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
