-- Prints what wrk measured as one line of JSON, in units that need no parsing. Every script loads this.
function done(summary, latency)
    local errors = summary.errors
    io.write(string.format(
        'COMPARE {"requests": %d, "bytes": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, "failed": %d}\n',
        summary.requests, summary.bytes, summary.duration, latency:percentile(50), latency:percentile(99),
        errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
