"""Checkpoints that are folders of a Hugging Face repository. The hub is a server of our own."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from click.testing import CliRunner

from affectkit import checkpoints
from affectkit.checkpoints import resolve
from affectkit.cli import cli
from affectkit.components import Component
from affectkit.errors import CheckpointError
from affectkit.folders import lacking
from affectkit.needs import Checkpoint

FILES = {
    "config.json": b"{}",
    "model-00001-of-00002.safetensors": b"a" * 3000,
    "model-00002-of-00002.safetensors": b"b" * 2000,
    "model.safetensors.index.json": json.dumps(
        {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    ).encode(),
    "1_Pooling/a b.json": b"[]",
    "pytorch_model.bin": b"c" * 100_000,
    "../../escaped.json": b"x",
}
WANTED = Checkpoint("hf:org/name@v1", files=("config.json", "*.safetensors", "*.index.json"))


@dataclass
class Hub:
    url: str = ""
    files: dict[str, bytes] = field(default_factory=lambda: dict(FILES))
    listing: bytes | None = None
    short: str = ""  # the file that breaks off
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with one repository, org/name at v1, and a cache of the test's own."""
    for name in ("AFFECTKIT_OFFLINE", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_HOME", "HF_TOKEN", "AFFECTKIT_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = unquote(self.path)
            hub.asked.append(path)
            content = hub.files.get(path.removeprefix("/org/name/resolve/v1/"))
            if path == "/api/models/org/name/revision/v1":
                content = hub.listing or json.dumps({"siblings": [{"rfilename": name} for name in hub.files]}).encode()
            if content is None:
                return self.send_error(404)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[:10] if hub.short and path.endswith(hub.short) else content)
            return None

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        hub.url = f"http://127.0.0.1:{http.server_address[1]}"
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub
        http.shutdown()
        thread.join()


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def refused(checkpoint: Checkpoint, **kwargs: Any) -> str:
    with pytest.raises(CheckpointError) as error:
        resolve(checkpoint, **kwargs)
    return str(error.value)


def own(cache: Path) -> Path:
    """Where the folder of the hub's repository goes."""
    return cache / "affectkit" / "hf" / "org" / "name" / "v1"


def fill(folder: Path, *files: str) -> Path:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(FILES[name])
    return folder


# --- complete or not


def test_names_and_patterns(tmp_path):
    folder = fill(tmp_path / "model", "config.json", "1_Pooling/a b.json")
    assert lacking(folder, ()) == []
    assert lacking(folder, ("config.json", "*.json", "1_Pooling/*")) == []
    assert lacking(folder, ("*.safetensors", "config.json", "vocab.txt")) == ["*.safetensors", "vocab.txt"]
    assert lacking(tmp_path / "gone", ("config.json",)) == ["config.json"]


def test_all_pieces_of_a_model_that_are_wanted(tmp_path):
    folder = fill(tmp_path / "model", "config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json")
    assert lacking(folder, ("*.safetensors",)) == ["model-00002-of-00002.safetensors"]
    assert lacking(folder, ("config.json",)) == []
    for broken in (b"{", b"[]", b'{"weight_map": 3}', b"\xff"):
        (folder / "model.safetensors.index.json").write_bytes(broken)
        assert lacking(folder, ("*.safetensors",)) == []


def test_our_cache_then_other_places_then_that_of_hugging_face(cache, tmp_path):
    checkpoint = Checkpoint("hf:org/name@v1", files=("config.json", "*.bin"), also=(str(tmp_path / "else"),))
    snapshots = cache / "huggingface" / "hub" / "models--org--name" / "snapshots"
    (snapshots.parent / "refs").mkdir(parents=True)
    (snapshots.parent / "refs" / "v1").write_text("abc123")
    for folder in (snapshots / "abc123", tmp_path / "else", own(cache)):
        fill(folder, "config.json")
        assert checkpoints.local(checkpoint) != folder  # not complete
        fill(folder, "pytorch_model.bin")
        assert checkpoints.local(checkpoint) == resolve(checkpoint) == folder
        assert checkpoints.record(checkpoint, folder)["file"] == "name"  # and not the commit


def test_a_folder_that_lacks_files_says_which(cache):
    folder = fill(own(cache), "config.json")
    assert refused(WANTED, owner="ras/scene", tag="model", option="model") == (
        f"ras/scene: the weights name are not here (looked for {folder} and "
        f"{cache / 'huggingface' / 'hub' / 'models--org--name' / 'snapshots' / 'v1'}; {folder} is not complete, it lacks *.safetensors, "
        "*.index.json). Get them with 'affectkit weights fetch ras/scene:model', or give a local folder: "
        "--set components.ras/scene.model=/path/to/name"
    )
    assert checkpoints.local(WANTED) is None


def test_a_file_where_the_folder_should_be(cache):
    fill(own(cache).parent, "config.json")
    (own(cache).parent / "config.json").rename(own(cache))
    assert f"{own(cache)} is not complete, it lacks config.json" in refused(WANTED)


