"""Running what a model wrote, closed by construction: depends on nothing but the standard library.

So far this is `interpret`: a walk over a small, total subset of Python that never calls `exec` or `eval`. Anything
outside the subset is refused, so there is no way out to find. General programs need processes and a jail around them;
until that stands they are refused, not run.
"""
