"""Weights: where they are found, what is refused, how they are downloaded. Downloads come from a server of our own."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from affectkit import checkpoints
from affectkit.checkpoints import resolve
from affectkit.components import Component
from affectkit.errors import CheckpointError, PluginError
from affectkit.needs import Checkpoint

CONTENT = b"weights " * 100_000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, and no leave to use any other."""
    for name in ("AFFECTKIT_OFFLINE", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_HOME", "HF_ENDPOINT", "HF_TOKEN", "AFFECTKIT_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Handler(BaseHTTPRequestHandler):
    """``/short`` breaks off, ``/quiet`` names no length, ``/moved`` redirects, ``/secret`` wants a token, ``/gone`` is not there."""

    seen: list[tuple[str, str | None]] = []  # noqa: RUF012  # replaced for each server

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers.get("Authorization")))
        if "gone" in self.path or "secret" in self.path:
            return self.send_error(404 if "gone" in self.path else 401)
        self.send_response(302 if "moved" in self.path else 200)
        if "moved" in self.path:
            self.send_header("Location", "/weights.bin")
            return self.end_headers()
        if "quiet" not in self.path:
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: 1000 if "short" in self.path else None])
        return None

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@dataclass
class Server:
    url: str
    seen: list[tuple[str, str | None]]

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.seen]


@pytest.fixture
def server() -> Iterator[Server]:
    handler = type("OwnHandler", (Handler,), {"seen": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield Server(f"http://127.0.0.1:{http.server_address[1]}", handler.seen)
        http.shutdown()
        thread.join()


def refused(checkpoint: Checkpoint, **kwargs: Any) -> str:
    with pytest.raises(CheckpointError) as error:
        resolve(checkpoint, **kwargs)
    return str(error.value)


# --- files that are here


def test_a_path(tmp_path, monkeypatch):
    path = tmp_path / "a b.safetensors"
    path.write_bytes(CONTENT)
    monkeypatch.setenv("HOME", str(tmp_path))
    for uri in (str(path), f"file:{path}", "~/a b.safetensors"):
        assert resolve(Checkpoint(uri)) == path
        assert resolve(Checkpoint(uri, sha256=DIGEST)) == path
        assert checkpoints.local(Checkpoint(uri)) == path


def test_an_absent_path(tmp_path):
    path = tmp_path / "gone.safetensors"
    assert refused(Checkpoint(str(path)), owner="core/mhpf", option="weights", fetch=True) == (
        f"core/mhpf: the weights gone.safetensors are not here (looked for {path}). "
        "Give the right file with --set components.core/mhpf.weights=/path/to/gone.safetensors"
    )
    assert checkpoints.local(Checkpoint(str(path))) is None


def test_weights_that_nobody_publishes():
    found = refused(
        Checkpoint("head.safetensors", source="affectkit train ras/audio"), owner="ras/audio", tag="head", option="head", fetch=True
    )
    assert found == (
        "ras/audio: the weights head.safetensors are not here (looked for head.safetensors). Nobody publishes them. Make them with "
        "'affectkit train ras/audio', and give the file with --set components.ras/audio.head=/path/to/head.safetensors"
    )


def test_a_file_with_another_digest(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"something else")
    found = hashlib.sha256(b"something else").hexdigest()
    message = refused(Checkpoint(str(path), sha256=DIGEST), owner="mini/audio")
    assert f"mini/audio: {path} is damaged or another version: its sha256 is {found}, expected {DIGEST}" in message


def test_a_file_inside_a_package_is_found_without_running_the_package(tmp_path, monkeypatch):
    package = tmp_path / "some_package"
    (package / "weights").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "weights" / "a.safetensors").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(tmp_path)
    assert resolve(Checkpoint("package:some_package/weights/a.safetensors", DIGEST)) == package / "weights" / "a.safetensors"
    assert "some_package" not in sys.modules
    message = refused(Checkpoint("package:some_package/weights/b.safetensors"), owner="some/audio", option="checkpoint", fetch=True)
    assert message == (
        f"some/audio: the weights b.safetensors are not here (looked for {package / 'weights' / 'b.safetensors'}). "
        "They are part of an installed package; install the plugin again"
    )
    lost = Checkpoint("package:some_package/weights/b.safetensors", source="affectkit train some/audio")
    with pytest.raises(CheckpointError) as caught:
        resolve(lost, owner="some/audio", tag="default")
    assert caught.value.wanted is None  # a report on several does not say either that nobody publishes what a package should hold


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("package:no_such_package/weights/a.safetensors", "the package no_such_package is not installed, which holds the weights"),
        ("package:affectkit", "names no file in a package; write package:"),
        ("package:../x/y", "names no file in a package; write package:"),
        ("hf:name", "names nothing on Hugging Face; write hf:organisation/name@revision/file, or hf:organisation/name@revision"),
        ("hf:org/name@main/../../x", "names nothing on Hugging Face"),
        ("hf:../..", "names nothing on Hugging Face"),
        ("ftp://example.org/a.pt", "weights come from package:, https://, hf: or a path"),
        ("http://example.org/a.pt", "is not encrypted and its digest is not known; give its sha256, or use https"),
    ],
)
def test_uris_that_cannot_be(uri, message):
    assert message in refused(Checkpoint(uri))


