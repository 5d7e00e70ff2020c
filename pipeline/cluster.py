"""Joining or starting a Ray cluster, and dividing it among the stages."""

import logging
import math
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from pipeline.config import RenderConfig
from pipeline.errors import SetupError
from pipeline.retrying import first_line

STORE_BYTES = 2**30  # object store of a cluster of our own: rows are small
RENDER_SHARE, PREP_SHARE = 0.7, 0.25  # of all CPUs, when rendering runs on them; the rest is for the small stages
MOST_ACTORS = 1000
RENDERERS_PER_MOTION = 16  # coefficients of a clip take a small fraction of the time that its frames take
LEAST_FREE = 0.1  # of all CPUs, for a job to make do with what others leave it
SMALL_CPUS = 0.02  # of a motion worker or a writing task: little work, mostly waiting
HOST_AND_PORT = re.compile(r"[^/]+:\d+$")
ANSWER_S = 10.0
QUIET_RAY = {
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # its warning about every actor pool counts as an error that greets each user
    "RAY_USAGE_STATS_ENABLED": "0",
}


@dataclass(frozen=True)
class Pools:
    """How many workers each stage gets, and what one of them reserves."""

    render_actors: int
    most_render_actors: int
    render_cpus: float
    render_gpus: float
    motion_actors: int
    prep_cpus: float


@contextmanager
def connected() -> Iterator[None]:
    """A Ray cluster for the length of a block: the one that is announced, or else one of our own.

    Announced means: this process is connected already, RAY_ADDRESS is set (as in `ray job submit`), or `ray start`
    has been run on this machine.

    Raises:
        SetupError: a cluster is announced and can't be joined.
    """
    if ray.is_initialized():
        yield
        return
    for name, value in QUIET_RAY.items():
        os.environ.setdefault(name, value)
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    with _silent_backend():
        if _is_announced():
            _join(quiet)
        else:
            ray.init(address="local", include_dashboard=False, object_store_memory=STORE_BYTES, **quiet)
    try:
        yield
    finally:
        ray.shutdown()


def _join(quiet: dict[str, Any]) -> None:
    address = os.environ.get("RAY_ADDRESS", "")
    try:
        if HOST_AND_PORT.match(address) and not _answers(address):  # Ray would try for many minutes
            raise ConnectionError("nobody answers there")
        ray.init(**quiet)
    except (ConnectionError, ValueError, RayError) as error:
        raise SetupError(
            [
                f"the Ray cluster {address or 'of this machine'} can't be joined: {first_line(error)}; start it, or "
                "unset RAY_ADDRESS and run `ray stop` to work without it. Clusters of Ray 2.59 and later may ask for a "
                "token: set RAY_AUTH_MODE=token and have the head's ~/.ray/auth_token on this machine"
            ]
        ) from error


def size_pools(config: RenderConfig, parts: int) -> Pools:
    """Divide the cluster that this process is connected to.

    Rendering gets most of the CPUs that are free, so that preparing clips, which is faster, keeps ahead of it without
    taking its place. A cluster that has no room for a render worker yet is taken for one that grows on demand.

    Args:
        parts: how many parts there are to render, about.
    """
    machines = [entry["Resources"] for entry in ray.nodes() if entry["Alive"]]
    cpus = [machine["CPU"] for machine in machines if machine.get("CPU")]
    share = config.flow.gpus_per_render_actor
    room = math.floor(sum(machine.get("GPU", 0.0) for machine in machines) / share if share else sum(cpus))
    wanted = config.flow.render_actors or min(max(room, 1), parts)
    most = 1.0 if share else RENDER_SHARE
    free = free_cpus() / sum(cpus) if cpus else 1.0
    grows = room == 0 and not config.flow.render_actors
    return Pools(
        render_actors=wanted,
        most_render_actors=min(parts, MOST_ACTORS) if grows else wanted,
        render_cpus=hundredths(min(most, RENDER_SHARE * free * sum(cpus) / wanted)) if cpus else most,
        render_gpus=share,
        motion_actors=config.flow.motion_actors or max(1, wanted // RENDERERS_PER_MOTION),
        # render workers may fill some machines, but never all: what they leave must hold a task on one machine
        prep_cpus=hundredths(min(config.flow.prep_cpus, PREP_SHARE * free * min(cpus, default=4.0))),
    )


def free_cpus() -> float:
    """CPUs that a job can have now.

    What others hold may be held for as long as the job runs, as what `ray job submit` reserves for the job's own
    process is; a stage that waited for it would wait for ever. If they hold nearly all, there is no way but to wait for
    them, and all CPUs count.
    """
    total, free = (found.get("CPU", 0.0) for found in (ray.cluster_resources(), ray.available_resources()))
    return free if free > LEAST_FREE * total else total


def hundredths(cpus: float) -> float:
    """Rounded down, so that shares never add up to more than there is."""
    return max(0.01, math.floor(cpus * 100) / 100)


def is_alive(node: str) -> bool:
    """Whether a machine, named by its Ray node id, is part of the cluster."""
    return any(entry["NodeID"] == node and entry["Alive"] for entry in ray.nodes())


def _is_announced() -> bool:
    if os.environ.get("RAY_ADDRESS"):
        return True
    note = Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir())) / "ray" / "ray_current_cluster"
    return note.exists() and _answers(note.read_text().strip())  # a cluster that crashed leaves its note behind


def _answers(address: str) -> bool:
    """Whether anybody listens at host:port."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_S).close()
    except (OSError, ValueError):
        return False
    return True


@contextmanager
def _silent_backend() -> Iterator[None]:
    """Drop what libraries write to the terminal past Python; failures of `ray.init` arrive as exceptions."""
    terminal = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        os.close(nowhere)
