//! Clients that read from a socket all the time.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::client::Client;
use crate::edition;
use crate::failure::fail;
use crate::tally::increase;
use crate::time::pause;
use crate::witness::Witness;
use crate::world::World;

/// Between two questions of a reader that does not wait for changes.
const PACE: Duration = Duration::from_millis(5);
/// Before a connection is tried again.
const PATIENCE: Duration = Duration::from_millis(20);

/// A server to read from.
#[derive(Clone)]
pub struct Source {
    pub name: &'static str,
    pub socket: PathBuf,
    /// Whether it is killed now and then.
    pub may_fail: bool,
}

/// Starts one waiting reader a volume, one that asks again and again, and one that follows events.
pub fn start(world: &'static World, source: &Source, volumes: &[&'static str]) {
    for volume in volumes {
        let mut witness = Witness::new(world, format!("{} waits", source.name), volume);
        spawn(world, source, move |client| long_poll(client, &mut witness));
    }
    let new = |kind: &str| {
        let witness = |volume: &&'static str| {
            (*volume, Witness::new(world, format!("{} {kind}", source.name), volume))
        };
        volumes.iter().map(witness).collect::<BTreeMap<_, _>>()
    };
    let mut witnesses = new("asks");
    spawn(world, source, move |client| ask(client, &mut witnesses));
    let mut witnesses = new("follows");
    spawn(world, source, move |client| follow(client, &mut witnesses));
}

/// Connects again and again, until the end.
fn spawn(
    world: &'static World,
    source: &Source,
    mut read: impl FnMut(&mut Client) -> io::Result<()> + Send + 'static,
) {
    let source = source.clone();
    std::thread::spawn(move || {
        loop {
            let outcome = Client::open(&source.socket).and_then(|mut client| read(&mut client));
            if world.is_over() {
                return;
            }
            match outcome {
                Ok(()) => {}
                Err(_) if source.may_fail => increase(&world.tally.reconnects),
                Err(error) => fail(&format!("a reader of {}: {error}", source.name)),
            }
            pause(PATIENCE);
        }
    });
}

fn long_poll(client: &mut Client, witness: &mut Witness) -> io::Result<()> {
    let mut revision = "none".to_owned();
    loop {
        let target = format!("/v1/secrets/{}?after={revision}&timeout=10s", witness.volume());
        if let Some(set) = client.set(&target)? {
            witness.saw(&set.revision, set.generation, &set.values);
            revision = set.revision;
        }
    }
}

fn ask(client: &mut Client, witnesses: &mut BTreeMap<&str, Witness>) -> io::Result<()> {
    loop {
        for (volume, witness) in &mut *witnesses {
            if let Some(set) = client.set(&format!("/v1/secrets/{volume}"))? {
                witness.saw(&set.revision, set.generation, &set.values);
            }
            pause(PACE);
        }
    }
}

/// Follows events, which have the names of keys and the version, which is the number.
fn follow(client: &mut Client, witnesses: &mut BTreeMap<&str, Witness>) -> io::Result<()> {
    if client.follow("/v1/events")? != 200 {
        return Ok(());
    }
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    loop {
        let line = client.line()?;
        let Some(text) = line.strip_prefix("data: ") else { continue };
        let event: Value = serde_json::from_str(text)?;
        let Some(witness) = event["name"].as_str().and_then(|name| witnesses.get_mut(name)) else {
            fail(&format!("an event of an unknown volume: {text}"))
        };
        let keys = known.entry(witness.volume().to_owned()).or_default();
        apply(keys, &event);
        let number = event["version"].as_str().and_then(|text| text.parse().ok());
        let generation = event["generation"].as_u64();
        match (event["revision"].as_str(), generation, number) {
            (Some(revision), Some(generation), Some(number))
                if edition::has_keys(number, keys.iter().map(String::as_str)) =>
            {
                witness.saw_number(revision, generation, number);
            }
            // What is torn there is judged by those who see the values.
            _ if witness.volume() == crate::world::PLAIN => {}
            _ => fail(&format!("an event does not fit its number: {text} after {keys:?}")),
        }
    }
}

fn apply(keys: &mut BTreeSet<String>, event: &Value) {
    let names = |field: &str| {
        let list = event[field].as_array().cloned().unwrap_or_default();
        list.into_iter().filter_map(|name| name.as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    if event["initial"] == true {
        keys.clear();
    }
    keys.extend(names("keys"));
    keys.extend(names("added"));
    for name in names("removed") {
        keys.remove(&name);
    }
}
