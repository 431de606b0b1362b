"""Several heads in one network: they share its first modules, learn by the sum of losses, and answer together."""

import pytest
import torch
from torch import nn

import sparsekit as sk
from sparsekit.models import build
from sparsekit.models.trails import heads_loss, with_heads


def trails_of(heads: int = 3, at: str = "fc2") -> nn.Module:
    torch.manual_seed(0)
    return with_heads(build("mlp", input_shape=(12,), num_classes=4, hidden=(10, 8)), at, heads=heads)


X, Y = torch.randn(6, 12, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2, 3, 0, 1])


def test_the_shared_part_keeps_its_values_and_every_head_has_its_own():
    plain = build("mlp", input_shape=(12,), num_classes=4, hidden=(10, 8))
    trails = with_heads(plain, "fc2")
    assert torch.equal(trails.shared.fc1.weight, plain.fc1.weight)
    assert trails.shared.fc1.weight is not plain.fc1.weight
    weights = [head.fc2.weight for head in trails.heads]
    assert not any(torch.equal(a, b) for a, b in ((weights[0], weights[1]), (weights[1], weights[2])))


def test_in_training_heads_answer_apart_and_in_evaluation_by_the_mean_of_their_softmax_outputs():
    trails = trails_of()
    apart = trails.train()(X)
    for number, head in enumerate(trails.heads):
        assert torch.equal(apart[..., number], head(trails.shared(X)))
    mean = torch.stack([head(trails.shared(X)).softmax(1) for head in trails.heads]).mean(0)
    torch.testing.assert_close(trails.eval()(X).exp(), mean)
    assert heads_loss(trails(X), Y).item() == pytest.approx(float(-mean[range(6), Y].log().mean().detach()), rel=1e-5)


def test_the_loss_is_the_sum_of_the_heads_and_each_learns_by_its_own():
    trails = trails_of().train()
    loss = heads_loss(trails(X), Y)
    alone = [nn.functional.cross_entropy(head(trails.shared(X)), Y) for head in trails.heads]
    assert loss.item() == pytest.approx(float(sum(alone).detach()), rel=1e-6)
    loss.backward()
    own = torch.autograd.grad(alone[1], trails.heads[1].head.weight, retain_graph=True)[0]
    torch.testing.assert_close(trails.heads[1].head.weight.grad, own)
    torch.testing.assert_close(
        trails.shared.fc1.weight.grad, torch.autograd.grad(sum(alone), trails.shared.fc1.weight)[0]
    )


def test_one_head_is_the_network_itself():
    trails = trails_of(heads=1).eval()
    torch.testing.assert_close(trails(X), trails.heads[0](trails.shared(X)).log_softmax(1))


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_shared_part_and_heads_become_sparse_and_are_rewired(micro_batches):
    model = sk.sparsify(trails_of(), sk.random_topology(sk.shapes_of(trails_of()), 0.5, seed=0))
    first = sk.topology_of(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rule = sk.rules.RigL(stop=20, every=2)
    history = sk.fit(
        model, optimizer, [(X, Y)] * 8, rule, epochs=1, loss_fn=heads_loss, micro_batches=micro_batches, progress=False
    )
    assert set(first) == {"shared.fc1", *(f"heads.{n}.{name}" for n in range(3) for name in ("fc2", "head"))}
    assert all(sk.topology_of(model)[name] != first[name] for name in first if name.endswith(("fc1", "fc2")))
    assert sk.topology_of(model).count == first.count
    losses = [row.value for row in history.rows if row.name == "train loss"]
    assert losses[-1] < losses[0]
    together = model.eval()(X).argmax(1)
    assert sk.evaluate(model, [(X, Y)], heads_loss).accuracy == pytest.approx(float((together == Y).double().mean()))


@pytest.mark.parametrize(
    ("at", "heads", "message"), [("fc9", 3, "heads must begin at one of fc1"), ("fc2", 0, "heads")]
)
def test_heads_that_cannot_be_are_refused(at, heads, message):
    with pytest.raises(ValueError, match=message):
        trails_of(heads, at)
    with pytest.raises(ValueError, match="must begin at one of"):
        trails_of(3, "flatten")  # nothing would be shared
