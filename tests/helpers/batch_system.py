"""A stand-in for PBS, LSF and Grid Engine: their commands for submitting and asking, on this machine.

Called as `batch_system.py SYSTEM STATE COMMAND WORDS...`; STATE is the folder of its notes. It takes the options that
profiles/ uses and refuses others, gives a job no variable that the options do not give, and answers in the form of each
system. Where STATE has a file `kill` with the name of a rule, the next job of that rule is ended before it begins.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

# Number of values of each option.
OPTIONS = {
    "pbs": {"-V": 0, "-N": 1, "-l": 1, "-j": 1, "-o": 1},
    "lsf": {"-J": 1, "-n": 1, "-R": 1, "-W": 1, "-gpu": 1, "-o": 1},
    "sge": {"-terse": 0, "-V": 0, "-cwd": 0, "-S": 1, "-N": 1, "-pe": 2, "-l": 1, "-j": 1, "-o": 1},
}
ID = {"pbs": "{}.server", "lsf": "Job <{}> is submitted to default queue <normal>.", "sge": "{}"}
KILLED = 137


def parsed(system: str, words: list[str]) -> tuple[list[list[str]], str]:
    """The options with their values, and the script."""
    words, found = list(words), []
    while words[0].startswith("-"):
        if words[0] not in OPTIONS[system]:
            sys.exit(f"{system} has no option {words[0]}")
        count = 1 + OPTIONS[system][words[0]]
        found.append(words[:count])
        words = words[count:]
    (script,) = words
    return found, script


def submit(system: str, state: Path, words: list[str]) -> None:
    options, script = parsed(system, words)
    number = 1000 + len(list(state.glob("*.json")))
    note, ending = state / f"{number}.json", state / f"{number}.exit"
    note.write_text(json.dumps(options))
    (name,) = (values[0] for flag, *values in options if flag in ("-N", "-J"))
    exported = system == "lsf" or ["-V"] in options
    environment = dict(os.environ) if exported else {"HOME": os.environ["HOME"], "PATH": "/usr/bin:/bin"}
    kill = state / "kill"
    if kill.is_file() and kill.read_text() == name:
        kill.unlink()
        ending.write_text(str(KILLED))
    else:
        run = 'sh "$0"; echo $? > "$1.new"; mv "$1.new" "$1"'
        with (state / f"{number}.log").open("w") as log:
            command = ["sh", "-c", run, script, str(ending)]
            subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    print(ID[system].format(number))


def ask(system: str, state: Path, command: str, number: str) -> None:
    path = state / f"{number.removesuffix('.server')}.exit"
    status = int(path.read_text()) if path.is_file() else None
    if command == "bjobs":
        print("RUN" if status is None else "EXIT" if status else "DONE")
    elif system == "pbs":
        print(f"Job Id: {number}\n    Job_Name = job")
        print("    job_state = R" if status is None else f"    job_state = F\n    Exit_status = {status}")
    elif (command == "qstat") == (status is None):
        print(f"job_number: {number}" if status is None else f"failed       0\nexit_status  {status}")
    else:
        sys.exit(f"{command}: job {number} is not there")


def main() -> None:
    system, state, command, *words = sys.argv[1:]
    if command in ("qsub", "bsub"):
        submit(system, Path(state), words)
    else:
        ask(system, Path(state), command, words[-1])


if __name__ == "__main__":
    main()
