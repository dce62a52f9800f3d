//! The settings of topics and of the broker by Kafka's names: what is known, what a value may be, and which value holds
//! where several are given (topic, broker while running, broker's own file, default).
//!
//! It must not know the disk or the wire; codes that clients see are Kafka's numbers for types and sources.

use std::collections::BTreeMap;
use std::sync::Arc;

pub use settings::TopicSettings;

mod settings;
mod table;

/// Settings by name, as they were given.
pub type Overrides = BTreeMap<String, String>;

/// The longest value that is kept, in bytes.
pub const VALUE_BYTES_MAX: usize = 32 * 1024;

/// The type of a setting's value, with Kafka's number for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum Kind {
    Bool = 1,
    Text = 2,
    Int = 3,
    Short = 4,
    Long = 5,
    Double = 6,
    List = 7,
    Password = 9,
}

/// What a value may be beside its type.
#[derive(Debug, Clone, Copy)]
pub enum Check {
    Any,
    /// A number from the first to the second, both included.
    Range(f64, f64),
    OneOf(&'static [&'static str]),
    /// Names parted by commas, each one of these.
    ListOf(&'static [&'static str]),
}

/// Whether anything acts on a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Works,
    None,
}

/// Whether a setting can be changed while the broker runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Altered,
    ReadOnly,
}

/// Where a value comes from, with Kafka's number for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum Source {
    Topic = 1,
    Broker = 2,
    BrokerDefault = 3,
    Static = 4,
    Default = 5,
}

/// One known setting.
#[derive(Debug, Clone, Copy)]
pub struct Def {
    pub name: &'static str,
    pub kind: Kind,
    /// None: there is no value unless one is given.
    pub default: Option<&'static str>,
    pub check: Check,
    /// For a topic's setting: the broker's that it falls back to, the first one first; a number there times the
    /// multiplier is the number here.
    pub synonyms: &'static [(&'static str, i64)],
    pub effect: Effect,
    pub scope: Scope,
    pub sensitive: bool,
    pub doc: &'static str,
}

impl Def {
    /// The text that explains the setting, with a note when nothing acts on it.
    pub fn documentation(&self) -> String {
        match self.effect {
            Effect::Works => self.doc.to_owned(),
            Effect::None => format!("{} Accepted for compatibility; it has no effect here.", self.doc),
        }
    }

    /// Says why `value` cannot be this setting's; nothing when it can.
    pub fn check(&self, value: &str) -> Result<(), String> {
        let wrong =
            |why: String| Err(format!("invalid value `{}` for `{}`: {why}", value.escape_debug(), self.name));
        if value.len() > VALUE_BYTES_MAX {
            return Err(format!("the value for `{}` is longer than {VALUE_BYTES_MAX} bytes", self.name));
        }
        let number = match self.kind {
            Kind::Bool if !matches!(value, "true" | "false") => {
                return wrong("expected `true` or `false`".into());
            }
            Kind::Int => value.trim().parse::<i32>().map(|n| Some(f64::from(n))).ok(),
            Kind::Short => value.trim().parse::<i16>().map(|n| Some(f64::from(n))).ok(),
            Kind::Long => value.trim().parse::<i64>().map(|n| Some(n as f64)).ok(),
            Kind::Double => value.trim().parse::<f64>().ok().filter(|n| n.is_finite()).map(Some),
            _ => Some(None),
        };
        let Some(number) = number else { return wrong("expected a number in range".into()) };
        match self.check {
            Check::Any => Ok(()),
            Check::Range(least, most) => match number {
                Some(n) if n < least || n > most => wrong(if most.is_finite() {
                    format!("expected a number from {least} to {most}")
                } else {
                    format!("expected a number of at least {least}")
                }),
                _ => Ok(()),
            },
            Check::OneOf(names) if names.contains(&value) => Ok(()),
            Check::OneOf(names) => wrong(format!("expected one of {}", names.join(", "))),
            Check::ListOf(names) => match list(value).find(|name| !names.contains(name)) {
                None if list(value).next().is_none() => wrong("expected at least one name".into()),
                None => Ok(()),
                Some(found) => wrong(format!("`{found}` is none of {}", names.join(", "))),
            },
        }
    }
}

/// The names in a value of kind list.
pub fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|name| !name.is_empty())
}

/// All settings of topics, by name.
pub fn topic_defs() -> &'static [Def] {
    table::TOPIC
}

/// All settings of the broker, by name.
pub fn broker_defs() -> &'static [Def] {
    table::BROKER
}

/// The setting of topics of this name.
pub fn topic_def(name: &str) -> Option<&'static Def> {
    find(table::TOPIC, name)
}

