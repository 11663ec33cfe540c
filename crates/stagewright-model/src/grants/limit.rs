//! Limits on the resources that a stage may use, and their comparison.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `[stages.NAME.limits]`: how much of each resource a stage may use. None means the runner's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Limits {
    /// CPU time of all programs of an attempt together.
    pub cpu: Option<Duration>,
    /// Address space of each program, in bytes.
    pub process_memory: Option<u64>,
    /// Number of simultaneous processes.
    pub processes: Option<u32>,
    /// Number of lines in the attempt's log.
    pub log_lines: Option<u64>,
    /// Total size of the artifacts that the attempt saves, in bytes.
    pub artifacts: Option<u64>,
    /// In bytes, both the total that the attempt writes through host functions, and the size of each file that its
    /// programs write.
    pub workspace: Option<u64>,
    /// Number of simultaneous HTTP requests.
    pub requests: Option<u32>,
}

/// All limits of a stage: those of its `limits` table, and the three that have keys in the stage's own table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// `timeout`.
    pub timeout: Option<Duration>,
    /// `memory`, in bytes.
    pub memory: Option<u64>,
    /// `log-limit`, in bytes.
    pub log_limit: Option<u64>,
    /// `limits`.
    pub limits: Limits,
}

/// The value of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub enum Amount {
    /// A duration.
    Time(Duration),
    /// A number of bytes.
    Size(u64),
    /// A number of things.
    Count(u64),
}

impl Bounds {
    /// Every limit in display order: its key, and its value if it is set.
    pub fn entries(&self) -> [(&'static str, Option<Amount>); 10] {
        let Limits { cpu, process_memory, processes, log_lines, artifacts, workspace, requests } = self.limits;
        [
            ("timeout", self.timeout.map(Amount::Time)),
            ("memory", self.memory.map(Amount::Size)),
            ("log-limit", self.log_limit.map(Amount::Size)),
            ("cpu", cpu.map(Amount::Time)),
            ("process-memory", process_memory.map(Amount::Size)),
            ("processes", processes.map(|count| Amount::Count(count.into()))),
            ("log-lines", log_lines.map(Amount::Count)),
            ("artifacts", artifacts.map(Amount::Size)),
            ("workspace", workspace.map(Amount::Size)),
            ("requests", requests.map(|count| Amount::Count(count.into()))),
        ]
    }

    /// The limits that are larger than in `other`: key, value here, value in `other`. A limit that isn't set counts as
    /// unlimited; use [`or`](Self::or) to fill in the runner's defaults.
    pub fn beyond(&self, other: &Bounds) -> Vec<(&'static str, Option<Amount>, Amount)> {
        let pairs = self.entries().into_iter().zip(other.entries());
        let larger = pairs.filter_map(|((key, own), (_, allowed))| {
            let allowed = allowed?;
            own.is_none_or(|own| own > allowed).then_some((key, own, allowed))
        });
        larger.collect()
    }

    /// Sets the limits that aren't set to those of `defaults`.
    #[must_use]
    pub fn or(&self, defaults: &Bounds) -> Bounds {
        let (own, others) = (self.limits, defaults.limits);
        Bounds {
            timeout: self.timeout.or(defaults.timeout),
            memory: self.memory.or(defaults.memory),
            log_limit: self.log_limit.or(defaults.log_limit),
            limits: Limits {
                cpu: own.cpu.or(others.cpu),
                process_memory: own.process_memory.or(others.process_memory),
                processes: own.processes.or(others.processes),
                log_lines: own.log_lines.or(others.log_lines),
                artifacts: own.artifacts.or(others.artifacts),
                workspace: own.workspace.or(others.workspace),
                requests: own.requests.or(others.requests),
            },
        }
    }

    /// The smaller of both values for each limit. A limit that only one of the two sets has that value.
    #[must_use]
    pub fn at_most(&self, other: &Bounds) -> Bounds {
        fn least<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
            one.into_iter().chain(other).min()
        }
        let (own, others) = (self.limits, other.limits);
        Bounds {
            timeout: least(self.timeout, other.timeout),
            memory: least(self.memory, other.memory),
            log_limit: least(self.log_limit, other.log_limit),
            limits: Limits {
                cpu: least(own.cpu, others.cpu),
                process_memory: least(own.process_memory, others.process_memory),
                processes: least(own.processes, others.processes),
                log_lines: least(own.log_lines, others.log_lines),
                artifacts: least(own.artifacts, others.artifacts),
                workspace: least(own.workspace, others.workspace),
                requests: least(own.requests, others.requests),
            },
        }
    }
}

/// The form in TOML, without quotes.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SIZES: [(u64, &str); 4] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")];
        const TIMES: [(u128, &str); 5] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms")];
        match *self {
            Amount::Count(count) => write!(f, "{count}"),
            Amount::Size(bytes) => {
                let fits = SIZES.into_iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit));
                let (unit, name) = fits.unwrap_or((1, "B"));
                write!(f, "{}{name}", bytes / unit)
            }
            Amount::Time(time) => {
                let mut rest = time.as_millis();
                if rest == 0 {
                    return f.write_str("0s");
                }
                for (unit, name) in TIMES {
                    if rest >= unit {
                        write!(f, "{}{name}", rest / unit)?;
                        rest %= unit;
                    }
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::shape::{duration, size};

    fn limits(cpu: Option<u64>, processes: Option<u32>) -> Bounds {
        let limits = Limits { cpu: cpu.map(Duration::from_millis), processes, ..Limits::default() };
        Bounds { limits, ..Bounds::default() }
    }

    #[test]
    fn larger_or_missing_limit_is_beyond() {
        let allowed = limits(Some(1000), Some(4));
        assert_eq!(allowed.beyond(&allowed), []);
        assert_eq!(limits(Some(999), Some(1)).beyond(&allowed), []);
        let keys = |bounds: Bounds| bounds.beyond(&allowed).into_iter().map(|(key, ..)| key).collect::<Vec<_>>();
        assert_eq!(keys(limits(Some(1001), Some(4))), ["cpu"]);
        assert_eq!(keys(Bounds::default()), ["cpu", "processes"]);
        assert_eq!(limits(Some(5), None).beyond(&Bounds::default()), []);
    }

    proptest! {
        #[test]
        fn at_most_is_within_both(a: Option<u16>, b: Option<u16>, c: Option<u16>, d: Option<u16>) {
            let (one, other) = (limits(a.map(u64::from), b.map(u32::from)), limits(c.map(u64::from), d.map(u32::from)));
            let least = one.at_most(&other);
            prop_assert!(least.beyond(&one).is_empty() && least.beyond(&other).is_empty());
        }

        #[test]
        fn displayed_amount_parses_to_the_same_value(number in 0_u64..1 << 45) {
            let time = Duration::from_millis(number);
            prop_assert_eq!(duration(&Amount::Time(time).to_string()), Some(time));
            prop_assert_eq!(size(&Amount::Size(number).to_string()), Some(number));
        }
    }
}
