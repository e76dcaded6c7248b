"""Shards without a cluster: manifests, logs, buckets, the merge, and the till with its money, places and claims."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck import Message, Row
from limbeck.core.ask import Answer
from limbeck.core.errors import BudgetReached, StorageError
from limbeck.core.find import find_step
from limbeck.core.ledger import Total
from limbeck.core.row import Usage, from_table, new_row, to_table
from limbeck.core.step import Whole
from limbeck.engine.cache import Cache
from limbeck.engine.cluster.buckets import bucket_of, gather, pieces, positions, scatter
from limbeck.engine.cluster.lease import LeaseLedger
from limbeck.engine.cluster.log import Line, ShardLog, harvest
from limbeck.engine.cluster.merge import Merge, in_order
from limbeck.engine.cluster.shards import Work, put_input, read_table
from limbeck.engine.cluster.store import Folder
from limbeck.engine.cluster.till import Report, Till
from limbeck.engine.limits import Limits
from limbeck.engine.rundir import RowWriter

REPLY = Answer(text="5", tokens_out=1, usage=Usage(tokens_in=3, tokens_out=1, usd=0.01))
PAID = Total(calls=1, answers=1, tokens_in=3, tokens_out=1, usd=0.01)


def rows(count: int, groups: int = 4) -> list[Row]:
    made = [
        new_row(messages=[Message(role="user", content=f"{i}?")], made_by={"i": i}, group=f"g{i % groups}")
        for i in range(count)
    ]
    return [row.drop("test: odd") if i % 5 == 3 else row for i, row in enumerate(made)]


def kept(count: int, groups: int = 4) -> list[Row]:
    return [row for row in rows(count, groups) if row.dropped is None]


@pytest.fixture
def store(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "shards")


# -- manifests ---------------------------------------------------------------------------------------------------------


def test_a_shard_counts_when_its_manifest_and_all_its_files_are_there(store: Folder) -> None:
    table = to_table(kept(5))
    work = Work(store, "chains", "9f3a")
    made = work.commit("51bc", [table, table.slice(1)], "a1", 0.5, lost=[{}, {}])
    assert list(made.rows) == [len(table), len(table) - 1]
    assert Work(store, "chains", "9f3a").committed("51bc") == made
    assert Work(store, "chains", "other").committed("51bc") is None
    again = Work(store, "chains", "9f3a").commit("51bc", [table], "a2")
    assert set(again.files).isdisjoint(made.files), "two attempts never write to the same file"
    store.delete(again.files[0])
    assert Work(store, "chains", "9f3a").committed("51bc") is None
    store.write("chains/9f3a/51bc.json", b'{"input": "51')
    assert Work(store, "chains", "9f3a").committed("51bc") is None


def test_equal_rows_are_one_input_and_a_lost_file_is_told(store: Folder) -> None:
    one, two = put_input(store, to_table(kept(5)), 0), put_input(store, to_table(kept(5)), 5)
    assert one.name == two.name and two.begin == 5 and len(list(store.names("input"))) == 1
    assert put_input(store, to_table(kept(6)), 0).name != one.name
    (store.path / one.name).write_bytes(b"PAR1 torn")
    with pytest.raises(StorageError, match=r"is damaged .* Delete the manifest"):
        read_table(store, one.name)
    store.delete(one.name)
    with pytest.raises(StorageError, match="is gone"):
        read_table(store, one.name)


# -- the merge ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "cut"), [(0, 7), (5, 1), (5000, 333), (4000, 2000)])
def test_merged_shards_are_the_files_of_the_row_writer_to_the_byte(count: int, cut: int, tmp_path: Path) -> None:
    made = rows(count)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    writer, merge = RowWriter(tmp_path / "one"), Merge(tmp_path / "two")
    for row in made:
        writer.add(row)
    merge.add_all(to_table(made[i : i + cut]) for i in range(0, count, cut))
    for each in (writer, merge):
        each.close()
    assert writer.reasons == merge.reasons and writer.total == merge.total == count
    for name in ("kept.parquet", "dropped.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert sorted(f.name for f in (tmp_path / "two").iterdir()) == ["dropped.parquet", "kept.parquet"]


# -- buckets -----------------------------------------------------------------------------------------------------------


def in_buckets(store: Folder, step: Whole, made: list[Row], cut: int, buckets: int) -> list[Row]:
    """Do a step in buckets, as the cluster does."""
    shards = [put_input(store, to_table(made[i : i + cut]), i) for i in range(0, len(made), cut)]
    laid = [(s, scatter(store, Work(store, "buckets", "x"), s, step, buckets, "a")) for s in shards]
    work, files = Work(store, "wholes", "x"), []
    for bucket in range(buckets):
        if of := pieces(laid, bucket):
            files += gather(store, work, str(bucket), of, step, "a").files
    return [row for table in in_order(store, files) for row in from_table(table)]


@pytest.mark.parametrize("name", ["select.first", "curate.exact", "select.best_of"])
def test_a_step_in_buckets_gives_the_rows_in_their_order(name: str, store: Folder) -> None:
    made = [row.with_scores(verified=float(i % 3)) for i, row in enumerate(kept(300, groups=37))]
    step = find_step(name)()
    assert isinstance(step, Whole)
    assert in_buckets(store, step, made, 40, 5) == step.whole(made)


class Twice(Whole):
    """Rows of a group, each twice; or, reversed, in another order."""

    reverse: bool = False

    def key(self, row: Row) -> str:
        return row.group

    def whole(self, rows: list[Row]) -> list[Row]:
        made = [r for row in rows for r in (row, row.child(row.messages, made_by={"again": row.id}))]
        return made[::-1] if self.reverse else made


def test_rows_that_a_step_adds_follow_those_they_come_after_and_another_order_is_noticed(store: Folder) -> None:
    made = kept(90)
    assert in_buckets(store, Twice(), made, 20, 3) == Twice().whole(made)
    shard = put_input(store, to_table(made), 0)
    laid = [(shard, scatter(store, Work(store, "buckets", "y"), shard, Twice(reverse=True), 2, "a"))]
    done = [
        gather(store, Work(store, "wholes", "y"), "b", pieces(laid, b), Twice(reverse=True), "a")
        for b in range(2)
        if pieces(laid, b)
    ]
    assert not any(manifest.facts["ordered"] for manifest in done)


@given(st.text(max_size=20), st.integers(1, 64))
def test_every_key_has_one_bucket_of_those_there_are(key: str, buckets: int) -> None:
    assert 0 <= bucket_of(key, buckets) < buckets and bucket_of(key, buckets) == bucket_of(str(key), buckets)


@given(st.lists(st.sampled_from("abcdef"), max_size=12), st.data())
def test_positions_are_in_order_and_point_at_the_rows_themselves(before: list[str], data: Any) -> None:
    places = sorted(data.draw(st.sets(st.integers(0, 99), min_size=len(before), max_size=len(before))))
    after = [name for name in before for name in ([name, f"new {name}"] if data.draw(st.booleans()) else [name])]
    found = positions(before, places, after)
    assert found is not None and found == sorted(set(found)) and [p for p, turn in found if turn == 0] == places


# -- logs --------------------------------------------------------------------------------------------------------------


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def test_a_log_holds_what_was_bought_and_a_torn_last_line_is_none(store: Folder, tmp_path: Path) -> None:
    async def buy(attempt: str, keys: list[str]) -> ShardLog:
        log = ShardLog(store, "51bc", attempt)
        await asyncio.gather(*(log.put([(key, REPLY)], 64, ("run", "sample", PAID)) for key in keys))
        log.close()
        return log

    first = run(buy("a1", ["k1", "k2"]))
    assert len(first.fresh) == 2 and not first.found
    path = store.path / "log/51bc/a1.jsonl"
    path.write_bytes(path.read_bytes() + b'{"answers": [["k3", 6')
    second = run(buy("a2", ["k4"]))
    assert second.get(["k1", "k2", "k3", "k4"], 64).keys() == {"k1", "k2", "k4"} and len(second.found) == 2
    assert second.get(["k1"], 128)["k1"] == REPLY, "an answer that came to its own end is the answer under any limit"
    assert second.get(["k1"], 32) == {}
    path.write_bytes(b"nonsense\n" + path.read_bytes())
    with pytest.raises(StorageError, match="is damaged"):
        ShardLog(store, "51bc", "a3")


def test_an_answer_cut_at_the_limit_is_bought_again_under_a_larger_one(store: Folder) -> None:
    log = ShardLog(store, "51bc", "a1")
    run(log.put([("k", Answer(text="5 +", finish="length"))], 8))
    assert log.get(["k"], 8) and not log.get(["k"], 16)
    log.close()


def test_what_nobody_waits_for_any_more_is_stored_and_told_all_the_same(store: Folder) -> None:
    async def cut() -> ShardLog:
        log = ShardLog(store, "51bc", "a1")
        waiting = asyncio.ensure_future(log.put([("k", REPLY)], 64, ("run", "sample", PAID)))
        await asyncio.sleep(0)
        waiting.cancel()
        await log.flush()
        log.close()
        return log

    assert [line.answers[0][0] for line in run(cut()).fresh] == ["k"]
    assert ShardLog(store, "51bc", "a2").get(["k"], 64)


def test_a_full_disk_is_one_sentence_and_leaves_no_torn_line(store: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    import limbeck.engine.cluster.log as module

    async def go() -> None:
        log = ShardLog(store, "51bc", "a1")
        await log.put([("k1", REPLY)], 64)
        monkeypatch.setattr(
            module.os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device"))
        )
        with pytest.raises(StorageError, match="The disk is full"):
            await log.put([("k2", REPLY)], 64)
        monkeypatch.undo()
        await log.put([("k3", REPLY)], 64)
        log.close()

    run(go())
    assert set(ShardLog(store, "51bc", "a2")._known) == {"k1", "k3"}


def test_harvest_brings_each_reply_and_its_cost_into_the_cache_once(store: Folder, tmp_path: Path) -> None:
    async def go() -> tuple[int, int, int, dict[str, Total]]:
        log, cache, seen = ShardLog(store, "51bc", "a1"), Cache(tmp_path / "c.sqlite"), tmp_path / "harvested.json"
        await log.put([("k1", REPLY)], 64, ("run", "sample", PAID))
        await cache.put([("k2", REPLY)], 64, ("run", "sample", PAID))  # this one had been told
        await log.put([("k2", REPLY)], 64, ("run", "sample", PAID))
        first, second = await harvest(store, cache, seen), await harvest(store, cache, seen)
        await log.put([("k3", REPLY)], 64, ("run", "sample", PAID))
        third = await harvest(store, cache, seen)
        log.close()
        spent = cache.spent("run")
        cache.close()
        return first, second, third, spent

    first, second, third, spent = run(go())
    assert (first, second, third) == (1, 0, 1) and spent["sample"].answers == 3
    assert json.loads((tmp_path / "harvested.json").read_text()).keys() == {"log/51bc/a1.jsonl"}


# -- the till ----------------------------------------------------------------------------------------------------------


def till(tmp_path: Path, cap: float | None = None, spent: float = 0.0, **limits: Any) -> Till:
    return Till(str(tmp_path / "c.sqlite"), "run", cap, spent, Limits(**limits))


def test_leases_and_what_is_spent_never_pass_the_cap(tmp_path: Path) -> None:
    async def go() -> None:
        shop = till(tmp_path, cap=1.0, spent=0.2)
        names, leased, told = ["a", "b", "c"], dict.fromkeys("abc", 0.0), 0.2
        refused = ""
        for turn in range(200):
            name = names[turn % 3]
            cost = min(leased[name], 0.013)
            spent = {"sample": Total(usd=cost)} if cost else {}
            grant = await shop.beat(name, name, Report(want=0.4, least=0.01, spent=spent))
            told += cost
            leased[name] += grant.usd - cost
            assert told + sum(leased.values()) <= 1.0 + 1e-9
            if grant.short:
                await shop.beat(name, name, Report(give=leased[name]))
                leased[name] = 0.0
            refused = grant.refused or refused
        assert told > 0.95 and "The budget of $1 is reached" in refused
        assert (await shop.see()).spent == pytest.approx(told)
        await shop.close()

    run(go())


def test_a_task_that_is_done_again_elsewhere_holds_nothing_but_its_lease_counts(tmp_path: Path) -> None:
    async def go() -> None:
        shop = till(tmp_path, cap=1.0, concurrency=8)
        await shop.beat("old", "shard", Report(want=0.5, least=0.4, asks=True))
        assert (await shop.claim("old", ["k"], 64)) == ([], [])
        assert (await shop.claim("other", ["k"], 64)) == ([], ["k"])
        new = await shop.beat("new", "shard", Report(want=0.7, least=0.7, asks=True))
        assert new.limits.concurrency == 8 and "may have been spent on a machine that was lost" in new.refused
        assert (await shop.claim("new", ["k"], 64)) == ([], [])
        ghost = await shop.beat("old", "shard", Report(spent={"sample": Total(usd=0.1)}, want=0.1, least=0.1))
        assert ghost.halt and not ghost.usd and (await shop.see()).spent == 0.1 and (await shop.see()).tasks == 1
        await shop.close()

    run(go())


def test_places_are_divided_and_nobody_gets_one_that_another_still_has(tmp_path: Path) -> None:
    async def go() -> None:
        shop = till(tmp_path, concurrency=8, rpm=80.0)
        one = await shop.beat("a", "a", Report(asks=True))
        assert one.limits == Limits(concurrency=8, rpm=80.0)
        two = await shop.beat("b", "b", Report(asks=True))
        assert two.limits.concurrency == 0, "the first has all eight until it beats again"
        one = await shop.beat("a", "a", Report(asks=True, in_flight=6))
        assert one.limits.concurrency == 6, "what is under way can not be taken back"
        two = await shop.beat("b", "b", Report(asks=True))
        assert two.limits == Limits(concurrency=2, rpm=20.0)
        await shop.leave("a", "a", Report())
        assert (await shop.beat("b", "b", Report(asks=True))).limits.concurrency == 8
        idle = await shop.beat("c", "c", Report())
        assert idle.limits.concurrency == 0
        await shop.close()

    run(go())


def test_a_claimed_answer_is_waited_for_and_told(tmp_path: Path) -> None:
    async def go() -> None:
        shop, line = till(tmp_path), Line([("k", 64, '{"text":"5","usage":[3,1,0.01]}')], ("run", "sample", PAID))
        assert await shop.claim("a", ["k", "j"], 64) == ([], [])
        assert await shop.claim("b", ["k"], 64) == ([], ["k"])
        waiting = asyncio.ensure_future(shop.until_free(["k"], 64))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await shop.beat("a", "a", Report(lines=[line], spent={"sample": PAID}))
        await asyncio.wait_for(waiting, 5)
        known, flying = await shop.claim("b", ["k", "j"], 64)
        assert [key for key, _, _ in known] == ["k"] and flying == ["j"]
        await shop.release(["j"], 64)
        assert await shop.claim("b", ["j"], 64) == ([], [])
        await shop.close()

    run(go())


def test_what_a_dead_attempt_had_no_time_to_tell_is_counted_once(tmp_path: Path) -> None:
    async def go() -> Total:
        shop = till(tmp_path)
        lines = [Line([(f"k{i}", 64, '{"text":"5","usage":[3,1,0.01]}')], ("run", "sample", PAID)) for i in range(3)]
        await shop.beat("old", "s", Report(lines=lines[:1], spent={"sample": PAID}))
        await shop.beat("new", "s", Report(recovered=lines))
        await shop.beat("newer", "s", Report(recovered=lines))
        total = (await shop.see()).totals["sample"]
        await shop.close()
        return total

    assert run(go()).answers == 3


def test_a_lease_is_asked_for_waited_for_and_refused() -> None:
    asked: list[None] = []
    ledger = LeaseLedger(capped=True)
    ledger.wanted = lambda: asked.append(None)
    assert not ledger.reserve(0.5) and asked and ledger.least == 0.5
    ledger.take(0.7, "")
    assert ledger.reserve(0.5) and not ledger.reserve(0.5)
    ledger.commit("sample", Total(usd=0.1))
    ledger.release(0.5)
    assert ledger.untold()["sample"].usd == 0.1 and ledger.untold() == {}
    assert ledger.spare() == pytest.approx(0.6) and ledger.lease == pytest.approx(0.0)
    ledger.take(0.0, "The budget is reached.")
    with pytest.raises(BudgetReached, match="The budget is reached"):
        ledger.reserve(0.5)
    assert LeaseLedger(capped=False).reserve(1e9)