/// The setting of the broker of this name.
pub fn broker_def(name: &str) -> Option<&'static Def> {
    find(table::BROKER, name)
}

fn find(table: &'static [Def], name: &str) -> Option<&'static Def> {
    table.binary_search_by(|def| def.name.cmp(name)).ok().map(|at| &table[at])
}

/// Checks the settings of a topic by themselves and against each other.
pub fn check_topic(overrides: &Overrides) -> Result<(), String> {
    for (name, value) in overrides {
        let def = topic_def(name).ok_or_else(|| unknown(name, table::TOPIC))?;
        def.check(value)?;
    }
    let lag = |name: &str| overrides.get(name).and_then(|value| value.trim().parse::<i64>().ok());
    match (lag("min.compaction.lag.ms"), lag("max.compaction.lag.ms")) {
        (Some(least), Some(most)) if least > most => {
            Err(format!("`min.compaction.lag.ms` ({least}) is more than `max.compaction.lag.ms` ({most})"))
        }
        _ => Ok(()),
    }
}

/// Checks settings of the broker that are to change while it runs.
pub fn check_broker(overrides: &Overrides) -> Result<(), String> {
    for (name, value) in overrides {
        let def = broker_def(name).ok_or_else(|| unknown(name, table::BROKER))?;
        if def.scope == Scope::ReadOnly {
            return Err(format!("`{name}` cannot be changed while the broker runs"));
        }
        def.check(value)?;
    }
    Ok(())
}

fn unknown(name: &str, table: &[Def]) -> String {
    let shown: String = name.chars().take(80).collect();
    let near = table.iter().map(|def| (distance(def.name, &shown), def.name)).min();
    match near {
        Some((far, near)) if far <= 3 => {
            format!("unknown setting `{}`; did you mean `{near}`?", shown.escape_debug())
        }
        _ => format!("unknown setting `{}`", shown.escape_debug()),
    }
}

/// How many letters have to change to make one name the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let next = (corner + usize::from(x != *y)).min(row[j] + 1).min(row[j + 1] + 1);
            corner = std::mem::replace(&mut row[j + 1], next);
        }
    }
    row[b.len()]
}

/// The broker's side of every setting: what its own file says and what was changed while it ran.
#[derive(Debug, Clone, Default)]
pub struct BrokerSettings {
    /// From the broker's own configuration, by the broker's names.
    pub fixed: Arc<Overrides>,
    /// Changed while it runs, by the broker's names; kept over a restart.
    pub dynamic: Arc<Overrides>,
}

/// One value of a setting and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    pub name: &'static str,
    pub value: Option<String>,
    pub source: Source,
}

impl BrokerSettings {
    /// Every value that a setting of a topic has, the one that holds first.
    pub fn topic_layers(&self, def: &'static Def, overrides: &Overrides) -> Vec<Layer> {
        let mut layers = Vec::new();
        if let Some(value) = overrides.get(def.name) {
            layers.push(Layer { name: def.name, value: Some(value.clone()), source: Source::Topic });
        }
        for &(name, times) in def.synonyms {
            layers.extend(self.broker_given(name, times));
        }
        layers.push(Layer {
            name: def.synonyms.last().map_or(def.name, |&(name, _)| name),
            value: def.default.map(str::to_owned),
            source: Source::Default,
        });
        layers
    }

    /// Every value that a setting of the broker has, the one that holds first.
    pub fn broker_layers(&self, def: &'static Def) -> Vec<Layer> {
        let mut layers: Vec<Layer> = self.broker_given(def.name, 1).collect();
        if let Some(value) = def.default {
            layers.push(Layer { name: def.name, value: Some(value.to_owned()), source: Source::Default });
        }
        layers
    }

    /// The value of a setting of the broker that holds.
    pub fn broker_value(&self, name: &str) -> Option<String> {
        let def = broker_def(name)?;
        self.broker_layers(def).into_iter().next()?.value
    }

    /// A number among the broker's settings; `otherwise` when it is absent.
    pub fn broker_number(&self, name: &str, otherwise: i64) -> i64 {
        self.broker_value(name).and_then(|value| value.trim().parse().ok()).unwrap_or(otherwise)
    }

    /// Whether a switch among the broker's settings is on.
    pub fn broker_switch(&self, name: &str) -> bool {
        self.broker_value(name).as_deref() == Some("true")
    }

    /// What holds for a topic with these settings of its own, parsed.
    pub fn topic(&self, overrides: &Overrides) -> TopicSettings {
        TopicSettings::parse(|name| {
            let def = topic_def(name)?;
            self.topic_layers(def, overrides).into_iter().next()?.value
        })
    }

