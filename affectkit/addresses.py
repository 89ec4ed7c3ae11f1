"""Where weights are: their URIs taken apart, and the places where their files may be."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import quote

from affectkit.caches import cache_folder, hub_cache, user_cache
from affectkit.downloads import HUGGING_FACE
from affectkit.errors import CheckpointError
from affectkit.needs import Checkpoint

Kind = Literal["package", "path", "url", "hf"]

_HF = re.compile(r"hf:(?P<repo>[^/@]+/[^/@]+)(?:@(?P<revision>[^/]+))?(?:/(?P<file>.+))?")
_EVERY = ("*",)


@dataclass(frozen=True)
class Address:
    """A URI taken apart.

    Attributes:
        kind: where the file lives.
        name: its file name; of a repository, its name.
        places: where it is looked for on this machine, in order.
        target: where a download puts it, ``None`` where there is nothing to download.
        url: where it comes from, ``""`` where it cannot be downloaded.
        files: what makes it up where it is a folder: names of files and patterns.
        files_url: what the URLs of the files of a repository begin with.
        list_url: where the repository says which files it has.
    """

    kind: Kind
    name: str
    places: tuple[Path, ...]
    target: Path | None = None
    url: str = ""
    files: tuple[str, ...] = ()
    files_url: str = ""
    list_url: str = ""

    @property
    def by_hand(self) -> str:
        """How a person gets it, as a sentence."""
        return f"By hand: download {self.what} and put it {self.where}"

    @property
    def what(self) -> str:
        """What a person downloads, in words."""
        return f"{_all(self.files)} of {self.url}" if self.files_url else self.url

    @property
    def where(self) -> str:
        """Where a person puts it, in words."""
        return f"{'into' if self.files_url else 'at'} {self.target}"


def origin(uri: str) -> str:
    """Where a URI leads, in a word or two: package, host, repository, or a file.

    >>> origin("hf:openai/clip-vit-base-patch32@3d74acf/config.json")
    'hf:openai/clip-vit-base-patch32'
    """
    scheme, _, rest = uri.partition(":")
    if scheme in ("https", "http"):
        return rest.removeprefix("//").partition("/")[0]
    if scheme == "package":
        return rest.partition("/")[0]
    return "/".join(uri.split("/")[:2]).partition("@")[0] if scheme == "hf" else "a file"


def address(checkpoint: Checkpoint) -> Address:
    """Where the file of a checkpoint may be, and where it comes from.

    Raises:
        CheckpointError: where the URI cannot be understood.
    """
    uri = checkpoint.uri
    also = tuple(_expand(place) for place in checkpoint.also)
    scheme = uri.partition(":")[0]
    if scheme == "package":
        return _in_package(uri, checkpoint.files)
    if scheme == "hf":
        return _on_hugging_face(checkpoint, also)
    if scheme in ("https", "http"):
        if scheme == "http" and checkpoint.sha256 is None:
            raise CheckpointError(f"{uri} is not encrypted and its digest is not known; give its sha256, or use https")
        name = PurePosixPath(uri.split("?")[0].split("#")[0]).name or "weights"
        folder = cache_folder() / (checkpoint.sha256 or hashlib.sha256(uri.encode()).hexdigest())[:16]
        return Address("url", name, (folder / name, *also), folder / name, uri)
    if "://" in uri:
        raise CheckpointError(f"{uri} cannot be read; weights come from package:, https://, hf: or a path")
    path = _expand(uri.removeprefix("file:"))
    return Address("path", path.name, (path, *also), files=checkpoint.files)


def _in_package(uri: str, files: tuple[str, ...]) -> Address:
    package, _, inside = uri.removeprefix("package:").partition("/")
    if not package.isidentifier() or not inside:
        raise CheckpointError(f"{uri} names no file in a package; write package:affectkit_mini/weights/face.safetensors")
    spec = find_spec(package)  # of a top-level package: finds it without running its code
    if spec is None or not spec.submodule_search_locations:
        raise CheckpointError(f"the package {package} is not installed, which holds the weights {inside}; install it with pip")
    places = tuple(Path(folder, inside) for folder in spec.submodule_search_locations)
    return Address("package", places[0].name, places, files=files)


def _on_hugging_face(checkpoint: Checkpoint, also: tuple[Path, ...]) -> Address:
    match = _HF.fullmatch(checkpoint.uri)
    if match is None or ".." in re.split("[/:@]", checkpoint.uri):
        raise CheckpointError(
            f"{checkpoint.uri} names nothing on Hugging Face; write hf:organisation/name@revision/file, or hf:organisation/name@revision"
        )
    repo, revision, file = match["repo"], match["revision"] or "main", match["file"] or ""
    name = repo.partition("/")[2]
    own = cache_folder() / "hf" / repo / revision
    if checkpoint.sha256 and not file:  # a folder with a digest holds these files and no others
        own = cache_folder() / checkpoint.sha256[:16] / name
    hub = hub_cache() / f"models--{repo.replace('/', '--')}"
    ref = hub / "refs" / revision  # a branch or tag points to a commit; a commit is its own folder
    commit = ref.read_text(encoding="utf-8").strip() if ref.is_file() else revision
    places = (own / file, *also, hub / "snapshots" / commit / file)
    site = os.environ.get("HF_ENDPOINT", HUGGING_FACE).rstrip("/")
    begin = f"{site}/{repo}/resolve/{revision}/"
    if file:
        return Address("hf", PurePosixPath(file).name, places, own / file, begin + quote(file))
    url, listed = f"{site}/{repo}/tree/{revision}", f"{site}/api/models/{repo}/revision/{revision}"
    return Address("hf", name, places, own, url, checkpoint.files or _EVERY, begin, listed)


def _all(files: tuple[str, ...]) -> str:
    return "every file" if files == _EVERY else ", ".join(files)


def _expand(place: str) -> Path:
    """A path with ``~``, and with ``~/.cache`` as the user's cache folder."""
    if place.startswith("~/.cache/"):
        return user_cache() / place.removeprefix("~/.cache/")
    return Path(place).expanduser()
