//! What is wrong ends the soak at once.
//!
//! The other processes end because their connection to this one does.

use std::io::Write;
use std::panic::PanicHookInfo;

use crate::world;

/// Ends the soak, saying what is wrong, with which seed, and where the logs are.
pub fn fail(what: &str) -> ! {
    let context = world::try_get().map(|world| {
        let (seed, at) = (world.seed, world.start.elapsed().as_secs_f64());
        let logs = world.directory.display();
        format!("\nafter {at:.1} s; repeat with --seed {seed}; logs and volumes are in {logs}")
    });
    say(&format!("WRONG: {what}{}", context.unwrap_or_default()));
    end()
}

/// Makes a panic of any thread a failure like the others.
pub fn catch_panics() {
    std::panic::set_hook(Box::new(|info: &PanicHookInfo<'_>| fail(&info.to_string())));
}

pub fn say(text: &str) {
    // Nobody is left to be told where standard error is closed.
    let _ = writeln!(std::io::stderr(), "soak: {text}");
}

#[expect(clippy::disallowed_methods, clippy::exit, reason = "dozens of threads are at work")]
fn end() -> ! {
    std::process::exit(1)
}
