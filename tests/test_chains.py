"""Csr layers that follow each other run as one operator, which nobody can tell from single ones."""

import copy
import pickle
import warnings
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kinds import unchecked
from torch import nn

import sparsekit as sk
from sparsekit.kernels import chain
from sparsekit.layers.chains import ChainedSequential
from sparsekit.rules import GSE, RigL

WIDTHS = (12, 20, 17, 9)


def chained(widths=WIDTHS, *, relus=None, bias=True, dtype=torch.float32, density=0.3) -> nn.Sequential:
    """Return csr layers with a ReLU after those that ask for one, between all of them if nobody says."""
    relus = [True] * (len(widths) - 2) + [False] if relus is None else relus
    modules: list[nn.Module] = []
    for at, (inputs, outputs) in enumerate(pairwise(widths)):
        modules.append(nn.Linear(inputs, outputs, bias=bias, dtype=dtype))
        modules += [nn.ReLU()] * relus[at]
    torch.nn.init.uniform_(modules[0].weight, generator=torch.Generator().manual_seed(1))
    model = nn.Sequential(*modules)
    return sk.sparsify(model, sk.random_topology(sk.shapes_of(model), density), storage="csr")


def single(model: nn.Sequential) -> nn.Sequential:
    """Return the same layers, each with an operator of its own."""
    twin = copy.deepcopy(model)
    return nn.Sequential(*twin)


def samples(count: int = 33, width: int = WIDTHS[0], dtype=torch.float32) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(2), dtype=dtype)


def results(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor | None]:
    """Return the outputs and all gradients, the input's last."""
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_(x.requires_grad)
    y = model(x)
    (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)).sum().backward()
    return [y.detach(), *(parameter.grad for parameter in model.parameters()), x.grad]


