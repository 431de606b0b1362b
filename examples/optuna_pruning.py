# needs: optuna
"""Let Optuna choose density and learning rate, and stop bad trials early.

    python examples/optuna_pruning.py [TRIALS] [EPOCHS] [FOLDER]

Each trial is an ordinary run. `follow` trains it and shows its history on the way, so Optuna sees the test accuracy
after every epoch and may prune the trial. Whoever asks for the same experiment again gets what was trained already.
"""

import sys

import optuna

import sparsekit as sk
from sparsekit.experiments import follow


def objective(trial: optuna.Trial, epochs: int, folder: str) -> float:
    """Train one choice, and tell Optuna how it goes."""
    experiment = sk.recipes.digits_mlp(
        rule="rigl",
        density=trial.suggest_float("density", 0.01, 0.1, log=True),
        learning_rate=sk.schedules.Cosine(trial.suggest_float("learning_rate", 0.01, 0.5, log=True), 0.0),
        epochs=epochs,
    )
    accuracies: list[float] = []
    for (history,) in follow([experiment], folder):
        accuracies = [row.value for row in history.rows if row.name == "test accuracy"]
        if accuracies:
            trial.report(accuracies[-1], step=len(accuracies))
            if len(accuracies) < epochs and trial.should_prune():
                raise optuna.TrialPruned
    return accuracies[-1]


def main(trials: int = 20, epochs: int = 20, folder: str = "runs/optuna") -> None:
    """Search, and print what was found."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=0),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=3),
    )
    study.optimize(lambda trial: objective(trial, epochs, folder), n_trials=trials)
    states = [trial.state for trial in study.trials]
    print(f"{states.count(optuna.trial.TrialState.PRUNED)} of {trials} trials were pruned")
    print(f"best test accuracy {study.best_value:.4f} with {study.best_params}")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(*map(int, arguments[:2]), *arguments[2:])
