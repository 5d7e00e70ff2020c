"""Everything that can go wrong, by what should happen next.

SetupError            exit code 2, nothing started; lists every problem found
TalkfarmError         a clip, or a part of it, could not be made
├── InputError        the clip is `rejected`: its input is at fault, no retry helps
│   ├── MissingError      no such file, object or bucket
│   ├── PictureError      unreadable, too large, truncated beyond use
│   ├── AudioError        unreadable, empty, too short
│   ├── VideoError        no video stream, no frame
│   └── FaceError         no face, face too small
├── QualityError      the clip is `rejected`: it was rendered, and fails the checks of the quality gate
├── TransientError    storage or network hiccup: retried, then `failed`
└── RenderError       we are at fault: `failed`

The class alone decides. A message says what was found in which file; the hint says what to do.
"""


class TalkfarmError(Exception):
    """Base class: a sentence for the user and a hint what to do.

    Args:
        message: what was found, naming the file.
        hint: what the user can do about it.
    """

    def __init__(self, message: str, hint: str):
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self):
        return (type(self), (self.message, self.hint))

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})"


class SetupError(Exception):
    """The manifest or the configuration can't be used. Raised once, with every problem found."""

    def __init__(self, problems: list[str]):
        super().__init__("\n".join(problems))
        self.problems = problems

    def __reduce__(self):
        return (type(self), (self.problems,))


class InputError(TalkfarmError):
    """The clip's own input is at fault."""


class MissingError(InputError):
    """There is no such file, object or bucket."""


class PictureError(InputError):
    """The portrait can't be decoded or used."""


class AudioError(InputError):
    """The speech can't be decoded or used."""


class VideoError(InputError):
    """The video can't be decoded or used."""


class FaceError(InputError):
    """No usable face in the portrait."""


class QualityError(TalkfarmError):
    """The clip was rendered, and what came of it is outside of what the quality gate wants.

    Args:
        quality: what was measured, as the clip's record holds it.
    """

    def __init__(self, message: str, hint: str, quality: str):
        super().__init__(message, hint)
        self.quality = quality

    def __reduce__(self):
        return (type(self), (self.message, self.hint, self.quality))


class TransientError(TalkfarmError):
    """Storage or network failed in a way that may pass; raised after the retries are spent."""


class RenderError(TalkfarmError):
    """A stage of ours failed on good input."""
