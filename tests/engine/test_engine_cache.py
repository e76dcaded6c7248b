"""The response cache: what is stored survives a kill, what is not ours is left alone, and damage is said aloud."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.core.ask import Answer, Ask, TokenLogprob
from limbeck.core.errors import StorageError
from limbeck.core.row import Message, Usage
from limbeck.engine.cache import APPLICATION_ID, Cache, _prepare, keys
from limbeck.engine.stored import from_json, to_json

LIMIT = 512


def put(cache: Cache, answers: dict[str, Answer]) -> None:
    asyncio.run(cache.put(list(answers.items()), LIMIT))


def test_answers_come_back_whole(tmp_path: Path) -> None:
    full = Answer(
        text="half an emoji \ud83d, NUL \x00",
        finish="length",
        tokens_out=4,
        tool_calls="[]",
        reasoning="hm",
        logprobs=(TokenLogprob(token="a", logprob=-0.5, top={"b": -1.0}),),
        usage=Usage(tokens_in=3, usd=0.30000000000000004),
    )
    cache = Cache(tmp_path / "deep" / "calls.sqlite")
    put(cache, {"a": full, "b": Answer(text="")})
    assert cache.get(["b", "a", "c"], LIMIT) == {"b": Answer(text=""), "a": full}
    cache.close()
    again = Cache(tmp_path / "deep" / "calls.sqlite")
    assert again.get(["a"], LIMIT)["a"] == full
    again.close()


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=())), st.floats(0, 1e6, allow_nan=False))
def test_any_answer_survives_its_json(text: str, usd: float) -> None:
    answer = Answer(text=text, usage=Usage(usd=usd), reasoning=text)
    assert from_json(to_json(answer)) == answer


def test_the_key_is_who_was_asked_what_and_which_sample() -> None:
    ask = Ask(messages=[Message(role="user", content="q")], teacher="t", n=3)
    three, two = keys("model-a", ask), keys("model-a", Ask(messages=ask.messages, teacher="other name", n=2))
    assert len(set(three)) == 3 and three[:2] == two and not set(three) & set(keys("model-b", ask))


WRITER = """
import asyncio, sys
from pathlib import Path
from limbeck.core.ask import Answer
from limbeck.engine.cache import Cache
async def main():
    cache = Cache(Path(sys.argv[1]))
    for i in range(10**6):
        await cache.put([(f"key-{i}", Answer(text=str(i)))], 512)
        print(i, flush=True)
