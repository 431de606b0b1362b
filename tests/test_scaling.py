"""The law of sparse networks' losses: planted numbers come back, and what cannot be told apart is refused."""

from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from sparsekit import plots
from sparsekit.analysis import ScalingLaw, fit_scaling_law

SIZES, DENSITIES = (2_000, 6_000, 20_000, 60_000), (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
PLANTED = [
    ScalingLaw(0.3, 60.0, 0.5, 0.4, 0.5, 1.0),
    ScalingLaw(0.5, 20.0, 0.35, 0.2, 0.3, 1.5),
]


def measured(law: ScalingLaw, noise: float = 0.0) -> pd.DataFrame:
    """Return 24 networks whose losses follow the law, but for a relative error."""
    rng = np.random.default_rng(1)
    rows = [(size * density, density) for size in SIZES for density in DENSITIES]
    losses = [law.loss(*row) * (1 + noise * rng.standard_normal()) for row in rows]
    return pd.DataFrame(rows, columns=["connections", "density"]).assign(loss=losses)


@pytest.mark.parametrize("law", PLANTED)
def test_planted_numbers_come_back_from_24_networks(law):
    fit, error = fit_scaling_law(measured(law), starts=12)
    assert error < 1e-6
    assert asdict(fit) == pytest.approx(asdict(law), rel=1e-3)


def test_planted_powers_come_back_within_five_per_cent_where_losses_are_off_by_a_thousandth():
    law = PLANTED[0]
    fit, error = fit_scaling_law(measured(law, noise=1e-3), starts=12)
    assert 2e-4 < error < 2e-3
    assert asdict(fit) == pytest.approx(asdict(law), rel=0.05)


def test_a_law_is_what_its_formula_says():
    law = ScalingLaw(0.1, 8.0, 0.5, 2.0, 3.0, 1.0)
    assert law.loss(4, 0.5) == pytest.approx(0.1 + 8.0 * (0.25 + 3.0 * 0.5) / 2)
    assert law.loss(4, 1.0) == pytest.approx(0.1 + 8.0 / 2)


def test_the_best_density_lies_where_emptiness_begins_to_cost_more_than_it_gives():
    assert ScalingLaw(0.0, 1.0, 1.0, 1.0, 0.0, 1.0).best_density() == pytest.approx(0.01)  # emptiness costs nothing
    assert ScalingLaw(0.0, 1.0, 1.0, 0.0, 1.0, 1.0).best_density() == pytest.approx(1.0)  # and gives nothing
    assert ScalingLaw(0.0, 1.0, 1.0, 2.0, 1.0, 2.0).best_density() == pytest.approx(0.5)  # s² + (1 - s)²


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda runs: runs.drop(columns="loss"), "got no loss"),
        (lambda runs: runs.assign(loss=0.0), "losses must be finite and above zero"),
        (lambda runs: runs.assign(loss=np.nan), "losses must be finite and above zero"),
        (lambda runs: runs.assign(density=1.5), r"densities in \(0, 1\]"),
        (lambda runs: runs.head(6), "got 6 runs"),
        (lambda runs: runs[runs["density"] == 1.0], "got 4 runs, 1 densities"),
    ],
)
def test_runs_that_fit_no_law_are_refused(change, said):
    with pytest.raises(ValueError, match=said):
        fit_scaling_law(change(measured(PLANTED[0])))


def test_the_figure_has_a_line_for_each_density_that_goes_through_its_networks():
    law = PLANTED[0]
    ax = plots.plot_scaling(measured(law), law)
    lines = [line for line in ax.get_lines() if str(line.get_label()).startswith("density")]
    assert len(lines) == len(DENSITIES)
    for line, density in zip(lines, DENSITIES, strict=True):
        xs, ys = map(np.asarray, line.get_data())
        assert (xs[0], ys[0]) == pytest.approx((SIZES[0] * density, law.loss(SIZES[0] * density, density)))
    with pytest.raises(ValueError, match="at least one run"):
        plots.plot_scaling(measured(law).head(0), law)
