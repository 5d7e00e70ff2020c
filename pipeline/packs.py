"""The pack of weights that a job asks for: fetched, verified, and whether it suits the job.

A pack is a folder, local or remote. Before a job starts its pack is pinned: the setting gets the SHA-256 of pack.json,
which holds the hashes of all other files, so that workers and reruns see the very same weights or none.
"""

import functools
import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from models import registry
from models.controls import Controls
from models.errors import WeightsError
from models.packs import DECLARATION, Declaration, Pack, PackError, shipped_pack
from pipeline import cache, storage
from pipeline.config import CacheConfig, RenderConfig, mixed_spaces
from pipeline.enhancer import find_enhancer
from pipeline.errors import InputError, RenderError, SetupError, TransientError
from pipeline.manifest import Clip
from pipeline.weights import WITH_HASH

DETECTORS = {"s3fd": "s3fd-619a316812.pth", "fan": "2DFAN4-11f355bf06.pth.tar"}  # as face_alignment wants them named
T = TypeVar("T")
HOW_TO_ADD = "add its file by python -m jobs.weights import; docs/weights.md says which"


def settle(config: RenderConfig, clips: Iterable[Clip]) -> RenderConfig:
    """The settings with their pack pinned, if it and the clips' controls suit each other.

    Raises:
        SetupError: with every problem: no pack there, networks it lacks, spaces that don't mix, controls that the
            motion system doesn't know, an enhancer that can't be loaded.
    """
    alike = {(c.size, c.framing, c.special): c for c in (clip.controls for clip in clips)}
    controls = list(alike.values())
    problems = _unknown_controls(controls, config.motion.system)
    if config.enhancer:
        try:
            find_enhancer(config.enhancer)
        except SetupError as error:
            problems += error.problems
    try:
        config = _pinned_config(config)
        found = open_pack(config), open_motion_pack(config)
    except PackError as error:
        raise SetupError([*problems, f"pack: {error}"]) from error
    if found != (shipped_pack(), shipped_pack()):
        problems += _unsuited(config, *found, controls)
    if problems:
        raise SetupError(problems)
    return config


def open_pack(config: RenderConfig) -> Pack:
    """The pack of a job: its renderer's, and its face space's. Raises as `open_backed`."""
    return open_backed(config.pack, config.cache)


def open_motion_pack(config: RenderConfig) -> Pack:
    """The pack of a job's motion system, which is the job's unless it has one of its own. Raises as `open_backed`."""
    return open_backed(config.motion_pack, config.cache)


def open_backed(setting: str, kept: CacheConfig) -> Pack:
    """The pack of a setting. An own one of the space `open` takes what it lacks from what ships.

    Raises:
        PackError: no pack there, or not the one that was pinned.
        TransientError: a storage that doesn't answer.
    """
    if setting == registry.OPEN:
        return shipped_pack()
    pack = open_at(setting, kept)
    return pack.backed_by(shipped_pack()) if pack.space == shipped_pack().space else pack


def pack_for(entry: registry.Entry, setting: str, config: RenderConfig) -> Pack | None:
    """What a motion system or a renderer is built from; None if it has no networks. Raises as `open_backed`.

    Args:
        setting: `config.motion_pack` or `config.pack`.
    """
    return entry.pack_in(open_backed(setting, config.cache)) if entry.takes_weights else None


def open_at(setting: str, kept: CacheConfig) -> Pack:
    """The pack at a folder or URI, pinned (`URI#sha256=HASH`) or not. Raises as `open_backed`."""
    uri, pinned = _parts(setting)
    return _opened(uri, pinned, str(kept.folder), kept.max_gb)


def space_of(config: RenderConfig) -> str:
    """The coefficient space that a job's numbers belong to. Raises as `open_backed`."""
    entry = registry.MOTION_SYSTEMS[config.motion.system]
    return entry.space or open_motion_pack(config).space


def build(builder: Callable[..., T], pack: Pack, **given: Any) -> T:
    """What a builder makes of a pack.

    Raises:
        RenderError: the pack's files are damaged or don't fit the network, or can't be fetched.
    """
    try:
        return builder(pack=pack, **given)
    except (PackError, WeightsError) as error:
        hint = f"look into the pack by python -m jobs.weights verify {pack.where}, or import the weights again"
        raise RenderError(f"the pack {pack.name} can't be used: {error}", hint) from error