def test_folders_that_users_give(tmp_path):
    class Model(Component):
        name = "model"
        checkpoints = {"backbone": WANTED, "other": WANTED}  # noqa: RUF012

        @dataclass(frozen=True)
        class Options:
            backbone: str | None = None

    folder = fill(tmp_path / "mine", "pytorch_model.bin")
    used = Model(Model.Options(str(folder))).used_checkpoints()
    assert resolve(used["backbone"]) == folder  # what is in it is for the library to judge
    assert used["other"] == WANTED
    assert Model(Model.Options("hf:org/other")).used_checkpoints()["backbone"].files == WANTED.files


# --- downloads


def test_a_folder_is_fetched_as_a_whole(hub, cache):
    refused(WANTED)
    assert hub.asked == []
    told: list[tuple[int, int | None]] = []
    folder = resolve(WANTED, fetch=True, progress=lambda done, total: told.append((done, total)))
    assert folder == own(cache)
    assert names(folder) == {name for name in FILES if name.startswith("model") or name == "config.json"}
    assert all((folder / name).read_bytes() == FILES[name] for name in names(folder))
    assert os.listdir(folder.parent) == ["v1"]  # nothing temporary remains
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (sum(len(FILES[name]) for name in names(folder)), None)
    before = list(hub.asked)
    assert resolve(WANTED) == resolve(WANTED, fetch=True) == folder
    assert hub.asked == before


def test_names_alone_ask_for_no_list(hub):
    folder = resolve(Checkpoint("hf:org/name@v1", files=("config.json", "1_Pooling/a b.json"), size=4), fetch=True)
    assert hub.asked == ["/org/name/resolve/v1/1_Pooling/a b.json", "/org/name/resolve/v1/config.json"]
    assert names(folder) == {"config.json", "1_Pooling/a b.json"}


def test_what_two_components_share_is_downloaded_once(hub):
    first = resolve(Checkpoint("hf:org/name@v1", files=("config.json", "pytorch_model.bin")), fetch=True)
    second = resolve(Checkpoint("hf:org/name@v1", files=("pytorch_model.bin", "1_Pooling/a b.json")), fetch=True)
    assert first == second
    assert names(first) == {"config.json", "pytorch_model.bin", "1_Pooling/a b.json"}
    assert len(hub.asked) == 3
    assert resolve(Checkpoint("hf:org/name@v1/config.json"), fetch=True) == first / "config.json"
    assert len(hub.asked) == 3


def test_a_repository_as_a_whole_and_nothing_outside_its_folder(tmp_path):
    folder = resolve(Checkpoint("hf:org/name@v1"), fetch=True)
    assert names(folder) == {name for name in FILES if ".." not in name}
    assert not list(tmp_path.rglob("escaped.json"))


def test_the_main_branch_where_no_revision_is_named(hub, cache):
    hub.files["/org/name/resolve/main/config.json"] = b"{}"
    assert resolve(Checkpoint("hf:org/name", files=("config.json",)), fetch=True) == own(cache).parent / "main"


def test_a_digest_of_a_folder(hub, cache):
    files = ("config.json", "1_Pooling/a b.json")
    digest = checkpoints.sha256(resolve(Checkpoint("hf:org/name@v1", files=files), fetch=True))
    checkpoint = Checkpoint("hf:org/name@v1", digest, files=files)
    folder = resolve(checkpoint, fetch=True)
    assert folder == resolve(checkpoint)  # found in the first place, with the same files
    checkpoints.resolve(Checkpoint("hf:org/name@v1", files=("pytorch_model.bin",)), fetch=True)  # others come into that folder
    fetched = resolve(checkpoint, fetch=True)
    assert fetched == cache / "affectkit" / digest[:16] / "name"
    (fetched / "config.json").write_bytes(b"other")
    assert "is damaged or another version" in refused(checkpoint)
    assert resolve(checkpoint, fetch=True) == fetched
    assert (fetched / "config.json").read_bytes() == b"{}"
    hub.files["config.json"] = b"changed"
    (fetched / "config.json").write_bytes(b"other")
    assert f"what came from {hub.url}/org/name/tree/v1 is not name: its sha256 is " in refused(checkpoint, fetch=True)
    assert (fetched / "config.json").read_bytes() == b"other"  # as it was
    assert os.listdir(fetched.parent) == ["name"]


def by_hand(hub: Hub, cache: Path) -> str:
    return f"By hand: download config.json, *.safetensors, *.index.json of {hub.url}/org/name/tree/v1 and put it into {own(cache)}"


def test_downloads_that_fail_leave_nothing(hub, cache):
    hub.short = "model-00002-of-00002.safetensors"
    message = refused(WANTED, fetch=True, owner="ras/scene")
    assert message == (
        "ras/scene: name could not be downloaded: the connection ended after 10 of 2000 bytes. Try again. " + by_hand(hub, cache)
    )
    assert os.listdir(own(cache).parent) == []
    fill(own(cache), "1_Pooling/a b.json")
    refused(WANTED, fetch=True)
    assert names(own(cache)) == {"1_Pooling/a b.json"}
    assert os.listdir(own(cache).parent) == ["v1"]


