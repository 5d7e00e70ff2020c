"""The first stage: fetch, decode and understand a clip's inputs. Plain callables on plain data.

What is made here is kept on the machine by content, so one portrait in forty languages is found and fitted once;
a stage that runs on another machine fetches the inputs again through that machine's own cache.
"""

import functools
import hashlib
import io
import itertools
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models import registry
from models.controls import FaceChoice
from models.interfaces import FPS, FaceFit, Motion
from pipeline import cache, packs, storage
from pipeline.config import RenderConfig
from pipeline.errors import FaceError, InputError
from pipeline.manifest import Clip

if TYPE_CHECKING:
    from models.facespace.bfm import BfmSpace
    from models.packs import Pack
    from pipeline.encoder import Soundtrack
    from pipeline.face import Face
    from pipeline.pictures import Picture
    from pipeline.speech import SpeechInfo

MATTE_PIXELS = 2_000_000  # most pixels of a matte on its way; it is smooth
SMALL_SHARE = 0.105  # eye distance over the longer side below which most of the picture isn't about the face
PREP_REVISION = 2  # raise it when preparing the same input gives another result: old results are left aside


@dataclass(frozen=True)
class PreppedPortrait:
    """A picture with its face found and fitted.

    Args:
        uri: as in the manifest.
        sha256: of the file.
        candidate: which frame of a video it is; 0 for pictures.
        turns: quarter turns, counter-clockwise, that make the picture upright.
        size_px: width, height of the upright picture.
        faces: how many were found.
        face: the chosen one, in pixels of the upright picture, in the job's coefficient space.
        matte_png: how far each pixel belongs to the person: 8-bit grey PNG, possibly smaller than the picture.
        warnings: a fixed vocabulary.
    """

    uri: str
    sha256: str
    candidate: int
    turns: int
    size_px: tuple[int, int]
    faces: int
    face: FaceFit
    matte_png: bytes
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class PreppedSpeech:
    """A recording, decoded.

    Args:
        uri: as in the manifest.
        sha256: of the file.
        frames: length of the video.
        warnings: a fixed vocabulary.
    """

    uri: str
    sha256: str
    frames: int
    warnings: tuple[str, ...]

    @property
    def duration_s(self) -> float:
        return self.frames / FPS


@dataclass(frozen=True)
class Prepped:
    """A clip, ready for motion and rendering; a few hundred kB."""

    clip: Clip
    portrait: PreppedPortrait
    speech: PreppedSpeech

    @property
    def frames(self) -> int:
        return self.speech.frames

    @property
    def warnings(self) -> tuple[str, ...]:
        return (*self.portrait.warnings, *self.speech.warnings)


def check_backend(config: RenderConfig) -> None:
    """Raise SetupError if faces can't be found the way the config says, for want of weights."""
    if config.face.backend != "mediapipe":  # whose networks come with it
        _finder_of(config)


def prep(clip: Clip, config: RenderConfig) -> Prepped:
    """Fetch, decode and understand a clip's inputs.

    Raises:
        InputError: the clip's inputs are at fault; the first fault found.
        TransientError: storage failed.
    """
    prepped = Prepped(clip, prep_portrait(clip.portrait, clip.controls.face, config), prep_speech(clip.audio, config))
    for uri in clip.controls.references:
        reference_motion(uri, config)
    return prepped


def prep_portrait(uri: str, choice: FaceChoice, config: RenderConfig) -> PreppedPortrait:
    """Find and fit the face of a picture, or of the first frame of a video that shows one. Raises as `prep`."""
    fetched = _fetch(uri, config)
    settings = [
        registry.REVISION,
        choice.model_dump(mode="json"),
        config.face.model_dump(mode="json"),
        config.limits.max_pixels,
        *_space_settings(config),
    ]
    kept = _kept(config, "faces", fetched.sha256, settings, ".npz")
    if kept.exists():
        cache.mark_used(kept)
        return _load_portrait(kept, uri)
    try:
        prepped = _find_face(fetched, uri, choice, config)
    except InputError as error:
        raise _renamed(error, fetched.path, uri) from error
    _keep(kept, _portrait_bytes(prepped))
    return prepped


def prep_speech(uri: str, config: RenderConfig) -> PreppedSpeech:
    """Decode a recording. Raises as `prep`."""
    fetched = _fetch(uri, config)
    info, _ = _decoded(fetched, uri, config)
    return PreppedSpeech(uri, fetched.sha256, info.frames, info.warnings)


