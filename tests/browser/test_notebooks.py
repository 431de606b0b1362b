"""In the real notebooks sliders draw what they name, Stop stops, the film scrubs and questions answer.

Where everything of interest happens in the first half of a notebook, the second is left to nbval, which runs all cells.
"""

import re

from sparsekit.plots.palette import LIGHT
from sparsekit.widgets.colours import BORN, KEPT


def test_the_first_notebook_trains_and_answers(notebook):
    book = notebook("00_start_here.ipynb").run_to("about 67")
    assert "done after 1140 steps with 293 connections" in book.printed()
    page = book.page
    page.get_by_role("radio", name="about 67").check()
    page.get_by_role("status").get_by_text("Yes. Which connections exist").wait_for()
    # The live view shows the network that is in the kernel.
    title = page.locator(".sk-net").nth(2).locator(".sk-hero")
    accuracy = book.python("round(100 * live_film.frames[-1].accuracy, 1)")
    page.wait_for_function("([node, text]) => node.textContent === text", arg=[title.element_handle(), f"{accuracy} %"])


def test_the_second_notebook_draws_exactly_the_masks_its_curve_names(notebook):
    book = notebook("01_masks_and_budgets.ipynb").run_all()
    page = book.page
    explorer = page.locator(".sk-explorer").first.locator("canvas.sk-layer")
    slider = page.get_by_role("slider", name="Sparsity").first

    def drawn() -> list[int]:
        return [book.count_pixels(explorer.nth(k), LIGHT["ink"]) for k in range(explorer.count())]

    page.get_by_role("button", name="99 % uniform").click()
    book.wait_until(slider, "aria-valuetext", "99 % sparsity")
    assert drawn() == [2352, 300, 10]
    book.wait_for("explorer.accuracy is not None and explorer.density == 0.01")
    page.get_by_role("button", name="99 % ERK").click()
    page.get_by_text("184 connections").wait_for()
    assert drawn() == [1810, 668, 184]
    book.press(slider, "Home")
    book.wait_until(slider, "aria-valuetext", "0 % sparsity")
    page.get_by_text("266,200 of 266,200").first.wait_for()
    assert drawn() == [235200, 30000, 1000]
    book.wait_for("explorer.density == 1")
    page.get_by_role("button", name="Copy as code").first.click()
    assert "density=1&allocation=erk&score=trained" in page.locator(".sk-code").first.text_content()


def test_the_third_notebook_races_and_scrubs(notebook):
    book = notebook("02_topology_evolution.ipynb").run_to("film = widgets.TopologyFilm")
    page = book.page
    race = page.locator(".sk-race")
    assert "20 trainings of 293 connections" in book.printed()
    assert race.locator(".sk-title").text_content() == book.python("race.verdict")
    race.get_by_role("radio", name="Start 3").click()
    idle = race.locator(".sk-lane").nth(2).locator("dd").first
    expected = str(book.python("idle_units(fitted['rigl'][2].journal[-1])"))
    book.wait_until(race.locator(".sk-time"), "aria-valuenow", "760")
    assert idle.text_content() == expected
    film = page.locator("canvas.sk-film-mask")
    slider = page.get_by_role("slider", name="Rewiring")
    book.press(slider, "End")
    page.get_by_text("Rewiring 23 of 23").first.wait_for()
    last = "fitted['rigl'][0].journal[-1]['fc1'].count"
    assert book.count_pixels(film, KEPT) + book.count_pixels(film, BORN) == book.python(last)
    book.press(slider, "Home")
    page.get_by_text("Before the first rewiring").first.wait_for()
    assert book.count_pixels(film, KEPT) == book.python(last.replace("-1", "0"))


def test_the_fourth_notebook_draws_what_its_controls_say(notebook):
    book = notebook("03_guided_stochastic_exploration.ipynb").run_to("assess(accuracy)")
    page = book.page
    assert "reproduced: GSE beats SET" in book.printed()
    slider = page.get_by_role("slider", name="Draws per connection")
    book.press(slider, "End")
    page.get_by_role("radio", name="uniform").click()
    page.get_by_text("uniform, 4 draws per connection:").wait_for()
    book.wait_for("explorer.choice == {'layer': 'fc1', 'guide': 'uniform', 'subset': 4}")
    sample = "[explorer.sample.candidates.count, explorer.sample.recall]"
    candidates, recall = book.python(sample)
    page.get_by_text(f"{candidates:,} different candidates").wait_for()
    assert slider.get_attribute("aria-valuetext") == f"4 draws per connection, recall {100 * recall:.0f} %"
    # The second figure changes in the page, and the kernel hears of it.
    subset = page.get_by_role("slider", name="Subset")
    before = page.locator(".sk-frame svg").get_attribute("aria-label")
    book.press(subset, "End")
    page.wait_for_function("before => document.querySelector('.sk-frame svg').ariaLabel !== before", arg=before)
    book.wait_for("ratios.controls.values['subset'] == 4")


