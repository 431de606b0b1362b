"""What is exported is run by the program it is for, and gives what the network gives."""

import importlib.util

import numpy as np
import pytest
import torch
from helpers import STORAGES
from kinds import Turned
from scipy.sparse import csr_array, issparse
from torch import nn

import sparsekit as sk
from sparsekit.layers import exporting, matrices, read_npz, read_safetensors
from sparsekit.layers.exporting import FORMATS, Format
from sparsekit.rules import SRSTE
from sparsekit.rules.initial import prepare_layers

needs_onnx = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="onnx, onnxscript or onnxruntime is missing: install sparsekit-lab[export]",
)
needs_transformers = pytest.mark.skipif(
    not importlib.util.find_spec("transformers"), reason="transformers is missing: install sparsekit-lab[integrations]"
)
quiet = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
FILES = {
    "onnx": pytest.param("net.onnx", marks=[needs_onnx, quiet]),
    **{name: f"net{one.suffix}" for name, one in FORMATS.items() if name not in ("onnx", "pretrained")},
}
FORMS = (*STORAGES, "condensed", "forward mask")


def network(form: str = "masked", density: float = 0.2) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain = nn.Sequential(
            nn.Conv2d(2, 6, 3, padding=1, groups=2),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(96, 20),
            nn.ReLU(),
            nn.Linear(20, 3, bias=False),
        )
    storage = form if form in STORAGES else "masked"
    model = sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), density, seed=0), storage)
    model(images(64))  # statistics of the batch norm
    if form == "forward mask":
        prepare_layers(SRSTE(stop=9), model, plain=plain)
    model.eval()
    return sk.condense(model, product="bags") if form == "condensed" else model


def images(size: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(size, 2, 4, 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", FILES.values(), ids=FILES)
def test_every_format_is_read_back_and_gives_what_the_network_gives(name, form, tmp_path):
    model = network(form)
    before, modes = {k: v.clone() for k, v in model.state_dict().items()}, [m.training for m in model.modules()]
    done = sk.export(model, tmp_path / name, example=images())
    assert done.error is not None
    assert done.error < 1e-5
    assert done.bytes == (tmp_path / name).stat().st_size
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert [m.training for m in model.modules()] == modes


class OwnForwards(nn.Module):
    """Modules that keep their own forward, whose matrices are transposed, one of several, or as they are."""

    def __init__(self):
        super().__init__()
        self.rows, self.turned = nn.GRU(4, 6, batch_first=True), Turned(6, 6)
        self.attention, self.head = nn.MultiheadAttention(6, 2, batch_first=True), nn.Linear(6, 3)

    def forward(self, x):
        states = self.rows(x)[0]
        states = self.turned(states.flatten(0, 1)).view_as(states)
        return self.head(self.attention(states, states, states, need_weights=False)[0].sum(1))


@pytest.fixture(autouse=True)
def turned_is_known(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(matrices, "_kinds", dict(matrices._kinds))
        sk.register_kind(Turned)(lambda module, name, weight: {"": weight.T})
        yield


def with_own_forwards(density: float = 0.3) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain = OwnForwards()
        return sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), density, seed=0)).eval()


@pytest.mark.parametrize("name", ["net.safetensors", "net.npz", "net.pt"])
def test_modules_that_keep_their_own_forward_are_exported_as_well(name, tmp_path):
    model, x = with_own_forwards(), torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(1))
    assert sk.export(model, tmp_path / name, example=x).error < 1e-5


def test_parameters_of_modules_that_keep_their_own_forward_are_compressed_in_their_own_layout(tmp_path):
    model = with_own_forwards()
    sk.export(model, tmp_path / "net.npz")
    found, expected = read_npz(tmp_path / "net.npz"), sk.densify(model).state_dict()
    for key in ("rows.weight_hh_l0", "turned.weight", "attention.in_proj_weight", "head.weight"):
        assert issparse(found[key])
        np.testing.assert_array_equal(found[key].toarray(), expected[key].numpy())
    three = [layer for name, layer in sk.topology_of(model).items() if "in_proj" in name]
    assert found["attention.in_proj_weight"].nnz == sum(layer.count for layer in three)


def test_a_state_for_a_sparse_network_needs_layers_of_the_package(tmp_path):
    sk.export(with_own_forwards(), tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match=r"dense must be True where modules keep their own forward, got 'rows\."):
        read_safetensors(tmp_path / "net.safetensors", dense=False)


# --- each by the program it is for, without the package's own reader ---------------------------------------------


