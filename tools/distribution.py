"""What users get: makes wheel and sdist, installs them in an empty environment, and does there what the site says.

    python tools/distribution.py                    # prints what it measured; ends with 1 where something is not so
    python tools/distribution.py --loggers          # loggers of others, too: a few hundred megabytes more
    python tools/distribution.py --keep dist --repository https://…/gossip-node --ref v0.1.0      # for a registry

Only the base dependencies are installed first, with torch pinned: three nodes learn from the commands of docs/start.md,
and whatever needs an extra says so in one sentence. A registry's page shows README.md, so its links are made absolute.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "tools" / "constraints.txt"
INSTALL = f"python -m pip install --quiet --disable-pip-version-check -c {CONSTRAINTS}"
NOWHERE = "https://example.invalid/gossip-node"
"""Where no address is given: links of the page are absolute, and lead nowhere."""

RUN = "gossip-scenario run quickstart --quiet --set stop.rounds=2 --force --out runs/x"
MISSING = {
    "gossip-scenario report runs/first": "a report is written with bokeh",
    "gossip-scenario report runs/first --pdf x.pdf": "--pdf is drawn with matplotlib",
    "gossip-scenario tune quickstart --trials 1": "the page of a study is drawn with matplotlib",
    "gossip-node evaluate --home home-0": "are computed with scikit-learn",
    "gossip-node export --home home-0 --format onnx --out x.onnx": "needs the packages onnx and onnxscript",
    f"{RUN} --set data.source=x.csv --set data.target=y": "is read with pyarrow",
    f"{RUN} --set data.source=pictures": "is read with Pillow",
    f"{RUN} --live": "needs the packages quart-trio",
    f"{RUN} --set codec.kind=int8 --set codec.compress=zstd": "takes zstandard",
    **{
        f"{RUN} --set logger.kind={kind}": f"writes with {kind}"
        for kind in ("tensorboard", "mlflow", "wandb")
    },
}
"""Command -> what its one sentence says."""

WANTED_S = {"python -c 'import gossip'": 0.3, "gossip-node --help": 0.2, "gossip-scenario list": None}
"""Command -> seconds of CPU on a quiet machine; a busy one takes more, so that they are told and decide nothing."""

failures: list[str] = []


def main() -> int:
    """Do all of it; return the exit code."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--keep", type=Path, help="put wheel and sdist here")
    asked.add_argument("--repository", default=NOWHERE, help="address of the repository, for links")
    asked.add_argument("--ref", default="main", help="what of it the links show")
    asked.add_argument("--loggers", action="store_true", help="install and run loggers of others")
    told = asked.parse_args()
    with tempfile.TemporaryDirectory(prefix="packaging-") as name:
        place = Path(name)
        wheel, sdist = built(place, told.repository, told.ref)
        if told.keep is not None:
            told.keep.mkdir(parents=True, exist_ok=True)
            for path in (wheel, sdist):
                shutil.copy(path, told.keep)
        tried(place, wheel, sdist, loggers=told.loggers)
    for failure in failures:
        print(f"FAILED  {failure}")
    print("all as it should be" if not failures else f"{len(failures)} of these are not as they should be")
    return int(bool(failures))


def absolute(readme: str, repository: str, ref: str) -> str:
    """Return a page whose links and pictures lead to `repository`, wherever it is shown."""

    def led(link: re.Match[str]) -> str:
        target = link[2]
        if re.match(r"[a-z]+:|#", target):
            return link[0]
        kind = "raw" if link[1].startswith("!") else "blob"
        return f"{link[1]}({repository}/{kind}/{ref}/{target})"

    return re.sub(r"(!?\[[^\]]*\])\(([^)\s]+)\)", led, readme)


def built(place: Path, repository: str, ref: str) -> tuple[Path, Path]:
    """Return wheel and sdist of what the tree has under version control."""
    tree = place / "tree"
    files = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, files.split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name)
    page = (tree / "README.md").read_text(encoding="utf-8")
    (tree / "README.md").write_text(absolute(page, repository, ref), encoding="utf-8")
    project = tree / "pyproject.toml"
    text = project.read_text(encoding="utf-8")
    urls = (
        f'[project.urls]\nRepository = "{repository}"\nChanges = "{repository}/blob/{ref}/CHANGELOG.md"\n\n'
    )
    project.write_text(text.replace("[project.scripts]", f"{urls}[project.scripts]"), encoding="utf-8")
    maker = environment(place / "maker")
    call(maker, "python -m pip install --quiet --disable-pip-version-check build", cwd=place)
    call(maker, f"python -m build --outdir {place / 'made'} {tree}", cwd=place)
    (wheel,), (sdist,) = ((place / "made").glob(pattern) for pattern in ("*.whl", "*.tar.gz"))
    for path in (wheel, sdist):
        print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")
    return wheel, sdist


