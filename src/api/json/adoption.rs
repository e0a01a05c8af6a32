//! The JSON forms of adoptions. No values are near.

use serde::Serialize;

use super::rfc3339;
use crate::adoption::{Adoption, Adoptions};
use crate::secrets::Volume;

/// How many consumers use the current revision; the adoption routes tell which.
#[derive(Serialize)]
pub(super) struct Counts {
    adopted: usize,
    consumers: usize,
    all_adopted: bool,
}

impl Counts {
    /// `None` where nobody has ever said anything.
    pub(super) fn new(adoptions: &Adoptions) -> Option<Self> {
        let consumers = adoptions.consumers.len();
        let (adopted, all_adopted) = (adoptions.adopted(), adoptions.all_adopted());
        (consumers > 0).then_some(Self { adopted, consumers, all_adopted })
    }
}

#[derive(Serialize)]
struct Adopted<'a> {
    name: &'a str,
    revision: &'a str,
    generation: u64,
    all_adopted: bool,
    lag_seconds: f64,
    consumers: Vec<Consumer<'a>>,
}

#[derive(Serialize)]
struct Consumer<'a> {
    consumer: &'a str,
    revision: &'a str,
    generation: u64,
    is_current: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    adopted_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seen_at: Option<String>,
}

impl<'a> From<&'a Adoption> for Consumer<'a> {
    fn from(adoption: &'a Adoption) -> Self {
        Self {
            consumer: adoption.consumer.as_str(),
            revision: &adoption.revision,
            generation: adoption.generation,
            is_current: adoption.is_current,
            adopted_at: rfc3339(adoption.adopted_at),
            seen_at: rfc3339(adoption.seen_at),
        }
    }
}

/// Who uses what of one volume.
pub(in crate::api) fn adoptions(
    volume: &Volume,
    adoptions: &Adoptions,
) -> Result<String, serde_json::Error> {
    serde_json::to_string(&Adopted {
        name: volume.name().as_str(),
        revision: &adoptions.revision,
        generation: adoptions.generation,
        all_adopted: adoptions.all_adopted(),
        lag_seconds: adoptions.lag.as_secs_f64(),
        consumers: adoptions.consumers.iter().map(Consumer::from).collect(),
    })
}

/// What one consumer has said.
pub(in crate::api) fn adoption(adoption: &Adoption) -> Result<String, serde_json::Error> {
    serde_json::to_string(&Consumer::from(adoption))
}
