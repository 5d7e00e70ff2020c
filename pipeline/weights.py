"""Weights that users bring, of metrics and losses: where to look for them, and whether they are what they should be.

Two ways to name them: a folder (`weights.dir`), in which files are known by their published names, and one URI per
network (`weights.files`), followed by `#sha256=` and the hash. A folder may hold a file SHA256SUMS, as the program
sha256sum writes it; what it lists must agree. Networks themselves only ever see a local path.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Self

from pydantic import Field

from pipeline import cache as cached
from pipeline import storage
from pipeline.config import Section
from pipeline.errors import InputError, SetupError
from pipeline.problems import nearest

WITH_HASH = re.compile(r"(?P<uri>.+)#sha256=(?P<sha256>[0-9a-fA-F]{64})")
SUMS = "SHA256SUMS"


@dataclass(frozen=True)
class Entry:
    """What a network's weights are.

    Args:
        files: names that a folder may know them by; the first is the usual one. Each may also end in ".safetensors".
        source: where users get them.
        licence: what is known of the terms.
        published: beginnings of the SHA-256 of files that published scores were made with.
    """

    files: tuple[str, ...]
    source: str
    licence: str
    published: tuple[str, ...] = ()


CATALOGUE = {
    "syncnet": Entry(
        ("syncnet_v2.model",),
        "https://www.robots.ox.ac.uk/~vgg/software/lipsync/data/syncnet_v2.model",
        "not stated; the code is MIT",
        ("961e8696f888fce4f3f3a6c3d5b3267cf5b343100b238e79b2659bff2c605442",),
    ),
    "inception": Entry(
        ("pt_inception-2015-12-05-6726825d.pth",),
        "the release fid_weights of github.com/mseitzer/pytorch-fid",
        "Apache-2.0",
        ("6726825d",),
    ),
    "identity": Entry(
        ("arcface.pth", "backbone.pth"),
        "arcface_torch in github.com/deepinsight/insightface: any IR-18 to IR-200, say ms1mv3_arcface_r100_fp16",
        "research only, no commercial use",
    ),
    "lpips": Entry(
        ("lpips_alex.pth", "alex.pth"),
        "lpips/weights/v0.1/alex.pth of the Python package lpips",
        "BSD-2-Clause",
        ("df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a"),
    ),
    "lpips_net": Entry(
        ("alexnet-owt-7be5be79.pth",),
        "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        "BSD-3-Clause; trained on ImageNet",
        ("7be5be79", "397923af"),
    ),
    "emotion": Entry(
        ("emotion_fan_mead.pth", "Emotion-FAN_MEAD.pth"),
        "the file drive of the authors of EAT (github.com/yuangan/evaluation_eat)",
        "not stated",
    ),
    "vgg19": Entry(
        ("vgg19-dcbb9e9d.pth",),
        "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
        "BSD-3-Clause; trained on ImageNet",
        ("dcbb9e9d",),
    ),
    "lipreading_video": Entry(
        ("lrw_resnet18_dctcn_video.pth.tar", "lrw_resnet18_dctcn_video.pth"),
        "resnet18_dctcn_video in github.com/mpc001/Lipreading_using_Temporal_Convolutional_Networks",
        "for research and benchmarks only, no commercial use",
    ),
    "lipreading_audio": Entry(
        ("lrw_resnet18_dctcn_audio.pth.tar", "lrw_resnet18_dctcn_audio.pth"),
        "resnet18_dctcn_audio in github.com/mpc001/Lipreading_using_Temporal_Convolutional_Networks",
        "for research and benchmarks only, no commercial use",
    ),
    "face_model": Entry(
        ("face_model.safetensors",),
        "jobs.weights import, which puts it into the pack (docs/weights.md)",
        "Basel face model: research only",
    ),
}


class WeightsPlace(Section):
    """Where the weights are that the user brings."""

    dir: str | None = Field(
        default=None,
        description="folder with the files by their published names, local or remote; a SHA256SUMS in it is verified",
    )
    files: dict[str, str] = Field(
        default={}, description=f"weights.files.NAME=URI#sha256=HASH, NAME one of {', '.join(CATALOGUE)}"
    )

    def find(self, cache: Path, names: Iterable[str]) -> "dict[str, Weights]":
        """`find_weights` of some networks."""
        return find_weights(self.dir, self.files, cache, names)

    def moved(self, change: Callable[[str], str]) -> Self:
        """The same with every place changed."""
        files = {name: change(place) for name, place in self.files.items()}
        return self.model_copy(update={"dir": self.dir and change(self.dir), "files": files})


@dataclass(frozen=True)
class Weights:
    """A file of weights on this machine.

    Args:
        name: of the network, as in `CATALOGUE`.
        path: where it is.
        sha256: of its content, 64 hex digits.
        is_published: whether it is a file that published scores were made with; None where no hash of one is known.
    """

    name: str
    path: Path
    sha256: str
    is_published: bool | None


def find_weights(
    folder: str | None, files: Mapping[str, str], cache: Path, names: Iterable[str] = tuple(CATALOGUE)
) -> dict[str, Weights]:
    """The weights that the user has, by network; remote ones are downloaded once per machine.

    Args:
        folder: local or remote, `weights.dir`.
        files: "uri#sha256=..." by network, `weights.files`; goes before the folder. The hash may be left out for a
            local file, not for a remote one.
        cache: folder on this machine.
        names: networks to look for.
    Raises:
        SetupError: with every problem: unknown networks, files that are named but not there, wrong hashes.
        TransientError: a storage that doesn't answer.
    """
    problems = [_unknown(name) for name in files if name not in CATALOGUE]
    found: dict[str, Weights] = {}
    listed, sums = _look_into(folder, problems) if folder else ({}, {})
    for name in names:
        place = _place(name, files, listed, sums)
        if place is None:
            continue
        key, uri, expected = place
        if expected is None and storage.local_path(uri) is None and name in files:
            problems.append(f"{key}: {uri} has no hash; append #sha256= and the 64 digits that sha256sum prints")
            continue
        try:
            fetched = cached.fetch(uri, cache)
        except InputError as error:
            problems.append(f"{key}: {error}")
            continue
        if expected and fetched.sha256 != expected.lower():
            problems.append(f"{key}: {uri} has the SHA-256 {fetched.sha256}, not {expected}; fetch the file again")
            continue
        found[name] = Weights(name, fetched.path, fetched.sha256, _is_published(name, fetched.sha256))
    if problems:
        raise SetupError(problems)
    return found


def how_to_get(name: str) -> str:
    """A sentence for whoever misses a network's weights."""
    entry = CATALOGUE[name]
    return f"put {entry.files[0]} into weights.dir, or set weights.files.{name}; from {entry.source} ({entry.licence})"