def test_other_places(cache):
    url = "https://example.org/models/tiny.pt"
    (cache / "whisper").mkdir(parents=True)
    elsewhere = cache / "whisper" / "tiny.pt"
    elsewhere.write_bytes(CONTENT)
    assert resolve(Checkpoint(url, DIGEST, also=("~/.cache/whisper/tiny.pt",))) == elsewhere
    assert "looked for" in refused(Checkpoint(url, DIGEST))


def test_a_damaged_copy_is_passed_over_for_a_good_one(cache):
    bad, good = cache / "bad.pt", cache / "good.pt"
    cache.mkdir()
    bad.write_bytes(b"half")
    good.write_bytes(CONTENT)
    checkpoint = Checkpoint("https://example.org/a.pt", DIGEST, also=(str(bad), str(good)))
    assert resolve(checkpoint) == good
    good.unlink()
    assert f"{bad} is damaged or another version" in refused(checkpoint)


def test_absent_weights_name_the_file_the_places_and_the_command(cache):
    message = refused(Checkpoint("https://example.org/models/tiny.pt", DIGEST), owner="core/whisper", option="checkpoint")
    assert message == (
        f"core/whisper: the weights tiny.pt are not here (looked for {cache / 'affectkit' / DIGEST[:16] / 'tiny.pt'}). "
        "Get them with 'affectkit weights fetch core/whisper', or give a local file: "
        "--set components.core/whisper.checkpoint=/path/to/tiny.pt"
    )


