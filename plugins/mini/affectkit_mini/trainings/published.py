"""Networks of others with which trainings begin: a file in a package, known by its digest."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from affectkit.api import CheckpointError, UsageError
from affectkit.checkpoints import sha256


@dataclass(frozen=True)
class Published:
    """A file of weights in a package of the package index.

    Attributes:
        component: whose training begins with it.
        package: its name where it is installed from, with its version: ``name==version``.
        module: the folder of the package.
        file: its path in that folder.
        digest: its SHA-256.
        install: the command that installs the package, and of what it depends on no more than is needed.
    """

    component: str
    package: str
    module: str
    file: str
    digest: str
    install: str

    def path(self, given: Path | None = None) -> Path:
        """The given file, or that of the package.

        Raises:
            UsageError: where it is not there.
            CheckpointError: where it is another file.
        """
        path, name = given, Path(self.file).name
        if path is None:
            found = find_spec(self.module)  # which is not imported: it may need what is not here
            path = Path(found.submodule_search_locations[0]) / self.file if found and found.submodule_search_locations else None
        if path is None or not path.is_file():
            lacking = f"the package {self.package.partition('==')[0]} is not installed" if path is None else f"there is no {path}"
            raise UsageError(
                f"{lacking}; {self.component} begins with the network that this package carries: {self.install}, "
                f"or give its {name} with --set options.start=PATH"
            )
        if sha256(path) != self.digest:
            raise CheckpointError(f"{path} is not the {name} of {self.package.replace('==', ' ')}: its sha256 is not {self.digest[:12]}...")
        return path
