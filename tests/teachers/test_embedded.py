"""The embedded teacher: found by name, and its worker processes die, survive and return as they should."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from limbeck.core.ask import Ask, Teacher
from limbeck.core.errors import EndpointError, UnknownName
from limbeck.core.find import find_teacher
from limbeck.core.row import Message
from limbeck.teachers.embedded import Embedded

pytest.importorskip("tokenizers", reason="the embedded teacher needs the train extra: pip install 'limbeck[train]'")

ASK = Ask(messages=[Message(role="user", content="Start with 12. Add 5.")], teacher="embedded", n=2, max_tokens=40)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout
    return bool(state.strip()) and not state.startswith("Z")


def gone_within(pid: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not alive(pid):
            return True
        time.sleep(0.05)
    return False


def test_both_models_are_there_by_name():
    assert find_teacher("embedded") is Embedded
    assert isinstance(Embedded(""), Teacher)
    assert Embedded.folder("").name == "teacher" and Embedded.folder("student").name == "student"
    assert Embedded("").identity != Embedded("student").identity
    with pytest.raises(UnknownName, match="Did you mean 'student'"):
        Embedded("studnet")


def test_it_answers_without_torch():
    script = f"""
        import asyncio, sys
        from limbeck.core.ask import Ask
        from limbeck.core.row import Message
        from limbeck.teachers.embedded import Embedded

        async def main():
            teacher = Embedded("")
            ask = Ask(messages=[Message(role="user", content={ASK.messages[0].content!r})], teacher="embedded", max_tokens=40)
            print((await teacher.answer(ask, [0])).text)
            await teacher.close()

        asyncio.run(main())
        assert not {{"torch", "transformers", "pyarrow"}} & set(sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)], capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.strip() and not done.stderr, done.stderr


def test_answers_are_the_same_in_every_process_and_loop():
    found = []
    for _ in range(2):
        teacher = Embedded("")

        async def once(teacher=teacher):
            reply = await teacher.answer(ASK, [0, 1])
            await teacher.close()
            return reply

        found.append([answer.text for answer in asyncio.run(once()).answers])
    assert found[0] == found[1] and found[0][0] != found[0][1]


def test_the_workers_go_when_they_are_closed_and_come_back_when_asked():
    async def twice() -> None:
        teacher = Embedded("")
        first = await teacher.answer(ASK, [0, 1])
        assert teacher._pool is not None
        pid = teacher._pool._workers[0]._process.pid
        assert alive(pid)
        await teacher.close()
        assert not alive(pid)
        assert (await teacher.answer(ASK, [0, 1])).answers == first.answers
        await teacher.close()

    asyncio.run(twice())


def test_an_interrupt_is_the_parents_affair():
    async def interrupted() -> None:
        teacher = Embedded("")
        await teacher.answer(ASK, [0])
        assert teacher._pool is not None
        os.kill(teacher._pool._workers[0]._process.pid, signal.SIGINT)
        assert (await teacher.answer(ASK, [0, 1])).answers
        await teacher.close()

    asyncio.run(interrupted())


def test_a_worker_that_is_killed_is_an_error_and_the_next_ask_starts_another():
    async def killed() -> None:
        teacher = Embedded("")
        await teacher.answer(ASK, [0])
        assert teacher._pool is not None
        long = Ask(messages=ASK.messages, teacher="embedded", n=2000, max_tokens=400)
        task = asyncio.create_task(teacher.answer(long, list(range(2000))))
        await asyncio.sleep(0.2)
        os.kill(teacher._pool._workers[0]._process.pid, signal.SIGKILL)
        with pytest.raises(EndpointError, match="ended with code -9"):
            await task
        assert (await teacher.answer(ASK, [0])).answers
        await teacher.close()

    asyncio.run(killed())


def test_an_ask_that_is_cancelled_harms_no_other():
    async def cancelled() -> None:
        teacher = Embedded("")
        task = asyncio.create_task(teacher.answer(ASK, list(range(100))))
        await asyncio.sleep(0.3)
        task.cancel()
        assert len((await teacher.answer(ASK, [0, 1])).answers) == 2
        await teacher.close()

    asyncio.run(cancelled())


@pytest.mark.parametrize("moment", ["idle", "busy"])
def test_workers_die_with_a_parent_that_is_killed(moment):
    script = f"""
        import asyncio, os, signal
        from limbeck.core.ask import Ask
        from limbeck.core.row import Message
        from limbeck.teachers.embedded import Embedded

        async def main():
            teacher = Embedded("")
            ask = Ask(messages=[Message(role="user", content="Start with 12. Add 5.")], teacher="embedded", max_tokens=400)
            await teacher.answer(ask, [0])
            print(*(worker._process.pid for worker in teacher._pool._workers), flush=True)
            if {moment == "busy"}:
                task = asyncio.create_task(teacher.answer(ask, list(range(3000))))
                await asyncio.sleep(0.3)
                assert not task.done()
            os.kill(os.getpid(), signal.SIGKILL)

        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True, timeout=60
    )
    assert done.returncode == -signal.SIGKILL
    pids = [int(word) for word in done.stdout.split()]
    assert pids and all(gone_within(pid, 5) for pid in pids)
