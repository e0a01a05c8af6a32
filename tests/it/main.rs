//! The integration tests: one binary, so that they build once.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]
#![allow(unreachable_pub, reason = "nothing outside can reach a test")]

mod adoption;
mod canary;
mod detection;
mod doctor;
mod example;
mod faults;
mod fixture;
mod library;
mod reload;
mod run;
mod serve;
mod sidecar;
mod stress;
mod templates;
