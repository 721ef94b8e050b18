"""Works that processes of a task do in tests: pickled by name, as `pcb.launch.work` reads them."""

import os
import sys
from dataclasses import dataclass

WRONG = "train/ratio2: this machine does not see the tokens"


@dataclass
class WrongOnSecond:
    """The second rank meets what a user has to put right; the first one waits for it."""

    def __call__(self) -> str | None:
        if os.environ["RANK"] == "1":
            return WRONG
        import torch

        from pcb.runtime.ranks import join_ranks

        join_ranks(torch.device("cpu"), 2)
        raise AssertionError("the second rank never comes")


@dataclass
class Talkative:
    """Says more than a pipe holds."""

    def __call__(self) -> str | None:
        sys.stderr.write("much\n" * 50_000)
        return None
