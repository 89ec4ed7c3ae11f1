"""Plugins that break the contract: each is recorded with what it breaks, and a good one beside it does not notice."""

from __future__ import annotations

import pytest

from tests.plugin_site import PREAMBLE, Site, failure_of


@pytest.mark.parametrize(
    ("source", "stage", "told"),
    [
        (
            "@hookimpl\ndef affectkit_heds(): return []\n@hookimpl\ndef affectkit_modality(): return []",
            "hooks",
            "there is no hook affectkit_heds. Did you mean affectkit_heads?; there is no hook affectkit_modality. "
            "Did you mean affectkit_modalities?",
        ),
        (
            "@hookimpl\ndef affectkit_heads(colour): return []",
            "hooks",
            "Plugin 'bad' for hook 'affectkit_heads'; hookimpl definition: affectkit_heads(colour); Argument(s) {'colour'} are declared in "
            "the hookimpl but can not be found in the hookspec",
        ),
        (
            "def affectkit_heads(): return []",
            "hooks",
            "affectkit_heads is not marked as a hook; put @hookimpl (from affectkit.api) before it",
        ),
        ("", "hooks", "it implements no hook of affectkit; see affectkit.hookspecs"),
        (
            "@hookimpl(wrapper=True)\ndef affectkit_heads(): return (yield)",
            "hooks",
            "affectkit_heads is a hook wrapper; each implementation is called on its own, so write a plain function",
        ),
        (
            "@hookimpl\ndef affectkit_heads():\n    yield Compound\n    raise ValueError('half way')",
            "hooks",
            "affectkit_heads raised ValueError: half way",
        ),
        (
            "@hookimpl\ndef affectkit_heads(): Compound",
            "components",
            "affectkit_heads returned nothing; return a list of classes derived from affectkit.api.Head",
        ),
        (
            "@hookimpl\ndef affectkit_heads(): return Compound",
            "components",
            "affectkit_heads returned Compound; return a list of classes derived from affectkit.api.Head",
        ),
        (
            "@hookimpl\ndef affectkit_heads(): return 'Compound'",
            "components",
            "affectkit_heads returned 'Compound'; return a list of classes derived from affectkit.api.Head",
        ),
        ("@hookimpl\ndef affectkit_heads(): return [7]", "components", "affectkit_heads returned 7, which is not a class; return classes"),
        (
            "@hookimpl\ndef affectkit_fusions(): return [Compound]",
            "components",
            "affectkit_fusions returned Compound, which does not derive from affectkit.api.Fusion",
        ),
        (
            "@hookimpl\ndef affectkit_modalities(): return [Face, Face]",
            "duplicate",
            "two of its components have the id bad/face; ids must differ",
        ),
        (
            "Mix.name = 'face'\n@hookimpl\ndef affectkit_modalities(): return [Face]\n@hookimpl\ndef affectkit_fusions(): return [Mix]",
            "duplicate",
            "two of its components have the id bad/face; ids must differ",
        ),
        ("@hookimpl\ndef affectkit_recipes(): return [3]", "recipes", "affectkit_recipes returned 3, which is not a path"),
        (
            "@hookimpl\ndef affectkit_recipes(): return 'a.yaml'",
            "recipes",
            "affectkit_recipes returned 'a.yaml'; return a list of paths of YAML files",
        ),
        (
            "@hookimpl\ndef affectkit_recipes(): return [Path('a.py')]",
            "recipes",
            "affectkit_recipes returned a.py; a recipe is a YAML file (.yaml or .yml)",
        ),
        (
            "@hookimpl\ndef affectkit_recipes(): return ['/no/a.yaml']",
            "recipes",
            "affectkit_recipes names /no/a.yaml, which does not exist; is it listed in the package data of the plugin?",
        ),
        ("@hookimpl\ndef affectkit_recipes(): 1 / 0", "recipes", "affectkit_recipes raised ZeroDivisionError: division by zero"),
        ("@hookimpl\ndef affectkit_commands(group): 1 / 0", "commands", "affectkit_commands raised ZeroDivisionError: division by zero"),
        (
            "import click\n@hookimpl\ndef affectkit_commands(group): group.add_command(click.Command('plugins'))",
            "commands",
            "its command 'plugins' is already one of affectkit itself; give it another name",
        ),
    ],
)
def test_hooks_that_are_wrong(site: Site, source: str, stage: str, told: str) -> None:
    failure = failure_of(site, source, preamble=PREAMBLE)
    assert (failure.stage, str(failure.error)) == (stage, told)


def test_an_instance_instead_of_a_class(site: Site) -> None:
    failure = failure_of(site, "@hookimpl\ndef affectkit_modalities(): return [Face()]", preamble=PREAMBLE)
    assert str(failure.error).endswith("which is not a class; return the class Face, not an instance of it")


