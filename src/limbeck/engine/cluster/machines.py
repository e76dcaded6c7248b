"""The cluster: starting or joining it, putting the till on it, and doing work on its machines.

    cluster = Cluster(address=None)          None starts one on this machine; "auto" or "host:6379" joins one
    cluster.start()
    call = cluster.till(cache, run, cap, spent, limits)
    outcome = await cluster.do(run_chain, job, call)

The only file that imports ray. A task whose machine dies is done again elsewhere (at least once, so everything it does may
be done twice); one that fails by itself has returned its error as words. Nothing is reported to anybody: usage statistics
and the dashboard are off, and what tasks print stays in the cluster's own logs.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Any

from limbeck.core import errors
from limbeck.core.errors import EndpointError, StepError, UsageError
from limbeck.engine.cluster.tasks import Job, Outcome
from limbeck.engine.cluster.till import LOST, Call, Till

RETRIES = 5
"""How often a task is done again because its machine or its process has died."""


class TillCall:
    """Calls the till's coroutines by name, from any machine."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def __call__(self, method: str, *args: Any) -> Any:
        """Return an awaitable of what the till answers."""
        return getattr(self._actor, method).remote(*args)


class Cluster:
    """A Ray cluster, joined or started."""

    def __init__(self, address: str | None) -> None:
        self._address = address
        self._ray: Any = None
        self._own = False
        self._actor: Any = None

    def start(self) -> None:
        """Join the cluster, or start one. Raises UsageError where ray is missing, EndpointError where nothing answers."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError:
            raise UsageError("The ray backend is not installed: pip install 'limbeck[ray]'.") from None
        self._ray = ray
        if ray.is_initialized():
            return
        if str(self._address).startswith("ray://"):
            raise UsageError(
                f"'{self._address}' is the address of a Ray client; give the cluster's own: auto, or HOST:6379."
            )
        try:
            ray.init(
                address=self._address or "local",
                include_dashboard=None if self._address else False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            where = self._address or "this machine"
            raise EndpointError(f"No Ray cluster could be reached or started at {where}: {error}.") from None
        self._own = True

    def stop(self) -> None:
        """Take the till away, and the cluster with it if it was started or joined here."""
        if self._actor is not None:
            self._ray.kill(self._actor)
            self._actor = None
        if self._own:
            self._ray.shutdown()
            self._own = False

    def till(self, *settings: Any) -> Call:
        """Start the till on this machine, beside the cache that it reads and writes; see `Till` for its settings."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(self._ray.get_runtime_context().get_node_id(), soft=False)
        kind = self._ray.remote(num_cpus=0, max_restarts=0, max_concurrency=10_000, scheduling_strategy=here)(Till)
        self._actor = kind.remote(*settings)
        return TillCall(self._actor)

    async def do(self, function: Callable[..., Outcome], job: Job, *args: Any) -> Outcome:
        """Do one piece of work on any machine and return its outcome. Raises what it failed with."""
        what = " and ".join(spec.name for spec in job.steps)
        task = self._ray.remote(num_cpus=1, max_retries=RETRIES, scheduling_strategy="SPREAD")(function)
        reference = task.options(name=f"limbeck {what}").remote(job, *args)
        try:
            outcome: Outcome = await reference
        except asyncio.CancelledError:
            self._ray.cancel(reference)
            raise
        except self._ray.exceptions.RayActorError:
            raise StepError(LOST) from None
        except self._ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, self._ray.exceptions.RayActorError):
                raise StepError(LOST) from None
            told = str(cause or error).strip().splitlines()[-1]
            raise StepError(
                f"{what} could not be done on the cluster: {type(cause or error).__name__}: {told}"
            ) from error
        if "error" in outcome:
            kind, text = outcome["error"]
            raise getattr(errors, kind, StepError)(text)
        return outcome