@needs_onnx
@quiet
@pytest.mark.parametrize("form", FORMS)
def test_onnx_runtime_gives_the_same_for_other_batches_than_the_example(form, tmp_path):
    import onnxruntime

    model = network(form)
    sk.export(model, tmp_path / "net.onnx", example=images(1))
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"))
    for size in (1, 2, 7):
        x = images(size, seed=size)
        (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(found), model(x), rtol=1e-5, atol=1e-5)


@needs_onnx
@quiet
def test_torchs_own_exporter_is_told_to_leave_condensed_networks_alone(tmp_path):
    model = network("condensed")
    with pytest.raises(Exception, match=r"must have plain layers, got a condensed one\. Use sparsekit\.export"):
        torch.onnx.export(model, (images(),), str(tmp_path / "net.onnx"), dynamo=True, verbose=False)
    assert list(tmp_path.iterdir()) == []


def test_torch_runs_a_pt2_program_for_any_batch(tmp_path):
    model = network("csr")
    sk.export(model, tmp_path / "net.pt2", example=images(1))
    program = torch.export.load(tmp_path / "net.pt2").module()
    with torch.no_grad():
        for size in (1, 5):
            torch.testing.assert_close(program(images(size, seed=1)), model(images(size, seed=1)))


def test_scipy_computes_a_layer_from_the_arrays_of_an_npz_file(tmp_path):
    model = network("csr")
    sk.export(model, tmp_path / "net.npz")
    with np.load(tmp_path / "net.npz") as file:
        shape = file["4.weight.shape"]
        parts = [file[f"4.weight.{part}"] for part in ("data", "indices", "indptr")]
        bias = file["4.bias"]
    assert parts[1].dtype == parts[2].dtype == np.int32
    x = torch.randn(5, 96, generator=torch.Generator().manual_seed(0))
    found = (csr_array(tuple(parts), shape=shape) @ x.numpy().T).T + bias
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(found), model[4](x))
    assert {key for key, one in read_npz(tmp_path / "net.npz").items() if issparse(one)} == {
        "0.weight",
        "4.weight",
        "6.weight",
    }


@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants")  # which torch 2.15 says of such a file
def test_a_plain_network_computes_with_torchs_csr_matrices(tmp_path):
    model = network("masked")
    sk.export(model, tmp_path / "net.pt")
    state = torch.load(tmp_path / "net.pt", weights_only=True)
    assert state["4.weight"].layout == torch.sparse_csr
    assert state["4.weight"].col_indices().dtype == torch.int32
    plain = sk.densify(network("masked", density=0.5)).eval()
    plain.load_state_dict(state, assign=True)
    with torch.no_grad():
        torch.testing.assert_close(plain(images()), model(images()))


@pytest.mark.parametrize("storage", STORAGES)
def test_a_safetensors_file_is_a_state_for_plain_and_sparse_networks(storage, tmp_path):
    model = network("csr")
    sk.export(model, tmp_path / "net.safetensors")
    sparse, plain = network(storage, density=0.5), sk.densify(network(density=0.5)).eval()
    sparse.load_state_dict(read_safetensors(tmp_path / "net.safetensors", dense=False), strict=storage == "csr")
    plain.load_state_dict(read_safetensors(tmp_path / "net.safetensors"))
    assert sk.topology_of(sparse) == sk.topology_of(model)
    with torch.no_grad():
        torch.testing.assert_close(sparse(images()), model(images()))
        torch.testing.assert_close(plain(images()), model(images()))


def test_at_5_percent_a_safetensors_file_is_smaller_than_60_percent_of_the_saved_state(tmp_path):
    plain = nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))
    model = sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), 0.05, seed=0), "csr")
    torch.save(model.state_dict(), tmp_path / "state.pt")
    done = sk.export(model, tmp_path / "net.safetensors")
    assert done.bytes < 0.6 * (tmp_path / "state.pt").stat().st_size
    assert done.error == 0


# --- models of Hugging Face -----------------------------------------------------------------------------------------


def bert(storage: str) -> nn.Module:
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain = BertModel(BertConfig(vocab_size=30, max_position_embeddings=16, **sizes)).eval()
    with pytest.warns(sk.layers.LeftDenseWarning):
        return sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), 0.3, seed=0), storage)


@needs_transformers
@quiet
@pytest.mark.parametrize("storage", STORAGES)
def test_a_sparse_model_of_hugging_face_comes_back_from_its_folder(storage, tmp_path):
    model, words = bert(storage), torch.arange(12).view(2, 6)
    done = sk.export(model, tmp_path / "exported", format="pretrained", example=words)
    assert done.error < 1e-5
    model.save_pretrained(tmp_path / "saved")
    with torch.no_grad():
        expected = model(words).last_hidden_state
        for folder in ("exported", "saved"):
            again = type(model).from_pretrained(tmp_path / folder).eval()
            torch.testing.assert_close(again(words).last_hidden_state, expected, rtol=1e-5, atol=1e-5)


