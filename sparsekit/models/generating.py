"""A language model continues a text, token by token, and says how much any text surprises it."""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from sparsekit.utils.checks import check_integer


@torch.no_grad()
def generate(
    model: nn.Module,
    prompt: Int64[Tensor, " n"],
    count: int,
    *,
    context: int,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Int64[Tensor, " m"]:
    """Return the prompt and `count` further tokens, each drawn from what the model expects after those before it.

    Scores are divided by the temperature before the softmax. So below 1 likely tokens become more likely, and at 0 the
    most likely one is always taken. The model ends in the mode that it was in.

    Args:
        model: gives scores of shape `(batch, vocabulary, tokens)`, as `gpt` does.
        prompt: at least one token.
        count: how many to add.
        context: how many tokens the model sees at once. It reads the last ones.
        temperature: 0 or more.
        generator: what the draws come from. None means torch's global one.

    Raises:
        TypeError: if a count is no integer.
        ValueError: if the prompt is empty, or a number is out of range.

    Example:
        >>> from sparsekit.models.gpt import gpt
        >>> model = gpt(input_shape=(8,), num_classes=5, dim=8, depth=1)
        >>> generate(model, torch.tensor([1, 2]), 3, context=8, temperature=0).shape
        torch.Size([5])
    """
    check_integer("count", count, least=0)
    check_integer("context", context, least=1)
    if not len(prompt):
        raise ValueError("a prompt must have at least one token, got none. Begin with a line break, for example")
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature must be 0 or more, got {temperature}. Try 0.8")
    tokens, was_training = prompt, model.training
    model.eval()
    try:
        for _ in range(count):
            scores = model(tokens[None, -context:])[0, :, -1]
            tokens = torch.cat([tokens, _drawn_from(scores, temperature, generator)])
    finally:
        model.train(was_training)
    return tokens


@torch.no_grad()
def surprise(model: nn.Module, tokens: Int64[Tensor, " n"], *, context: int) -> Float[Tensor, " m"]:
    """Return how many nats each token costs but the first, which is `-log p` of it after those before it.

    Their mean is the loss of the text. The model ends in the mode that it was in.

    Args:
        model: gives scores of shape `(batch, vocabulary, tokens)`, as `gpt` does.
        tokens: two or more.
        context: how many tokens the model sees at once. It reads the last ones before each.

    Raises:
        TypeError: if the context is no integer.
        ValueError: if it is below 1, or there are fewer than two tokens.

    Example:
        >>> from sparsekit.models.gpt import gpt
        >>> model = gpt(input_shape=(8,), num_classes=5, dim=8, depth=1)
        >>> surprise(model, torch.tensor([1, 2, 4]), context=8).shape
        torch.Size([2])
    """
    check_integer("context", context, least=1)
    if len(tokens) < 2:
        raise ValueError(f"a text must have two tokens or more, got {len(tokens)}. Give a longer one")
    was_training = model.training
    model.eval()
    try:
        chances = _scores_before(model, tokens[:-1], context).log_softmax(1)
    finally:
        model.train(was_training)
    return -chances.gather(1, tokens[1:, None])[:, 0]


def _scores_before(model: nn.Module, inputs: Int64[Tensor, " n"], context: int) -> Float[Tensor, "n v"]:
    """Return the scores after each token. All that the model sees at once come from one pass, each later one alone."""
    scores = [model(inputs[None, :context])[0].T]
    if len(inputs) > context:
        scores.append(model(inputs.unfold(0, context, 1)[1:])[:, :, -1])
    return torch.cat(scores)


def _drawn_from(scores: Float[Tensor, " v"], temperature: float, generator: torch.Generator | None) -> Tensor:
    if temperature == 0:
        return scores.argmax()[None]
    # Subtracting the largest first keeps small temperatures from dividing into infinities.
    chances = ((scores - scores.max()) / temperature).softmax(0)
    return torch.multinomial(chances, 1, generator=generator)
