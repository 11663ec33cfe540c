//! What of a stage is real in a rehearsal.

use serde::{Deserialize, Serialize};

use crate::grants::{Grant, Permission, Permissions, add};
use crate::plan::Stage;
use crate::reach::{Code, EffectClass, Fidelity, Reaches};
use crate::way_out::{InRehearsal, WayOut};

/// What is real for an attempt of a rehearsal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RehearsalTerms {
    /// What it may reach for real.
    #[serde(with = "crate::complete_permissions")]
    pub real: Permissions,
    /// Whether somebody has said how the stage is rehearsed, by `with` or `permissions`. Without that, nothing is started
    /// that could reach beyond the stage.
    pub acts: bool,
    /// `--offline`: package hosts and pulled plugins are out of reach, too, and nothing of `real` counts.
    pub offline: bool,
}

impl RehearsalTerms {
    /// Of a stage.
    pub fn of(stage: &Stage, offline: bool) -> RehearsalTerms {
        let rehearse = stage.rehearse.as_deref();
        let granted = rehearse.and_then(|rehearse| rehearse.permissions.as_deref()).cloned().unwrap_or_default();
        let acts = rehearse.is_some_and(|rehearse| rehearse.with.is_some() || rehearse.permissions.is_some());
        // A configuration that was written for these grants is no use without them.
        let needs_network = !Reaches::of_programs(None, &granted).all.is_empty() || reaches_network(&granted);
        if offline && needs_network {
            return RehearsalTerms { real: Permissions::default(), acts: false, offline };
        }
        RehearsalTerms { real: granted, acts, offline }
    }

    /// What the stage may ask for: what it is granted in a real run, and what it is granted in this one. What it gets by
    /// that is a stand-in, unless it is real by [`RehearsalTerms::real`].
    pub fn asked(&self, own: &Permissions) -> Permissions {
        let mut asked = own.clone();
        asked.add_all(&self.real);
        asked
    }

    /// What programs get when they are started at all: all of the stage's that stays on this machine, package hosts, and
    /// beyond that only what is granted for real.
    pub fn of_programs(&self, own: &Permissions) -> Permissions {
        let mut granted = self.asked(own);
        granted.net = own.net.iter().filter(|rule| rule.packages().is_some() && !self.offline).cloned().collect();
        add(&mut granted.net, &self.real.net);
        granted.env = own.env.iter().filter(|name| name.is_harmless()).cloned().collect();
        add(&mut granted.env, &self.real.env);
        granted.socket.clone_from(&self.real.socket);
        if !granted.credential_files.is_empty() {
            // Nothing hides a file of the workspace from programs, so that they don't meet the hosts that it is for.
            granted.net.retain(|rule| rule.packages().is_none() || self.real.net.contains(rule));
        }
        granted
    }

    /// What the stage can reach beyond itself, with what it is granted in this rehearsal.
    pub fn effect_class(&self, stage: &Stage, code: Code<'_>) -> EffectClass {
        let environment = stage.environment.as_ref().map(|environment| environment.name.as_str());
        Reaches::of(environment, &self.asked(&stage.permissions), code).effect_class()
    }

    /// Whether the stage gets the value of a secret, and not a stand-in.
    pub fn is_real_secret(&self, name: &str) -> bool {
        self.real.secrets.iter().any(|rule| rule.name() == name)
    }

    /// What keeps a program of the stage from being started; nothing when it is.
    pub fn keeps_from_starting<'a>(&self, environment: Option<&'a str>, own: &'a Permissions) -> Reaches<'a> {
        if self.acts { Reaches::default() } else { Reaches::of_programs(environment, own) }
    }

