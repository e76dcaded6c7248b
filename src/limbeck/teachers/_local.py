"""What `hf` and `embedded` share: a folder of weights, its identity, and worker processes that answer."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from limbeck.core.ask import Answer, Ask, Reply, TokenLogprob
from limbeck.core.errors import EndpointError, UsageError
from limbeck.core.fingerprint import file_digest
from limbeck.core.row import Usage
from limbeck.teachers._pool import Pool

MATTERS = (
    "*.safetensors",
    "*.bin",
    "*config.json",
    "tokenizer*",
    "chat_template.jinja",
    "*_map.json",
    "*.txt",
    "*.model",
)
"""The files of a model folder that decide what it answers."""
MOST_WORKERS = 16


class Local:
    """A model in a local folder in the Hugging Face layout."""

    def __init__(self, folder: Path) -> None:
        self.path = folder
        _check(folder)
        self.identity = f"hf:{weights_digest(folder)}"
        self._pool: Pool | None = None

    async def answer(self, ask: Ask, samples: Sequence[int]) -> Reply:
        """Answer each sample index from its own random stream; equal asks have equal answers, whatever runs beside."""
        begun = time.monotonic()
        self._pool = self._pool or _pool(self.path)
        outcomes = await self._pool.answer(ask.payload(), samples)
        usage = Usage(
            tokens_in=outcomes[0]["tokens_in"],
            tokens_out=sum(outcome["tokens_out"] for outcome in outcomes),
            seconds=time.monotonic() - begun,
        )
        return Reply(answers=tuple(_answer(outcome) for outcome in outcomes), usage=usage, teacher=ask.teacher)

    async def close(self) -> None:
        """End the worker processes."""
        if self._pool is not None:
            await self._pool.close()
            self._pool = None


def weights_digest(folder: Path) -> str:
    """Return one digest of all files that matter: equal weights at two paths share a cache."""
    files = sorted({file for pattern in MATTERS for file in folder.glob(pattern) if file.is_file()})
    whole = blake2b(digest_size=16)
    for file in files:
        whole.update(f"{file.name} {file_digest(file)}\n".encode())
    return whole.hexdigest()


def _answer(outcome: dict[str, Any]) -> Answer:
    found = outcome["logprobs"]
    return Answer(
        text=outcome["text"],
        finish=outcome["finish"],
        tokens_out=outcome["tokens_out"],
        logprobs=None if found is None else tuple(TokenLogprob(token=t, logprob=p, top=top) for t, p, top in found),
    )


def _pool(folder: Path) -> Pool:
    """Small plain Llamas run in a process for every processor; anything else in one process with all threads."""
    from limbeck.teachers._llama import plain

    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if plain(folder):
        return Pool(folder, workers=min(processors, MOST_WORKERS))
    _need("torch", "transformers")
    return Pool(folder, workers=1, threads=processors)


def _check(folder: Path) -> None:
    """Find out what can be found out without loading the model, so that a plan fails as early as a run."""
    from limbeck.teachers._words import Words

    if not (folder / "config.json").is_file():
        raise UsageError(
            f"{folder} is not a model folder: it has no config.json. Name a folder in the Hugging Face layout "
            "(config.json, model.safetensors, tokenizer.json)."
        )
    _need("tokenizers")
    if not any(file.suffix in (".safetensors", ".bin") for file in folder.iterdir()):
        raise EndpointError(f"{folder} holds no weights (*.safetensors): was the training that writes them finished?")
    Words(folder)


def _need(*packages: str) -> None:
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise EndpointError(
            f"A local model needs {' and '.join(missing)}, which is not installed: pip install 'limbeck[train]'."
        )
