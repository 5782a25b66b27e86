"""The commands of Slurm, as far as submitit asks for them, on this machine: sbatch, srun, sacct, scancel.

`install(folder)` writes them below `folder` and returns the PATH on which they come first. Each submitted script is
kept as ``folder/ID.sh``, each state as ``folder/ID``, or ``ID_TASK`` for tasks of an array.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

COMMANDS = ("sbatch", "srun", "sacct", "scancel")

AT_ONCE = 2
"""Tasks, as if there were as many machines."""

PROGRAM = """#!{python} -S
import fcntl, os, re, signal, subprocess, sys, time
folder, at_once, (command, *given) = {folder!r}, {at_once}, [os.path.basename(sys.argv[0]), *sys.argv[1:]]
path = lambda name: os.path.join(folder, name)
def write(name, text):
    with open(path(name) + "~", "w") as file:
        file.write(text)
    os.replace(path(name) + "~", path(name))
def ids(job):
    return [each for each in os.listdir(folder) if re.fullmatch(rf"{{job}}(_[0-9]+)?", each)]
def told(job):
    return open(path(job)).read().split()
def start(script, job, task):
    whole = job if task is None else f"{{job}}_{{task}}"
    with locked():
        return begin(script, job, task, whole)
def locked():
    lock = open(path("lock.sh~"), "w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock
def begin(script, job, task, whole):
    if told(whole)[0] != "PENDING":
        return None
    env = dict(os.environ, SLURM_JOB_ID=job, SLURM_NTASKS="1", SLURM_JOB_NUM_NODES="1", SLURM_NODEID="0",
               SLURM_PROCID="0", SLURM_LOCALID="0", SLURM_JOB_NODELIST="localhost")
    if task is not None:
        env.update(SLURM_ARRAY_JOB_ID=job, SLURM_ARRAY_TASK_ID=str(task))
    process = subprocess.Popen(["bash", script], env=env, start_new_session=True)
    write(whole, f"RUNNING {{process.pid}}")
    return whole, process
def serve(script, job, tasks):
    waiting, running = list(tasks), []
    while waiting or running:
        while waiting and len(running) < at_once:
            started = start(script, job, waiting.pop(0))
            running += [started] if started else []
        for whole, process in list(running):
            if process.poll() is not None:
                running.remove((whole, process))
                if told(whole)[0] == "RUNNING":
                    write(whole, "FAILED" if process.returncode else "COMPLETED")
        time.sleep(0.02)
if command == "sbatch":
    text = open(given[-1]).read()
    job = str(100 + sum(each.endswith(".sh") for each in os.listdir(folder)))
    write(job + ".sh", text)
    array = re.search(r"^#SBATCH --array=0-([0-9]+)", text, re.M)
    tasks = range(int(array.group(1)) + 1) if array else [None]
    for task in tasks:
        write(job if task is None else f"{{job}}_{{task}}", "PENDING")
    print("Submitted batch job", job, flush=True)
    if os.fork():
        os._exit(0)
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    serve(path(job + ".sh"), job, tasks)
elif command == "srun":
    while given and given[0].startswith("--"):
        given = given[2:] if given[0] in ("--output", "--error") else given[1:]
    os.execvp(given[0], given)
elif command == "sacct":
    print("JobID|State|NodeList")
    for job in sorted({{each for name, each in zip(given, given[1:]) if name == "-j"}}):
        for each in ids(job):
            print(f"{{each}}|{{told(each)[0]}}|localhost")
elif command == "scancel":
    with locked():
        for each in ids(given[-1]):
            state, *pid = told(each)
            if state in ("PENDING", "RUNNING"):
                write(each, "CANCELLED")
                if pid:
                    os.killpg(int(pid[0]), signal.SIGKILL)
"""


def install(folder: Path) -> str:
    """Write the commands below an empty `folder`, and return a PATH that has them first."""
    state, programs = folder / "state", folder / "bin"
    for each in (state, programs):
        each.mkdir(parents=True)
    for command in COMMANDS:
        program = programs / command
        program.write_text(PROGRAM.format(python=sys.executable, folder=str(state), at_once=AT_ONCE))
        program.chmod(0o755)
    return f"{programs}{os.pathsep}{os.environ['PATH']}"


def running(folder: Path) -> dict[str, int]:
    """Return the tasks that run now -> the process group of each."""
    found = {}
    for path in sorted((folder / "state").iterdir()):
        said = path.read_text().split() if path.suffix == "" else []
        if len(said) == 2:
            found[path.name] = int(said[1])
    return found
