"""`attach` where the step that updates the weights is not the one of the optimizer that was handed over."""

from collections import defaultdict

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from training_helpers import (
    OPTIMIZERS,
    RULES,
    STORAGES,
    batches_of,
    largest_difference,
    optimizer_is_clean,
    plain_mlp,
    same,
    sparse,
    states,
    tiny,
    values_of,
)

from sparsekit.layers import sparse_layers, topology_of
from sparsekit.rewiring.capture import capture_io, views
from sparsekit.rewiring.optimizer_state import chain
from sparsekit.rewiring.update import check_optimizer, rewire
from sparsekit.rules import SET
from sparsekit.train import attach
from sparsekit.utils.seeds import generator

both_storages = pytest.mark.parametrize("storage", STORAGES)
both_rules = pytest.mark.parametrize("rule", RULES)


class SAM(torch.optim.Optimizer):
    """Foret et al. (2021) in the form that most people use: two steps, the second of which calls another optimizer."""

    def __init__(self, params, base, rho=0.05, **settings):
        super().__init__(params, {"rho": rho, **settings})
        self.base_optimizer = base(self.param_groups, **settings)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def first_step(self):
        params = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.stack([p.grad.norm() for p in params]).norm()
        for p in params:
            self.state[p]["old_p"] = p.detach().clone()
            p.add_(p.grad * self.param_groups[0]["rho"] / norm)
        self.zero_grad()

    @torch.no_grad()
    def second_step(self):
        for p in (p for group in self.param_groups for p in group["params"] if p.grad is not None):
            p.copy_(self.state[p]["old_p"])
        self.base_optimizer.step()
        self.zero_grad()

    def step(self, closure):
        self.first_step()
        torch.enable_grad()(closure)()
        self.second_step()


class Lookahead(torch.optim.Optimizer):
    """Zhang et al. (2019): slow weights of its own, after every two steps of another optimizer; no hooks at all."""

    def __init__(self, base):
        self.base, self.param_groups, self.state = base, base.param_groups, defaultdict(dict)
        self.defaults, self.count = base.defaults, 0

    @torch.no_grad()
    def step(self, closure=None):
        self.base.step(closure)
        self.count += 1
        for p in (p for group in self.param_groups for p in group["params"]):
            slow = self.state[p].setdefault("slow", p.detach().clone())
            if self.count % 2 == 0:
                slow.lerp_(p, 0.5)
                p.copy_(slow)


class Prepared(torch.optim.Optimizer):
    """What accelerate makes of an optimizer: everything is the inner one's."""

    def __init__(self, optimizer):
        self.optimizer, self.is_syncing = optimizer, True

    state = property(lambda self: self.optimizer.state)
    param_groups = property(lambda self: self.optimizer.param_groups)
    defaults = property(lambda self: self.optimizer.defaults)

    def zero_grad(self, set_to_none=True):
        if self.is_syncing:
            self.optimizer.zero_grad(set_to_none)

    def step(self, closure=None):
        if self.is_syncing:
            self.optimizer.step(closure)


class Inherited(torch.optim.SGD):
    """Two steps of its own, the second of which calls the step of the base class."""

    def first_step(self):
        pass

    def second_step(self):
        super().step()

    def step(self, closure=None):
        raise AssertionError("nobody calls this")


class Twice(torch.optim.SGD):
    """Its step calls that of the base class, and torch calls the hooks of both."""

    def step(self, closure=None):
        return super().step(closure)


def loss_of(model, batch):
    return cross_entropy(model(batch[0]), batch[1])


def sam_steps(model, sam, batch, how):
    loss_of(model, batch).backward()
    if how == "closure":
        sam.step(lambda: loss_of(model, batch).backward())
        return
    sam.first_step()
    loss_of(model, batch).backward()
    sam.second_step()


# --- wrappers -----------------------------------------------------------------------------------------------------


