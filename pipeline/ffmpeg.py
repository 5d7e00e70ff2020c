"""The one place that starts ffmpeg: quiet, without a shell, without the network, without leftovers."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import BinaryIO, cast

TAIL_CHARACTERS = 1200  # how much of ffmpeg's last words goes into an error


@cache
def program() -> str:
    """Path of the ffmpeg program."""
    import imageio_ffmpeg

    return imageio_ffmpeg.get_ffmpeg_exe()


def command(*arguments: str) -> list[str]:
    """A full command line with the options that every call shares."""
    return [program(), "-hide_banner", "-nostdin", "-nostats", *arguments]


def source(path: Path) -> list[str]:
    """Arguments that open a local file, whatever its name looks like (a leading dash, a colon).

    Only local files: a playlist dressed up as a video must not make us fetch from the network.
    """
    return ["-protocol_whitelist", "file,crypto,data", "-i", f"file:{os.fspath(path)}"]


def describe(path: Path) -> str:
    """What ffmpeg prints about a file: container, duration and streams, or why it can't be opened."""
    # Without an output ffmpeg always ends with an error; only its words matter.
    return _words(command(*source(path)))


def complaints(path: Path) -> str:
    """What the decoder says against a picture or a file's first video stream; empty if all is well."""
    return _words(command("-v", "error", *source(path), "-map", "0:v:0", "-f", "null", "-"))


def describe_sound(path: Path, filters: str) -> str:
    """What ffmpeg prints while a file's first sound track runs through filters that measure it."""
    return _words(command(*source(path), "-map", "0:a:0", "-af", filters, "-f", "null", "-"))


def _words(line: list[str]) -> str:
    done = subprocess.run(
        line, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False
    )
    return done.stderr.decode(errors="replace").strip()


class Process:
    """A running ffmpeg with one end of a pipe in our hands; closing it always ends and reaps the process.

    If we die, the pipe closes and ffmpeg ends by itself.

    Args:
        arguments: all but the program and the shared options; "pipe:0" or "pipe:1" is our end.
        feeds: True to write to its standard input, False to read from its standard output.
    """

    def __init__(self, arguments: list[str], feeds: bool = False):
        # A file, not a pipe: nobody would empty a second pipe while we use the first.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._process = subprocess.Popen(
            command("-v", "warning", *arguments),
            stdin=subprocess.PIPE if feeds else subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if feeds else subprocess.PIPE,
            stderr=self._log,
        )
        self.pipe = cast(BinaryIO, self._process.stdin if feeds else self._process.stdout)

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def chunks(self, size: int) -> Iterator[bytes]:
        """What the process writes, in pieces of `size` bytes; the last one may be shorter."""
        while chunk := self.pipe.read(size):
            yield chunk

    def finish(self) -> bool:
        """Close our end, wait for the process to end; whether it succeeded."""
        try:
            self.pipe.close()
        except BrokenPipeError:  # it had ended before we had written everything
            self._process.wait()
            return False
        return self._process.wait() == 0

    def close(self) -> None:
        """End the process if it still runs, reap it and forget its messages."""
        if self._process.poll() is None:
            self._process.kill()
        self.finish()
        self._log.close()

    def said(self) -> str:
        """The tail of its messages so far."""
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - TAIL_CHARACTERS))
        return self._log.read().decode(errors="replace").strip()
