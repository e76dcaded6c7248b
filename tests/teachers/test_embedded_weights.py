"""The shipped weights: they load anywhere, solve what the card says, and llama.cpp's server agrees with transformers."""

import importlib.util
import json
import re
import sys
import urllib.request
from pathlib import Path

import pytest

import limbeck
from limbeck.prompts.bank import BANK, hinted
from limbeck.sandbox import interpret
from limbeck.seeds.families import families, problems

torch = pytest.importorskip("torch", reason="the embedded models need the train extra: pip install 'limbeck[train]'")
transformers = pytest.importorskip("transformers", reason="the embedded models need pip install 'limbeck[train]'")


WEIGHTS = Path(limbeck.__file__).parent / "teachers" / "weights"
SCRIPTS = Path(__file__).parents[2] / "scripts"
PROMPT = "Start with 12. Add 5. Double it. What is the result?"
FLOORS = {"word_problems": 0.8, "chains": 0.8, "programs": 0.5, "tools": 0.3}
"""Well below the card's figures: sixty problems have a wide interval."""


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=["teacher", "student"])
def either(request):
    return _load(request.param)


@pytest.fixture(scope="module")
def teacher():
    return _load("teacher")


@pytest.fixture(scope="module")
def student():
    return _load("student")


def _load(name):
    folder = WEIGHTS / name
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    return model, transformers.AutoTokenizer.from_pretrained(folder)


