"""Other people's kernels for the same sparse layer: torch's own CSR, scipy, the package sparselab, and Inductor.

Each sparse one is a module with one value per connection and no bias, used at its best. Activations are feature-major
where that is faster, and index arrays are made once.

Legend: `B` batch, `W` inputs, `O` outputs, `E` connections, `N` batch times positions.
"""

import functools
import importlib.util
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import scipy.sparse
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sparsekit.kernels import Structure, sampled_outer, spmm, spmm_transposed
from sparsekit.topology import LayerTopology


class TorchCsr(nn.Module):
    """A linear layer by `torch.sparse_csr_tensor @ x`, with `sampled_addmm` for the gradient of the values."""

    def __init__(self, topology: LayerTopology, values: Tensor):
        super().__init__()
        self.structure = Structure(topology)
        self.values = nn.Parameter(values.clone())

    def forward(self, x: Tensor) -> Tensor:
        """(B, W) -> (B, O)."""
        return _TorchCsr.apply(x.T, self.values, self.structure).T


class _TorchCsr(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x_WB: Tensor, values_E: Tensor, structure: Structure) -> Tensor:
        x_WB = x_WB.contiguous()
        ctx.save_for_backward(x_WB, values_E)
        ctx.structure = structure
        return spmm(values_E, structure, x_WB)

    @staticmethod
    @once_differentiable
    def backward(ctx, g_OB: Tensor):
        x_WB, values_E = ctx.saved_tensors
        s, g_OB = ctx.structure, g_OB.contiguous()
        dx = spmm_transposed(values_E, s, g_OB) if ctx.needs_input_grad[0] else None
        size = (s.num_rows, s.width)
        with _no_beta_warning():
            pattern = torch.sparse_csr_tensor(s.row_pointers, s.cols, values_E, size=size, check_invariants=False)
        return dx, torch.sparse.sampled_addmm(pattern, g_OB, x_WB.T, beta=0).values(), None


class ScipyCsr(nn.Module):
    """A linear layer by `scipy.sparse.csr_matrix @ x`, with the reference kernel for the gradient of the values."""

    def __init__(self, topology: LayerTopology, values: Tensor):
        super().__init__()
        self.structure = Structure(topology)
        self.values = nn.Parameter(values.clone())

    def forward(self, x: Tensor) -> Tensor:
        """(B, W) -> (B, O)."""
        return _ScipyCsr.apply(x.T, self.values, self.structure).T


class _ScipyCsr(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x_WB: Tensor, values_E: Tensor, structure: Structure) -> Tensor:
        s, x_WB = structure, x_WB.contiguous()
        arrays = values_E.detach().numpy(), s.cols.numpy(), s.row_pointers.numpy()
        matrix = scipy.sparse.csr_matrix(arrays, shape=(s.num_rows, s.width), copy=False)
        ctx.save_for_backward(x_WB)
        ctx.structure, ctx.matrix = s, matrix
        return torch.from_numpy(matrix @ x_WB.detach().numpy())

    @staticmethod
    @once_differentiable
    def backward(ctx, g_OB: Tensor):
        (x_WB,), s, g_OB = ctx.saved_tensors, ctx.structure, g_OB.contiguous()
        dx = torch.from_numpy(ctx.matrix.T @ g_OB.numpy()) if ctx.needs_input_grad[0] else None
        return dx, sampled_outer(x_WB, g_OB, s.rows, s.cols), None


class Unfolded(nn.Module):
    """A convolution 3 x 3 with padding 1, as a linear layer on the unfolded input."""

    def __init__(self, linear: nn.Module):
        super().__init__()
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, O, H, W)."""
        columns_WN = F.unfold(x, 3, padding=1).transpose(0, 1).flatten(1)
        y_ON = self.linear(columns_WN.T).T
        return y_ON.view(-1, len(x), *x.shape[2:]).transpose(0, 1)


RIVALS: Mapping[str, Callable[[LayerTopology, Tensor], nn.Module]] = {"torch CSR": TorchCsr, "scipy": ScipyCsr}


def has_sparselab() -> bool:
    """Whether the package sparselab can be imported."""
    return importlib.util.find_spec("sparselab") is not None


def sparselab_linear(topology: LayerTopology) -> nn.Module:
    """Return sparselab's linear layer of the same shape and density. It draws its connections and values itself."""
    import sparselab  # type: ignore[import-not-found]  # optional, as only this comparison needs it

    with _no_beta_warning():
        return sparselab.SparseLinear(
            topology.num_inputs, topology.num_outputs, bias=False, sparsity=1 - topology.density
        )


@contextmanager
def _no_beta_warning() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        yield


@functools.cache
def has_inductor() -> bool:
    """Whether `torch.compile` works here, because it needs a C++ compiler. We try once, with a function of one line.

    Warns:
        UserWarning: if it does not, and why.
    """
    try:
        torch.compile(lambda x: x + 1)(torch.zeros(2))
    except RuntimeError as error:
        reason = next(filter(None, map(str.strip, str(error).splitlines())), "no reason given")
        warnings.warn(f"'dense, inductor' is left out, as torch.compile does not work here: {reason}", stacklevel=2)
        return False
    return True


def compiled(module: nn.Module, x: Tensor) -> nn.Module:
    """Return a module as Inductor computes it, compiled already for an input like this one, both ways."""
    torch.compiler.reset()  # after eight compilations of the same code torch would stay with eager
    fast: Any = torch.compile(module)
    fast(x).sum().backward()
    module.zero_grad()
    return fast
