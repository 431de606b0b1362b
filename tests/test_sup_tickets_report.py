"""What a superposition is worth: its rivals, verdicts over seeds, chance level, and new connections that have grown."""

import math
from dataclasses import replace

import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from sparsekit import cli
from sparsekit.cli.superpositions import Context, collect_and_show, show_gains
from sparsekit.experiments.recipes import digits_mlp, mnist1d_mlp
from sparsekit.experiments.sup_tickets import (
    Split,
    assess_superposition,
    grown_magnitudes,
    has_learned,
    plan,
    rivals_of,
    sup_tickets_of,
)
from sparsekit.rules import RigL, Static
from sparsekit.tickets import Ticket
from sparsekit.topology import LayerTopology, Topology


def ticket(positions: list[int], values: list[float]) -> Ticket:
    layer = LayerTopology((2, 4), torch.tensor(positions))
    return Ticket(topology=Topology({"fc": layer}), values={"fc": torch.tensor(values)}, rest={}, step=0)


def table(superposed: float, tickets: list[float], plain: float | None = None) -> pd.DataFrame:
    rows = {f"ticket {number}": accuracy for number, accuracy in enumerate(tickets)}
    rows |= {"superposed": superposed, "mean of tickets": sum(tickets) / len(tickets)}
    rows |= {} if plain is None else {"superposed, no exploration": plain}
    return pd.DataFrame({"accuracy": rows})


# --- settings by name ---------------------------------------------------------------------------------------------


def test_mnist1d_has_its_own_setting_and_others_have_the_usual_one():
    sup = sup_tickets_of("mnist1d-mlp", seed=4)
    settings = {"rule_settings": {"every": 100}, "data_settings": {"num_test": 10_000}}
    assert sup.experiment == mnist1d_mlp(rule="rigl", density=0.05, epochs=130, seed=4, **settings)
    assert (sup.split, sup.cycle_epochs, sup.low, sup.high, sup.explore) == (Split(100, 5), 6, 0.01, 0.1, 0.5)
    assert sup_tickets_of("mnist1d", seed=4) == sup
    rate = plan(sup, 4000)[0].learning_rate
    steps = [epoch * 63 for epoch in (0, 50, 75, 100, 103)]
    assert [rate(step) for step in steps] == pytest.approx([0.1, 0.01, 0.001, 0.01, 0.1])
    usual = sup_tickets_of("digits-mlp")
    assert usual.experiment == digits_mlp(rule="rigl", density=0.05, epochs=60)
    assert (usual.split, usual.low, usual.high) == (Split(48, 3), None, None)


def test_what_you_choose_takes_the_place_of_the_setting():
    chosen = {"density": 0.1, "epochs": 20, "cycle_rate": 0.5, "cycle_epochs": 2, "low": 0.02, "high": 0.2}
    sup = sup_tickets_of("mnist1d-mlp", **chosen, rule_settings={"every": 7}, data_settings={"num_test": 50})
    assert {
        name: getattr(sup, name) for name in ("cycle_rate", "cycle_epochs", "low", "high")
    }.items() <= chosen.items()
    assert (sup.experiment.density, sup.experiment.epochs, sup.experiment.rule.every) == (0.1, 20, 7)
    assert sup.experiment.data_settings == {"num_test": 50}
    for rule in ("static", RigL(every=3, stop=9)):  # without such a setting, and made already
        assert sup_tickets_of("mnist1d-mlp", rule=rule).experiment.rule == (Static() if rule == "static" else rule)


# --- chance level and growth --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accuracy", "loss", "num_classes", "expected"),
    [
        (0.1, math.log(10), 10, False),
        (0.12, 9.0, 10, False),  # a constant answer
        (0.3, 2.25, 10, False),  # hardly any output differs from the others
        (0.3, 1.8, 10, True),
        (0.6, 2.3, 10, True),  # sure of itself where it is wrong
        (0.52, 0.69, 2, False),
        (0.9, 0.3, 2, True),
    ],
)
def test_a_network_at_chance_level_has_not_learned(accuracy, loss, num_classes, expected):
    assert has_learned(accuracy, loss, num_classes) is expected


