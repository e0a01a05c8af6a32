//! The `secretwatch` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    secretwatch::cli::main()
}
