"""A real HTTP server that tells prompt log-probabilities of a real model, in the words of vLLM or of OpenAI's old completions."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch

from limbeck.train.student import load_teacher


@contextmanager
def serving(folder: Path, way: str = "prompt_logprobs", *, busy: int = 0, spells: bool = True) -> Iterator[Any]:
    """Serve the model of a folder; yields the server, with `.address` and the bodies it was sent in `.asked`.

    `busy` requests are answered 503 first; `spells` says whether /tokenize is there.
    """
    loaded = load_teacher(folder)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *said: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                server.asked.append((self.path, body))
                if len(server.asked) <= busy:
                    self.say(503, {"error": {"message": "busy"}})
                elif self.path == "/tokenize" and spells:
                    self.say(200, {"tokens": loaded.tokenizer(body["prompt"], add_special_tokens=False)["input_ids"]})
                elif self.path == "/v1/completions":
                    self.say(200, {"choices": [completed(body)], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})
                else:
                    self.say(404, {"error": {"message": "no such path"}})

        def say(self, status: int, reply: Any) -> None:
            data = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            if status == 503:
                self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(data)

    def completed(body: dict[str, Any]) -> dict[str, Any]:
        prompt = body["prompt"]
        ids = loaded.tokenizer(prompt, add_special_tokens=False)["input_ids"] if isinstance(prompt, str) else prompt
        choice: dict[str, Any] = {"text": "?", "finish_reason": "length"}
        with torch.inference_mode():
            scores = loaded.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        if way == "prompt_logprobs" and "prompt_logprobs" in body:
            places = [named(scores[i - 1], ids[i], body["prompt_logprobs"]) for i in range(1, len(ids))]
            choice["prompt_logprobs"] = [
                None,
                *({str(i): {"logprob": v, "rank": 1, "decoded_token": "?"} for i, v in p.items()} for p in places),
            ]
        if way == "echo" and body.get("echo") and body.get("return_tokens_as_token_ids"):
            places = [named(scores[i - 1], ids[i], body["logprobs"]) for i in range(1, len(ids))]
            told = [{f"token_id:{i}": v for i, v in p.items()} for p in places]
            choice["logprobs"] = {"top_logprobs": [None, *told, {"token_id:1": -0.1}]}
        return choice

    def named(scores_V: torch.Tensor, actual: int, k: int) -> dict[int, float]:
        likeliest = scores_V.topk(k).indices.tolist() if k else []
        return {i: scores_V[i].item() for i in dict.fromkeys([actual, *likeliest])}  # vLLM names the actual one too

    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.address = [], f"http://127.0.0.1:{server.server_port}/v1"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
