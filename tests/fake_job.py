"""A job with fake stages as a process of its own, to be killed: python -m tests.fake_job manifest=... out=..."""

import sys

from pipeline.config import load_config
from pipeline.job import run_job
from tests.fakes import STAGES

if __name__ == "__main__":
    report = run_job(load_config(sys.argv[1:]), work=STAGES)
    print(report.table(), flush=True)
    sys.exit(0 if report.all_rendered else 3)
