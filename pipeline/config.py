"""What a job is asked to do: one validated, frozen object.

Load order: defaults < `config=file.yaml` < `key=value` from the command line (< a manifest row's own controls).
Every field has a description, which is what `--help` prints, and a default that suits a laptop.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from yaml import YAMLError

from models import registry
from models.controls import Controls
from models.packs import shipped_pack
from pipeline.errors import InputError, SetupError, TransientError
from pipeline.problems import allowed, explain, iterate_fields
from pipeline.retrying import first_line

Settings = TypeVar("Settings", bound=BaseModel)
Rung = Literal["seed", "calm", "system"]


class Section(BaseModel):
    """A group of settings: no others, and none of them changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class MotionConfig(Section):
    """Speech to coefficients."""

    system: str = Field(default="articulator", description=f"the motion system: {', '.join(registry.MOTION_SYSTEMS)}")
    pack: str | None = Field(
        default=None,
        min_length=1,
        description="another pack than 'pack', of the same coefficient space, to build the motion system from",
    )

    @field_validator("system")
    @classmethod
    def _known_system(cls, name: str) -> str:
        return _one_of(name, list(registry.MOTION_SYSTEMS))


class FaceConfig(Section):
    """Finding the face in a portrait."""

    backend: Literal["mediapipe", "face_alignment"] = Field(
        default="mediapipe", description="what finds faces and landmarks"
    )
    weights: str | None = Field(default=None, description="folder with the weights of the face_alignment backend")
    min_size_px: float = Field(
        default=16.0, ge=4, description="smallest distance between the outer eye corners, pixels"
    )


class LimitsConfig(Section):
    """What an input may ask of us."""

    max_pixels: int = Field(
        default=24_000_000,
        ge=65_536,
        description="most pixels kept of a picture: larger JPEGs are decoded at a reduced scale, other formats are "
        "reduced up to four times as many pixels and rejected beyond",
    )
    max_audio_hours: float = Field(default=4.0, gt=0, description="longest speech of a clip, hours; longer is rejected")


class EncodeConfig(Section):
    """H.264 and AAC."""

    crf: int = Field(default=18, ge=0, le=51, description="constant quality of H.264: lower is better and larger")
    preset: Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower"] = Field(
        default="veryfast", description="speed of H.264 against file size"
    )
    audio_kbps: int = Field(default=128, ge=16, le=512, description="AAC bit rate, kbit/s")


class QualityConfig(Section):
    """Checks of every rendered clip; one that fails is rendered again, rung by rung, and rejected if nothing helps."""

    check: bool = Field(default=False, description="check every clip after rendering it")
    ladder: tuple[Rung, ...] = Field(
        default=("seed", "calm", "system"),
        description="what a clip that fails is rendered again with, in this order, each rung on top of those before: "
        "seed: another seed; calm: half the head motion; system: another motion system, where there is one",
    )
    face_every: int = Field(default=25, ge=1, description="the face is looked for in every n-th frame")
    least_faces: float = Field(default=0.95, ge=0, le=1, description="least share of these frames with a face")
    most_black: float = Field(default=0.0, ge=0, le=1, description="largest share of black frames")
    most_frozen: float = Field(default=0.5, ge=0, le=1, description="largest share of frames that repeat the last one")
    quietest_lufs: float = Field(default=-45.0, ge=-70, le=0, description="least loudness of the sound track, LUFS")
    loudest_lufs: float = Field(default=-5.0, ge=-70, le=6, description="largest loudness of the sound track, LUFS")
    sync_seconds: float = Field(
        default=20.0, ge=0, description="stretch of a clip in which lips are compared with the sound; 0: nowhere"
    )
    least_sync: float | None = Field(
        default=None, ge=0, le=2, description="least confidence of the sync probe; default: that of real speakers"
    )
    most_sync: float | None = Field(
        default=None, ge=0, le=2, description="largest confidence of the sync probe; default: that of real speakers"
    )
    most_lag: float = Field(default=5.0, ge=0, le=15, description="largest lag of the sound against the lips, frames")

    @model_validator(mode="after")
    def _bands_hold_something(self) -> "QualityConfig":
        for least, most in (("quietest_lufs", "loudest_lufs"), ("least_sync", "most_sync")):
            low, high = getattr(self, least), getattr(self, most)
            if low is not None and high is not None and low > high:
                raise ValueError(f"leaves nothing: '{least}' is {low:g}, above '{most}', which is {high:g}")
        return self


