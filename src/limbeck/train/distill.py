"""Distillation: a student learns the teacher's whole next-token distribution, on given texts or on its own.

    rows    "Start with 12. Add 5. …"          prompts; for prefix "data" or "mixed" with responses too

    Distill(student="step:sft", teacher="embedded", prefix="student", divergence="reverse", updates=100)

    for each update:   the student writes an answer to each prompt           12 + 5 = 18. Answer: 18<eos>
                       the teacher says how it would go on at each token     ...          17: .97, 18: .01
                       loss = divergence of the two, mean over the written tokens

Two separate knobs, four useful settings and all between (2605.16826): `prefix` says whose texts are trained on, `divergence`
how the two distributions are compared. On the student's own prefixes this is on-policy distillation (GKD, Agarwal et al.
2024, 2306.13649): it sees the mistakes that it makes itself, and what the teacher would do after them. No gradient goes
through the sampling. The initial weights are the third knob: a student that can not yet write anything is taught little
by its own writing, so train.sft comes first.

With `reward` it maximises reward minus `kl` times the divergence from the teacher: for each prompt a group of `samples`
answers is scored by a verifier, and those better than their group's mean are made likelier (GRPO, 2402.03300, clipped as
PPO where `refresh` reuses rollouts). `kl` large is distillation alone, `kl` 0 is reinforcement from verified answers alone.

    07-distill/  student/  curve.jsonl  train.json  checkpoints/      as train.sft; a line of the curve says also
                 rollout_length, finished (share that ended), entropy (of the student's own tokens, in nats), reward

The teacher is one of three. Weights that are here (`embedded`, `hf:PATH`, `step:NAME`) give the whole distribution. A server
(`openai:MODEL@ADDRESS`: vLLM, llama.cpp) tells its `teacher_k` likeliest tokens at each place of the text, and a cache
(`step:NAME` of a train.cache_logits, `cache:PATH`) has them on disk for texts that are given; what they do not name is one
more token to the loss (`tail`).

Before anything is trained, student and teacher are held against each other: tokenizers by encoding the texts with both,
ends of turn, chat templates, vocabulary sizes. Each of these differs silently somewhere, and trains on noise.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from limbeck.core.errors import UsageError
from limbeck.core.find import find_step, own_file
from limbeck.core.fingerprint import code_version, digest
from limbeck.core.row import Row
from limbeck.core.step import Context, Make
from limbeck.train._likeliest import Likeliest
from limbeck.train._logit_store import HEADER, StoredTop
from limbeck.train._prefixes import Prefixes
from limbeck.train._reward import Reward
from limbeck.train._teachers import CACHE, Opened, open_teacher
from limbeck.train._tokens_match import check_stops, check_templates, check_tokenizers, check_vocabularies
from limbeck.train._trains import SPECS, Trains
from limbeck.train.examples import Example, check_rows, encode, encode_prompts
from limbeck.train.student import LoadedStudent, save_student

if TYPE_CHECKING:
    from limbeck.train._objective import Objective

PROBED_ROWS = 64
"""So many rows' texts are encoded with both tokenizers."""