def test_magnitudes_of_new_connections_stand_beside_those_of_the_kept_ones():
    first, second, third = ticket([0, 1], [9.0, 9.0]), ticket([1, 2], [-3.0, 0.5]), ticket([1, 3], [4.0, -1.5])
    grown = grown_magnitudes([first, second, third])
    assert (grown.new.tolist(), grown.kept.tolist()) == ([0.5, 1.5], [3.0, 4.0])
    assert grown.ratio == pytest.approx(0.5 / 3.0)
    assert not grown.have_grown
    assert grown_magnitudes([first, ticket([1, 3], [3.0, 1.5])]).have_grown
    for without in ([first], [first, first]):
        assert math.isnan(grown_magnitudes(without).ratio)
    with pytest.raises(ValueError, match="a ticket to compare later ones with, got none"):
        grown_magnitudes([])


# --- gains and verdicts -------------------------------------------------------------------------------------------


def test_a_superposition_is_compared_with_each_of_its_rivals():
    rivals = {"the mean ticket": 0.6, "the last ticket": 0.6, "the best ticket": 0.7}
    assert rivals_of(table(0.8, [0.5, 0.7, 0.6])) == pytest.approx(rivals)
    assert rivals_of(table(0.8, [0.5, 0.7, 0.6], plain=0.65)) == pytest.approx({**rivals, "plain averaging": 0.65})


def test_verdicts_are_of_paired_seeds():
    tables = [table(0.80 + gain, [0.7 + gain, 0.7 + gain], plain=0.8) for gain in (0.0, 0.011, -0.02)]
    claims = assess_superposition(tables)
    assert [claim.verdict for claim in claims] == ["reproduced", "reproduced", "reproduced", "undecided"]
    assert {claim.seeds for claim in claims} == {3}
    with pytest.raises(ValueError, match="two runs or more"):
        assess_superposition(tables[:1])


def test_one_seed_is_said_to_decide_nothing(capsys):
    show_gains([table(0.8, [0.7, 0.75])])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "undecided: the superposition beats the mean ticket (+7.50 points, but one seed decides nothing)"
    assert len(lines) == 3
    assert all(line.startswith("undecided") for line in lines)


# --- the command --------------------------------------------------------------------------------------------------

QUICK = ("--cycle-rate", "0.34", "--cycle-epochs", "1", "--no-progress")


def test_several_seeds_get_a_line_each_and_verdicts(tmp_path):
    words = ("sup-tickets", "digits-mlp", "--density", "0.3", "--epochs", "6", "--seed", "5", "--seeds", "2", *QUICK)
    result = CliRunner().invoke(cli.app, [*words, "--folder", str(tmp_path)])
    assert result.exit_code == 0, (result.output, result.exception)
    lines = result.output.splitlines()
    assert lines[1] == "6 epochs: 4 ordinary (76 steps) + 2 x 1 in cycles"
    assert lines[2] == "learning rate of the ordinary part: 0.1, at its end 0.001"
    assert lines[3] == "learning rate of a cycle (19 steps): 0.001 to 0.0048 and back"
    assert [line[:6] for line in lines if line.startswith("seed")] == ["seed 5", "seed 6"]
    assert sum("n = 2 seeds" in line for line in lines) == 3
    assert result.output.count("warning: new connections have not grown") == 2
    assert len(list(tmp_path.glob("*/superposed.safetensors"))) == 2


def test_a_run_at_chance_level_is_no_ticket(tmp_path, capsys):
    sup = sup_tickets_of("digits-mlp", density=0.02, epochs=2, cycle_rate=0.5, cycle_epochs=1)
    sup = replace(sup, experiment=replace(sup.experiment, label_smoothing=1.0))  # it cannot learn anything
    collect_and_show(sup, 1, False, Context(folder=tmp_path, root=None, progress=False))
    said = capsys.readouterr().out
    assert "ticket 0, at chance level" in said
    assert "warning: seed 0 is at chance level (ticket 0, ticket 1), so these are no tickets" in said
    assert "undecided" not in said
    assert not list(tmp_path.glob("*/superposed.safetensors"))


def test_a_collection_without_cycles_says_so(tmp_path, capsys):
    sup = sup_tickets_of("digits-mlp", density=0.3, epochs=3, cycle_rate=0.1)
    collect_and_show(sup, 1, False, Context(folder=tmp_path, root=None, progress=False))
    said = capsys.readouterr().out
    assert "3 epochs: 3 ordinary (57 steps) + 0 x 4 in cycles" in said
    assert "warning: there is no cycle, so ticket 0 is the only one" in said
    assert "beats" not in said