@needs_transformers
@quiet
@pytest.mark.parametrize("storage", STORAGES)
def test_a_trainer_that_saves_the_state_itself_continues_with_the_sparse_model(storage, tmp_path):
    from safetensors.torch import load_file

    model = bert(storage)
    model.save_pretrained(tmp_path, state_dict=model.state_dict())
    other = bert(storage)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=False)
    with torch.no_grad():
        words = torch.arange(12).view(2, 6)
        torch.testing.assert_close(other(words).last_hidden_state, model(words).last_hidden_state)


class Saving(nn.Sequential):
    """A network that saves its state as models of Hugging Face do."""

    def save_pretrained(self, path, state_dict=None):
        path.mkdir(exist_ok=True)
        torch.save(self.state_dict() if state_dict is None else state_dict, path / "state.pt")

    @classmethod
    def from_pretrained(cls, path):
        new = cls(nn.Linear(6, 4))
        new.load_state_dict(torch.load(path / "state.pt"))
        return new


@pytest.mark.parametrize("storage", STORAGES)
def test_save_pretrained_writes_plain_layers_and_a_given_state_as_it_is(storage, tmp_path):
    plain = Saving(nn.Linear(6, 4))
    model = sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), 0.5, seed=0), storage)
    inputs = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    model.save_pretrained(tmp_path / "saved")
    torch.testing.assert_close(Saving.from_pretrained(tmp_path / "saved")(inputs), model(inputs))
    assert sk.export(model, tmp_path / "exported", example=inputs).format == "pretrained"
    model.save_pretrained(tmp_path / "state", state_dict=model.state_dict())
    assert "0.indices" in torch.load(tmp_path / "state" / "state.pt")
    assert "save_pretrained" not in vars(sk.densify(model))


# --- mistakes --------------------------------------------------------------------------------------------------------

MISTAKES = {
    "a suffix": ("net.h5", {}, ValueError, r"the path must end with one of .*\.onnx.*, got 'net\.h5'\. Rename it"),
    "a format": ("net", {"format": "keras"}, ValueError, r"format must be one of onnx, .*, got 'keras'\. Choose"),
    "no example": ("net.pt2", {}, ValueError, r"torch-export must see the network run, got no inputs\. Give example"),
    "no save_pretrained": ("net", {}, TypeError, r"needs a network with save_pretrained, got Sequential\. Choose"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_a_sentence_and_writes_nothing(mistake, tmp_path):
    name, settings, error, message = MISTAKES[mistake]
    with pytest.raises(error, match=message):
        sk.export(network(), tmp_path / name, **settings)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(exporting.plain, "is_installed", lambda package: package != "onnxscript")
    with pytest.raises(ImportError, match=r"needs onnx and onnxscript, got no onnxscript\. Install sparsekit-lab\["):
        sk.export(network(), tmp_path / "net.onnx", example=images())


def test_what_does_not_agree_with_the_network_is_refused(monkeypatch, tmp_path):
    good = FORMATS["npz"]
    wrong = Format(suffix=".npz", write=good.write, read=lambda path, plain: lambda x: plain(x) + 1)
    monkeypatch.setitem(FORMATS, "npz", wrong)
    with pytest.raises(ValueError, match=r"must agree with the network, got outputs that differ by .*\. Choose"):
        sk.export(network(), tmp_path / "net.npz", example=images())


def test_without_a_program_to_run_it_no_error_is_claimed(monkeypatch, tmp_path):
    good = FORMATS["npz"]
    monkeypatch.setitem(FORMATS, "npz", Format(suffix=".npz", write=good.write, read=lambda path, plain: None))
    assert sk.export(network(), tmp_path / "net.npz").error is None


def test_a_file_of_others_is_no_export(tmp_path):
    from safetensors.torch import save_file

    save_file({"weight": torch.ones(2)}, tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match=r"must be a file that sparsekit\.export wrote, got another\. Use"):
        read_safetensors(tmp_path / "net.safetensors")


def test_a_network_that_is_one_layer_and_one_in_bfloat16_are_exported(tmp_path):
    plain = nn.Linear(6, 4)
    model = sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), 0.5, seed=0), "csr")
    for name in ("net.safetensors", "net.npz", "net.pt"):
        assert sk.export(model, tmp_path / name).error == 0
        assert sk.export(model.to(torch.bfloat16), tmp_path / name).error == 0
        model.float()
