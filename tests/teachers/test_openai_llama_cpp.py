"""The OpenAI-compatible teacher against llama.cpp's own server, which serves the embedded teacher converted to GGUF."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from pathlib import Path

import pytest

from limbeck.core.ask import Ask, Reply
from limbeck.core.errors import BusyError, RefusedError
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


SCHEMA = {
    "type": "object",
    "properties": {"sum": {"type": "integer"}},
    "required": ["sum"],
    "additionalProperties": False,
}
FORM = {"type": "json_schema", "json_schema": {"name": "sum", "schema": SCHEMA}}


def test_a_schema_is_obeyed_without_being_stated(address):
    teacher = OpenAI(f"m@{address}")
    ask = question("Start with 3. Add 4.", n=3, max_tokens=60, response_format=FORM)
    reply = asked(teacher, ask)[0]
    assert len(reply.answers) == 3 and not teacher._dialect.states_form
    assert all(answer.text.lstrip().startswith("{") for answer in reply.answers)
    assert all(isinstance(json.loads(a.text)["sum"], int) for a in reply.answers if a.finish == "stop")


def test_that_plain_completions_ignore_the_schema_is_noticed(address):
    teacher = OpenAI(f"m@{address}/completions")
    ask = question("Start with 3. Add 4.", temperature=0.0, max_tokens=60, response_format=FORM)
    with pytest.raises(BusyError, match="did not keep to response_format"):
        asked(teacher, ask)
    assert teacher._dialect.states_form


def test_plain_completions_go_on_with_the_text(address):
    plain, chat = OpenAI(f"m@{address}/completions"), OpenAI(f"m@{address}")
    asks = [question(p.prompt, temperature=0.0, max_tokens=120) for p in problems("chains", count=8, seed=4)]
    # the chat template of this model, written out: what the server makes of a chat is what a base model is sent
    templated = [
        question(f"<bos><user>{a.messages[0].content}<assistant>", temperature=0.0, max_tokens=120) for a in asks
    ]
    pairs = zip(asked(plain, *templated), asked(chat, *asks), strict=True)
    assert sum(a.text.strip() == b.text.strip() != "" for a, b in pairs) >= 7


def test_plain_completions_have_samples_stops_and_logprobs(address):
    teacher = OpenAI(f"m@{address}/completions")
    several = question("<user>Start with 3. Add 4.<assistant>", n=3, max_tokens=20)
    weighed = question("<user>Start with 3. Add 4.<assistant>", temperature=0.0, max_tokens=30, logprobs=2, stop=("=",))
    many, one = asked(teacher, several, weighed)
    assert len(many.answers) == 3 and many.usage.tokens_out == sum(a.tokens_out for a in many.answers) > 3
    answer = one.answers[0]
    assert "=" not in answer.text and answer.finish == "stop"
    assert answer.logprobs and all(len(entry.top) == 2 and entry.logprob <= 0 for entry in answer.logprobs)
    assert "".join(entry.token for entry in answer.logprobs).strip().startswith(answer.text.strip())


def test_more_choices_than_the_server_has_room_for_are_asked_for_one_by_one(address):
    teacher, ask = OpenAI(f"m@{address}"), question("Start with 3. Add 4.", n=9, max_tokens=10)
    reply = asked(teacher, ask)[0]
    assert 1 <= len(reply.answers) <= 9
    if len(reply.answers) < 9:
        assert teacher._dialect.most == len(reply.answers)


def test_the_prompt_cache_of_the_server_is_counted(address):
    ask = question("Start with 3. Add 4. Double it. Subtract 5. Add 11. Halve it.", max_tokens=4)

    async def twice() -> list[Reply]:
        teacher = OpenAI(f"m@{address}")
        found = [await teacher.answer(ask, [sample]) for sample in range(6)]
        await teacher.close()
        return found

    replies = asyncio.run(twice())
    assert replies[-1].tokens_cached > 0 and all(r.tokens_cached <= r.usage.tokens_in for r in replies)


def test_a_prompt_that_is_too_long_is_refused_once(address):
    with pytest.raises(RefusedError, match="refused the request"):
        asked(OpenAI(f"m@{address}"), question("apples " * 5000))
