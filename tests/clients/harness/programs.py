"""Programs of others, as they are run by hand."""

import json
import os
import subprocess
from dataclasses import dataclass


@dataclass
class Done:
    code: int
    stdout: bytes
    stderr: str

    @property
    def text(self):
        return self.stdout.decode()

    @property
    def json(self):
        return json.loads(self.stdout)


class Program:
    """A command with the arguments and the environment that all its runs share."""

    def __init__(self, *command, environment=None, seconds=60):
        self.command = [str(word) for word in command]
        # What the shell says about AWS is not meant for these tests.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        self.environment = inherited | (environment or {})
        self.seconds = seconds

    def run(self, *arguments, stdin=b""):
        """Runs it to its end, whatever that is."""
        done = subprocess.run(
            [*self.command, *map(str, arguments)],
            input=stdin,
            capture_output=True,
            check=False,
            env=self.environment,
            timeout=self.seconds,
        )
        return Done(done.returncode, done.stdout, done.stderr.decode(errors="replace"))

    def __call__(self, *arguments, **options):
        """Runs it, and it must succeed."""
        done = self.run(*arguments, **options)
        line = " ".join([*self.command, *map(str, arguments)])
        assert done.code == 0, f"{line}: {done.code}\n{done.stderr}{done.stdout.decode(errors='replace')}"
        return done
