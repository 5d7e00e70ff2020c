"""The output folder and the protocol by which a clip comes into being, exactly once.

    out/
        run.json  config.yaml  report.json  report.html
        videos/<shard>/<clip id>.mp4             layout=files
        videos/part-<attempt>.tar                layout=tar
        index/<clip id>.<spec hash>.parquet      commit records
        failed/<clip id>.parquet                 clips that could not be rendered
        parts/<clip id>/<spec hash>/...          long clips until they are joined
        crashes/<clip id>.<spec hash>.json       workers that a clip has killed

A video exists when its commit record does. The record is written last and only if absent, so of several
executions of a clip (a retry, a zombie, a second job on the same folder) one wins and the others take their video
away again. No video object is ever overwritten: not a committed one, and not an orphan either, which a slower
execution may be about to commit. Two jobs on one folder are therefore safe without a lease; what they do twice is
work, never a clip. Nothing here knows of Ray.
"""

import contextlib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from pipeline import storage
from pipeline.errors import RenderError
from pipeline.records import Record, from_parquet, to_parquet

SPEC_DIGITS = 8  # of the spec hash, in a file name that must differ from an older one


@dataclass(frozen=True)
class PartName:
    """The name of a part's commit record: which part, of how many."""

    part: int
    parts: int

    def __str__(self) -> str:
        return f"{self.part:05d}-of-{self.parts:05d}"

    @classmethod
    def parse(cls, name: str) -> "PartName":
        part, parts = name.removesuffix(".parquet").split("-of-")
        return cls(int(part), int(parts))


