"""All parts that there are."""

from collections.abc import Sequence

from benchmarks import features, loading, program, sampling, tokenizing, training
from benchmarks.case import Part, Scope
from pcb.errors import UserError

_MODULES = (sampling, tokenizing, features, training, loading, program)


def all_parts(scope: Scope) -> list[Part]:
    """Return the parts of a scope, in the order in which they are printed."""
    return [part for module in _MODULES for part in module.parts(scope)]


def chosen_parts(scope: Scope, names: Sequence[str]) -> list[Part]:
    """Return the parts whose names begin as one of `names` does, all if there is none.

    Raises UserError for a name with which no part begins.
    """
    parts = all_parts(scope)
    for name in names:
        if not any(part.name.startswith(name) for part in parts):
            known = ", ".join(part.name for part in parts)
            raise UserError(f"bench {name}: no part begins so; there are {known}")
    return [part for part in parts if not names or part.name.startswith(tuple(names))]
