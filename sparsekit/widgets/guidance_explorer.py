"""See where guided sampling draws its candidates in a layer, and how many of the largest gradients it meets."""

import math
from collections.abc import Mapping
from typing import Any

import traitlets as t
from matplotlib.figure import Figure
from torch import Tensor

from sparsekit.analysis import Guidance, guidance, guided_draws, sampled_ratio_expected
from sparsekit.plots import plot_guidance
from sparsekit.plots.canvas import plain
from sparsekit.rewiring.capture import LayerView
from sparsekit.rules import Guided
from sparsekit.topology import LayerTopology
from sparsekit.utils.registry import get, names
from sparsekit.widgets.base import load_script
from sparsekit.widgets.rendering import StaticImage
from sparsekit.widgets.sharing import SharedWidget, read_state

SUBSETS = tuple(number / 10 for number in range(1, 41))  # draws per connection, up to four


class GuidanceExplorer(SharedWidget):
    """A layer's connections and candidates stand under a curve of recall over draws for each guide.

    The browser gets each guide's draws once, one after the other, and shows as many as you ask for. More draws only
    add candidates. Nothing is drawn twice, so moving along the curve needs no kernel.

    Args:
        views: the layers as a rule sees them after a captured backward pass.
        layer: which to show first, or None for the first.
        guide: what guides at first, one of `names("candidates")`.
        subset: draws per connection at first, a multiple of 0.1 up to 4.
        fraction: share of the connections to grow.
        seed: of the draws.
        state: a text that *Copy as code* wrote. It overrides layer, guide and subset.

    Raises:
        ValueError: if there is no such layer, guide or subset.
    """

    _esm = load_script("shared", "chart", "copy_code", "layer_rows", "guidance_explorer")
    layers = t.List(t.Dict()).tag(sync=True)
    subsets = t.List(t.Float(), default_value=list(SUBSETS)).tag(sync=True)
    choice = t.Dict().tag(sync=True)
    shares = ("choice",)

    def __init__(
        self,
        views: Mapping[str, LayerView],
        *,
        layer: str | None = None,
        guide: str = "uniform",
        subset: float = 1.0,
        fraction: float = 0.2,
        seed: int = 0,
        state: str = "",
    ):
        self._views, self._seed = dict(views), seed
        self._guides = [name for name in names("candidates") if issubclass(get("candidates", name), Guided)]
        choice = {"layer": layer or next(iter(views), ""), "guide": guide, "subset": float(subset)}
        choice = read_state(state, choice)
        self._check(choice)
        self._found = {
            (name, guide): guidance(view, get("candidates", guide)(subset=SUBSETS[-1]), fraction=fraction, seed=seed)
            for name, view in views.items()
            for guide in self._guides
        }
        self._draws = {key: self._draws_of(*key) for key in self._found}
        super().__init__(layers=[self._layer_dict(name) for name in views], choice=choice)

    def choose(self, *, layer: str | None = None, guide: str | None = None, subset: float | None = None) -> None:
        """Move the figure from code. What is None stays.

        Raises:
            ValueError: if there is no such layer, guide or subset.
        """
        changes = {"layer": layer, "guide": guide, "subset": subset}
        choice = {**self.choice, **{name: value for name, value in changes.items() if value is not None}}
        self._check(choice)
        self.choice = choice

    @property
    def sample(self) -> Guidance:
        """What the figure shows: connections, candidates, and the positions with the largest gradients."""
        layer, guide = self.choice["layer"], self.choice["guide"]
        found, old = self._found[layer, guide], self._views[layer].topology
        drawn = self._draws[layer, guide][: _num_draws(old, self.choice["subset"])].unique()
        candidates = LayerTopology(old.shape, drawn[old.position_of(drawn) < 0])
        return Guidance(
            topology=old, inputs=found.inputs, outputs=found.outputs, candidates=candidates, best=found.best
        )

    def sentence(self) -> str:
        """Say how many candidates there are and what they meet."""
        choice, sample = self.choice, self.sample
        ratio = sample.candidates.count / max(1, sample.topology.count)
        chance = sampled_ratio_expected(sample.topology.density, choice["subset"]) if sample.topology.count else 0.0
        start = f"{choice['layer']}, {choice['guide']}"
        return f"{start}: |S| / |A| = {ratio:.2f} (uniform draws: {chance:.2f}), recall {sample.recall:.0%}"

    def snapshot(self) -> StaticImage:
        """Draw the layer as it is now."""
        ax = plot_guidance(self.sample)
        ax.set_title(plain(self.sentence()), fontsize=10, loc="left", y=1.18)  # above the input probabilities
        figure = ax.get_figure(root=True)
        assert isinstance(figure, Figure)
        return StaticImage.of_figure(figure, self.sentence())

    def _check(self, choice: Mapping[str, Any]) -> None:
        for name, known in (("layer", list(self._views)), ("guide", self._guides)):
            if choice[name] not in known:
                raise ValueError(f"{name} must be one of {', '.join(known) or '(none)'}, got {choice[name]!r}")
        if choice["subset"] not in SUBSETS:
            raise ValueError(f"subset must be a multiple of 0.1 in [0.1, 4], got {choice['subset']}. Round it")

    def _draws_of(self, layer: str, guide: str) -> Tensor:
        view = self._views[layer]
        count = _num_draws(view.topology, SUBSETS[-1])
        return guided_draws(view, get("candidates", guide)(), count, seed=self._seed).cpu()

    def _layer_dict(self, name: str) -> dict:
        topology = self._views[name].topology
        return {
            "name": name,
            "rows": topology.num_outputs,
            "cols": topology.num_inputs,
            "taken": _int_bytes(topology.indices),
            "best": _int_bytes(self._found[name, self._guides[0]].best.indices),
            "num_draws": [_num_draws(topology, subset) for subset in SUBSETS],
            "guides": [self._guide_dict(name, guide) for guide in self._guides],
        }

    def _guide_dict(self, layer: str, guide: str) -> dict:
        found = self._found[layer, guide]
        return {
            "name": guide,
            "draws": _int_bytes(self._draws[layer, guide]),
            "inputs": found.inputs.tolist(),
            "outputs": found.outputs.tolist(),
        }


def _num_draws(topology: LayerTopology, subset: float) -> int:
    return math.ceil(round(10 * subset) * topology.count / 10)


def _int_bytes(positions: Tensor) -> bytes:
    return positions.cpu().numpy().astype("<i4").tobytes()
