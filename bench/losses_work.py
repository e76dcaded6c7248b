"""One step of distillation in a process of its own: forward, loss, backward; prints what it took.

    python losses_work.py limbeck 32000 4       {"loss": 0.1234, "cpu": 2.61, "megabytes": 301.5, "norm": 0.5432}

Student and teacher are Llamas of 4 layers and 256 channels with tied heads and random weights, in 32 bits; a batch is rows of
512 tokens of which the first half is masked. `cpu` is CPU seconds and `megabytes` the peak of resident memory over that
after the models were built; imports and models count for neither. `bodies` is the models without head and loss, `loss`
limbeck's loss alone, from hidden states that are already there.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
LENGTH, HIDDEN = 512, 256


def model(vocabulary: int, seed: int) -> Any:
    """Return a random model; larger weights than usual, so that two of them differ."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=4,
        num_attention_heads=4,
        tie_word_embeddings=True,
        initializer_range=0.05,
        use_cache=False,
    )
    return LlamaForCausalLM(config)


def bodies(student: Any, teacher: Any) -> Any:
    """Return the last hidden states of both models; the teacher's without a graph."""
    import torch

    def run(ids: Any) -> tuple[Any, Any]:
        with torch.no_grad():
            other = teacher.model(input_ids=ids).last_hidden_state
        return student.model(input_ids=ids).last_hidden_state, other

    return run


Work = Callable[[Any, Any, Any, Any], Any]


def only_bodies(student: Any, teacher: Any, ids: Any, labels: Any) -> Any:
    """Return something to differentiate."""
    own, other = bodies(student, teacher)(ids)
    return own.mean() + other.mean()


def only_loss(student: Any, teacher: Any, ids: Any, labels: Any) -> Any:
    """Return limbeck's loss of random hidden states."""
    import torch

    from limbeck.train.losses import fused_divergence

    own, other = (torch.randn(*ids.shape, HIDDEN, generator=torch.Generator().manual_seed(i)) for i in range(2))
    return fused_divergence(own.requires_grad_(), student.lm_head.weight, other, teacher.lm_head.weight, labels)


def limbeck(student: Any, teacher: Any, ids: Any, labels: Any) -> Any:
    """Return limbeck's fused loss."""
    from limbeck.train.losses import fused_divergence

    own, other = bodies(student, teacher)(ids)
    return fused_divergence(own, student.lm_head.weight, other, teacher.lm_head.weight, labels)


def trl_gkd(student: Any, teacher: Any, ids: Any, labels: Any) -> Any:
    """Return the loss of TRL's GKD trainer, over the logits of both models."""
    import torch
    from trl.experimental.gkd import GKDTrainer

    with torch.no_grad():
        other = teacher(input_ids=ids).logits
    return GKDTrainer.generalized_jsd_loss(student(input_ids=ids).logits, other, labels)


def trl_chunked(student: Any, teacher: Any, ids: Any, labels: Any) -> Any:
    """Return TRL's chunked loss, from hidden states."""
    from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

    own, other = (h.reshape(-1, HIDDEN) for h in bodies(student, teacher)(ids))
    heads = student.lm_head.weight, teacher.lm_head.weight
    values, _ = ChunkedDivergenceFunction.apply(own, heads[0], None, other, heads[1], None, 0.5)
    keep = labels.reshape(-1) != -100
    return values[keep].sum() / keep.sum()


def liger_128(student: Any, teacher: Any, ids: Any, labels: Any) -> Any:
    """Return Liger's fused loss at its best chunk for a CPU, without compiling."""
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    own, other = (h.reshape(-1, HIDDEN) for h in bodies(student, teacher)(ids))
    loss = LigerFusedLinearJSDLoss(0.0, 1.0, compiled=False, chunk_size=128)
    return loss(own, student.lm_head.weight, other, teacher.lm_head.weight, labels.reshape(-1))


WAYS: dict[str, Work] = {
    "bodies": only_bodies,
    "loss": only_loss,
    "limbeck": limbeck,
    "trl_gkd": trl_gkd,
    "trl_chunked": trl_chunked,
    "liger_128": liger_128,
}


def memory(field: str) -> float:
    """Return a line of /proc/self/status in megabytes: VmRSS is now, VmHWM the peak."""
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return float(text.split(f"{field}:")[1].split()[0]) / 1024


def main() -> None:
    """Build, warm up nothing, take one step, print."""
    way, vocabulary, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    import torch

    torch.set_num_threads(1)
    student, teacher = model(vocabulary, 1), model(vocabulary, 2).requires_grad_(False).eval()
    ids = torch.randint(0, vocabulary, (batch, LENGTH), generator=torch.Generator().manual_seed(3))
    labels = ids.clone()
    labels[:, : LENGTH // 2] = -100
    few = ids[:1, :8] % 64
    WAYS[way](model(64, 1), model(64, 2), few, few).backward()  # imports, on a toy
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak starts anew
    before, clock = memory("VmRSS"), time.process_time()
    loss = WAYS[way](student, teacher, ids, labels)
    loss.backward()
    took = {"loss": float(loss.detach()), "cpu": time.process_time() - clock, "megabytes": memory("VmHWM") - before}
    took["norm"] = float(sum(p.grad.norm() ** 2 for p in student.parameters() if p.grad is not None) ** 0.5)
    print(json.dumps(took))


if __name__ == "__main__":
    main()
