"""A run on two nodes of one machine, one of which is killed in the middle of it; started as a process of its own.

python ray_two_nodes.py prompts.jsonl http://127.0.0.1:8000/v1 OUT        prints {"killed_at": …, "attempts": 10, "shards": 8, …}
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
import time
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from limbeck.engine.ray import RayRun

ROWS = 20


def main(prompts: str, url: str, out: Path) -> dict[str, Any]:
    """Run, kill the second node while it works, and say what happened."""
    sys.path.append(str(Path(__file__).resolve().parent.parent / "laws"))
    from load_recipes import load

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = cluster.add_node(num_cpus=2)
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    told: dict[str, Any] = {"nodes": sum(node["Alive"] for node in ray.nodes())}
    job = RayRun(load(prompts, f"openai:m@{url}"), out, listen=lambda event: None, shard_rows=ROWS)

    def kill() -> None:
        while len(begun(out)) < 3:  # at most one of three can be on the node that stays
            time.sleep(0.01)
        told["killed_at"] = time.monotonic()
        cluster.remove_node(second, allow_graceful=False)

    thread = threading.Thread(target=kill)
    thread.start()
    asyncio.run(job.run())
    thread.join()
    attempts = [p.name for p in (out / ".shards" / "log").glob("*/*.jsonl")]
    shards = list((out / ".shards").glob("chains/*/*.json"))
    told |= {"attempts": len(attempts), "shards": len(shards), "left": sum(node["Alive"] for node in ray.nodes())}
    ray.shutdown()
    cluster.shutdown()
    return told


def begun(out: Path) -> list[Path]:
    """Return the logs of shards that are in the middle of their work: answers bought, and not committed."""
    shards = out / ".shards"
    done = {manifest.stem for manifest in shards.glob("chains/*/*.json")}
    return [
        log for log in shards.glob("log/*/*.jsonl") if log.parent.name not in done and log.read_bytes().count(b"\n") > 3
    ]


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))))
