"""The OpenAI-compatible teacher against llama.cpp's own server, which serves the embedded teacher converted to GGUF."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from pathlib import Path

import pytest

from limbeck.core.ask import Ask, Reply
from limbeck.core.errors import RefusedError
from limbeck.core.row import Message
from limbeck.seeds.families import problems
from limbeck.teachers.embedded import Embedded
from limbeck.teachers.openai import OpenAI

pytestmark = pytest.mark.real
SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory):
    for package in ("gguf", "xllamacpp", "safetensors"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"SKIPPED: {package} is not installed, so no llama.cpp is asked: pip install gguf xllamacpp")
    import xllamacpp

    sys.path.insert(0, str(SCRIPTS))
    try:
        from export_gguf import convert
    finally:
        sys.path.remove(str(SCRIPTS))
    path = tmp_path_factory.mktemp("gguf") / "teacher.gguf"
    convert(Embedded.folder(""), path)
    options = xllamacpp.CommonParams()
    options.model.path, options.n_ctx, options.port, options.n_gpu_layers = str(path), 2048, 0, 0
    options.n_parallel, options.warmup, options.use_jinja, options.cpuparams.n_threads = 4, False, True, 1
    server = xllamacpp.Server(options)
    yield server.listening_address + "/v1"
    del server


def asked(teacher: OpenAI | Embedded, *asks: Ask) -> list[Reply]:
    async def all_of_them() -> list[Reply]:
        try:
            return await asyncio.gather(*(teacher.answer(ask, list(range(ask.n))) for ask in asks))
        finally:
            await teacher.close()

    return asyncio.run(all_of_them())


def question(text: str, **options) -> Ask:
    return Ask(messages=[Message(role="user", content=text)], teacher="openai:m", **options)


def test_greedy_answers_are_those_of_the_embedded_teacher(address):
    asks = [question(p.prompt, temperature=0.0, max_tokens=120) for p in problems("chains", count=12, seed=9)]
    served, embedded = asked(OpenAI(f"m@{address}"), *asks), asked(Embedded(""), *asks)
    same = sum(a.text.strip() == b.text.strip() for a, b in zip(served, embedded, strict=True))
    assert same >= 11, "the same weights; half precision may turn one token"
    assert all(reply.usage.tokens_in > 5 and reply.usage.tokens_out > 5 for reply in served)


def test_four_samples_differ(address):
    reply = asked(OpenAI(f"m@{address}"), question("Start with 3. Add 4. Double it.", n=4, max_tokens=30))[0]
    assert len(reply.answers) == 4 and len({answer.text for answer in reply.answers}) > 1


def test_logprobs_come(address):
    ask = question("Start with 3. Add 4.", temperature=0.0, max_tokens=8, logprobs=3)
    answer = asked(OpenAI(f"m@{address}"), ask)[0].answers[0]
    assert answer.logprobs and all(len(entry.top) == 3 and entry.logprob <= 0 for entry in answer.logprobs)
    assert "".join(entry.token for entry in answer.logprobs).strip() == answer.text.strip()
    assert answer.finish == "length"


def test_a_schema_is_obeyed(address):
    schema = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
    form = {"type": "json_schema", "json_schema": {"name": "sum", "schema": schema}}
    answer = asked(OpenAI(f"m@{address}"), question("Start with 3. Add 4.", max_tokens=60, response_format=form))[
        0
    ].answers[0]
    if answer.finish == "stop":
        assert isinstance(json.loads(answer.text)["sum"], int)
    assert answer.text.lstrip().startswith("{")


def test_a_prompt_that_is_too_long_is_refused_once(address):
    with pytest.raises(RefusedError, match="refused the request"):
        asked(OpenAI(f"m@{address}"), question("apples " * 5000))
