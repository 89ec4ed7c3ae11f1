"""``affectkit weights``, with a plugin whose weights lie on a server of our own."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from textwrap import dedent

import pytest
from click.testing import CliRunner, Result

from affectkit.caches import OFFLINE
from affectkit.cli import cli
from affectkit.weight_files import RANDOM

CONTENT = b"weights" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture(autouse=True)
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the plugin ``ears``; its weights small and large are served, gone is not, and local is a file."""
    served = tmp_path / "served"
    served.mkdir()
    for tag in ("small", "large"):
        (served / f"{tag}.pt").write_bytes(CONTENT)
    (tmp_path / "local.pt").write_bytes(CONTENT)
    for name in (*OFFLINE, "AFFECTKIT_PLUGINS_DIR", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AFFECTKIT_CACHE", str(tmp_path / "cache"))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(served))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        folder = tmp_path / "plugins"
        folder.mkdir()
        (folder / "ears.py").write_text(
            dedent(f"""
            from dataclasses import dataclass
            from affectkit.api import Checkpoint, Provider, hookimpl

            @dataclass(frozen=True)
            class Choice:
                checkpoint: str = "small"

            class Model(Provider):
                name, kind, scope, Options = "model", "noise", "window", Choice
                checkpoints = {{
                    tag: Checkpoint(f"{url}/{{tag}}.pt", "{DIGEST}", licence="MIT", source="a paper", size=7000) for tag in ("small", "large", "gone")
                }}
                def provide(self, clips): return []

            @dataclass(frozen=True)
            class Size:
                size: int

            class Fixed(Model):
                name, Options = "fixed", Size
                checkpoints = {{
                    "here": Checkpoint({str(tmp_path / "local.pt")!r}, "{DIGEST}", licence="CC0-1.0"),
                    "there": Checkpoint("package:no_such_package/a.pt"),
                    "free": Checkpoint({str(tmp_path / "local.pt")!r}),
                }}

            class Bare(Model):
                name, Options, checkpoints = "bare", Provider.Options, {{}}

            @hookimpl
            def affectkit_providers(): return [Model, Fixed, Bare]
            """)
        )
        yield folder
        server.shutdown()
        thread.join()


def weights(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["--plugins-dir", str(folder), "weights", *arguments])


def test_list(plugins, tmp_path):
    result = weights(plugins, "list", "ears")
    assert result.exit_code == 0
    rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in result.stdout.splitlines()]
    assert rows == [
        ["weights", "size", "state", "sha256", "licence", "from"],
        ["ears/fixed:here", "7.0 kB", "here", DIGEST[:8], "CC0-1.0", "a file"],
        ["ears/fixed:there", "-", "unusable", "-", "unknown", "no_such_package"],
        ["ears/fixed:free", "7.0 kB", "here", "-", "unknown", "a file"],
        ["ears/model:small*", "7.0 kB", "not here", DIGEST[:8], "MIT", rows[4][-1]],
        ["ears/model:large", "7.0 kB", "not here", DIGEST[:8], "MIT", rows[4][-1]],
        ["ears/model:gone", "7.0 kB", "not here", DIGEST[:8], "MIT", rows[4][-1]],
    ]
    assert rows[4][-1].startswith("127.0.0.1:")
    assert (
        "ears/fixed:there: the package no_such_package is not installed, which holds the weights a.pt; install it with pip" in result.stderr
    )
    [told] = json.loads(weights(plugins, "list", "--json", "ears/fixed:here").stdout)
    assert told == {
        "name": "ears/fixed:here",
        "component": "ears/fixed",
        "tag": "here",
        "default": False,
        "file": "local.pt",
        "size": len(CONTENT),
        "licence": "CC0-1.0",
        "commercial": True,
        "state": "here",
        "problem": None,
        "path": str(tmp_path / "local.pt"),
        "looked_for": [str(tmp_path / "local.pt")],
        "uri": str(tmp_path / "local.pt"),
        "sha256": DIGEST,
        "source": "",
    }
    assert "No component has weights of its own." in weights(plugins, "list", "ears/bare").stderr
    assert "ears/model:small*" in weights(plugins, "list").stdout


