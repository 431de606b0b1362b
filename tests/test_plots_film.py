"""A film of a run shows every rewiring, in a file that is whole or not there."""

from pathlib import Path

import jaxtyping
import matplotlib.animation
import numpy as np
import PIL.Image
import PIL.ImageSequence
import pytest
import torch

from sparsekit import plots
from sparsekit.plots.masks import mask_image
from sparsekit.rewiring import Journal, TopologyUpdate
from sparsekit.topology import LayerTopology, Topology

SHAPES = {"fc1": (6, 8), "head": (3, 6)}


@pytest.fixture
def journal() -> Journal:
    """A start and two rewirings, which move one connection each."""
    masks = [{"fc1": [0, 9, 20], "head": [1]}, {"fc1": [0, 9, 21], "head": [1]}, {"fc1": [0, 9, 21], "head": [17]}]
    first, *others = (
        Topology({name: LayerTopology(SHAPES[name], torch.tensor(indices)) for name, indices in mask.items()})
        for mask in masks
    )
    journal = Journal(first)
    for step, topology in zip((100, 200), others, strict=True):
        journal.add(step, TopologyUpdate.between(journal[-1], topology))
    return journal


def frames(path) -> list[np.ndarray]:
    with PIL.Image.open(path) as film:
        return [np.asarray(frame.convert("RGB")).astype(int) for frame in PIL.ImageSequence.Iterator(film)]


def test_a_film_has_a_frame_for_the_start_and_one_for_each_rewiring(journal, tmp_path):
    path = plots.film_masks(journal, tmp_path / "run.gif", zoom=6)
    start, first, second = frames(path)[:3]
    assert len({start.tobytes(), first.tobytes(), second.tobytes()}) == 3
    below = start.shape[0] - 8  # both layers lie in one row above this edge, after 8 pixels from the left
    top = below - 6 * 6
    changed = {(row // 6, col // 6) for row, col in np.argwhere(np.abs(first - start)[top:below, 8:56].sum(2) > 60)}
    assert changed == {(20 // 8, 20 % 8), (21 // 8, 21 % 8)}


def test_a_film_that_cannot_be_finished_leaves_the_older_one(journal, tmp_path, monkeypatch):
    path = tmp_path / "run.gif"
    path.write_bytes(b"older")

    def full(self):
        Path(self.outfile).write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(matplotlib.animation.PillowWriter, "finish", full)
    with pytest.raises(OSError, match="no space"):
        plots.film_masks(journal, path)
    assert [file.name for file in tmp_path.iterdir()] == ["run.gif"]
    assert path.read_bytes() == b"older"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"path": "run.avi"}, ValueError, r"must end in \.gif or \.mp4, got \.avi"),
        ({"path": "run"}, ValueError, r"must end in \.gif or \.mp4, got no ending"),
        ({"fps": 0}, ValueError, "fps must be at least 1, got 0"),
        ({"fps": 2.5}, TypeError, "fps must be an integer, got 2.5"),
        ({"zoom": 0}, ValueError, "zoom must be at least 1"),
        ({"journal": [mask_image]}, TypeError, r"needs a Journal, got list\. Hand over history\.journal"),
    ],
)
def test_what_is_no_film_is_refused_and_writes_nothing(journal, change, error, message, tmp_path, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # users have no type checks in between
    settings = {"journal": journal, "path": "run.gif"} | change
    settings["path"] = tmp_path / settings["path"]
    with pytest.raises(error, match=message):
        plots.film_masks(**settings)
    assert not list(tmp_path.iterdir())


def test_without_ffmpeg_one_reads_what_to_do(journal, tmp_path, monkeypatch):
    monkeypatch.setattr(matplotlib.animation.FFMpegWriter, "isAvailable", classmethod(lambda cls: False))
    with pytest.raises(RuntimeError, match=r"needs ffmpeg, got none\. Install ffmpeg, or write a \.gif"):
        plots.film_masks(journal, tmp_path / "run.mp4")
