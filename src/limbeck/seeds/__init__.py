"""Where rows come from: files, task families. A room: one step a file."""

from limbeck.core.find import lazily

__getattr__ = lazily(__name__)
