"""Recipes for text: a GPT of 0.8 million weights in minutes, and one for tests in seconds."""

from dataclasses import replace

from sparsekit.experiments.recipes.base import Recipe, register_recipe
from sparsekit.schedules import Cosine, Warmup

HIGHEST_RATE = 3e-3  # of AdamW, ten times what larger models take (Radford et al. 2018, section 4.1: 2.5e-4)


def _warmed_up(steps: int) -> Warmup:
    """Return a learning rate that rises during a twentieth of the steps, and then falls along a cosine to 0."""
    return Warmup(Cosine(HIGHEST_RATE), steps=max(1, steps // 20))


tiny_gpt = register_recipe(
    Recipe(
        recipe="tiny-gpt",
        docs="""GPT of 4 blocks and 128 features on a megabyte of text by characters, 64 at once: 786,432 weights.

        The optimizer is AdamW on batches of 32 windows. The learning rate rises to 0.003 during a twentieth of the
        steps, and falls along a cosine to 0. The topology is rewired every 50 steps until three quarters of the
        training. Embeddings and the head, which share their weights, stay dense.

        Source: network of Radford et al. (2018), text of the King James Version (1611). Sizes and set-up are ours.
        """,
        data="kjv-char",
        num_train=13_410,
        model="gpt",
        density=0.1,
        epochs=2,
        batch_size=32,
        every=50,
        learning_rate=_warmed_up,
        settings={"optimizer": "adamw"},
    ),
    trains="kjv-char",
)

tiny_gpt_bpe = register_recipe(
    replace(
        tiny_gpt,
        recipe="tiny-gpt-bpe",
        docs="""GPT of 4 blocks and 128 features on a megabyte of text by 512 byte pairs, 64 at once.

        A window holds 2.3 times as many characters as in `tiny_gpt`, so an epoch has fewer steps. Everything else is as
        there.

        Source: byte pairs of Gage (1994). The rest is that of `tiny_gpt`.
        """,
        data="kjv-bpe",
        num_train=5770,
        epochs=4,
    ),
    trains="kjv-bpe",
)

micro_gpt = register_recipe(
    replace(
        tiny_gpt,
        recipe="micro-gpt",
        docs="""GPT of 2 blocks and 32 features on the first 1,280 windows of the text, for tests and first looks.

        Everything else is as in `tiny_gpt`.

        Source: that of `tiny_gpt`.
        """,
        num_train=1280,
        density=0.3,
        epochs=1,
        every=5,
        settings={
            "optimizer": "adamw",
            "data_settings": {"num_train": 1280},
            "model_settings": {"dim": 32, "depth": 2, "heads": 2},
        },
    )
)
