"""Verifiers and scores. A score step writes scores and labels and never drops. A room: one step a file."""

from limbeck.core.find import lazily

__getattr__ = lazily(__name__)
