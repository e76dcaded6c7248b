"""A teacher behind a server: its k likeliest tokens at each trained token of a document, by prompt log-probabilities.

    teacher = RemoteTop("openai:big@http://gpu:8000/v1", k=20)
    teacher.top(documents)          one request a document, eight under way at once; ids and log-probabilities, [T, k]

The document goes to the server as the student's token ids, so the tokenizers have to be the same: `RemoteTokenizer` lets the
server encode the probes, and the common check compares them token by token. What a server says is trained on as it stands:
its model is sampled from nowhere, and temperatures are 1.

The requests are made here, in the training process, and not by the engine: they are not cached (the texts are the student's
own, new ones in every update) and not held against `--budget`; servers that tell log-probabilities of prompts are one's own.
To ask once and train often, take `train.cache_logits`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any

import numpy as np

from limbeck.core.errors import BusyError, StepError, UsageError
from limbeck.core.find import find_teacher
from limbeck.train._likeliest import Ids, LogProbs
from limbeck.train.examples import Example

ATTEMPTS = 8
LONGEST_WAIT = 30.0
"""Seconds; waits double from half a second on."""


class RemoteTop:
    """Asks a server. Raises UsageError for a teacher that has no way to tell log-probabilities of prompts."""

    def __init__(self, spec: str, k: int, together: int = 8) -> None:
        kind, _, rest = spec.partition(":")
        self._teacher = find_teacher(kind)(rest)
        if not hasattr(self._teacher, "prompt_logprobs"):
            raise UsageError(
                f"'{spec}' can not tell the log-probabilities of a given text; take openai:MODEL@ADDRESS of vLLM or llama.cpp."
            )
        self.spec, self.k = spec, k
        self.asked = self.tokens = 0
        self._asking = self._teacher.prompt_logprobs()
        self._loop = asyncio.new_event_loop()
        self._gate = asyncio.Semaphore(together)

    def top(self, documents: Sequence[Example]) -> list[tuple[Ids, LogProbs]]:
        """Ask for all documents. Raises StepError when the server does not answer for some minutes."""
        if not self._asking.way and documents:  # the first finds out how this server is asked
            return [self._run(self._one(documents[0])), *self.top(documents[1:])]

        async def all_of_them() -> list[tuple[Ids, LogProbs]]:
            return await asyncio.gather(*(self._one(document) for document in documents))

        found: list[tuple[Ids, LogProbs]] = self._run(all_of_them())
        return found

    def tokens_of(self, text: str) -> list[int]:
        """Return the server's token ids of a text; -1 where it does not say. Raises UsageError if it never does."""
        found = self._run(self._patient(lambda: self._asking.tokens(text)))
        if found is None:
            raise UsageError(
                f"The server of '{self.spec}' does not say how it cuts text into tokens (it has no /tokenize), so that it can not "
                "be known whether student and teacher mean the same by the same ids; serve the model with vLLM or llama.cpp."
            )
        return list(found)

    def told(self) -> dict[str, Any]:
        """Return what the server was asked."""
        return {
            "teacher_k": self.k,
            "teacher_requests": self.asked,
            "teacher_tokens": self.tokens,
            "teacher_way": self._asking.way,
        }

    def close(self) -> None:
        """Close the connections."""
        if not self._loop.is_closed():
            self._run(self._teacher.close())
            self._loop.close()

    async def _one(self, document: Example) -> tuple[Ids, LogProbs]:
        first = document.trained.index(True, 1)
        places = await self._patient(lambda: self._asking.at(document.ids, first, self.k))
        wanted = [place for place, is_trained in zip(places, document.trained[first:], strict=True) if is_trained]
        self.asked += 1
        self.tokens += len(document.ids)
        return _arrays(wanted, self.k)

    async def _patient(self, ask: Any) -> Any:
        for attempt in range(ATTEMPTS):
            async with self._gate:
                try:
                    return await ask()
                except BusyError as error:
                    said = error
            wished = said.retry_after if said.retry_after is not None else 0.5 * 2**attempt
            await asyncio.sleep(min(wished, LONGEST_WAIT))
        raise StepError(f"The teacher {self.spec} did not answer {ATTEMPTS} times: {said} What is done is kept.")

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(work)


class RemoteTokenizer:
    """As much of a tokenizer as the comparison of two needs, answered by the server."""

    def __init__(self, teacher: RemoteTop, student: Any) -> None:
        self._teacher, self._student = teacher, student

    def get_vocab(self) -> dict[str, int]:
        """Return nothing: a server does not tell what each id stands for; texts have to show it."""
        return {}

    def decode(self, ids: Sequence[int]) -> str:
        """Name ids by what they are to the student."""
        return str(self._student.decode(ids))

    def __call__(self, text: str, add_special_tokens: bool = False) -> dict[str, list[int]]:
        """Encode a text; where the server is silent about a token, the student's is taken."""
        found = self._teacher.tokens_of(text)
        own = self._student(text, add_special_tokens=False)["input_ids"]
        said = [o if n == -1 else n for n, o in zip(found, own, strict=False)]
        return {"input_ids": said + found[len(own) :]}


def _arrays(places: Iterable[dict[int, float]], k: int) -> tuple[Ids, LogProbs]:
    """Lay out places of up to k tokens, the likeliest first; an actual token beyond the k is left to the rest."""
    rows = [sorted(place.items(), key=lambda item: (-item[1], item[0]))[:k] for place in places]
    ids, log_probs = np.full((len(rows), k), -1, dtype=np.int64), np.full((len(rows), k), -np.inf, dtype=np.float32)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = [i for i, _ in row]
        log_probs[place, : len(row)] = [value for _, value in row]
    return ids, log_probs
