"""Whole trainings: what is asked, kill -9 in the middle, what is left. Run: pytest tests/pipeline/test_training.py"""

import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from benchmarks.processes import process_tree
from jobs import prepare, train
from jobs.command import UNUSABLE
from models.packs import SHIPPED, Pack
from pipeline import storage
from pipeline.config import load_settings
from pipeline.errors import SetupError
from pipeline.features import Features
from pipeline.reserved import reserve
from pipeline.train import FIXED, TrainConfig, differing, finished, other_networks, read_card, write_pack
from tests.conftest import ROOT
from tests.leashed_training import LEASH, StepNote, learn_from_notes, loosen, step_notes
from tests.pipeline.made_features import make_features, write_features

ROWS, STEPS, BATCH, EVERY = 6, 30, 16, 4
STEPS_OF_A_PASS = 10  # four of the rows are learned from; 40 samples each: 20 stretches in two voices
PATIENCE_S = 600  # for what takes half a minute on an idle machine


def config_for(features: str, out: str, *words: str) -> TrainConfig:
    settings = ["trainable=expnet", f"features={features}", f"out={out}", f"steps={STEPS}", f"batch={BATCH}"]
    return load_settings(TrainConfig, [*settings, "options.learning_rate=1e-3", *words])


def test_problems_are_told_and_nothing_starts(tmp_path: Path, capsys):
    assert train.main(["trainable=expnet", f"features={tmp_path}", f"out={tmp_path}/out"]) == UNUSABLE
    assert "has no data card: run jobs.prepare" in capsys.readouterr().err
    assert train.main(["trainable=expnett", "features=x"]) == UNUSABLE
    assert "'expnet' or 'posevae'" in capsys.readouterr().err
    write_features(str(tmp_path / "features"), rows=3)
    words = ["trainable=expnet", f"features={tmp_path}/features", f"out={tmp_path}/out", "options.teecher=all"]
    assert train.main(words) == UNUSABLE
    assert "did you mean 'teacher'" in capsys.readouterr().err


@pytest.mark.parametrize("job", [prepare, train])
def test_help_lists_settings(job, capsys):
    with pytest.raises(SystemExit):
        job.main(["--help"])
    said = capsys.readouterr().out
    assert "python -m jobs." in said and "cache.dir=" in said and "Undefined" not in said


def test_a_folder_holds_one_training(tmp_path: Path):
    def ask(*words: str) -> None:
        reserve(str(tmp_path), config_for("features", str(tmp_path), *words), FIXED, "a training")

    ask()
    ask("steps=500", "precision=bf16")
    with pytest.raises(SetupError, match="holds a training with another setting of options"):
        ask("options.size=paper")


def test_the_pack_says_what_it_is(tmp_path: Path):
    write_features(str(tmp_path / "features"), rows=3)
    config = config_for(str(tmp_path / "features"), str(tmp_path / "out"))
    card = read_card(config.features)
    assert finished(config, card) is None
    written = write_pack({"expnet": {"w": torch.ones(2, 3)}}, {"lips": 1.5}, STEPS, STEPS * BATCH, card, config)
    assert finished(config, card) == json.loads(json.dumps(written))
    assert finished(config_for(config.features, config.out, "steps=61"), card) is None
    assert written["data"]["hash"] == card.hash and written["weights"]["expnet.safetensors"]["numbers"] == 6
    text = (tmp_path / "out/pack/expnet.card.md").read_text()
    assert card.hash in text and "| lips | 1.5 |" in text and "trainable: expnet" in text


def test_trainings_share_a_pack(tmp_path: Path):
    write_features(str(tmp_path / "features"), rows=3)
    config = config_for(str(tmp_path / "features"), str(tmp_path / "out"), f"pack={tmp_path}/pack")
    card = read_card(config.features)
    for name in ("expnet", "posevae"):
        mine = config.model_copy(update={"trainable": name})
        write_pack({name: {"w": torch.ones(2)}}, {}, 1, 1, card, mine)
    pack = Pack.open(tmp_path / "pack")
    assert pack.verify() == [] and set(pack.declaration.provides) == {"expnet", "posevae"}
    assert pack.space == "open" and not pack.published
    other = read_card(config.features).model_copy(update={"made_with": {"settings": {"space": "bfm"}}})
    with pytest.raises(SetupError, match="a pack of their own"):
        other_networks(config, other)


