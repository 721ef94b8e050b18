"""The catalog's part of docs/systems.md, printed by `python -m pcb.published.page`."""

from collections.abc import Iterator

from pcb.published.guidance import Constant, Linear, Schedule
from pcb.published.system import System
from pcb.published.systems import catalog

_HEADER = (
    "| system | order | blocks | calls | guidance | file | license |",
    "| --- | --- | --- | ---: | --- | --- | --- |",
)


def page_lines() -> Iterator[str]:
    """Yield the table and a section for every system, as Markdown."""
    yield from _HEADER
    yield from map(_row, catalog().values())
    for system in catalog().values():
        yield from ("", *_section(system))


def _row(system: System) -> str:
    guidance = _guidance(system.guidance)
    cells = (system.name, system.order, system.blocks, str(system.steps), guidance, _file(system))
    return f"| {' | '.join((*cells, system.license))} |"


def _guidance(schedule: Schedule) -> str:
    if isinstance(schedule, Constant):
        return f"{schedule.scale:g}"
    if isinstance(schedule, Linear):
        return f"{schedule.first:g} to {schedule.last:g}, linear"
    return f"1 to {1 + schedule.added:g}, scale by scale"


def _file(system: System) -> str:
    if system.weights is None:
        return "none"
    named = system.weights
    return named.path if named.direct else f"[{named.path}]({named.url}), not named there"


def _section(system: System) -> Iterator[str]:
    yield from (f"## {system.name}", "")
    yield (
        f"arXiv {system.paper}; {system.parameters:,} parameters, {system.image_size} px. "
        f"Order: {system.order}. Sampled together: {system.blocks}."
    )
    yield f"Released: {system.release}."
    if system.code_differs:
        yield from ("", "The code differs from its paper:", "")
        yield from (f"- {what}" for what in system.code_differs)
    yield from ("", "Published and here:", "")
    yield from (f"- {d.what}: {d.published}; here {d.here}" for d in system.deviations)
    ways = system.ways
    yield (
        f"- `ways` that are `published`: classes {ways.classes}, rounding {ways.rounding}, "
        f"resize {ways.resize}"
    )


if __name__ == "__main__":
    print("\n".join(page_lines()))
