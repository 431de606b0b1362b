"""Options and arguments of the commands, each with its help."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Storage(StrEnum):
    """How sparse layers store their weights."""

    masked = "masked"
    csr = "csr"


class Init(StrEnum):
    """How connections get their initial weights."""

    fan_in = "fan-in"
    dense = "dense"
    gse = "gse"


class Device(StrEnum):
    """Where a network is trained."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class Autocast(StrEnum):
    """The types of mixed precision, by their short names."""

    bf16 = "bf16"
    fp16 = "fp16"


class Suite(StrEnum):
    """What `bench` measures."""

    layers = "layers"
    networks = "networks"
    update = "update"
    memory = "memory"


# Options that several commands have in common.
Recipe = Annotated[str, typer.Argument(help="which experiment, or a data set. See: sparsekit list recipes")]
Rule = Annotated[str, typer.Option(help="when and how the topology changes (see sparsekit list rules)")]
Tricks = Annotated[
    list[str] | None, typer.Option("--trick", help="helps to train, may be repeated (see sparsekit list tricks)")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="every=50 of the rule, or NAME.stop=300 of a trick or score, may be repeated"),
]
Seed = Annotated[int, typer.Option(help="of everything random")]
Initialised = Annotated[
    Init | None,
    typer.Option("--init", help="initial weights: fit to the real fan-in, drawn for dense layers, or as GSE's"),
]
Stored = Annotated[Storage, typer.Option(help="masked keeps a dense weight and a mask, csr the connections only")]
Folder = Annotated[Path, typer.Option(file_okay=False, help="where runs are kept")]
DataRoot = Annotated[
    Path | None, typer.Option(file_okay=False, help="where data sets lie, else SPARSEKIT_DATA, else data/")
]
Progress = Annotated[bool, typer.Option(help="show a progress bar")]
OnDevice = Annotated[Device, typer.Option("--device", help="where to train. With auto it is a GPU if there is one")]
Compiled = Annotated[bool, typer.Option("--compile", help="let torch compile the network, which takes a while")]
Mixed = Annotated[Autocast | None, typer.Option("--autocast", help="mixed precision, a part of the experiment")]
Workers = Annotated[int, typer.Option(min=1, help="processes that share the trainings, where these need not wait")]
