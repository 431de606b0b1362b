"""What the page about your own data shows is true: each of its examples runs, here on images of a few pixels."""

from pathlib import Path

import pytest
import torch
from pages import code_blocks
from torchvision.utils import save_image

from sparsekit.experiments import read_run
from sparsekit.utils import registry

MEMORY, IMAGES, STREAM = code_blocks("data.md")


@pytest.fixture(autouse=True)
def registered_for_a_test(monkeypatch, tmp_path):
    registry.names("data")
    monkeypatch.setattr(registry, "_registered", {kind: dict(one) for kind, one in registry._registered.items()})
    monkeypatch.chdir(tmp_path)


def put_images(folder: Path) -> None:
    for part, count in (("train", 12), ("val", 2)):
        for kind in ("cat", "dog"):
            (folder / part / kind).mkdir(parents=True)
            for number in range(count):
                save_image(torch.rand(3, 12, 10), folder / part / kind / f"{number}.png")


def test_the_examples_of_the_page_run_one_after_the_other(tmp_path):
    put_images(tmp_path / "imagenet")
    scope = {"__name__": "__main__"}
    exec(MEMORY.replace("epochs=5", "epochs=1"), scope)
    assert scope["history"].last("test accuracy") > 0
    small = IMAGES.replace('"side": 64, "batch_size": 32, "workers": 2', '"side": 8, "batch_size": 8, "workers": 0')
    small = small.replace("batch_size=32", "batch_size=8").replace('model="resnet20"', 'model="small-cnn"')
    exec(small, scope)
    assert len(scope["history"].values("train loss")) == 3
    exec(STREAM, scope)
    assert len(scope["history"].values("train loss")) == 16
    assert read_run(scope["history"].folder).rows == scope["history"].rows
