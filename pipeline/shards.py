"""Tar files of finished clips in WebDataset's form: two members per clip, <id>.mp4 and <id>.json.

WebDataset takes everything after the first dot of a name as its extension, so dots in ids are written as %2E; the
id itself is in the JSON. Readers that go by the index need no tar library: it says where each video starts.
"""

import io
import json
import tarfile
from dataclasses import asdict
from pathlib import Path

from pipeline.records import Record


def write_tar(path: Path, clips: list[tuple[Record, bytes]]) -> list[int]:
    """Write a tar of videos and what is known of them.

    Returns:
        Where each video starts, bytes from the beginning of the file.
    """
    offsets = []
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for record, video in clips:
            key = record.clip_id.replace("%", "%25").replace(".", "%2E")
            _add(tar, f"{key}.mp4", video)
            offsets.append(tar.offset - _padded(len(video)))
            known = {name: value for name, value in asdict(record).items() if name != "thumbnail"}
            _add(tar, f"{key}.json", json.dumps(known, ensure_ascii=False).encode())
    return offsets


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
