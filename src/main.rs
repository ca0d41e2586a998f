//! The `tidegate` binary; everything it does is in the library.

// A panic must name the invariant that is broken: `expect("…")` does, `unwrap` does not. Tests may (clippy.toml).
#![deny(clippy::unwrap_used)]

use std::process::ExitCode;

/// Cache hits allocate little, but from many threads at once; mimalloc keeps those threads apart.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tidegate::cli::main()
}
