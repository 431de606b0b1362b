"""What every registered rule must keep over many steps: budgets, in any loop, interrupted anywhere."""

import pytest
import torch
from helpers import batch_for, counts_of, train
from rule_helpers import RULES_ON_NETS, begun, every_rule_on_its_nets, rule_of

import sparsekit as sk
from sparsekit.rules.initial import initial_density, samples_anew
from sparsekit.train import load_checkpoint, restore, save_checkpoint


@every_rule_on_its_nets
def test_connections_stay_as_many_where_no_density_is_asked_for(name, make, shape, storage):
    rule = rule_of(name, every=2, stop=8)
    if getattr(rule, "density", None) is not None or initial_density(rule, 0.4) != 0.4 or samples_anew(rule):
        return
    model = begun(make, storage, rule)
    before = sk.topology_of(model)
    train(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), rule, shape, steps=10)
    after = sk.topology_of(model)
    assert after.count == before.count
    if getattr(rule, "scope", "") == "layer":
        assert counts_of(after) == counts_of(before)


@every_rule_on_its_nets
def test_attached_to_a_loop_of_ones_own_a_rule_does_what_it_does_in_the_visible_loop(name, make, shape, storage):
    rule = rule_of(name, every=3, stop=8)
    ours, theirs = (begun(make, storage, rule) for _ in range(2))
    train(ours, torch.optim.SGD(ours.parameters(), lr=0.1, momentum=0.9), rule, shape, steps=10)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9)
    attached = sk.attach(theirs, optimizer, rule, seed=0)
    for step in range(10):
        inputs, labels = batch_for(shape, seed=step)
        torch.nn.functional.cross_entropy(theirs(inputs), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    attached.detach()
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for key, value in ours.state_dict().items():
        assert torch.allclose(value.double(), theirs.state_dict()[key].double(), rtol=1e-9, atol=1e-12), key


@pytest.mark.parametrize(
    ("name", "make", "shape", "storage"),
    [net for key, net in RULES_ON_NETS.items() if key[1:] == ("linear", "masked")],
    ids=[key[0] for key in RULES_ON_NETS if key[1:] == ("linear", "masked")],
)
def test_two_hundred_steps_with_a_journal_can_be_interrupted_anywhere_and_end_the_same(
    name, make, shape, storage, tmp_path
):
    rule = rule_of(name, every=9, stop=150)

    def start() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        model = begun(make, storage, rule)
        return model, torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    whole, optimizer = start()
    journal = sk.Journal(sk.topology_of(whole))
    for step in range(200):
        if step == 131:
            save_checkpoint(tmp_path / "checkpoint.pt", whole, optimizer, step=step)
        (change,) = train(whole, optimizer, rule, shape, steps=1, first=step)
        if change is not None:
            journal.add(step, change)
    resumed, optimizer = start()
    assert restore(load_checkpoint(tmp_path / "checkpoint.pt"), resumed, optimizer) == 131
    train(resumed, optimizer, rule, shape, steps=69, first=131)
    assert journal[-1] == sk.topology_of(whole)
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key
    assert all(value.isfinite().all() for value in whole.state_dict().values() if value.is_floating_point())
