//! secretwatch (crate docs follow)

#[cfg(feature = "cli")]
mod api;
mod changes;
mod engine;
mod error;
mod gate;
mod health;
mod metrics;
mod name;
mod secret;
mod secrets;
mod snapshot;
mod status;
mod store;
mod volume;

pub use changes::Changes;
pub use error::{Error, MissingKey, Stopped};
pub use name::{KeyName, MAX_NAME_BYTES, NameError, VolumeName};
pub use secret::{NotText, Secret};
pub use secrets::{
    Builder, DEFAULT_POLL_INTERVAL, DEFAULT_START_TIMEOUT, Detector, MAX_POLL_INTERVAL,
    MAX_VOLUMES, MIN_POLL_INTERVAL, Secrets, Volume, VolumeOptions,
};
pub use snapshot::{KeyChanges, Snapshot, VERSION_KEY};
pub use status::{Reason, State, Status, Trouble, Watch};
pub use volume::MAX_VOLUME_BYTES;