@dataclass(frozen=True)
class Output:
    """An output folder, local or remote."""

    uri: str

    def path(self, *names: str) -> str:
        """URI of something in the folder."""
        return storage.join(self.uri, *names)

    # readers: they believe commit records only

    def committed(self) -> dict[str, set[str]]:
        """Spec hashes of the committed videos of every clip id."""
        found: dict[str, set[str]] = {}
        for name in storage.list_names(self.path("index")):
            clip_id, _, spec_hash = name.removesuffix(".parquet").rpartition(".")
            found.setdefault(clip_id, set()).add(spec_hash)
        return found

    def failed(self) -> set[str]:
        """Ids of the clips that have a row in failed/."""
        return {name.removesuffix(".parquet") for name in storage.list_names(self.path("failed"))}

    def split(self) -> dict[str, dict[str, list[PartName]]]:
        """Committed parts of the clips that are under way: clip id -> spec hash -> parts."""
        found: dict[str, dict[str, list[PartName]]] = {}
        for name in storage.list_names(self.path("parts"), recursive=True):
            clip_id, spec_hash, file_name = name.split("/")
            parts = found.setdefault(clip_id, {}).setdefault(spec_hash, [])
            if file_name.endswith(".parquet"):
                parts.append(PartName.parse(file_name))
        return found

    def parts(self, clip_id: str, spec_hash: str) -> list[PartName]:
        """Committed parts of one clip."""
        names = storage.list_names(self.path("parts", clip_id, spec_hash))
        return [PartName.parse(name) for name in names if name.endswith(".parquet")]

    def read(self, clip_id: str, spec_hash: str) -> Record:
        """The commit record of a clip."""
        return from_parquet(storage.read_bytes(self.index_uri(clip_id, spec_hash)))[0]

    def read_failed(self, clip_id: str) -> Record:
        """The row of a clip in failed/."""
        return from_parquet(storage.read_bytes(self._failed(clip_id)))[0]

    def read_part(self, clip_id: str, spec_hash: str, part: PartName) -> Record:
        """The commit record of a part."""
        return from_parquet(storage.read_bytes(self.path("parts", clip_id, spec_hash, f"{part}.parquet")))[0]

    # writers

    def place(self, record: Record, video: bytes | Path) -> str:
        """Put a video where its record will point, without touching what is there already.

        Returns:
            The URI relative to the folder.
        """
        if record.parts > 1:
            name = f"{PartName(record.part, record.parts)}.{record.attempt}.mp4"
            uri = storage.join("parts", record.clip_id, record.spec_hash, name)
            if storage.create_once(self.path(uri), video) or self._is_same(uri, record):
                return uri
            raise RenderError(f"{self.path(uri)} is taken", "run again")
        shard = shard_of(record.clip_id)
        spec = record.spec_hash[:SPEC_DIGITS]
        for suffix in ("", f".{spec}", f".{spec}.{record.attempt}"):
            uri = storage.join("videos", shard, f"{record.clip_id}{suffix}.mp4")
            if storage.create_once(self.path(uri), video) or self._is_same(uri, record):
                return uri
        raise RenderError(f"{self.path(uri)} is taken", "run again")

    def commit(self, record: Record, superseded: tuple[str, ...] = ()) -> bool:
        """Make a placed video exist. Afterwards the clip has no row in failed/ and no older version.

        Args:
            superseded: spec hashes of older videos of the clip.
        Returns:
            False if another execution was first; its video stands, this one is taken away.
        """
        if record.parts > 1:
            name = f"{PartName(record.part, record.parts)}.parquet"
            return self._create(self.path("parts", record.clip_id, record.spec_hash, name), record)
        ours = self._create(self.index_uri(record.clip_id, record.spec_hash), record)
        self.settle(record.clip_id, record.spec_hash, superseded)
        return ours

    def settle(self, clip_id: str, spec_hash: str, superseded: tuple[str, ...] = ()) -> None:
        """Remove what a committed clip has outlived: its failure, its crashes, its older versions."""
        storage.remove(self._failed(clip_id))
        storage.remove(self.crashes_uri(clip_id, spec_hash))
        if not superseded:
            return
        kept = self.read(clip_id, spec_hash)
        for old_hash in superseded:
            if not storage.exists(self.index_uri(clip_id, old_hash)):
                continue
            old = self.read(clip_id, old_hash)
            storage.remove(self.index_uri(clip_id, old_hash))
            if old.uri != kept.uri and old.offset < 0:
                storage.remove(self.path(old.uri))

    def fail(self, record: Record, superseded: tuple[str, ...] = ()) -> None:
        """Write a clip's row in failed/, unless it has been committed meanwhile.

        Older versions leave the index, so that the clip is in one of the two; their videos are kept.
        """
        if storage.exists(self.index_uri(record.clip_id, record.spec_hash)):
            return
        storage.write_atomic(self._failed(record.clip_id), to_parquet([record]))
        for old_hash in superseded:
            storage.remove(self.index_uri(record.clip_id, old_hash))

    def drop_parts(self, clip_id: str, spec_hash: str) -> None:
        """Remove the parts of a clip: records first, so that none ever points to nothing."""
        folder = self.path("parts", clip_id, spec_hash)
        for name in sorted(storage.list_names(folder), key=lambda name: not name.endswith(".parquet")):
            storage.remove(storage.join(folder, name))
        local = storage.local_path(folder)
        if local:
            # object stores have no folders; a part that is written meanwhile keeps its own
            for empty in (local, local.parent):
                with contextlib.suppress(OSError):
                    empty.rmdir()

    def crashes(self, clip_id: str, spec_hash: str) -> int:
        """How many workers a clip has killed in all runs."""
        uri = self.crashes_uri(clip_id, spec_hash)
        return json.loads(storage.read_bytes(uri))["kills"] if storage.exists(uri) else 0

    def write_crashes(self, clip_id: str, spec_hash: str, kills: int, stage: str) -> None:
        """Remember that a clip has killed workers."""
        note = json.dumps({"clip_id": clip_id, "kills": kills, "stage": stage})
        storage.write_atomic(self.crashes_uri(clip_id, spec_hash), note.encode())

    def _create(self, uri: str, record: Record) -> bool:
        standing = from_parquet(storage.claim(uri, to_parquet([record])))[0]
        if standing.attempt == record.attempt:
            return True
        if standing.uri != record.uri and record.offset < 0:
            storage.remove(self.path(record.uri))
        return False

    def _is_same(self, uri: str, record: Record) -> bool:
        """Whether the object that stands there has the very bytes of this record's video."""
        size, _ = storage.stat(self.path(uri))
        return size == record.size_bytes and hashlib.sha256(storage.read_bytes(self.path(uri))).hexdigest() == (
            record.sha256
        )

    def index_uri(self, clip_id: str, spec_hash: str) -> str:
        """Where the commit record of a clip is, if there is one."""
        return self.path("index", f"{clip_id}.{spec_hash}.parquet")

    def _failed(self, clip_id: str) -> str:
        return self.path("failed", f"{clip_id}.parquet")

    def crashes_uri(self, clip_id: str, spec_hash: str) -> str:
        """Where it is remembered that a clip has killed workers."""
        return self.path("crashes", f"{clip_id}.{spec_hash}.json")


def shard_of(clip_id: str) -> str:
    """The folder of a clip's video, two hex digits that depend on its id only."""
    return hashlib.sha256(clip_id.encode()).hexdigest()[:2]
