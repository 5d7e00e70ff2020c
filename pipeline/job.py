"""A whole job: manifest in, output folder out. The one-clip form is in single.py."""

import hashlib
import json
import platform
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from models import registry
from pipeline import storage
from pipeline.commit import Output
from pipeline.config import RenderConfig, dump_config
from pipeline.errors import SetupError, TalkfarmError
from pipeline.manifest import Clip, clips_of
from pipeline.packs import settle
from pipeline.plan import Plan, plan
from pipeline.prep import check_backend
from pipeline.report import Report, build_report, write_report

if TYPE_CHECKING:
    from pipeline.flow import Stages

PACKAGES = ("talkfarm", "ray", "numpy", "opencv-python", "mediapipe", "numba", "torch")


def run_job(config: RenderConfig, tell: Callable[[str], None] = print, work: "Stages | None" = None) -> Report:
    """Render what a manifest asks for and the output folder doesn't hold yet.

    Args:
        config: of the job; `manifest` is set.
        tell: is given progress lines.
        work: other stages than the real ones.
    Raises:
        SetupError: the manifest or the output folder can't be used; nothing was started.
        TalkfarmError: storage failed beyond what can be written down for a clip.
    """
    began = time.monotonic()
    config = config.model_copy(update={"out": storage.absolute(config.out)})
    storage.configure(config.storage.options, config.storage.retries)
    clips = clips_of(config)
    config = settle(config, clips)
    check_backend(config)
    run_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}"
    output = Output(config.out)
    try:
        todo = plan(clips, config, output)
        _describe_run(clips, config, output, run_id)
    except TalkfarmError as error:
        raise SetupError([f"out={config.out}: {error}"]) from error
    tell(f"{len(clips)} clips: {len(todo.done)} done already, {len(todo.tasks)} to do")
    if todo.tasks:
        _do(todo, config, run_id, tell, work)
    report = build_report(todo, output, run_id, time.monotonic() - began)
    write_report(report, output)
    return report


def _do(todo: Plan, config: RenderConfig, run_id: str, tell: Callable[[str], None], work: "Stages | None") -> None:
    # ray.data takes a second to import, which passes while the cluster starts
    threading.Thread(target=_import_ray_data, daemon=True).start()
    from pipeline import assemble, cluster, flow

    work = work or flow.Stages()
    with cluster.connected():
        flow.run(todo, config, run_id, work, tell)
    assemble.close(todo, config, run_id, work.join)


def _import_ray_data() -> None:
    import ray.data  # noqa: F401


def _describe_run(clips: list[Clip], config: RenderConfig, output: Output, run_id: str) -> None:
    """Write what was asked: run.json and config.yaml."""
    rows = "\n".join(clip.model_dump_json() for clip in clips)
    asked = {
        "run": run_id,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "manifest": config.manifest,
        "clips": len(clips),
        "clips_sha256": hashlib.sha256(rows.encode()).hexdigest(),
        "config_sha256": hashlib.sha256(dump_config(config).encode()).hexdigest(),
        "model_revision": registry.REVISION,
        "python": platform.python_version(),
        "machine": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
    }
    storage.write_atomic(output.path("run.json"), json.dumps(asked, indent=2).encode())
    storage.write_atomic(output.path("config.yaml"), dump_config(config).encode())


def _version(package: str) -> str:

    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed as a package"
