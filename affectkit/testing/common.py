"""Checks that every kind of component has to pass: declaration, light import, loading, and what it must leave alone."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affectkit import contract
from affectkit.errors import PluginError, UsageError
from affectkit.testing import surroundings
from affectkit.testing.subjects import ContractError, Subject, Unchecked, difference, doing

if TYPE_CHECKING:
    from affectkit.plugins import Plugin, Registry

_MIXED = re.compile(r"same device|expected device", re.IGNORECASE)  # how torch says that an operation met tensors of two devices
OWN_SEED = 970_299  # one that no component chooses
SAME = 1e-6  # numbers of the same answer given twice; the order in which threads add up moves the last digit

_WATCH = """
import importlib, importlib.util, json, os, sys, traceback

given = json.loads(sys.argv[1])
sys.path[:] = given["paths"]


class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            frames = [f for f in traceback.extract_stack() if "importlib" not in f.filename and f.filename != "<string>"]
            at = f"{frames[-1].filename}, line {frames[-1].lineno}: {frames[-1].line}" if frames else "a compiled module"
            with open(given["answer"], "w") as answer:
                json.dump({"torch": at, "tests": "pytest" in sys.modules}, answer)
            os._exit(0)


sys.meta_path.insert(0, Watch())
"""

_IMPORT = """
module, file = given["module"], given["file"]
try:
    there = importlib.util.find_spec(module) is not None
except ModuleNotFoundError:
    there = False
if there:
    importlib.import_module(module)
else:
    spec = importlib.util.spec_from_file_location(module.replace(".", "_"), file)
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
"""

_LIST = """
from affectkit import plugins
from affectkit.cli.plugins import story

for plugin in plugins.load(only=[given["name"]], plugins_dir=given["folder"]).plugins:
    story(plugin)
