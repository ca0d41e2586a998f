//! The `tidegate` binary; everything it does is in the library.

use std::process::ExitCode;

/// Cache hits allocate little, but from many threads at once; mimalloc keeps those threads apart.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tidegate::cli::main()
}
