"""The split of a task into processes: groups of shards, or the ranks of a training. No torch."""

from pcb.config.cluster import Resources
from pcb.config.stages import STAGES
from pcb.pipeline.job import ShardGroup


def shard_groups(stage: str, resources: Resources) -> list[ShardGroup]:
    """Return the groups into which a task's shards are dealt out; none if it stays whole."""
    count = resources.array if STAGES[stage].sharded else 1
    return [ShardGroup(first, count) for first in range(count)] if count > 1 else []


def ranks_per_node(stage: str, resources: Resources) -> int:
    """Return the processes per node: in training one per GPU, elsewhere one."""
    return (resources.gpus or resources.ranks) if STAGES[stage].ranked else 1
