"""What is asked: system messages, hints, and taking them away again. A room: one step a file."""

from limbeck.core.find import lazily

__getattr__ = lazily(__name__)
