"""One table for people and one JSON file for everything else."""

import json
from statistics import median

import check
import measure

OURS = "Tidegate"


def figures(samples):
    """Medians over the rounds of one server."""
    of = {
        "cpu_us_per_request": [sample.cpu_us_per_request for sample in samples],
        "requests_per_second": [sample.requests_per_second for sample in samples],
        "p50_us": [sample.p50_us for sample in samples],
        "p99_us": [sample.p99_us for sample in samples],
        "resident_kib": [sample.resident_kib for sample in samples],
    }
    return {name: median(values) for name, values in of.items() if None not in values}


def ratios(row, figure):
    """Tidegate over each rival, round by round: what disturbed a round disturbed both. Median, lowest, highest."""
    ours = row.samples.get(OURS, [])
    found = {}
    for name, theirs in row.samples.items():
        pairs = [(figure(mine), figure(their)) for mine, their in zip(ours, theirs)]
        rounds = sorted(mine / their for mine, their in pairs if mine and their and mine > 0 and their > 0)
        if name != OURS and rounds:
            found[name] = {"median": median(rounds), "lowest": rounds[0], "highest": rounds[-1]}
    return found


def as_json(row):
    """All of a row."""
    scenario = row.scenario
    return {
        "group": scenario.group,
        "scenario": scenario.name,
        "per": scenario.unit,
        "aim": scenario.aim,
        "aim_is_for": scenario.aim_figure,
        "servers": {
            name: {"medians": figures(samples), "rounds": [_sample_as_json(sample) for sample in samples]}
            for name, samples in row.samples.items()
        },
        "tidegate_over": ratios(row, scenario.figure_of),
        "left_out": row.left_out,
        "failed": row.failed,
    }


def _sample_as_json(sample):
    return {
        "requests": sample.requests,
        "seconds": sample.seconds,
        "cpu_ns": sample.cpu_ns,
        "p50_us": sample.p50_us,
        "p99_us": sample.p99_us,
        "resident_kib": sample.resident_kib,
        **sample.more,
    }


def write(path, rows, command_line, versions, quick):
    """The JSON file."""
    whole = {
        "command": command_line,
        "quick": quick,
        "machine": measure.machine(),
        "versions": versions,
        "tls": check.TLS,
        "scenarios": [as_json(row) for row in rows],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(whole, indent=1) + "\n")


def table(rows):
    """A line for each scenario and server; the last columns are Tidegate's figure over this server's."""
    lines = [("scenario", "server", "CPU µs", "per s", "p50 µs", "p99 µs", "MiB", "Tidegate ÷ it", "aim")]
    for row in rows:
        found = ratios(row, row.scenario.figure_of)
        title = row.scenario.name
        for name, samples in row.samples.items():
            of = figures(samples)
            ratio = found.get(name)
            aim = f"≤ {row.scenario.aim}" if name == "nginx" and row.scenario.aim else ""
            lines.append(
                (
                    title,
                    name,
                    _number(of.get("cpu_us_per_request")),
                    _number(of.get("requests_per_second")),
                    _number(of.get("p50_us")),
                    _number(of.get("p99_us")),
                    _number(of["resident_kib"] / 1024 if "resident_kib" in of else None),
                    f"{ratio['median']:.2f}" if ratio else "",
                    aim,
                )
            )
            title = ""
            more = row.scenario.summary(samples)
            if more:
                lines.append(("", "", more))
        for name, why in {**row.left_out, **{name: f"FAILED: {why}" for name, why in row.failed.items()}}.items():
            lines.append((title, name, why.splitlines()[0]))
            title = ""
    return _aligned(lines)


def _aligned(lines):
    full = [line for line in lines if len(line) == len(lines[0])]
    widths = [max(len(line[column]) for line in full) for column in range(len(full[0]))]
    text = []
    for line in lines:
        cells = [
            cell.ljust(width) if column < 2 or len(line) < len(full[0]) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths))
        ]
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)


def _number(value):
    if value is None:
        return "–"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
