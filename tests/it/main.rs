//! The integration tests: one binary, so that they build once.

mod detection;
mod fixture;
mod library;
mod stress;
