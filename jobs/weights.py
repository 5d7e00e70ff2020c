"""Weights: make packs of the files that users have, and look after them.

    python -m jobs.weights import sadtalker FILES... out=packs/sadtalker
    python -m jobs.weights list
    python -m jobs.weights verify packs/sadtalker
    python -m jobs.weights export packs/sadtalker out=published

FILES are SadTalker's published ones, of either set, in any order, or folders of them; files of the Basel face model and
of face-alignment may be among them. A later import adds to the pack. `verify` reads every file and compares its hash;
`export` writes the networks under their published names. The word `open` names the pack that ships.
See docs/weights.md.

Exit codes: 0 done; 2 files or packs that can't be used, with what is missing in them; import then writes nothing.
"""

import argparse
import sys
from pathlib import Path

from jobs.command import ALL_DONE, UNUSABLE, say
from models.packs import DECLARATION, SHIPPED, Pack, PackError
from models.registry import OPEN
from pipeline.errors import SetupError

KINDS = ("sadtalker",)


def main(words: list[str]) -> int:
    """Run the command and return the exit code."""
    arguments = _parse(words)
    try:
        return arguments.run(arguments)
    except SetupError as error:
        problems = error.problems
    except (PackError, OSError) as error:
        problems = [str(error)]
    for problem in problems:
        print(problem, file=sys.stderr)
    return UNUSABLE


def _parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.weights", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    importing = commands.add_parser("import", help="make a pack of published files, or add to one")
    importing.add_argument("kind", choices=KINDS, help="whose files they are")
    importing.add_argument("files", nargs="+", metavar="FILE", help="files or folders; out=FOLDER names the pack")
    importing.set_defaults(run=_import)
    listing = commands.add_parser("list", help="what packs there are, and what they provide")
    listing.add_argument("folders", nargs="*", metavar="FOLDER", help="packs, or folders of packs; default: open packs")
    listing.set_defaults(run=_list)
    verifying = commands.add_parser("verify", help="compare every file of packs with its hash")
    verifying.add_argument("folders", nargs="+", metavar="PACK")
    verifying.set_defaults(run=_verify)
    exporting = commands.add_parser("export", help="write a pack's networks under their published names")
    exporting.add_argument("files", nargs="+", metavar="PACK", help="one pack; out=FOLDER says where to")
    exporting.set_defaults(run=_export)
    return parser.parse_args(words)


def _import(arguments: argparse.Namespace) -> int:
    from pipeline.published import import_sadtalker

    files, out = _split_out(arguments.files, f"packs/{arguments.kind}")
    pack = import_sadtalker([Path(file).expanduser() for file in files], out, say)
    say(f"{out}: space {pack.space}; {pack.declaration.licence}; use it with pack={out}")
    return ALL_DONE


def _list(arguments: argparse.Namespace) -> int:
    folders = [_folder(word) for word in arguments.folders or [OPEN, "packs"]]
    places = [place for folder in folders for place in _packs_in(folder)]
    if not places:
        say(f"no packs in {', '.join(map(str, folders))}")
    for place in places:
        pack = Pack.open(place)
        ships = ", ships" if place == SHIPPED else ""
        say(f"{place}: {pack.name}{ships}, space {pack.space}, {pack.declaration.licence}")
        for name, entry in pack.declaration.provides.items():
            say(f"    {name:<15} {entry.sha256[:12]}  {entry.source}")
    return ALL_DONE


def _verify(arguments: argparse.Namespace) -> int:
    problems = []
    for folder in arguments.folders:
        pack = Pack.open(_folder(folder))
        wrong = pack.verify()
        problems += wrong
        if not wrong:
            say(f"{folder}: {len(pack.declaration.provides)} networks, as pack.json says")
    if problems:
        raise SetupError(problems)
    return ALL_DONE


def _export(arguments: argparse.Namespace) -> int:
    from pipeline.published import export

    packs, out = _split_out(arguments.files, "published")
    if len(packs) != 1:
        raise SetupError([f"export takes one pack, not {len(packs)}"])
    pack = Pack.open(Path(packs[0]).expanduser())
    export(pack, out, say)
    say(f"{out}: licence {pack.declaration.licence}")
    return ALL_DONE


def _split_out(words: list[str], default: str) -> tuple[list[str], Path]:
    """Files, and the folder that a word out=FOLDER names."""
    named = [word.removeprefix("out=") for word in words if word.startswith("out=")]
    files = [word for word in words if not word.startswith("out=")]
    if not files:
        raise SetupError(["no files are named"])
    return files, Path(named[-1] if named else default).expanduser()


def _folder(word: str) -> Path:
    """The folder that a word of the command line names."""
    return SHIPPED if word == OPEN else Path(word).expanduser()


def _packs_in(folder: Path) -> list[Path]:
    if (folder / DECLARATION).is_file():
        return [folder]
    return sorted(path.parent for path in folder.glob(f"*/{DECLARATION}"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