@both_storages
@pytest.mark.parametrize("how", ["two steps", "closure"])
@pytest.mark.parametrize("handed", ["outer", "inner"])
def test_a_rule_on_sam_rewires_as_by_hand(storage, how, handed):
    by_hand, attached = tiny(storage), tiny(storage)
    rule = RULES["set"]
    sam = SAM(by_hand.parameters(), torch.optim.Adam, lr=0.02)
    for number, batch in enumerate(batches_of(6)):
        sam_steps(by_hand, sam, batch, how)
        if rule.is_due(number):
            rewire(by_hand, rule.propose(views(by_hand), number, generator(0, "rewire", number)), sam)
    other = SAM(attached.parameters(), torch.optim.Adam, lr=0.02)
    handle = attach(attached, other if handed == "outer" else other.base_optimizer, rule)
    for batch in batches_of(6):
        sam_steps(attached, other, batch, how)
    assert (handle.step, handle.journal.steps) == (6, [0, 2, 4])
    assert topology_of(attached) == topology_of(by_hand)
    assert same(values_of(attached), values_of(by_hand))
    assert optimizer_is_clean(attached, other.base_optimizer)


@both_storages
@pytest.mark.parametrize("how", ["two steps", "closure"])
def test_a_rule_that_grows_by_gradients_sees_those_of_sam_s_second_pass(storage, how):
    by_hand, attached = tiny(storage), tiny(storage)
    rule = RULES["rigl"]
    sam, other = (SAM(m.parameters(), torch.optim.SGD, lr=0.1, momentum=0.9) for m in (by_hand, attached))
    handle = attach(attached, other, rule)
    for number, batch in enumerate(batches_of(6)):
        sam_steps(attached, other, batch, how)
        if not rule.is_due(number):
            sam_steps(by_hand, sam, batch, "two steps")
            continue
        loss_of(by_hand, batch).backward()
        sam.first_step()
        with capture_io(by_hand) as seen:
            loss_of(by_hand, batch).backward()
        with torch.no_grad():
            for p in by_hand.parameters():
                p.copy_(sam.state[p]["old_p"])
        new = rule.propose(views(by_hand, seen), number, generator(0, "rewire", number))
        rewire(by_hand, new, sam)
        sam.zero_grad()
    assert handle.journal.steps == [0, 2, 4]
    assert topology_of(attached) == topology_of(by_hand)
    assert same(values_of(attached), values_of(by_hand))


@both_rules
def test_lookahead_s_slow_weights_move_with_their_connections(rule):
    models = []
    for storage in STORAGES:
        model = tiny(storage, dtype=torch.float64)
        lookahead = Lookahead(OPTIMIZERS["adamw"](model.parameters()))
        handle = attach(model, lookahead, RULES[rule])
        for batch in batches_of(9, dtype=torch.float64):
            lookahead.base.zero_grad()
            loss_of(model, batch).backward()
            lookahead.step()
        assert handle.journal.steps == [0, 2, 4, 6, 8]
        assert optimizer_is_clean(model, lookahead)
        models.append(model)
    assert topology_of(models[0]) == topology_of(models[1])
    assert largest_difference(*models) < 1e-9


@both_storages
@both_rules
def test_accelerate_s_optimizer_does_what_the_one_inside_does(storage, rule):
    straight, prepared = tiny(storage), tiny(storage)
    optimizer, inner = (OPTIMIZERS["adamw"](model.parameters()) for model in (straight, prepared))
    outer = Prepared(inner)
    attach(straight, optimizer, RULES[rule])
    handle = attach(prepared, outer, RULES[rule])
    for inputs, labels in batches_of(5):
        loss_of(straight, (inputs, labels)).backward()
        optimizer.step()
        optimizer.zero_grad()
        for number, part in enumerate(zip(inputs.chunk(2), labels.chunk(2), strict=True)):
            outer.is_syncing = number == 1
            (loss_of(prepared, part) / 2).backward()
            outer.step()
            outer.zero_grad()
    assert handle.step == 5
    assert topology_of(prepared) == topology_of(straight)
    assert largest_difference(prepared, straight) < 1e-6


@both_storages
@both_rules
@pytest.mark.parametrize("kind", [Inherited, Twice])
def test_a_step_of_the_base_class_counts_once(storage, rule, kind):
    straight, model = tiny(storage), tiny(storage)
    optimizer, other = (cls(m.parameters(), lr=0.1) for cls, m in ((torch.optim.SGD, straight), (kind, model)))
    attach(straight, optimizer, RULES[rule])
    handle = attach(model, other, RULES[rule])
    for batch in batches_of(5):
        for net, step in ((straight, optimizer.step), (model, getattr(other, "second_step", other.step))):
            net.zero_grad()
            loss_of(net, batch).backward()
            step()
    assert (handle.step, handle.journal.steps) == (5, [0, 2, 4])
    assert same(values_of(model), values_of(straight))


