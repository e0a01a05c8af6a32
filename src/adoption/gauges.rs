//! The metrics of adoption, made at the moment somebody asks for them: a lag grows without anything
//! happening, and a consumer that has expired must not leave a series behind.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, IntGaugeVec, Opts};

use crate::store::Reader;

/// The gauges of all volumes of one watch.
pub(crate) struct Gauges {
    volumes: Vec<Reader>,
    expiry: Duration,
    families: Families,
    /// Held while the families are filled, so that two scrapes at a time do not mix.
    filling: Mutex<()>,
}

struct Families {
    generation: IntGaugeVec,
    adopted_at: GaugeVec,
    lag: GaugeVec,
    all: IntGaugeVec,
}

impl Gauges {
    pub(crate) fn new(volumes: Vec<Reader>, expiry: Duration) -> Result<Self, prometheus::Error> {
        let families = Families {
            generation: IntGaugeVec::new(
                Opts::new(
                    "secretwatch_adopted_generation",
                    "The generation that a consumer says it uses.",
                ),
                &["volume", "consumer"],
            )?,
            adopted_at: GaugeVec::new(
                Opts::new(
                    "secretwatch_adopted_timestamp_seconds",
                    "Since when a consumer says it uses that generation, as Unix time.",
                ),
                &["volume", "consumer"],
            )?,
            lag: GaugeVec::new(
                Opts::new(
                    "secretwatch_adoption_lag_seconds",
                    "How long the consumer that is behind for the longest has been; 0 where none is.",
                ),
                &["volume"],
            )?,
            all: IntGaugeVec::new(
                Opts::new(
                    "secretwatch_adopted_all",
                    "1 where every known consumer uses the current revision and there is at least one.",
                ),
                &["volume"],
            )?,
        };
        Ok(Self { volumes, expiry, families, filling: Mutex::new(()) })
    }
}

impl Families {
    fn fill(&self, volumes: &[Reader], expiry: Duration) {
        // Whoever has left or expired must not stay as a series.
        self.generation.reset();
        self.adopted_at.reset();
        for reader in volumes {
            let ledger = reader.ledger();
            let (volume, now) = (ledger.volume.as_str(), ledger.look(Instant::now(), expiry));
            self.lag.with_label_values(&[volume]).set(now.lag.as_secs_f64());
            self.all.with_label_values(&[volume]).set(i64::from(now.all_adopted()));
            for known in now.consumers {
                let generation = i64::try_from(known.generation).unwrap_or(i64::MAX);
                let labels = [volume, known.consumer.as_str()];
                self.generation.with_label_values(&labels).set(generation);
                let since = known.adopted_at.duration_since(UNIX_EPOCH).unwrap_or_default();
                self.adopted_at.with_label_values(&labels).set(since.as_secs_f64());
            }
        }
    }
}

impl Collector for Gauges {
    fn desc(&self) -> Vec<&Desc> {
        let Families { generation, adopted_at, lag, all } = &self.families;
        [generation.desc(), adopted_at.desc(), lag.desc(), all.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _filling = self.filling.lock().unwrap_or_else(PoisonError::into_inner);
        self.families.fill(&self.volumes, self.expiry);
        let Families { generation, adopted_at, lag, all } = &self.families;
        [generation.collect(), adopted_at.collect(), lag.collect(), all.collect()].concat()
    }
}
