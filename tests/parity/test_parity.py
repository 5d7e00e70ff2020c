"""Every golden is met; needs the folder of goldens beside the checkout."""

import os
from pathlib import Path

import pytest

import tests.parity.runners  # noqa: F401
from tests.conftest import ROOT
from tests.parity.compare import check, find_cases

FOLDER = Path(os.environ.get("TALKFARM_DATA", ROOT.parent / "shared" / "data")).parent / "parity" / "sadtalker"
CASES = find_cases(FOLDER)


@pytest.mark.skipif(not CASES, reason=f"no goldens in {FOLDER}")
@pytest.mark.parametrize("case", CASES or ["none"])
def test_parity(case: str) -> None:
    failed = [row for row in check(FOLDER, case) if row.problem]
    assert not failed, "\n".join(f"{r.output}: {r.problem}, error {r.error:.2e}, allowed {r.tolerance}" for r in failed)
