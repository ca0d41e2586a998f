#!/usr/bin/env bash
# The tests that take too long for every day, at full size. Each of the parts in SOAK runs, in that order:
#
#   fleet     10,000 clients of one cold object (FLEET_CLIENTS for other numbers): one origin request, and the
#             delays of the first bytes
#   simulate  the cache engine under SIMULATION_SEEDS (1,000,000) seeds
#   crash     ROUNDS (300) times kill -9 in the middle of uploads
#   store     the store under STORE_STEPS (20,000) random operations of boto3, compared with a model; STORE_KILLS (2,000)
#             times kill -9 at each step of a write; STORE_FAULTS (500) failing calls; STORE_ROUNDS (500) histories of
#             concurrent clients
#   disk      the disk tier filled faster than its disk writes, for DISK_FILL_SECONDS (600): its limits, and the
#             delays of hits; needs root for a slow disk of its own
#   floods    each HTTP/2 flood at full speed for FLOOD_SECONDS (30): cut off, and what another client sees meanwhile
#   slow      SLOW_CLIENTS (10,000) of each kind of slow client: cut off, and what another client sees meanwhile
#   blobs     the store's blobs through BLOB_MODEL_SEEDS (2,000) seeds of faults and power losses, and BLOB_FLIPS (10,000)
#             flipped bits in each kind of redundancy
#   tls       testssl.sh against a listener: no weak protocol, no weak cipher
#
# SOAK_PROFILE is the cargo profile; release unless something else is set.
set -euo pipefail

cd "$(dirname "$0")/.."
profile=${SOAK_PROFILE:-release}
folder=$profile
if [ "$profile" = dev ]; then
    folder=debug
fi

fleet() {
    # Each client is a connection here and one at the edge, which inherits this limit.
    ulimit -n "$(ulimit -Hn)"
    cargo test --locked --profile "$profile" --test edge_fleet -- --ignored --nocapture
}

simulate() {
    SIMULATION_SEEDS=${SIMULATION_SEEDS:-1000000} \
        cargo test --locked --profile "$profile" --lib simulation -- --nocapture
}

crash() {
    cargo build --locked --profile "$profile"
    ROUNDS=${ROUNDS:-300} TIDEGATE_BIN=$PWD/target/$folder/tidegate \
        target/venv/bin/python -m pytest tests/clients/test_crash.py
}

store() {
    cargo build --locked --profile "$profile"
    STORE_STEPS=${STORE_STEPS:-20000} TIDEGATE_BIN=$PWD/target/$folder/tidegate \
        target/venv/bin/python -m pytest tests/clients/store/test_boto3_model.py
    STORE_KILLS=${STORE_KILLS:-2000} STORE_FAULTS=${STORE_FAULTS:-500} STORE_ROUNDS=${STORE_ROUNDS:-500} \
        cargo test --locked --profile "$profile" --test origin_crashes --test origin_faults --test origin_history \
        -- --nocapture
}

disk() {
    DISK_FILL_SECONDS=${DISK_FILL_SECONDS:-600} \
        cargo test --locked --profile "$profile" --test edge_disk_sustained -- --ignored --nocapture
}

floods() {
    FLOOD_SECONDS=${FLOOD_SECONDS:-30} \
        cargo test --locked --profile "$profile" --test edge_floods -- --ignored --nocapture
}

slow() {
    ulimit -n "$(ulimit -Hn)"
    SLOW_CLIENTS=${SLOW_CLIENTS:-10000} \
        cargo test --locked --profile "$profile" --test edge_slow_clients -- --ignored --nocapture
}

blobs() {
    BLOB_MODEL_SEEDS=${BLOB_MODEL_SEEDS:-2000} BLOB_FLIPS=${BLOB_FLIPS:-10000} \
        cargo test --locked --profile "$profile" --test origin_blobs --test origin_blobs_rot -- --nocapture
}

tls() {
    cargo test --locked --profile "$profile" --test edge_tls -- --ignored --nocapture
}

for part in ${SOAK:-fleet simulate crash store disk floods slow blobs tls}; do
    case $part in
    fleet | simulate | crash | store | disk | floods | slow | blobs | tls)
        echo "soak: $part"
        "$part"
        ;;
    *)
        echo "soak: there is no part $part; there are fleet, simulate, crash, store, disk, floods, slow, blobs and tls" >&2
        exit 2
        ;;
    esac
done
