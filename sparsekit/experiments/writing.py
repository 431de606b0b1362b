"""A trained language model continues a text."""

from pathlib import Path

from sparsekit.datasets import Dataset
from sparsekit.experiments.feed import data_of
from sparsekit.experiments.load import load_model
from sparsekit.experiments.record import read_experiment
from sparsekit.models.generating import generate
from sparsekit.utils.seeds import generator


def continue_text(
    folder: str | Path,
    prompt: str,
    count: int = 200,
    *,
    temperature: float = 0.8,
    seed: int = 0,
    root: str | Path | None = None,
) -> str:
    """Return the prompt and what the model of a run writes after it.

    The same seed gives the same text on the same processor.

    Args:
        folder: of the run, whose data are text, for example that of the recipe `tiny-gpt`.
        prompt: at least one character.
        count: how many tokens to add.
        temperature: 0 takes the most likely token each time, and 1 draws as the model expects.
        seed: of the draws.
        root: the data folder, as in `datasets.load`.

    Raises:
        FileNotFoundError: if the folder holds no run.
        CheckpointError: if the checkpoint is damaged, or of another network.
        ValueError: if the run's data are no text, the prompt is empty or has characters without a token, or a number
            is out of range.
    """
    data = data_of(read_experiment(folder), root)
    if not isinstance(data, Dataset) or data.tokenizer is None:
        raise ValueError(f"the data of the run must be text, got {data.name}. Train the recipe tiny-gpt, for example")
    tokens = generate(
        load_model(folder, root=root),
        data.tokenizer.encode(prompt),
        count,
        context=data.shape[0],
        temperature=temperature,
        generator=generator(seed, "text"),
    )
    return data.tokenizer.decode(tokens)
