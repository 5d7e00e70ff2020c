"""Packs: folders of weights that say what they hold, under which licence, and whose numbers they speak.

    pack.json          name, coefficient space, licence, and per network its file, SHA-256 and sizes
    LICENCE.txt        the terms, whole
    *.safetensors      one file per network (face detectors, which a library reads itself, stay torch files)

One pack, `open`, comes with the program. Nothing here knows where others come from; `pipeline.packs` fetches them.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

FORMAT = 1
DECLARATION, LICENCE = "pack.json", "LICENCE.txt"
SPACES = ("open", "bfm")
SHIPPED = Path(__file__).resolve().parent / "weights" / "open"  # the folder of the pack `open`


class PackError(ValueError):
    """A folder is no pack, or not the one it says it is. The message names it and what is wrong."""


@dataclass(frozen=True)
class Provided:
    """One network of a pack.

    Args:
        file: its name in the pack's folder.
        sha256: of the file, 64 hex digits.
        sizes: arguments of the network's constructor that differ from their defaults, the published sizes.
        source: file that it was imported from, or run that trained it.
        source_sha256: of that file; empty if there is none.
    """

    file: str
    sha256: str
    sizes: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    source_sha256: str = ""


@dataclass(frozen=True)
class Declaration:
    """What pack.json says.

    Args:
        name: of the pack, for records and messages.
        space: coefficient space of everything in it, "open" or "bfm".
        licence: in one line.
        licence_sha256: of LICENCE.txt.
        provides: network -> file.
        published: whether these are SadTalker's published weights, which speak Deep3DFaceRecon's poses and keep habits
            of their own (`models.sadtalker.motion`).
    """

    name: str
    space: str
    licence: str
    licence_sha256: str
    provides: Mapping[str, Provided]
    published: bool = False

    def dumps(self) -> bytes:
        """As pack.json."""
        return (json.dumps({"format": FORMAT, **asdict(self)}, indent=2, ensure_ascii=False) + "\n").encode()

    @classmethod
    def loads(cls, data: bytes, where: str) -> "Declaration":
        """The inverse of `dumps`, checked.

        Args:
            where: the pack's place, for messages.
        Raises:
            PackError
        """
        try:
            values = json.loads(data)
            if values.pop("format") != FORMAT:
                raise PackError(f"{where}: {DECLARATION} is of another version of this program")
            provides = {name: Provided(**entry) for name, entry in values.pop("provides").items()}
            made = cls(**values, provides=provides)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, PackError):
                raise
            raise PackError(f"{where}: {DECLARATION} can't be read: {error}") from error
        if made.space not in SPACES:
            raise PackError(f"{where}: space {made.space!r} is unknown; there are {' and '.join(SPACES)}")
        if not made.licence or not made.licence_sha256:
            raise PackError(f"{where}: the pack has no licence; weights without one may not be used")
        for name, entry in provides.items():
            if PurePosixPath(entry.file).name != entry.file or not entry.file:
                raise PackError(f"{where}: {name} is the file {entry.file!r}, which is not in the pack's own folder")
        return made


class Pack:
    """A pack whose files are found, and verified, when they are asked for.

    Args:
        declaration: its pack.json.
        where: its place, for messages.
        locate: (file name, SHA-256) -> verified file on this machine.
        base: a pack of the same space that has what this one lacks.
    """

    def __init__(
        self, declaration: Declaration, where: str, locate: Callable[[str, str], Path], base: "Pack | None" = None
    ):
        self.declaration, self.where, self._locate, self._base = declaration, where, locate, base

    @classmethod
    def open(cls, folder: Path) -> "Pack":
        """A pack in a folder on this machine.

        Raises:
            PackError: no pack, no licence, or pack.json can't be used.
        """
        try:
            data = (folder / DECLARATION).read_bytes()
        except OSError as error:
            raise PackError(f"{folder} is no pack: {DECLARATION} can't be read ({error.strerror})") from error
        pack = cls(Declaration.loads(data, str(folder)), str(folder), lambda name, sha: verified(folder / name, sha))
        pack.licence_text()
        return pack

    def backed_by(self, base: "Pack") -> "Pack":
        """The same pack, which takes what it lacks from another one.

        Raises:
            PackError: the two are of different spaces, or either holds published weights, which belong together.
        """
        if base.space != self.space or base.published or self.published:
            raise PackError(f"the pack {self.where} and {base.where} don't go together")
        return Pack(self.declaration, self.where, self._locate, base)

    @property
    def name(self) -> str:
        return self.declaration.name

    @property
    def space(self) -> str:
        return self.declaration.space

    @property
    def published(self) -> bool:
        return self.declaration.published

    def __contains__(self, name: str) -> bool:
        return name in self.declaration.provides or (self._base is not None and name in self._base)

    def path(self, name: str) -> Path:
        """The file of a network. Raises PackError if the pack doesn't have it, or another file than it says."""
        pack = self._holder(name)
        entry = pack.declaration.provides[name]
        return pack._locate(entry.file, entry.sha256)

    def sizes(self, name: str) -> dict[str, Any]:
        """Arguments of a network's constructor. Raises PackError if the pack doesn't have it."""
        return dict(self._holder(name).declaration.provides[name].sizes)

    def licence_text(self) -> str:
        """The terms. Raises PackError if the file is missing or another one."""
        return self._locate(LICENCE, self.declaration.licence_sha256).read_text("utf-8", "replace")

    def verify(self) -> list[str]:
        """A sentence for every file that is missing or has another content than pack.json says."""
        problems = []
        files = [(entry.file, entry.sha256) for entry in self.declaration.provides.values()]
        for file, sha256 in dict.fromkeys([(LICENCE, self.declaration.licence_sha256), *files]):
            try:
                self._locate(file, sha256)
            except PackError as error:
                problems.append(str(error))
        return problems

    def _holder(self, name: str) -> "Pack":
        """The pack that holds a network: this one, or one behind it."""
        if name in self.declaration.provides:
            return self
        if self._base is None or name not in self._base:
            raise PackError(f"the pack {self.where} has no {name}")
        return self._base._holder(name)


@cache
def shipped_pack() -> Pack:
    """The pack `open`. Raises PackError if the installation is damaged."""
    return Pack.open(SHIPPED)


def verified(path: Path, sha256: str) -> Path:
    """The path, if its content has the hash. Raises PackError."""
    try:
        found = sha256_of(path)
    except OSError as error:
        raise PackError(f"{path} can't be read: {error.strerror}") from error
    if found != sha256:
        raise PackError(f"{path} has the SHA-256 {found}, not {sha256} as {DECLARATION} says: import the weights again")
    return path


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_declaration(
    folder: Path,
    *,
    name: str,
    space: str,
    licence: str,
    licence_text: str,
    provides: Mapping[str, Provided],
    published: bool = False,
) -> Pack:
    """Complete a folder of weights to a pack: LICENCE.txt, then pack.json, which makes it one.

    Args:
        folder: holds the files that `provides` names, with these hashes.
    Raises:
        PackError: what was written can't be used.
    """
    data = licence_text.encode()
    (folder / LICENCE).write_bytes(data)
    made = Declaration(name, space, licence, hashlib.sha256(data).hexdigest(), provides, published)
    Declaration.loads(made.dumps(), str(folder))
    temporary = folder / f".{DECLARATION}"
    temporary.write_bytes(made.dumps())
    temporary.replace(folder / DECLARATION)
    return Pack.open(folder)
