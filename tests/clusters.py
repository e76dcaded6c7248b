"""One Ray cluster for all tests of a process, and the local S3 server that its machines know of.

Tests that use the cluster share one xdist group, so that one process has them all: `pytestmark = clusters.GROUP`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).resolve().parent / "laws"))  # their server and recipes serve here too

from load_recipes import load
from load_server import Mock, write_prompts

from limbeck import Recipe
from limbeck.core.ledger import Total
from limbeck.engine.local import LocalRun

__all__ = [
    "GROUP",
    "Mock",
    "load",
    "paid",
    "rows_of",
    "run_local",
    "run_ray",
    "start_cluster",
    "start_s3",
    "write_prompts",
]

GROUP = pytest.mark.xdist_group("ray")
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}

_s3: dict[str, Any] = {}


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def start_cluster() -> None:
    """Start the cluster, if it does not run yet; it ends with this process. Skips, loudly, where ray is missing."""
    pytest.importorskip("ray", reason="SKIPPED: ray is not installed")
    import ray

    if ray.is_initialized():
        return
    _s3["port"] = free_port()
    address = f"http://127.0.0.1:{_s3['port']}"
    os.environ.update(QUIET)  # the machines of the cluster have the environment of its start
    os.environ.update(AWS_ENDPOINT_URL=address, AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test")
    os.environ.update(AWS_DEFAULT_REGION="us-east-1", LIMBECK_PRICES="")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)


def start_s3() -> str:
    """Start the S3 server, if it does not run yet, and return the address of an empty bucket."""
    pytest.importorskip("moto", reason="SKIPPED: moto is not installed")
    import s3fs
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    if "server" not in _s3:
        _s3["server"] = ThreadedMotoServer(ip_address="127.0.0.1", port=_s3["port"], verbose=False)
        _s3["server"].start()
    _s3["buckets"] = _s3.get("buckets", 0) + 1
    bucket = f"runs-{_s3['buckets']}"
    s3fs.S3FileSystem(skip_instance_cache=True).mkdir(bucket)
    return f"s3://{bucket}"


def run_ray(recipe: Recipe, out: Path | str, **options: Any) -> tuple[Any, list[dict[str, Any]]]:
    """Run a recipe on the cluster; returns the run and its events."""
    from limbeck.engine.ray import RayRun

    return _run(RayRun, recipe, out, **options)


def run_local(recipe: Recipe, out: Path, **options: Any) -> tuple[Any, list[dict[str, Any]]]:
    """Run a recipe on this machine."""
    return _run(LocalRun, recipe, out, **options)


def _run(kind: Any, recipe: Recipe, out: Path | str, **options: Any) -> tuple[Any, list[dict[str, Any]]]:
    events: list[dict[str, Any]] = []
    job = kind(recipe, out, listen=events.append, **options)
    asyncio.run(job.run())
    return job, events


def rows_of(run: Path) -> dict[str, bytes]:
    """Return every Parquet file of a run's steps, byte for byte."""
    return {f.relative_to(run).as_posix(): f.read_bytes() for f in sorted(run.glob("[0-9]*/*.parquet"))}


def paid(job: Any, step: str) -> Total:
    """Return what a step has cost over all sessions."""
    summary = job.nodes[step].folder.summary()["usage"]
    return Total(**summary)
