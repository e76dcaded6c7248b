"""A teacher's opinion of given texts, written down once: the k likeliest tokens at each trained token, for `train.distill`.

    rows   "Start with 12. Add 5." -> "12 + 5 = 17.\\nAnswer: 17"

    CacheLogits(name="opinions", student="step:sft", teacher="embedded", k=64)
    Distill(student="step:sft", teacher="step:opinions", prefix="data", divergence="forward")

    08-opinions/logits/     header.json  part-00000.safetensors …  tokenizer/         see train/_logit_store.py

A teacher of 400 billion weights is asked once, and any number of students, seeds and losses are trained from the file. The
student is named because its tokenizer and chat template write the text; its weights are not read for anything else. Tail mass
outside of the k tokens is one more token to the loss (`tail`), so k need not be large: after a sharp teacher 32 hold all but
a thousandth.

The cache names what it was made of, teacher, tokenizer, rows; training refuses a foreign one with a sentence. A run that is
killed goes on after the last part that was written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from limbeck.core.errors import UsageError
from limbeck.core.fingerprint import digest
from limbeck.core.row import Row
from limbeck.core.step import Context, Make
from limbeck.train._likeliest import Likeliest, LocalTop
from limbeck.train._logit_store import LogitWriter, document_key
from limbeck.train._teachers import Opened, open_teacher
from limbeck.train._tokens_match import check_templates, check_tokenizers
from limbeck.train._trains import longest
from limbeck.train.examples import Example, check_rows, encode
from limbeck.train.student import LoadedStudent, load_student

LOCAL = ("embedded", "hf:", "step:")
PROBED_ROWS = 64
TOGETHER = 64
"""Documents that are scored between two looks at whether a part is full."""


class CacheLogits(Make):
    """Write down a teacher's k likeliest tokens at each token of the rows' responses, for train.distill to read."""

    isolated: ClassVar[bool] = True

    teacher: str
    """Whose opinion: `embedded`, `hf:PATH`, `step:NAME`, or `openai:MODEL@ADDRESS` (vLLM, llama.cpp: prompt log-probabilities)."""
    student: str
    """Whose tokenizer and chat template write the text: the student that will be trained, or another with the same."""
    k: int = Field(default=64, gt=0)
    """Tokens at each place. A server may allow fewer (vLLM: 20 unless started with --max-logprobs)."""
    log_probs: Literal["float16", "float32"] = "float32"
    """How log-probabilities are kept; float16 halves them and is right to half a percent of a probability."""
    max_length: int = Field(default=1024, gt=0)
    """Rows of more tokens are dropped with that reason, as in training; give training the same."""
    chat_template: str = ""
    """Replaces the student's own template: `plain`, or the path of a Jinja file; give training the same."""
    other_template: bool = False
    """Let the teacher read the student's chat template although its own writes prompts otherwise."""
    micro_tokens: int = Field(default=16384, gt=0)
    """The most tokens that go through a local teacher at once."""

    @field_validator("teacher")
    @classmethod
    def _named(cls, value: str) -> str:
        if not value.startswith((*LOCAL, "openai:")):
            raise ValueError("write teacher as embedded, hf:PATH, step:NAME or openai:MODEL@ADDRESS")
        return value

    def watch(self) -> list[Path]:
        """The template file and models given by path are part of the fingerprint."""
        paths = [spec.removeprefix("hf:") for spec in (self.teacher, self.student) if spec.startswith("hf:")]
        paths += [self.chat_template] if self.chat_template not in ("", "plain") else []
        return [Path(path).expanduser() for path in paths if Path(path).expanduser().exists()]

    def make(self, rows: list[Row], context: Context) -> Iterable[Row]:
        """Encode, ask, write; return the rows, those that could not be used dropped with the reason."""
        check_rows(rows)
        student = load_student(context.model(self.student), chat_template=self.chat_template)
        limit = min(self.max_length, longest(student) or self.max_length)
        documents, reasons = encode(rows, student.tokenizer, student.stops, end=student.end, max_length=limit)
        if not documents:
            raise UsageError(f"No row can be used; the first of them: {next(iter(reasons.values()))}.")
        texts = [message.content for row in rows[:PROBED_ROWS] for message in row.messages]
        with closing(open_teacher(self.teacher, self.k, context)) as opened:
            asked, width = self._asked(student, opened, texts)
            identity = digest([opened.identity, tokenizer_digest(student.tokenizer), self.k, self.log_probs])
            folder = context.folder / "logits"
            writer = LogitWriter(folder, identity, self.k, width, self.log_probs)
            self._write(writer, asked, documents, context)
            student.tokenizer.save_pretrained(folder / "tokenizer")
            writer.close({"teacher": self.teacher, "teacher_identity": opened.identity} | asked.told())
        return [row.drop(f"{self.called()}: {reasons[row.id]}") if row.id in reasons else row for row in rows]

    def _asked(self, student: LoadedStudent, opened: Opened, texts: Sequence[str]) -> tuple[Likeliest, int]:
        """Return what is asked and how many logits it has, when it has been held against the student."""
        check_tokenizers(student.tokenizer, opened.tokenizer(student.tokenizer), texts[: opened.probes])
        teacher = opened.teacher
        if not isinstance(teacher, LoadedStudent):
            return teacher, student.width
        if not self.other_template:
            check_templates(student.tokenizer, teacher.tokenizer)
        return LocalTop(teacher, self.k, self.micro_tokens), teacher.width

    def _write(self, writer: LogitWriter, asked: Likeliest, documents: Sequence[Example], context: Context) -> None:
        wanted = {document_key(d): d for d in documents}
        left = [d for key, d in wanted.items() if key not in writer.done]
        for start in range(0, len(left), TOGETHER):
            some = left[start : start + TOGETHER]
            for document, (ids, log_probs) in zip(some, asked.top(some), strict=True):
                writer.add(document, ids, log_probs)
            done = len(wanted) - len(left) + start + len(some)
            context.progress(done, len(wanted), "documents")


def tokenizer_digest(tokenizer: Any) -> str:
    """Return the digest of a tokenizer's vocabulary: what each id stands for."""
    return digest(sorted(tokenizer.get_vocab().items()))