asyncio.run(main())
"""


def test_an_answer_is_durable_before_put_returns(tmp_path: Path) -> None:
    """Whatever was reported as stored is there after SIGKILL."""
    path = tmp_path / "calls.sqlite"
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    reported = [int(process.stdout.readline()) for _ in range(25)][-1]
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate()
    reported = max([reported, *map(int, rest.split("\n")[:-1])])
    cache = Cache(path)
    assert len(cache.get([f"key-{i}" for i in range(reported + 1)], LIMIT)) == reported + 1
    cache.close()


def test_a_thousand_answers_at_once_take_a_few_commits(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "calls.sqlite")
    statements: list[str] = []
    cache._writer.set_trace_callback(statements.append)

    async def many() -> None:
        await asyncio.gather(
            *(cache.put([(f"{i}-{j}", Answer(text="x")) for j in range(2)], LIMIT) for i in range(1000))
        )

    asyncio.run(many())
    commits = statements.count("COMMIT")
    assert len(cache.get([f"{i}-{j}" for i in range(1000) for j in range(2)], LIMIT)) == 2000 and 1 <= commits < 100
    cache.close()


def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "theirs.sqlite"
    with sqlite3.connect(path) as theirs:
        theirs.execute("CREATE TABLE calls (key TEXT, answer TEXT)")
    theirs.close()
    before = path.read_bytes()
    with pytest.raises(StorageError, match="is a database of another program; set LIMBECK_CACHE to another file"):
        Cache(path)
    assert path.read_bytes() == before and [f.name for f in tmp_path.iterdir()] == ["theirs.sqlite"]


@pytest.mark.parametrize("damage", ["text", "head", "middle", "answer"])
def test_a_damaged_file_is_said_aloud_and_never_started_over(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "calls.sqlite"
    cache = Cache(path)
    put(cache, {f"key-{i}": Answer(text="x" * 500) for i in range(200)})
    cache.close()
    content = bytearray(path.read_bytes())
    if damage == "answer":
        with sqlite3.connect(path) as ours:
            ours.execute("UPDATE answers SET answer = '{\"text\": '")
        ours.close()
    else:
        begin, end = {"text": (0, len(content)), "head": (0, 512), "middle": (4096, len(content))}[damage]
        content[begin:end] = b"this is no page " * ((end - begin) // 16)
        path.write_bytes(content)
    size = path.stat().st_size
    with pytest.raises(StorageError) as caught:
        damaged = Cache(path)
        try:
            damaged.get([f"key-{i}" for i in range(200)], LIMIT)
        finally:
            damaged.close()
    assert str(path) in str(caught.value) and path.stat().st_size >= size
    if damage != "answer":
        assert "answers you paid for" in str(caught.value)


def test_a_kill_while_the_file_is_made_does_not_make_it_a_strangers(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    with sqlite3.connect(path) as ours:
        ours.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    ours.close()
    cache = Cache(path)
    put(cache, {"a": Answer(text="x")})
    cache.close()
    with sqlite3.connect(tmp_path / "new.sqlite") as new:
        statements: list[str] = []
        new.set_trace_callback(statements.append)
        new.isolation_level = None
        _prepare(new, tmp_path / "new.sqlite")
    new.close()
    order = [next(i for i, s in enumerate(statements) if w in s) for w in ("PRAGMA application_id =", "CREATE TABLE")]
    assert order == sorted(order), "it is signed before anything is in it"


def test_many_processes_may_make_the_same_file_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from limbeck.engine.cache import Cache; Cache(Path(sys.argv[1])).close()"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "calls.sqlite")], stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    assert [(p.communicate()[1], p.returncode) for p in started] == [(b"", 0)] * 4


def test_a_folder_in_its_place_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"Check the folder, or set LIMBECK_CACHE\."):
        Cache(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="LIMBECK_CACHE"):
        Cache(tmp_path / "file" / "calls.sqlite")


def test_two_processes_share_a_cache(tmp_path: Path) -> None:
    left, right = Cache(tmp_path / "calls.sqlite"), Cache(tmp_path / "calls.sqlite")

    async def both() -> None:
        await asyncio.gather(
            *(c.put([(f"{n}-{i}", Answer(text=n))], LIMIT) for i in range(50) for n, c in (("l", left), ("r", right)))
        )

    asyncio.run(both())
    assert len(left.get([f"{n}-{i}" for i in range(50) for n in "lr"], LIMIT)) == 100
    left.close()
    right.close()


FULL = """
import asyncio, resource, sys
from pathlib import Path
from limbeck.core.ask import Answer
from limbeck.core.errors import StorageError
from limbeck.engine.cache import Cache
async def main():
    cache = Cache(Path(sys.argv[1]))
    await cache.put([("before", Answer(text="kept"))], 512)
    if sys.argv[2] == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        for i in range(1000):
            await cache.put([(f"key-{i}", Answer(text="x" * 5000))], 512)
    except StorageError as error:
        print(error)
    cache.close()
asyncio.run(main())
"""


def fill(path: Path, how: str) -> str:
    done = subprocess.run([sys.executable, "-c", FULL, str(path), how], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_file_that_may_not_grow_is_one_sentence_and_what_was_stored_stays(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    assert str(path) in fill(path, "limit")
    cache = Cache(path)
    assert cache.get(["before", "key-0"], LIMIT)["before"].text == "kept"
    cache.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A file system of one megabyte; skips, loudly, where one can not be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("SKIPPED: a full disk can only be tested where a tmpfs can be mounted (root).")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_is_one_sentence_and_the_run_can_go_on(small_disk: Path) -> None:
    path = small_disk / "calls.sqlite"
    told = fill(path, "disk")
    assert told == f"The disk is full: an answer could not be stored in {path}. Make space and run again."
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    assert fill(path, "disk") == ""


def test_closing_waits_for_what_is_queued(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "calls.sqlite")

    async def half() -> None:
        task = asyncio.create_task(cache.put([("late", Answer(text="x"))], LIMIT))
        await asyncio.sleep(0)
        cache.close()
        await task

    asyncio.run(half())
    again = Cache(tmp_path / "calls.sqlite")
    assert "late" in again.get(["late"], LIMIT)
    again.close()
