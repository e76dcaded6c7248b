"""The journal of batches: what is written is read again, the newest entry answers, and one process at a time changes it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from limbeck.teachers._batch_journal import KEEP_SECONDS, Entry, Journal

NAMES = st.text("0123456789abcdef", min_size=4, max_size=8)
REQUESTS = st.dictionaries(
    NAMES, st.tuples(NAMES, st.lists(st.integers(0, 99), min_size=1, unique=True).map(tuple)), max_size=5
)
HOLDER = """
import asyncio, sys
from pathlib import Path
from limbeck.teachers._batch_journal import Journal
async def hold():
    async with Journal(Path(sys.argv[1]), "x m").locked():
        print("held", flush=True)
        await asyncio.sleep(60)
asyncio.run(hold())
"""


def save(folder: Path, *entries: Entry, identity: str = "x m") -> Journal:
    async def run() -> Journal:
        journal = Journal(folder, identity)
        async with journal.locked():
            for entry in entries:
                journal.save(entry)
        return journal

    return asyncio.run(run())


@given(requests=REQUESTS, batch=NAMES, maybe=st.lists(NAMES), over=st.booleans(), creating=st.floats(0, 2e9))
def test_an_entry_is_read_as_it_was_written(tmp_path_factory, requests, batch, maybe, over, creating):
    folder = tmp_path_factory.mktemp("journal")
    entry = Entry("x m", requests, batch=batch, maybe=maybe, over=over, creating=creating)
    save(folder, entry)
    found = save(folder)
    assert found.entries == {entry.tag: entry}
    for (key, sample), name in entry.places.items():
        assert requests[name][0] == key and sample in requests[name][1]
        assert found.holder((key, sample)) == entry
    assert found.holder(("none", 0)) is None


def test_the_newest_entry_answers_whatever_the_order_of_the_files(tmp_path):
    requests = {"c": ("k", (0, 1))}
    old, new = Entry("x m", requests, made=time.time() - 9), Entry("x m", requests)
    for order in ((old, new), (new, old)):
        assert save(tmp_path, *order).holder(("k", 1)) == new
    assert save(tmp_path).holder(("k", 1)) == new


def test_another_model_and_another_endpoint_have_journals_of_their_own(tmp_path):
    save(tmp_path, Entry("x m", {"c": ("k", (0,))}))
    assert save(tmp_path, identity="x other").entries == {} and len(save(tmp_path).entries) == 1


def test_what_providers_have_forgotten_is_forgotten(tmp_path):
    entry = Entry("x m", {"c": ("k", (0,))}, made=time.time() - KEEP_SECONDS - 1)
    journal = save(tmp_path, entry)
    journal.results(entry).write_text("{}")
    assert save(tmp_path).entries == {} and [p.suffix for p in tmp_path.iterdir()] == [".lock"]


def test_the_parts_of_killed_downloads_go_with_the_results(tmp_path):
    entry = Entry("x m", {"c": ("k", (0,))})

    async def run() -> None:
        journal = Journal(tmp_path, "x m")
        async with journal.locked():
            journal.save(entry)
            journal.results(entry).with_suffix(f".{2**22 + 1}-9f3a.part").write_text("of a process that is no more")
            journal.results(entry).write_text("{}")
            journal.finish(entry)

    asyncio.run(run())
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".lock"] and save(tmp_path).entries[entry.tag].over


def test_the_lock_keeps_others_out_and_a_kill_gives_it_back(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"

    async def take() -> bool:
        async def once() -> None:
            async with Journal(tmp_path, "x m").locked():
                pass

        try:
            await asyncio.wait_for(once(), 0.3)
        except TimeoutError:
            return False
        return True

    assert not asyncio.run(take())
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert asyncio.run(take())
