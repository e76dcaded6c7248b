"""teachers.batch against a real server with both providers' batch APIs: thousands at once, salvage, failures, and what is said."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from batch_server import BatchServer

from limbeck.core.ask import Ask, Reply, Teacher
from limbeck.core.errors import EndpointError, LimbeckError, RefusedError, StorageError, UsageError
from limbeck.core.find import find_teacher
from limbeck.core.row import Message
from limbeck.teachers import _batch_flight
from limbeck.teachers.anthropic import Anthropic
from limbeck.teachers.batch import Batch
from limbeck.teachers.openai import OpenAI

KEY = "sk-planted-0123456789abcdef"
BOTH = pytest.mark.parametrize("kind", ["openai", "anthropic"])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchServer]:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "LIMBECK_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with BatchServer() as running:
        yield running


def teacher(server: BatchServer, kind: str, **options: Any) -> Batch:
    return Batch(f"{kind}:m@{server.url}", **{"quiet": 0.1, "poll": 0.02, **options})


def question(text: str, **options: Any) -> Ask:
    return Ask(messages=[Message(role="user", content=text)], teacher="batch", **options)


def ask_all(model: Batch, asks: Sequence[Ask]) -> list[Reply | BaseException]:
    """Ask everything at once, as a run does, and close."""

    async def run() -> list[Reply | BaseException]:
        try:
            return await asyncio.gather(
                *(model.answer(a, range(a.first, a.first + a.n)) for a in asks), return_exceptions=True
            )
        finally:
            await model.close()

    return asyncio.run(run())


def good(replies: Sequence[Reply | BaseException]) -> list[Reply]:
    found = []
    for reply in replies:
        assert isinstance(reply, Reply), repr(reply)
        found.append(reply)
    return found


def journal(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((tmp_path / "batches").glob("*.json"))]


@BOTH
def test_two_thousand_asks_are_one_batch_and_each_gets_its_own_answer(server, kind):
    server.looks = 3
    asks = [question(f"q{i}", n=2) for i in range(1000)]
    replies = good(ask_all(teacher(server, kind), asks))
    assert len(server.batches) == 1
    for number, reply in enumerate(replies):
        wanted = [f"answer {s} to q{number}" for s in (0, 1)] if kind == "openai" else [f"answer to q{number}"] * 2
        assert [a.text for a in reply.answers] == wanted
    assert set(server.bought.values()) == {2} and len(server.bought) == 1000
    usage = replies[0].usage
    # one prompt for both answers where the API knows `n`, else two
    assert (usage.tokens_in, usage.tokens_out, replies[0].tokens_cached) == (
        (10, 4, 4) if kind == "openai" else (20, 4, 8)
    )


@BOTH
def test_it_is_the_plain_teacher_to_the_cache_and_half_the_price_to_the_ledger(server, kind):
    plain = OpenAI(f"m@{server.url}") if kind == "openai" else Anthropic(f"m@{server.url}")
    batch = find_teacher("batch")(f"{kind}:m@{server.url}")
    assert isinstance(batch, Teacher) and batch.identity == plain.identity == f"{server.url} m"
    assert (Batch.remote, Batch.priced, Batch.discount, Batch.window) == (False, True, 0.5, 50_000)
    assert Batch("openai:m").identity == OpenAI("m").identity
    assert Batch("anthropic:m").identity == Anthropic("m").identity == "https://api.anthropic.com/v1 m"


def test_a_request_is_worded_as_the_plain_teacher_words_it(server):
    ask = question("q", n=3, temperature=0.5, top_p=0.9, max_tokens=9, stop=("\n",), seed=4)
    good(ask_all(teacher(server, "openai"), [ask]))
    assert server.batches[0].requests[0]["body"] == OpenAI(f"m@{server.url}")._request(ask, [0, 1, 2])


def test_plain_completions_are_a_batch_as_well(server):
    model = Batch(f"openai:m@{server.url}/completions", quiet=0.1, poll=0.02)
    (reply,) = good(ask_all(model, [question("Once upon a time", n=2)]))
    assert [a.text for a in reply.answers] == [f"answer {i} to Once upon a time" for i in (0, 1)]
    assert server.batches[0].requests[0]["body"]["prompt"] == "Once upon a time"


def test_a_parameter_that_the_model_does_not_take_is_put_right_in_the_next_batch(server):
    server.fate = lambda text, batch: "refused" if batch == 1 else "ok"
    server.told = {
        "message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        "param": "max_tokens", "code": "unsupported_parameter",
    }  # fmt: skip
    assert len(good(ask_all(teacher(server, "openai"), [question(f"q{i}") for i in range(5)]))) == 5
    assert ["max_completion_tokens" in b.requests[0]["body"] for b in server.batches] == [False, True]


def test_samples_that_are_asked_for_one_by_one_share_a_request(server):
    asks = [question("q", first=i) for i in range(5)]
    replies = good(ask_all(teacher(server, "openai"), asks))
    assert [r.text for r in replies] == [f"answer {i} to q" for i in range(5)]
    assert [r["body"]["n"] for r in server.batches[0].requests] == [5]
    assert [r.usage.tokens_in for r in replies] == [10, 0, 0, 0, 0], "the prompt was charged once"


@BOTH
def test_the_limit_of_a_batch_makes_several(server, kind):
    replies = good(ask_all(teacher(server, kind, most=30), [question(f"q{i}") for i in range(100)]))
    assert len(replies) == 100 and [len(b.requests) for b in server.batches] == [30, 30, 30, 10]


def test_the_bytes_of_a_batch_make_several_and_a_giant_is_refused(server):
    model = teacher(server, "openai")
    model._provider.most_bytes = 3_000
    asks = [question("x" * 1_000 + str(i)) for i in range(4)] + [question("y" * 9_000)]
    *replies, giant = ask_all(model, asks)
    assert len(good(replies)) == 4 and [len(b.requests) for b in server.batches] == [2, 2]
    assert isinstance(giant, RefusedError) and "too large for any batch" in str(giant)


def test_asks_that_trickle_in_are_collected_until_it_is_quiet(server):
    async def run() -> None:
        model = teacher(server, "openai", quiet=0.3)
        tasks = []
        for number in range(10):
            tasks.append(asyncio.create_task(model.answer(question(f"q{number}"), [0])))
            await asyncio.sleep(0.05)
        await asyncio.gather(*tasks)
        await model.close()

    asyncio.run(run())
    assert [len(b.requests) for b in server.batches] == [10]


@BOTH
@pytest.mark.parametrize("fate", ["expired", "canceled", "server", "missing", "garbled"])
def test_what_expired_or_failed_goes_into_the_next_batch_and_only_that(server, kind, fate):
    server.fate = lambda text, batch: fate if batch == 1 and text in ("q3", "q7") else "ok"
    replies = good(ask_all(teacher(server, kind), [question(f"q{i}") for i in range(10)]))
    assert len(replies) == 10
    assert sorted(r["body"]["messages"][-1]["content"] for r in server.batches[1].requests) == ["q3", "q7"]
    again = {key: count for key, count in server.bought.items() if count > 1}
    # a reply that the provider charges for and that can not be read is the one thing that is bought again
    assert set(again) == ({("m", "q3"), ("m", "q7")} if fate == "garbled" else set())


@BOTH
def test_three_batches_in_vain_are_the_end_of_a_row_and_not_of_the_others(server, kind):
    server.fate = lambda text, batch: "expired" if text == "q1" else "ok"
    first, lost, third = ask_all(teacher(server, kind), [question(f"q{i}") for i in range(3)])
    assert isinstance(lost, RefusedError) and "no answer in 3 batches" in str(lost) and "expired" in str(lost)
    assert len(good([first, third])) == 2 and [len(b.requests) for b in server.batches] == [3, 1, 1]


@BOTH
def test_batches_that_answer_no_row_at_all_stop_the_run(server, kind):
    server.fate = lambda text, batch: "expired"
    errors = ask_all(teacher(server, kind), [question(f"q{i}") for i in range(3)])
    assert all(isinstance(e, EndpointError) and "No other row was answered either." in str(e) for e in errors)


@BOTH
@pytest.mark.parametrize("fate", ["refused", "denied"])
def test_a_refused_row_is_one_row_and_tried_once(server, kind, fate):
    server.fate = lambda text, batch: fate if text == "q1" else "ok"
    first, refused, third = ask_all(teacher(server, kind), [question(f"q{i}") for i in range(3)])
    assert isinstance(refused, RefusedError) and f"{fate} by the server" in str(refused)
    assert len(good([first, third])) == 2 and len(server.batches) == 1


def test_answers_before_a_refused_sample_are_handed_over(server):
    refused: list[str] = []

    def fate(text: str, batch: int) -> str:
        refused.append(text)
        return "refused" if len(refused) == 3 else "ok"

    server.fate = fate
    (reply,) = good(ask_all(teacher(server, "anthropic"), [question("q", n=4)]))
    assert len(reply.answers) == 2 and reply.usage.tokens_in == 20
    third, fourth = ask_all(teacher(server, "anthropic"), [question("q", first=2), question("q", first=3)])
    assert isinstance(fourth, Reply) and len(server.batches) == 2, (
        "the fourth was there already, the third is asked anew"
    )
    assert isinstance(third, Reply)


def test_a_server_that_gives_fewer_answers_is_asked_for_the_rest(server):
    whole = server._completion
    server._completion = lambda body: whole({**body, "n": 1})  # type: ignore[method-assign]
    (reply,) = good(ask_all(teacher(server, "openai"), [question("q", n=3)]))
    assert len(reply.answers) == 3
    assert [[r["body"]["n"] for r in b.requests] for b in server.batches] == [[3], [1, 1]]


def test_a_batch_that_is_not_accepted_stops_the_run_with_the_providers_words(server, tmp_path, monkeypatch):
    monkeypatch.setenv("LIMBECK_API_KEY", KEY)
    server.problem = {"code": "invalid", "message": f"The model `m` is not there for key {KEY}.", "line": 4}
    (error,) = ask_all(teacher(server, "openai"), [question("q")])
    assert isinstance(error, EndpointError)
    assert str(error) == "The batch batch_1 was not accepted: line 4: The model `m` is not there for key [removed]."
    assert journal(tmp_path) == [] and not server.bought


def test_a_crowded_queue_is_waited_for_in_smaller_batches(server):
    server.room = 10
    replies = good(ask_all(teacher(server, "openai"), [question(f"q{i}") for i in range(37)]))
    assert len(replies) == 37 and set(server.bought.values()) == {1}
    taken = [len(b.requests) for b in server.batches if b.problem is None]
    assert sum(taken) == 37 and max(taken) <= 10


def test_a_crowded_queue_that_never_has_room_is_said(server):
    server.room = 0
    (error,) = ask_all(teacher(server, "openai"), [question("q")])
    assert isinstance(error, EndpointError) and "Enqueued token limit reached" in str(error)


@BOTH
def test_a_wrong_key_is_one_sentence_without_the_key(server, kind, monkeypatch, tmp_path):
    server.key = "right"
    monkeypatch.setenv("LIMBECK_API_KEY", KEY)
    (error,) = ask_all(teacher(server, kind), [question("q")])
    assert isinstance(error, EndpointError) and "status 401" in str(error) and KEY not in str(error)
    assert journal(tmp_path) == []


@BOTH
def test_a_busy_provider_is_asked_again_at_every_stage(server, kind):
    base = "/v1/batches" if kind == "openai" else "/v1/messages/batches"
    results = "/v1/files/out-batch_1/content" if kind == "openai" else f"{base}/batch_1/results"
    server.faults = {
        f"GET {base}": [503, 500, 429],
        "POST /v1/files": [502, 429],
        f"POST {base}": [429, 503, 500],
        f"GET {base}/batch_1": [500, 529],
        f"GET {results}": [503, 503],
    }
    assert len(good(ask_all(teacher(server, kind), [question(f"q{i}") for i in range(5)]))) == 5
    assert not any(server.faults[place] for place in server.faults if kind == "openai" or "files" not in place)
    assert len(server.batches) == 1 and set(server.bought.values()) == {1}


@BOTH
def test_a_batch_whose_beginning_was_answered_with_an_error_is_found_in_the_list(server, kind):
    """The provider begins the batch, and its answer is a 502 of a proxy on the way."""
    name = "_openai" if kind == "openai" else "_anthropic"
    whole, seen = getattr(server, name), []

    def broken(begun: Any) -> dict[str, Any]:
        seen.append(begun)
        return {} if len(seen) == 1 else whole(begun)  # type: ignore[no-any-return]

    setattr(server, name, broken)
    assert len(good(ask_all(teacher(server, kind), [question(f"q{i}") for i in range(5)]))) == 5
    assert len(server.batches) == 1 and set(server.bought.values()) == {1}


@BOTH
def test_a_provider_that_can_not_be_reached_for_long_stops_the_run_and_the_next_one_goes_on(
    server, kind, monkeypatch, caplog
):
    monkeypatch.setattr(_batch_flight, "OUT_OF_REACH_SECONDS", 0.3)
    path = "/v1/batches/batch_1" if kind == "openai" else "/v1/messages/batches/batch_1"
    server.faults = {f"GET {path}": [503] * 500}
    (error,) = ask_all(teacher(server, kind), [question("q")])
    assert isinstance(error, EndpointError) and "The batch batch_1 goes on there: run the same command again." in str(
        error
    )
    assert "Batch batch_1 can not be looked at, and goes on" in caplog.text
    server.faults.clear()
    assert len(good(ask_all(teacher(server, kind), [question("q")]))) == 1 and len(server.batches) == 1


def test_nothing_listens_is_said_at_once():
    begun = time.monotonic()
    (error,) = ask_all(Batch("openai:m@http://127.0.0.1:9/v1", quiet=0.01), [question("q")])
    assert isinstance(error, EndpointError) and "Nothing answers at http://127.0.0.1:9/v1" in str(error)
    assert time.monotonic() - begun < 10


@BOTH
def test_a_rerun_takes_answers_that_were_not_yet_stored_without_asking_again(server, kind, tmp_path):
    asks = [question(f"q{i}") for i in range(20)]
    first = good(ask_all(teacher(server, kind), asks))
    assert [entry["over"] for entry in journal(tmp_path)] == [True]
    second = good(ask_all(teacher(server, kind), asks))
    assert [r.text for r in second] == [r.text for r in first]
    assert len(server.batches) == 1 and sorted(p.suffix for p in (tmp_path / "batches").iterdir()) == [".json", ".lock"]


@BOTH
def test_a_stopped_run_leaves_its_batch_and_the_next_one_joins_it(server, kind, tmp_path, caplog):
    server.looks = 10**9
    asks = [question(f"q{i}", n=2) for i in range(20)]

    async def stopped() -> None:
        model = teacher(server, kind)
        tasks = [asyncio.create_task(model.answer(a, [0, 1])) for a in asks]
        while not server.batches or not server.batches[0].looks:
            await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await model.close()

    with caplog.at_level(logging.INFO, "limbeck"):
        asyncio.run(stopped())
    count = 20 if kind == "openai" else 40
    assert f"{count} requests go on at {server.url} m (batch_1): they are paid for." in caplog.text
    assert [entry["batch"] for entry in journal(tmp_path)] == ["batch_1"]
    server.looks = 0
    more = [question(f"q{i}", n=3) for i in range(25)]  # a wider recipe asks for the same and for more
    assert all(len(r.answers) == 3 for r in good(ask_all(teacher(server, kind), more)))
    assert len(server.batches) == 2 and set(server.bought.values()) == {3}


@BOTH
def test_what_was_refused_in_an_earlier_run_is_asked_anew_and_what_was_answered_is_not(server, kind):
    server.fate = lambda text, batch: "refused" if text == "q1" and batch == 1 else "ok"
    asks = [question(f"q{i}") for i in range(3)]
    assert [type(r).__name__ for r in ask_all(teacher(server, kind), asks)] == ["Reply", "RefusedError", "Reply"]
    assert len(good(ask_all(teacher(server, kind), asks))) == 3
    assert [len(b.requests) for b in server.batches] == [3, 1]


@BOTH
def test_a_batch_of_another_account_is_not_bought_over_without_a_word(server, kind, tmp_path):
    server.looks = 10**9

    async def stopped() -> None:
        model = teacher(server, kind)
        task = asyncio.create_task(model.answer(question("q"), [0]))
        while not server.batches or not server.batches[0].looks:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await model.close()

    asyncio.run(stopped())
    server.batches[0].id = "hidden"
    (error,) = ask_all(teacher(server, kind), [question("q")])
    assert isinstance(error, EndpointError) and "was bought earlier" in str(error)
    (file,) = (tmp_path / "batches").glob("*.json")
    assert str(file) in str(error)
    file.unlink()
    server.looks = 0
    assert len(good(ask_all(teacher(server, kind), [question("q")]))) == 1


@BOTH
def test_two_runs_at_once_buy_each_answer_once(server, kind, monkeypatch):
    """Two journals over one folder, as two processes have them; the second finds what the first has written down."""
    server.looks = 5

    async def run() -> list[Reply]:
        models = [teacher(server, kind) for _ in range(2)]
        asks = [[question(f"q{i}") for i in range(start, start + 30)] for start in (0, 15)]
        try:
            return await asyncio.gather(*(m.answer(a, [0]) for m, many in zip(models, asks, strict=True) for a in many))
        finally:
            for model in models:
                await model.close()

    assert len(asyncio.run(run())) == 60
    assert len(server.bought) == 45 and set(server.bought.values()) == {1}


def test_a_damaged_record_stops_the_run(server, tmp_path):
    good(ask_all(teacher(server, "openai"), [question("q")]))
    (file,) = (tmp_path / "batches").glob("*.json")
    file.write_text('{"identity": "x"')
    (error,) = ask_all(teacher(server, "openai"), [question("q")])
    assert isinstance(error, StorageError) and str(file) in str(error)
    assert len(server.batches) == 1


def test_a_folder_that_can_not_be_written_stops_before_anything_is_bought(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "file" / "calls.sqlite"))
    (error,) = ask_all(teacher(server, "openai"), [question("q")])
    assert isinstance(error, StorageError) and "can not be used" in str(error) and not server.log


def test_log_probabilities_and_hot_sampling_are_no_business_of_anthropic(server):
    for options in ({"logprobs": 1}, {"temperature": 1.5}):
        (error,) = ask_all(teacher(server, "anthropic"), [question("q", **options)])
        assert isinstance(error, EndpointError) and not server.batches


def test_progress_is_logged_and_no_key_anywhere(server, tmp_path, monkeypatch, caplog):
    server.key, server.looks = KEY, 3
    monkeypatch.setenv("LIMBECK_API_KEY", KEY)
    with caplog.at_level(logging.DEBUG):
        good(ask_all(teacher(server, "openai"), [question(f"q{i}") for i in range(4)]))
    assert "Batch batch_1 is begun with 4 requests." in caplog.text
    assert "Batch batch_1: 4 of 4 answered, 0 failed." in caplog.text
    assert KEY not in caplog.text and all(KEY not in p.read_text() for p in tmp_path.rglob("*") if p.is_file())


def test_a_name_or_a_setting_that_is_none_is_bad_usage(monkeypatch):
    for name, said in (
        ("gpt-x", "needs a provider"),
        ("opnai:m", "Did you mean 'openai'"),
        ("openai:", "needs a model"),
    ):
        with pytest.raises(UsageError, match=said):
            Batch(name)
    monkeypatch.setenv("LIMBECK_BATCH_POLL", "often")
    with pytest.raises(UsageError, match="LIMBECK_BATCH_POLL is 'often'"):
        Batch("openai:m")


def test_every_error_is_a_sentence_of_ours(server, monkeypatch):
    """A fault of ours in the collecting stops whoever waits; nobody waits for ever."""
    model = teacher(server, "openai")
    monkeypatch.setattr(model._provider, "newest", lambda: 1 / 0)
    (error,) = ask_all(model, [question("q")])
    assert isinstance(error, LimbeckError) and "ZeroDivisionError" in str(error)
