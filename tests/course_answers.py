"""Wrong answers as students write them, each with the sentence that was written for it, and answers that misbehave."""

SEEDED = [  # exercise, code of the answer, what the check must say to it
    ("count_of", "def count_of(rows, columns, density):\n    return density * columns * rows", "an integer. Round it."),
    (
        "count_of",
        "def count_of(r, c, d):\n    return int(r * c * d)",
        "You cut off what stands behind the decimal point",
    ),
    ("count_of", "def count_of(r, c, d):\n    return r * c - round(r * c * d)", "counts the missing connections"),
    ("count_of", "def count_of(r, c, d):\n    return round(d * (c + r))", "multiply instead of adding"),
    ("er_weight", "def er_weight(i, o):\n    return 1 / i / o", "falls with the product only"),
    ("er_weight", "def er_weight(i, o):\n    return sum([i, o])", "in proportion to the number of connections"),
    ("er_weight", "def er_weight(i, o):\n    return 1 / (1 / i + 1 / o)", "stands upside down"),
    ("er_weight", "def er_weight(i, o):\n    return 1 - 1 / i - 1 / o", "This is a sparsity"),
    (
        "keep_top",
        "def keep_top(scores, count):\n    return scores >= scores.topk(count).values.min()",
        "A threshold keeps all equal scores",
    ),
    (
        "keep_top",
        "def keep_top(scores, count):\n    return scores > scores.topk(count).values.min()",
        "A strict threshold drops the last score",
    ),
    (
        "keep_top",
        "def keep_top(scores, count):\n"
        "    mask = torch.zeros(len(scores), dtype=torch.bool)\n"
        "    mask[scores.argsort(stable=True)[:count]] = True\n"
        "    return mask",
        "You keep the lowest scores",
    ),
    (
        "keep_top",
        "def keep_top(scores, count):\n    return scores.argsort(descending=True, stable=True)[:count]",
        "These are the positions",
    ),
    (
        "kept_positions",
        "def kept_positions(values, fraction):\n"
        "    drop = int(fraction * len(values))\n"
        "    return sorted(values.argsort()[drop:].tolist())",
        "You compare weights with their signs",
    ),
    (
        "kept_positions",
        "def kept_positions(values, fraction):\n"
        "    keep = len(values) - int(fraction * len(values))\n"
        "    return sorted(values.abs().argsort()[:keep].tolist())",
        "keep the weakest and drop the strongest",
    ),
    (
        "kept_positions",
        "def kept_positions(values, fraction):\n"
        "    return sorted(values.abs().topk(int(fraction * len(values))).indices.tolist())",
        "says how many are dropped, and you keep that many",
    ),
    (
        "kept_positions",
        "def kept_positions(values, fraction):\n"
        "    return values.abs().topk(len(values) - int(fraction * len(values))).indices.tolist()",
        "positions of a topology are sorted",
    ),
    (
        "grown_positions",
        "def grown_positions(gradient, taken, count):\n    return sorted(gradient.abs().topk(count).indices.tolist())",
        "You grow where connections exist already",
    ),
    (
        "grown_positions",
        "def grown_positions(gradient, taken, count):\n"
        "    free = [k for k in range(len(gradient)) if k not in taken]\n"
        "    return sorted(sorted(free, key=lambda k: -gradient[k])[:count])",
        "A strongly negative gradient is as good a reason",
    ),
    (
        "grown_positions",
        "def grown_positions(gradient, taken, count):\n"
        "    free = [k for k in range(len(gradient)) if k not in taken]\n"
        "    return sorted(sorted(free, key=lambda k: abs(gradient[k]))[:count])",
        "You grow where the gradient is smallest",
    ),
    ("sampled_ratio", "def sampled_ratio(density, subset):\n    return subset", "This counts draws"),
    ("sampled_ratio", "def sampled_ratio(d, s):\n    return s - s * d", "some positions are drawn more than once"),
    (
        "sampled_ratio",
        "import math\ndef sampled_ratio(d, s):\n    return (1 - math.exp(-s * d)) / d",
        "also hit connections that exist",
    ),
    (
        "sampled_ratio",
        "import numpy as np\ndef sampled_ratio(d, s):\n    return (1 - np.exp(-s * d)) * (1 - d)",
        "This is a share of all positions",
    ),
    (
        "gradient_bound",
        "def gradient_bound(x, g):\n    return torch.outer(g.sum(0), x.sum(0)).abs()",
        "samples cancel out",
    ),
    ("gradient_bound", "def gradient_bound(x, g):\n    return (x.T @ g).T.abs()", "magnitude of the gradient itself"),
    (
        "gradient_bound",
        "def gradient_bound(x, g):\n    return torch.outer(x.abs().sum(0), g.abs().sum(0))",
        "rows are inputs",
    ),
    (
        "snip_score",
        "def snip_score(weight, gradients):\n    return weight.abs() * gradients.abs().mean(0)",
        "nothing cancels",
    ),
    (
        "snip_score",
        "def snip_score(weight, gradients):\n    return gradients.mean(dim=0).abs()",
        "You leave the weight out",
    ),
    (
        "snip_score",
        "def snip_score(weight, gradients):\n    return (weight * gradients).mean(0)",
        "The sign is still there",
    ),
    ("synflow_first", "def synflow_first(a, b):\n    return a * b.sum(0).unsqueeze(1)", "makes every weight positive"),
    (
        "synflow_first",
        "def synflow_first(a, b):\n    return abs(a) * abs(b.sum(0))[:, None]",
        "magnitudes before you sum",
    ),
    ("connections_at", "def connections_at(l, n, p):\n    return round(n - l * p * n)", "a share of what is left"),
    ("connections_at", "def connections_at(l, n, p):\n    return round(n * p ** l)", "kept the share prune"),
    ("connections_at", "def connections_at(l, n, p):\n    return n * (1 - p) ** l", "is an integer, so round it"),
    (
        "triangle",
        "def triangle(step, low, high, cycle):\n    return low + (high - low) * (step % cycle) / cycle",
        "A triangle returns to low",
    ),
    (
        "triangle",
        "def triangle(step, low, high, cycle):\n    return high * (1 - abs(2 * (step % cycle) / cycle - 1))",
        "Your rate begins at 0",
    ),
    ("superposed", "def superposed(tickets, count):\n    return tickets.mean(0).tolist()", "Prune it to the budget"),
    ("barrier_of", "def barrier_of(errors):\n    return max(errors) - errors[0]", "You measure from the first end"),
    ("barrier_of", "def barrier_of(errors):\n    return (errors.max() - errors.min()).item()", "from the lowest point"),
    ("curve_point", "def curve_point(a, b, c, t):\n    return torch.lerp(a, c, t)", "This is the straight line"),
    (
        "fit_fan_in",
        "def fit_fan_in(w):\n    return w * (w.numel() / max(1, (w != 0).sum())) ** 0.5",
        "You scale all rows alike",
    ),
    (
        "fit_fan_in",
        "def fit_fan_in(w):\n    return w * w.shape[1] / (w != 0).sum(1, keepdim=True).clamp(min=1)",
        "Values grow by its root",
    ),
    ("torchs_smoothing", "def torchs_smoothing(a, k):\n    return a - a / k", "We ask for the other direction"),
    ("csr_bytes", "def csr_bytes(r, c, d):\n    return 2 * 4 * round(r * c * d)", "You forget where the rows begin"),
    ("csr_bytes", "def csr_bytes(r, c, d):\n    return r * c * 4", "This is the dense layer"),
    ("whole_speedup", "def whole_speedup(s, k):\n    return s * k + (1 - s)", "You average speeds"),
    ("whole_speedup", "def whole_speedup(s, k):\n    return s / k + (1 - s)", "This is the new time"),
    ("telling_density", "telling_density = 1", "lies between 0.001 and 0.5"),
    ("telling_density", "telling_density = 0.05", "in 0 of 10 uniform draws"),
    ("telling_density", "telling_density = '1 %'", "Your density is a number, got '1 %'"),
    ("losing_fraction", "losing_fraction = 30", "exchanges, so 30 % is 0.3"),
    ("frugal_subset", "frugal_subset = 1", "we look for one of at most 0.6"),
    ("enough_density", "enough_density = 12", "A density is a share, so 5 % is 0.05"),
    ("parting_compression", "parting_compression = 16", "magnitude leaves 0 of 6 layers empty"),
    ("parting_compression", "parting_compression = 0.01", "one divided by the density"),
    ("steady_examples", "steady_examples = 10.5", "Your number of examples is an integer, got 10.5"),
    ("steady_examples", "steady_examples = 10", "SNIP masks from 10 examples of each class"),
    ("steady_examples", "steady_examples = 100", "we need two sets of them"),
    ("sturdy_level", "sturdy_level = 1", "Level 1 is too easy"),
    ("patient_levels", "patient_levels = 8", "every level costs a training"),
    ("growing_rate", "growing_rate = 0.01", "which begins and ends at 0.01"),
    ("wandering_explore", "wandering_explore = 80", "so half of them are 0.5"),
    ("parting_rate", "def parting_rate():\n    return 0.2 / 0", "Your answer raises ZeroDivisionError"),
    ("heard_weight", "heard_weight = 3", "and the two others share the rest"),
    ("swapped_units", "swapped_units = 0.5", "Your number of units is an integer, got 0.5"),
    ("harmless_units", "harmless_units = 0", "With fewer than 2 nothing is reordered"),
    ("harmful_smoothing", "harmful_smoothing = 10", "so 10 % is 0.1"),
    ("gentle_strength", "gentle_strength = 0", "At strength 0 there are no skips"),
    ("no_gain_density", "no_gain_density = 1", "we look for one of at most 0.9"),
    ("affordable_every", "affordable_every = 1000", "Rewiring ends at step 855"),
    ("asked_density", "asked_density = 40", "A density is a share, so 5 % is 0.05"),
    ("asked_density", "asked_density = 0.4", "57.5% of all parameters exist"),
    ("mendable_density", "mendable_density = 0.9", "we look for one of at most 0.5"),
    ("checkpoint_every", "checkpoint_every = 1", "a run takes 428% longer"),
    ("telling_seeds", "telling_seeds = 1", "One seed has no spread"),
    ("my_rule", "def my_rule(total_steps):\n    return 'rigl'", "TypeError: rule must be a Rule, got 'rigl'"),
    ("newcomer_step", "def newcomer_step(count):\n    return 0.1 / 0.001**0.5", "does not depend on the count"),
    (
        "newcomer_step",
        "def newcomer_step(t):\n    return (0.1 / (1 - 0.9**t)) / (0.001 / (1 - 0.999**t))",
        "by the square root of the second",
    ),
    ("newcomer_step", "def newcomer_step(count):\n    return 1", "counts from its birth"),
    (
        "perplexity_of",
        "import math\ndef perplexity_of(losses, counts):\n    return math.exp(sum(losses) / len(counts))",
        "count all batches alike",
    ),
    (
        "perplexity_of",
        "import math\ndef perplexity_of(losses, counts):\n"
        "    return sum(math.exp(x) * n for x, n in zip(losses, counts)) / sum(counts)",
        "the mean of perplexities",
    ),
    (
        "perplexity_of",
        "def perplexity_of(losses, counts):\n    return sum(x * n for x, n in zip(losses, counts)) / sum(counts)",
        "This is the loss",
    ),
]

MISBEHAVING = [  # code of an answer to count_of, and what the check must say to it
    ("while True:\n        pass", "took more than 2 s"),
    ("import time\n    time.sleep(60)", "took more than 2 s"),
    ("print('Right, your answer fits 3 of 3 cases.')", "your answer gives None"),
    ("import os\n    os._exit(0)", "ended its process before it had an answer"),
    ("import os\n    os.kill(os.getppid(), 9)", "ended the process that runs it"),
    ("raise SystemExit", "raises SystemExit"),
    ("return bytearray(20_000_000_000)", "raises MemoryError"),
    (
        "from sparsekit.experiments.course.tasks import exercise\n    return exercise('count_of').cases[0][1]",
        "raises ModuleNotFoundError: import of sparsekit.experiments.course.tasks halted",
    ),
    (
        "import sparsekit.experiments.course.exercise as e\n    e.Cases.assess = lambda *_: e.Verdict(True, 'Right')",
        "raises ModuleNotFoundError",
    ),
    ("return type('Anything', (), {'__eq__': lambda *_: True, '__float__': lambda *_: 819.0})()", "but we expect 819"),
]
