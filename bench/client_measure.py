"""One client, one fresh process, one fresh server: what it took, seen from the outside.

with Mock(latency=0.05) as mock:
    took = measure([sys.executable, "client.py", mock.url], mock)
    took.rate, took.cpu, took.rss, took.first        1180.0 requests/s, 1.2 s, 96 MB, 0.8 s after the start
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SERVER = Path(__file__).resolve().parent / "mock_server.py"
PAGE = os.sysconf("SC_PAGE_SIZE") / 2**20


class Mock:
    """The mock server in a process of its own, for as long as the `with` lasts; it ends with us, even if we are killed."""

    def __init__(self, port: int = 0, **script: Any) -> None:
        self.script, self.port = script, port
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Mock:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it; on the same port as before, if it was there before."""
        command = [sys.executable, str(SERVER), json.dumps(self.script), str(self.port)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._heard()

    def down(self) -> None:
        """Let it listen no more and break all connections; it keeps its counts."""
        self._tell("down")

    def up(self) -> None:
        """Let it listen again, on the same port."""
        self._tell("up")

    def _tell(self, word: str) -> None:
        assert self.process is not None and self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        self._heard()

    def _heard(self) -> None:
        assert self.process is not None and self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def stop(self) -> None:
        """End it at once: connections break, the port is free."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    @property
    def url(self) -> str:
        """The base address for clients."""
        return f"http://127.0.0.1:{self.port}/v1"

    def get(self, path: str, data: dict[str, Any] | None = None) -> Any:
        """Ask the server itself: `stats`, `records`, or `control` with data."""
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/{path}", body)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30) as reply:
            return json.load(reply)

    def stats(self) -> dict[str, Any]:
        """Return the counts."""
        return self.get("stats")  # type: ignore[no-any-return]

    def records(self) -> list[list[Any]]:
        """Return every request: [digest, arrived, written, outcome, tokens in, tokens out, connection]."""
        return self.get("records")  # type: ignore[no-any-return]

    def control(self, **wanted: Any) -> None:
        """Change the script while it runs."""
        self.get("control", wanted)


@dataclass(frozen=True)
class Took:
    """What a client took; seconds, CPU seconds of all its processes, megabytes of all its processes together."""

    code: int
    wall: float
    cpu: float
    rss: float
    first: float
    """Seconds from the start of the process to its first request."""
    active: float
    """Seconds from the first request to the last answer."""
    stats: dict[str, Any]
    out: str

    @property
    def rate(self) -> float:
        """Answers a second while it was active."""
        return float(self.stats["answered"] / max(self.active, 1e-9))


def measure(command: list[str], mock: Mock | None = None, *, seconds: float = 300, **environment: str) -> Took:
    """Run a client, against a fresh count if there is a server; raises TimeoutError when it takes longer than `seconds`.

    What is installed has its bytecode beside it; a source tree that may not keep any would be compiled again each time.
    """
    if mock is not None:
        mock.control(reset=True)
    begun = time.monotonic()
    process = subprocess.Popen(
        command,
        env={**{k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    peak = _Peak(process.pid)
    said: list[str] = []
    assert process.stdout is not None
    reader = threading.Thread(target=lambda: said.append(process.stdout.read()))  # type: ignore[union-attr]
    alarm = threading.Timer(seconds, os.killpg, (process.pid, signal.SIGKILL))
    for thread in (peak, reader, alarm):
        thread.start()
    _, status, usage = os.wait4(process.pid, 0)
    ended = time.monotonic()
    process.returncode = os.waitstatus_to_exitcode(status)
    alarm.cancel(), peak.stop.set(), reader.join(10), peak.join()
    process.stdout.close()
    if ended - begun > seconds:
        raise TimeoutError(f"{command[1:3]} was not done in {seconds:g} s")
    stats = mock.stats() if mock is not None else {"answered": 0, "first": 0.0, "last": 0.0}
    unit = 2**10 if sys.platform == "linux" else 2**20
    return Took(
        code=process.returncode,
        wall=ended - begun,
        cpu=usage.ru_utime + usage.ru_stime,
        rss=peak.megabytes or usage.ru_maxrss / unit,  # ru_maxrss also counts the moment before exec, in a copy of us
        first=stats["first"] - begun,
        active=stats["last"] - stats["first"],
        stats=stats,
        out="".join(said),
    )


class _Peak(threading.Thread):
    """Looks every 50 ms how much memory a process and its children hold together (Linux; elsewhere it sees nothing)."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.megabytes, self.stop = pid, 0.0, threading.Event()

    def run(self) -> None:
        """Look until told to stop."""
        while not self.stop.wait(0.05):
            self.megabytes = max(self.megabytes, self._held(self.pid))

    def _held(self, pid: int) -> float:
        folder = Path(f"/proc/{pid}")
        try:
            pages = int((folder / "statm").read_text().split()[1])
            tasks = [(task / "children").read_text().split() for task in (folder / "task").iterdir()]
        except (OSError, IndexError, ValueError):
            return 0.0
        return pages * PAGE + sum(self._held(int(child)) for children in tasks for child in children)
