"""What a fault of a server means, by a real server that has it: one request each, and an error of the right class and kind."""

from __future__ import annotations

import asyncio
import email.utils
import resource
import socket
import threading
import time

import pytest
from fault_server import FaultServer, Say
from openai_asking import asked, question

from limbeck.core.errors import BusyError, DeniedError, EndpointError, RefusedError, UsageError
from limbeck.teachers._http import Session, _proxy
from limbeck.teachers._status import pause, seconds, span
from limbeck.teachers.openai import OpenAI


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("LIMBECK_API_KEY", raising=False)
    with FaultServer() as running:
        yield running


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (408, "server"), (409, "server"), (425, "server"), (429, "rate"), (500, "server"), (502, "server"), (503, "overloaded"),
        (504, "server"), (424, "server"), (498, "overloaded"), (529, "overloaded"),
    ],
)  # fmt: skip
def test_a_busy_server_is_busy_of_its_kind_and_asked_once(server, status, kind):
    server.script = [Say(status=status, text='{"message": "overloaded"}')]
    with pytest.raises(BusyError, match=rf"busy \(status {status}\): overloaded") as caught:
        asked(server, question())
    assert (caught.value.kind, caught.value.retry_after, len(server.seen)) == (kind, None, 1)


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({"Retry-After": "0.3"}, 0.3),
        ({"Retry-After": "0"}, 0.0),
        ({"retry-after-ms": "250", "Retry-After": "1"}, 0.25),
        ({"retry-after-ms": "soon", "Retry-After": "1"}, 1.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "inf"}, None),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1m2s"}, 62.0),
        ({"x-ratelimit-remaining-tokens": "10", "x-ratelimit-reset-tokens": "1m2s"}, None),
    ],
)
def test_the_server_says_when_to_come_again(server, headers, wanted):
    server.script = [Say(status=429, headers=headers)]
    with pytest.raises(BusyError) as caught:
        asked(server, question())
    assert caught.value.retry_after == wanted


def test_retry_after_may_be_a_date():
    for ahead, least, most in ((20, 18, 20), (-100, 0, 0)):
        found = seconds({"Retry-After": email.utils.formatdate(time.time() + ahead, usegmt=True)})
        assert found is not None and least <= found <= most
    date = "Wed, 21 Oct 2015 07:28:{} GMT"
    assert seconds({"Retry-After": date.format("30"), "Date": date.format("18")}) == 12.0, "by the server's clock"


