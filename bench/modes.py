"""Experiment: which divergence keeps the teacher's modes, and which settles in one? Two miniatures, exact and small.

1. One distribution over 64 tokens. The teacher is two bumps of random place, width and weight, the student one bump (a discretised
   normal distribution): it can not be both. Fitted by gradient with the very losses of `limbeck.train.losses`.
2. Sentences. The teacher knows six sentences of eight tokens, of random weights, and says one of them with a slip now and then;
   what it says next is known exactly after every prefix, also a wrong one (Bayes). The student is a recurrent network with four
   hidden units, which has room for less than that. Four ways to train it, that is two knobs: forward or reverse KL, on the
   teacher's sentences or on its own.

Told are the entropy, how many of the teacher's modes the student says (those to which it gives a tenth of their weight or more),
and the share of nonsense (in 1: probability where the teacher has under 1e-3; in 2: sentences more than two tokens from all
six). Pairs share teacher and initial weights; intervals are bootstraps of paired differences over the seeds.

    python bench/modes.py            a minute or two; docs/distil-on-policy.md has the tables
"""

from __future__ import annotations

import math
import sys

import numpy as np
import torch

from limbeck.train.losses import divergence

KINDS = {
    "forward": {"kind": "forward"},
    "JSD 0.5": {"kind": "jsd", "beta": 0.5},
    "JSD 0.1, rescaled": {"kind": "jsd", "beta": 0.1, "rescale": True},
    "reverse": {"kind": "reverse"},
}
TOKENS, SENTENCES, LENGTH, WORDS, SLIP = 64, 6, 8, 12, 0.02


def two_bumps(rng: np.random.Generator) -> tuple[torch.Tensor, list[slice]]:
    """Return the log-probabilities of a teacher with two bumps, and where they lie."""
    places, widths, weight = (rng.uniform(12, 20), rng.uniform(40, 52)), rng.uniform(2, 4, 2), rng.uniform(0.5, 0.7)
    x = np.arange(TOKENS)
    bumps = [np.exp(-((x - place) ** 2) / (2 * w**2)) / w for place, w in zip(places, widths, strict=True)]
    p = weight * bumps[0] / bumps[0].sum() + (1 - weight) * bumps[1] / bumps[1].sum()
    return torch.tensor(p).log(), [slice(0, 30), slice(30, TOKENS)]


def one_bump(seed: int, options: dict[str, object]) -> tuple[float, float, float]:
    """Fit a normal distribution to a teacher of two bumps; return entropy, bumps that it holds, and mass out of place."""
    teacher, bumps = two_bumps(np.random.default_rng(seed))
    x, label = torch.arange(TOKENS, dtype=torch.double), torch.zeros(1, dtype=torch.long)
    best, student = math.inf, teacher
    for start in (16.0, 32.0, 46.0):  # the best of three beginnings: what the loss wants, not where it was put
        given = torch.tensor([start, math.log(6.0)], dtype=torch.double, requires_grad=True)
        optimizer = torch.optim.Adam([given], lr=0.1)
        for _ in range(250):
            logits = -((x - given[0]) ** 2) / (2 * (2 * given[1]).exp())
            loss = divergence(logits[None], teacher[None], label, **options)  # type: ignore[arg-type]
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        if loss.item() < best:
            best, student = loss.item(), logits.detach().log_softmax(-1)
    q, p = student.exp(), teacher.exp()
    held = sum(q[bump].sum() > 0.1 * p[bump].sum() for bump in bumps)
    return -(q * student.clamp_min(-700)).sum().item(), float(held), q[p < 1e-3].sum().item()


class Sayings:
    """A teacher of six sentences, whose next-token distribution is exact after every prefix."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.lines_SL = torch.from_numpy(rng.integers(0, WORDS, (SENTENCES, LENGTH)))
        self.weights_S = torch.from_numpy(rng.dirichlet(np.full(SENTENCES, 4.0)))

    def log_probs(self, texts_BL: torch.Tensor) -> torch.Tensor:
        """Return the logarithms of p(token | what stands before it), [B, L, WORDS]."""
        right_BSL = texts_BL[:, None] == self.lines_SL
        each_BSL = torch.where(right_BSL, 1 - SLIP + SLIP / WORDS, SLIP / WORDS).log()
        before_BSL = each_BSL.cumsum(-1) - each_BSL + self.weights_S.log()[None, :, None]
        belief_BSL = before_BSL.softmax(1)
        says_SLW = torch.nn.functional.one_hot(self.lines_SL, WORDS) * (1 - SLIP) + SLIP / WORDS
        return torch.einsum("bsl,slw->blw", belief_BSL, says_SLW.double()).log()

    def say(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Return sentences as the teacher says them."""
        which = torch.multinomial(self.weights_S, count, replacement=True, generator=generator)
        slips = torch.rand(count, LENGTH, generator=generator) < SLIP
        return torch.where(slips, torch.randint(WORDS, (count, LENGTH), generator=generator), self.lines_SL[which])


