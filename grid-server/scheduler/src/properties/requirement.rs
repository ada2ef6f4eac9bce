//! [`Requirement`]: what a job asks of a bot, and whether a bot has it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::fleet::Offer;

/// Platform properties; a key may have several values.
pub type Properties = BTreeMap<String, BTreeSet<String>>;

/// The identity of a requirement: a hash of what it says, the same on every replica.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequirementId(pub Uuid);

impl fmt::Debug for RequirementId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What a job asks of a bot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    /// The pool of instances that the bot must serve.
    pub pool: String,
    /// The platform's label, for metrics and queue limits.
    pub label: String,
    /// A bot has each of these values.
    pub must: Properties,
    /// A bot that has these too is taken first.
    #[serde(default)]
    pub prefer: Properties,
    /// A bot has none of these keys: they mark bots that are kept for jobs which ask for them.
    #[serde(default)]
    pub without: BTreeSet<String>,
}

/// How well a bot fits a requirement; a better fit is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Match {
    /// It can't run the job.
    No,
    /// It can.
    Fits,
    /// It can, and has what the job prefers.
    Preferred,
}

impl Requirement {
    /// The identity of this requirement.
    #[must_use]
    pub fn id(&self) -> RequirementId {
        // Sorted maps and a fixed field order: the same requirement gives the same text everywhere.
        let text = serde_json::to_vec(self).unwrap_or_default();
        let hash = Sha256::digest(&text);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash[..16]);
        RequirementId(Uuid::from_bytes(bytes))
    }

    /// How well a bot with this offer, serving this pool, fits. The pool `*` serves all.
    #[must_use]
    pub fn matches(&self, bot_pool: &str, offer: &Offer) -> Match {
        let serves = bot_pool == "*" || bot_pool == self.pool;
        if !serves || !self.is_met(offer) {
            return Match::No;
        }
        if includes(&offer.properties, &self.prefer, &offer.ignored) { Match::Preferred } else { Match::Fits }
    }

    /// Everything asked for that an offer lacks. A key that it should not have is there with the value `absent`.
    #[must_use]
    pub fn missing(&self, offer: &Offer) -> Vec<(String, String)> {
        let mut missing = Vec::new();
        for (key, values) in self.must.iter().filter(|(key, _)| !offer.ignored.contains(*key)) {
            let has = offer.properties.get(key);
            let lacks = values.iter().filter(|value| has.is_none_or(|has| !has.contains(*value)));
            missing.extend(lacks.map(|value| (key.clone(), value.clone())));
        }
        let too_many = self.without.iter().filter(|key| offer.properties.contains_key(*key));
        missing.extend(too_many.map(|key| (key.clone(), "absent".to_owned())));
        missing
    }

    fn is_met(&self, offer: &Offer) -> bool {
        includes(&offer.properties, &self.must, &offer.ignored)
            && !self.without.iter().any(|key| offer.properties.contains_key(key))
    }

    /// The requirement in words: `OSFamily=linux, ISA=x86-64`.
    #[must_use]
    pub fn describe(&self) -> String {
        let pairs = self.must.iter().flat_map(|(k, values)| values.iter().map(move |v| format!("{k}={v}")));
        let text = pairs.collect::<Vec<_>>().join(", ");
        if text.is_empty() { "any platform".into() } else { text }
    }
}

fn includes(bot: &Properties, asked: &Properties, ignored: &BTreeSet<String>) -> bool {
    let met = |(key, values): (&String, &BTreeSet<String>)| {
        ignored.contains(key) || bot.get(key).is_some_and(|has| has.is_superset(values))
    };
    asked.iter().all(met)
}