def detector_folder(config: RenderConfig) -> str | None:
    """Folder with face_alignment's weights: the one that the settings name, or the pack's; None leaves it to torch."""
    if config.face.weights or config.face.backend != "face_alignment":
        return config.face.weights
    pack = open_pack(config)
    if not all(name in pack for name in DETECTORS):
        return None
    paths = {file: pack.path(name) for name, file in DETECTORS.items()}
    told = "\n".join(map(str, paths.values()))
    folder = config.cache.folder / "detectors" / hashlib.sha256(told.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    for file, path in paths.items():
        link = folder / file
        if not link.exists():
            link.unlink(missing_ok=True)  # its target may have left the cache
            link.symlink_to(path.resolve())
    return str(folder)


def _parts(setting: str) -> tuple[str, str | None]:
    """URI and SHA-256 of pack.json, if it is pinned."""
    stated = WITH_HASH.fullmatch(setting)
    return (stated["uri"], stated["sha256"].lower()) if stated else (setting, None)


def _pinned_config(config: RenderConfig) -> RenderConfig:
    """The settings with their packs pinned. Raises PackError."""
    if config.pack != registry.OPEN:
        config = config.model_copy(update={"pack": _pinned(config.pack)})
    if config.motion.pack and config.motion.pack != registry.OPEN:
        motion = config.motion.model_copy(update={"pack": _pinned(config.motion.pack)})
        config = config.model_copy(update={"motion": motion})
    return config


def _pinned(setting: str) -> str:
    """The setting with an absolute place and the hash. Raises PackError."""
    uri, pinned = _parts(setting)
    path = storage.local_path(uri)
    if path:
        uri = os.path.abspath(path)  # noqa: PTH100 - not resolve(): links keep their names
    found = hashlib.sha256(_declaration(uri)).hexdigest()
    if pinned and found != pinned:
        raise PackError(f"{DECLARATION} of {uri} has the SHA-256 {found}, not {pinned}")
    return f"{uri}#sha256={found}"


def _declaration(uri: str) -> bytes:
    try:
        return storage.read_bytes(storage.join(uri, DECLARATION))
    except (InputError, TransientError) as error:
        raise PackError(f"{uri} is no pack: {error}") from error


@functools.lru_cache(maxsize=4)
def _opened(uri: str, pinned: str | None, folder: str, max_gb: float) -> Pack:
    data = _declaration(uri)
    if pinned and hashlib.sha256(data).hexdigest() != pinned:
        raise PackError(f"{uri} has changed since the job began; start it again")

    def locate(file: str, sha256: str) -> Path:
        place = storage.join(uri, file)
        try:
            fetched = cache.fetch(place, Path(folder), max_gb * 1e9)
        except InputError as error:
            raise PackError(str(error)) from error
        if fetched.sha256 != sha256:
            raise PackError(
                f"{place} has the SHA-256 {fetched.sha256}, not {sha256} as {DECLARATION} says: "
                "import the weights again"
            )
        return fetched.path

    pack = Pack(Declaration.loads(data, uri), uri, locate)
    pack.licence_text()
    return pack


def _unsuited(config: RenderConfig, pack: Pack, motion_pack: Pack, controls: list[Controls]) -> list[str]:
    """Why the packs don't suit a job, a sentence each."""
    system, renderer = registry.MOTION_SYSTEMS[config.motion.system], registry.RENDERERS[config.renderer]
    space = system.space_in(motion_pack)
    if space != renderer.space_in(pack):
        return [mixed_spaces(config.motion.system, config.renderer, motion_pack.space)]
    of_motion: dict[str, str] = {}
    of_job: dict[str, str] = dict.fromkeys(registry.BFM_NEEDS if space == "bfm" else (), "the space bfm")
    for each in controls:
        user = f"renderer={config.renderer} with controls.size={each.size}, controls.framing={each.framing}"
        of_job = _wanted(renderer, pack, each, user) | of_job
        of_motion = _wanted(system, motion_pack, each, f"motion.system={config.motion.system}") | of_motion
    if not config.motion.pack:
        return _faults(config, pack, of_motion | of_job)
    return _faults(config, motion_pack, of_motion) + ([] if pack is shipped_pack() else _faults(config, pack, of_job))


def _wanted(entry: registry.Entry, pack: Pack, controls: Controls, user: str) -> dict[str, str]:
    """Networks that a motion system or renderer takes from a pack, and who wants them."""
    return dict.fromkeys(entry.needs(pack, controls), user) if entry.pack_in(pack) is pack else {}


def _faults(config: RenderConfig, pack: Pack, wanted: dict[str, str]) -> list[str]:
    """What is wrong with a pack of which networks are wanted, by name: who wants them."""
    if not pack.declaration.provides.keys() & wanted.keys() and config.face.backend != "face_alignment":
        return [_unused(config, pack, list(wanted))]
    problems = [
        f"pack: {pack.where} has no {name}, which {user} needs; {HOW_TO_ADD}"
        for name, user in wanted.items()
        if name not in pack
    ]
    if not problems and storage.local_path(pack.where):  # a remote pack's files are fetched where they are needed
        problems += [str(error) for error in map(functools.partial(_fault, pack), wanted) if error]
    return problems


def _unused(config: RenderConfig, pack: Pack, wanted: list[str]) -> str:
    """The sentence that refuses a pack of which nothing would be used."""
    what = f"take {', '.join(wanted)}" if wanted else f"take nothing of the space '{pack.space}'"
    return (
        f"pack: {pack.where} is of the space '{pack.space}' and provides {', '.join(pack.declaration.provides)}; "
        f"motion.system '{config.motion.system}' and renderer '{config.renderer}' {what}: "
        "choose others, or leave pack out"
    )


def _fault(pack: Pack, name: str) -> PackError | None:
    try:
        pack.path(name)
    except PackError as error:
        return error
    return None


def _unknown_controls(controls: list[Controls], system: str) -> list[str]:
    """Controls that are set and that the motion system doesn't know, a sentence each."""
    asked = dict.fromkeys(name for each in controls for name in each.special)
    entry = registry.MOTION_SYSTEMS[system]
    return [
        f"controls.{name} is set, but motion.system '{system}' doesn't know it; systems that do: {', '.join(able)}"
        for name in asked
        if name not in entry.understands
        for able in [[other for other, each in registry.MOTION_SYSTEMS.items() if name in each.understands] or ["none"]]
    ]
