"""Build the tables of the open morphable model: models/weights/open/face_space.npz and its card.

    python -m scripts.build_open_space --videos ../shared/data

`--videos` is a folder with an `index.csv` whose rows name talking videos (columns file, kind, speaker, use, source,
licence, sha256); only rows with `kind=talking` and `use=train` are read. The mean face is the median of one calm,
frontal frame per speaker and of scikit-image's public-domain astronaut; everything else is made by rule from the
mesh's topology and the tables of `open_shapes.py`. The same inputs give the same file.
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np

from models.facespace import topology as top
from scripts.open_bases import Skin, authored_fields, expression_basis, identity_basis
from scripts.open_mean import astronaut, average, calm_frames, face_triangles

OUT = Path(__file__).resolve().parent.parent / "models" / "weights" / "open"

# iBUG landmarks 17..67 as (vertex, vertex): the point half-way between them. 0..16 lie along the face's outline.
IBUG_INNER = (
    # brows, right outer to left outer: between the brow's edges
    *((70, 46), (63, 53), (105, 52), (66, 65), (107, 55), (336, 285), (296, 295), (334, 282), (293, 283), (300, 276)),
    # nose: bridge, then the base from right to left
    *((168, 168), (197, 6), (5, 195), (4, 4), (98, 98), (97, 97), (2, 2), (326, 326), (327, 327)),
    # eyes: outer corner of the right one, upper lid, inner corner, lower lid; the left one from its inner corner
    *((33, 33), (160, 160), (158, 158), (133, 133), (153, 153), (144, 144)),
    *((362, 362), (385, 385), (387, 387), (263, 263), (373, 373), (380, 380)),
    # outer lips from the right corner over the upper lip and back along the lower
    *((61, 61), (40, 39), (37, 37), (0, 0), (267, 267), (270, 269)),
    *((291, 291), (321, 405), (314, 314), (17, 17), (84, 84), (91, 181)),
    # inner lips, likewise
    *((78, 78), (81, 82), (13, 13), (311, 312), (308, 308), (402, 317), (14, 14), (178, 87)),
)
JAW_START = 127  # on the outline, level with the eyes: iBUG landmark 0


def landmark_view(mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """iBUG landmarks as mixtures of two vertices each: vertices (68, 2) and shares (68, 2)."""
    start, chin = top.OVAL.index(JAW_START), top.OVAL.index(top.CHIN)
    right = np.array(top.OVAL[chin : start + 1][::-1])  # from the eye's level down to the chin
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(mean[right], axis=0), axis=1))])
    vertices, shares = [], []
    for target in np.linspace(0, along[-1], 9):
        k = min(int(np.searchsorted(along, target, side="right")) - 1, len(right) - 2)
        share = (target - along[k]) / (along[k + 1] - along[k])
        vertices.append((right[k], right[k + 1]))
        shares.append((1 - share, share))
    mirror = dict(zip(top.OVAL, (top.OVAL[0], *top.OVAL[:0:-1])))
    vertices += [(mirror[a], mirror[b]) for a, b in vertices[7::-1]]
    shares += shares[7::-1]
    return (
        np.array([*vertices, *IBUG_INNER], np.int32),
        np.array([*shares, *[(0.5, 0.5)] * len(IBUG_INNER)], np.float32),
    )


def tidy(values: np.ndarray) -> np.ndarray:
    """Six decimals, float32: what differs between linear algebra libraries is rounded away."""
    return (np.round(values, 6) + 0.0).astype(np.float32)


def write_card(frames: list[tuple[dict[str, str], np.ndarray]], names: list[str], digest: str) -> None:
    rows = "\n".join(
        f"| {row['speaker']} | {row['source']} | {row['licence']} | {row['sha256']} |" for row, _ in frames
    )
    (OUT / "face_space.card.md").write_text(
        f"""# face_space.npz: the open morphable model

A parametric face mesh of 468 vertices and 10 iris points in the numbering of mediapipe's face mesh (Apache-2.0).
Made by `python -m scripts.build_open_space`; licensed as this repository. sha256 `{digest}`.

| array | shape | meaning |
|---|---|---|
| mean | (478, 3) | mean face; x right, y down, z away from the viewer; 1 = distance of the outer eye corners |
| mirror | (478,) | index of each point's mirror image |
| triangles | (852, 3) | the skin, wound towards the viewer; eyes and mouth are holes |
| identity, identity_sd | (80, 468, 3), (80,) | orthonormal smooth modes and their expected sizes |
| expression, expression_names | (64, 468, 3), (64,) | orthonormal modes, named after the movement they came from |
| directions, direction_names | (D, 64), (D,) | authored movements at full strength as expression coefficients |
| ibug_vertices, ibug_shares | (68, 2), (68, 2) | the 68 iBUG landmarks as mixtures of two vertices |

Inputs: one frame of each video below, of which only the positions of detected landmarks enter a median over all
speakers; no picture, texture or single face is stored. Movements: hand-written tables in `scripts/open_shapes.py`.
The expression basis holds {sum(not n.startswith("wave") for n in names)} authored movements and
{sum(n.startswith("wave") for n in names)} smooth waves around the mouth.

Limits: the mean comes from few speakers, mostly adults; depth is what a monocular detector believes.

| speaker | source | licence | sha256 of the video |
|---|---|---|---|
{rows}
| astronaut | scikit-image `data.astronaut()`, NASA | public domain | |
""",
        encoding="utf-8",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, required=True, help="folder with index.csv and the videos it names")
    videos = parser.parse_args().videos

    frames = calm_frames(videos)
    mean, mirror = average([*[points for _, points in frames], astronaut()])
    triangles = face_triangles(mean)
    identity, identity_sd = identity_basis(mean, Skin(triangles))
    fields = authored_fields(mean, Skin(triangles, mean), mirror)
    expression, names = expression_basis(fields, Skin(triangles))
    directions = np.array([expression.reshape(len(expression), -1) @ f.ravel() for f in fields.values()])
    ibug_vertices, ibug_shares = landmark_view(mean)

    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / "face_space.npz"
    np.savez_compressed(
        path,
        mean=tidy(mean),
        mirror=mirror.astype(np.int32),
        triangles=triangles,
        identity=tidy(identity),
        identity_sd=tidy(identity_sd),
        expression=tidy(expression),
        expression_names=np.array(names),
        directions=tidy(directions),
        direction_names=np.array(list(fields)),
        ibug_vertices=ibug_vertices,
        ibug_shares=ibug_shares,
    )
    write_card(frames, names, hashlib.sha256(path.read_bytes()).hexdigest())
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB from {len(frames) + 1} faces")


if __name__ == "__main__":
    main()
