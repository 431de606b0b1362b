"""Facts on lottery tickets."""

from collections.abc import Iterator

from sparsekit.analysis import assess_claim
from sparsekit.analysis.evidence.claims import Claim
from sparsekit.experiments.claims.base import Trials, fact
from sparsekit.experiments.lottery import Lottery, run_control, run_lottery
from sparsekit.experiments.recipes import digits_mlp

LEVELS = 8
CONTROLS = ("reinit", "reinit-fan-in", "shuffle", "shuffle-fan-in")


@fact(44, setting="digits-mlp, 8 levels that remove 40 % each, down to 1.7 %, rewound to step 0", minutes=15, seeds=6)
def old_values_are_worth_something(trials: Trials) -> Iterator[Claim]:
    """A ticket with its initial values beats the same connections with new values, below a tenth of the weights.

    Source: Frankle and Carbin (2019), arXiv:1803.03635. Controls drawn for the true fan-in are ours.
    """
    ticket, controls = [], {name: [] for name in CONTROLS}
    for seed in trials.seeds:
        experiment = digits_mlp(rule="dense", seed=seed, epochs=trials.epochs)
        lottery = Lottery(experiment=experiment, levels=LEVELS, prune=0.4)
        history = run_lottery(lottery, trials.folder, root=trials.root, progress=False)
        ticket.append(history.levels[-1].last("test accuracy"))
        for name, accuracies in controls.items():
            one = run_control(lottery, name, trials.folder, level=LEVELS, root=trials.root, progress=False)
            accuracies.append(one.last("test accuracy"))
    for name, accuracies in controls.items():
        yield assess_claim(f"the ticket beats {name}", ticket, accuracies)
