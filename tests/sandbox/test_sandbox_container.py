"""The backend `docker`: the hostile corpus holds there too, where there is one; the way in and out is tested without."""

import os
import sys

import pytest
from other_users import SOURCE
from sandbox_corpus import everything

from limbeck import sandbox
from limbeck.sandbox import pool
from limbeck.sandbox.container import OPTIONS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="confinement needs Linux")
ADD = "def add(a, b): return a + b"


@pytest.mark.slow
def test_no_hostile_program_succeeds_and_every_honest_one_does():
    if why := sandbox.reason("docker"):
        pytest.skip(f"SKIPPED: docker can not be had here: {why}")
    outcomes = everything("docker")
    sandbox.close()
    assert [one for one in outcomes if one.wrong] == []
    assert len(outcomes) >= 400


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A `docker` that runs the command it is given without a container; what it was told is written down."""

    def install(text: str) -> None:
        (tmp_path / "docker").write_text(f"#!{sys.executable}\nimport os, sys\n{text}")
        (tmp_path / "docker").chmod(0o755)

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(pool, "_found", {})
    install(
        f"open({str(tmp_path / 'told')!r}, 'w').write('\\n'.join(sys.argv[1:-1]))\n"
        f"code = sys.argv[-1].replace('/limbeck', {str(SOURCE / 'limbeck')!r})\n"
        "os.execv(sys.executable, [sys.executable, '-c', code])\n"
    )
    sandbox.close()
    yield install
    sandbox.close()


def test_jobs_go_in_and_what_was_seen_comes_out(stand_in, tmp_path):
    done = sandbox.run("import sys\nprint(input())\nsys.stderr.write('e'); sys.exit(3)", stdin="né", level="docker")
    assert (done.stdout, done.stderr, done.exit_code, done.level) == ("né\n", "e", 3, "docker")
    told = (tmp_path / "told").read_text().split("\n")
    assert told[0] == "run"
    assert told[2:-3] == list(OPTIONS)
    assert {"--pull=never", "--network=none", "--read-only", "--cap-drop=ALL", "--user=65534:65534"} <= set(told)
    assert told[-3:] == [f"python:{sys.version_info.major}.{sys.version_info.minor}-slim", "python3", "-c"]
    ends = {"while True: pass": "timeout", "x = bytearray(1 << 30)": "memory", "print('x' * (2 << 20))": "output-limit"}
    for program, status in ends.items():
        assert sandbox.run(program, seconds=0.5, level="docker").status == status
    assert sandbox.run("open('x', 'w').write('x')", writable=True, level="docker").status == "ok"


def test_verdicts_are_decided_outside(stand_in):
    for verdict, status in (
        (sandbox.check_function(ADD, "add", [((2, 3), 5)], level="docker"), "pass"),
        (sandbox.check_function(ADD, "add", [((2, 3), 5.0)], level="docker"), "wrong"),
        (sandbox.check_asserts(ADD, ["assert add(2, 3) == 5"], level="docker"), "pass"),
        (sandbox.check_asserts(ADD, ["assert add(2, 3) == 6"], level="docker"), "wrong"),
        (sandbox.check_program("print(input())", [("4", "4\n")], level="docker"), "pass"),
    ):
        assert (verdict.status, verdict.level) == (status, "docker")
    with pytest.raises(ValueError, match="'no_such_package' can not be let into the sandbox"):
        sandbox.run("pass", allow=("no_such_package",), level="docker")


def test_a_container_that_dies_is_replaced(stand_in):
    assert sandbox.run("print(1)", level="docker").stdout == "1\n"
    (container,) = pool._pools[pool.Flavour(level="docker")].idle
    container.process.kill()
    assert sandbox.run("print(2)", level="docker").stdout == "2\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("sys.exit('the daemon sleeps')", "did not start: the daemon sleeps"),
        ("os.write(1, b'\\x7f\\xff\\xff\\xff')", "did not start: the container sends 2147483647 bytes"),
        ('os.write(1, b\'\\0\\0\\0\\x14{"reason":"no door"}\')', "inside the container: no door"),
    ],
)
def test_where_there_is_no_container_nothing_is_run(stand_in, text, why):
    stand_in(text)
    with pytest.raises(sandbox.SandboxUnavailable, match=why) as fault:
        sandbox.run("print(1)", level="docker")
    assert "so nothing was run" in str(fault.value)


def test_neither_docker_nor_podman(monkeypatch):
    monkeypatch.setenv("PATH", os.devnull)
    monkeypatch.setattr(pool, "_found", {})
    assert sandbox.reason("docker") == "neither docker nor podman is in PATH"