class FlowConfig(Section):
    """How the work is spread over processes and machines."""

    render_actors: int = Field(default=0, ge=0, description="render workers; 0: as many as the cluster has room for")
    motion_actors: int = Field(default=0, ge=0, description="motion workers; 0: sized to the cluster")
    prep_cpus: float = Field(default=1.0, gt=0, description="CPUs reserved for one preparation task")
    gpus_per_render_actor: float = Field(
        default=0.0, ge=0, le=1, description="share of a GPU per render worker; 0: CPU"
    )
    max_row_mb: float = Field(
        default=8.0,
        gt=0,
        description="largest video carried between workers in memory, MB; a larger one goes to storage first",
    )
    rows_per_tar: int = Field(default=100, ge=1, description="clips per tar, layout=tar")
    progress_every_s: float = Field(default=10.0, gt=0, description="seconds between progress lines")


class CacheConfig(Section):
    """Where a machine keeps fetched inputs and intermediate results, by content."""

    dir: str = Field(default="~/.cache/talkfarm", description="folder on each machine")
    max_gb: float = Field(default=20.0, gt=0, description="size above which the least recently used files go, GB")

    @property
    def folder(self) -> Path:
        """The folder on the machine that asks."""
        return Path(self.dir).expanduser()


class StorageConfig(Section):
    """Object storage. Endpoint and credentials are usually in AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, ..."""

    options: dict[str, Any] = Field(
        default={},
        description="options of the fsspec file system of remote URIs, such as "
        "storage.options.anon=true; not kept in the record of a run",
    )
    retries: int = Field(
        default=5, ge=0, le=20, description="retries of a storage call that timed out, was reset or refused"
    )


