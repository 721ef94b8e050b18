"""The systems of the table that are not the paper's own, by name. No torch, no files."""

from pcb.systems import family_entries, parallel_entries
from pcb.systems.entry import System

CATALOG: dict[str, System] = {
    system.name: system for system in (*family_entries.SYSTEMS, *parallel_entries.SYSTEMS)
}
