"""Plugins as distributions that are installed into a folder of a test."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

from affectkit import plugins

GOOD = """
    '''A plugin that works.'''
    from dataclasses import dataclass
    from affectkit.api import BASIC8, Audio, Modality, Needs, Output, hookimpl

    @dataclass(frozen=True)
    class LoudOptions:
        gain: float = 2.0

    class Loud(Modality):
        '''Says how loud it is.'''
        name = "loud"
        labels = BASIC8
        needs = Needs(audio=Audio(rate=8000))
        Options = LoudOptions
        def preprocess(self, clip): return None
        def predict(self, batch): return Output({})

    class Quiet(Loud):
        name = "quiet"

    @hookimpl
    def affectkit_modalities():
        return [Quiet, Loud]
"""

PREAMBLE = """
from dataclasses import dataclass, make_dataclass
from functools import cached_property
from pathlib import Path
from affectkit.api import *
from affectkit.api import hookimpl

class Face(Modality):
    name = "face"
    labels = BASIC8
    def preprocess(self, clip): return None
    def predict(self, batch): return Output({})

class Boxes(Provider):
    name = "boxes"
    kind = "faces"
    scope = "frame"
    def provide(self, clips): return []

class Mix(Fusion):
    name = "mix"
    def fuse(self, sources): return Output({})

class Compound(Head):
    name = "compound"
    def convert(self, fused, sources): return Output({})

class Challenge(Submitter):
    name = "challenge"
    labels = BASIC8
    def read_template(self, template): return Asked((), ())
    def write(self, asked, answers, out): pass
    def check(self, file, template): return []

"""


class Site:
    """A folder on ``sys.path`` that distributions are installed into."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(
        self,
        distribution: str,
        source: str = GOOD,
        *,
        plugin: str | None = None,
        version: str = "1.0",
        requires: tuple[str, ...] = (),
        points: str | None = None,
        preamble: str = "",
    ) -> None:
        """Writes the module of a plugin and the metadata that pip would write."""
        module = distribution.replace("-", "_")
        name = plugin or distribution
        (self.folder / f"{module}.py").write_text(preamble + dedent(source))
        info = self.folder / f"{module}-{version}.dist-info"
        info.mkdir()
        lines = ["Metadata-Version: 2.4", f"Name: {distribution}", f"Version: {version}", "Summary: A test", "License-Expression: MIT"]
        (info / "METADATA").write_text("\n".join([*lines, *(f"Requires-Dist: {text}" for text in requires)]) + "\n")
        (info / "entry_points.txt").write_text(points if points is not None else f"[affectkit]\n{name} = {module}\n")


def failure_of(site: Site, source: str, **how: object) -> plugins.PluginFailure:
    """What the record says of one plugin with this source beside a good one, which must not notice."""
    site.install("bad", source, **how)  # type: ignore[arg-type]
    site.install("good")
    registry = plugins.load(only=["bad", "good"])
    assert [entry.id for entry in registry.entries() if entry.plugin == "good"] == ["good/loud", "good/quiet"]
    assert registry.plugin("bad").state == "broken"
    assert not [entry for entry in registry.entries() if entry.plugin == "bad"]
    assert not registry.manager.has_plugin("bad")
    (failure,) = [failure for failure in registry.failures if failure.name == "bad"]
    return failure
