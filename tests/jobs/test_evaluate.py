"""The command lines of evaluation and baselines: help, and what is said before anything starts."""

from pathlib import Path

import pytest

from jobs import baselines, evaluate
from jobs.command import UNUSABLE


@pytest.mark.parametrize("job", [evaluate, baselines])
def test_help_lists_settings(job, capsys):
    with pytest.raises(SystemExit) as ended:
        job.main(["--help"])
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert "python -m jobs." in said and "weights.dir=" in said and "cache.dir=" in said
    assert "Undefined" not in said


def test_problems_are_told_and_nothing_starts(tmp_path: Path, capsys):
    assert evaluate.main([]) == UNUSABLE
    assert "give runs.NAME=" in capsys.readouterr().err
    assert evaluate.main([f"runs.a={tmp_path}", f"runs.b={tmp_path}/b.csv"]) == UNUSABLE
    said = capsys.readouterr().err
    assert f"runs.a={tmp_path} has no video" in said and "b.csv does not exist" in said
    assert evaluate.main(["rnus.a=x"]) == UNUSABLE
    assert "rnus" in capsys.readouterr().err
    assert baselines.main([]) == UNUSABLE
    assert "'videos' is missing" in capsys.readouterr().err
    assert baselines.main([f"videos={tmp_path}", "system=sadtalkr"]) == UNUSABLE
    assert "'envelope'" in capsys.readouterr().err