def agree(first: list, second: list) -> bool:
    return all((a is b is None) or torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.fixture
def calls(monkeypatch) -> list[int]:
    """Count the layers of each call of the operator."""
    lengths: list[int] = []
    apply = chain._Chain.apply

    def counted(x, structures, *rest):
        lengths.append(len(structures))
        return apply(x, structures, *rest)

    monkeypatch.setattr(chain._Chain, "apply", counted)
    return lengths


# --- the same numbers ------------------------------------------------------------------------------------------------


@given(
    widths=st.lists(st.integers(1, 40), min_size=3, max_size=6),
    batch=st.integers(1, 140),
    double=st.booleans(),
    rows=st.booleans(),
    needs_input=st.booleans(),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_outputs_and_gradients_are_bit_for_bit_those_of_single_layers(widths, batch, double, rows, needs_input, data):
    dtype = torch.float64 if double else torch.float32
    relus = data.draw(st.lists(st.booleans(), min_size=len(widths) - 1, max_size=len(widths) - 1))
    model = chained(widths, relus=relus, bias=data.draw(st.booleans()), dtype=dtype)
    x = samples(batch, widths[0], dtype)
    x = (x.T.contiguous().T if rows else x).requires_grad_(needs_input)
    assert agree(results(model, x), results(single(model), x))


def test_three_layers_and_their_relus_are_one_operator(calls):
    model = chained()
    assert type(model) is ChainedSequential
    model(samples())
    assert calls == [3]


def test_what_stands_between_begins_a_new_chain(calls):
    layers = list(chained((12, 20, 17, 9, 8, 7)))
    model = ChainedSequential(*layers[:3], nn.Dropout(0.0), *layers[4:])
    assert agree(results(model, samples()), results(single(model), samples()))
    assert calls == [2, 3]


def test_a_single_layer_stays_what_it_is(calls):
    model = chained((12, 20))
    model(samples())
    assert calls == []


@pytest.mark.parametrize("frozen", range(6))
def test_frozen_parameters_get_no_gradient(frozen):
    model = chained()
    list(model.parameters())[frozen].requires_grad_(False)
    both = results(model, samples()), results(single(model), samples())
    assert agree(*both)
    assert both[0][1 + frozen] is None


def test_gradients_stop_at_the_last_layer_that_wants_them():
    model = chained()
    for parameter in model[:4].parameters():
        parameter.requires_grad_(False)
    gradients = results(model, samples())
    assert agree(gradients, results(single(model), samples()))
    assert [gradient is None for gradient in gradients] == [False, True, True, True, True, False, False, True]


def test_gradients_accumulate_over_batches():
    model = chained()
    twin = single(model)
    for each in (model, twin):
        for seed in (1, 2, 3):
            each(samples(8 * seed)).square().mean().backward()
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_trainings_are_equal_with_all_three_threads():
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            model = chained((40, 70, 60, 10))
            assert agree(results(model, samples(65, 40)), results(single(model), samples(65, 40)))
        finally:
            torch.set_num_threads(1)


def test_it_is_the_gradient_of_what_it_computes():
    model = chained((5, 6, 4), dtype=torch.float64, density=0.6)
    x = samples(3, 5, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(model, (x,))


# --- nobody notices --------------------------------------------------------------------------------------------------

HOOKED = ["forward", "forward_pre", "full_backward", "full_backward_pre"]


@pytest.mark.parametrize("kind", HOOKED)
@pytest.mark.parametrize("at", [0, 1, 4])
def test_a_hook_sees_its_module_run(kind, at, calls):
    model, seen = chained(), []
    handle = getattr(model[at], f"register_{kind}_hook")(lambda module, *_: seen.append(module))
    model(samples().requires_grad_()).sum().backward()
    assert seen == [model[at]]
    handle.remove()
    calls.clear()
    model(samples())
    assert calls == [3]


@pytest.mark.parametrize(
    "register",
    [
        nn.modules.module.register_module_forward_hook,
        nn.modules.module.register_module_forward_pre_hook,
        nn.modules.module.register_module_full_backward_hook,
        nn.modules.module.register_module_full_backward_pre_hook,
    ],
)
def test_hooks_for_all_modules_see_every_one(register):
    model, seen = chained(), []
    handle = register(lambda module, *_: seen.append(module))
    try:
        model(samples().requires_grad_()).sum().backward()
    finally:
        handle.remove()
    assert set(seen) == {model, *model}


def test_a_layer_with_a_forward_of_its_own_uses_it(calls):
    model = chained()
    model[2].forward = lambda input: torch.zeros(len(input), WIDTHS[2])
    assert torch.equal(model(samples()), model[4](torch.zeros(33, WIDTHS[2])))
    assert calls == []


def test_a_compiled_layer_runs_compiled(calls):
    model = chained()
    model[2].compile(backend="eager")
    with unchecked(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert torch.allclose(model(samples()), single(model)(samples()))
    assert calls == []


def test_rules_that_want_a_dense_gradient_get_it_from_every_layer():
    for rule in (RigL(every=2, stop=20), GSE(every=2, stop=20)):
        model = chained((12, 24, 24, 4))
        twin = single(model)
        for each in (model, twin):
            optimizer = torch.optim.SGD(each.parameters(), lr=0.1)
            attached = sk.attach(each, optimizer, copy.deepcopy(rule))
            for _ in range(9):
                torch.nn.functional.cross_entropy(each(samples()), torch.arange(33) % 4).backward()
                optimizer.step()
                optimizer.zero_grad()
            assert attached.journal.steps == [0, 2, 4, 6, 8]
        assert agree([p.detach() for p in model.parameters()], [p.detach() for p in twin.parameters()])


@pytest.mark.parametrize("shape", [(12,), (3, 4, 12), (0, 12), (2, 3, 4, 12)])
def test_other_shapes_go_through_single_layers(shape):
    model, x = chained(), torch.ones(shape)
    assert torch.equal(model(x), single(model)(x))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_types_of_input_are_converted_as_ever(dtype):
    model = chained()
    assert torch.equal(model(samples().to(dtype)), single(model)(samples().to(dtype)))


def test_weights_of_half_precision_are_computed_as_ever():
    model = chained().bfloat16()
    x = samples().bfloat16()
    assert agree(results(model, x), results(single(model), x))


def test_under_autocast_nothing_changes():
    model = chained()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model(samples()), single(model)(samples()))


def test_functional_transforms_see_every_layer():
    model = chained()
    with unchecked():
        jacobian = torch.func.jacrev(model)(samples(1))
        assert torch.allclose(jacobian, torch.func.jacrev(single(model))(samples(1)))
        rows = torch.func.vmap(model)(samples().unsqueeze(1))
    assert torch.allclose(rows.squeeze(1), model(samples()), atol=1e-5)


@pytest.mark.parametrize("width", [11, 13])
def test_a_wrong_input_gets_the_layers_sentence(width):
    model = chained()
    with pytest.raises(ValueError, match="12") as expected:
        single(model)(samples(width=width))
    with pytest.raises(ValueError, match="12") as raised:
        model(samples(width=width))
    assert str(raised.value) == str(expected.value)


def test_layers_that_do_not_fit_each_other_say_so():
    first, second = chained((12, 20, 17)), chained((12, 20, 17))
    model = ChainedSequential(first[0], second[2], second[0])
    with pytest.raises(ValueError, match="17") as raised:
        model(samples())
    with pytest.raises(ValueError, match="17") as expected:
        single(model)(samples())
    assert str(raised.value) == str(expected.value)


def test_second_derivatives_are_refused_by_name():
    model, x = chained(), samples().requires_grad_()
    (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="first derivatives only"):
        slope.sum().backward()


def test_values_that_change_before_the_backward_pass_are_noticed():
    model = chained()
    loss = model(samples()).sum()
    with torch.no_grad():
        model[2].packed_weight += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_an_output_that_ends_in_a_relu_is_protected_as_torchs_own():
    model = chained(relus=[True, True, True])
    y = model(samples())
    y += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_an_output_without_a_relu_may_be_changed_in_place():
    model = chained()
    y = model(samples())
    y *= 2
    y.sum().backward()
    twin = single(model)
    (2 * twin(samples())).sum().backward()
    assert torch.equal(model[0].packed_weight.grad, twin[0].packed_weight.grad)


def test_saved_tensors_may_be_packed_by_somebody():
    model = chained()
    with torch.autograd.graph.saved_tensors_hooks(lambda x: x.contiguous().clone(), lambda x: x):
        packed = results(model, samples())
    assert agree(packed, results(single(model), samples()))


# --- the module ------------------------------------------------------------------------------------------------------


def test_densify_gives_an_ordinary_sequence_back():
    model = chained()
    dense = sk.densify(model)
    assert type(dense) is nn.Sequential
    assert torch.allclose(dense(samples()), model(samples()), atol=1e-6)


def test_copies_slices_and_files_stay_chains(calls):
    model = chained()
    expected = model(samples())
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), model[:]):
        assert type(twin) is ChainedSequential
        assert torch.equal(twin(samples()), expected)
    assert calls == [3, 3, 3, 3]


def test_states_know_nothing_of_it():
    model = chained()
    assert model.state_dict().keys() == single(model).state_dict().keys()


def test_a_sequence_of_somebody_else_is_not_touched():
    class Printing(nn.Sequential):
        pass

    model = Printing(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 9))
    assert type(sk.sparsify(model, sk.random_topology(sk.shapes_of(model), 0.3), storage="csr")) is Printing


def test_masked_models_have_no_chains():
    model = nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 9))
    assert type(sk.sparsify(model, sk.random_topology(sk.shapes_of(model), 0.3))) is nn.Sequential


def test_a_model_that_trains_under_a_compiler_gives_the_same_numbers():
    model = chained()
    with unchecked(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = torch.compile(model, backend="aot_eager")
        assert torch.allclose(compiled(samples()), model(samples()), atol=1e-6)