def reference_motion(uri: str, config: RenderConfig) -> Motion:
    """The motion of a video that a clip follows, in the job's coefficient space; kept by content. Raises as `prep`."""
    from pipeline import reference

    fetched = _fetch(uri, config)
    face = config.face.model_dump(mode="json")
    settings = [registry.REVISION, reference.REVISION, face, *_space_settings(config)]
    kept = _kept(config, "references", fetched.sha256, settings, ".npz")
    if kept.exists():
        cache.mark_used(kept)
        with np.load(kept, allow_pickle=False) as arrays:
            return Motion(str(arrays["space"]), arrays["expression"], arrays["pose"], arrays["gaze"])
    try:
        motion = reference.follow(fetched.path, _finder_of(config), _bfm(config))
    except InputError as error:
        raise _renamed(error, fetched.path, uri) from error
    file = io.BytesIO()
    np.savez(file, space=np.array(motion.space), expression=motion.expression, pose=motion.pose, gaze=motion.gaze)
    _keep(kept, file.getvalue())
    return motion


def decoded_speech(speech: PreppedSpeech, config: RenderConfig) -> Path:
    """The samples of a recording on this machine: 16 kHz mono, signed 16 bit. Raises as `prep`."""
    return _decoded(_fetch(speech.uri, config), speech.uri, config)[1]


def soundtrack(uri: str, config: RenderConfig) -> "Soundtrack":
    """What the video of a recording plays: the original, or the decoded speech where the original is broken."""
    fetched = _fetch(uri, config)
    info, pcm = _decoded(fetched, uri, config)
    return info.soundtrack(fetched.path, pcm)


def _fetch(uri: str, config: RenderConfig) -> cache.Fetched:
    return cache.fetch(uri, config.cache.folder, config.cache.max_gb * 1e9)


def _decoded(fetched: cache.Fetched, uri: str, config: RenderConfig) -> "tuple[SpeechInfo, Path]":
    """`SpeechInfo` and the raw samples of a recording, decoded once per machine."""
    from pipeline.speech import SpeechInfo, decode_speech

    max_s = config.limits.max_audio_hours * 3600
    pcm = _kept(config, "speech", fetched.sha256, [max_s], ".s16")
    notes = pcm.with_suffix(".json")
    if notes.exists() and pcm.exists():
        cache.mark_used(pcm)
        cache.mark_used(notes)
        values = json.loads(notes.read_text())
        return SpeechInfo(**{**values, "warnings": tuple(values["warnings"])}), pcm
    pcm.parent.mkdir(parents=True, exist_ok=True)
    try:
        info = decode_speech(fetched.path, pcm, max_s)
    except InputError as error:
        raise _renamed(error, fetched.path, uri) from error
    _keep(notes, json.dumps(asdict(info)).encode())
    return info, pcm


@functools.cache
def _finder(backend: str, weights: str | None, min_size_px: float) -> Any:
    from pipeline.face import FaceFinder

    return FaceFinder(backend, weights, min_size_px)


def _finder_of(config: RenderConfig) -> Any:
    return _finder(config.face.backend, packs.detector_folder(config), config.face.min_size_px)


def _space_settings(config: RenderConfig) -> list:
    """What results depend on that are made in another space than the open one: none in that."""
    if packs.space_of(config) == "open":
        return []
    pack = packs.open_pack(config)
    hashes = [pack.declaration.provides[name].sha256 for name in registry.BFM_NEEDS] if pack else []
    return [packs.space_of(config), *hashes]


def _bfm(config: RenderConfig) -> "BfmSpace | None":
    """The face space of a job in the space bfm; None for others."""
    pack = packs.open_pack(config)
    return _bfm_of(pack) if pack and packs.space_of(config) == "bfm" else None


@functools.lru_cache(maxsize=1)
def _bfm_of(pack: "Pack") -> "BfmSpace":
    return packs.build(registry.build_bfm, pack)


def _find_face(fetched: cache.Fetched, uri: str, choice: FaceChoice, config: RenderConfig) -> PreppedPortrait:
    from pipeline.face import upright
    from pipeline.person import segment_person
    from pipeline.pictures import picture_warnings

    finder = _finder_of(config)
    candidate, picture, faces = _first_with_face(fetched.path, finder, config.limits.max_pixels)
    image, chosen = upright(picture.image, finder.choose(faces, choice))
    bfm = _bfm(config)
    fit = bfm.fit(chosen.landmarks68, image, chosen.fit.gaze) if bfm else chosen.fit
    found = [*picture.warnings, *picture_warnings(image, chosen.box), *chosen.warnings]
    if len(faces) > 1:
        found.append("several faces")
    if chosen.turns:
        found.append("turned upright")
    if chosen.size_px < SMALL_SHARE * max(image.shape[:2]):
        found.append("small in the picture")
    return PreppedPortrait(
        uri=uri,
        sha256=fetched.sha256,
        candidate=candidate,
        turns=chosen.turns,
        size_px=(image.shape[1], image.shape[0]),
        faces=len(faces),
        face=fit,
        matte_png=_matte_png(segment_person(image, chosen)),
        warnings=tuple(dict.fromkeys(found)),
    )


