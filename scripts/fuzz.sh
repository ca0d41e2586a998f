#!/usr/bin/env bash
# Fuzzes each target for FUZZ_SECONDS (default 60), one after the other, and stops at the first fault. FUZZ_TARGETS names
# some of them; all otherwise.
#
# The committed corpus in fuzz/corpus is only read: what is found goes to target/fuzz-corpus, the input that broke
# something to fuzz/artifacts. Such an input belongs into fuzz/corpus together with its fix, where `cargo test`
# replays it. Without a sanitizer the pinned compiler is enough and the build is half as long; the crate forbids
# unsafe code, so there is little that one could find in it.
set -euo pipefail

cd "$(dirname "$0")/.."
seconds=${FUZZ_SECONDS:-60}
PATH="$PWD/target/tools/bin:$PATH"

# What is fuzzed is built from the versions that are shipped; cargo adds libFuzzer to the copy.
cp Cargo.lock fuzz/Cargo.lock
cargo fuzz build --sanitizer none --codegen-units 16 --target-dir target/fuzz

for file in fuzz/fuzz_targets/*.rs; do
    target=$(basename "$file" .rs)
    if [[ -n ${FUZZ_TARGETS:-} && " $FUZZ_TARGETS " != *" $target "* ]]; then
        continue
    fi
    echo "fuzz: $target"
    found=target/fuzz-corpus/$target
    mkdir -p "$found"
    cargo fuzz run --sanitizer none --codegen-units 16 --target-dir target/fuzz "$target" \
        "$found" "fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -max_len=2048 -timeout=10 -rss_limit_mb=1024
done