def _unknown(name: str) -> str:
    guess = nearest(name, list(CATALOGUE))
    hint = f"did you mean '{guess}'?" if guess else f"known: {', '.join(CATALOGUE)}"
    return f"weights.files.{name}: no such network; {hint}"


def _look_into(folder: str, problems: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """URIs of the files of a folder by name, and the hashes that it states."""
    path = storage.local_path(folder)
    try:
        names = storage.list_names(folder)
    except InputError as error:
        problems.append(f"weights.dir: {error}")
        return {}, {}
    if not names:
        absent = path is not None and not path.is_dir()
        problems.append(f"weights.dir: {folder} {'is no folder' if absent else 'is empty'}")
    uris = {name: storage.join(folder, name) for name in names}
    sums: dict[str, str] = {}
    if SUMS in uris:
        for line in storage.read_bytes(uris[SUMS]).decode("utf-8", "replace").splitlines():
            sha256, _, name = line.partition(" ")
            sums[name.lstrip(" *")] = sha256
    return uris, sums


def _place(
    name: str, files: Mapping[str, str], listed: Mapping[str, str], sums: Mapping[str, str]
) -> tuple[str, str, str | None] | None:
    """Where a network's weights are: the setting that says so, URI, expected hash; None if nothing does."""
    if name in files:
        stated = WITH_HASH.fullmatch(files[name])
        key = f"weights.files.{name}"
        return (key, stated["uri"], stated["sha256"]) if stated else (key, files[name], None)
    for usual in CATALOGUE[name].files:
        for file in (usual, str(PurePosixPath(usual).with_suffix(".safetensors"))):
            if file in listed:
                return "weights.dir", listed[file], sums.get(file)
    return None


def _is_published(name: str, sha256: str) -> bool | None:
    known = CATALOGUE[name].published
    return sha256.startswith(known) if known else None
