"""Waiting for things that send no event, always with a deadline."""

import threading
import time

# Long enough for a debug build on a busy machine with a busy disk; a test that gets near it is broken.
PATIENCE_SECONDS = 60.0


class Deadline:
    """A moment after which waiting is a failure."""

    def __init__(self, seconds=PATIENCE_SECONDS):
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self):
        """Seconds until then, never below zero."""
        return max(0.0, self._end - time.monotonic())

    def passed(self):
        return self.left() == 0.0


def poll(question, what, seconds=PATIENCE_SECONDS):
    """Asks until the answer is true and returns it. Only for peers that cannot be waited on."""
    deadline = Deadline(seconds)
    pause = threading.Event()
    while True:
        answer = question()
        if answer:
            return answer
        if deadline.passed():
            raise AssertionError(f"{what}: not within {seconds} s")
        pause.wait(0.02)