    /// How much of the stage is real, as far as that can be said before it runs.
    pub fn fidelity(&self, stage: &Stage, code: Code<'_>) -> Fidelity {
        let environment = stage.environment.as_ref().map(|environment| environment.name.as_str());
        let reaches = Reaches::of(environment, &stage.permissions, code).all;
        let starts = matches!(code, Code::Component(imports) if imports.has(crate::Interface::Process))
            && !stage.permissions.process.is_empty();
        if starts && !self.keeps_from_starting(environment, &stage.permissions).all.is_empty() {
            return Fidelity::Rehearsed;
        }
        let is_real = |kind: Permission, entry: &str| {
            stage.permissions.of(kind).into_iter().any(|grant| grant.as_str() == entry && grant.is_listed(&self.real))
        };
        let rule = |entry: &str| stage.permissions.net.iter().find(|rule| rule.as_str() == entry);
        let is_packages = |entry: &str| rule(entry).is_some_and(|rule| rule.packages().is_some());
        let is_loopback =
            |entry: &str| rule(entry).is_some_and(|rule| rule.origin().is_some_and(|origin| origin.is_loopback()));
        let of = |way: WayOut, entry: &str| match way {
            WayOut::NativeCode if self.acts => Fidelity::Real,
            WayOut::Request if is_real(Permission::Net, entry) => Fidelity::Real,
            WayOut::Request if is_packages(entry) && !self.offline => Fidelity::Real,
            // A service of the rehearsal's own, most likely.
            WayOut::Request if is_loopback(entry) => Fidelity::StandIn,
            WayOut::Image if is_real(Permission::Registry, entry) => Fidelity::Real,
            WayOut::Secret if self.is_real_secret(entry) => Fidelity::Real,
            // Programs that are started get none of these but by a grant.
            WayOut::Connection | WayOut::Socket | WayOut::Variable | WayOut::CredentialFile => Fidelity::Real,
            way => match way.in_rehearsal() {
                InRehearsal::StandIn(_) => Fidelity::StandIn,
                InRehearsal::Withheld => Fidelity::Rehearsed,
                InRehearsal::Closed | InRehearsal::Open(_) => Fidelity::Real,
            },
        };
        reaches.into_iter().map(|reach| of(reach.way, reach.entry)).max().unwrap_or(Fidelity::Real)
    }
}

fn reaches_network(granted: &Permissions) -> bool {
    let reaches = |grant: Grant<'_>| {
        matches!(
            grant.permission(),
            Permission::Net | Permission::Registry | Permission::Secrets | Permission::Socket | Permission::Env
        )
    };
    granted.entries().any(reaches)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all<T: std::str::FromStr<Err: std::fmt::Debug>>(entries: &[&str]) -> Vec<T> {
        entries.iter().map(|entry| entry.parse().unwrap()).collect()
    }

    #[test]
    fn programs_get_nothing_beyond_this_machine_but_what_is_granted_for_real() {
        let own = Permissions {
            process: all(&["kubectl"]),
            net: all(&["cargo", "https://api.example.org"]),
            socket: all(&["docker"]),
            env: all(&["LANG", "KUBECONFIG_TOKEN"]),
            secrets: all(&["token"]),
            ..Permissions::default()
        };
        let terms = RehearsalTerms {
            real: Permissions { net: all(&["https://dry.example.org"]), ..Permissions::default() },
            acts: true,
            offline: false,
        };
        let got = terms.of_programs(&own);
        assert_eq!(got.net, all(&["cargo", "https://dry.example.org"]));
        assert_eq!((got.env, got.socket), (all(&["LANG"]), Vec::new()));
        assert_eq!(got.secrets, all(&["token"]), "as a stand-in");
        let offline = RehearsalTerms { offline: true, ..RehearsalTerms::default() };
        assert_eq!(offline.of_programs(&own).net, []);
        assert!(!offline.keeps_from_starting(None, &own).all.is_empty());
        assert!(terms.keeps_from_starting(None, &own).all.is_empty());
    }

    #[test]
    fn package_hosts_are_out_of_reach_where_a_file_could_publish_to_them() {
        let own = Permissions {
            net: all(&["cargo", "npm"]),
            credential_files: vec![".npmrc".to_owned()],
            ..Permissions::default()
        };
        let acts = RehearsalTerms { acts: true, ..RehearsalTerms::default() };
        assert_eq!(acts.of_programs(&own).net, []);
        let real = Permissions { net: all(&["npm"]), ..Permissions::default() };
        assert_eq!(RehearsalTerms { real, ..acts }.of_programs(&own).net, all(&["npm"]), "it is granted");
    }

    #[test]
    fn offline_no_grant_that_needs_a_network_counts() {
        let terms = |rehearse: &str, offline| {
            let text = format!(
                "schema = 1\npipeline.name = \"x\"\n[secrets.token]\nfrom = \"env:TOKEN\"\n\
                 [stages.a]\nuses = \"noop\"\nrehearse = {{ {rehearse} }}\n"
            );
            let plan = crate::Plan::parse("stagewright.toml", &text, &["noop".to_owned()].into_iter().collect());
            RehearsalTerms::of(&plan.unwrap().0.stages[0], offline)
        };
        for grant in ["net = [\"https://dry.example.org\"]", "secrets = [\"token\"]", "env = [\"TOKEN\"]"] {
            let rehearse = format!("with = {{}}, permissions = {{ {grant} }}");
            assert!(terms(&rehearse, false).acts, "{grant}");
            assert_eq!(
                terms(&rehearse, true),
                RehearsalTerms { offline: true, ..RehearsalTerms::default() },
                "{grant}"
            );
        }
        assert!(terms("with = {}", true).acts, "it needs none");
    }
}
