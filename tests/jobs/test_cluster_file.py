"""cluster.yaml is one that `ray up` takes. Run: pytest tests/jobs/test_cluster_file.py"""

import importlib.util
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


def test_it_follows_rays_schema(cluster: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    spec = importlib.util.find_spec("ray")
    assert spec and spec.origin
    schema = json.loads((Path(spec.origin).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(cluster, schema)


def test_the_head_does_no_work(cluster: dict[str, Any]) -> None:
    types = cluster["available_node_types"]
    assert cluster["head_node_type"] in types
    assert types["head"]["resources"]["CPU"] == 0
    assert "InstanceMarketOptions" not in types["head"]["node_config"]


def test_workers_come_on_demand_of_the_job(cluster: dict[str, Any]) -> None:
    types = cluster["available_node_types"]
    assert all(kind["min_workers"] == 0 for name, kind in types.items() if name != "head")
    spot = [name for name, kind in types.items() if "InstanceMarketOptions" in kind["node_config"]]
    assert spot and all(types[name]["resources"]["GPU"] for name in spot)


def test_the_image_has_our_ray(cluster: dict[str, Any]) -> None:
    assert f"ray:{version('ray')}-py311" in cluster["docker"]["image"]
