"""What is known about a clip while it travels through the flow and after it has ended: one row of index/ or failed/.

Stages fill the record in; the one that fails a clip sets outcome, stage, error and hint, and later stages then
pass it on untouched. Nothing here knows of Ray or of where records are kept.
"""

import json
from dataclasses import asdict, dataclass, field, fields, replace

from models.interfaces import FPS
from pipeline.errors import InputError, QualityError, TalkfarmError

RENDERED, REJECTED, FAILED, QUARANTINED = "rendered", "rejected", "failed", "quarantined"
STAGES = ("prep", "motion", "render", "write")


@dataclass(frozen=True)
class Record:
    """One clip, or one part of a long clip.

    Args:
        clip_id: the manifest's id.
        spec_hash: names everything that changes the video; 16 hex digits.
        outcome: empty while under way, then rendered, rejected, failed or quarantined.
        uri: where the video is, relative to the output folder.
        offset: first byte of the video inside `uri` when that is a tar, else -1.
        size_bytes: bytes of the video.
        sha256: of the video.
        frames, width, height, fps, duration_s: of the video.
        warnings: doubts about the inputs, one sentence each.
        stage, error, hint: where and why it went wrong, and what to do about it; empty when rendered.
        attempts: how often it was tried, earlier runs and killed workers included.
        seed: of the clip's motion.
        portrait, audio: the inputs' URIs.
        weights: the pack, motion system and renderer.
        seconds_*: time spent per stage.
        worker: node and process that rendered it.
        attempt: unique name of the execution that made the video.
        run: the run that wrote this record.
        part, parts: which part of how many; 0 of 1 for a clip that was not split.
        thumbnail: a small JPEG of the first frame.
        rung: of the quality gate's ladder that made the video: empty as asked for, else "seed", "calm" or "system".
        quality: what the gate measured, a JSON object; empty without the gate. See docs/quality.md.
    """

    clip_id: str
    spec_hash: str
    outcome: str = ""
    uri: str = ""
    offset: int = -1
    size_bytes: int = 0
    sha256: str = ""
    frames: int = 0
    fps: int = FPS
    width: int = 0
    height: int = 0
    duration_s: float = 0.0
    warnings: tuple[str, ...] = ()
    stage: str = ""
    error: str = ""
    hint: str = ""
    attempts: int = 1
    seed: int = 0
    portrait: str = ""
    audio: str = ""
    weights: str = ""
    seconds_prep: float = 0.0
    seconds_motion: float = 0.0
    seconds_render: float = 0.0
    seconds_write: float = 0.0
    worker: str = ""
    attempt: str = ""
    run: str = ""
    part: int = 0
    parts: int = 1
    thumbnail: bytes = field(default=b"", repr=False)
    rung: str = ""
    quality: str = field(default="", repr=False)

    @property
    def ended(self) -> bool:
        """Whether an outcome is set, so that no stage has anything left to do."""
        return bool(self.outcome)

    def failed_by(self, error: Exception, stage: str) -> "Record":
        """The record of a clip that an exception ended; the exception's class decides the outcome."""
        if isinstance(error, QualityError):
            ended = replace(self, outcome=REJECTED, stage="quality", quality=error.quality)
            return replace(ended, error=error.message, hint=error.hint)
        if isinstance(error, TalkfarmError):
            outcome = REJECTED if isinstance(error, InputError) else FAILED
            return replace(self, outcome=outcome, stage=stage, error=error.message, hint=error.hint)
        hint = "this is not the input's fault: run again, and report it with this sentence if it stays"
        return replace(self, outcome=FAILED, stage=stage, error=f"{type(error).__name__}: {error}", hint=hint)

    def spent(self, stage: str, seconds: float) -> "Record":
        """The record with `seconds` more spent in a stage."""
        name = f"seconds_{stage}"
        return replace(self, **{name: round(getattr(self, name) + seconds, 4)})

    def dumps(self) -> str:
        """JSON, for the way between stages; the thumbnail as Latin-1 text, one character per byte."""
        values = asdict(self)
        values["thumbnail"] = self.thumbnail.decode("latin-1")
        return json.dumps(values, ensure_ascii=False)

    @classmethod
    def loads(cls, text: str) -> "Record":
        """The inverse of `dumps`."""
        values = json.loads(text)
        values["warnings"] = tuple(values["warnings"])
        values["thumbnail"] = values["thumbnail"].encode("latin-1")
        return cls(**values)


def to_parquet(records: list[Record]) -> bytes:
    """Records as a parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{**asdict(record), "warnings": list(record.warnings)} for record in records]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=_schema()), sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def from_parquet(data: bytes) -> list[Record]:
    """The inverse of `to_parquet`; columns that this version doesn't know are ignored."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    known = {item.name for item in fields(Record)}
    # not read_table, nor a Python file: their reader threads abort one interpreter exit in a hundred
    rows = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False).to_pylist()
    return [
        Record(**{name: value for name, value in {**row, "warnings": tuple(row["warnings"])}.items() if name in known})
        for row in rows
    ]


def _schema():
    import pyarrow as pa

    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64(), bytes: pa.binary()}
    return pa.schema(
        [
            pa.field(item.name, pa.list_(pa.string()) if item.name == "warnings" else kinds[item.type])
            for item in fields(Record)
        ]
    )