def tried(place: Path, wheel: Path, sdist: Path, *, loggers: bool) -> None:
    """Install what was built, and do what the site says."""
    bare = environment(place / "bare")
    work = place / "work"
    work.mkdir()
    installed(bare, work, wheel)
    alone(bare, work)
    call(
        bare,
        f"python -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall {sdist}",
        cwd=work,
    )
    call(bare, "gossip-scenario run quickstart --quiet --set stop.rounds=1 --out runs/sdist", cwd=work)
    expect((work / "runs/sdist/summary.json").exists(), "quickstart runs from the sdist")
    with_extras(bare, work, wheel, loggers=loggers)


def installed(bare: Path, work: Path, wheel: Path) -> None:
    """Install the wheel alone: how large is it, and how quickly does it start?"""
    before = size(bare)
    call(bare, f"{INSTALL} {wheel}", cwd=work)
    listed = call(bare, "python -m pip list --format freeze --disable-pip-version-check", cwd=work)[
        1
    ].splitlines()
    torch = size(bare / "lib", "torch")
    print(
        f"installed: {len(listed)} packages, {(size(bare) - before) / 1e6:.0f} MB, of which torch {torch / 1e6:.0f} MB"
    )
    expect("torch==2.13.0" in "\n".join(listed), "torch is the pinned one")
    for command, wanted in WANTED_S.items():
        call(bare, command, cwd=work)  # compiles
        used_s = min(call(bare, command, cwd=work)[2] for _ in range(10))
        print(f"{command}: {used_s:.2f} s of CPU{'' if wanted is None else f', wanted: less than {wanted}'}")


def alone(bare: Path, work: Path) -> None:
    """Do what the site says, without extras; each that is missed is told in one sentence."""
    said = call(
        bare, "gossip-scenario run quickstart --quiet --set stop.rounds=5 --out runs/first", cwd=work
    )[1]
    expect(
        "no report will be written: a report is written with bokeh" in said,
        "a run says that there is no report",
    )
    expect((work / "runs/first/summary.json").exists(), "quickstart runs with the base alone")
    for line in commands_of_start():
        call(bare, line, cwd=work)
    for number in range(3):
        expect(
            (work / f"home-{number}/model.safetensors").exists(), f"node {number} of docs/start.md has learnt"
        )
    (work / "x.csv").write_text("a,y\n1,0\n2,1\n")
    (work / "pictures/a").mkdir(parents=True)
    (work / "pictures/a/x.png").write_bytes(b"")
    for command, sentence in MISSING.items():
        code, said, _ = call(bare, command, cwd=work, fails=True)
        # That there will be no report is said of each run.
        one = len([line for line in said.splitlines() if not line.startswith("no report ")]) == 1
        expect(code in (2, 4) and sentence in said and one, f"{command}\n        says: {said.strip()[-300:]}")


def with_extras(bare: Path, work: Path, wheel: Path, *, loggers: bool) -> None:
    """Install extras, and see that what they are for is there."""
    call(bare, f"{INSTALL} '{wheel}[report,scores]'", cwd=work)
    call(bare, "gossip-scenario report runs/first", cwd=work)
    expect((work / "runs/first/report.html").exists(), "with [report] there is a page")
    call(bare, "gossip-node evaluate --home home-0", cwd=work)
    if loggers:
        call(bare, f"{INSTALL} '{wheel}[tensorboard,mlflow,wandb,pandas]'", cwd=work)
        for kind, left in (
            ("tensorboard", "tensorboard/peer-00"),
            ("mlflow", "mlflow.db"),
            ("wandb", "wandb"),
        ):
            call(bare, f"{RUN.replace('runs/x', f'runs/{kind}')} --set logger.kind={kind}", cwd=work)
            expect((work / "runs" / kind / left).exists(), f"[logger] kind = '{kind}' writes {left}")


def commands_of_start() -> list[str]:
    """Return the commands of docs/start.md that make three nodes learn, as they stand; few rounds."""
    text = (ROOT / "docs" / "start.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```sh\n(for i in 0 1 2; do gossip-node init.*?)```", text, re.DOTALL)
    return block.replace("--home home-$i &", "--home home-$i --rounds 3 &").splitlines()


def environment(path: Path) -> Path:
    """Return a new environment."""
    venv.create(path, with_pip=True)
    return path


def call(environment: Path, command: str, *, cwd: Path, fails: bool = False) -> tuple[int, str, float]:
    """Return code, both outputs together, and seconds of CPU of a command there."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    path = f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}"
    # As on a user's machine: nothing of this one's modules, and byte code is kept after the first start.
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        command,
        shell=True,
        cwd=cwd,
        env={**variables, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode and not fails:
        sys.exit(f"{command}: ends with {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    used = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return done.returncode, done.stdout + done.stderr, used


def size(folder: Path, name: str = "") -> int:
    """Return how many bytes lie in a folder, or below one of that name in it."""
    return sum(
        path.lstat().st_size
        for path in folder.rglob("*")
        if path.is_file() and (not name or f"/site-packages/{name}/" in path.as_posix())
    )


def expect(holds: bool, what: str) -> None:
    """Print what was expected, and remember what does not hold."""
    print(f"{'ok    ' if holds else 'FAILED'}  {what}")
    if not holds:
        failures.append(what)


if __name__ == "__main__":
    sys.exit(main())
