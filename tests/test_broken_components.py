"""A component that breaks one promise: the contract says which, what it found and what to do; nothing else is amiss."""

from __future__ import annotations

import logging
import os
import random
import signal
import socket
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from affectkit.api import (
    Checkpoint,
    Clip,
    Component,
    Evidence,
    Input,
    Needs,
    Output,
)
from tests.broken_modalities import Raising, Stubborn
from tests.broken_parts import CASES  # those of modalities as well
from tests.good_components import Average, Bright, Echo, Loud, Names, Pairs, Slopes, outcome_of, outcomes


@pytest.mark.parametrize("cls", [Loud, Bright, Echo, Average, Pairs, Names, Slopes], ids=lambda cls: cls.name)
def test_good_components_pass_every_check(cls: type[Component]) -> None:
    assert {name: (o.state, o.reason) for name, o in outcomes(cls).items() if o.state != "ok"} == {}


@pytest.mark.parametrize(("check", "told", "cls"), CASES, ids=[f"{check}-{cls.__name__}".replace(" ", "_") for check, _, cls in CASES])
def test_broken_components_fail_with_a_sentence(check: str, told: str, cls: type[Component]) -> None:
    outcome = outcome_of(check, cls)
    assert outcome.state == "broken"
    assert told in outcome.reason


def test_every_check_is_failed_by_some_component() -> None:
    from affectkit.testing import CHECKS

    failed = {check for check, _, _ in CASES} | {"light import", "nothing global"}  # these have tests of their own
    assert {check.__name__.replace("_", " ") for checks in CHECKS.values() for check in checks} == failed


# what everything shares


def _seed() -> None:
    import torch

    torch.manual_seed(0)


def _threads() -> None:
    import torch

    torch.set_num_threads(torch.get_num_threads() + 1)


def _dtype() -> None:
    import torch

    torch.set_default_dtype(torch.float64)


DEEDS: Mapping[str, tuple[Callable[[], Any], str]] = {
    "environment": (lambda: os.environ.update(AFFECTKIT_TOUCHED="1"), "changes the environment variables (AFFECTKIT_TOUCHED)"),
    "path": (lambda: sys.path.append("/elsewhere"), "changes sys.path (added ['/elsewhere'"),
    "threads": (_threads, "changes the settings of torch (number of threads)"),
    "warnings": (lambda: warnings.simplefilter("ignore"), "changes the warnings filters"),
    "logging": (lambda: logging.getLogger().addHandler(logging.NullHandler()), "changes the handlers or the level of the root logger"),
    "signals": (lambda: signal.signal(signal.SIGUSR1, lambda *_: None), "changes the signal handlers"),
    "numpy": (lambda: np.seterr(divide="raise"), "changes numpy's handling of errors (divide); use numpy.errstate()"),
    "timeout": (lambda: socket.setdefaulttimeout(5.0), "changes the default timeout of sockets (None before, 5.0 after)"),
    "hook": (lambda: setattr(sys, "excepthook", lambda *_: None), "changes sys.excepthook"),
}