def _first_with_face(path: Path, finder: Any, max_pixels: int) -> "tuple[int, Picture, list[Face]]":
    """Number, picture and faces of the first candidate that shows any."""
    from pipeline.media import read_portrait

    failure = FaceError(f"{path} shows no face", "use a picture of one person looking at the camera")
    for candidate, picture in enumerate(read_portrait(path, max_pixels)):
        try:
            faces = finder.find(picture.image)
        except FaceError as error:
            failure = error
            continue
        if faces:
            return candidate, picture, faces
    raise failure


def _matte_png(matte: np.ndarray) -> bytes:
    import cv2

    scale = min(1.0, (MATTE_PIXELS / matte.size) ** 0.5)
    if scale < 1:
        matte = cv2.resize(matte, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    levels = np.round(np.clip(matte, 0, 1) * 255).astype(np.uint8)
    return cv2.imencode(".png", levels)[1].tobytes()


def matte_of(portrait: PreppedPortrait) -> np.ndarray:
    """The matte at the size of the upright picture, float32 in [0, 1], shape (H, W)."""
    import cv2

    levels = cv2.imdecode(np.frombuffer(portrait.matte_png, np.uint8), cv2.IMREAD_GRAYSCALE)
    if levels.shape[::-1] != portrait.size_px:
        levels = cv2.resize(levels, portrait.size_px, interpolation=cv2.INTER_LINEAR)
    return levels.astype(np.float32) / 255


def upright_image(portrait: PreppedPortrait, config: RenderConfig) -> np.ndarray:
    """The picture, upright, uint8, shape (H, W, 3). Raises as `prep`."""
    from pipeline.media import read_portrait

    fetched = _fetch(portrait.uri, config)
    candidates = read_portrait(fetched.path, config.limits.max_pixels)
    picture = next(itertools.islice(candidates, portrait.candidate, None))
    return np.ascontiguousarray(np.rot90(picture.image, portrait.turns))


def _renamed(error: InputError, path: Path, uri: str) -> InputError:
    """The error in terms of what the user wrote, not of a copy in our cache; it always names the file."""
    message = error.message.replace(str(path), uri)
    return type(error)(message if uri in message else f"{uri}: {message}", error.hint)


def _kept(config: RenderConfig, kind: str, sha256: str, settings: list, suffix: str) -> Path:
    """Where a result is kept that depends on a file's content and on settings."""
    text = json.dumps([PREP_REVISION, sha256, settings], sort_keys=True)
    name = hashlib.sha256(text.encode()).hexdigest()
    return config.cache.folder / kind / name[:2] / f"{name}{suffix}"


def _keep(path: Path, data: bytes) -> None:
    storage.write_atomic(str(path), data)


def _portrait_bytes(portrait: PreppedPortrait) -> bytes:
    """Arrays and one JSON text: nothing that could run when it is read."""
    face = {f"face_{item.name}": np.asarray(getattr(portrait.face, item.name)) for item in fields(FaceFit)}
    rest = {
        item.name: getattr(portrait, item.name) for item in fields(portrait) if item.name not in ("face", "matte_png")
    }
    file = io.BytesIO()
    matte = np.frombuffer(portrait.matte_png, np.uint8)
    np.savez(file, rest=np.array(json.dumps(rest)), matte_png=matte, **face)
    return file.getvalue()


def _load_portrait(path: Path, uri: str) -> PreppedPortrait:
    with np.load(path, allow_pickle=False) as arrays:
        rest = json.loads(str(arrays["rest"]))
        values = {item.name: arrays[f"face_{item.name}"] for item in fields(FaceFit)}
        values = {name: value if value.ndim else value.item() for name, value in values.items()}
        rest |= {"uri": uri, "size_px": tuple(rest["size_px"]), "warnings": tuple(rest["warnings"])}
        return PreppedPortrait(**rest, face=FaceFit(**values), matte_png=arrays["matte_png"].tobytes())
