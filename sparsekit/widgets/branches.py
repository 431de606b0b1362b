"""Go back to a rewiring of a recorded run, change something, and compare both futures."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import traitlets as t

from sparsekit import datasets
from sparsekit.datasets import Dataset
from sparsekit.experiments.branch import begin_branch, branched_experiment, first_step_after, folder_of, named_like
from sparsekit.experiments.feed import total_steps
from sparsekit.experiments.record import read_experiment, read_run
from sparsekit.plots.colours import Style
from sparsekit.rules import Rule
from sparsekit.rules.switched import last_of
from sparsekit.schedules import Schedule
from sparsekit.train.history import History
from sparsekit.widgets.base import load_script
from sparsekit.widgets.evolution_figure import COLOURS, race_figure
from sparsekit.widgets.evolution_film import encode_run, layers_of, steps_done
from sparsekit.widgets.evolution_view import LABELS, EvolutionView, Method, image_of, methods_of
from sparsekit.widgets.rendering import StaticImage
from sparsekit.widgets.sharing import read_state

MOST = 4  # branches in one chart, beyond which their labels would not fit
CHANGES = ("rule", "drop_fraction", "density")
CHOICE = {"step": 0, **dict.fromkeys(CHANGES, ""), "chosen": 0, "branches": ""}
DASH = "7 3"  # of branches, since their colour is that of their rule, as the original's
LEDE = (
    "Drag in the chart to the moment that you want to go back to. Choose what changes from there on, and continue. The "
    "original stays as it is."
)
LEGEND = (
    "Both networks stand in the same order. Ink marks what only one of both has, and dashes lie on no path from a "
    "pixel to an output. The chart shows the test accuracy in per cent, with a stroke for each rewiring. Below it, a "
    "line shows how much a branch has in common with the original, of all connections that either has (the Jaccard "
    "index). Dots show the churn, which is the share of connections that are new after a rewiring."
)


class Branches(EvolutionView):
    """A recorded run, in which you go back to a rewiring and continue with another rule, drop fraction or density.

    Train the run by `run(..., keep_states=True)`, so that a branch trains only what comes after the rewiring. Every
    branch is a run with a folder of its own.

    Args:
        parent: the run's folder, or the history that `run` returned.
        rewiring: where to stand at first. None stands at the end.
        rules: names of registered rules to choose from.
        drop_fractions: to choose from.
        densities: to choose from. None offers half, double and four times that of the run.
        folder: where branches are kept. None takes the folder that the run lies in.
        root: the data folder, as in `datasets.load`.
        state: a text that *Copy as code* wrote. Branches that it names are shown if they lie in the folder. A branch
            by a rule or schedule of your own has no name, so the text leaves it out.

    Raises:
        ValueError: if the run is not finished, its network cannot be drawn as a graph, there is no such rewiring, or
            the state is of another widget.

    Example:
        >>> history = run(digits_small(), "runs", keep_states=True)  # doctest: +SKIP
        >>> view = Branches(history)  # doctest: +SKIP
        >>> branched = view.continue_from(12, rule="set").wait()  # doctest: +SKIP
    """

    _esm = load_script("shared", "copy_code", "evolution", "graph_layout", "small_graph", "method_chart", "branches")
    arms = t.List(t.Dict()).tag(sync=True)
    options = t.Dict().tag(sync=True)
    choice = t.Dict(help="the step, what the lists say, the chosen branch, and all branches").tag(sync=True)
    shares = ("choice",)
    lede = t.Unicode(LEDE).tag(sync=True)

    def __init__(
        self,
        parent: str | Path | History,
        *,
        rewiring: int | None = None,
        rules: Sequence[str] = ("static", "set", "rigl", "gse"),
        drop_fractions: Sequence[float] = (0.05, 0.1, 0.5, 0.9),
        densities: Sequence[float] | None = None,
        folder: str | Path | None = None,
        root: str | Path | None = None,
        state: str = "",
    ):
        self._parent = folder_of(parent)
        self._folder, self._root = self._parent.parent if folder is None else Path(folder), root
        self.original, experiment = read_run(self._parent), read_experiment(self._parent)
        data = datasets.load(experiment.data, root=root, **experiment.data_settings)
        self._rule, total = last_of(experiment.rule), total_steps(experiment, data)
        _check_finished(self.original, total)
        self._name, self._past = named_like(self._rule, [*rules, *LABELS], total), []
        self._arms, self._written = [_arm(self._name, "", {}, 0, self._rule)], [""]
        choice = self._first_choice(state, rewiring, total)
        missing = self._restore(choice["branches"])
        super().__init__(
            **self._traits_of(data),
            total=total,
            legend=LEGEND,
            options=self._options(experiment.density, rules, drop_fractions, densities),
            choice=choice,
        )
        self._show("ready", missing)

    @property
    def branches(self) -> list[History]:
        """The branches that the chart shows, the last one as far as it is."""
        return [*self._past, *self._latest]

    def continue_from(
        self,
        rewiring: int,
        *,
        rule: str | Rule | None = None,
        drop_fraction: float | Schedule | None = None,
        density: float | None = None,
    ) -> "Branches":
        """Train a branch in the background, as the button does. See `branch` for the arguments and errors.

        Raises:
            ValueError: if another branch is being trained.
        """
        if self._run is not None and self._run.state in ("running", "paused"):
            raise ValueError("one branch must end before the next begins, got one in training. Call wait() first")
        changes = {"rule": rule, "drop_fraction": drop_fraction, "density": density}
        branched = begin_branch(self._parent, self._folder, rewiring, changes, self._root)
        self._past, self._latest = self.branches[-(MOST - 1) :], []
        self._add_arm(rewiring, changes, last_of(branched.rule), self.total)
        self._train([branched], self._folder, self.total, root=self._root).start()
        return self

    def wait(self, timeout: float | None = None) -> History:
        """Wait for the branch that is being trained, and return its history.

        Raises:
            ValueError: if there is no branch.
            TimeoutError: if it takes longer than so many seconds.
        """
        if self._run is None:
            raise ValueError("there must be a branch to wait for, got none. Call continue_from first")
        self._run.resume()  # nobody else would, while we wait
        self._run.wait(timeout)
        return self.branches[-1]

    def sentence(self) -> str:
        """Say what the last branch came to."""
        original = f"A run of {self._arms[0]['label']} with {len(self.original.journal)} rewirings"
        return f"{self.verdict}. {original}." if self.verdict else f"{original}, to go back to."

    def snapshot(self) -> StaticImage:
        """Draw both networks at their end, and the chart."""
        shown = [self._arms[0], *self._arms[1:][-1:]] if self.branches else self._arms[:1]
        histories = [self.original, *self.branches[-1:]]
        methods = [Method(arm["short"], "", Style(colour=arm["colour"], marker=arm["marker"])) for arm in shown]
        methods[1:] = [replace(method, name=f"{method.name} ") for method in methods[1:]]  # its rule may be the same
        by_name = {method.name: [history] for method, history in zip(methods, histories, strict=True)}
        figure = race_figure(self.verdict or self.sentence().rstrip("."), methods, by_name, self.image, self.total)
        return StaticImage.of_figure(figure, self.sentence(), colours=COLOURS)

    def _first_choice(self, state: str, rewiring: int | None, total: int) -> dict[str, Any]:
        """Return where the view stands at first, and what its lists say."""
        at = total if rewiring is None else first_step_after(self.original.journal, rewiring)
        choice = read_state(state, CHOICE | {"step": at})
        if not 0 <= choice["step"] <= total:
            raise ValueError(f"step must lie in [0, {total}], got {choice['step']}. Copy the state again")
        return choice

    def _traits_of(self, data: Dataset) -> dict[str, Any]:
        topology = self.original.journal.initial
        return {"layers": layers_of(topology, data), "image": image_of(data), "count": topology.count}

    def _options(
        self, now: float, rules: Sequence[str], fractions: Sequence[float], densities: Sequence[float] | None
    ) -> dict[str, Any]:
        """Return what is as it is, and what the lists beside the button offer."""
        shares = [now / 2, 2 * now, 4 * now] if densities is None else densities
        return {
            "rule": self._arms[0]["label"],
            "rule_name": self._name,
            "fraction": _fraction_of(self._rule),
            "density": now,
            "rules": list(rules),
            "labels": [method.label for method in methods_of(list(rules))],
            "fractions": list(fractions),
            "densities": [density for density in shares if density <= 1],
        }

    def _add_arm(self, rewiring: int, changes: Mapping[str, Any], after: Rule, total: int) -> None:
        """Name a branch, and write down what makes it. The oldest one goes if there are too many."""
        rule, at = changes["rule"], first_step_after(self.original.journal, rewiring)
        name = rule if isinstance(rule, str) else self._name if rule is None else named_like(rule, LABELS, total)
        arm = _arm(name, f" from rewiring {rewiring}", changes, at, after)
        self._arms = [self._arms[0], *self._arms[1:][-(MOST - 1) :], arm]
        self._written = ["", *self._written[1:][-(MOST - 1) :], _written(rewiring, changes)]

    def _restore(self, text: str) -> str:
        """Show the branches that a state names, and say which of them are not there."""
        missing = []
        for written in filter(None, text.split(";")):
            rewiring, changes = _read(written)
            experiment = branched_experiment(self._parent, rewiring, changes, self._root)
            folder, total = self._folder / experiment.folder_name, steps_done(self.original)
            if not (folder / "checkpoint.pt").exists() or steps_done(history := read_run(folder)) < total:
                missing.append(str(rewiring))
                continue
            self._past = [*self._past[-(MOST - 1) :], history]
            self._add_arm(rewiring, changes, last_of(experiment.rule), total)
        where = f"from rewiring {', '.join(missing)} is not trained in {self._folder}"
        return f"The branch {where}. Continue from there" if missing else ""

    def _obey(self, content: Mapping[str, Any]) -> None:
        if content.get("press") != "continue":
            super()._obey(content)
            return
        changes = {key: content.get(key) for key in ("rule", "drop_fraction", "density")}
        try:
            self.continue_from(int(content.get("rewiring", 0)), **changes)
        except (ValueError, TypeError, OSError) as error:  # the reader sees it beside the button
            self.problem = str(error)

    def _show(self, state: str, problem: str = "") -> int:
        histories = [self.original, *self.branches]
        film = [encode_run(history, rule=k, seed=0) for k, history in enumerate(histories)]
        with self.hold_sync():
            self.arms = self._arms[: len(histories)]
            self.choice = {**self.choice, "branches": ";".join(filter(None, self._written[: len(histories)]))}
            self.done = steps_done(histories[-1])
            self.film, self.state, self.problem, self.verdict = film, state, problem, self._verdict()
        return sum(len(run["positions"]) for run in film)

    def _verdict(self) -> str:
        """Say how the last branch compares with the original, once it is trained."""
        if not self.branches or steps_done(self.branches[-1]) < self.total:
            return ""
        now, before = (100 * history.last("test accuracy") for history in (self.branches[-1], self.original))
        one, other = (history.journal[-1] for history in (self.original, self.branches[-1]))
        common = (one & other).count / max(1, (one | other).count)
        label = self._arms[-1]["label"]
        return f"{label}: {now:.1f} % instead of {before:.1f} %, with {100 * common:.0f} % of the connections in common"


def _written(rewiring: int, changes: Mapping[str, Any]) -> str:
    """Write a branch as `rewiring:rule:drop fraction:density`, or nothing if a change has no name."""
    values = [changes[name] for name in CHANGES]
    if any(isinstance(value, Rule | Schedule) for value in values):
        return ""
    return ":".join(["" if value is None else str(value) for value in (rewiring, *values)])


def _read(written: str) -> tuple[int, dict[str, Any]]:
    """Read what `_written` wrote."""
    try:
        rewiring, rule, fraction, density = written.split(":")
        numbers = [float(text) if text else None for text in (fraction, density)]
        return int(rewiring), dict(zip(CHANGES, (rule or None, *numbers), strict=True))
    except ValueError:
        raise ValueError(
            f"a branch must be written as rewiring:rule:drop fraction:density, got {written!r}. Copy the state again"
        ) from None


def _check_finished(history: History, total: int) -> None:
    if steps_done(history) < total:
        raise ValueError(
            f"a run must be finished to branch from, got {steps_done(history)} of {total} steps. Call run again, which "
            "continues it"
        )


def _arm(name: str, since: str, changes: Mapping[str, Any], at: int, rule: Rule) -> dict[str, Any]:
    """Return how a run is drawn and named, by its rule and by what changed."""
    (method,) = methods_of([name])
    fraction, density = changes.get("drop_fraction"), changes.get("density")
    drop = [] if fraction is None else [f"drop {fraction:g}" if isinstance(fraction, float | int) else "another drop"]
    size = [] if density is None else [f"{100 * density:g} %"]
    label = ", ".join([method.label, *drop, *size])
    words = method.words if not since or name != "static" else "Keeps the connections of that moment."
    looks = {"label": label + since, "short": label.replace(",", ""), "words": words, "from": at}
    return {**method.as_dict(), **looks, "dash": DASH if since else ""}


def _fraction_of(rule: Rule) -> str:
    """Return the drop fraction at the first step as a text."""
    schedule = getattr(rule, "drop_fraction", None)
    return f"{schedule.lasting(getattr(rule, 'stop', None) or 1)(0):g}" if isinstance(schedule, Schedule) else "none"
