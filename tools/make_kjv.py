"""Make data/kjv.npz: the New Testament in the King James Version, and merges for 512 byte pairs.

    python tools/make_kjv.py                   # fetches two packages of Debian (2.5 MB); needs apt, no root
    python tools/make_kjv.py --folder FOLDER   # takes the two .deb files from a folder instead

The text lies compressed in the package `bible-kjv-text`, and the program of `bible-kjv` reads it, so this needs a
processor on which that program runs. The same text gives the same bytes.
"""

import argparse
import hashlib
import re
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from make_fashion_mini import pack

from sparsekit.datasets.kjv import FILE, pieces_of
from sparsekit.datasets.tokens import NUM_BYTES, learn_merges

PACKAGES = ("bible-kjv-text", "bible-kjv")
OUT = Path(__file__).resolve().parents[1] / "data" / FILE
VERSES = "mt1:1-re22:21"
NUM_TOKENS = 512
# sha256 of the compressed text in Debian's version 4.38
RELEASED = "6c746c2acc8a34bfded980883ff1701a5d68934a1c853ebf88a07b978fe0ae0e"


def main() -> None:
    """Read the command line, make the file, say what was made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="folder with the .deb files of both packages")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        unpacked = unpack(arguments.folder or fetch(Path(temporary)), Path(temporary))
        text = without_numbers(read(unpacked))
    arguments.out.write_bytes(pack(arrays_of(text)))
    print(f"{arguments.out}: {len(text):,} characters, {arguments.out.stat().st_size / 2**20:.2f} MiB")


def fetch(folder: Path) -> Path:
    """Download Debian's packages into a folder, and return it."""
    subprocess.run(["apt-get", "download", *PACKAGES], cwd=folder, check=True)
    return folder


def unpack(folder: Path, into: Path) -> Path:
    """Unpack both packages, and return where."""
    for name in PACKAGES:
        (package,) = folder.glob(f"{name}_*.deb")
        subprocess.run(["dpkg", "-x", package, into / "unpacked"], check=True)
    return into / "unpacked"


def read(folder: Path) -> str:
    """Return the New Testament as the program prints it, a verse in a line.

    Raises:
        ValueError: if the compressed text is not the released one.
    """
    compressed = folder / "usr/lib/bible.data"
    sha256 = hashlib.sha256(compressed.read_bytes()).hexdigest()
    if sha256 != RELEASED:
        raise ValueError(
            f"{compressed.name} must be the released file, got sha256 {sha256}. Take it from {PACKAGES[0]}"
        )
    program = [folder / "usr/bin/bible", "-p", compressed.parent, "-l1000000", VERSES]
    return subprocess.run(program, check=True, capture_output=True, stdin=subprocess.DEVNULL, encoding="ascii").stdout


def without_numbers(printed: str) -> str:
    """Return the text without the number before each verse. A chapter keeps its heading."""
    return re.sub(r"^ +\d+ ", "", printed, flags=re.MULTILINE).strip() + "\n"


def arrays_of(text: str) -> dict[str, np.ndarray]:
    """Return the text as bytes, and the merges that the pieces to train on give."""
    merges = learn_merges("".join(pieces_of(text, "train")), NUM_TOKENS - NUM_BYTES)
    return {"text": np.frombuffer(text.encode("ascii"), np.uint8), "merges": np.array(merges, np.int16)}


if __name__ == "__main__":
    main()
