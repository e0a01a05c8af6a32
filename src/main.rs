//! The `secretwatch` command.

fn main() {}
