"""The race: several rules train networks from one start, and you watch where their connections go."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import traitlets as t

from sparsekit import datasets
from sparsekit.experiments.experiment import Experiment, build_model
from sparsekit.experiments.feed import total_steps
from sparsekit.experiments.recipes import digits_small
from sparsekit.experiments.record import read_run
from sparsekit.layers import topology_of
from sparsekit.rules.base import Rule
from sparsekit.train.history import History
from sparsekit.widgets.base import load_script
from sparsekit.widgets.evolution_figure import COLOURS, race_figure
from sparsekit.widgets.evolution_film import encode_run, layers_of, only_start, steps_done
from sparsekit.widgets.evolution_view import EvolutionView, image_of, methods_of
from sparsekit.widgets.rendering import StaticImage
from sparsekit.widgets.sharing import read_state

METHODS = ("static", "set", "rigl", "gse")
INITS = ("fan-in", "dense")
LEDE = (
    "{} from one start, {:,} connections each. They differ only in where connections go when the weakest are dropped."
)
LEGEND = (
    "Each line is a connection of the chosen start. Dashes and rings lie on no path from a pixel to an output, and ink "
    "is new. A pixel is darker the more connections read it. The chart shows the mean test accuracy in per cent. "
    "Bands reach from the lowest to the highest start, and strokes on the axis are rewirings."
)


class Race(EvolutionView):
    """Several rules train the same networks side by side, with the same number of connections.

    For each seed all rules begin with the same topology and the same weights. **Start** trains all of them in the
    background. Then you can play or drag through the whole training. Runs that lie in `folder` already are shown at
    once. In code, `wait()` trains and gives the histories.

    Args:
        recipe: makes the experiments from `rule`, `seed`, `init` and `settings`. Its network must be an MLP.
        rules: names of registered rules, or a mapping from names to rules of your own.
        seeds: number of starts, or a list of seeds.
        inits: initial weights to choose from.
        folder: where runs are kept, as for `run_all`.
        root: the data folder, as in `datasets.load`.
        state: a text that *Copy as code* wrote, with initial weights, start and step.
        settings: more of the recipe, for example `density=0.05, epochs=40`.

    Raises:
        ValueError: if there is no rule, the network cannot be drawn as a graph, or the state names what is not there.

    Example:
        >>> race = Race(rules=("static", "set"), seeds=1)  # doctest: +SKIP
        >>> race.wait()["set"][0].last("test accuracy")  # doctest: +SKIP
    """

    _esm = load_script("shared", "copy_code", "evolution", "graph_layout", "small_graph", "method_chart", "race")
    seeds = t.List(t.Int()).tag(sync=True)
    inits = t.List(t.Unicode()).tag(sync=True)
    init = t.Unicode("fan-in").tag(sync=True)
    start = t.Int(0, help="which of the starts is shown, from 0").tag(sync=True)
    step = t.Int(None, allow_none=True, help="where the chart stands, or None at the newest").tag(sync=True)
    shares = ("init", "start", "step")
    lede = t.Unicode("").tag(sync=True)
    others = t.Dict(help="what a page shows with other initial weights").tag(sync=True)

    def __init__(
        self,
        recipe: Callable[..., Experiment] = digits_small,
        rules: Sequence[str] | Mapping[str, Rule] = METHODS,
        *,
        seeds: int | Sequence[int] = 3,
        inits: Sequence[str] = INITS,
        folder: str | Path = "runs",
        root: str | Path | None = None,
        state: str = "",
        **settings: Any,
    ):
        numbers = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
        by_name = dict(rules) if isinstance(rules, Mapping) else {name: name for name in rules}
        _check_some(rule=by_name, seed=numbers, init=inits)
        self.methods, self._folder, self._root = methods_of(list(by_name)), Path(folder), root
        self._experiments = {
            init: [recipe(rule=rule, seed=seed, init=init, **settings) for rule in by_name.values() for seed in numbers]
            for init in inits
        }
        first = self._experiments[inits[0]][0]
        self._data = datasets.load(first.data, root=root, **first.data_settings)
        shown = read_state(state, {"init": inits[0], "start": 0, "step": None})
        super().__init__(**self._traits_of(first), seeds=numbers, inits=list(inits), **shown)
        self._begin()
        self.observe(lambda _: self._begin(), "init")

    @property
    def histories(self) -> dict[str, list[History]]:
        """The histories so far of each method, by its name, a seed each."""
        return self._by_method(self._latest)

    def _by_method(self, latest: Sequence[History]) -> dict[str, list[History]]:
        each = len(self.seeds)
        return {method.name: list(latest[k * each : (k + 1) * each]) for k, method in enumerate(self.methods)}

    def wait(self, timeout: float | None = None) -> dict[str, list[History]]:
        """Train to the end, if nobody has done so, and return the histories of each method.

        Raises:
            TimeoutError: if it takes longer than so many seconds.
        """
        if self._run is not None:
            self._run.resume()  # nobody else would, while we wait
            self._run.wait(timeout)
        return self.histories

    def accuracies(self) -> dict[str, list[float]]:
        """Return the last test accuracy of each method's runs. Those that were not measured yet have none."""
        return self._accuracies_of(self._latest)

    def _accuracies_of(self, latest: Sequence[History]) -> dict[str, list[float]]:
        return {
            name: [rows[-1] for history in histories if (rows := _accuracies(history))]
            for name, histories in self._by_method(latest).items()
        }

    def sentence(self) -> str:
        """Say who takes part and how far they are."""
        names = ", ".join(method.label for method in self.methods)
        if not self.verdict:
            return f"A race of {names} that has not begun, with {self.count:,} connections each."
        return f"{self.verdict}. A race of {names} after {self.done:,} of {self.total:,} steps."

    def snapshot(self) -> StaticImage:
        """Draw the networks of the first start, and the chart."""
        title = self.verdict or f"{self.count:,} connections each, and one start"
        figure = race_figure(title, self.methods, self.histories, self.image, self.total)
        return StaticImage.of_figure(figure, self.sentence(), colours=COLOURS)

    @t.validate("init", "start", "step")
    def _check_shown(self, proposal: t.Bunch) -> Any:
        known: Collection[Any] = {"init": self.inits, "start": range(len(self.seeds))}.get(
            proposal.trait.name, range(self.total + 1)
        )
        if proposal.value is not None and proposal.value not in known:
            options = f"from 0 to {len(known) - 1}" if isinstance(known, range) else f"one of {', '.join(known)}"
            raise ValueError(f"{proposal.trait.name} must be {options}, got {proposal.value!r}. Choose one of them")
        return proposal.value

    def _traits_of(self, first: Experiment) -> dict[str, Any]:
        """Return what the browser knows of all runs, which one of them tells."""
        topology = self._start_of(first).journal.initial
        return {
            "rules": [method.as_dict() for method in self.methods],
            "layers": layers_of(topology, self._data),
            "image": image_of(self._data),
            "total": total_steps(first, self._data),
            "count": topology.count,
            "legend": LEGEND,
            "lede": LEDE.format(_number(len(self.methods)), topology.count),
        }

    def _begin(self) -> None:
        """Show the runs with these initial weights: as they are saved, or as they will begin."""
        if self._run is not None and self._run.state not in ("ready", "done", "stopped", "failed"):
            self._run.end()
        experiments = self._experiments[self.init]
        self._run = None
        self._latest = [self._saved(experiment) or self._start_of(experiment) for experiment in experiments]
        finished = all(steps_done(history) >= self.total for history in self._latest)
        if not finished:
            self._latest = [self._start_of(experiment) for experiment in experiments]
            self._train(experiments, self._folder, self.total, root=self._root)
        self._show("done" if finished else "ready")

    def _saved(self, experiment: Experiment) -> History | None:
        folder = self._folder / experiment.folder_name
        return read_run(folder) if (folder / "checkpoint.pt").exists() else None

    def _start_of(self, experiment: Experiment) -> History:
        data = self._data
        model = build_model(experiment, input_shape=data.shape, num_classes=data.num_classes, data=data)
        return only_start(topology_of(model))

    def complete(self) -> None:
        """Hand over the finished runs with all initial weights, and begin with the first. Nobody trains in a page."""
        self.others = {init: shown for init in self.inits if (shown := self._finished(init)) is not None}
        self.init = next(iter(self.others), self.init)

    def _finished(self, init: str) -> dict[str, Any] | None:
        """Return what the browser shows of runs with these initial weights, or None if some are not finished."""
        saved = [self._saved(experiment) for experiment in self._experiments[init]]
        histories = [history for history in saved if history is not None and steps_done(history) >= self.total]
        if len(histories) < len(saved):
            return None
        return {
            "film": self._film_of(histories),
            "done": self.total,
            "state": "done",
            "verdict": self._verdict(histories),
        }

    def _film_of(self, histories: Sequence[History]) -> list[dict[str, Any]]:
        each = len(self.seeds)
        return [encode_run(history, rule=k // each, seed=k % each) for k, history in enumerate(histories)]

    def _show(self, state: str, problem: str = "") -> int:
        film = self._film_of(self._latest)
        with self.hold_sync():
            self.done = min(map(steps_done, self._latest))
            self.film, self.state, self.problem, self.verdict = film, state, problem, self._verdict(self._latest)
        return sum(len(run["positions"]) for run in film)

    def _verdict(self, latest: Sequence[History]) -> str:
        """Say in one sentence what the race has shown so far, with its numbers."""
        means = {name: mean(values) for name, values in self._accuracies_of(latest).items() if values}
        if len(means) < len(self.methods):
            return ""
        digits = "digits" in self._experiments[self.init][0].data
        unit = "of 100 digits" if digits else "of 100 examples"
        moving = [100 * value for name, value in means.items() if name != "static"]
        if "static" not in means or not moving:
            return f"Same budget, same start: {_range(list(means.values()), 100)} {unit} are right"
        fixed = f"{100 * means['static']:.0f}"
        return f"Same budget: connections that may move get {_range(moving)} {unit} right, fixed ones {fixed}"


def _range(values: Sequence[float], scale: float = 1) -> str:
    low, high = (f"{scale * value:.0f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _check_some(**several: Collection) -> None:
    for name, entries in several.items():
        if not entries:
            raise ValueError(f"a race must have a {name} at least, got none. Name one, or leave it out for the default")


def _accuracies(history: History) -> list[float]:
    return [row.value for row in history.rows if row.name == "test accuracy"]


def _number(count: int) -> str:
    words = {1: "One network", 2: "Two networks", 3: "Three networks", 4: "Four networks", 5: "Five networks"}
    return words.get(count, f"{count} networks")
