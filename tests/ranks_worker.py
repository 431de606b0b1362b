"""What torchrun starts in `test_ranks.py`: two runs, in the first of which process 1 is killed once."""

import os
import signal
import sys

from test_ranks import EXPERIMENTS

from sparsekit.experiments import run_on_ranks
from sparsekit.train import loop


def dying(function, after: int):
    """Return the function, which kills its process when it is called so often."""
    calls = 0

    def call(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == after:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)

    return call


if __name__ == "__main__":
    if os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        loop.backward = dying(loop.backward, after=27)
    for experiment in EXPERIMENTS:
        run_on_ranks(experiment, sys.argv[1], progress=False)
