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
    style: int | None = Field(
        default=None, ge=0, description="style of the generated head motion, where the motion system has styles"
    )
    reference: str | None = Field(
        default=None,
        min_length=1,
        description="video whose head motion is taken; of any length, followed there and back",
    )


class ExpressionControls(_Section):
    """Lips and face."""

    scale: float = Field(default=1.0, ge=0, le=3, description="gain of the generated expression")


class BlinkControls(_Section):
    """Blinks."""

    mode: Literal["auto", "off"] = Field(default="auto", description="auto: seeded natural blinks; off: none")
    per_minute: float = Field(default=17.0, gt=0, le=60, description="mean blinks per minute in mode auto")
    reference: str | None = Field(
        default=None, min_length=1, description="video whose blinks are taken; goes before mode"
    )

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
    framing: Literal["crop", "extcrop", "resize", "full", "extfull"] = Field(
        default="crop",
        description="crop: head and shoulders; resize: the whole picture, scaled; "
        "full: the whole picture at its own resolution; extcrop, extfull: as crop and full, with a larger box around "
        "the head",
    )
    face: FaceChoice = FaceChoice()
    pose: PoseControls = PoseControls()
    expression: ExpressionControls = ExpressionControls()
    blink: BlinkControls = BlinkControls()
    gaze: GazeControls = GazeControls()

    @property
    def references(self) -> tuple[str, ...]:
        """Videos that are to be followed, each once."""
        given = (self.pose.reference, self.blink.reference)
        return tuple(dict.fromkeys(uri for uri in given if uri is not None))

    @property
    def special(self) -> tuple[str, ...]:
        """Those that are set of the controls that not every motion system knows, by dotted name."""
        values = {
            "pose.style": self.pose.style,
            "pose.reference": self.pose.reference,
            "blink.reference": self.blink.reference,
        }
        return tuple(name for name, value in values.items() if value is not None)