def test_the_digest_is_computed_once_and_again_when_the_file_changes(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(CONTENT)
    assert checkpoints.sha256(path) == DIGEST
    hits = checkpoints._digest.cache_info().hits
    assert checkpoints.sha256(path) == DIGEST
    assert checkpoints._digest.cache_info().hits == hits + 1
    path.write_bytes(CONTENT[:-1])
    assert checkpoints.sha256(path) != DIGEST
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        checkpoints.sha256(tmp_path / "b")


def test_record(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(CONTENT)
    checkpoint = Checkpoint(str(path), DIGEST, licence="MIT", source="trained here")
    assert checkpoints.record(checkpoint, path) == {
        "uri": str(path),
        "file": "a",
        "sha256": DIGEST,
        "licence": "MIT",
        "source": "trained here",
        "bytes": len(CONTENT),
    }


def test_a_folder_is_one_checkpoint(tmp_path):
    folder = tmp_path / "model"
    (folder / "inside").mkdir(parents=True)
    (folder / "config.json").write_bytes(b"{}")
    (folder / "inside" / "a.bin").write_bytes(CONTENT)
    checkpoint = Checkpoint(str(folder))
    assert checkpoints.local(checkpoint) == resolve(checkpoint) == folder
    before = checkpoints.record(checkpoint, folder)
    assert (before["file"], before["bytes"]) == ("model", len(CONTENT) + 2)
    assert resolve(Checkpoint(str(folder), before["sha256"])) == folder
    (folder / "inside" / "a.bin").rename(folder / "a.bin")
    assert checkpoints.sha256(folder) != before["sha256"]  # names count
    assert "model is damaged or another version" in refused(Checkpoint(str(folder), before["sha256"]))


# --- downloads


def test_nothing_is_downloaded_unless_told_to(server, cache):
    checkpoint = Checkpoint(f"{server.url}/weights.bin", DIGEST)
    refused(checkpoint)
    assert server.paths == []
    told: list[tuple[int, int | None]] = []
    path = resolve(checkpoint, fetch=True, progress=lambda done, total: told.append((done, total)))
    assert path == cache / "affectkit" / DIGEST[:16] / "weights.bin"
    assert path.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert resolve(checkpoint) == resolve(checkpoint, fetch=True) == path
    assert server.paths == ["/weights.bin"]
    assert os.listdir(path.parent) == ["weights.bin"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_own_cache_folder_redirects_and_unknown_length(server, tmp_path, monkeypatch):
    monkeypatch.setenv("AFFECTKIT_CACHE", str(tmp_path / "own"))
    told: list[int | None] = []
    for name in ("moved", "quiet"):
        path = resolve(Checkpoint(f"{server.url}/{name}", DIGEST), fetch=True, progress=lambda done, total: told.append(total))
        assert path == tmp_path / "own" / DIGEST[:16] / name
    assert None in told


def test_a_damaged_copy_is_downloaded_again(server, cache):
    path = cache / "affectkit" / DIGEST[:16] / "weights.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half")
    checkpoint = Checkpoint(f"{server.url}/weights.bin", DIGEST)
    assert "Get them with 'affectkit weights fetch mini/audio'" in refused(checkpoint, owner="mini/audio")
    assert resolve(checkpoint, fetch=True).read_bytes() == CONTENT


def test_offline(server, monkeypatch):
    monkeypatch.setenv("AFFECTKIT_OFFLINE", "1")
    message = refused(Checkpoint(f"{server.url}/weights.bin", DIGEST), fetch=True)
    assert (
        "--offline or AFFECTKIT_OFFLINE forbids downloads, so weights.bin is not downloaded. By hand: download http://127.0.0.1" in message
    )
    assert server.paths == []


def test_absent_weights_offline_say_where_to_put_them(cache, monkeypatch):
    monkeypatch.setenv("AFFECTKIT_OFFLINE", "1")
    message = refused(Checkpoint("https://example.org/models/tiny.pt", DIGEST), owner="core/whisper")
    target = cache / "affectkit" / DIGEST[:16] / "tiny.pt"
    assert message.endswith(
        "Get them with 'affectkit weights fetch core/whisper' where there is a network and downloads are allowed, "
        f"or put https://example.org/models/tiny.pt at {target}"
    )


def test_a_download_with_another_digest_is_not_kept(server, cache):
    message = refused(Checkpoint(f"{server.url}/weights.bin", "0" * 64), fetch=True, owner="a/b")
    assert f"a/b: what came from {server.url}/weights.bin is not weights.bin: its sha256 is {DIGEST}, expected {'0' * 64}" in message
    assert "Nothing was kept" in message
    assert f"put it at {cache / 'affectkit' / ('0' * 16) / 'weights.bin'}" in message
    assert os.listdir(cache / "affectkit" / ("0" * 16)) == []


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("gone.bin", "could not be downloaded: {url}/gone.bin answered 404 Not Found. By hand: download {url}/gone.bin and put it at"),
        ("short.bin", "the connection ended after 1000 of 800000 bytes. Try again. By hand"),
    ],
)
def test_failed_downloads_leave_nothing(server, cache, path, message):
    assert message.format(url=server.url) in refused(Checkpoint(f"{server.url}/{path}", DIGEST), fetch=True)
    assert os.listdir(cache / "affectkit" / DIGEST[:16]) == []


def test_no_server():
    message = refused(Checkpoint("http://127.0.0.1:9/weights.bin", DIGEST), fetch=True)
    assert "weights.bin could not be downloaded: " in message
    assert "refused" in message
    assert "By hand: download http://127.0.0.1:9/weights.bin and put it at" in message


