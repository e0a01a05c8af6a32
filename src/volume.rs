//! (being written)

/// The most bytes that all values of a volume may have together.
pub const MAX_VOLUME_BYTES: usize = 8 * 1024 * 1024;