def test_a_base_class_that_torch_has_never_seen_calls_hooks_as_well():
    class Base(torch.optim.Optimizer):
        def step(self, closure=None):
            pass

    class Own(Base):
        def step(self, closure=None):
            raise AssertionError("nobody calls this")

        def update(self):
            super().step()

    model = tiny()
    optimizer = Own(model.parameters(), {"lr": 0.1})
    handle = attach(model, optimizer, RULES["set"])
    for _ in range(3):
        optimizer.update()
    assert handle.step == 3


@both_storages
def test_after_a_step_that_failed_the_next_one_counts(storage):
    model = tiny(storage)
    optimizer = Twice(model.parameters(), lr=0.1)
    handle = attach(model, optimizer, RULES["rigl"])

    def broken():
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            optimizer.step(broken)
    for batch in batches_of(3):
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        optimizer.step()
    assert (handle.step, handle.journal.steps) == (3, [0, 2])


# --- refusals -----------------------------------------------------------------------------------------------------


def test_an_optimizer_without_hooks_is_refused():
    class Bare(torch.optim.Optimizer):
        def __init__(self, params):
            self.param_groups, self.state, self.defaults = [{"params": [*params], "lr": 0.1}], defaultdict(dict), {}

        def step(self, closure=None):
            pass

    model = tiny()
    with pytest.raises(ValueError, match=r"step must call hooks, got Bare.*Call super\(\).__init__.*or call rewire"):
        attach(model, Bare(model.parameters()), RULES["set"])


def test_an_optimizer_that_holds_two_others_is_refused():
    model = tiny()
    both = torch.optim.SGD(model.parameters(), lr=0.1)
    both.parts = [OPTIMIZERS["sgd"](model.parameters()), OPTIMIZERS["adamw"](model.parameters())]
    with pytest.raises(ValueError, match="one other at most, got SGD with SGD, AdamW. Use one of these"):
        attach(model, both, RULES["set"])


def test_a_second_rule_is_refused_by_way_of_a_wrapper_too():
    model = tiny()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    attach(model, optimizer, RULES["set"])
    with pytest.raises(ValueError, match="already has a rule"):
        attach(model, Prepared(optimizer), RULES["set"])


def test_an_optimizer_that_mixes_weights_is_refused_inside_another_too():
    model = sparse(nn.Sequential(nn.Linear(6, 4, bias=False)))
    with pytest.raises(ValueError, match="must treat each weight by itself, got Muon"):
        attach(model, Prepared(torch.optim.Muon(model.parameters())), RULES["set"])


@pytest.fixture
def one_process():
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no distributed package")
@both_storages
def test_parameters_that_fsdp_shards_are_refused_with_the_reason(storage, one_process):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = tiny(storage)
    before = topology_of(model)
    fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    optimizer = torch.optim.AdamW(model.parameters())
    for refused in (
        lambda: attach(model, optimizer, RULES["set"]),
        lambda: check_optimizer(sparse_layers(model), optimizer),
        lambda: rewire(model, before),
    ):
        with pytest.raises(ValueError, match="0: a sparse layer's parameter must be whole on every process, got a sh"):
            refused()


def test_a_share_of_a_parameter_is_refused_whoever_cut_it():
    """FSDP with the original parameters, and ZeRO, leave a piece of the values in the same object."""
    model = tiny("csr")
    optimizer = torch.optim.AdamW(model.parameters())
    model[3].param.data = model[3].param.data[:3]
    with pytest.raises(ValueError, match="3: a sparse layer's parameter must be whole"):
        attach(model, optimizer, RULES["set"])


# --- updates that no hook sees ------------------------------------------------------------------------------------


