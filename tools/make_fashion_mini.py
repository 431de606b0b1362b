"""Make data/fashion_mini.npz: 500 training and 100 test images of each class of Fashion-MNIST.

    python tools/make_fashion_mini.py                     # fetches Debian's package (31 MB); needs apt, no root
    python tools/make_fashion_mini.py --folder FOLDER     # takes the four .gz files from a folder instead

The images come from Debian's package `dataset-fashion-mnist` (MIT licence, see data/LICENSE). torchvision's download
puts the same four files into FashionMNIST/raw/. The same input gives the same bytes.
"""

import argparse
import gzip
import hashlib
import io
import subprocess
import tempfile
import zipfile
from pathlib import Path

import numpy as np

PACKAGE = "dataset-fashion-mnist"
INSTALLED = Path("usr/share/datasets/fashion-mnist")  # inside the package, and below / once it is installed
OUT = Path(__file__).resolve().parents[1] / "data" / "fashion_mini.npz"
NUM_CLASSES = 10
PER_CLASS = {"train": 500, "test": 100}  # together 2.5 MiB, which a git repository can bear
PREFIX = {"train": "train", "test": "t10k"}
# sha256 of the unpacked files in Debian's version 0.0~git20200523.55506a9-1
RELEASED = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def main() -> None:
    """Read the command line, make the file, say what was made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="folder with the four .gz files of Fashion-MNIST")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or fetch(Path(temporary))
        arguments.out.write_bytes(pack(choose_all(folder)))
    print(f"{arguments.out}: {arguments.out.stat().st_size / 2**20:.2f} MiB")


def fetch(folder: Path) -> Path:
    """Download Debian's package into a folder, unpack it there, and return where its data files lie."""
    subprocess.run(["apt-get", "download", PACKAGE], cwd=folder, check=True)
    (package,) = folder.glob(f"{PACKAGE}_*.deb")
    subprocess.run(["dpkg", "-x", package, folder / "unpacked"], check=True)
    return folder / "unpacked" / INSTALLED


def choose_all(folder: Path) -> dict[str, np.ndarray]:
    """Return the four arrays of the mini set: `train_inputs` (5000, 28, 28), `train_labels` (5000,), and `test_...`."""
    arrays = {}
    for part, count in PER_CLASS.items():
        images = read(folder / f"{PREFIX[part]}-images-idx3-ubyte.gz", header=16).reshape(-1, 28, 28)
        labels = read(folder / f"{PREFIX[part]}-labels-idx1-ubyte.gz", header=8)
        chosen = first_of_each(labels, count)
        arrays[f"{part}_inputs"], arrays[f"{part}_labels"] = images[chosen], labels[chosen]
    return arrays


def read(path: Path, header: int) -> np.ndarray:
    """Return the bytes behind the header of an idx file.

    Raises:
        ValueError: if the file is not the released one.
    """
    content = gzip.decompress(path.read_bytes())
    found = hashlib.sha256(content).hexdigest()
    if found != RELEASED[path.name]:
        raise ValueError(f"{path.name} must be the released file, got sha256 {found}. Take it from {PACKAGE}")
    return np.frombuffer(content, np.uint8, offset=header)


def first_of_each(labels: np.ndarray, count: int) -> np.ndarray:
    """Return the positions of the first `count` examples of every class, the classes taking turns."""
    per_class = [np.flatnonzero(labels == label)[:count] for label in range(NUM_CLASSES)]
    return np.stack(per_class, axis=1).ravel()


def pack(arrays: dict[str, np.ndarray]) -> bytes:
    """Return the arrays as a .npz file. Written here because `np.savez` promises nothing about its bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(array), version=(1, 0))
            entry = zipfile.ZipInfo(f"{name}.npy")  # its date is 1980-01-01, whatever the day
            archive.writestr(entry, content.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=9)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
