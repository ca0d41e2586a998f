"""Reads Prometheus' text format, as far as our own metrics use it."""

import re

_SAMPLE = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Exposition:
    """The samples of one scrape."""

    def __init__(self, text):
        self.samples = []
        for line in text.splitlines():
            if not line or line.startswith("#"):
                continue
            match = _SAMPLE.match(line)
            assert match, f"not a sample: {line!r}"
            labels = dict(_LABEL.findall(match["labels"] or ""))
            self.samples.append((match["name"], labels, float(match["value"])))

    def sum(self, name, **labels):
        """The sum over every sample of `name` that carries these labels."""
        return sum(
            value
            for sample, carried, value in self.samples
            if sample == name and labels.items() <= carried.items()
        )

    def has(self, name):
        return any(sample == name for sample, _, _ in self.samples)
