"""What runs inside the sandbox's own processes: the zygote, the jail it puts on its children, and the two drivers.

    parent (limbeck.sandbox)            zygote (one per worker)              child (one per job)
    pool.py    -- job's descriptors --> zygote.py forks                  --> jail.py: limits, Landlock, seccomp
    session.py <-------------- source, calls and values: never through the zygote --------> candidate.py, examiner.py

The zygote never reads a job: sources, tests and answers go straight from the parent to the child that needs them, so what one
job was told can not be found in the memory of the next. These modules are imported by a bare `python -S` whose `limbeck` is
an empty shell (see `pool.BOOT`), so they import the standard library and each other only.
"""
