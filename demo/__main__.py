"""Render the demo manifest and draw a contact sheet of it.

    python -m demo [out=demo/out]

The portrait is the astronaut that scikit-image ships (NASA, public domain); the speech was synthesised
(scripts/make_demo_speech.py).
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

HERE = Path(__file__).parent
SHEET_COLUMNS = 7
TILE_PX = 256


def place_portrait(folder: Path) -> None:
    """Copy the packaged astronaut to `folder` as a picture file."""
    import skimage.data

    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(skimage.data.astronaut()).save(folder / "astronaut.png")


def draw_sheet(videos: dict[str, Path], target: Path) -> None:
    """Draw frames of each video, evenly spread, as one row a video."""
    from pipeline.media import probe, video_frames

    sheet = Image.new("RGB", (SHEET_COLUMNS * TILE_PX, len(videos) * TILE_PX), "white")
    pen = ImageDraw.Draw(sheet)
    for row, (clip, path) in enumerate(videos.items()):
        wanted = np.linspace(0, probe(path).duration_s * 25 - 2, SHEET_COLUMNS).astype(int).tolist()
        frames = [frame for k, frame in enumerate(video_frames(path)) if k in wanted]
        for column, frame in enumerate(frames[:SHEET_COLUMNS]):
            tile = Image.fromarray(frame)
            tile.thumbnail((TILE_PX, TILE_PX))
            sheet.paste(tile, (column * TILE_PX, row * TILE_PX))
        pen.text((6, row * TILE_PX + 4), clip, fill="white", stroke_fill="black", stroke_width=2)
    sheet.save(target)


def main(arguments: list[str]) -> int:
    """Render, draw, and print where everything is; returns the render job's exit code."""
    import pyarrow.parquet as pq

    from jobs import render

    out = Path(dict(argument.split("=", 1) for argument in arguments).get("out", HERE / "out"))
    place_portrait(HERE / "portraits")
    code = render.main([f"manifest={HERE / 'manifest.jsonl'}", f"out={out}"])
    if code:
        return code
    order = [json.loads(line)["id"] for line in (HERE / "manifest.jsonl").read_text().splitlines()]
    index = pq.read_table(str(out / "index"), columns=["clip_id", "uri"]).to_pylist()
    uris = {row["clip_id"]: out / row["uri"] for row in index}
    videos = {clip: uris[clip] for clip in order}
    draw_sheet(videos, out / "contact_sheet.png")
    print("\nVideos:")
    for path in videos.values():
        print(f"  {path}")
    print(f"Contact sheet: {out / 'contact_sheet.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
