"""The manifest: one validated row per clip, and the names that follow from it."""

import hashlib
import json
import posixpath
from collections import defaultdict
from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from models import registry
from models.controls import Controls
from pipeline import storage
from pipeline.config import RenderConfig
from pipeline.errors import InputError, SetupError, TransientError
from pipeline.problems import explain
from pipeline.rows import Row, number_as_text, parse_rows

MAX_ID_BYTES = 200  # file systems allow 255 for a name; the rest is for a spec hash and an extension


def _checked_id(clip_id: str) -> str:
    found = f"is {clip_id[:60]!r}"
    if clip_id.startswith("."):
        raise ValueError(f"{found}: it names the video's file, and files that start with a dot are hidden")
    if any(character in "/\\" or ord(character) < 32 for character in clip_id):
        raise ValueError(f"{found}: it names the video's file, so it can't hold / or \\ or control characters")
    if len(_checked_text(clip_id).encode()) > MAX_ID_BYTES:
        raise ValueError(f"{found}...: it names the video's file, so it can't be longer than {MAX_ID_BYTES} bytes")
    return clip_id


def _checked_text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"is {text!r}, which is not valid Unicode") from None
    if "\0" in text:
        raise ValueError(f"is {text!r}: no file name holds a zero byte")
    return text


Uri = Annotated[str, Field(min_length=1), AfterValidator(_checked_text)]


class Clip(BaseModel):
    """One video to make.

    Args:
        id: names the clip and its file; unique in its manifest.
        portrait: absolute path or URI of the picture or video.
        audio: absolute path or URI of the speech.
        controls: the job's controls with the row's own on top.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, Field(min_length=1), BeforeValidator(number_as_text), AfterValidator(_checked_id)]
    portrait: Uri
    audio: Uri
    controls: Controls = Controls()

    @property
    def seed(self) -> int:
        """Seed of everything random in this clip: the user's, or one that follows from the id; in [0, 2^63)."""
        if self.controls.seed is not None:
            return self.controls.seed
        return int.from_bytes(hashlib.sha256(self.id.encode()).digest()[:8], "big") >> 1


def clips_of(config: RenderConfig) -> list[Clip]:
    """The clips that a job is about: its manifest's, or its single one.

    Raises:
        SetupError: with every problem of the manifest.
    """
    if config.manifest:
        return read_manifest(config.manifest, config.controls)
    return [single_clip(config.portrait or "", config.audio or "", config.controls)]


def single_clip(portrait: str, audio: str, controls: Controls) -> Clip:
    """A clip without a manifest, named after its two files."""
    stems = [PurePath(posixpath.basename(uri)).stem for uri in (portrait, audio)]
    media = {"portrait": storage.absolute(portrait), "audio": storage.absolute(audio)}
    values = {**media, "controls": _located(controls, "")}
    try:
        return Clip.model_validate({"id": "_".join(stems).lstrip("."), **values})
    except ValidationError:
        # names that can't be an id
        try:
            return Clip.model_validate({"id": _row_hash({"portrait": portrait, "audio": audio}), **values})
        except ValidationError as error:
            raise SetupError(explain(error, Clip, values)) from error


def read_manifest(uri: str, defaults: Controls) -> list[Clip]:
    """The validated clips of a jsonl, csv or parquet manifest, in its order.

    Args:
        uri: path or URI; its extension says what it is. Relative paths in rows are relative to its folder.
        defaults: controls that rows override key by key.
    Raises:
        SetupError: with every problem found, one line each.
    """
    name = posixpath.basename(uri)
    try:
        content = storage.read_bytes(uri)
    except (InputError, TransientError) as error:
        raise SetupError([f"manifest: {error}"]) from error
    rows = parse_rows(name, content)
    if not rows:
        raise SetupError([f"{name} is empty: write one clip per row"])
    problems: list[str] = []
    clips: list[Clip] = []
    places: dict[str, list[str]] = defaultdict(list)
    base, shared = storage.parent(uri), _located(defaults, "").model_dump()
    for row in rows:
        clip = _read_row(name, row, base, shared, problems)
        if clip:
            clips.append(clip)
        clip_id = clip.id if clip else row.values.get("id")
        if isinstance(clip_id, str):
            places[clip_id].append(row.place)
    for clip_id, found in places.items():
        if len(found) > 1:
            problems.append(f"{name} {', '.join(found)}: the same id '{clip_id}'; ids must be unique, they name videos")
    if problems:
        raise SetupError(problems)
    return clips