def test_what_ships_is_not_trained_into(tmp_path: Path, capsys):
    write_features(str(tmp_path / "features"), rows=3)
    words = ["trainable=expnet", f"features={tmp_path}/features", f"out={tmp_path}/out", f"pack={SHIPPED}"]
    assert train.main(words) == UNUSABLE
    assert "is what ships: own weights go into a pack of their own" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["trainable=nothing.here:Net"], "No module named 'nothing'"),
        (["trainable=pipeline.train:Net"], "has no attribute 'Net'"),
        (["trainable=posevae", "options.expnet=missing.safetensors"], "missing.safetensors"),
    ],
)
def test_what_workers_could_not_build_is_told_before(words: list[str], told: str, tmp_path: Path, capsys):
    write_features(str(tmp_path / "features"), rows=3)
    assert train.main([*words, f"features={tmp_path}/features", f"out={tmp_path}/out"]) == UNUSABLE
    assert told in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_features_of_an_earlier_version_are_told(tmp_path: Path, capsys):
    write_features(str(tmp_path / "features"), rows=3)
    for shard in (tmp_path / "features/features").glob("*.parquet"):
        pq.write_table(pq.read_table(shard).drop_columns(["sound", "mel"]), shard)
    words = ["trainable=expnet", f"features={tmp_path}/features", f"out={tmp_path}/out"]
    assert train.main(words) == UNUSABLE
    assert "lacks mel: prepared by an earlier version" in capsys.readouterr().err


def test_a_training_that_is_done_says_how(tmp_path: Path):
    write_features(str(tmp_path / "features"), rows=3)
    config = config_for(str(tmp_path / "features"), str(tmp_path / "out"))
    card = read_card(config.features)
    write_pack({"expnet": {"w": torch.ones(2, 3)}}, {}, STEPS, STEPS * BATCH, card, config)
    fewer = config_for(config.features, config.out, "steps=10", "seed=3")
    done = finished(fewer, card)
    assert done is not None and differing(done, fewer) == f"steps={STEPS} seed=0" and differing(done, config) == ""


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen]]:
    """Processes that a test starts; those that are left over are killed."""
    processes: list[subprocess.Popen] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.ray
