"""What a job of the durability program came to."""

from typing import NamedTuple


class Result(NamedTuple):
    # the row that it counts for
    program: str
    # file system, role, mutant
    what: str
    # how often the power failed, and how many other faults there were
    crash_states: int
    faults: int
    violations: list[str]
    # a mutant has to have violations
    mutant: bool = False
    # said below the table
    remark: str = ""
