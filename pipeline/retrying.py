"""Try storage calls again while that may help, and say in plain words what went wrong when it did not."""

import difflib
import errno
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pipeline.errors import InputError, MissingError, RenderError, TalkfarmError, TransientError

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 10.0
# fmt: off
TRANSIENT_CODES = {  # of S3; NoSuchUpload: the retry of a completed multipart upload
    "ConditionalRequestConflict", "InternalError", "NoSuchUpload", "OperationAborted", "RequestLimitExceeded",
    "RequestTimeout", "ServiceUnavailable", "SlowDown", "Throttling", "ThrottlingException",
    "409", "429", "500", "502", "503", "504",
}
TRANSIENT_ERRNOS = {
    errno.EAGAIN, errno.EBUSY, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EREMOTEIO, errno.ETIMEDOUT,
}
TRANSIENT_TYPES = {  # by name: importing botocore and aiohttp would take longer than rendering a few frames
    "ClientConnectionError", "ClientPayloadError", "ConnectionError", "FSTimeoutError", "HTTPClientError",
    "IncompleteRead", "ResponseParserError",
}
# fmt: on
T = TypeVar("T")


def patiently(uri: str, call: Callable[[], T], retries: int) -> T:
    """The result of a call about `uri`; what may pass is tried again, what remains is raised as one of our errors."""
    for attempt in range(retries + 1):
        try:
            return call()
        except TalkfarmError:
            raise
        except Exception as error:
            if not _may_pass(error):
                raise _translated(uri, error) from error
            if attempt == retries:
                raise TransientError(
                    f"{uri}: {first_line(error)}, after {attempt + 1} attempts",
                    "check the network and the endpoint (AWS_ENDPOINT_URL), then run again: finished clips are kept",
                ) from error
            # jitter, so that a hundred workers don't come back at the same moment
            time.sleep(min(FIRST_PAUSE_S * 2**attempt, LONGEST_PAUSE_S) * random.uniform(0.5, 1.0))
    raise AssertionError("unreachable: the last attempt returns or raises")


def _may_pass(error: BaseException) -> bool:
    code = error_code(error)
    if code:
        return code in TRANSIENT_CODES
    if isinstance(error, (TimeoutError, ConnectionError)) or getattr(error, "errno", None) in TRANSIENT_ERRNOS:
        return True
    return any(ancestor.__name__ in TRANSIENT_TYPES for ancestor in type(error).__mro__)


def error_code(error: BaseException) -> str:
    """The object store's own word for an error, "" if it gave none; s3fs hides it in the cause."""
    for link in (error, error.__cause__):
        response = getattr(link, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
    return ""


def _translated(uri: str, error: Exception) -> TalkfarmError:
    code = error_code(error)
    if code == "NoSuchBucket":
        bucket = uri.split("/")[2]
        return MissingError(
            f"{uri}: there is no bucket '{bucket}'", "check the name and the endpoint (AWS_ENDPOINT_URL)"
        )
    if isinstance(error, FileNotFoundError):
        return MissingError(f"{uri} does not exist", _hint_for_missing(uri))
    if isinstance(error, (IsADirectoryError, NotADirectoryError)):
        return InputError(f"{uri} is not a file", "give the path of a file")
    if isinstance(error, PermissionError) or code in ("AccessDenied", "403"):
        keys = "the permissions of AWS_ACCESS_KEY_ID" if _is_remote(uri) else "its permissions"
        return InputError(f"{uri}: access denied", f"check {keys}")
    if "Credentials" in type(error).__name__:
        return InputError(f"{uri}: no credentials", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if getattr(error, "errno", None) == errno.ENOSPC:
        return RenderError(f"{uri}: the disk is full", "free some space and run again: finished clips are kept")
    if getattr(error, "errno", None) == errno.ENAMETOOLONG:
        return InputError(f"{uri}: the name is too long", "use a shorter name")
    return RenderError(f"{uri}: {first_line(error)}", "check the location, then run again")


def _hint_for_missing(uri: str) -> str:
    if _is_remote(uri):
        return "check the name and the endpoint (AWS_ENDPOINT_URL)"
    path = Path(uri.removeprefix("file://")).expanduser()
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    close = difflib.get_close_matches(path.name, [entry.name for entry in path.parent.iterdir()], n=1, cutoff=0.8)
    return f"did you mean '{close[0]}'?" if close else "check the name"


def _is_remote(uri: str) -> bool:
    return "://" in uri and not uri.startswith("file://")


def first_line(error: BaseException) -> str:
    """What an error says, without the lines that only its authors understand."""
    return (str(error) or type(error).__name__).splitlines()[0]
