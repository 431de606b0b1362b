"""How a loss bends around a network: the Hessian of its existing connections, through its products with vectors.

The Hessian of a sparse network is that of the dense one with only the rows and columns of the existing parameters. It
is never formed. Vectors have one number per existing parameter, so products stay within the topology by themselves.
Networks are in evaluation mode, so dropout is off and batch-norm statistics stay as they are.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparsekit.analysis.landscape.weight_vectors import listed, plain_copy, support_of
from sparsekit.evaluation.losses import loss_of, shares
from sparsekit.evaluation.measuring import Batches, LossFn
from sparsekit.utils.seeds import generator
from sparsekit.utils.substitutes import twice_differentiable


class Hessian:
    """The second derivatives of the mean loss by all existing trainable parameters: `Hessian(...) @ vector`.

    `H v = d/dw (g . v)`, with the gradient `g`, takes two backward passes. The model stays as it is.

    Args:
        model: plain or sparse, in any storage.
        batches: inputs and labels, on the model's device.
        loss_fn: `(outputs, labels) -> mean loss`.

    Attributes:
        size: number of parameters, and so of rows.

    Raises:
        ValueError: if there is no batch, no trainable parameter, or an operation has no second derivative.

    Example:
        >>> net = nn.Linear(2, 1, bias=False)
        >>> data = [(torch.tensor([[3.0, 1.0]]), torch.zeros(1, 1))]
        >>> (Hessian(net, data, nn.functional.mse_loss) @ torch.tensor([1.0, 0.0])).tolist()
        [18.0, 6.0]

    Source: Pearlmutter (1994), Fast exact multiplication by the Hessian, Neural Computation 6.
    """

    def __init__(self, model: nn.Module, batches: Batches, loss_fn: LossFn = nn.functional.cross_entropy):
        self._plain, self._batches, self._loss_fn = plain_copy(model), listed(batches), loss_fn
        self._weights = [weight for weight in self._plain.parameters() if weight.requires_grad]
        trained = torch.cat([torch.full_like(w, w.requires_grad).flatten() for w in self._plain.parameters()]) > 0
        self._positions = support_of(model)[trained].nonzero().flatten()
        with torch.no_grad():
            labels = [labels for _, labels in self._batches]
            self._shares = shares(loss_fn, labels, lambda: self._plain(self._batches[0][0]))
        self.size = len(self._positions)
        if self.size == 0:
            raise ValueError("a Hessian needs at least one parameter that is trained, got none. See requires_grad")

    def __matmul__(self, vector: Float[Tensor, " e"]) -> Float[Tensor, " e"]:
        parts = self._unpacked(vector)
        total = torch.zeros_like(vector)
        for share, (inputs, labels) in zip(self._shares, self._batches, strict=True):
            if share:
                total += share * self._product(inputs, labels, parts)
        return total

    def random_signs(self, draws: torch.Generator) -> Float[Tensor, " e"]:
        """Return a vector of random signs, of length 1, on the device of the weights."""
        signs = torch.randint(2, (self.size,), generator=draws) * 2 - 1
        return signs.to(self._weights[0]) / self.size**0.5

    def _unpacked(self, vector: Tensor) -> list[Tensor]:
        sizes = [weight.numel() for weight in self._weights]
        flat = vector.new_zeros(sum(sizes)).index_copy(0, self._positions, vector)
        return [part.view_as(weight) for part, weight in zip(flat.split(sizes), self._weights, strict=True)]

    def _product(self, inputs: Tensor, labels: Tensor, parts: list[Tensor]) -> Tensor:
        with torch.enable_grad(), twice_differentiable():
            loss = loss_of(self._loss_fn, self._plain(inputs), labels)
            grads = torch.autograd.grad(loss, self._weights, create_graph=True, materialize_grads=True)
            slope = torch.stack([(grad * part).sum() for grad, part in zip(grads, parts, strict=True)]).sum()
            if not slope.requires_grad:  # the loss is a straight line
                return self._weights[0].new_zeros(self.size)
            bent = torch.autograd.grad(slope, self._weights, materialize_grads=True)
        return torch.cat([part.flatten() for part in bent])[self._positions]


@dataclass(frozen=True, kw_only=True)
class Eigenvalue:
    """An estimate of an eigenvalue of the Hessian, and how accurate it is.

    Args:
        value: the estimate, never above the true largest eigenvalue.
        residual: an eigenvalue lies within this distance of `value`.
        products: Hessian-vector products it took.
        is_converged: whether the residual fell below the tolerance before the products ran out.
    """

    value: float
    residual: float
    products: int
    is_converged: bool

    def __float__(self) -> float:
        return self.value


def top_eigenvalue(
    model: nn.Module,
    batches: Batches,
    loss_fn: LossFn = nn.functional.cross_entropy,
    *,
    tolerance: float = 1e-3,
    most: int = 50,
    seed: int = 0,
) -> Eigenvalue:
    """Return the largest eigenvalue of the Hessian on the network's existing parameters: its sharpest curvature.

    We use Lanczos' method. Power iteration takes the same products, converges later, and finds the eigenvalue of the
    largest magnitude, which may be a negative one. A smaller support never has a larger top eigenvalue.

    Args:
        model: plain or sparse, in any storage. It stays as it is.
        batches: inputs and labels, usually a few hundred samples of the training data.
        loss_fn: `(outputs, labels) -> mean loss`.
        tolerance: stop when the residual is at most this share of the value.
        most: Hessian-vector products after which to stop anyway.
        seed: of the first vector.

    Raises:
        ValueError: if there is no batch, no trainable parameter, or fewer than one product.

    Example:
        >>> net = nn.Linear(2, 1, bias=False)
        >>> data = [(torch.tensor([[3.0, 1.0]]), torch.zeros(1, 1))]
        >>> round(top_eigenvalue(net, data, nn.functional.mse_loss).value, 3)
        20.0

    Source: Lanczos (1950), An iteration method for the solution of the eigenvalue problem.
    """
    _check_count("most", most)
    hessian = Hessian(model, batches, loss_fn)
    estimate = Eigenvalue(value=0.0, residual=float("inf"), products=0, is_converged=False)
    for projected, rest in _lanczos(hessian, hessian.random_signs(generator(seed, "curvature")), most):
        values, vectors = torch.linalg.eigh(projected)
        value, residual = float(values[-1]), abs(rest * float(vectors[-1, -1]))
        is_converged = residual <= tolerance * abs(value) or len(projected) == hessian.size
        estimate = Eigenvalue(value=value, residual=residual, products=len(projected), is_converged=is_converged)
        if is_converged:
            break
    return estimate


@dataclass(frozen=True, kw_only=True)
class Trace:
    """An estimate of the sum of all eigenvalues.

    Args:
        mean: over the probes.
        error: its standard error.
        probes: how many.
    """

    mean: float
    error: float
    probes: int


def hessian_trace(
    model: nn.Module,
    batches: Batches,
    loss_fn: LossFn = nn.functional.cross_entropy,
    *,
    probes: int = 50,
    seed: int = 0,
) -> Trace:
    """Return the trace of the Hessian on the network's existing parameters: the sum of all curvatures.

    It is the mean of `v . H v` over vectors of random signs (Hutchinson's estimator).

    Args:
        model: plain or sparse, in any storage. It stays as it is.
        batches: inputs and labels.
        loss_fn: `(outputs, labels) -> mean loss`.
        probes: how many vectors, 2 or more. 50 to 100 are usual.
        seed: of the vectors.

    Raises:
        ValueError: if there is no batch, no trainable parameter, or fewer than two probes.

    Example:
        >>> net = nn.Linear(1, 1, bias=False)
        >>> hessian_trace(net, [(torch.tensor([[3.0]]), torch.zeros(1, 1))], nn.functional.mse_loss, probes=2)
        Trace(mean=18.0, error=0.0, probes=2)

    Source: Hutchinson (1990), A stochastic estimator of the trace of the influence matrix.
    """
    _check_count("probes", probes, least=2)
    hessian = Hessian(model, batches, loss_fn)
    vectors = (hessian.random_signs(generator(seed, "probe", probe)) for probe in range(probes))
    traces = torch.stack([hessian.size * (vector @ (hessian @ vector)) for vector in vectors]).double()
    return Trace(mean=float(traces.mean()), error=float(traces.std()) / probes**0.5, probes=probes)


def hessian_spectrum(
    model: nn.Module,
    batches: Batches,
    loss_fn: LossFn = nn.functional.cross_entropy,
    *,
    probes: int = 5,
    steps: int = 30,
    seed: int = 0,
) -> pd.DataFrame:
    """Return how the eigenvalues of the Hessian are spread, as points with weights that add up to 1.

    The method is stochastic Lanczos quadrature. Each probe gives `steps` points whose weights match the first
    `2 * steps` moments as that probe measures them. The weighted sum of the points, times the number of parameters, is
    the trace.

    Args:
        model: plain or sparse, in any storage. It stays as it is.
        batches: inputs and labels.
        loss_fn: `(outputs, labels) -> mean loss`.
        probes: how many random first vectors.
        steps: Hessian-vector products of each.
        seed: of the vectors.

    Returns:
        The columns `probe`, `eigenvalue` and `weight` (share of all eigenvalues near it).

    Raises:
        ValueError: if there is no batch, no trainable parameter, or fewer than one probe or step.

    Example:
        >>> net = nn.Linear(2, 1, bias=False)
        >>> data = [(torch.tensor([[3.0, 0.0], [0.0, 1.0]]), torch.zeros(2, 1))]
        >>> spectrum = hessian_spectrum(net, data, nn.functional.mse_loss, probes=1)
        >>> spectrum.round(3)[["eigenvalue", "weight"]].to_numpy().tolist()
        [[1.0, 0.5], [9.0, 0.5]]

    Source: Ghorbani et al. (2019), An investigation into neural net optimization via Hessian eigenvalue density,
        arXiv:1901.10159, section 2.
    """
    _check_count("probes", probes)
    _check_count("steps", steps)
    hessian = Hessian(model, batches, loss_fn)
    tables = []
    for probe in range(probes):
        *_, (projected, _) = _lanczos(hessian, hessian.random_signs(generator(seed, "probe", probe)), steps)
        values, vectors = torch.linalg.eigh(projected)
        weights = vectors[0].square() / probes
        tables.append(pd.DataFrame({"probe": probe, "eigenvalue": values.numpy(), "weight": weights.numpy()}))
    return pd.concat(tables, ignore_index=True)


def _lanczos(hessian: Hessian, start: Tensor, most: int) -> Iterator[tuple[Tensor, float]]:
    """Yield after each product the Hessian projected on the vectors so far, and how much of it leads out of them.

    Each new vector is made orthogonal to all before it twice, because once is not enough in single precision.
    """
    basis = start[None] / start.norm()
    diagonal: list[float] = []
    off_diagonal: list[float] = []
    while len(diagonal) < min(most, hessian.size):
        product = hessian @ basis[-1]
        diagonal.append(float(product @ basis[-1]))
        for _ in range(2):
            product = product - basis.T @ (basis @ product)
        rest = float(product.norm())
        yield _tridiagonal(diagonal, off_diagonal), rest
        # A rest of rounding is no direction, because the vectors so far hold all that the start can reach.
        if rest <= 1e-6 * max(map(abs, diagonal), default=0.0) or rest == 0:
            return
        off_diagonal.append(rest)
        basis = torch.cat([basis, product[None] / rest])


def _tridiagonal(diagonal: list[float], off_diagonal: list[float]) -> Float[Tensor, "k k"]:
    middle, side = torch.tensor(diagonal, dtype=torch.float64), torch.tensor(off_diagonal, dtype=torch.float64)
    return middle.diag() + side.diag(1) + side.diag(-1) if len(off_diagonal) else middle.diag()


def _check_count(name: str, count: int, *, least: int = 1) -> None:
    if count < least:
        raise ValueError(f"{name} must be at least {least}, got {count}")