"""


def light_import(subject: Subject) -> None:
    """Importing its module loads no torch, so that commands which only list plugins stay fast."""
    try:
        file = inspect.getfile(subject.cls)
    except (TypeError, OSError):
        raise Unchecked(f"{subject.cls.__name__} was not made in a file, so its import cannot be tried") from None
    module = subject.cls.__module__
    _refuse_torch(f"importing {module}", file, _IMPORT, module=module, file=file)


def light_listing(plugin: Plugin, folder: Path | None = None) -> None:
    """Listing the plugin and what it offers loads no torch, so that commands which only list plugins stay fast."""
    place = plugin.location or plugin.distribution
    _refuse_torch(f"listing {plugin.name}", place, _LIST, name=plugin.name, folder=None if folder is None else str(folder))


def _refuse_torch(what: str, place: str, code: str, **given: str | None) -> None:
    told = _brought(code, json.dumps(given), tuple(path or os.getcwd() for path in sys.path))
    if "error" in told:
        raise Unchecked(f"{what} in a process of its own fails: {told['error']}")
    if told.get("tests"):
        raise Unchecked(f"{place} is a module of tests, which may import torch; put the component into a module of its own")
    if "torch" in told:
        raise ContractError(
            f"{what} imports torch ({told['torch']}); "
            "import it inside load, preprocess and predict, and for annotations under 'if TYPE_CHECKING'"
        )


@lru_cache(maxsize=256)
def _brought(code: str, given: str, paths: tuple[str, ...]) -> Mapping[str, Any]:
    """What running code in a process of its own brings along; asked once for all components of a module."""
    with tempfile.TemporaryDirectory(prefix="affectkit-check-") as folder:
        answer = Path(folder, "answer.json")
        arguments = json.dumps({**json.loads(given), "paths": paths, "answer": str(answer)})
        done = subprocess.run([sys.executable, "-c", _WATCH + code, arguments], capture_output=True, text=True, check=False)
        if answer.is_file():
            return dict(json.loads(answer.read_text(encoding="utf-8")))
    return {} if done.returncode == 0 else {"error": (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]}


def recipes_readable(plugin: Plugin, registry: Registry) -> None:
    """The recipes that it ships can be read, and name components that are there."""
    from affectkit.config import Recipe

    for recipe in plugin.recipes:
        with doing(f"recipe {recipe.name}", "affectkit run --dry-run --recipe tells more"):
            known = {entry.id for entry in registry.entries()}
            missing = [name for name in Recipe.load(recipe.path, find=registry.recipe).ids() if "/" in name and name not in known]
        if missing:
            raise ContractError(f"recipe {recipe.name} names {', '.join(missing)}, which is not installed; require the plugin that has it")


def declaration(subject: Subject) -> None:
    """What its class declares is complete: a name, labels, needs, frozen options, weights with licence and source."""
    hook = next(hook for hook, kind in contract.HOOKS.items() if kind == subject.kind)
    try:
        contract.components(hook, [subject.cls])
    except PluginError as error:
        raise ContractError(str(error)) from error
    component = subject.make()
    for attribute in ("labels", "needs", "kind", "scope", "unit", "context", "reads", "speaks", "checkpoints"):
        with doing(f"reading {attribute}", "a property must be there as soon as the component is made"), _later(subject, attribute):
            getattr(component, attribute, None)
    for tag, record in component.checkpoints.items():
        if not record.licence or record.licence == "unknown":
            raise ContractError(f"checkpoint {tag!r} says no licence; write Checkpoint(..., licence='Apache-2.0') or what its terms are")
        if not record.source:
            raise ContractError(f"checkpoint {tag!r} says no source; write Checkpoint(..., source='...'): the paper, repository or script")


def _later(subject: Subject, attribute: str) -> AbstractContextManager[None]:
    """The labels of a training may be those of its data, before which it says so."""
    return suppress(UsageError) if (subject.kind, attribute) == ("training", "labels") else nullcontext()


def loads(subject: Subject) -> None:
    """It can be loaded, from weights that are here."""
    problem = subject.load_problem
    if problem is not None:
        raise problem


def answers(subject: Subject) -> None:
    """It answers what it is asked, without raising."""
    problem = subject.answer_problem
    if problem is not None:
        raise problem


def same_answer_twice(subject: Subject) -> None:
    """The same input gives the same answer: asked again, and of another instance, whatever the random state is."""
    _ = subject.answer
    with surroundings.kept():
        surroundings.seed(1)
        first = subject.ask(subject.loaded, subject.given)
        surroundings.seed(2)
        again = subject.ask(subject.loaded, subject.given)
        surroundings.seed(3)
        other = subject.ask(subject.load(), subject.given)
    if found := difference(first, again, SAME):
        raise ContractError(
            f"the same input gives another answer the second time: {found}; "
            "keep nothing from call to call, call .eval() in load, draw no random numbers"
        )
    if found := difference(first, other, SAME):
        raise ContractError(
            f"another instance gives another answer to the same input: {found}; "
            "load every weight from the checkpoint, and take a random generator with a fixed seed of its own where one is needed"
        )


def no_network(subject: Subject) -> None:
    """Loading and computing reach for no network: weights are fetched by 'affectkit weights fetch', never on the way."""
    _ = subject.answer
    problem: Exception | None = None
    with surroundings.kept(), surroundings.no_network() as tried:
        try:
            component = subject.make()
            subject.load_into(component)
            subject.ask(component, subject.given)
        except (ContractError, Unchecked) as error:
            problem = error
    if tried:
        places = ", ".join(dict.fromkeys(tried))
        raise ContractError(
            f"it reaches for the network ({places}); declare what it needs as a Checkpoint, which users fetch beforehand, "
            "and read files only"
        ) from problem
    if problem is not None:
        raise problem


def nothing_global(subject: Subject) -> None:
    """Loading and computing change nothing that the whole program shares, and write no file into the working directory."""
    _ = subject.answer  # what libraries change when they are first imported is not the component's doing
    with surroundings.kept():
        before = surroundings.read()
        component = subject.make()
        states = []
        for number in (1, 2):
            surroundings.seed(number)
            subject.load_into(component)
            states.append(surroundings.read_random())
        _refuse(surroundings.changes(before, surroundings.read()), "loading it")
        for name in states[0]:
            if not difference(states[0][name], states[1][name]):
                raise ContractError(f"load seeds {name}, which everything in the process shares; use a generator of its own")
        surroundings.seed(OWN_SEED)
        numbers = surroundings.read_random()
        before = surroundings.read()
        files = _files()
        subject.ask(component, subject.given)
        _refuse(surroundings.changes(before, surroundings.read()), "computing")
        for name, state in surroundings.read_random().items():
            if difference(numbers[name], state):
                raise ContractError(
                    f"computing changes the state of {name}, which everything in the process shares; "
                    "use a generator of its own (numpy.random.default_rng(0), torch.Generator())"
                )
        touched = [name for name, state in _files().items() if files.get(name) != state]
        if touched and _writes(component, subject):  # another program may have written there in the meantime
            raise ContractError(
                f"computing writes into the working directory ({', '.join(sorted(touched)[:5])}); write nothing, or into a temporary folder"
            )


def _files() -> dict[str, tuple[int, int]]:
    """What lies in the working directory, with size and time of change."""
    found = {}
    for entry in os.scandir():
        with suppress(OSError):  # it is gone again
            found[entry.name] = (entry.stat().st_size, entry.stat().st_mtime_ns) if entry.is_file() else (0, 0)
    return found


def _writes(component: Any, subject: Subject) -> bool:
    """Whether computing in an empty working directory leaves something there."""
    here = os.getcwd()
    with tempfile.TemporaryDirectory(prefix="affectkit-check-") as folder:
        os.chdir(folder)
        try:
            subject.ask(component, subject.given)
        except ContractError:
            return True  # its options may name a file of the other directory
        finally:
            os.chdir(here)
        return any(Path(folder).iterdir())


def _refuse(found: list[str], what: str) -> None:
    if found:
        raise ContractError(f"{what} changes {found[0]}")


def inputs_unchanged(subject: Subject) -> None:
    """What it is given is as it was afterwards; others look at the same arrays."""
    _ = subject.answer
    before, given = subject.given, subject.given
    with surroundings.kept():
        subject.ask(subject.loaded, given)
    if found := difference(before, given):
        raise ContractError(f"it changes what it is given: {found}; copy an array before writing into it")


def device_moved(subject: Subject) -> None:
    """What it loads lies on the device that load is told."""
    import torch

    _ = subject.loaded
    device = "cuda" if torch.cuda.is_available() else "meta"
    try:
        component = subject.load(device)
    except (ContractError, Unchecked) as error:
        if device == "cuda":
            raise ContractError(f"load cannot use the device 'cuda': {error}") from error
        raise Unchecked(f"there is no GPU here, and loading onto torch's device 'meta' instead does not work: {error}") from error
    held = [(name, in_module) for name, tensor, in_module in held_tensors(component) if tensor.device.type != device and tensor.dim() > 0]
    advice = "move modules and tensors with .to(device) in load"
    for name, in_module in held:
        if in_module:
            more = f", and {len(held) - 1} more tensors with it" if len(held) > 1 else ""
            raise ContractError(f"after load(device={device!r}) {name} is elsewhere{more}; {advice}")
    try:
        with surroundings.kept(), subject.on(device):
            there = subject.ask(component, subject.given) if device == "cuda" or held else None
    except ContractError as error:
        if device == "cuda" or _MIXED.search(str(error)):
            where = f" ({', '.join(name for name, _ in held[:3])} elsewhere)" if held else ""
            raise ContractError(f"it does not compute on the device {device!r}{where}: {error}; {advice}") from error
        raise Unchecked(
            f"{held[0][0]} is not on the device of load, which is right where only preprocess uses it; a GPU could tell"
        ) from error
    if device == "cuda" and (found := difference(subject.answer, there, 1e-2)):
        raise ContractError(f"it gives another answer on the GPU: {found}; make tensors in predict on the device of the batch")


def held_tensors(component: Any, depth: int = 5) -> Iterator[tuple[str, Any, bool]]:
    """The tensors that an object holds, with where, and whether they are those of a module.

    Looked at are its attributes, modules, lists and mappings, and objects of its own package.
    """
    import torch

    package = type(component).__module__.partition(".")[0]
    seen: set[int] = set()

    def walk(value: Any, where: str, left: int) -> Iterator[tuple[str, Any, bool]]:
        if id(value) in seen or left < 0:
            return
        seen.add(id(value))
        if isinstance(value, torch.Tensor):
            yield where, value, False
        elif isinstance(value, torch.nn.Module):
            for name, tensor in (*value.named_parameters(), *value.named_buffers()):
                yield f"{where}.{name}", tensor, True
        elif isinstance(value, Mapping):
            for key, item in value.items():
                yield from walk(item, f"{where}[{key!r}]", left - 1)
        elif isinstance(value, list | tuple):
            for index, item in enumerate(value):
                yield from walk(item, f"{where}[{index}]", left - 1)
        elif hasattr(value, "__dict__") and not isinstance(value, type) and type(value).__module__.partition(".")[0] == package:
            for name, item in vars(value).items():
                yield from walk(item, f"{where}.{name}", left - 1)

    for name, item in vars(component).items():
        yield from walk(item, f"self.{name}", depth)