@pytest.mark.parametrize("name", DEEDS)
@pytest.mark.parametrize("stage", ["loading it", "computing"])
def test_what_everything_shares_is_left_alone(name: str, stage: str) -> None:
    deed, told = DEEDS[name]

    class Meddling(Loud):
        def load(self, device, dtype) -> None:
            super().load(device, dtype)
            if stage == "loading it":
                deed()

        def predict(self, batch: Mapping) -> Output:
            if stage == "computing":
                deed()
            return super().predict(batch)

    outcome = outcome_of("nothing global", Meddling)
    assert outcome.state == "broken"
    assert f"{stage} {told}" in outcome.reason
    assert "AFFECTKIT_TOUCHED" not in os.environ
    assert "/elsewhere" not in sys.path
    assert np.geterr()["divide"] != "raise"
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize(
    ("deed", "told"),
    [
        (_seed, "computing changes the state of torch, which everything in the process shares"),
        (lambda: np.random.seed(0), "computing changes the state of numpy.random"),
        (lambda: random.seed(0), "computing changes the state of random"),
        (lambda: Path("log.txt").write_text("x"), "computing writes into the working directory (log.txt)"),
        (lambda: os.chdir("/"), "computing changes the working directory ("),
        (_dtype, "computing changes the settings of torch (default dtype)"),
    ],
    ids=["torch", "numpy", "random", "file", "folder", "dtype"],
)
def test_computing_leaves_no_trace(deed: Callable[[], Any], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    class Tracing(Loud):
        def predict(self, batch: Mapping) -> Output:
            output = super().predict(batch)
            deed()
            return output

    here = os.getcwd()
    outcome = outcome_of("nothing global", Tracing)
    assert outcome.state == "broken"
    assert told in outcome.reason
    assert os.getcwd() == here


def test_seeding_while_loading_is_told() -> None:
    class Seeding(Loud):
        def load(self, device, dtype) -> None:
            super().load(device, dtype)
            _seed()

    outcome = outcome_of("nothing global", Seeding)
    assert "load seeds torch, which everything in the process shares" in outcome.reason


# what cannot be checked is not passed


class Needy(Loud):
    needs = Needs(inputs=(Input("ambrosia"),))


class Absent(Loud):
    checkpoints: ClassVar = {"main": Checkpoint("https://example.invalid/x.safetensors", sha256="0" * 64, licence="MIT", source="x.py")}


class Deaf(Loud):
    def preprocess(self, clip: Clip) -> None:
        return None


class Windowed(Loud):
    """Keeps a tensor for preprocess, and looks at numbers in predict, which the device meta has none of."""

    def load(self, device, dtype) -> None:
        import torch

        super().load(device, dtype)
        self.window = torch.ones(4)

    def predict(self, batch: Mapping) -> Output:
        assert float(batch["x"].max()) < 2
        return super().predict(batch)


class Requiring(Loud):
    requires = ("package_that_is_not_there",)


class Unseeing(Bright):
    def find(self, image: np.ndarray) -> Evidence:
        return Evidence.none("faces", "no face")


@pytest.mark.parametrize(
    ("cls", "check", "told"),
    [
        (
            Needy,
            "answers",
            "it needs the input 'ambrosia', which cannot be made here (no provider of it is installed); give clips that carry it",
        ),
        (Absent, "loads", "the weights x.safetensors are not here"),
        (Absent, "values in range", "Get them with 'affectkit weights fetch acme/part'"),
        pytest.param(
            Windowed,
            "device moved",
            "self.window is not on the device of load, which is right where only preprocess uses it",
            marks=pytest.mark.skipif("__import__('torch').cuda.is_available()", reason="a GPU can tell"),
        ),
        (Requiring, "loads", "acme/part needs the package package_that_is_not_there, which is not installed"),
        (Deaf, "rows sum to one", "none of the clips that were made from its needs is evidence to it"),
        (Stubborn, "rows sum to one", "it cannot be loaded: load raised RuntimeError: no luck"),
        (Raising, "rows sum to one", "it does not answer: predict raised ZeroDivisionError"),
        (Unseeing, "well formed", "it found nothing in the clips that were made for it (no face); give clips in which it does"),
    ],
)
def test_what_cannot_be_checked_is_told(cls: type[Component], check: str, told: str) -> None:
    outcome = outcome_of(check, cls, id="acme/part")
    assert outcome.state == "unchecked"
    assert told in outcome.reason


def test_weights_of_the_own_package_must_be_in_it() -> None:
    package = Loud.__module__.partition(".")[0]

    class Unpacked(Loud):
        checkpoints: ClassVar = {"main": Checkpoint(f"package:{package}/weights/x.safetensors", licence="MIT", source="x.py")}

    outcome = outcome_of("loads", Unpacked)
    assert outcome.state == "broken"
    assert "the weights of its own package are not in it" in outcome.reason
