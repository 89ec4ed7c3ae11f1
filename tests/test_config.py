"""Recipes: what is read, what is refused and with which words."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from affectkit.components import Fusion, Output, Provider
from affectkit.config import Recipe, Settings, Windows, component_options
from affectkit.errors import AffectKitError, ConfigError, PluginError, Problems, UsageError
from affectkit.options import build
from affectkit.recipe_files import merge, parse

WHOLE = """\
name: a day at the sea
modalities: [mini/face_static, mini/audio]
providers:
  faces: mini/faces
  transcript: [core/subtitles, core/whisper]
fusion: core/mhpf
head: core/ppa
windows: {length: 4, step: 2.0, min_tail: 1}
subjects: all
outside: drop
sampling: {faces: 10}
components:
  mini/audio: {batch_size: 16, precision: bf16, device: "cuda:0", threshold: 0.5}
"""


@pytest.fixture
def write(tmp_path: Path):
    def write_file(text: str, name: str = "recipe.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


def refused(path: Path, **kwargs: Any) -> str:
    with pytest.raises(AffectKitError) as error:
        Recipe.load(path, **kwargs)
    assert isinstance(error.value, ConfigError | Problems | UsageError)
    return str(error.value).replace(f"{path.parent}/", "")


def test_a_whole_recipe(write):
    recipe = Recipe.load(write(WHOLE))
    assert recipe.name == "a day at the sea"
    assert recipe.modalities == ("mini/face_static", "mini/audio")
    assert recipe.alternatives("faces") == ("mini/faces",)
    assert recipe.mandatory("faces")
    assert recipe.alternatives("transcript") == ("core/subtitles", "core/whisper")
    assert not recipe.mandatory("transcript")
    assert recipe.alternatives("description") == ()
    assert recipe.windows == Windows(4.0, 2.0, 1.0)
    assert recipe.subjects == "all"
    assert recipe.outside == "drop"
    assert recipe.sampling == {"faces": 10.0}
    assert recipe.settings("mini/audio") == Settings(16, "bf16", "cuda:0")
    assert recipe.settings("mini/face_static") == Settings()
    assert recipe.ids() == ("mini/face_static", "mini/audio", "mini/faces", "core/subtitles", "core/whisper", "core/mhpf", "core/ppa")


def test_defaults(write):
    recipe = Recipe.load(write("modalities: [mini]", "short.yaml"))
    assert recipe == Recipe(modalities=("mini",), name="short")
    assert (recipe.fusion, recipe.head, recipe.subjects, recipe.outside) == (None, None, "main", "other")
    assert recipe.sampling == {"faces": 5.0}


def test_what_is_written_to_run_json_is_the_same_recipe(write):
    recipe = Recipe.load(write(WHOLE))
    again = Recipe.from_mapping(json.loads(json.dumps(recipe.to_mapping())))
    assert again == recipe
    assert again.digest() == recipe.digest()
    assert Recipe.load(write(yaml.safe_dump(recipe.to_mapping()), "again.yaml")) == recipe


def test_the_digest_changes_with_what_changes_the_results(write):
    recipe = Recipe.load(write(WHOLE))
    for same in ({"name": "other"}, {"components": {"mini/audio": {"batch_size": 2, "device": "cpu"}}}, {"windows": {"step": 2}}):
        assert recipe.with_(**same).digest() == recipe.digest(), same
    for other in (
        {"windows": {"step": 1}},
        {"head": None},
        {"modalities": ["mini/audio"]},
        {"components": {"mini/audio": {"threshold": 0.4}}},
        {"components": {"mini/audio": {"precision": "fp32"}}},
        {"providers": {"transcript": "core/subtitles"}},
    ):
        assert recipe.with_(**other).digest() != recipe.digest(), other


def test_with_merges_mappings_and_replaces_the_rest(write):
    recipe = Recipe.load(write(WHOLE)).with_(modalities=["mini/text"], providers={"faces": None, "description": ["core/descriptions"]})
    assert recipe.modalities == ("mini/text",)
    assert set(recipe.providers) == {"transcript", "description"}
    with pytest.raises(ConfigError, match=r"haed: unknown key\. Did you mean head\?"):
        recipe.with_(haed="core/ppa")


# --- building on other recipes


def test_base_by_path_by_name_and_as_a_list(write):
    write(WHOLE, "base/whole.yaml")
    write("head: core/direct\nmodalities: [b/c]\ncomponents: {mini/audio: {batch_size: 8}}", "named.yaml")
    child = write("_base_: [base/whole.yaml, plug/named]\nname: child\nwindows: {step: 1}\nproviders: {faces: null}")
    recipe = Recipe.load(child, find=lambda name: {"plug/named": child.parent / "named.yaml"}[name])
    assert recipe.name == "child"
    assert recipe.modalities == ("b/c",)
    assert recipe.head == "core/direct"
    assert recipe.windows == Windows(4.0, 1.0, 1.0)
    assert recipe.components["mini/audio"] == {"batch_size": 8, "precision": "bf16", "device": "cuda:0", "threshold": 0.5}
    assert list(recipe.providers) == ["transcript"]
    assert Recipe.load("plug/named", find=lambda name: child.parent / "named.yaml").name == "named"


def test_a_diamond_is_no_circle(write):
    write("modalities: [mini]", "root.yaml")
    write("_base_: root.yaml\nhead: core/ppa", "left.yaml")
    write("_base_: root.yaml\nfusion: core/mean", "right.yaml")
    assert Recipe.load(write("_base_: [left.yaml, right.yaml]")).ids() == ("mini", "core/mean", "core/ppa")


def test_circle_of_bases(write):
    write("_base_: b.yaml\nmodalities: [mini]", "a.yaml")
    write("_base_: recipe.yaml", "b.yaml")
    path = write("_base_: a.yaml")
    assert "builds on itself: recipe.yaml -> a.yaml -> b.yaml -> recipe.yaml; break the circle in one _base_" in refused(path)


def test_absent_base(write):
    message = refused(write("head: core/ppa\n_base_: gone.yaml"))
    assert "there is no recipe at gone.yaml" in message
    assert "(_base_ in recipe.yaml:2)" in message


def test_base_by_name_without_plugins(write):
    assert "'mini/basic' is not the path of a recipe; a path ends in .yaml or .yml" in refused(write("_base_: mini/basic"))


@pytest.mark.parametrize("base", ["3", "{a: b}", "[1]"])
def test_base_of_a_wrong_type(write, base):
    assert "recipe.yaml:1: _base_ takes the path or the name of a recipe" in refused(write(f"_base_: {base}"))


def test_an_error_in_a_base_names_the_base(write):
    write("modalities: [mini]\nwindows:\n  length: four", "base.yaml")
    assert refused(write("_base_: base.yaml")) == "base.yaml:3: windows.length: expected a number, found 'four' (text)"


def test_a_replaced_value_is_blamed_on_the_recipe_that_replaced_it(write):
    write("modalities: [mini, mini/audio]\n", "base.yaml")
    message = refused(write("_base_: base.yaml\n\n\nmodalities: [mini, mini]"))
    assert message == "recipe.yaml:4: modalities.1: 'mini' is named twice"


# --- only plain data


@pytest.mark.parametrize(
    "tag",
    [
        "python/object/apply:os.system ['touch owned']",
        "python/name:os.system ''",
        "python/tuple [1]",
        "set {a: null}",
        "timestamp 2020-01-01",
    ],
)
def test_tags_are_refused_with_file_and_line(write, tag, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = refused(write(f"modalities: [mini]\nname: !!{tag}\n"))
    assert message.startswith(f"recipe.yaml:2: the YAML tag !!{tag.split(' ')[0]} is not allowed; a recipe holds only text, numbers")
    assert not (tmp_path / "owned").exists()


def test_own_tags_are_refused(write):
    assert "recipe.yaml:1: the YAML tag !env is not allowed" in refused(write("name: !env HOME"))


def test_doubled_keys_are_refused(write):
    message = refused(write("modalities: [mini]\nwindows:\n  step: 2\n  length: 4\n  step: 1\n"))
    assert message == "recipe.yaml:5: the key 'step' is written twice, first in line 3"


def test_aliases_are_refused(write):
    assert "recipe.yaml:2: the alias *a is not allowed; use _base_ to share" in refused(write("modalities: &a [mini]\nname: *a"))


@pytest.mark.parametrize("key", ["1", "null", "true", "[a]"])
def test_keys_are_text(write, key):
    assert "recipe.yaml:1: a key must be text; put it in quotes" in refused(write(f"? {key}\n: 2"))


@pytest.mark.parametrize("text", ["modalities: [mini", "a: b: c", "\tname: x", "name: 'x", "--- a\n--- b", "- mini: ["])
def test_broken_yaml_names_the_line(write, text):
    assert re.match(r"recipe\.yaml:\d+: \w", refused(write(text)))


def test_other_files_are_no_recipes(write, tmp_path):
    assert "a recipe is a mapping with keys such as modalities" in refused(write("- mini"))
    assert "modalities is missing; give a list, each text" in refused(write(""))
    assert "is not YAML" in refused(write("name: \x00"))
    assert "nested too deeply" in refused(write("[" * 20000))
    assert "recipe.yaml: " in refused(write("name: !!int abc"))
    (tmp_path / "clip.yaml").write_bytes(b"\xff\xd8\xff\xe0")
    assert "is not text in UTF-8; is it a recipe?" in refused(tmp_path / "clip.yaml")
    (tmp_path / "huge.yaml").write_bytes(b"#" * (2 << 20))
    assert "is too large for a recipe (2097152 bytes)" in refused(tmp_path / "huge.yaml")
    (tmp_path / "folder.yaml").mkdir()
    assert "folder.yaml cannot be read: Is a directory" in refused(tmp_path / "folder.yaml")
    assert "there is no recipe at gone.yaml; see 'affectkit recipes'" in refused(tmp_path / "gone.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("1e-5", 1e-5),
        ("007", "007"),
        ("1:30", "1:30"),
        ("2020-01-01", "2020-01-01"),
        ("true", True),
        ("-3", -3),
        (".5", 0.5),
        ("", None),
        ("~", None),
        ("null", None),
        (".nan", ".nan"),
        ("5.", 5.0),
        ("1.5E+3", 1500.0),
        ("'4'", "4"),
        ("0x10", "0x10"),
    ],
)
def test_scalars(text, value):
    parsed, _ = parse(f"a: {text}", "x")
    assert parsed == {"a": value}
    assert type(parsed["a"]) is type(value)


# --- unknown keys, wrong types, wrong values: all in one report


def test_all_problems_in_one_report(write):
    path = write(
        "modalities: [mini/audio, mini/text/x, 5]\nhed: core/ppa\nwindows: {lenght: 4}\nsubjects: everyone\n"
        "sampling: {faces: fast}\ncomponents: {mini/audio: 3}\n"
    )
    with pytest.raises(Problems) as error:
        Recipe.load(path)
    assert [str(problem).replace(f"{path.parent}/", "") for problem in error.value.problems] == [
        "recipe.yaml:1: modalities.2: expected text, found 5 (a whole number); put it in quotes",
        "recipe.yaml:2: hed: unknown key. Did you mean head?",
        "recipe.yaml:3: windows.lenght: unknown key. Did you mean length?",
        "recipe.yaml:4: subjects: 'everyone' is not one of main, all. Known: all, main.",
        "recipe.yaml:5: sampling.faces: expected a number, found 'fast' (text)",
        "recipe.yaml:6: components.mini/audio: expected a mapping, found 3 (a whole number)",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("head: ppa", "head: 'ppa' is not a component id; write plugin/component, for instance core/ppa"),
        ("fusion: core/", "fusion: 'core/' is not a component id"),
        ("providers: {faces: [mini/faces, yunet]}", "providers.faces: 'yunet' is not a component id"),
        ("providers: {faces: 3}", "providers.faces: expected text or a list, each text, found 3 (a whole number)"),
        ("providers: {faces: [core/a, 3]}", "providers.faces.1: expected text, found 3"),
        ("windows: {length: 0}", "windows: length must be greater than 0 seconds, found 0.0"),
        ("windows: {step: -1}", "windows: step must be greater than 0 seconds, found -1.0"),
        ("windows: {min_tail: 5}", "windows: min_tail must be between 0 and length (4.0 seconds), found 5.0"),
        ("windows: 4", "windows: expected a mapping, found 4 (a whole number)"),
        ("sampling: {faces: 0}", "sampling.faces: frames per second must be greater than 0, found 0.0"),
        ("sampling: {face: 5}", "sampling.face: no provider makes 'face'. Did you mean faces?"),
        ("outside: keep", "outside: 'keep' is not one of other, drop, error"),
        ("components: {audio: {}}", "components.audio: 'audio' is not a component id"),
        ("components: {mini/audio: {batch_size: 0}}", "components.mini/audio: batch_size must be at least 1, found 0"),
        ("components: {mini/audio: {batch_size: 1.5}}", "components.mini/audio.batch_size: expected a whole number or null, found 1.5"),
        ("components: {mini/audio: {precision: fp8}}", "components.mini/audio.precision: 'fp8' is not one of fp32, bf16, fp16"),
        ("name: {a: b}", "name: expected text, found {'a': 'b'} (a mapping)"),
    ],
)
def test_wrong_values(write, line, message):
    assert message in refused(write(f"modalities: [mini]\n{line}"))
    assert "recipe.yaml:2: " in refused(write(f"modalities: [mini]\n{line}"))


def test_no_modalities(write):
    assert refused(write("modalities: []")) == "recipe.yaml:1: modalities: a recipe needs at least one modality, for instance [mini/audio]"


def test_empty_sections_are_defaults(write):
    recipe = Recipe.load(write("modalities: [mini]\nproviders:\nwindows:\ncomponents:\nsampling:\nfusion:\n"))
    assert recipe == Recipe(modalities=("mini",), name="recipe")


def test_unknown_components(write):
    recipe = Recipe.load(write("modalities: [mini, other/x]\ncomponents: {mini/adio: {}, other/y: {}, core/mean: {}, core/maen: {}}"))
    errors = [str(error) for error in recipe.unknown_components(["core/mean", "mini/audio"])]
    assert errors == [
        "components.other/y: there is no such component. Did you mean other/x?",
        "components.core/maen: there is no such component. Did you mean core/mean?",
    ]


# --- --set


def test_set(write):
    path = write(WHOLE)
    recipe = Recipe.load(
        path,
        overrides=[
            "components.mini/audio.batch_size=4",
            "components.mini/text.words=[a, b]",
            "windows.step=1",
            "providers.transcript.1=core/other",
            "head=null",
            "providers.faces=",
            "modalities=[mini/text]",
            "name=x=y",
        ],
    )
    assert recipe.components["mini/audio"]["batch_size"] == 4
    assert recipe.components["mini/text"] == {"words": ["a", "b"]}
    assert recipe.windows.step == 1.0
    assert recipe.providers == {"transcript": ("core/subtitles", "core/other")}
    assert recipe.head is None
    assert recipe.modalities == ("mini/text",)
    assert recipe.name == "x=y"


def test_set_reaches_into_empty_sections(write):
    path = write("modalities: [mini]\ncomponents:\n  mini/audio:\n")
    assert Recipe.load(path, overrides=["components.mini/audio.a=1", "windows.length=2"]).components == {"mini/audio": {"a": 1}}


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        ("windows.step", UsageError, "--set windows.step: write --set key.path=value, for instance"),
        ("=3", UsageError, "--set =3: write --set key.path=value"),
        ("windows..step=3", UsageError, "write --set key.path=value"),
        ("windows.step=fast", ConfigError, "--set windows.step=fast: windows.step: expected a number, found 'fast' (text)"),
        ("windwos.step=1", ConfigError, "--set windwos.step=1: windwos: unknown key. Did you mean windows?"),
        ("text=1", ConfigError, "text: unknown key"),
        ("head.x=1", ConfigError, "--set head.x=1: head is 'core/ppa', not a mapping, and has no 'x'"),
        ("providers.transcript.7=core/x", ConfigError, "providers.transcript is a list of 2; give an index below that"),
        ("providers.transcript.x=core/x", ConfigError, "providers.transcript is a list of 2"),
        ("head={a: 1}", ConfigError, "head is 'core/ppa', and a mapping cannot be merged into it"),
        ("name=[a", ConfigError, "--set name=[a:1: "),
        ("name=!!python/name:os.system x", ConfigError, "the YAML tag !!python/name:os.system is not allowed"),
    ],
)
def test_wrong_overrides(write, override, error, message):
    with pytest.raises(error, match=re.escape(message)):
        Recipe.load(write(WHOLE), overrides=[override])


def test_set_on_a_recipe_that_is_made_already(write):
    recipe = Recipe.load(write(WHOLE))
    assert recipe.override([]) == recipe
    assert recipe.override(["head=null", "providers.faces=null"]) == recipe.with_(head=None, providers={"faces": None})
    with pytest.raises(ConfigError, match=r"^--set windows\.step=x: windows\.step: expected a number"):
        recipe.override(["windows.step=x"])


# --- options of components


@dataclass(frozen=True)
class Beam:
    width: int = 5
    patience: float | None = None


@dataclass(frozen=True)
class Options:
    threshold: float = 0.5
    count: int = 3
    words: tuple[str, ...] = ()
    size: tuple[int, int] = (4, 4)
    beam: Beam = Beam()
    mode: Literal["a", "b"] = "a"
    weights: Mapping[str, float] = field(default_factory=dict)
    path: Path | None = None
    flag: bool = False
    anything: Any = None
    tags: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError("count must not be negative")


class Listener(Provider):
    name = "listener"
    kind = "noise"
    scope = "window"
    Options = Options

    def provide(self, clips):
        return []


class Mean(Fusion):
    name = "mean"

    def fuse(self, sources):
        return Output({})


def test_options_of_a_component():
    options = component_options(
        Listener,
        {
            "batch_size": 3,
            "threshold": 1,
            "words": ["x"],
            "size": [1, 2],
            "beam": {"width": 2, "patience": 1},
            "mode": "b",
            "weights": {"x": 1},
            "path": "a/b",
            "flag": True,
            "anything": {"x": [1]},
            "tags": ["t"],
        },
    )
    assert options == Options(1.0, 3, ("x",), (1, 2), Beam(2, 1.0), "b", {"x": 1.0}, Path("a/b"), True, {"x": [1]}, ["t"])
    assert type(options.threshold) is float
    assert component_options(Listener, {}) == Options()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"treshold": 1}, "components.x/l.treshold: unknown key. Did you mean threshold?"),
        ({"count": 1.5}, "components.x/l.count: expected a whole number, found 1.5 (a number)"),
        ({"count": True}, "components.x/l.count: expected a whole number, found true"),
        ({"flag": 1}, "components.x/l.flag: expected true or false, found 1 (a whole number)"),
        ({"threshold": "0.5"}, "components.x/l.threshold: expected a number, found '0.5' (text)"),
        ({"words": "x"}, "components.x/l.words: expected a list, each text, found 'x' (text)"),
        ({"words": ["x", None]}, "components.x/l.words.1: expected text, found null"),
        ({"size": [1]}, "components.x/l.size: expected a list of 2: a whole number, a whole number, found [1] (a list)"),
        ({"beam": {"wdth": 1}}, "components.x/l.beam.wdth: unknown key. Did you mean width?"),
        ({"beam": {"patience": "x"}}, "components.x/l.beam.patience: expected a number or null, found 'x' (text)"),
        ({"mode": "c"}, "components.x/l.mode: 'c' is not one of a, b. Known: a, b."),
        ({"mode": 1}, "components.x/l.mode: expected one of a, b, found 1 (a whole number)"),
        ({"weights": {"x": "y"}}, "components.x/l.weights.x: expected a number, found 'y' (text)"),
        ({"weights": [1]}, "components.x/l.weights: expected a mapping, found [1] (a list)"),
        ({"count": -1}, "components.x/l: count must not be negative"),
    ],
)
def test_wrong_options(given, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        component_options(Listener, given, "x/l")


def test_several_wrong_options_are_reported_together():
    with pytest.raises(Problems) as error:
        component_options(Listener, {"count": "x", "flga": True}, "x/l")
    assert len(error.value.problems) == 2


def test_a_fusion_has_no_batches():
    with pytest.raises(ConfigError, match=r"components\.core/mean\.batch_size: unknown key\. components\.core/mean has no options\."):
        component_options(Mean, {"batch_size": 3}, "core/mean")


def test_a_missing_option_and_annotations_that_cannot_be_read():
    @dataclass(frozen=True)
    class Wanting:
        size: int

    with pytest.raises(ConfigError, match="size is missing; give a whole number"):
        build(Wanting, {})

    @dataclass(frozen=True)
    class Unreadable:
        size: "Nowhere"  # type: ignore[name-defined]  # noqa: F821, UP037

    with pytest.raises(PluginError, match=r"the annotations of .*Unreadable cannot be read"):
        build(Unreadable, {"size": 1})


# --- properties

# PyYAML folds some control characters when it writes, so letters and everything that means something in YAML
words = st.text("aZ éß漢0129.:-+~#!&*?|>%@`{}[],'\"\\\n\t", max_size=8)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
ids = st.from_regex(r"[a-z]{1,5}/[a-z]{1,5}", fullmatch=True)


@given(st.dictionaries(words, plain, max_size=4))
def test_yaml_that_holds_plain_data_is_read_as_it_is(data):
    parsed, lines = parse(yaml.safe_dump(data, allow_unicode=True), "x")
    assert json.loads(json.dumps(parsed)) == data
    assert {where[0] for where in lines} == set(data)


@given(st.dictionaries(words, plain, max_size=4), st.dictionaries(words, plain, max_size=4))
def test_merge_keeps_every_key_and_the_upper_values_win(base, over):
    merged = merge(base, over)
    assert set(merged) == set(base) | set(over)
    assert merge(merged, over) == merged
    assert merge({}, over) == over
    assert merge(base, {}) == base


@given(
    st.lists(ids, min_size=1, max_size=4, unique=True),
    st.dictionaries(st.sampled_from(["faces", "transcript", "x"]), ids | st.lists(ids, max_size=3)),
    st.dictionaries(ids, st.dictionaries(st.sampled_from(["a", "b"]), plain, max_size=2), max_size=2),
)
def test_any_recipe_survives_json(modalities, providers, components):
    recipe = Recipe.from_mapping({"modalities": modalities, "providers": providers, "components": components})
    again = Recipe.from_mapping(json.loads(json.dumps(recipe.to_mapping())))
    assert again.to_mapping() == recipe.to_mapping()
    assert again.digest() == recipe.digest()