@pytest.mark.parametrize(
    ("hook", "cls", "body", "told"),
    [
        ("modalities", "Face", "name = ''", "modality Bad has no name; give it one, for instance name = 'bad'"),
        (
            "modalities",
            "Face",
            "name = 'a b'",
            "modality Bad has the name 'a b'; a name consists of letters, digits, '_' and '-', beginning",
        ),
        ("modalities", "Face", "name = 3", "modality Bad has the name 3; a name consists of"),
        ("modalities", "Face", "labels = ()", "modality Bad declares no labels; say what its columns mean, for instance labels = BASIC8"),
        ("modalities", "Face", "labels = None", "modality Bad declares no labels"),
        ("modalities", "Face", "labels = ('joy',)", "modality Bad: labels must be a LabelSet or a tuple of LabelSets, found ('joy',)"),
        ("modalities", "Face", "needs = Audio()", "modality Bad: needs must be a Needs(...), found Audio(rate=16000)"),
        ("modalities", "Face", "unit = 'clip'", "modality Bad: unit must be one of frame, window, media; found 'clip'"),
        (
            "modalities",
            "Face",
            "context = 0",
            "modality Bad: context must be seconds greater than 0, or None for the window itself, found 0",
        ),
        ("modalities", "Face", "Options = dict", "modality Bad: Options must be a frozen dataclass (@dataclass(frozen=True)), found dict"),
        (
            "modalities",
            "Face",
            "Options = dataclass(type('Loose', (), {}))",
            "modality Bad: Options must be a frozen dataclass (@dataclass(frozen=True)), found Loose",
        ),
        (
            "modalities",
            "Face",
            "Options = make_dataclass('Engine', [('size', int, 3), ('precision', str, 'int8'), ('device', str, 'cpu')], frozen=True)",
            "modality Bad: its Options have precision and device, which in a recipe belong to the engine and never reach a component; "
            "choose other names, for instance precision_of_model",
        ),
        (
            "providers",
            "Boxes",
            "Options = make_dataclass('Engine', [('batch_size', int, 3)], frozen=True)",
            "provider Bad: its Options have batch_size, which in a recipe belong to the engine and never reach a component; choose other names",
        ),
        (
            "modalities",
            "Face",
            "checkpoints = {'a': 'b'}",
            "modality Bad: checkpoints must be a mapping from tags to Checkpoint(...), found {'a': 'b'}",
        ),
        (
            "modalities",
            "Face",
            "requires = 'whisper'",
            "modality Bad: requires must be a tuple of package names, for instance ('whisper',), found 'whisper'",
        ),
        ("providers", "Boxes", "kind = ''", "provider Bad has no kind; say what evidence it makes, for instance kind = 'faces'"),
        ("providers", "Boxes", "scope = 'clip'", "provider Bad: scope must be one of frame, face, window, media; found 'clip'"),
        ("providers", "Boxes", "needs = None", "provider Bad: needs must be a Needs(...), found None"),
        ("fusions", "Mix", "labels = (BASIC8,)", "fusion Bad: labels must be a LabelSet, found (LabelSet("),
        ("fusions", "Mix", "trained_for = 'a/b'", "fusion Bad: trained_for must be a tuple of component ids or None, found 'a/b'"),
        ("heads", "Compound", "reads = 'basic8'", "head Bad: reads must be a LabelSet or None, found 'basic8'"),
        ("heads", "Compound", "speaks = 'compound7'", "head Bad: speaks must be a LabelSet or None, found 'compound7'"),
        ("heads", "Compound", "embedding_from = 1", "head Bad: embedding_from must be 'plugin/component:name' or None, found 1"),
        ("submitters", "Challenge", "name = None", "submitter Bad has no name"),
        ("submitters", "Challenge", "labels = ('va',)", "submitter Bad: labels must be a LabelSet or a tuple of LabelSets, found ('va',)"),
    ],
)
def test_components_that_break_the_contract(site: Site, hook: str, cls: str, body: str, told: str) -> None:
    source = f"class Bad({cls}):\n    {body}\n@hookimpl\ndef affectkit_{hook}(): return [{cls}, Bad]"
    failure = failure_of(site, source, preamble=PREAMBLE)
    assert failure.stage == "components"
    assert str(failure.error).startswith(told)


@pytest.mark.parametrize(
    ("hook", "base", "told"),
    [
        ("modalities", "Modality", "modality Bad does not define predict, preprocess; every modality must"),
        ("providers", "Provider", "provider Bad does not define provide; every provider must"),
        ("submitters", "Submitter", "submitter Bad does not define check, read_template, write; every submitter must"),
    ],
)
def test_abstract_components(site: Site, hook: str, base: str, told: str) -> None:
    failure = failure_of(site, f"class Bad({base}):\n    name = 'bad'\n@hookimpl\ndef affectkit_{hook}(): return [Bad]", preamble=PREAMBLE)
    assert str(failure.error) == told


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("class Bad(Provider):\n    name = 'bad'\n    scope = 'face'\n    provide = print", "provider Bad has no kind"),
        (
            "class Bad(Provider):\n    name = 'bad'\n    kind = 'gaze'\n    provide = print",
            "provider Bad: scope must be one of frame, face, window, media; has none",
        ),
    ],
)
def test_providers_without_declarations(site: Site, body: str, told: str) -> None:
    failure = failure_of(site, f"{body}\n@hookimpl\ndef affectkit_providers(): return [Bad]", preamble=PREAMBLE)
    assert str(failure.error).startswith(told)