def test_fetch_gets_what_the_component_uses(plugins, tmp_path):
    result = weights(plugins, "fetch", "ears/model")
    assert result.exit_code == 0, result.output
    path = tmp_path / "cache" / DIGEST[:16] / "small.pt"
    assert result.stdout == f"ears/model:small: downloaded (7.0 kB): {path}\n  licence MIT, a paper\n"
    assert path.read_bytes() == CONTENT
    assert weights(plugins, "fetch", "ears/model").stdout.startswith(f"ears/model:small: is here: {path}")
    assert not (tmp_path / "cache" / DIGEST[:16] / "large.pt").exists()
    assert "nothing to fetch" in weights(plugins, "fetch", "ears/bare").stdout


def test_fetch_by_tag_and_all(plugins, tmp_path):
    assert weights(plugins, "fetch", "ears/model:large").exit_code == 0
    assert (tmp_path / "cache" / DIGEST[:16] / "large.pt").exists()
    result = weights(plugins, "fetch", "--all", "ears/model")
    assert result.exit_code == 2
    assert "ears/model:small: downloaded" in result.stdout  # what could be had is had
    assert "Error: ears/model: gone.pt could not be downloaded: " in result.stderr
    assert "answered 404 File not found. By hand: download " in result.stderr


@pytest.mark.parametrize("arguments", [("fetch", "--offline", "ears/model"), ("fetch", "ears/model", "--offline")])
def test_offline_after_the_command(plugins, tmp_path, arguments):
    result = weights(plugins, *arguments)
    assert result.exit_code == 2
    assert (
        "ears/model: --offline or AFFECTKIT_OFFLINE forbids downloads, so small.pt is not downloaded. By hand: download http"
        in result.stderr
    )
    assert not (tmp_path / "cache").exists()
    assert weights(plugins, "fetch", "ears/model").exit_code == 0  # it held for that call only


def test_offline_before_the_command_and_by_variable(plugins, monkeypatch):
    refused = CliRunner().invoke(cli, ["--offline", "--plugins-dir", str(plugins), "weights", "fetch", "ears/model"])
    assert "forbids downloads" in refused.stderr
    monkeypatch.setenv("AFFECTKIT_OFFLINE", "1")
    assert "forbids downloads" in weights(plugins, "fetch", "ears/model").stderr


def test_a_list_fits_into_a_hundred_columns():
    lines = CliRunner().invoke(cli, ["weights", "list"]).stdout.splitlines()
    assert lines
    assert max(map(len, lines)) <= 100


def test_what_a_recipe_names_is_listed_and_fetched(plugins, tmp_path):
    served = tmp_path / "served" / "own.pt"
    served.write_bytes(CONTENT)
    [told] = json.loads(weights(plugins, "list", "ears/model:small", "--json").stdout)
    url = told["uri"].replace("small.pt", "own.pt").replace("http://", "https://")
    (plugins / "own.yaml").write_text(f"modalities: [ears/none]\ncomponents: {{ears/model: {{checkpoint: '{url}'}}}}\n")
    with (plugins / "ears.py").open("a") as file:
        file.write("\n@hookimpl\ndef affectkit_recipes():\n    from pathlib import Path\n    return [Path(__file__).parent / 'own.yaml']\n")
    [told] = json.loads(weights(plugins, "list", "ears/model:ears/own", "--json").stdout)
    assert (told["name"], told["uri"], told["default"], told["state"]) == ("ears/model:ears/own", url, False, "not here")
    result = weights(plugins, "fetch", "ears/model:ears/own", "--offline")
    assert f"so own.pt is not downloaded. By hand: download {url}" in result.stderr


HEADS = """
@hookimpl
def affectkit_fusions():
    from affectkit.api import CheckpointError, ConfigError, Fusion
    from affectkit.missing import Wanted

    class Meeting(Fusion):
        name = "meeting"
        def check_given(self):
            raise ConfigError("not fitted", wanted=Wanted(self.id, "meeting.safetensors", make="affectkit train ears/meeting --data RUN"))
        def fuse(self, sources): ...

    class Voice(Fusion):
        name = "voice"
        def used_checkpoints(self):
            return {"head": Checkpoint("voice.safetensors", licence="of its data", source="affectkit train ears/voice --data RUN")}
        def fuse(self, sources): ...

    return [Meeting, Voice]

@hookimpl
def affectkit_recipes():
    from pathlib import Path
    return [Path(__file__).parent / "own.yaml"]
"""
TOLD = """To train, since nobody publishes them:
  affectkit train ears/meeting --data RUN
    ears/meeting:trained  meeting.safetensors
  affectkit train ears/voice --data RUN
    ears/voice:head  voice.safetensors
  affectkit train fusion --predictions RUN --labels FILE --out .
    core/mhpf:ears/own  fusion_mhpf.safetensors
"""