@torch.no_grad()
def _answers(pair, prompts, *, system="", room=200):
    model, tokenizer = pair
    opening = [{"role": "system", "content": system}] if system else []
    texts = [
        tokenizer.apply_chat_template(
            [*opening, {"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
        )
        for prompt in prompts
    ]
    inputs = tokenizer(texts, return_tensors="pt", padding=True)
    made = model.generate(**inputs, max_new_tokens=room, do_sample=False)
    return tokenizer.batch_decode(made[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def _solved(problem, response):
    if problem.task["kind"] == "math":
        return response.endswith(f"Answer: {problem.answer}")
    if problem.task["kind"] == "tools":
        return response == problem.answer
    try:
        return all(interpret.call(response, "f", args) == expected for args, expected in problem.task["cases"])
    except interpret.Rejected:
        return False


def test_transformers_loads_a_plain_llama(either):
    model, tokenizer = either
    assert type(model).__name__ == "LlamaForCausalLM"
    assert model.dtype == torch.float32
    assert model.config.eos_token_id == tokenizer.eos_token_id == tokenizer.convert_tokens_to_ids("<eos>")
    assert len(tokenizer) == model.config.vocab_size <= 1024


def test_both_models_and_their_cards_stay_small():
    files = [path for path in WEIGHTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 4_000_000
    assert not [path for path in files if path.suffix == ".part"]


def test_the_teacher_and_the_student_share_their_tokenizer():
    assert (WEIGHTS / "teacher/tokenizer.json").read_bytes() == (WEIGHTS / "student/tokenizer.json").read_bytes()


def test_the_chat_template_renders_the_documented_form(either):
    _, tokenizer = either
    chat = [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "Hi"}]
    assert tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == (
        "<bos><system>Be kind<user>Hi<assistant>"
    )
    chat.append({"role": "assistant", "content": "Ho"})
    assert tokenizer.apply_chat_template(chat, tokenize=False) == "<bos><system>Be kind<user>Hi<assistant>Ho<eos>"


def test_no_text_is_unknown_and_every_number_is_one_token(either):
    _, tokenizer = either
    for text in ("Grüße, 世界! \U0001f600", "\x00\t\r\n", "def f(xs):\n    return [x ** 2]"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert all(len(tokenizer.encode(f" {number}")) == 1 for number in range(100))


def test_half_precision_storage_costs_nothing(teacher):
    """Storing float16 and computing in float32 gives the logits of the stored weights, to rounding, in any precision."""
    model, tokenizer = teacher
    ids = tokenizer(f"<bos><user>{PROMPT}<assistant>", return_tensors="pt")["input_ids"]
    stored = transformers.AutoModelForCausalLM.from_pretrained(WEIGHTS / "teacher", dtype=torch.float64).eval()
    with torch.no_grad():
        single, double = model(ids).logits.double(), stored(ids).logits
    assert (single - double).abs().max() < 1e-3
    assert all(torch.equal(weight, weight.half().float()) for weight in model.state_dict().values())


@pytest.mark.parametrize("family", FLOORS)
def test_the_teacher_solves_unseen_problems(teacher, family):
    items = list(problems(family, count=60, seed=2024, split="test"))
    said = _answers(teacher, [item.prompt for item in items])
    assert sum(map(_solved, items, said)) / len(items) >= FLOORS[family]


def test_the_base_student_solves_nothing_yet(student):
    items = [
        item for family in ("word_problems", "chains") for item in problems(family, count=30, seed=1, split="test")
    ]
    said = _answers(student, [item.prompt for item in items])
    assert sum(map(_solved, items, said)) / len(items) <= 0.05


def test_the_teacher_follows_the_bank_and_the_hint(teacher):
    items = list(problems("chains", count=20, seed=5, split="test"))
    for message in (BANK[1], BANK[10]):
        said = _answers(teacher, [item.prompt for item in items], system=message.text)
        short = [bool(re.fullmatch(r"Answer: \d+", text)) for text in said]
        assert sum(short) == (0 if message.style == "trace" else len(items))
    said = _answers(teacher, [hinted(item.prompt, item.answer) for item in items])
    assert all(text.startswith("1. ") for text in said)
    assert sum(map(_solved, items, said)) / len(items) >= 0.6


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_the_card_says_what_was_measured(name):
    card = json.loads((WEIGHTS / name / "card.json").read_text())
    assert {"seed", "data_hash", "tokens", "cpu_seconds", "parameters", "command"} <= set(card["training"])
    assert (WEIGHTS / name / "card.md").read_text().startswith("# ")
    if name == "teacher":
        assert set(card["families"]) == set(families())


# --- llama.cpp ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The teacher as GGUF behind llama.cpp's own server, or a loud skip."""
    for package in ("gguf", "xllamacpp"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed, so llama.cpp is not compared: pip install gguf xllamacpp")
    import xllamacpp

    sys.path.insert(0, str(SCRIPTS))
    try:
        from export_gguf import convert
    finally:
        sys.path.remove(str(SCRIPTS))
    path = tmp_path_factory.mktemp("gguf") / "teacher.gguf"
    convert(WEIGHTS / "teacher", path)
    options = xllamacpp.CommonParams()
    options.model.path, options.n_ctx, options.port, options.n_gpu_layers = str(path), 512, 0, 0
    options.n_parallel, options.warmup, options.use_jinja, options.cpuparams.n_threads = 1, False, True, 1
    server = xllamacpp.Server(options)
    yield server.listening_address
    del server


def _post(address, path, body):
    request = urllib.request.Request(address + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.loads(reply.read())


def test_llama_cpp_tokenises_alike(served, teacher):
    _, tokenizer = teacher
    for family in families():
        problem = next(problems(family, count=1, seed=3))
        text = f"<bos><user>{problem.prompt}<assistant>{problem.response}<eos>"
        reply = _post(served, "/tokenize", {"content": text, "parse_special": True, "add_special": False})
        assert reply["tokens"] == tokenizer.encode(text)


def test_llama_cpp_gives_the_same_logprobs_and_text(served, teacher):
    model, tokenizer = teacher
    chat = [{"role": "user", "content": PROMPT}]
    body = {"messages": chat, "max_tokens": 80, "temperature": 0, "logprobs": True, "top_logprobs": 5}
    choice = _post(served, "/v1/chat/completions", body)["choices"][0]
    assert choice["message"]["content"] == _answers(teacher, [PROMPT])[0]
    tokens = choice["logprobs"]["content"]
    prompt = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    ids = torch.tensor([tokenizer.encode(prompt) + [token["id"] for token in tokens]])
    with torch.no_grad():
        ours = model(ids).logits[0].log_softmax(-1)
    first = len(tokenizer.encode(prompt)) - 1
    for place, token in enumerate(tokens):
        for other in token["top_logprobs"]:
            assert ours[first + place, other["id"]].item() == pytest.approx(other["logprob"], abs=0.02, rel=0.01)
