"""A trained model is read back from its run's folder."""

from pathlib import Path

import torch
from torch import nn

from sparsekit.experiments.experiment import build_model
from sparsekit.experiments.feed import data_of, total_steps
from sparsekit.experiments.record import read_experiment
from sparsekit.train.checkpoint import CheckpointError, load_checkpoint
from sparsekit.tricks.base import resume
from sparsekit.utils.devices import CPU
from sparsekit.utils.files import check_name


def load_model(folder: str | Path, *, root: str | Path | None = None) -> nn.Module:
    """Return the trained model of a run, as its last checkpoint left it.

    Raises:
        FileNotFoundError: if the folder holds no run, or nothing has been saved yet.
        CheckpointError: if the checkpoint is damaged, or of another network.
    """
    experiment = read_experiment(folder)
    data = data_of(experiment, root)
    model = build_model(experiment, input_shape=data.shape, num_classes=data.num_classes)
    state = load_checkpoint(Path(folder) / "checkpoint.pt")
    # The network gets the parts that it has at that step, so no ghosts once the training is over.
    tricks = experiment.tricks_over(total_steps(experiment, data))
    model = resume(model, [trick for trick in tricks if trick.changes == "network"], state["step"])
    try:
        model.load_state_dict(state["model"])
    except RuntimeError as error:
        raise CheckpointError(
            f"{folder}/checkpoint.pt must be of the network in experiment.json, got another: {error}. Delete the "
            "folder to train this run again"
        ) from error
    return model.eval()


def load_beside(folder: Path, root: str | Path | None, name: str, *, device: torch.device = CPU) -> nn.Module:
    """Return the trained model of a run that lies in the same folder as another, which learns from it, on its device.

    Raises:
        ValueError: if the name is none.
        FileNotFoundError, CheckpointError: as `load_model`.
    """
    check_name(name, "the name of a run to learn from")
    return load_model(folder / name, root=root).to(device)