class Distill(Trains, Make):
    """Distil a teacher into a student: whole next-token distributions, on the student's own texts or on given ones."""

    isolated: ClassVar[bool] = True

    teacher: str
    """Whose distribution is learnt: `embedded`, `hf:PATH`, `step:NAME`, `openai:MODEL@ADDRESS`, or `cache:PATH`; see above."""
    prefix: Literal["student", "data", "mixed"] = "student"
    """Whose texts are trained on: the `student`'s own (on-policy), the rows' responses (`data`), or some of each."""
    student_share: float = Field(default=0.5, ge=0, le=1)
    """With `mixed`, the share of documents that the student writes (GKD's lambda)."""
    divergence: Literal["forward", "reverse", "jsd", "skew_forward", "skew_reverse", "tvd"] = "reverse"
    """How they are compared: `forward` KL(teacher to student), `reverse`, `jsd` and others; see docs/distillation-losses.md."""
    beta: float = Field(default=0.5, ge=0, le=1)
    """The weight of the teacher's term in `jsd`, as in GKD."""
    rescale: bool = False
    """Divide the JSD by beta (1 - beta), so that its gradients have a like size for every beta."""
    student_temperature: float = Field(default=1.0, gt=0)
    """Divides the student's logits within the loss; has nothing to do with sampling."""
    teacher_temperature: float = Field(default=1.0, gt=0)
    """Divides the teacher's logits within the loss; under 1 sharpens the teacher."""
    teacher_k: int = Field(default=20, gt=0)
    """How many tokens a server is asked for at each place. vLLM gives 20 unless started with --max-logprobs."""
    tail: Literal["bucket", "renormalise", "full"] = "bucket"
    """What becomes of the tokens that a server or a cache does not name; see docs/distillation-losses.md."""
    t_squared: bool = False
    """Multiply the loss by the square of the student's temperature (Hinton et al. 2015)."""
    shared_vocabulary: bool = False
    """Compare on the ids both models know, renormalised, where one pads its vocabulary further than the other."""
    other_template: bool = False
    """Let the teacher read the student's chat template although its own writes prompts otherwise."""
    temperature: float = Field(default=1.0, ge=0)
    """Of the student's sampling; 1 samples the student as it is. Never taken from a generation_config, like the next two."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Sample among the likeliest tokens that hold this share of the probability; 1 is all."""
    top_k: int = Field(default=0, ge=0)
    """Sample among this many likeliest tokens; 0 is all."""
    max_tokens: int = Field(default=256, gt=0)
    """The longest text the student writes; a longer one is cut, and trained on as far as it goes."""
    batch: int = Field(default=32, gt=0)
    """Documents in one update."""
    pack_width: int = Field(default=0, ge=0)
    """Pack documents into rows of this many tokens; 0 puts one in a row, which is faster for short ones."""
    samples: int = Field(default=1, gt=0)
    """Texts for each prompt of an update; with a `reward`, the group whose mean is the baseline: 4 to 16."""
    refresh: int = Field(default=1, gt=0)
    """Write for so many updates at once: faster, and a little off-policy."""
    rollout_rows: int = Field(default=64, gt=0)
    """Texts that are written side by side."""
    reward: str = ""
    """A verifier such as `score.math` whose score is maximised besides; empty is distillation alone."""
    reward_score: str = "verified"
    """Which of its scores is the reward."""
    reward_fields: dict[str, Any] = Field(default_factory=dict)
    """Options of the verifier."""
    kl: float = Field(default=1.0, ge=0)
    """With a `reward`: the weight of the divergence from the teacher. 0 leaves the teacher out."""

    @model_validator(mode="after")
    def _fits(self) -> Distill:
        if self.batch % self.samples:
            raise ValueError(f"batch {self.batch} must be a multiple of samples {self.samples}: groups stay together")
        if self.reward and (self.prefix != "student" or self.samples < 2):
            raise ValueError(
                "a reward needs prefix 'student' and samples of 2 or more: it compares texts of one prompt"
            )
        if self.reward and self.temperature == 0:
            raise ValueError("a reward needs a temperature above 0: greedy texts of one prompt are all the same")
        return self

    @field_validator("teacher")
    @classmethod
    def _teacher_named(cls, value: str) -> str:
        if not value.startswith((*SPECS, "openai:", CACHE)):
            raise ValueError("write teacher as embedded, hf:PATH, step:NAME, openai:MODEL@ADDRESS or cache:PATH")
        return value

    def watch(self) -> list[Path]:
        """Models and a verifier of the user's own, given by path, are part of the fingerprint."""
        mine = own_file(self.reward)
        paths = [Path(mine[0])] if mine else []
        paths += [Path(self.teacher.removeprefix("hf:"))] if self.teacher.startswith("hf:") else []
        paths += [Path(self.teacher.removeprefix(CACHE), HEADER)] if self.teacher.startswith(CACHE) else []
        return [*super().watch(), *(path.expanduser() for path in paths if path.expanduser().exists())]

    @property
    def share(self) -> float:
        """The share of documents that the student writes."""
        return {"student": 1.0, "data": 0.0, "mixed": self.student_share}[self.prefix]

    def train(self, rows: list[Row], context: Context) -> Iterable[Row]:
        """Check, train, save; return the rows, those that could not be used dropped with the reason."""
        check_rows(rows, responses=self.share < 1)
        reward = Reward(self.reward, self.reward_score, self.reward_fields) if self.reward else None
        student, limit, weights = self.loaded(context)
        with closing(open_teacher(self.teacher, self.teacher_k, context)) as opened:
            opened.compute_in(self.precision)
            shared = self._compared(student, opened, rows)
            kept, documents, reasons = self._documents(rows, student, limit)
            if not kept:
                raise UsageError(f"No row can be trained on; the first of them: {next(iter(reasons.values()))}.")
            if isinstance(opened.teacher, StoredTop):
                opened.teacher.check([document for document in documents if document])
            prompts = encode_prompts(kept, student.tokenizer)
            plan = self.planned(len(kept), self.batch // self.samples)
            stream = self._stream(student, kept, prompts, documents, plan, limit, reward)
            objective = self._objective(student, opened.teacher, shared, stream)
            training = self.training(
                student,
                context,
                self._identity(weights, opened, kept, prompts, documents),
                loss=objective.loss,
                frozen=opened.models(),
                loop={"width": self.pack_width if opened.packs(student) else 0},
                examples=[],
                updates=plan,
                stream=stream,
            )
            at = training.run()
            self.summary(training, at, self._told(rows, kept, stream, objective.lost) | opened.told())
        save_student(student, context.folder / "student")
        return [row.drop(f"{self.called()}: {reasons[row.id]}") if row.id in reasons else row for row in rows]

    def _identity(
        self,
        weights: str,
        opened: Opened,
        rows: Sequence[Row],
        prompts: Sequence[Sequence[int]],
        documents: Sequence[Example | None],
    ) -> str:
        """Return what a checkpoint belongs to: settings, weights of both, the verifier's code, and the texts."""
        verifier = code_version(find_step(self.reward)) if self.reward else ""
        texts = [
            [row.id, list(ids), list(e.ids) if e else []] for row, ids, e in zip(rows, prompts, documents, strict=True)
        ]
        return digest([self.fields(), weights, opened.identity, verifier, texts])

    def _compared(self, student: LoadedStudent, opened: Opened, rows: Sequence[Row]) -> int | None:
        """Hold student and teacher against each other; return on how many first ids they are compared, None for all."""
        texts = [message.content for row in rows[:PROBED_ROWS] for message in row.messages]
        check_tokenizers(student.tokenizer, opened.tokenizer(student.tokenizer), texts[: opened.probes])
        teacher = opened.teacher
        if isinstance(teacher, StoredTop):
            if self.share > 0:
                raise UsageError(
                    f"{self.called()}: a cache knows the texts it was made of and no others, so it can not teach on what the "
                    "student writes; set prefix to 'data', or name a teacher that can be asked."
                )
            check_vocabularies(student.width, teacher.vocabulary, student.width, self.shared_vocabulary)
        if not isinstance(teacher, LoadedStudent):
            return None
        if not self.other_template:
            check_templates(student.tokenizer, teacher.tokenizer)
        if self.share > 0:
            check_stops(student.stops, teacher.stops, student.tokenizer)
        known = min(len(student.tokenizer), len(teacher.tokenizer))
        return check_vocabularies(student.width, teacher.width, known, self.shared_vocabulary)

    def _documents(
        self, rows: Sequence[Row], student: LoadedStudent, limit: int
    ) -> tuple[list[Row], list[Example | None], dict[str, str]]:
        """Return the rows that can be used, the document of each (None where the student writes it), and the reasons."""
        tokenizer = student.tokenizer
        if self.share < 1:
            examples, reasons = encode(rows, tokenizer, student.stops, end=student.end, max_length=limit)
            return [row for row in rows if row.id not in reasons], list(examples), reasons
        lengths = [len(ids) for ids in encode_prompts(rows, tokenizer)]
        reasons = {
            row.id: f"its prompt of {length} tokens leaves no room for an answer within max_length {limit}"
            for row, length in zip(rows, lengths, strict=True)
            if length >= limit
        }
        kept = [row for row in rows if row.id not in reasons]
        return kept, [None] * len(kept), reasons

    def _stream(
        self,
        student: LoadedStudent,
        rows: list[Row],
        prompts: list[tuple[int, ...]],
        documents: list[Example | None],
        plan: list[list[int]],
        limit: int,
        reward: Reward | None,
    ) -> Prefixes:
        from limbeck.train._rollout import Sampling

        return Prefixes(
            student=student,
            rows=rows,
            prompts=prompts,
            responses=documents,
            plan=plan,
            sampling=Sampling(
                temperature=self.temperature, top_p=self.top_p, top_k=self.top_k, max_tokens=self.max_tokens
            ),
            share=self.share,
            seed=self.seed,
            samples=self.samples,
            refresh=self.refresh,
            width=self.rollout_rows,
            longest=limit,
            reward=reward,
        )

    def _objective(
        self, student: LoadedStudent, teacher: LoadedStudent | Likeliest, shared: int | None, stream: Prefixes
    ) -> Objective:
        from limbeck.train._objective import Objective

        options = {
            "kind": self.divergence,
            "beta": self.beta,
            "rescale": self.rescale,
            "student_temperature": self.student_temperature,
            "teacher_temperature": self.teacher_temperature,
            "t_squared": self.t_squared,
        } | ({"shared": shared} if isinstance(teacher, LoadedStudent) else {"tail": self.tail})
        return Objective(student, teacher, options, rewarded=bool(self.reward), kl=self.kl, tally=stream.tally)

    def _told(
        self, rows: Sequence[Row], kept: Sequence[Row], stream: Prefixes, lost: dict[str, float]
    ) -> dict[str, Any]:
        told = {
            "teacher": self.teacher,
            "prefix": self.prefix,
            "divergence": self.divergence,
            "rows": len(rows),
            "trained_rows": len(kept),
            "rollouts": stream.tally.all_rollouts,
            "rollout_tokens": stream.tally.all_tokens,
            "rollout_seconds": round(stream.tally.seconds, 3),
        }
        # the probability that both put on ids which only one of them has
        return told | ({"mass_outside": lost} if lost else {})
