"""What the flow costs: clips through Ray, against the same stages without it, with as many workers.

    python -m benchmarks.flow [--clips 24] [--seconds 10] [--size 256] [--workers N] [--repeats 1] [--json FILE]

Without Ray, workers are the threads of one process, or a pool of processes, which don't wait for each other's Python.
All sides prepare every portrait and recording afresh, render the same frames and leave the same videos. The flow
runs twice: as the first job of a cluster that it starts and stops itself, as on a laptop, and as the next job of a
cluster that stands already, as at night. A third job there has stages that do nothing: what the flow takes by itself.
Seconds are wall clock, which other programs on the machine disturb: `--repeats 3` gives medians.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import tempfile
import threading
import time
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import empty_stages as empty
from benchmarks.inputs import write_portrait, write_speech
from pipeline.config import RenderConfig, load_config
from pipeline.environment import worker_variables

if TYPE_CHECKING:
    from pipeline.flow import Stages

PORTRAITS = 4  # distinct ones, each with several recordings, as in a localisation job
SIDES = {"threads": "one process", "pool": "a pool of processes"}  # without Ray

_own = threading.local()  # a worker's stages


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a clip")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="render workers of both sides")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="talkfarm-benchmark-") as name:
        folder = Path(name)
        _write_inputs(folder, asked.clips, asked.seconds)
        os.environ.update(worker_variables(folder / "compiled"))
        _in_pool(_config(folder, "warm-up", asked), 1, clips=1)
        rounds = [_round(folder, asked) for _ in range(asked.repeats)]
    result = {key: statistics.median(entry[key] for entry in rounds) for key in rounds[0]}
    result |= {"clips": asked.clips, "seconds": asked.seconds, "size": asked.size, "workers": asked.workers}
    for side in SIDES:
        result[f"overhead_with_start_{side}"] = result["flow_s"] / result[f"{side}_s"] - 1
        result[f"overhead_first_job_{side}"] = result["flow_running_s"] / result[f"{side}_s"] - 1
        result[f"overhead_next_job_{side}"] = result["flow_next_s"] / result[f"{side}_s"] - 1
    _print(result)
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=2))


def _round(folder: Path, asked: argparse.Namespace) -> dict[str, float]:
    measured = {}
    for side, run in (("threads", _in_one_process), ("pool", _in_pool)):
        config = _config(folder, side, asked)
        began = time.perf_counter()
        run(config, asked.workers, asked.clips)
        measured[f"{side}_s"] = time.perf_counter() - began
    return measured | _in_flow(folder, asked)


def _in_flow(folder: Path, asked: argparse.Namespace) -> dict[str, float]:
    """Render the manifest through Ray: seconds to start the cluster, to run the three jobs, and to stop it."""
    import ray

    from pipeline import cluster, flow

    first, following, third = (_config(folder, side, asked) for side in ("flow", "next", "empty"))
    following.cache.folder.mkdir(parents=True)  # a cluster that stands has compiled what it runs
    (following.cache.folder / "numba").symlink_to(folder / "compiled" / "numba")
    began = time.perf_counter()
    with cluster.connected():
        started = time.perf_counter()
        _job(first, flow.Stages())
        done = time.perf_counter()
        os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as driver:
            next_s = driver.submit(_next_job, following).result()
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as driver:
            empty_s = driver.submit(_next_job, third, is_empty=True).result()
        del os.environ["RAY_ADDRESS"]
        over = time.perf_counter()
    stop_s = time.perf_counter() - over
    return {
        "flow_start_s": started - began,
        "flow_running_s": done - started,
        "flow_stop_s": stop_s,
        "flow_s": done - began + stop_s,
        "flow_next_s": next_s,
        "flow_empty_s": empty_s,
    }


def _next_job(config: RenderConfig, is_empty: bool = False) -> float:
    """A job in a process of its own, on the cluster that RAY_ADDRESS names; its seconds once connected."""
    from pipeline import cluster, flow  # before the clock runs, as on the other side

    work = flow.Stages(prep=empty.prep, motion=empty.Motion, render=empty.Render) if is_empty else flow.Stages()
    with cluster.connected():
        began = time.perf_counter()
        _job(config, work)
        return time.perf_counter() - began


def _job(config: RenderConfig, work: "Stages") -> None:
    from pipeline import assemble, flow
    from pipeline.commit import Output
    from pipeline.manifest import clips_of
    from pipeline.plan import plan

    todo = plan(clips_of(config), config, Output(config.out))
    flow.run(todo, config, "benchmark", work, lambda line: None)
    assemble.close(todo, config, "benchmark", work.join)
    if len(Output(config.out).committed()) != len(todo.tasks):
        raise SystemExit("the flow did not render every clip: the comparison would be meaningless")


def _in_pool(config: RenderConfig, workers: int, clips: int) -> None:
    _render_all(ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _set_up, (config,)), config, clips)


def _in_one_process(config: RenderConfig, workers: int, clips: int) -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        process.submit(_in_threads, config, workers, clips).result()


def _in_threads(config: RenderConfig, workers: int, clips: int) -> None:
    _render_all(ThreadPoolExecutor(workers, initializer=_set_up, initargs=(config,)), config, clips)


def _render_all(workers: Executor, config: RenderConfig, clips: int) -> None:
    from pipeline.manifest import clips_of

    with workers:
        list(workers.map(_render, clips_of(config)[:clips]))


def _set_up(config: RenderConfig) -> None:
    from pipeline.stages import MotionStage, RenderStage

    _own.stages = (config, MotionStage(config), RenderStage(config))


def _render(clip) -> None:
    from pipeline.prep import prep

    config, motion_stage, render_stage = _own.stages
    prepped = prep(clip, config)
    motion = motion_stage.generate(prepped)
    Path(config.out).mkdir(parents=True, exist_ok=True)
    render_stage.render(prepped, motion, Path(config.out) / f"{clip.id}.mp4", with_audio=True)


def _write_inputs(folder: Path, clips: int, seconds: float) -> None:
    for number in range(PORTRAITS):
        write_portrait(folder / f"portrait{number}.png", side_px=512 - 16 * number)
    rows = []
    for number in range(clips):
        speech = folder / f"speech{number}.wav"
        write_speech(speech, seconds, seed=number)
        rows.append({"id": f"clip{number:03d}", "portrait": f"portrait{number % PORTRAITS}.png", "audio": speech.name})
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))


def _config(folder: Path, side: str, asked: argparse.Namespace) -> RenderConfig:
    for name in ("out", "cache"):
        shutil.rmtree(folder / side / name, ignore_errors=True)
    words = [f"manifest={folder}/manifest.jsonl", f"out={folder}/{side}/out", f"cache.dir={folder}/{side}/cache"]
    return load_config([*words, f"controls.size={asked.size}", f"flow.render_actors={asked.workers}"])


def _print(result: dict[str, float]) -> None:
    print(f"{result['clips']} clips x {result['seconds']:g} s, {result['size']} px, {result['workers']} workers")
    for side, name in SIDES.items():
        print(f"  {name:20s} {result[f'{side}_s']:7.1f} s")
    parts = f"start {result['flow_start_s']:.1f}, run {result['flow_running_s']:.1f}, stop {result['flow_stop_s']:.1f}"
    print(f"  {'flow':20s} {result['flow_s']:7.1f} s   ({parts})")
    print(f"  {'... the next job':20s} {result['flow_next_s']:7.1f} s")
    print(f"  {'... an empty one':20s} {result['flow_empty_s']:7.1f} s")
    print(f"  {'overhead over':36s} " + "  ".join(f"{name:>20s}" for name in SIDES.values()))
    rows = {
        "on a standing cluster": "next_job",
        "as the first job of a cluster": "first_job",
        "that also starts and stops": "with_start",
    }
    for name, key in rows.items():
        print(f"    {name:34s} " + "  ".join(f"{result[f'overhead_{key}_{side}']:+20.1%}" for side in SIDES))


if __name__ == "__main__":
    main()
