//! The `crosstalk` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    crosstalk::cli::main()
}