    fn broker_given(&self, name: &'static str, times: i64) -> impl Iterator<Item = Layer> {
        let scaled = move |value: &String| match (times, value.trim().parse::<i64>()) {
            (2.., Ok(number)) if number >= 0 => number.saturating_mul(times).to_string(),
            _ => value.clone(),
        };
        [(&self.dynamic, Source::Broker), (&self.fixed, Source::Static)].into_iter().filter_map(
            move |(given, source)| {
                given.get(name).map(|value| Layer { name, value: Some(scaled(value)), source })
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(pairs: &[(&str, &str)]) -> Overrides {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn the_tables_are_sorted_and_their_defaults_pass_their_own_checks() {
        for table in [table::TOPIC, table::BROKER] {
            assert!(table.windows(2).all(|pair| pair[0].name < pair[1].name));
            for def in table {
                if let Some(default) = def.default.filter(|default| !default.is_empty()) {
                    assert_eq!(def.check(default), Ok(()), "{}", def.name);
                }
            }
        }
    }

    #[test]
    fn what_a_topic_falls_back_to_is_known_and_has_the_same_default() {
        for def in table::TOPIC {
            for &(name, times) in def.synonyms {
                let broker = broker_def(name).unwrap_or_else(|| panic!("`{name}` is missing"));
                if let (Some(value), Some(default)) = (broker.default, def.default) {
                    let value = match times {
                        1 => value.to_owned(),
                        _ => (value.parse::<i64>().unwrap() * times).to_string(),
                    };
                    assert_eq!(value, default, "{name}");
                }
            }
        }
    }

    #[test]
    fn values_are_checked_by_type_range_and_name() {
        for (name, value) in [
            ("retention.ms", "-1"),
            ("retention.ms", "9223372036854775807"),
            ("cleanup.policy", "compact, delete"),
            ("min.cleanable.dirty.ratio", "0.25"),
            ("compression.type", "zstd"),
        ] {
            assert_eq!(check_topic(&given(&[(name, value)])), Ok(()), "{name}={value}");
        }
        for (name, value) in [
            ("retention.ms", "-2"),
            ("retention.ms", "1h"),
            ("max.message.bytes", "3000000000"),
            ("cleanup.policy", "shrink"),
            ("cleanup.policy", ""),
            ("min.cleanable.dirty.ratio", "1.5"),
            ("min.cleanable.dirty.ratio", "NaN"),
            ("compression.type", "brotli"),
            ("preallocate", "yes"),
            ("remote.storage.enable", "true"),
        ] {
            assert!(check_topic(&given(&[(name, value)])).is_err(), "{name}={value}");
        }
    }

    #[test]
    fn an_unknown_name_is_refused_and_the_nearest_is_offered() {
        let message = check_topic(&given(&[("retention.msec", "1")])).unwrap_err();
        assert!(message.contains("did you mean `retention.ms`?"), "{message}");
        assert!(!check_topic(&given(&[("x", "1")])).unwrap_err().contains("did you mean"));
    }

    #[test]
    fn compaction_lags_must_not_cross() {
        let crossed = given(&[("min.compaction.lag.ms", "10"), ("max.compaction.lag.ms", "5")]);
        assert!(check_topic(&crossed).is_err());
    }

    #[test]
    fn the_topic_wins_over_the_running_broker_over_its_file_over_the_default() {
        let def = topic_def("retention.ms").unwrap();
        let mut broker = BrokerSettings::default();
        let value = |broker: &BrokerSettings, own: &Overrides| broker.topic_layers(def, own)[0].clone();
        let none = Overrides::new();
        assert_eq!(value(&broker, &none).source, Source::Default);
        broker.fixed = Arc::new(given(&[("log.retention.hours", "2")]));
        assert_eq!(value(&broker, &none).value.as_deref(), Some("7200000"));
        assert_eq!(value(&broker, &none).source, Source::Static);
        broker.dynamic = Arc::new(given(&[("log.retention.ms", "5")]));
        assert_eq!(value(&broker, &none).source, Source::Broker);
        let own = given(&[("retention.ms", "1")]);
        assert_eq!(value(&broker, &own).source, Source::Topic);
        assert_eq!(broker.topic(&own).retention_ms, Some(1));
        assert_eq!(broker.topic(&none).retention_ms, Some(5));
    }

    #[test]
    fn a_read_only_setting_of_the_broker_cannot_be_altered() {
        assert!(check_broker(&given(&[("node.id", "2")])).is_err());
        assert_eq!(check_broker(&given(&[("message.max.bytes", "2000")])), Ok(()));
    }
}