def test_an_allowance_that_is_used_up_pauses_everybody(server):
    server.script = [
        Say(headers={"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1.5s"}),
        Say(headers={"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "1.5s"}),
    ]
    assert [asked(server, question()).pause for _ in range(2)] == [1.5, 0.0]
    assert pause({}) == 0.0


def test_spans_of_time():
    spans = {
        "1m2.5s": 62.5,
        "250ms": 0.25,
        "7": 7.0,
        "1h0m1s": 3601.0,
        "1d": 86400.0,
        "soon": 0.0,
        "": 0.0,
        "-3": 0.0,
        "nan": 0.0,
    }
    assert {text: span(text) for text in spans} == spans


@pytest.mark.parametrize(
    ("say", "what", "kind"),
    [
        (Say(text='{"choices": []}'), "without any choices", "garbled"),
        (Say(text='{"choices": ['), "not JSON", "garbled"),
        (Say(text=""), "not JSON", "garbled"),
        (Say(text="[]"), "without any choices", "garbled"),
        (Say(text="[" * 100_000), "not JSON", "garbled"),
        (Say(text='{"choices": [{"text": "x"}]}'), "not in the format", "garbled"),
        (Say(text='{"choices": ["x"]}'), "not in the format", "garbled"),
        (Say(choice={"finish_reason": "error"}), "broke off its answer", "server"),
        (Say(text='{"error": {"message": "loading", "code": 503}}'), "loading", "overloaded"),
        (Say(text='{"error": {"message": "loading", "code": "429"}}'), "loading", "rate"),
        (Say(text='{"error": "loading"}'), "loading", "server"),
        (Say(cut=True), "broke off the connection", "connection"),
        (Say(half=True), "broke off the connection", "connection"),
        (Say(raw=b""), "broke off the connection", "connection"),
        (Say(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"), "broke off the connection", "connection"),
        (Say(raw=b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "not HTTP", "garbled"),
    ],
    ids=[
        "empty", "half-json", "nothing", "list", "deep", "no-message", "text", "finish-error", "error-200", "error-200-text",
        "error-200-bare", "cut", "half-closed", "closed", "short", "not-http",
    ],
)  # fmt: skip
def test_an_answer_that_is_none_is_busy(server, say, what, kind):
    server.script = [say]
    with pytest.raises(BusyError, match=what) as caught:
        asked(server, question())
    assert (caught.value.kind, len(server.seen)) == (kind, 1)


def test_after_a_fault_the_same_teacher_goes_on(server):
    teacher = OpenAI(f"m@{server.url}")
    for say in (Say(cut=True), Say(raw=b""), Say(status=500), Say(text="{")):
        server.script, server.seen = [say, Say()], []
        with pytest.raises(BusyError):
            asked(server, question(), teacher=teacher)
        assert asked(server, question(), teacher=teacher).text == "answer 0"


GOOD = b'{"choices": [{"message": {"content": "4"}}]}'
UNANNOUNCED = Say(raw=b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(GOOD), GOOD))


def test_a_connection_that_was_closed_without_a_word_is_not_used_again(server):
    server.script = [UNANNOUNCED]

    async def busy_meanwhile() -> list[str]:
        teacher, found = OpenAI(f"m@{server.url}"), []
        for _ in range(4):
            found.append((await teacher.answer(question(), [0])).text)
            time.sleep(0.05)  # the loop does other things while the end of the connection arrives
        await teacher.close()
        return found

    assert asyncio.run(busy_meanwhile()) == ["4"] * 4


def test_a_cancelled_request_leaves_nothing_behind(server):
    server.script = [Say(seconds=5)]

    async def cancelled() -> None:
        teacher = OpenAI(f"m@{server.url}")
        tasks = [asyncio.ensure_future(teacher.answer(question(), [0])) for _ in range(3)]
        await asyncio.sleep(0.1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert all(task.cancelled() for task in tasks)
        await teacher.close()
        await teacher.close()

    asyncio.run(cancelled())
    assert len(server.seen) == 3


def test_a_web_page_is_a_wrong_address_unless_the_server_has_answered_before(server):
    server.script = [Say(text="<!doctype html><p>Welcome!")]
    with pytest.raises(EndpointError, match="answers with a web page"):
        asked(server, question())
    teacher = OpenAI(f"m@{server.url}")
    server.script, server.seen = [Say(), Say(text="<p>maintenance")], []
    asked(server, question(), teacher=teacher)
    with pytest.raises(BusyError, match="not JSON"):
        asked(server, question(), teacher=teacher)


def test_a_silent_server_is_busy_after_the_timeout(server, monkeypatch):
    monkeypatch.setenv("LIMBECK_TIMEOUT", "0.2")
    server.script = [Say(seconds=1)]
    begun = time.monotonic()
    with pytest.raises(BusyError, match=r"no answer within 0.2 seconds") as caught:
        asked(server, question())
    assert caught.value.kind == "timeout" and 0.1 < time.monotonic() - begun < 0.9


def test_a_server_that_dribbles_is_held_to_the_same_deadline(monkeypatch):
    monkeypatch.setenv("LIMBECK_TIMEOUT", "0.4")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        stop = threading.Event()

        def dribble() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                while not stop.wait(0.05):
                    try:
                        connection.sendall(b" ")
                    except OSError:
                        return

        thread = threading.Thread(target=dribble)
        thread.start()
        begun = time.monotonic()
        try:
            with pytest.raises(BusyError, match="no answer within") as caught:
                asked(None, question(), teacher=OpenAI(f"m@http://127.0.0.1:{listening.getsockname()[1]}/v1"))
        finally:
            stop.set()
            thread.join()
    assert caught.value.kind == "timeout" and time.monotonic() - begun < 2


def test_a_timeout_that_is_no_time_is_a_sentence(monkeypatch):
    for text in ("soon", "0", "-1", "nan", "inf"):
        monkeypatch.setenv("LIMBECK_TIMEOUT", text)
        with pytest.raises(UsageError, match=f"LIMBECK_TIMEOUT is '{text}'"):
            Session("http://h")


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_request_is_tried_once(server, status):
    server.script = [Say(status=status, text='{"error": {"message": "too long a prompt"}}')]
    with pytest.raises(RefusedError, match=f"refused the request .status {status}.: too long a prompt"):
        asked(server, question())
    assert len(server.seen) == 1


def test_a_denied_request_may_be_about_the_row(server):
    server.script = [Say(status=403, text='{"error": {"message": "flagged"}}')]
    with pytest.raises(DeniedError, match=r"denied the request .status 403.*LIMBECK_API_KEY.*flagged"):
        asked(server, question())
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("status", "what"),
    [(401, "LIMBECK_API_KEY"), (404, "no such model"), (402, "credit"), (307, "redirects"), (405, "405")],
)
def test_a_fault_of_the_endpoint_stops_at_once(server, status, what):
    server.script = [Say(status=status, headers={"Location": "http://elsewhere/"}, text='{"detail": "no"}')]
    with pytest.raises(EndpointError, match=what):
        asked(server, question())
    assert len(server.seen) == 1


def test_a_used_up_quota_is_not_waited_for(server):
    server.script = [Say(status=429, text='{"error": {"message": "pay first", "code": "insufficient_quota"}}')]
    with pytest.raises(EndpointError, match="used up its quota: pay first"):
        asked(server, question())


def test_nobody_there():
    with socket.socket() as taken:  # a port that is taken and not listened on
        taken.bind(("127.0.0.1", 0))
        for address in (f"http://localhost:{taken.getsockname()[1]}/v1", "http://no-such-host.invalid/v1"):
            with pytest.raises(
                BusyError, match=r"Nothing answers at http.*start the server or check the address"
            ) as caught:
                asked(None, question(), teacher=OpenAI(f"m@{address}"))
            assert caught.value.kind == "unreachable"


def test_plain_http_where_https_is_expected(server):
    with pytest.raises(EndpointError, match="no certificate that can be trusted"):
        asked(server, question(), teacher=OpenAI(f"m@{server.url.replace('http:', 'https:')}"))


def test_a_machine_without_file_handles_says_so(server):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
        teacher = OpenAI(f"m@{server.url}")

        async def exhausted() -> None:
            try:
                while True:
                    held.append(socket.socket())
            except OSError:
                pass
            try:
                await teacher.answer(question(), [0])
            finally:
                for one in held:
                    one.close()
                await teacher.close()

        with pytest.raises(BusyError, match=r"no connection left for .*lower --concurrency") as caught:
            asyncio.run(exhausted())
        assert caught.value.kind == "overloaded"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_proxy_is_used_where_the_environment_names_one_and_never_for_this_machine(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "no_proxy", "https_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:3129")
    monkeypatch.setenv("NO_PROXY", "inside.example.org")
    proxies = {
        "https://api.openai.com/v1": "http://proxy:3128",
        "http://llm.example.org/v1": "http://proxy:3129",
        "https://inside.example.org/v1": None,
        "http://localhost:8000/v1": None,
        "http://127.0.0.1:8000/v1": None,
        "http://[::1]:8000/v1": None,
    }
    assert {address: _proxy(address) for address in proxies} == proxies