class RenderConfig(Section):
    """A whole job."""

    manifest: str | None = Field(default=None, description="jsonl, csv or parquet file, one clip per row")
    portrait: str | None = Field(default=None, description="picture or video, for a single clip instead of a manifest")
    audio: str | None = Field(default=None, description="speech, for a single clip instead of a manifest")
    out: str = Field(default="out", description="output folder; for a single clip also the name of an .mp4 file")
    layout: Literal["files", "tar"] = Field(
        default="files", description="files: one mp4 per clip; tar: WebDataset shards"
    )
    controls: Controls = Controls()
    motion: MotionConfig = MotionConfig()
    renderer: str = Field(default="mesh", description=f"the renderer: {', '.join(registry.RENDERERS)}")
    pack: str = Field(
        default=registry.OPEN,
        min_length=1,
        description="the set of weights: open, which ships, or the folder or URI of a pack (docs/weights.md)",
    )
    enhancer: str | None = Field(
        default=None,
        description="package.module:function that is given each batch of frames before they are pasted back and "
        "encoded: uint8 (n, height, width, 3) -> as many frames of any one size",
    )
    face: FaceConfig = FaceConfig()
    limits: LimitsConfig = LimitsConfig()
    encode: EncodeConfig = EncodeConfig()
    max_part_seconds: Annotated[float, Field(ge=1)] = Field(
        default=60.0, description="longer clips are rendered in parts of this length, then joined, seconds"
    )
    quality: QualityConfig = QualityConfig()
    flow: FlowConfig = FlowConfig()
    cache: CacheConfig = CacheConfig()
    storage: StorageConfig = StorageConfig()

    @field_validator("renderer")
    @classmethod
    def _known_renderer(cls, name: str) -> str:
        return _one_of(name, list(registry.RENDERERS))

    @property
    def motion_pack(self) -> str:
        """The set of weights that motion systems are built from."""
        return self.motion.pack or self.pack

    def weights_with(self, system: str) -> str:
        """What a clip's record says it was made with, for a motion system."""
        renderer = f"{_label(self.pack)}:{self.renderer}" if self.motion.pack else self.renderer
        return f"{_label(self.motion_pack)}:{system}+{renderer}"

    @model_validator(mode="after")
    def _one_source(self) -> "RenderConfig":
        if self.manifest and (self.portrait or self.audio):
            raise ValueError("'manifest' and 'portrait' + 'audio' exclude each other: give one of them")
        if not self.manifest and not (self.portrait and self.audio):
            missing = [f"'{name}'" for name in ("portrait", "audio") if not getattr(self, name)]
            if len(missing) == 1:
                raise ValueError(f"{missing[0]} is missing: a single clip needs portrait=... and audio=...")
            raise ValueError("nothing to do: give manifest=FILE, or portrait=FILE audio=FILE for a single clip")
        return self

    @model_validator(mode="after")
    def _one_space(self) -> "RenderConfig":
        system, renderer = registry.MOTION_SYSTEMS[self.motion.system], registry.RENDERERS[self.renderer]
        if system.space and renderer.space and system.space != renderer.space:
            raise ValueError(mixed_spaces(self.motion.system, self.renderer))
        return self

    @model_validator(mode="after")
    def _pack_where_needed(self) -> "RenderConfig":
        """Which space another pack is of, and what it holds, `pipeline.packs.settle` looks up."""
        system = registry.MOTION_SYSTEMS[self.motion.system]
        if self.motion.pack and not system.takes_weights:
            raise ValueError(f"'motion.pack' is set, of which motion.system '{self.motion.system}' takes nothing")
        named = {f"renderer '{self.renderer}'": registry.RENDERERS[self.renderer]}
        if not self.motion.pack:
            named = {f"motion.system '{self.motion.system}'": system} | named
        if self.pack == registry.OPEN:
            shipped = shipped_pack()
            needed = {user: entry.needs(shipped, self.controls) for user, entry in named.items()}
            lacking = [user for user, names in needed.items() if not all(name in shipped for name in names)]
            if lacking:
                raise ValueError(
                    f"no weights ship for {' and '.join(lacking)}: make a pack of your files by `python -m "
                    "jobs.weights import sadtalker FILES... out=FOLDER` and set pack=FOLDER (docs/weights.md)"
                )
        elif not any(e.takes_weights for e in named.values()) and self.face.backend != "face_alignment":
            kinds = {"motion.system": registry.MOTION_SYSTEMS, "renderer": registry.RENDERERS}
            able = [f"{key}={name}" for key, kind in kinds.items() for name, e in kind.items() if e.takes_weights]
            raise ValueError(
                f"'pack' is {self.pack!r}, of which {' and '.join(named)} take nothing: set {' or '.join(able)}, "
                "or leave pack out"
            )
        return self


def _label(pack: str) -> str:
    """A short name of a pack, with the beginning of its hash where it is pinned."""
    place, _, sha256 = pack.partition("#sha256=")
    name = place.rstrip("/").rpartition("/")[2]
    return f"{name}@{sha256[:8]}" if sha256 else name


def mixed_spaces(system: str, renderer: str, pack_space: str | None = None) -> str:
    """The sentence that refuses a motion system and a renderer of different coefficient spaces.

    Args:
        pack_space: of the pack, where one is in use.
    """
    systems = {name: entry.space or pack_space for name, entry in registry.MOTION_SYSTEMS.items()}
    renderers = {name: entry.space or pack_space for name, entry in registry.RENDERERS.items()}
    spoken, understood = systems[system], renderers[renderer]
    options = {
        f"renderers of '{spoken}'": [name for name, space in renderers.items() if space == spoken],
        f"motion systems of '{understood}'": [name for name, space in systems.items() if space == understood],
    }
    advice = "; ".join(f"{kind}: {', '.join(able)}" if able else f"no {kind}" for kind, able in options.items())
    return (
        f"motion.system '{system}' speaks the coefficient space '{spoken}', renderer '{renderer}' understands "
        f"'{understood}': numbers of one mean nothing in the other, so change one of the two; {advice}"
    )