def spec_hash(clip: Clip, config: RenderConfig) -> str:
    """16 hex digits that change when the clip's video would: the key of finished work, together with the id.

    Inputs count by address, not by content: reading each of them would make resuming as slow as rendering.
    """
    spec = {
        "revision": registry.REVISION,
        "portrait": clip.portrait,
        "audio": clip.audio,
        "controls": clip.controls.model_dump(mode="json") | {"seed": clip.seed},
        "motion": config.motion.model_dump(mode="json", exclude={"pack"}),
        "renderer": config.renderer,
        "pack": _pinned_to(config.pack),
        "face": config.face.model_dump(mode="json", include={"backend"}),
        "max_pixels": config.limits.max_pixels,
        "encode": config.encode.model_dump(mode="json"),
        "max_part_seconds": config.max_part_seconds,
    }
    if config.motion.pack:
        spec["motion_pack"] = _pinned_to(config.motion.pack)
    if config.enhancer:
        spec["enhancer"] = config.enhancer
    if config.quality.check:
        from pipeline.ladder import decisive_settings

        spec["quality"] = decisive_settings(config)
    return _row_hash(spec)


def _read_row(name: str, row: Row, base: str, shared: Mapping[str, Any], problems: list[str]) -> Clip | None:
    """The clip of a row, or None and lines in `problems`."""
    if row.problems:
        problems += [f"{name} {row.place}: {problem}" for problem in row.problems]
        return None
    values = dict(row.values)
    given_id = values.get("id")
    if given_id is None:
        values["id"] = _row_hash(row.values)
    if values.get("controls") is None:
        values["controls"] = {}
    for key in ("portrait", "audio"):
        if values.get(key) is None:
            values.pop(key, None)
    if isinstance(values["controls"], Mapping):
        values["controls"] = _overlaid(shared, values["controls"])
    try:
        clip = Clip.model_validate(values)
    except ValidationError as error:
        label = f"{name} {row.place}" + (f" (id {str(given_id)[:60]!r})" if given_id is not None else "")
        problems += [f"{label}: {sentence}" for sentence in explain(error, Clip, values)]
        return None
    resolved = {key: storage.absolute(storage.join(base, getattr(clip, key))) for key in ("portrait", "audio")}
    return clip.model_copy(update={**resolved, "controls": _located(clip.controls, base)})


def _overlaid(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`below` with the keys of `above` on top, group by group."""
    merged = dict(below)
    for key, value in above.items():
        lower = merged.get(key)
        merged[key] = _overlaid(lower, value) if isinstance(value, Mapping) and isinstance(lower, Mapping) else value
    return merged


def _located(controls: Controls, base: str) -> Controls:
    """Controls whose reference videos don't depend on the current folder.

    Args:
        base: folder that relative names are relative to; "" is the current one.
    """
    changes = {}
    for section in ("pose", "blink"):
        group = getattr(controls, section)
        if group.reference is not None:
            place = storage.absolute(storage.join(base, group.reference))
            changes[section] = group.model_copy(update={"reference": place})
    return controls.model_copy(update=changes)


def _pinned_to(pack: str) -> str:
    """What a pack's place has to do with a clip: its hash; the place itself only where it isn't pinned."""
    return pack.partition("#sha256=")[2] or pack


def _row_hash(values: Mapping[str, Any]) -> str:
    canonical = json.dumps(values, sort_keys=True, ensure_ascii=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
