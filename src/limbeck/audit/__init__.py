"""What can go wrong at every stage, measured. A room: one step a file."""

from limbeck.core.find import lazily

__getattr__ = lazily(__name__)
