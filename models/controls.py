"""What a user may set per clip. One validated definition, read by manifests, configs and motion systems."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Degrees = Annotated[float, Field(ge=-60, le=60)]
Track = Degrees | Annotated[list[Degrees], Field(min_length=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PoseControls(_Section):
    """Head motion."""

    scale: float = Field(
        default=1.0, ge=0, le=3, description="gain of the generated head motion; 0 is the same as still"
    )
    still: bool = Field(default=False, description="keep the head as in the portrait")
    yaw: Track | None = Field(
        default=None,
        description="degrees added to the portrait's yaw: a number, or a list of "
        "key values spread evenly over the clip; replaces the generated yaw",
    )
    pitch: Track | None = Field(default=None, description="as yaw, for pitch")
    roll: Track | None = Field(default=None, description="as yaw, for roll")


class ExpressionControls(_Section):
    """Lips and face."""

    scale: float = Field(default=1.0, ge=0, le=3, description="gain of the generated expression")


class BlinkControls(_Section):
    """Blinks."""

    mode: Literal["auto", "off"] = Field(default="auto", description="auto: seeded natural blinks; off: none")
    per_minute: float = Field(default=17.0, gt=0, le=60, description="mean blinks per minute in mode auto")

    @field_validator("mode", mode="before")
    @classmethod
    def _unquoted_off(cls, mode: object) -> object:
        # YAML reads a bare `off` as false
        return "off" if mode is False else mode


class GazeControls(_Section):
    """Where the eyes look."""

    mode: Literal["source", "fixed"] = Field(
        default="source", description="source: as in the portrait; fixed: yaw, pitch"
    )
    yaw: Annotated[float, Field(ge=-35, le=35)] = Field(
        default=0.0, description="degrees relative to the head, mode fixed"
    )
    pitch: Annotated[float, Field(ge=-25, le=25)] = Field(
        default=0.0, description="degrees relative to the head, mode fixed"
    )


class FaceChoice(_Section):
    """Which face of a picture with several."""

    pick: Literal["largest", "leftmost", "rightmost", "centre"] | Annotated[int, Field(ge=0)] = Field(
        default="largest", description="a rule, or the face's number from left to right, starting at 0"
    )


class Controls(_Section):
    """All controls of a clip; every field has a default that suits a plain photo."""

    seed: int | None = Field(default=None, ge=0, lt=2**63, description="default: derived from the clip's id")
    size: Literal[256, 512] = Field(default=256, description="longer side of a cropped or resized video, pixels")
    framing: Literal["crop", "resize", "full"] = Field(
        default="crop",
        description="crop: head and shoulders; resize: the whole picture, scaled; "
        "full: the whole picture at its own resolution",
    )
    face: FaceChoice = FaceChoice()
    pose: PoseControls = PoseControls()
    expression: ExpressionControls = ExpressionControls()
    blink: BlinkControls = BlinkControls()
    gaze: GazeControls = GazeControls()