class Student(torch.nn.Module):
    """A recurrent network with too few hidden units."""

    def __init__(self, hidden: int = 4) -> None:
        super().__init__()
        self.cell = torch.nn.GRU(WORDS + 1, hidden, batch_first=True)
        self.head = torch.nn.Linear(hidden, WORDS)

    def forward(self, texts_BL: torch.Tensor) -> torch.Tensor:
        """Return the logits of each token after what stands before it."""
        before = torch.nn.functional.pad(texts_BL[:, :-1], (1, 0), value=WORDS)
        states, _ = self.cell(torch.nn.functional.one_hot(before, WORDS + 1).float())
        return self.head(states)  # type: ignore[no-any-return]

    @torch.no_grad()
    def say(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Return sentences of its own."""
        state, last, said = None, torch.full((count, 1), WORDS), []
        for _ in range(LENGTH):
            out, state = self.cell(torch.nn.functional.one_hot(last, WORDS + 1).float(), state)
            last = torch.multinomial(self.head(out[:, 0]).softmax(-1), 1, generator=generator)
            said.append(last)
        return torch.cat(said, 1)


def taught(seed: int, kind: str, own: bool, updates: int = 600, warm: int = 150) -> tuple[float, float, float]:
    """Train a student; return the entropy of its sentences (nats), the sayings it knows, and the share of nonsense."""
    teacher, generator = Sayings(seed), torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    student = Student()
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-2)
    for update in range(warm + updates):
        # all begin alike, on the teacher's sentences: an untaught student's own are noise
        first = update < warm
        texts = student.say(64, generator) if own and not first else teacher.say(64, generator)
        options = {"kind": "forward" if first else kind}
        logits, wanted = student(texts).reshape(-1, WORDS), teacher.log_probs(texts).reshape(-1, WORDS).float()
        loss = divergence(logits, wanted, texts.reshape(-1), **options)  # type: ignore[arg-type]
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * (1 - max(0, update - warm) / updates) + 1e-4
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    said = student.say(4000, generator)
    with torch.no_grad():
        surprise = -student(said).log_softmax(-1).gather(2, said[..., None])[..., 0].sum(1).mean().item()
    far = (said[:, None] != teacher.lines_SL).sum(-1)
    near, which = far.min(1)
    shares = torch.bincount(which[near <= 2], minlength=SENTENCES) / len(said)
    return surprise, (shares > 0.1 * teacher.weights_S).sum().item(), (near > 2).float().mean().item()


def interval(differences: np.ndarray) -> str:  # type: ignore[type-arg]
    """Return a mean with its bootstrap interval of 95 %."""
    picks = np.random.default_rng(0).integers(0, len(differences), (10_000, len(differences)))
    low, high = np.quantile(differences[picks].mean(1), [0.025, 0.975])
    return f"{differences.mean():+.2f} ({low:+.2f} to {high:+.2f})"


def main() -> None:
    """Print both tables and the paired differences."""
    torch.set_num_threads(1)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    found = {name: np.array([one_bump(s, options) for s in range(count)]) for name, options in KINDS.items()}
    print(f"two bumps, one bump: means over {count} teachers\n{'':34} entropy  modes of 2  out of place")
    for name, values in found.items():
        print(f"{name:34} {values[:, 0].mean():7.2f} {values[:, 1].mean():11.1f} {values[:, 2].mean():13.3f}")
    print("forward - reverse, entropy:", interval((found["forward"] - found["reverse"])[:, 0]))
    arms = {
        (kind, own): np.array([taught(s, kind, own) for s in range(count)])
        for kind in ("forward", "reverse")
        for own in (False, True)
    }
    print(f"six sentences, four hidden units: means over {count} teachers\n{'':34} entropy  modes of 6  nonsense")
    for (kind, own), values in arms.items():
        name = f"{kind}, on {'its own' if own else 'the teacher'} texts"
        print(f"{name:34} {values[:, 0].mean():7.2f} {values[:, 1].mean():11.1f} {values[:, 2].mean():9.3f}")
    for own in (False, True):
        apart = arms["forward", own] - arms["reverse", own]
        where = "its own" if own else "the teacher's"
        for column, what in enumerate(("entropy", "modes", "nonsense")):
            print(f"forward - reverse on {where} texts, {what}:", interval(apart[:, column]))


if __name__ == "__main__":
    main()
