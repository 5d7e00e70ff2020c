"""One local Ray cluster for all tests that need one and don't kill it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.s3 import S3Server


@pytest.fixture(scope="session")
def fake_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the fakes of all jobs write down what they do."""
    return tmp_path_factory.mktemp("fakes")


@pytest.fixture(scope="session")
def ray_cluster(s3_server: S3Server, fake_log: Path) -> Iterator[None]:
    """Two CPUs; workers inherit the environment as it is now, so the S3 server and the log are in it."""
    import ray

    before = os.environ.get("TALKFARM_FAKE_LOG")
    os.environ["TALKFARM_FAKE_LOG"] = str(fake_log)
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=300 * 2**20)
    yield
    ray.shutdown()
    if before is None:
        del os.environ["TALKFARM_FAKE_LOG"]
    else:
        os.environ["TALKFARM_FAKE_LOG"] = before