@pytest.mark.slow
def test_a_training_survives_its_worker_and_its_driver(s3: str, tmp_path: Path, started: list[subprocess.Popen]):
    """ExpNet by two gloo workers on S3; the first is killed, then everything; the weights come out the same."""
    write_features(f"{s3}/data", ROWS)
    leash, log = tmp_path / "leash", tmp_path / "log"
    log.mkdir()
    words = ["trainable=tests.leashed_training:Leashed", f"features={s3}/data", f"out={s3}/out"]
    words += [f"steps={STEPS}", f"batch={BATCH}", f"checkpoint_every={EVERY}", "schedule=cosine", "warmup=20"]
    words += ["preview_every=0", "log_every=5", "options.frames=5", "options.voices=1"]
    words += ["workers.min=2", "workers.max=2", "workers.look_every_s=0.2", f"cache.dir={tmp_path}/cache"]

    def start() -> subprocess.Popen:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), LEASH: str(leash), "TALKFARM_FAKE_LOG": str(log)}
        environment["RAY_worker_niceness"] = "0"  # else everything else on the machine goes first
        environment.pop("RAY_ADDRESS", None)
        command = [sys.executable, "-m", "jobs.train", *words]
        started.append(subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True))
        return started[-1]

    loosen(leash, 14)
    first = start()
    wait_until(lambda: saved_step(s3) == 12 and (13, 0) in steps_by_worker(log), first)
    leaders = [noted.pid for noted in step_notes(log) if noted.rank == 0]
    os.kill(leaders[-1], signal.SIGKILL)
    loosen(leash, 26)
    wait_until(lambda: saved_step(s3) == 24 and (25, 0) in steps_by_worker(log), first)
    family = process_tree(first.pid)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    wait_until(lambda: not any(alive(pid) for pid in family))

    loosen(leash, STEPS)
    second = start()
    assert second.wait(PATIENCE_S) == 0
    made = steps_by_worker(log)
    assert list(made) == [(step, worker) for step in range(STEPS) for worker in range(2)]
    assert all(len({noted.samples for noted in notes}) == 1 for notes in made.values()), "repeated with other samples"
    repeated = {step for (step, _), notes in made.items() if len(notes) > 1}
    assert {12, 13, 24, 25} <= repeated <= {12, 13, 14, 24, 25, 26}, "only what no checkpoint had"
    for first_step in range(0, STEPS, STEPS_OF_A_PASS):
        seen = [
            made[step, worker][0].samples
            for step in range(first_step, first_step + STEPS_OF_A_PASS)
            for worker in range(2)
        ]
        assert len({number for samples in seen for number in samples}) == STEPS_OF_A_PASS * BATCH

    last = latest(s3)
    assert last["metrics"]["step"] == STEPS
    assert last["metrics"]["seen"] == STEPS * BATCH, "every step is in the weights once"
    state = torch.load(io.BytesIO(storage.read_bytes(f"{s3}/out/ray/{last['checkpoint_dir_name']}/state.pt")))
    del state["position"]
    torch.testing.assert_close(state, undisturbed(made, load_settings(TrainConfig, words), tmp_path))
    card = json.loads(storage.read_bytes(f"{s3}/out/pack/Leashed.card.json"))
    assert card["metrics"]["missed"] <= last["metrics"]["missed"]
    assert len(storage.list_names(f"{s3}/out/tensorboard")) >= 2, "one file per run"
    names = storage.list_names(f"{s3}/out/ray", recursive=True)
    assert 2 <= sum(name.endswith("state.pt") for name in names) <= 6


def steps_by_worker(log: Path) -> dict[tuple[int, int], list[StepNote]]:
    """What was noted, by step and rank, in that order."""
    return {key: list(notes) for key, notes in groupby(step_notes(log), key=lambda noted: (noted.step, noted.rank))}


def undisturbed(made: dict[tuple[int, int], list[StepNote]], config: TrainConfig, folder: Path) -> dict[str, Any]:
    """The state after the same steps by two workers that nothing happens to, without Ray."""
    rows = [Features.from_row(make_features(number).to_row()) for number in range(ROWS)]  # rounded as in the files
    context = multiprocessing.get_context("spawn")
    workers = []
    for worker in range(2):
        steps = [notes[0] for (_, rank), notes in made.items() if rank == worker]
        given = (worker, 2, f"{folder}/meeting", config, rows, steps, f"{folder}/undisturbed.pt")
        workers.append(context.Process(target=learn_from_notes, args=given, daemon=True))
        workers[-1].start()
    for process in workers:
        process.join(PATIENCE_S)
        assert process.exitcode == 0
    return torch.load(folder / "undisturbed.pt")


def saved_step(s3: str) -> int:
    """Step of the last checkpoint that Ray Train knows; 0 before the first one."""
    return latest(s3)["metrics"]["step"] if storage.exists(f"{s3}/out/ray/checkpoint_manager_snapshot.json") else 0


def latest(s3: str) -> dict[str, Any]:
    """What Ray Train knows of the last checkpoint."""
    place = f"{s3}/out/ray/checkpoint_manager_snapshot.json"
    return json.loads(storage.read_bytes(place))["latest_checkpoint_result"]


def alive(pid: int) -> bool:
    try:
        return "(zombie)" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def wait_until(is_so: Callable[[], bool], process: subprocess.Popen | None = None) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert process is None or process.poll() is None, "the job ended too early"
        assert time.monotonic() < deadline, "the job made no progress"
        time.sleep(0.5)
