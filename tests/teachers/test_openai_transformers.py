"""The OpenAI-compatible teacher against a real `transformers serve`, which answers 200 and ignores much of what it was asked."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from openai_asking import in_turn, question

from limbeck.core.errors import BusyError, EndpointError
from limbeck.seeds.families import problems
from limbeck.teachers.embedded import Embedded
from limbeck.teachers.openai import OpenAI
from running import limbeck, wait_for

pytestmark = pytest.mark.real
SERVE = "import sys; from transformers.cli.transformers import main; sys.argv[0] = 'transformers'; main()"
FORM = {"type": "json_schema", "json_schema": {"name": "sum", "schema": {"type": "object", "required": ["sum"]}}}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory):
    for package in ("transformers", "fastapi", "uvicorn", "openai"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(
                f"SKIPPED: {package} is not installed, so nothing is served: pip install 'transformers[serving]'"
            )
    folder = tmp_path_factory.mktemp("serve")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    words = ["serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HOME": str(folder)}
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-c", SERVE, *words],
            env={**os.environ, **offline},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_for(lambda: _healthy(port), 120, server)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.fixture(scope="module")
def sampling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the model whose own configuration lets the server sample."""
    folder = tmp_path_factory.mktemp("sampling") / "teacher"
    shutil.copytree(Embedded.folder(""), folder)
    (folder / "generation_config.json").write_text(json.dumps({"do_sample": True, "eos_token_id": _eos(folder)}))
    return folder


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.WARNING)
    return lambda: " ".join(r.getMessage() for r in caplog.records if r.name.startswith("limbeck"))


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as reply:
            return reply.status == 200
    except OSError:
        return False


def _eos(folder: Path) -> int:
    return json.loads((folder / "config.json").read_text())["eos_token_id"]


def served(address: str, folder: Path | None = None) -> OpenAI:
    return OpenAI(f"{folder or Embedded.folder('')}@{address}")


def test_greedy_answers_are_those_of_the_embedded_teacher(address):
    calls = [(question(p.prompt, temperature=0.0, max_tokens=120), [0]) for p in problems("chains", count=8, seed=9)]
    replies = in_turn(served(address), *calls)

    async def embedded() -> list[str]:
        teacher = Embedded("")
        found = [(await teacher.answer(*call)).text for call in calls]
        await teacher.close()
        return found

    assert [reply.text.strip() for reply in replies] == [text.strip() for text in asyncio.run(embedded())]
    assert all(reply.usage.tokens_in > 5 and reply.usage.tokens_out > 5 for reply in replies)


def test_that_it_ignores_n_is_noticed_and_made_up_for(address, sampling, told):
    ask = question("Start with 3. Add 4. Double it.", n=4, max_tokens=60)
    teacher = served(address, sampling)
    replies = in_turn(teacher, (ask, [0, 1, 2, 3]), (ask, [1, 2, 3]), (ask, [2, 3]), (ask, [3]))
    assert [len(reply.answers) for reply in replies] == [1, 1, 1, 1]
    assert len({reply.text for reply in replies}) > 1, "each single call has a seed of its own"
    assert told() == f"{address} gave 1 of 4 answers to one call; from now on each answer is a call of its own."


def test_that_it_gives_no_logprobs_is_a_sentence(address):
    with pytest.raises(EndpointError, match="without log-probabilities, though they were asked for"):
        in_turn(served(address), (question("Start with 3. Add 4.", logprobs=2, max_tokens=20), [0]))


def test_that_it_ignores_the_schema_is_noticed_and_the_schema_is_stated(address, told):
    ask, teacher = (
        question("Start with 3. Add 4.", response_format=FORM, temperature=0.0, max_tokens=80),
        served(address),
    )
    with pytest.raises(BusyError, match="did not keep to response_format") as caught:
        in_turn(teacher, (ask, [0]))
    assert caught.value.kind == "garbled"
    plain, stated = in_turn(
        teacher, (question(ask.messages[0].content, temperature=0.0, max_tokens=80), [0]), (ask, [0])
    )
    assert stated.usage.tokens_in > plain.usage.tokens_in + 20, "the model reads the schema now"
    assert "answered 200 without keeping to response_format" in told()


def test_that_it_does_not_sample_is_noticed(address, told):
    asks = [question(p.prompt, n=3, temperature=1.0, max_tokens=120) for p in problems("chains", count=3, seed=1)]
    replies = in_turn(served(address), *((ask, [sample]) for ask in asks for sample in range(3)))
    assert len({reply.text for reply in replies}) == 3, "greedy, whatever the temperature: this is what must be noticed"
    assert "gave the same answer to every sample of several prompts at temperature 1" in told()


def test_plain_completions(address, sampling, told):
    teacher = served(address + "/completions", sampling)
    ask = question("Start with 3. Add 4.", temperature=0.0, max_tokens=20)
    again = question("Start with 3. Add 4.", temperature=0.0, max_tokens=20, response_format=FORM)
    plain, stated = in_turn(teacher, (ask, [0]), (again, [0]))
    assert plain.text and plain.answers[0].finish == "length" and plain.answers[0].tokens_out == 20
    assert "refuses response_format" in told() and stated.usage.tokens_in > plain.usage.tokens_in + 20


def test_a_run_gets_every_sample_from_a_server_without_n(address, sampling, tmp_path):
    prompts = [{"prompt": problem.prompt} for problem in problems("chains", count=3, seed=2)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(p) + "\n" for p in prompts))
    words = ("apply", "generate.sample", "prompts.jsonl", "--n", 4, "--max_tokens", 60, "--out", "run")
    done = limbeck(*words, "--teacher", f"openai:{sampling}@{address}", cwd=tmp_path, LIMBECK_CONCURRENCY="4")
    assert done.returncode == 0 and "12 kept, 0 dropped" in done.stdout, done.stdout + done.stderr
    assert done.stderr.count("gave 1 of 4 answers to one call") == 1
