# needs: transformers, accelerate
"""Train a sparse GPT-2 in the Trainer of Hugging Face, and save it so that `from_pretrained` finds it.

    python examples/hf_trainer.py [STEPS] [FOLDER]

The model is tiny and made from a config, so nothing is downloaded. It continues sequences that repeat three numbers,
such as 4 9 2 4 9. What comes next stands three places before it, so the model must learn to look back.
"""

import sys

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

import sparsekit as sk

WORDS, LENGTH = 16, 12


def sequences(count: int) -> list[dict[str, torch.Tensor]]:
    """Return sequences that repeat three random numbers."""
    draws = torch.randint(0, WORDS, (count, 3), generator=torch.Generator().manual_seed(0))
    return [{"input_ids": row, "labels": row} for row in draws.repeat(1, LENGTH // 3)]


def main(steps: int = 300, folder: str = "runs/gpt2") -> None:
    """Train with a tenth of the weights, and hand the model on."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=WORDS, n_positions=LENGTH, n_embd=64, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0
    )
    plain = GPT2LMHeadModel(config)
    model = sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), density=0.1, seed=0))
    print(sk.coverage(model))

    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    attached = sk.attach(model, optimizer, sk.rules.RigL(stop=3 * steps // 4, every=20))
    arguments = TrainingArguments(
        output_dir=folder,
        max_steps=steps,
        per_device_train_batch_size=32,
        logging_steps=max(1, steps // 5),
        save_steps=steps,
        report_to="none",
        dataloader_pin_memory=False,
        disable_tqdm=True,
        seed=0,
    )
    Trainer(model, arguments, train_dataset=sequences(2000), optimizers=(optimizer, None)).train()
    print(f"rewired {len(attached.journal.entries)} times, {sk.topology_of(model).count:,} connections as before")

    sk.export(model, f"{folder}/plain", format="pretrained")
    again = GPT2LMHeadModel.from_pretrained(f"{folder}/plain").eval()
    said = again(torch.tensor([[4, 9, 2, 4, 9]])).logits[0, -1].argmax()
    print(f"after 4 9 2 4 9 it says {int(said)}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]), *sys.argv[2:])
