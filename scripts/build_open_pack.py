"""Make models/weights/open the pack that ships: pack.json and LICENCE.txt for the files that lie there.

    python -m scripts.build_open_pack [training/articulator/pack training/expnet/pack ...]

Networks of the packs named, as `jobs.train` has written them, are copied into it first. The cards beside them
(<name>.card.md) are written by hand.
"""

import argparse
import shutil
from pathlib import Path

from models.packs import SHIPPED, Pack, Provided, sha256_of, write_declaration
from models.registry import OPEN

FILES = {
    "face_space": ("face_space.npz", "scripts.build_open_space"),
    "articulator": ("articulator.safetensors", "jobs.train trainable=articulator"),
    "expnet": ("expnet.safetensors", "jobs.train trainable=expnet"),
    "posevae": ("posevae.safetensors", "jobs.train trainable=posevae"),
}
LICENCE_LINE = "as this program; learned from CC BY 4.0 and public recordings and from synthetic speech (LICENCE.txt)"
LICENCE_TEXT = """\
The files of this pack are licensed as the program that they come with.

They were made of
- videos of the GRID corpus, CC BY 4.0: M. Cooke, J. Barker, S. Cunningham, X. Shao, "An audio-visual corpus for speech
  perception and automatic speech recognition", Journal of the Acoustical Society of America 120 (2006), 2421-2424;
- public addresses of elected officials;
- one photograph in the public domain (NASA), for the face space;
- speech synthesised by espeak-ng and flite, of whose programs nothing is contained.
Every video is listed in sources.csv and face_space.card.md. No picture and no sound of them is contained: what entered
are positions of landmarks, coefficients fitted to them, and mel spectra.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packs", nargs="*", type=Path, metavar="PACK", help="packs of trainings")
    for folder in parser.parse_args().packs:
        trained = Pack.open(folder)
        if trained.space != OPEN:
            parser.error(f"{folder} is of the space {trained.space}")
        for name in FILES.keys() & trained.declaration.provides.keys():
            shutil.copyfile(trained.path(name), SHIPPED / FILES[name][0])
    pack = write_declaration(
        SHIPPED,
        name=OPEN,
        space=OPEN,
        licence=LICENCE_LINE,
        licence_text=LICENCE_TEXT,
        provides={
            name: Provided(file, sha256_of(SHIPPED / file), source=source)
            for name, (file, source) in FILES.items()
            if (SHIPPED / file).exists()
        },
    )
    for name, entry in pack.declaration.provides.items():
        print(f"{name:<12} {(SHIPPED / entry.file).stat().st_size / 1e6:6.2f} MB  {entry.sha256}")


if __name__ == "__main__":
    main()
