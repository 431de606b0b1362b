"""Makes, updates or repairs `.venv`: `python3 tools/setup_env.py [EXTRA ...]`, extras as in pyproject.toml.

Run it as often as you like. Finished work costs a third of a second; a half-made or damaged environment is made
again. It uses the standard library only and no syntax newer than Python 3.6, so that an old Python gets a sentence
and not a syntax error.
"""

import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)
STAMP = "sparsekit-setup.json"  # written into .venv as the very last step
KERNEL_CONFIG = "ipython_kernel_config.py"  # beside this file; says itself what it mends
BUILDS_OF_TORCH = ("torch", "torchvision")  # what changes with TORCH_BACKEND


def main(extras):
    """Bring `.venv` of this checkout to what `pyproject.toml` and `constraints.txt` ask for."""
    try:
        check_python(sys.version_info)
        prepare(ROOT, extras, os.environ.get("TORCH_BACKEND", ""))
    except RuntimeError as error:
        sys.exit(f"sparsekit set-up: {error}")
    except subprocess.CalledProcessError as error:
        command = " ".join(map(str, error.cmd))
        sys.exit(f"sparsekit set-up: this step failed, see above; run the same make again: {command}")


def check_python(version):
    """Raise RuntimeError unless this interpreter is new enough."""
    if tuple(version[:2]) < OLDEST:
        came = ".".join(map(str, version[:3]))
        todo = "install one, or name it: make lab PYTHON=its/path"
        raise RuntimeError(f"Python must be 3.11 or newer, got {came} ({sys.executable}); {todo}")


def prepare(root, extras, backend=""):
    """Make `.venv` complete for these extras; what it already holds stays. Return "ready", "updated" or "made"."""
    venv = root / ".venv"
    reason = damage(root)
    if reason:
        say(f"making .venv ({reason})")
        make_venv(venv)
    mend_kernels(root)
    before = read_stamp(venv)
    wanted = {
        "root": str(root),
        "pins": fingerprint(root),
        "extras": sorted(set(extras) | set(before.get("extras", []))),
        "backend": backend or before.get("backend", ""),
    }
    if not before and not backend:
        wanted["backend"] = backend_here(root)
    if all(before.get(key) == value for key, value in wanted.items()):
        return "ready"
    (venv / STAMP).unlink(missing_ok=True)  # interrupted from here on means half-made
    install(root, wanted, renew_torch=bool(before) and wanted["backend"] != before["backend"])
    write_stamp(venv, {**wanted, "packages": sorted(packages(venv))})
    return "made" if reason else "updated"


def damage(root):
    """Return why `.venv` cannot be used as it is, or "" when it is whole."""
    venv = root / ".venv"
    stamp = read_stamp(venv)
    if not venv.exists():
        return "there is none yet"
    if not stamp:
        return "the one here was never finished"
    if stamp.get("root") != str(root):
        return "the one here was made for another folder"
    if not python_runs(venv):
        return "its Python does not run"
    lost = sorted(set(stamp["packages"]) - packages(venv)) or missing_files(venv)
    return f"it lost {', '.join(lost[:3])}" if lost else ""


def python_runs(venv):
    """Tell whether the environment's interpreter starts, is new enough and belongs to it."""
    code = f"import sys; sys.exit(sys.version_info < {OLDEST} or sys.prefix == sys.base_prefix)"
    try:
        done = subprocess.run([str(python_of(venv)), "-c", code], stdin=subprocess.DEVNULL, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def python_of(venv):
    """Return the path of the environment's interpreter."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def site_packages(venv):
    """Return the folders that hold installed packages."""
    return [*venv.glob("lib/python*/site-packages"), *venv.glob("Lib/site-packages")]


def packages(venv):
    """Return the names of all installed packages, without versions: an upgrade by hand is no damage."""
    found = [path for folder in site_packages(venv) for path in folder.glob("*.dist-info")]
    return {re.sub(r"[-_.]+", "-", path.name.split("-")[0]).lower() for path in found}


def missing_files(venv):
    """Return files that packages say they installed and that are gone."""
    return [
        line[0]
        for folder in site_packages(venv)
        for info in folder.glob("*.dist-info")
        for line in record_of(info)
        if not line[0].endswith(".pyc") and not os.path.exists(os.path.join(str(folder), line[0]))
    ]


def record_of(info):
    """Return the lines of a package's list of files; a package without one counts as damaged."""
    record = info / "RECORD"
    if not record.exists():
        return [[str(record.relative_to(info.parent))]]
    with record.open(encoding="utf-8", newline="") as lines:
        return [line for line in csv.reader(lines) if line]


def make_venv(venv):
    """Make an empty environment that holds pip and uv."""
    if venv.is_symlink() or venv.is_file():
        venv.unlink()
    elif venv.exists():
        shutil.rmtree(venv)
    # the base interpreter, since the one running may itself lie in the folder that just went
    run([getattr(sys, "_base_executable", "") or sys.executable, "-m", "venv", ".venv"], cwd=venv.parent)
    pip = [python_of(venv), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, "-c", "constraints.txt", "uv"], cwd=venv.parent)


