"""Compare our networks with a folder of goldens.

    python -m tests.parity ../shared/parity/sadtalker            all cases
    python -m tests.parity ../shared/parity/sadtalker expnet     some of them

Prints one row per output, or one for a golden that can't be run; exit code 1 if any is above its tolerance, can't be
run or has no runner, 2 if there is nothing to run.
"""

import argparse
import sys
from pathlib import Path

import tests.parity.runners  # noqa: F401
from tests.parity.compare import NO_RUNNER, check, find_cases


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.parity", description="Compare our networks with a folder of goldens."
    )
    parser.add_argument("folder", type=Path, help="a folder of goldens: one JSON and one safetensors file per case")
    parser.add_argument("cases", nargs="*", help="some of its cases; default: all")
    parser.add_argument("--raise", dest="raising", action="store_true", help="stop at an error, with its traceback")
    arguments = parser.parse_args()
    known = find_cases(arguments.folder)
    missing = [case for case in arguments.cases if case not in known]
    if missing or not known:
        print(f"{arguments.folder}: no golden {', '.join(missing) or 'at all'}", file=sys.stderr)
        return 2
    failures = 0
    print(f"{'case':<22} {'output':<24} {'max abs error':>13}  {'tolerance':<30} ")
    for case in arguments.cases or known:
        for row in check(arguments.folder, case, raising=arguments.raising):
            failures += bool(row.problem)
            verdict = NO_RUNNER if row.problem == NO_RUNNER else f"FAIL: {row.problem}" if row.problem else "ok"
            print(f"{row.case:<22} {row.output:<24} {row.error:>13.2e}  {row.tolerance:<30} {verdict}", flush=True)
    print(f"{failures} failed" if failures else "all within tolerance")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
