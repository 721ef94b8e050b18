"""The rendezvous of ranks on this machine, by PyTorch's usual variables. No torch."""

import socket
from collections.abc import Mapping


def variables_of_ranks(world: int) -> list[Mapping[str, str]]:
    """Return what to add to the environment of each of so many ranks; nothing for one."""
    if world == 1:
        return [{}]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    rendezvous = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(world)}
    return [{**rendezvous, "RANK": str(k), "LOCAL_RANK": str(k)} for k in range(world)]
