"""TIES and DARE: changes since a common start are trimmed, elected, averaged and thinned out as their formulas say."""

import math
from dataclasses import replace

import pytest
import torch
from test_tickets import random_ticket, ticket, weight_of

from sparsekit.tickets import Ticket, dare, superpose, ties
from sparsekit.tickets.merging import agreed_mean, trimmed

START = ticket([1.0, 1.0, 1.0, 1.0])
ENDS = [ticket([4.0, 2.0, 1.5, 0.5]), ticket([6.0, -3.0, 1.0, 1.0]), ticket([0.5, 0.1, 2.0, 0.9])]


def dense_ties(ends: torch.Tensor, start: torch.Tensor, keep: float, scale: float) -> torch.Tensor:
    """TIES of dense rows, written down as in the paper."""
    changes = ends - start
    for change in changes:
        smallest = change.abs().argsort()[: len(change) - round(keep * len(change))]
        change[smallest] = 0
    merged = torch.zeros_like(start)
    for i in range(len(start)):
        up, down = changes[:, i].clamp(min=0).sum(), -changes[:, i].clamp(max=0).sum()
        voters = [change for change in changes[:, i] if (change > 0 if up > down else change < 0)]
        merged[i] = sum(voters) / len(voters) if voters and up != down else 0
    return start + scale * merged


def far(tickets: list[Ticket], start: Ticket) -> tuple[torch.Tensor, torch.Tensor]:
    """Return dense rows of tickets and of their start."""
    rows = [torch.tensor(weight_of(one)) for one in (start, *tickets)]
    return torch.stack(rows[1:]), rows[0]


@pytest.mark.parametrize("keep", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("scale", [1.0, 0.4])
def test_ties_is_the_papers_formula_on_dense_rows(keep, scale):
    merged = ties(ENDS, START, keep=keep, scale=scale)
    assert weight_of(merged) == pytest.approx(dense_ties(*far(ENDS, START), keep, scale).tolist())


def test_ties_is_worked_out_by_hand():
    # With half of the changes the rows are (3, 1, 0, 0), (5, -4, 0, 0) and (0, -0.9, 1, 0).
    assert weight_of(ties(ENDS, START, keep=0.5)) == pytest.approx([1 + 4, 1 - 2.45, 1 + 1, 1])


def test_who_goes_the_other_way_does_not_pull_the_mean_towards_zero():
    changes = torch.tensor([[3.0, 1.0], [-1.0, -1.0], [1.0, 0.0]])
    assert agreed_mean(changes)[0] == 2  # and not 1
    assert agreed_mean(changes)[1] == 0  # nothing is elected where changes cancel


def test_trimming_ranks_all_layers_of_a_ticket_together():
    changes = {"a": torch.tensor([[1.0, -3.0], [0.5, 0.1]]), "b": torch.tensor([[2.0, 4.0], [-9.0, 0.2]])}
    few = trimmed(changes, 0.5)
    assert few["a"].tolist() == [[0, -3], [0.5, 0]]
    assert few["b"].tolist() == [[0, 4], [-9, 0]]


def test_a_connection_that_a_ticket_lacks_went_to_zero():
    start, ends = ticket([2.0, 1.0, 0.0, 0.0]), [ticket([0.0, 1.0, 5.0, 0.0]), ticket([0.0, 1.0, 3.0, 0.0])]
    merged = ties(ends, start, keep=1.0)
    assert weight_of(merged) == [0, 1, 4, 0]
    assert merged.count == 2
    assert weight_of(ties(ends, start, keep=1 / 3)) == [2, 0, 4, 0]  # the loss of the first is not among the largest


@pytest.mark.parametrize("density", [None, 0.2])
def test_the_budget_of_a_merge_is_exact(density):
    start, ends = random_ticket(0, 30), [random_ticket(seed, 30) for seed in (1, 2, 3)]
    merged = ties(ends, start, density=density)
    assert merged.count == (30 if density is None else round(0.2 * start.topology.size))
    assert merged.values["fc0"].dtype == torch.float32
    assert torch.equal(merged.rest["bias"], superpose(ends).rest["bias"])
    assert merged.step == ends[-1].step


def test_one_ticket_whose_changes_all_stay_is_itself():
    end = random_ticket(1, 30)
    merged = ties([end], random_ticket(0, 30), keep=1.0)
    assert merged.topology == end.topology
    torch.testing.assert_close(merged.values["fc0"], end.values["fc0"])


def test_dare_drops_a_share_within_four_sigma_and_keeps_the_mean():
    count, drop = 20_000, 0.9
    start, end = ticket([1.0] * count), ticket([3.0] * count)
    thin = dare(end, start, drop=drop, generator=torch.Generator().manual_seed(0))
    change = thin.values["fc"] - 1
    stays = change != 0
    torch.testing.assert_close(change[stays], torch.full_like(change[stays], 2 / (1 - drop)))
    assert abs(int(stays.sum()) - (1 - drop) * count) < 4 * math.sqrt(count * drop * (1 - drop))
    assert abs(float(change.mean()) - 2) < 4 * 2 * math.sqrt(drop / (1 - drop) / count)


def test_dare_draws_from_its_generator_alone_and_leaves_the_rest():
    start, end = random_ticket(0), random_ticket(1)
    state = torch.random.get_rng_state()
    one, same, other = (dare(end, start, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(one.values["fc0"], same.values["fc0"])
    assert not torch.equal(one.values["fc0"], other.values["fc0"])
    assert one.topology == start.topology | end.topology
    assert torch.equal(one.rest["bias"], end.rest["bias"])


def test_dare_that_drops_nothing_gives_the_ticket_and_goes_into_ties():
    start, ends = random_ticket(0, 30), [random_ticket(seed, 30) for seed in (1, 2)]
    same = [dare(end, start, drop=0.0, generator=torch.Generator()) for end in ends]
    assert superpose(same[:1], density=30 / start.topology.size).topology == ends[0].topology
    again = ties(same, start, keep=1.0, density=30 / start.topology.size)
    torch.testing.assert_close(again.values["fc0"], ties(ends, start, keep=1.0).values["fc0"])


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"keep": 0.0}, ValueError, "keep must be above 0 and at most 1, got 0.0. 0.2 keeps"),
        ({"keep": 1.1}, ValueError, "keep must be above 0 and at most 1, got 1.1"),
        ({"scale": math.nan}, ValueError, "scale must be finite, got nan"),
        ({"tickets": []}, ValueError, "superposing needs at least one ticket, got none"),
        ({"start": ticket([1.0, 2.0])}, ValueError, "tickets must be of networks with the same layers, got others"),
    ],
)
def test_what_cannot_be_merged_is_refused_with_a_sentence(settings, error, message):
    with pytest.raises(error, match=message):
        ties(**({"tickets": ENDS, "start": START} | settings))


def test_chances_and_plain_networks_are_refused():
    draws = torch.Generator()
    with pytest.raises(ValueError, match=r"drop must be at least 0 and below 1, got 1\.0"):
        dare(ENDS[0], START, drop=1.0, generator=draws)
    plain = replace(START, topology=type(START.topology)({}), values={})
    for merge in (lambda: ties([plain], plain), lambda: dare(plain, plain, generator=draws)):
        with pytest.raises(ValueError, match="a merge needs tickets with a sparse layer, got plain networks"):
            merge()
