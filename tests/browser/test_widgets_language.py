"""Texts and circuits answer in JupyterLab, by the keyboard too, and the kernel hears what the reader did."""

CELLS = [
    """import torch, sparsekit as sk
from torch.nn.functional import cross_entropy
from sparsekit import analysis, widgets
torch.manual_seed(0)
small = {"dim": 8, "depth": 1, "heads": 1}
nets = [sk.models.build("gpt", input_shape=(8,), num_classes=73, **small) for _ in range(3)]
text = sk.datasets.load("kjv-char", context=8)""",
    """explorer = widgets.TextExplorer(nets[0], {"untrained": {0.1: nets[1], 0.3: nets[2]}}, text, count=20, measured=4)
explorer""",
    """signs = torch.randint(0, 3, (64, 4))
net = sk.models.build("gpt", input_shape=(4,), num_classes=3, dim=4, depth=1, heads=1, hidden=4, tied=False)
score = lambda outputs: cross_entropy(outputs[:, :, -1], signs[:, 0])
adam = torch.optim.Adam(net.parameters(), lr=0.02)
for _ in range(150):
    adam.zero_grad(), score(net(signs)).backward(), adam.step()""",
    """circuit = analysis.find_circuit(net, signs, score, ["embed", "norm"], limit=score(net(signs)).item() + 0.1)
edges = analysis.edges_of(net, circuit.nodes, analysis.gpt_wiring(net))
graph = widgets.CircuitExplorer(net, circuit, edges, ["a", "b", "c"], signs, score)
graph""",
]


def test_texts_and_circuits_answer_and_the_kernel_hears_of_it(notebook):
    book = notebook("language.ipynb", cells=CELLS).run_all()
    page = book.page

    book.press(page.get_by_role("slider", name="Density"), "ArrowLeft")
    book.wait_for("explorer.choice['density'] == 0.1")
    page.get_by_label("Prompt").fill("In the")
    book.wait_for("explorer.choice['prompt'] == 'In the'")
    page.get_by_label("Text of Dense, all connections").get_by_text("In the").wait_for()
    page.get_by_label("Prompt").fill("In § the")
    page.get_by_text("§").first.wait_for()

    number = book.python("next(at for at, (group, _) in enumerate(graph.nodes) if group == 'norm')")
    channel = book.python(f"graph.nodes[{number}][1]")
    node = page.get_by_role("button", name=f"norm {channel}", exact=True)
    book.press(node, "Enter")
    book.wait_for(f"graph.choice['ablated'] == '{number}'")
    loss = book.python("graph.loss")
    page.get_by_text(f"a loss of {loss:.3f} nats, 1 ablated").wait_for()
    assert node.get_attribute("aria-pressed") == "true"
    page.get_by_text(f"What norm {channel} computes at each token").wait_for()
    page.get_by_role("button", name="Whole circuit").click()
    book.wait_for("graph.choice['ablated'] == ''")
    page.get_by_label("Your text").fill("a x")
    page.get_by_text("a token must be one of a b c, got x").wait_for()
