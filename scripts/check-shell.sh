#!/usr/bin/env bash
# Every shell script parses, and shellcheck has nothing to say when it is here.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts=(scripts/*.sh .ci/run)
for script in "${scripts[@]}"; do
    bash -n "$script"
done
if command -v shellcheck >/dev/null; then
    shellcheck "${scripts[@]}"
fi
