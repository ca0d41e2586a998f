"""Programs of others, as they are run by hand."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


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


def s3cmd(folder, address, access_key_id, secret, **further):
    """s3cmd for the store at `address`, with its settings in `folder`."""
    settings = {
        "access_key": access_key_id,
        "secret_key": secret,
        "host_base": address,
        # Without a place for the bucket its name is part of the path.
        "host_bucket": address,
        "use_https": "False",
        "multipart_chunk_size_mb": "5",
        "guess_mime_type": "True",
        "use_mime_magic": "False",
        "max_retries": "1",
        **further,
    }
    config = folder / "s3cfg"
    config.write_text("[default]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items()))
    # The package brings the program beside Python's own.
    program = Path(sys.executable).with_name("s3cmd")
    environment = {"HOME": str(folder), "PATH": os.environ["PATH"]}
    return Program(sys.executable, program, "--config", config, "--no-progress", environment=environment)