def test_a_repository_without_the_files(hub, cache):
    del hub.files["model.safetensors.index.json"]
    message = refused(WANTED, fetch=True)
    assert message.startswith(f"name could not be downloaded: the repository has no *.index.json ({hub.url}/org/name/tree/v1). By hand")
    message = refused(Checkpoint("hf:org/name@v1", files=("vocab.txt",)), fetch=True)
    assert f"{hub.url}/org/name/resolve/v1/vocab.txt answered 404 Not Found. By hand" in message
    message = refused(Checkpoint("hf:org/absent@v1"), fetch=True)
    assert f"{hub.url}/api/models/org/absent/revision/v1 answered 404" in message
    assert f"By hand: download every file of {hub.url}/org/absent/tree/v1" in message


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b'{"siblings": 3}', b'{"siblings": [{}]}'])
def test_a_list_that_is_none(hub, cache, answer):
    hub.listing = answer
    assert refused(WANTED, fetch=True) == (
        f"name could not be downloaded: {hub.url}/api/models/org/name/revision/v1 does not say which files there are. {by_hand(hub, cache)}"
    )


@pytest.mark.parametrize("variable", ["AFFECTKIT_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline(hub, cache, monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    message = refused(WANTED, fetch=True)
    assert "so name is not downloaded. " + by_hand(hub, cache) in message
    assert hub.asked == []
    if variable == "AFFECTKIT_OFFLINE":
        assert refused(WANTED, owner="ras/scene").endswith(
            "Get them with 'affectkit weights fetch ras/scene' where there is a network and downloads are allowed, "
            f"or put config.json, *.safetensors, *.index.json of {hub.url}/org/name/tree/v1 into {own(cache)}"
        )


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AFFECTKIT_CACHE", str(tmp_path / "file"))
    assert "v1 cannot be written: Not a directory; nothing was kept" in refused(WANTED, fetch=True)


# --- as a user

PLUGIN = """
from affectkit.api import BASIC8, Checkpoint, Input, Modality, Needs, Output, Provider, hookimpl


class Finder(Provider):
    name = "finder"
    kind = "pages"
    scope = "window"
    checkpoints = {"default": Checkpoint("hf:org/finder@v1", licence="MIT", files=("config.json",))}

    def provide(self, clips):
        return []


class Reader(Modality):
    name = "reader"
    labels = BASIC8
    needs = Needs(inputs=(Input("pages"),))
    checkpoints = {
        "backbone": Checkpoint("hf:org/name@v1", licence="MIT", files=("config.json", "*.safetensors", "*.index.json"), size=7000),
        "tokens": Checkpoint("hf:org/name@v1/1_Pooling/a b.json", licence="MIT"),
    }

    def preprocess(self, clip):
        return None

    def predict(self, batch):
        return Output({})


@hookimpl
def affectkit_modalities():
    return [Reader]


@hookimpl
def affectkit_providers():
    return [Finder]
"""


@pytest.fixture
def plugins(tmp_path: Path) -> list[str]:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "books.py").write_text(PLUGIN)
    return ["--plugins-dir", str(tmp_path / "plugins")]


def test_as_a_user(hub, cache, plugins, tmp_path):
    def run(*args: str) -> Any:
        return CliRunner().invoke(cli, [*plugins, *args])

    told = json.loads(run("weights", "list", "books/reader:backbone", "--json").stdout)[0]
    assert (told["file"], told["size"], told["state"]) == ("name", 7000, "not here")
    (tmp_path / "film.mp4").write_bytes(b"")
    film = (str(tmp_path / "film.mp4"), "--plugins", "books/reader", "--fusion", "core/mean", "--set", "providers.pages=books/finder")
    refusal = run("--offline", "run", *film)
    assert refusal.exit_code == 2
    # All that is missing, at once, and of what the modality looks at as well.
    assert "To fetch: affectkit weights fetch books/reader:backbone books/reader:tokens books/finder\n" in refusal.output
    assert hub.asked == []
    done = run("weights", "fetch", "books/reader")
    assert done.exit_code == 0, done.output
    assert f"books/reader:backbone: downloaded (5.1 kB): {own(cache)}\n  licence MIT" in done.output
    assert "books/reader:tokens: downloaded (2 B)" in done.output
    assert "is here" in run("weights", "fetch", "books/reader:backbone").output
    listed = {told["tag"]: told for told in json.loads(run("weights", "list", "books", "--json").stdout)}
    assert (listed["backbone"]["file"], listed["backbone"]["state"], listed["backbone"]["path"]) == ("name", "here", str(own(cache)))
    assert f"books/reader:backbone  no digest published  {own(cache)}" in run("weights", "verify", "books").output
