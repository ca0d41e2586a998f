"""Python programs that are run many times: imported once, and forked for each run.

Every run is a process of its own with the arguments, environment and exit code of the program; it only does not
spend half a second on imports.
"""

import json
import subprocess
import sys
from pathlib import Path

from .programs import Done

# Reads one JSON line for each run, and answers with one that has the exit code.
_SERVER = """
import importlib, json, os, sys
module, name = sys.argv[1].split(":")
main = getattr(importlib.import_module(module), name)
answers = os.fdopen(os.dup(1), "w")
for line in sys.stdin:
    run = json.loads(line)
    child = os.fork()
    if child == 0:
        code = 70
        try:
            for number, path in enumerate([run["stdin"], run["stdout"], run["stderr"]]):
                os.dup2(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), number)
            sys.stdin = open(0, closefd=False)
            os.chdir(run["folder"])
            sys.argv = run["arguments"]
            code = main() or 0
        except SystemExit as exit:
            code = exit.code if isinstance(exit.code, int) else 0 if exit.code is None else 1
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    answers.write(json.dumps(os.waitstatus_to_exitcode(status)) + "\\n")
    answers.flush()
"""


class Forked:
    """A program by its function (`module:name`), with the environment of all its runs."""

    def __init__(self, function, name, folder, environment):
        self.name, self.folder = name, Path(folder)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVER, function],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._runs = 0

    def run(self, *arguments, stdin=b"", folder=None):
        """Runs it to its end, whatever that is."""
        self._runs += 1
        files = {name: self.folder / f"{self._runs}.{name}" for name in ["stdin", "stdout", "stderr"]}
        files["stdin"].write_bytes(stdin)
        paths = {name: str(path) for name, path in files.items()}
        self._process.stdin.write(
            json.dumps(
                paths
                | {
                    "arguments": [self.name, *map(str, arguments)],
                    "folder": str(folder or self.folder),
                }
            )
            + "\n"
        )
        self._process.stdin.flush()
        code = json.loads(self._process.stdout.readline())
        return Done(code, files["stdout"].read_bytes(), files["stderr"].read_text(errors="replace"))

    def __call__(self, *arguments, **options):
        """Runs it, and it must succeed."""
        done = self.run(*arguments, **options)
        assert done.code == 0, f"{self.name} {' '.join(map(str, arguments))}: {done.code}\n{done.stderr}{done.text}"
        return done

    def close(self):
        self._process.stdin.close()
        self._process.wait(10)