def test_what_nobody_publishes_is_listed_with_what_makes_it(plugins, tmp_path, monkeypatch):
    """Heads that a component looks for, fusions that must be given one, and what a recipe of the plugin lacks for components of others."""
    monkeypatch.chdir(tmp_path)
    (plugins / "own.yaml").write_text("modalities: [ears/none]\nfusion: core/mhpf\n")
    with (plugins / "ears.py").open("a") as file:
        file.write(HEADS)
    listed = weights(plugins, "list", "ears")
    assert listed.stdout.endswith(TOLD)
    told = {item["name"]: item for item in json.loads(weights(plugins, "list", "ears", "--json").stdout)}
    assert {name: told[name]["default"] for name in ("ears/meeting:trained", "ears/voice:head", "core/mhpf:ears/own")} == {
        "ears/meeting:trained": False,
        "ears/voice:head": True,
        "core/mhpf:ears/own": True,
    }
    assert [told[name]["state"] for name in ("ears/meeting:trained", "ears/voice:head", "core/mhpf:ears/own")] == ["to train"] * 3
    assert (told["ears/voice:head"]["looked_for"], told["ears/meeting:trained"]["looked_for"]) == (["voice.safetensors"], [])
    fetched = weights(plugins, "fetch", "ears")
    assert fetched.exit_code == 0, fetched.output
    assert "ears/model:small: downloaded" in fetched.stdout
    assert "ears/voice:head: nobody publishes it. This makes it: affectkit train ears/voice --data RUN\n" in fetched.stdout
    assert (
        "core/mhpf:ears/own: nobody publishes it. This makes it: affectkit train fusion --predictions RUN --labels FILE --out .\n"
        in fetched.stdout
    )
    assert "ears/meeting" not in fetched.stdout  # nothing uses it unless told so
    (tmp_path / "voice.safetensors").write_bytes(CONTENT)
    (tmp_path / "meeting.safetensors").write_bytes(CONTENT)
    states = {item["name"]: item["state"] for item in json.loads(weights(plugins, "list", "ears", "--json").stdout)}
    assert (states["ears/voice:head"], states["ears/meeting:trained"]) == ("here", "to train")  # the latter is given, not looked for
    assert "ears/voice:head: is here: voice.safetensors" in weights(plugins, "fetch", "ears/voice").stdout
    assert [line.split()[0] for line in weights(plugins, "verify", "ears/voice", "ears/meeting").stdout.splitlines()] == ["ears/voice:head"]


def test_unknown_names_are_reported_together(plugins):
    result = weights(plugins, "fetch", "ears/modl", "ers", "ears/model:smal")
    assert result.exit_code == 2
    for message in (
        "there is no component 'ears/modl'. Did you mean ears/model?",
        "no plugin is called 'ers'. Did you mean ears?",
        "ears/model has no checkpoint 'smal'. Did you mean small?",
    ):
        assert message in result.stderr


def test_a_plugin_that_cannot_be_used(plugins):
    (plugins / "torn.py").write_text("import no_such_package")
    result = weights(plugins, "fetch", "torn")
    assert result.exit_code == 2
    assert "plugin torn is broken; affectkit plugins show torn says why" in result.stderr


def test_verify(plugins, tmp_path):
    assert weights(plugins, "fetch", "ears/model").exit_code == 0
    result = weights(plugins, "verify", "ears/model", "ears/fixed:here", "ears/fixed:free")
    assert result.exit_code == 0
    assert [line.split()[:2] for line in result.stdout.splitlines()] == [
        ["ears/model:small", "ok"],
        ["ears/fixed:here", "ok"],
        ["ears/fixed:free", "no"],
    ]
    (tmp_path / "local.pt").write_text(RANDOM)
    assert weights(plugins, "verify", "ears/fixed:free").stdout.split()[:2] == ["ears/fixed:free", "random"]
    (tmp_path / "cache" / DIGEST[:16] / "small.pt").write_bytes(b"half")
    result = weights(plugins, "verify", "ears/model")
    assert result.exit_code == 2
    assert result.stdout == "ears/model:small  damaged\n"
    assert "small.pt is damaged or another version" in result.stderr
    assert "affectkit weights fetch ears/model:small" in result.stderr
    assert "None of these weights is here." in weights(plugins, "verify", "ears/bare").stderr
