//! What a host has, as its state file says.

/// A release with the deploy that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) release: String,
    /// None for a deploy without an environment.
    pub(crate) fence: Option<u64>,
    pub(crate) run: String,
    /// By digest.
    pub(crate) artifact: String,
}

impl Entry {
    fn parse(text: &str) -> Option<Entry> {
        let mut words = text.splitn(4, ' ').map(str::to_owned);
        let (release, fence, run, artifact) = (words.next()?, words.next()?, words.next()?, words.next()?);
        Some(Entry { release, fence: fence.parse().ok(), run, artifact })
    }
}

/// What a host has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostState {
    /// What the last deploy that finished has deployed.
    pub(crate) serving: Option<Entry>,
    /// What is being deployed.
    pub(crate) candidate: Option<Entry>,
    /// The release that the link leads to.
    pub(crate) current: Option<String>,
    /// The release with which the service was last started.
    pub(crate) running: Option<String>,
    /// Whether the host has the files of the release that was asked for.
    pub(crate) is_complete: bool,
    /// What systemd says about the unit, as in `active`.
    pub(crate) unit: Option<String>,
}

impl HostState {
    /// Reads what the script `state` prints.
    pub(crate) fn parse(text: &str) -> HostState {
        let mut state = HostState::default();
        for line in text.lines() {
            let (key, value) = line.split_once(' ').unwrap_or((line, ""));
            let named = Some(value.to_owned()).filter(|value| !value.is_empty());
            match key {
                "serving" => state.serving = Entry::parse(value),
                "candidate" => state.candidate = Entry::parse(value),
                "current" => state.current = named,
                "running" => state.running = named,
                "complete" => state.is_complete = true,
                "unit" => state.unit = named,
                _ => {}
            }
        }
        state
    }

    /// Whether the service was started with the release.
    pub(crate) fn has_switched_to(&self, release: &str) -> bool {
        self.current.as_deref() == Some(release) && self.running.as_deref() == Some(release)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_as_it_was_written() {
        let text = "fence 7\nserving aa 3 run-1 app@sha256:0\ncandidate bb - run-2 app@sha256:1\nrunning aa\ncurrent bb\n\
                    complete\nunit active\n";
        let state = HostState::parse(text);
        let entry = |release: &str, fence, run: &str, artifact: &str| {
            let [release, run, artifact] = [release, run, artifact].map(str::to_owned);
            Some(Entry { release, fence, run, artifact })
        };
        assert_eq!(state.serving, entry("aa", Some(3), "run-1", "app@sha256:0"));
        assert_eq!(state.candidate, entry("bb", None, "run-2", "app@sha256:1"));
        assert_eq!((state.current.as_deref(), state.unit.as_deref()), (Some("bb"), Some("active")));
        assert!(state.is_complete && !state.has_switched_to("bb"), "the service still runs with aa");
        assert_eq!(HostState::parse("current \nunit \n"), HostState::default());
    }
}
