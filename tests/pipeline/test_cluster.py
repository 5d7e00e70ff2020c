"""Joining clusters that aren't there, and those that are. Run: pytest tests/pipeline/test_cluster.py"""

import socket
from pathlib import Path
from typing import Any

import pytest
import ray

from pipeline.cluster import connected
from pipeline.errors import SetupError


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """What `ray.init` is asked for, without a cluster; an empty machine."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(ray, "init", lambda **settings: calls.append(settings))
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return calls


@pytest.fixture
def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def announce(folder: Path, address: str) -> None:
    (folder / "ray").mkdir()
    (folder / "ray/ray_current_cluster").write_text(address)


def test_an_address_where_nobody_answers_is_told_at_once(asked, monkeypatch, free_port: int):
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port}")
    told = f"127.0.0.1:{free_port} can't be joined: nobody answers.*RAY_AUTH_MODE"
    with pytest.raises(SetupError, match=told), connected():
        pass
    assert not asked


def test_a_refusal_of_ray_is_no_traceback(asked, monkeypatch):
    def refuse(**settings: Any) -> None:
        raise ConnectionError("Failed to connect\nmore")

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    with pytest.raises(SetupError, match="Failed to connect; start it"), connected():
        pass


def test_a_crashed_cluster_is_not_waited_for(asked, tmp_path: Path, free_port: int):
    announce(tmp_path, f"127.0.0.1:{free_port}")
    with connected():
        pass
    assert asked[0]["address"] == "local"


def test_a_cluster_of_this_machine_is_joined(asked, tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as head:
        announce(tmp_path, f"127.0.0.1:{head.getsockname()[1]}")
        with connected():
            pass
    assert "address" not in asked[0]
