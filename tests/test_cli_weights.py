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

from affectkit.cli import cli

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
    for name in ("AFFECTKIT_OFFLINE", "AFFECTKIT_PLUGINS_DIR", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
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
                    tag: Checkpoint(f"{url}/{{tag}}.pt", "{DIGEST}", licence="MIT", source="a paper") for tag in ("small", "large", "gone")
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
    rows = [line.split("  ") for line in result.stdout.splitlines()]
    assert [[cell.strip() for cell in row if cell.strip()] for row in rows] == [
        ["ears/fixed:here", "local.pt", "7.0 kB", "CC0-1.0", "here"],
        [
            "ears/fixed:there",
            "a.pt",
            "-",
            "unknown",
            "the package no_such_package is not installed, which holds the weights a.pt; install it with pip",
        ],
        ["ears/fixed:free", "local.pt", "7.0 kB", "unknown", "here"],
        ["ears/model:small*", "small.pt", "-", "MIT", "not here"],
        ["ears/model:large", "large.pt", "-", "MIT", "not here"],
        ["ears/model:gone", "gone.pt", "-", "MIT", "not here"],
    ]
    [told] = json.loads(weights(plugins, "list", "--json", "ears/fixed:here").stdout)
    assert told["path"] == str(tmp_path / "local.pt")
    assert told["sha256"] == DIGEST
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


def test_offline(plugins, monkeypatch):
    monkeypatch.setenv("AFFECTKIT_OFFLINE", "1")
    result = weights(plugins, "fetch", "ears/model")
    assert result.exit_code == 2
    assert "AFFECTKIT_OFFLINE is set, so small.pt is not downloaded" in result.stderr


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
    (tmp_path / "cache" / DIGEST[:16] / "small.pt").write_bytes(b"half")
    result = weights(plugins, "verify", "ears/model")
    assert result.exit_code == 2
    assert result.stdout == "ears/model:small  damaged\n"
    assert "small.pt is damaged or another version" in result.stderr
    assert "affectkit weights fetch ears/model:small" in result.stderr
    assert "None of these weights is here." in weights(plugins, "verify", "ears/bare").stderr
