"""The other ways to put prompts to a chat server, each as a user would write it; run as a process of its own.

    python bench/client_peers.py aiohttp http://127.0.0.1:8000/v1 prompts.jsonl 64 FOLDER

`aiohttp` is the floor: a loop that reads each answer's text and does nothing else, no retry, no file. `httpx` and `openai`
are the same loop. `curator`, `datadesigner` and `distilabel` are whole tools that keep what they get, as ours does; they are
run from environments of their own, see `bench_client.py`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

Ask = Callable[[str], Awaitable[str]]


def prompts_of(path: str) -> list[str]:
    """Read the prompts of a JSONL file."""
    return [json.loads(line)["prompt"] for line in Path(path).read_text(encoding="utf-8").splitlines()]


def body(prompt: str) -> dict[str, Any]:
    """Return a request as ours sends it."""
    turns = [{"role": "user", "content": prompt}]
    return {"model": "m", "messages": turns, "n": 1, "temperature": 1.0, "top_p": 1.0, "max_tokens": 512, "seed": 0}


async def loop(ask: Ask, prompts: list[str], in_flight: int) -> int:
    """Put every prompt through `ask`, so many at once; returns the letters that came back."""
    waiting = iter(prompts)
    letters = 0

    async def work() -> None:
        nonlocal letters
        for prompt in waiting:
            letters += len(await ask(prompt))

    await asyncio.gather(*(work() for _ in range(in_flight)))
    return letters


def aiohttp(url: str, prompts: list[str], in_flight: int, out: str) -> None:
    """Run the bare aiohttp loop."""
    import aiohttp as library

    async def go() -> None:
        connector = library.TCPConnector(limit=in_flight)
        async with library.ClientSession(connector=connector) as session:

            async def ask(prompt: str) -> str:
                async with session.post(f"{url}/chat/completions", json=body(prompt)) as reply:
                    return str((await reply.json())["choices"][0]["message"]["content"])

            await loop(ask, prompts, in_flight)

    asyncio.run(go())


def httpx(url: str, prompts: list[str], in_flight: int, out: str) -> None:
    """Run the same loop with httpx."""
    import httpx as library

    async def go() -> None:
        limits = library.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
        async with library.AsyncClient(limits=limits, timeout=60) as session:

            async def ask(prompt: str) -> str:
                reply = await session.post(f"{url}/chat/completions", json=body(prompt))
                return str(reply.json()["choices"][0]["message"]["content"])

            await loop(ask, prompts, in_flight)

    asyncio.run(go())


def openai(url: str, prompts: list[str], in_flight: int, out: str) -> None:
    """Run the same loop with the openai SDK."""
    from openai import AsyncOpenAI

    async def go() -> None:
        async with AsyncOpenAI(base_url=url, api_key="none") as client:

            async def ask(prompt: str) -> str:
                reply = await client.chat.completions.create(**body(prompt))
                return str(reply.choices[0].message.content)

            await loop(ask, prompts, in_flight)

    asyncio.run(go())


def curator(url: str, prompts: list[str], in_flight: int, out: str) -> None:
    """Run bespokelabs-curator with its openai backend."""
    os.environ |= {"CURATOR_CACHE_DIR": out, "TELEMETRY_ENABLED": "false", "OPENAI_API_KEY": "none"}
    import litellm

    tokenizers = Path(litellm.__file__).parent / "litellm_core_utils" / "tokenizers"
    os.environ["TIKTOKEN_CACHE_DIR"] = str(tokenizers)  # or it goes to the network for a tokenizer
    from bespokelabs import curator as library

    class Answer(library.LLM):  # type: ignore[misc,name-defined]
        """Ask the prompt as it stands."""

        def prompt(self, row: dict[str, Any]) -> str:
            """Return the prompt."""
            return str(row["prompt"])

        def parse(self, row: dict[str, Any], response: str) -> dict[str, Any]:
            """Return what is kept."""
            return {"prompt": row["prompt"], "answer": response}

    limits = {"max_requests_per_minute": 10**6, "max_tokens_per_minute": 10**9, "max_concurrent_requests": in_flight}
    model = Answer(model_name="gpt-4o-mini", backend="openai", backend_params={"base_url": url, **limits})
    answers = model([{"prompt": prompt} for prompt in prompts])
    print(len(getattr(answers, "dataset", answers)))


def datadesigner(url: str, prompts: list[str], in_flight: int, out: str) -> None:
    """Run DataDesigner with one text column."""
    import data_designer.config as dd
    import pandas
    from data_designer.interface import DataDesigner

    parameters = dd.ChatCompletionInferenceParams(
        temperature=1.0, top_p=1.0, max_tokens=512, max_parallel_requests=in_flight
    )
    config = dd.DataDesignerConfigBuilder(
        model_configs=[
            dd.ModelConfig(
                alias="a", model="m", provider="mock", inference_parameters=parameters, skip_health_check=True
            )
        ]
    )
    config.with_seed_dataset(dd.DataFrameSeedSource(df=pandas.DataFrame({"prompt": prompts})))
    config.add_column(dd.LLMTextColumnConfig(name="answer", prompt="{{ prompt }}", model_alias="a"))
    provider = dd.ModelProvider(name="mock", endpoint=url, provider_type="openai", api_key="none")
    made = DataDesigner(artifact_path=out, model_providers=[provider]).create(config, num_records=len(prompts))
    print(len(made.load_dataset()))


def distilabel(url: str, prompts: list[str], in_flight: int, out: str) -> None:
    """Run distilabel with one task in batches of 50, its default."""
    from distilabel.models import OpenAILLM
    from distilabel.pipeline import Pipeline
    from distilabel.steps import LoadDataFromDicts
    from distilabel.steps.tasks import TextGeneration

    with Pipeline(name="bench", cache_dir=out) as pipeline:
        load = LoadDataFromDicts(name="load", data=[{"instruction": prompt} for prompt in prompts], batch_size=50)
        parameters = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 512}
        model = OpenAILLM(model="m", base_url=url, api_key="none", generation_kwargs=parameters)
        load >> TextGeneration(name="answer", llm=model, input_batch_size=50)
    print(len(pipeline.run(use_cache=False)["default"]["train"]))


CLIENTS = {f.__name__: f for f in (aiohttp, httpx, openai, curator, datadesigner, distilabel)}


def main() -> None:
    """Run the client that the command line names."""
    name, url, path, in_flight, out = sys.argv[1:6]
    CLIENTS[name](url, prompts_of(path), int(in_flight), out)


if __name__ == "__main__":
    main()