def test_an_interrupted_download_leaves_nothing(server, cache):
    def interrupt(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resolve(Checkpoint(f"{server.url}/weights.bin", DIGEST), fetch=True, progress=interrupt)
    assert os.listdir(cache / "affectkit" / DIGEST[:16]) == []


def test_a_cache_that_cannot_be_written(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AFFECTKIT_CACHE", str(tmp_path / "file"))
    message = refused(Checkpoint(f"{server.url}/weights.bin", DIGEST), fetch=True)
    assert "weights.bin cannot be written: " in message
    assert message.endswith("nothing was kept")


def test_no_space_left(server, cache, monkeypatch):
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        message = refused(Checkpoint(f"{server.url}/weights.bin", DIGEST), fetch=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert "cannot be written: File too large; nothing was kept" in message
    assert os.listdir(cache / "affectkit" / DIGEST[:16]) == []


# --- Hugging Face


def test_hugging_face(server, cache, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", "secret")
    checkpoint = Checkpoint("hf:org/name@v1/sub/model.safetensors", DIGEST)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE is set, so model.safetensors is not downloaded" in refused(checkpoint, fetch=True)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    path = resolve(checkpoint, fetch=True)
    assert path == cache / "affectkit" / "hf" / "org" / "name" / "v1" / "sub" / "model.safetensors"
    assert server.seen == [("/org/name/resolve/v1/sub/model.safetensors", None)]  # the token is for huggingface.co alone


def test_what_the_hugging_face_libraries_have_downloaded_is_found(cache):
    snapshots = cache / "huggingface" / "hub" / "models--org--name" / "snapshots"
    file = snapshots / "abc123" / "sub" / "model.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    refs = snapshots.parent / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc123")
    for uri in ("hf:org/name/sub/model.safetensors", "hf:org/name@main/sub/model.safetensors", "hf:org/name@abc123/sub/model.safetensors"):
        assert resolve(Checkpoint(uri, DIGEST)) == file
    assert "looked for" in refused(Checkpoint("hf:org/name@other/sub/model.safetensors", DIGEST))


def test_the_layout_is_that_of_huggingface_hub(cache):
    hub = pytest.importorskip("huggingface_hub")
    file = cache / "hub" / "models--org--name" / "snapshots" / ("a" * 40) / "x.bin"
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    (cache / "hub" / "models--org--name" / "refs").mkdir()
    (cache / "hub" / "models--org--name" / "refs" / "main").write_text("a" * 40)
    assert hub.try_to_load_from_cache("org/name", "x.bin", cache_dir=cache / "hub") == str(file)


# --- what a component asks for


@dataclass(frozen=True)
class Options:
    checkpoint: str = "small"


class Model(Component):
    name = "model"
    Options = Options
    checkpoints = {"small": Checkpoint("https://example.org/small.pt", DIGEST), "large": Checkpoint("https://example.org/large.pt", DIGEST)}  # noqa: RUF012


def test_the_weights_of_a_component(tmp_path):
    model = Model()
    model.id = "plug/model"
    assert list(model.used_checkpoints()) == ["small"]
    with pytest.raises(
        CheckpointError,
        match=r"plug/model: the weights small\.pt .* fetch plug/model:small.* --set components\.plug/model\.checkpoint=/path/to/small\.pt",
    ):
        model.weights()
    path = tmp_path / "mine.pt"
    path.write_bytes(CONTENT)
    assert Model(Options(str(path))).weights() == path
    with pytest.raises(CheckpointError, match=r"model has no checkpoint 'smal', and there is no file of that name\. Did you mean small\?"):
        Model(Options("smal")).weights()


def test_a_component_with_several_checkpoints_must_choose():
    class Plain(Component):
        name = "plain"
        checkpoints = Model.checkpoints

    with pytest.raises(PluginError, match=r"plain uses 2 checkpoints; resolve them one by one with affectkit\.checkpoints\.resolve"):
        Plain().weights()


def test_neither_recipes_nor_weights_import_heavy_packages():
    names = "affectkit.config, affectkit.checkpoints, affectkit.builtin.whisper, affectkit.builtin.descriptions, affectkit.cli.weights"
    heavy = ("torch", "mmengine", "pandas", "whisper", "safetensors", "huggingface_hub", "av", "cv2", "rich", "urllib.request")
    code = f"import sys, {names}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_component_of_several_takes_paths_by_tag(tmp_path):
    @dataclass(frozen=True)
    class Paths:
        large: str | None = None
        small: int = 3  # an option of its own that only shares the name

    class Two(Model):
        Options = Paths

    path = tmp_path / "own.pt"
    used = Two(Paths(large=str(path))).used_checkpoints()
    assert used["small"] == Model.checkpoints["small"]
    assert (used["large"].uri, used["large"].sha256) == (str(path), None)
    assert Two().used_checkpoints() == Model.checkpoints


def test_a_component_without_random_weights_says_what_to_do(tmp_path):
    with pytest.raises(CheckpointError, match="model has no random weights to try it with: its plugin does not write any"):
        Model().write_random("small", tmp_path)
