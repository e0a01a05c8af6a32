//! The integration tests: one binary, so that they build once.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

mod detection;
mod fixture;
mod library;
mod stress;
