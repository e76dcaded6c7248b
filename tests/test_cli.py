"""The command line, in processes of its own: what it does, and the one sentence that each mistake costs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from running import PARTS, limbeck, limbeck_here, lines, sentence

Here = Callable[..., subprocess.CompletedProcess[str]]
ANSWERS = [
    {"question": "2+3?", "solution": "2+3=5\nAnswer: 5", "truth": "5"},
    {"question": "2+4?", "solution": "Answer: 7", "truth": "6"},
]


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in ANSWERS))
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    """Run a command in this process: mistakes are many, and starting Python for each would take minutes."""
    return lambda *words: limbeck_here(*words, cwd=tmp_path, monkeypatch=monkeypatch, capsys=capsys)


@pytest.fixture
def server() -> Iterator[Any]:
    """A real HTTP server that answers chat completions as a test tells it to."""
    spec = spec_from_file_location("fault_server", Path(__file__).parent / "teachers" / "fault_server.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules.setdefault("fault_server", module_from_spec(spec))
    if not hasattr(module, "FaultServer"):
        spec.loader.exec_module(module)
    with module.FaultServer() as running:
        running.Say = module.Say
        yield running


# -- what it does ------------------------------------------------------------------------------------------------------


def test_a_recipe_of_ones_own_runs_and_is_shown_stored_and_compared(tmp_path: Path) -> None:
    done = limbeck("run", f"{PARTS}:pipeline", "--count", 12, "--n=3", "--out", "runs/one", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Rows, reasons and results: runs/one\nReport: runs/one/report.html" in done.stdout
    assert "engine_parts.py" not in done.stderr and "answered" in done.stderr, "progress goes to stderr"
    again = limbeck("run", "runs/one/recipe.json", "--out", "runs/two", "--quiet", cwd=tmp_path)
    assert again.returncode == 0 and again.stderr == ""
    status = limbeck("status", "runs/one", "--why", cwd=tmp_path)
    assert status.stdout.count("done; nothing that it depends on has changed") == 6
    facts = json.loads(limbeck("status", "runs/one", "--json", cwd=tmp_path).stdout)
    assert [f["rows"]["kept"] for f in facts][:2] == [11, 33] and all(f["done"] for f in facts)
    same = limbeck("diff", "runs/one", "runs/two", cwd=tmp_path)
    assert same.stdout == "The runs have the same steps, options, rows and results.\n"
    limbeck("run", f"{PARTS}:pipeline", "--count", 12, "--out", "runs/two", "--quiet", cwd=tmp_path)
    different = limbeck("diff", "runs/one", "runs/two", cwd=tmp_path).stdout
    assert "answered\n  n: 3 -> 2\n" in different and "33" in different
    page = limbeck("report", "runs/two", cwd=tmp_path)
    assert page.stdout == "runs/two/report.html\n" and (tmp_path / "runs/two/report.html").stat().st_size > 1000


def test_progress_for_programs_is_json_lines(tmp_path: Path) -> None:
    done = limbeck("run", f"{PARTS}:pipeline", "--out", "run", "--json", cwd=tmp_path)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert {e["event"] for e in events} >= {"run", "step", "end"} and done.returncode == 0
    assert [e["name"] for e in events if e.get("state") == "done"][-1] == "count"


def test_any_step_is_applied_to_any_file(tmp_path: Path, answers: Path) -> None:
    mapped = ("--map", "response=solution", "--map", "reference=truth")
    done = limbeck("apply", "score.math", answers, "--tolerance", "0.01", *mapped, "--quiet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 in: 2 kept, 0 dropped\n") and "0.5000  mean verified of 2 rows" in done.stdout
    options_first = limbeck("apply", "score.math", "--tolerance=0", answers, *mapped, "--json", cwd=tmp_path)
    assert json.loads(options_first.stdout.splitlines()[-1])["labels"] == {"verdict pass": 1, "verdict wrong": 1}
    kept = tmp_path / "runs" / "apply-score.math" / "02-math" / "kept.parquet"
    chosen = limbeck("apply", "select.until_pass", kept, "--out", "chosen", "--quiet", cwd=tmp_path)
    assert "2 in: 1 kept, 1 dropped" in chosen.stdout
    step = tmp_path / "chosen" / "02-until_pass"
    written = limbeck("export", step, "--format", "openai", "--out", "train.jsonl", cwd=tmp_path)
    assert written.stdout == "1 rows written to train.jsonl\n"
    assert json.loads((tmp_path / "train.jsonl").read_text())["messages"][1]["content"].endswith("Answer: 5")


def test_a_step_of_ones_own_and_a_source_are_applied_too(tmp_path: Path, answers: Path) -> None:
    done = limbeck("apply", f"{PARTS}:Numbers", "--count", 6, "--bad", 3, "--quiet", cwd=tmp_path)
    assert done.returncode == 0 and "6 in: 4 kept, 2 dropped" in done.stdout
    asked = limbeck("apply", f"{PARTS}:Answered", answers, "--n", 2, "--limit", 1, "--quiet", cwd=tmp_path)
    assert asked.returncode == 0 and "2 kept" in asked.stdout, asked.stderr
    read = limbeck(
        "apply", "seeds.files", "--path", answers, "--limit", 1, "--map", "response=solution", "--quiet", cwd=tmp_path
    )
    assert read.returncode == 0 and "1 in: 1 kept, 0 dropped" in read.stdout, read.stderr


def test_plan_says_what_it_will_take(tmp_path: Path) -> None:
    done = limbeck("plan", f"{PARTS}:pipeline", "--count", 200, "--pilot", 20, cwd=tmp_path)
    assert done.returncode == 0 and "not measured: it trains" in done.stdout and "answers" in done.stdout
    told = json.loads(limbeck("plan", f"{PARTS}:pipeline", "--count", 200, "--json", cwd=tmp_path).stdout)
    assert told["steps"][1]["step"] == "answered" and 300 <= told["steps"][1]["answers"] <= 400
    assert told["pilot"] == {"numbers": [16, 200]} and 0.3 <= told["total"]["usd"] <= 0.4, "what the teacher says"


def test_list_and_version_and_help(tmp_path: Path) -> None:
    assert "score.math" in limbeck("list", "steps", cwd=tmp_path).stdout
    assert "--tolerance  float, default 0.0" in limbeck("list", "score.math", cwd=tmp_path).stdout
    own = limbeck("list", f"{PARTS}:Answered", cwd=tmp_path)
    assert own.returncode == 0 and "--temperature  float, default 1.0" in own.stdout
    recipe = limbeck("list", f"{PARTS}:pipeline", cwd=tmp_path).stdout
    assert recipe.startswith(f"{PARTS}:pipeline: The usual") and "--weight       float, default 1.0" in recipe
    assert limbeck("--version", cwd=tmp_path).stdout.startswith("limbeck 0.")
    script = Path(sys.executable).with_name("limbeck")
    told = subprocess.run([script, "--help"], capture_output=True, text=True, check=True).stdout
    for verb in ("run", "plan", "apply", "status", "diff", "list", "report", "export"):
        assert f"  {verb} " in told, f"{verb} is not in --help"


# -- mistakes ----------------------------------------------------------------------------------------------------------

MISTAKES: list[tuple[tuple[object, ...], str]] = [
    (("run", "strar"), "There is no recipe 'strar'. Did you mean 'star'?"),
    (("run", "gone.py"), "There is no file gone.py (looked for "),
    (("run", f"{PARTS}:nothing"), "has no function named 'nothing'."),
    (("run", f"{PARTS}:pipeline", "--cuont", 3), "The recipe engine_parts has no parameter 'cuont'. Did you mean 'count'?"),
    (("run", f"{PARTS}:pipeline", "--count", "many"), "--count can not be 'many': Input should be a valid integer"),
    (("run", f"{PARTS}:pipeline", "extra"), "'extra' is not an option; write --NAME VALUE."),
    (("run", "--count", 3, f"{PARTS}:pipeline"), "Write the name of the recipe or step first, and '--count' after it."),
    (("run", f"{PARTS}:asking", "--teacher", "opnai:gpt"), "There is no teacher 'opnai'. Did you mean 'openai'?"),
    (("run", f"{PARTS}:asking", "--teacher", "replay:gone.jsonl"), "There is no file 'gone.jsonl' to replay"),
    (("run", "gone.json"), "gone.json can not be read: No such file or directory."),
    (("run", "answers.jsonl"), "There is no recipe 'answers.jsonl'."),
    (("apply", "score.mth", "answers.jsonl"), "There is no step 'score.mth'. Did you mean 'score.math'?"),
    (("apply", "score.math", "answers.jsonl", "--tolernce", 1), "score.math has no option 'tolernce'. Did you mean 'tolerance'?"),
    (("apply", "score.math", "answers.jsonl", "--tolerance", "wide"), "score.math: --tolerance can not be 'wide'"),
    (("apply", "score.math", "answers.jsonl", "--tolerance", "-1"), "tolerance"),
    (("apply", "score.math", "gone.jsonl"), "gone.jsonl"),
    (("apply", "score.math"), "score.math has nothing to read: name the files"),
    (("apply", "score.math", "answers.jsonl", "--map", "prompt"), "--map prompt has no '='; write --map prompt=question."),
    (("apply", f"{PARTS}:Numbers", "answers.jsonl"), "engine_parts.py:Numbers makes rows and reads none"),
    (("apply", "train.sft", "answers.jsonl"), "train.sft needs the option 'student'; give it a value."),
    (("status", "nowhere"), "nowhere holds no run (no recipe.json)."),
    (("diff", "nowhere", "there"), "nowhere holds no run (no recipe.json)."),
    (("report", "nowhere"), "nowhere holds no run (no recipe.json)."),
    (("list", "score.mth"), "There is no recipe, step or teacher 'score.mth'. Did you mean 'score.math'?"),
    (("export", "nowhere", "--format", "trll"), "There is no export format 'trll'. Did you mean 'trl'?"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "told"), MISTAKES)
def test_a_mistake_is_one_sentence_and_exit_2(
    here: Here, tmp_path: Path, answers: Path, words: tuple[object, ...], told: str
) -> None:
    assert told in sentence(here(*words), 1 if "gone.jsonl" in words else 2)
    assert not list(tmp_path.rglob("done")), "nothing was done"


@pytest.mark.parametrize(("words", "told"), MISTAKES[::8])
def test_so_it_is_in_a_process_of_its_own(tmp_path: Path, answers: Path, words: tuple[object, ...], told: str) -> None:
    assert told in sentence(limbeck(*words, cwd=tmp_path), 2)


def test_an_unknown_verb_and_a_missing_argument_are_typers_to_tell(here: Here) -> None:
    for words, told in (
        (("rn",), "Did you mean 'run'?"),
        (("run",), "Missing argument"),
        (("plan", "star", "--pilot", 0), "'--pilot': "),
        (("status", "--wy", "x"), "No such option: --wy"),
    ):
        done = here(*words)
        assert done.returncode == 2 and told in done.stderr and "Traceback" not in done.stderr


BROKEN: list[tuple[str, str]] = [
    ("def broken(:\n", "broken.py:1: this is not valid Python: invalid syntax."),
    (
        "import limbeck\n\nprint(undefined)\n",
        "broken.py:3: importing this file failed with NameError: name 'undefined' is not defined.",
    ),
    ("def broken():\n    return 3\n", "returned int, not a Recipe."),
    ("from limbeck import Recipe\ndef broken():\n    return Recipe(steps=[])\n", "The recipe has no steps."),
    ("def broken(needed: int): ...\n", "The recipe broken needs --needed."),
]


@pytest.mark.parametrize(("text", "told"), BROKEN)
def test_a_recipe_file_that_is_broken_names_file_and_line(here: Here, tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "broken.py").write_text(text)
    assert told in sentence(here("run", "broken.py"), 2)


def test_a_recipe_function_that_fails_names_its_line(here: Here, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def mine(count: int = 0):\n    return 1 / count\n")
    told = sentence(here("run", "mine.py"), 2)
    assert "mine.py:2: the recipe failed with ZeroDivisionError: division by zero." in told


FILES = [
    ("", "data.jsonl is empty: there are no rows to read."),
    ("\n\n", "data.jsonl line 1: the line is empty."),
    ('{"question": "2+', "data.jsonl line 1: this is not JSON"),
    ("[1, 2]\n3\n", "data.jsonl line 1: this is not an object with fields."),
    ('{"question": "2+3?", "solution": "Answer: 5"}\n', "could read none of the 1 references"),
    ('{"foo": "bar"}\n', "data.jsonl has no field"),
]


@pytest.mark.parametrize(("text", "told"), FILES)
def test_files_that_are_empty_torn_or_of_another_kind(here: Here, tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "data.jsonl").write_text(text)
    done = here("apply", "score.math", "data.jsonl", "--map", "response=solution", "--quiet")
    assert told in sentence(done, done.returncode) and done.returncode in (1, 2)


def test_one_torn_line_costs_one_row(here: Here, tmp_path: Path, answers: Path) -> None:
    answers.write_text(answers.read_text() + '{"question": "2+')
    mapped = ("--map", "response=solution", "--map", "reference=truth")
    done = here("apply", "score.math", answers, *mapped, "--quiet")
    assert done.returncode == 0 and "3 in: 2 kept, 1 dropped" in done.stdout and "line …" in done.stdout, done.stdout


@pytest.mark.parametrize("text", ["{", "[]", "3", '{"steps": 3, "name": "x"}', "{}"])
def test_a_recipe_json_that_is_none(here: Here, tmp_path: Path, text: str) -> None:
    (tmp_path / "recipe.json").write_text(text)
    code = 1 if text in ("{", "[]", "3") else 2
    assert "recipe.json" in sentence(here("run", "recipe.json"), code)
    (tmp_path / "recipe.json").write_text('{"name": "x", "steps": []}')
    assert "takes no parameters" in sentence(here("run", "recipe.json", "--n", 3), 2)


def test_places_that_can_not_be_written_to(here: Here, tmp_path: Path) -> None:
    words = ("run", f"{PARTS}:source_only", "--quiet", "--out")
    (tmp_path / "file").write_text("mine")
    assert "file could not be written: Not a directory" in sentence(here(*words, "file"), 1)
    assert "could not be written" in sentence(here(*words, "/proc/run"), 1)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    assert "exists and is not a run folder" in sentence(here(*words, "notes"), 2)
    assert here(*words, "run").returncode == 0
    (tmp_path / "other.py").write_text(
        f"from limbeck.core.find import find_recipe\ndef other(): return find_recipe('{PARTS}:source_only')()\n"
    )
    assert "holds a run of the recipe 'engine_parts', not 'other'" in sentence(
        here("run", "other.py", "--out", "run"), 2
    )


def test_a_folder_without_permission(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    words: list[str] = [
        sys.executable,
        "-m",
        "limbeck.cli",
        "run",
        f"{PARTS}:source_only",
        "--quiet",
        "--out",
        "closed/run",
    ]
    as_nobody: dict[str, Any] = {}
    if os.geteuid() == 0:
        for folder in (tmp_path, *tmp_path.parents):
            if not folder.stat().st_mode & 0o001:
                pytest.skip("SKIPPED: root is refused nothing, and nobody else may enter the test's folder.")
        as_nobody = {"user": 65534, "group": 65534, "extra_groups": []}
    done = subprocess.run(
        words,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "LIMBECK_CACHE": "/tmp/unused/x"},
        **as_nobody,
    )
    assert "closed/run can not be written: permission denied. Choose another folder with --out." in sentence(done, 1)


# -- endpoints ---------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def ask(tmp_path: Path, url: str, *more: object, **environment: str) -> subprocess.CompletedProcess[str]:
    words = ("run", f"{PARTS}:asking", "--teacher", f"openai:m@{url}", "--out", "run", "--quiet", *more)
    return limbeck(*words, cwd=tmp_path, **environment)


def test_an_endpoint_that_is_not_there(tmp_path: Path) -> None:
    port = free_port()
    told = sentence(ask(tmp_path, f"http://127.0.0.1:{port}/v1"), 1)
    assert f"127.0.0.1:{port}" in told and not list((tmp_path / "run").rglob("done"))


def test_a_wrong_key(tmp_path: Path, server: Any) -> None:
    server.script = [
        server.Say(status=401, text='{"error": {"message": "Incorrect API key provided: sk-planted-123"}}')
    ]
    told = sentence(ask(tmp_path, server.url, LIMBECK_API_KEY="sk-planted-123"), 1)
    assert "401" in told or "key" in told
    assert "sk-planted-123" not in told and len(server.seen) < 200


def test_a_real_server_answers_each_question_once(tmp_path: Path, server: Any) -> None:
    assert ask(tmp_path, server.url, "--count", 40).returncode == 0
    assert len(server.seen) == 40
    assert ask(tmp_path, server.url, "--count", 50).returncode == 0
    assert len(server.seen) == 50, "only the ten new questions were sent"


def test_a_request_that_is_refused_is_a_dropped_row(tmp_path: Path, server: Any) -> None:
    def decide(body: dict[str, Any]) -> Any:
        bad = body["messages"][-1]["content"].endswith("7")
        return server.Say(status=400, text='{"error": {"message": "policy"}}') if bad else server.Say()

    decider: Callable[[dict[str, Any]], Any] = decide
    server.decide = decider
    assert ask(tmp_path, server.url, "--count", 30).returncode == 0
    (answered,) = [
        s for s in json.loads(limbeck("status", "run", "--json", cwd=tmp_path).stdout) if s["name"] == "answered"
    ]
    assert answered["rows"] == {"in": 30, "kept": 27, "dropped": 3} and len(server.seen) == 30
    assert "refused" in next(iter(answered["reasons"])) and lines(tmp_path / "run" / "ledger.jsonl")