def mend_kernels(root):
    """Copy the configuration of this environment's notebook kernels to where they look for it."""
    folder = root / ".venv" / "etc" / "ipython"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(str(root / "tools" / KERNEL_CONFIG), str(folder / KERNEL_CONFIG))


def install(root, wanted, *, renew_torch=False):
    """Install the package in place with its extras, by uv: it is quick, and it knows the builds of torch.

    Bytecode is compiled at once. Otherwise the first import of each package does it, and where
    PYTHONDONTWRITEBYTECODE is set, as in many containers, every process would compile torch from source again.
    """
    python = python_of(root / ".venv")
    command = [python, "-m", "uv", "pip", "install", "--compile-bytecode", "--python", python, "-c", "constraints.txt"]
    if wanted["backend"]:
        command += ["--torch-backend", wanted["backend"]]
    if renew_torch:
        command += [word for name in BUILDS_OF_TORCH for word in ("--reinstall-package", name)]
    run([*command, "-e", f".[{','.join(wanted['extras'])}]"], cwd=root)  # relative: a path may hold spaces


def backend_here(root):
    """Return "cpu" where CUDA, which torch brings on Linux, would be 2.6 GB for nothing, else ""."""
    if sys.platform != "linux" or has_nvidia():
        return ""
    if cpu_builds_answer(root):
        say("no NVIDIA driver is here, so torch comes without CUDA (TORCH_BACKEND=auto asks for what fits the machine)")
        return "cpu"
    say(
        "no NVIDIA driver is here, but the index of torch's CPU builds does not answer. So the usual build is installed"
    )
    return ""


def has_nvidia():
    """Tell whether a driver for NVIDIA's cards is loaded, or within reach as on WSL."""
    return os.path.exists("/proc/driver/nvidia/version") or shutil.which("nvidia-smi") is not None


def cpu_builds_answer(root):
    """Tell whether uv finds the builds of torch for CPUs. It installs nothing."""
    python = python_of(root / ".venv")
    command = [python, "-m", "uv", "pip", "install", "--python", python, "-c", "constraints.txt", "--dry-run"]
    quick = {**os.environ, "UV_HTTP_RETRIES": "0", "UV_HTTP_TIMEOUT": "10"}
    try:
        done = subprocess.run(
            [str(word) for word in [*command, "--torch-backend", "cpu", "torch"]],
            cwd=str(root),
            env=quick,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def fingerprint(root):
    """Return a hash of the two files that say what is installed, the same on every operating system."""
    text = "".join((root / name).read_text(encoding="utf-8") for name in ("pyproject.toml", "constraints.txt"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def read_stamp(venv):
    """Return what the last finished set-up wrote, or {} without one."""
    try:
        return json.loads((venv / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def write_stamp(venv, values):
    """Write the stamp in one step, so that it is never half there."""
    draft = venv / (STAMP + ".new")
    draft.write_text(json.dumps(values, indent=1), encoding="utf-8")
    os.replace(str(draft), str(venv / STAMP))


def run(command, *, cwd):
    """Run one step, showing what it prints; a failing step raises CalledProcessError."""
    command = [str(word) for word in command]
    say(" ".join(command))
    subprocess.run(command, check=True, cwd=str(cwd), stdin=subprocess.DEVNULL)


def say(sentence):
    """Tell the reader what happens; on stderr, so that a caller's stdout stays clean."""
    print("sparsekit set-up: " + sentence, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