def test_the_fifth_notebook_shows_what_each_score_keeps_at_each_compression(notebook):
    book = notebook("04_masks_before_training.ipynb").run_to("explorer.run.wait", wait=False)
    page = book.page
    slider = page.get_by_role("slider", name="Compression")
    slider.wait_for()
    assert slider.get_attribute("aria-valuetext") == "256 times smaller, 0 % on a path"
    # We ask for a mask before it is there. The figure is grey until the run has found it.
    book.press(slider, "End")
    page.get_by_role("radio", name="synflow").click()
    book.settle()
    assert "done after 104 masks" in book.printed()
    stage = page.locator(".sk-explorer").first
    page.get_by_text("synflow, 4,096 times smaller: ").first.wait_for()
    assert stage.locator(".sk-stale").count() == 0
    canvases = stage.locator("canvas.sk-layer")

    def on_path() -> list[int]:
        return [book.count_pixels(canvases.nth(k), LIGHT["ink"]) for k in range(canvases.count())]

    book.wait_for("explorer.choice == {'score': 'synflow', 'halving': 12}")
    assert on_path() == book.python("[layer.count for layer in explorer.pruning.effective.values()]")
    page.get_by_role("button", name="FORCE, 64 times").click()
    page.get_by_text("force, 64 times smaller: nothing is left in fc1").first.wait_for()
    book.wait_for("explorer.choice == {'score': 'force', 'halving': 6}")
    assert on_path() == [0] * 6


def test_the_speed_notebook_measures_this_machine_and_can_be_stopped(notebook):
    book = notebook("10_always_sparse_speed.ipynb").run_to("plot_step_times", wait=False)
    page = book.page
    page.wait_for_function("() => Number(document.querySelector('canvas.sk-curve')?.dataset.points) >= 2")
    page.get_by_role("button", name="Stop").click()
    book.settle()
    state, count, measured = book.python("[run.state, run.count, len(times)]")
    assert f"{state} after {count} sparsities" in book.printed()
    assert state == "stopped"
    assert 2 <= count == measured < 10
    book.wait_until(page.locator("canvas.sk-curve"), "aria-label", f"({count} points)")
    assert book.python("sorted(times)") == ["csr", "csr, feature-major", "dense", "masked"]


def test_the_landscape_notebook_cuts_turns_and_walks_over_its_map(notebook):
    book = notebook("08_loss_landscapes.ipynb").run_to("people = widgets.DiversityMap")
    page = book.page
    assert "reproduced: barriers between seeds are higher than within a run" in book.printed()
    book.press(page.get_by_role("slider", name="Cut at").first, "End")
    book.wait_for("explorer.cut == explorer.surface.y[-1]")
    page.get_by_role("radio", name="Landscape").first.click()
    book.press(page.get_by_role("slider", name="Direction of view").first, "ArrowRight", times=2)
    book.wait_for("(explorer.view, explorer.turn) == ('landscape', -40)")
    page.get_by_role("radio", name="One run").first.click()
    page.get_by_text("One run: no ridge stands between the networks of the plane, in loss").first.wait_for()
    page.get_by_role("radio", name="seed 1").click()
    page.locator("[data-name='1/2']").click()
    book.wait_for("(people.zoom, people.network) == ('seed 1', '1/2')")
    nearest = book.python("repr(people).partition(', at a distance of ')[2]")
    page.get_by_text(f"is nearest to 1/2, at a distance of {nearest}").first.wait_for()


def test_the_lottery_notebook_walks_through_its_levels(notebook):
    book = notebook("05_lottery_tickets.ipynb").run_to("the one before has not")
    page = book.page
    assert "connections that a level has and the one before has not: 0" in book.printed()
    before = book.image_hash("levels")
    book.press(page.get_by_role("slider", name="Level").first, "End")
    book.wait_for_another_image("levels", before)
    assert book.python("levels.controls.values") == {"level": 8}


def test_the_lab_mixes_what_is_ticked_and_the_kernel_agrees(notebook):
    book = notebook("07_superposition.ipynb").run_to("points by averaging")
    page = book.page
    assert "points by averaging" in book.printed()
    page.get_by_role("checkbox", name="Use ticket 1").first.click()
    book.wait_for("lab.trial.chosen == (0, 2)")
    book.press(page.get_by_role("application", name="Mix of three tickets").first, "ArrowUp")
    book.wait_for("lab.weights[0] > 0.6")
    right = book.python("lab.trial.accuracies['superposed']")
    page.locator(".sk-hero", has_text=f"{100 * right:.1f} %").first.wait_for()
    page.get_by_role("checkbox", name="Use ticket 3").click()  # of the strangers, whom the kernel measures
    book.wait_for("foreign.measured['of'] == [1, 1, 1, 0]")
    page.get_by_text("3 tickets: superposed").first.wait_for()


def test_the_film_of_a_collection_follows_its_learning_rate(notebook):
    book = notebook("06_cheap_tickets.ipynb").run_to("tickets after steps")
    page = book.page
    assert "tickets after steps [6300, 6678, 7056]" in book.printed()
    rate = page.get_by_role("slider", name="Moment of the cycles").first
    book.press(rate, "Home")
    page.get_by_text("Ticket 0 is the network before the cycles, with 3,917 connections").first.wait_for()
    book.press(rate, "ArrowRight", times=8)
    page.get_by_text(re.compile("Ticket 1 is taken: .* new connections have")).first.wait_for()
    book.wait_for("film.moment == 8")
    book.press(rate, "End")
    page.get_by_text(re.compile("Superposed: .* of ticket 0's own connections survive")).first.wait_for()


def test_the_notebook_of_tricks_moves_ghosts_while_they_live(notebook):
    book = notebook("09_training_tricks.ipynb").run_to("run.wait", wait=False)
    page = book.page
    strength = page.get_by_role("slider", name="Strength of ghost skips")
    strength.wait_for()
    book.press(strength, "Home")
    book.press(page.get_by_role("slider", name="Beta of ghost neurons"), "End")
    book.settle()
    assert "done with 0 ghosts and 4224 connections" in book.printed()
    strengths = book.python("[neurons.rule.beta(0), skips.rule.strength(0)]")
    assert strengths == [20.0, 0.0]