def load_config(arguments: list[str]) -> RenderConfig:
    """The render job's configuration, as `load_settings`."""
    return load_settings(RenderConfig, arguments)


def load_settings(model: type[Settings], arguments: list[str]) -> Settings:
    """The configuration that command-line words such as `manifest=m.jsonl encode.crf=20 config=night.yaml` ask for.

    Values of text settings are taken as they stand; others are read as YAML (`controls.pose.yaw=[0,10,0]`).

    Args:
        model: of a job's settings.
    Raises:
        SetupError: with every problem found.
    """
    text_settings = {key for key, field in iterate_fields(model) if field.annotation in (str, str | None)}
    problems: list[str] = []
    files: list[dict] = []
    asked = OmegaConf.create()
    for word in arguments:
        key, equals, value = word.partition("=")
        if not equals or not key.strip():
            problems.append(f"'{word}' is not of the form key=value")
        elif key == "config":
            files.append(_read_file(value, problems))
        else:
            _set(asked, key.strip(), value, key.strip() in text_settings, problems)
    merged = _merge([*files, asked], problems)
    config = None
    try:
        config = model.model_validate(merged)
    except ValidationError as error:
        problems += explain(error, model, merged)
    if config is None or problems:
        raise SetupError(problems)
    return config


def describe(model: type[BaseModel] = RenderConfig) -> str:
    """Every setting of a job with its default and meaning, for `--help`."""
    lines = []
    for key, field in iterate_fields(model):
        default = "" if field.default is None or field.is_required() else _as_word(field.default)
        lines.append(f"{key}={default}\n    {field.description} ({allowed(field.annotation, field.metadata)})")
    return "\n".join(lines)


def dump_config(config: BaseModel) -> str:
    """YAML that `config=` reads back; storage options are left out, as they may hold secrets."""
    return OmegaConf.to_yaml(OmegaConf.create(config.model_dump(mode="json", exclude={"storage": {"options"}})))


def _set(asked: Any, key: str, value: str, is_text: bool, problems: list[str]) -> None:
    try:
        if is_text:
            # not YAML: a file may be called 'a: b #1.png' or '007'
            OmegaConf.update(asked, key, value or None)
        else:
            asked.merge_with_dotlist([f"{key}={value}"])
    except YAMLError as error:
        problems.append(f"'{key}={value}': the value is not YAML: {first_line(error)}")
    except (OmegaConfBaseException, ValueError, TypeError, AttributeError) as error:
        problems.append(f"'{key}={value}' can't be used: {first_line(error)}")


def _read_file(uri: str, problems: list[str]) -> dict:
    from pipeline import storage

    try:
        content = OmegaConf.to_container(OmegaConf.create(storage.read_bytes(uri).decode("utf-8-sig")))
    except (InputError, TransientError) as error:
        problems.append(f"config: {error}")
    except Exception as error:  # YAML's, OmegaConf's and the decoder's errors have no common base
        problems.append(f"config={uri} is not YAML: {first_line(error)}")
    else:
        if isinstance(content, dict):
            return content
        problems.append(f"config={uri} is not a list of key: value lines")
    return {}


def _merge(layers: list[Any], problems: list[str]) -> dict:
    try:
        merged = OmegaConf.to_container(OmegaConf.merge(*layers), resolve=True)
    except OmegaConfBaseException as error:
        raise SetupError([*problems, f"settings can't be combined: {first_line(error)}"]) from error
    return merged if isinstance(merged, dict) else {}


def _one_of(name: str, known: list[str]) -> str:
    if name not in known:
        raise ValueError(f"is '{name}', but must be {' or '.join(repr(choice) for choice in known)}")
    return name


def _as_word(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{','.join(map(str, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)