@both_storages
@both_rules
@pytest.mark.parametrize("zero", [True, False])
def test_another_optimizer_s_step_is_an_error_at_the_next_backward_pass(storage, rule, zero):
    model = tiny(storage)
    attached = attach(model, OPTIMIZERS["sgd"](model.parameters()), RULES[rule])
    other = OPTIMIZERS["adamw"](model.parameters())
    batch, again = batches_of(2)
    loss_of(model, batch).backward()
    other.step()
    if zero:
        other.zero_grad()
    with pytest.raises(
        RuntimeError, match="must be updated by SGD.*got updates of 0 by AdamW and no step of it.*attac"
    ):
        loss_of(model, again).backward()
    assert attached.step == 0


@both_storages
@both_rules
def test_updates_by_hand_are_an_error_as_soon_as_they_are_no_perturbation(storage, rule):
    model = tiny(storage)
    attached = attach(model, OPTIMIZERS["sgd"](model.parameters()), RULES[rule])

    def loop():
        for batch in batches_of(3):
            model.zero_grad()
            loss_of(model, batch).backward()
            for parameter in model.parameters():
                parameter.data -= 0.1 * parameter.grad

    with pytest.raises(RuntimeError, match="got updates of 0 by something else and no step of it"):
        loop()
    attached.detach()
    loop()


@both_storages
@both_rules
def test_backward_passes_that_update_nothing_are_no_error(storage, rule):
    """Evaluations, skipped steps and accumulation, with and without clearing."""
    model = tiny(storage)
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    handle = attach(model, optimizer, RULES[rule])
    for number, batch in enumerate(batches_of(6)):
        for _ in range(4):
            loss_of(model, batch).backward()
            if number % 2:
                optimizer.zero_grad(set_to_none=number % 4 == 1)
        loss_of(model, batch).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert handle.step == 6


@both_storages
def test_a_closure_that_is_called_at_several_weights_is_no_error(storage):
    class LineSearch(torch.optim.SGD):
        def step(self, closure=None):
            params = [p for group in self.param_groups for p in group["params"]]
            for _ in range(4):
                closure()
                for p in params:
                    p.data -= 0.01 * p.grad
            return super().step()

    model = tiny(storage)
    optimizer = LineSearch(model.parameters(), lr=0.1)
    handle = attach(model, optimizer, SET(every=2, stop=9, drop_fraction=0.5))
    for batch in batches_of(4):

        def closure(batch=batch):
            optimizer.zero_grad()
            loss = loss_of(model, batch)
            loss.backward()
            return loss

        optimizer.step(closure)
    assert (handle.step, handle.journal.steps) == (4, [0, 2])


@both_storages
def test_loading_a_state_between_two_backward_passes_is_no_error(storage):
    model = tiny(storage)
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    handle = attach(model, optimizer, RULES["rigl"])
    good = states(sparse(plain_mlp(seed=4), storage))[0]
    for batch in batches_of(4):
        loss_of(model, batch).backward()  # too large, say
        optimizer.zero_grad()
        model.load_state_dict(good)
        loss_of(model, batch).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert handle.step == 4


@both_storages
def test_a_model_whose_sparse_layers_are_all_frozen_is_watched_for_nothing(storage):
    model = tiny(storage)
    for layer in sparse_layers(model).values():
        layer.param.requires_grad_(False)
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    handle, before = attach(model, optimizer, RULES["rigl"]), topology_of(model)
    for batch in batches_of(3):
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        optimizer.step()
    assert handle.step == 3
    assert topology_of(model) == before


@both_storages
def test_nothing_is_watched_after_detach_or_by_copies(storage):
    model = tiny(storage)
    attached = attach(model, OPTIMIZERS["sgd"](model.parameters()), RULES["set"])
    hooks = model[0].param._post_accumulate_grad_hooks
    assert len(hooks) == 1
    attached.detach()
    assert not hooks


@both_storages
def test_an_attachment_that_nobody_holds_any_longer_is_freed(storage):
    import gc
    import weakref

    model = tiny(storage)
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    freed = weakref.ref(attach(model, optimizer, RULES["set"]))
    del optimizer
    gc.collect()
    assert freed() is None
    assert not model[0].param._post_accumulate_grad_hooks


def test_chains_are_followed_to_the_optimizer_that_does_the_work():
    model = tiny()
    sgd = OPTIMIZERS["sgd"](model.parameters())
    assert [type(one).__name__ for one in chain(Prepared(Lookahead(sgd)))] == ["Prepared", "Lookahead", "SGD"]
