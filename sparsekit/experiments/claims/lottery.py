"""Facts on lottery tickets and on leaving a minimum."""

from collections.abc import Iterator

from sparsekit.analysis import assess_claim
from sparsekit.analysis.evidence.claims import Claim
from sparsekit.experiments.claims.base import Fact, Trials, fact
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


LEAVING = Fact(
    number=43,
    text="RigL leaves the minimum of a static training as connections may change, over a barrier on the straight line.",
    source="Evci et al. (2020), arXiv:1911.11134, section 4.3, from memory.",
    setting="digits-mlp, density 0.02, static training, then RigL or static from its end",
    minutes=5,
    lacks="a second training from the end of the first at a full learning rate, about forty lines",
)
NEIGHBOURS = Fact(
    number=33,
    text="Masks that differ by 1 % become very different topologies of equal accuracy.",
    source="Liu et al. (2020), arXiv:2006.14085 (NNSTD), from its released code.",
    setting="digits-mlp, density 0.05, two SET trainings of each seed",
    minutes=5,
    lacks="pairs of trainings from topologies that differ in one connection of a hundred, about forty lines",
)
RELEASED = Fact(
    number=20,
    text='"SET" in the repository of Sup-tickets is RigL, because the option for random growth is ignored.',
    source="read in the released code of Sup-tickets, arXiv:2205.15322.",
    setting="the released code, growth random against gradient, masks after one rewiring",
    minutes=1,
    trains=False,
    lacks="the released code itself, which this package does not contain",
    decides="python main.py --growth random, and --growth gradient, in the repository of Sup-tickets",
)
