"""The parts of the sandbox that stand alone: the box's cap and its emptying, and waiting for a child without a pidfd."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import limbeck
from limbeck.sandbox.inside import boxes
from limbeck.sandbox.layout import layout

SOURCE = Path(limbeck.__file__).parents[1]


def test_a_box_is_counted_in_bytes_files_and_depth(tmp_path):
    box = str(tmp_path)
    assert boxes.fits(box, 1 << 20)
    (tmp_path / "a").write_bytes(b"x" * (900 << 10))
    assert boxes.fits(box, 1 << 20)
    (tmp_path / "b").write_bytes(b"x" * (200 << 10))
    assert not boxes.fits(box, 1 << 20)
    boxes.empty(box)
    for n in range(boxes.FEWEST):
        (tmp_path / str(n)).touch()
    assert boxes.fits(box, 1 << 20)
    (tmp_path / "one more").symlink_to("nowhere")
    assert not boxes.fits(box, 1 << 20)
    boxes.empty(box)
    (tmp_path / "/".join("d" * boxes.DEEPEST)).mkdir(parents=True)
    assert boxes.fits(box, 1 << 20)
    (tmp_path / "/".join("d" * (boxes.DEEPEST + 1))).mkdir()
    assert not boxes.fits(box, 1 << 20)


def test_a_box_is_emptied_however_deep_and_closed_it_is_and_nothing_outside_is_touched(tmp_path):
    outside, box = tmp_path / "outside", tmp_path / "box"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    box.mkdir()
    (box / "link").symlink_to(outside)
    here = os.open(box, os.O_RDONLY)
    for depth in range(3000):  # far deeper than a path can name
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
        if depth % 1000 == 0:
            os.symlink(outside, "link", dir_fd=here)
            os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    (box / "closed").mkdir()
    (box / "closed" / "x").touch()
    (box / "closed").chmod(0)
    boxes.empty(str(box))
    assert list(box.iterdir()) == []
    assert (outside / "kept").read_text() == "kept"
    boxes.remove(str(box))
    assert not box.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="no limit on address space elsewhere")
def test_the_address_space_is_found_out_where_there_is_no_proc():
    code = "from limbeck.sandbox.inside import jail; print(jail._address_space(), jail._tried_out(), jail._address_space())"
    start = f"import sys; sys.path.insert(0, {str(SOURCE)!r}); "
    done = subprocess.run([sys.executable, "-c", start + code], capture_output=True, text=True, check=True)
    before, found, after = map(int, done.stdout.split())
    assert before <= found + (2 << 20) and found <= after + (2 << 20)


def test_only_the_library_and_the_packages_that_were_named_are_readable():
    bare = layout(())
    assert not [path for path in bare.readable if "site-packages" in path or "dist-packages" in path]
    assert any(path.endswith("/json") for path in bare.readable)
    pytest.importorskip("numpy")
    more = layout(("numpy",))
    extra = {Path(path).name for path in set(more.readable) - set(bare.readable)}
    assert "numpy" in extra
    assert extra <= {"numpy", "numpy.libs"}


@pytest.mark.skipif(sys.platform == "win32", reason="the sandbox is not for Windows")
@pytest.mark.parametrize(("work", "reason"), [("0.05", b"x"), ("30", b"t")])
def test_a_child_is_waited_for_where_there_is_no_pidfd(work, reason):
    """As on macOS and on Linux before 5.3; the poll is woken by the signal that a child has ended."""
    code = f"""
        import os, socket, sys, time
        sys.path.insert(0, {str(SOURCE)!r})
        if hasattr(os, "pidfd_open"): del os.pidfd_open
        from limbeck.sandbox.inside import supervise
        from limbeck.sandbox.inside.jail import Limits, Settings
        class Jail: threads_counted = True
        settings = Settings("strict", [], [], [], ".", 0, [], [])
        line, other = socket.socketpair()
        supervise.expect_child()
        child = os.fork()
        if child == 0:
            time.sleep({work}); os._exit(3)
        limits = Limits(1.0, 0, 0)
        reason = supervise.until_end(line, child, time.monotonic() + 1.0, limits, settings, Jail())
        print(reason, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.split() == [str(reason), "3" if reason == b"x" else str(-signal.SIGKILL)]
