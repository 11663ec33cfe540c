//! What a stage may really access in a rehearsal.

use serde::{Deserialize, Serialize};

use crate::grants::{Grant, Permission, Permissions, add};
use crate::plan::Stage;
use crate::reach::{EffectClass, Fidelity, PluginCode, Reaches};
use crate::way_out::{InRehearsal, WayOut};

/// What an attempt in a rehearsal may really access.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RehearsalTerms {
    /// The grants of `[stages.NAME.rehearse]`, which aren't replaced by stand-ins.
    #[serde(with = "crate::complete_permissions")]
    pub real: Permissions,
    /// Whether `[stages.NAME.rehearse]` configures the rehearsal by `with` or `permissions`. If not, programs and
    /// native libraries that could reach anything outside of the stage aren't started.
    #[serde(rename = "acts")]
    pub is_configured: bool,
    /// `--offline`: package hosts aren't accessible either, plugins aren't pulled, and `real` doesn't apply if it needs
    /// a network.
    pub offline: bool,
}

impl RehearsalTerms {
    /// The terms for a stage.
    pub fn of(stage: &Stage, offline: bool) -> RehearsalTerms {
        let rehearse = stage.rehearse.as_deref();
        let granted = rehearse.and_then(|rehearse| rehearse.permissions.as_deref()).cloned().unwrap_or_default();
        let is_configured = rehearse.is_some_and(|rehearse| rehearse.with.is_some() || rehearse.permissions.is_some());
        // `rehearse.with` was written for `rehearse.permissions`. If those need a network, which `--offline` denies,
        // running the stage with this configuration would fail, or do something that its author didn't intend. So the
        // rehearsal counts as not configured, and the stage is only described.
        let needs_network = !Reaches::of_programs(None, &granted).all.is_empty() || reaches_network(&granted);
        if offline && needs_network {
            return RehearsalTerms { real: Permissions::default(), is_configured: false, offline };
        }
        RehearsalTerms { real: granted, is_configured, offline }
    }

    /// What the stage may request: its grants in a real run and those of its rehearsal. The host answers with a
    /// stand-in unless [`RehearsalTerms::real`] grants the real thing.
    pub fn requestable(&self, own: &Permissions) -> Permissions {
        let mut requestable = own.clone();
        requestable.add_all(&self.real);
        requestable
    }

    /// The permissions of programs, if they are started at all: the stage's grants on this machine, package hosts, and
    /// what [`RehearsalTerms::real`] grants.
    pub fn of_programs(&self, own: &Permissions) -> Permissions {
        let mut granted = self.requestable(own);
        granted.net = own.net.iter().filter(|rule| rule.packages().is_some() && !self.offline).cloned().collect();
        add(&mut granted.net, &self.real.net);
        granted.env = own.env.iter().filter(|name| name.is_harmless()).cloned().collect();
        add(&mut granted.env, &self.real.env);
        granted.socket.clone_from(&self.real.socket);
        granted.credentials.clone_from(&self.real.credentials);
        granted.unsandboxed = false;
        if !granted.credential_files.is_empty() {
            // Programs can read credentials in files of the workspace, unlike those in variables, which they don't get.
            // With such a file, a package host would let them publish for real. The file can't be hidden, so the hosts
            // are denied.
            granted.net.retain(|rule| rule.packages().is_none() || self.real.net.contains(rule));
        }
        granted
    }

    /// How far the effects of the stage can reach with the grants of this rehearsal.
    pub fn effect_class(&self, stage: &Stage, code: PluginCode<'_>) -> EffectClass {
        let environment = stage.environment.as_ref().map(|environment| environment.name.as_str());
        Reaches::of(environment, &self.requestable(&stage.permissions), code).effect_class()
    }

    /// Whether a handle of a secret has the real value rather than a stand-in.
    pub fn is_real_secret(&self, name: &str) -> bool {
        self.real.secrets.iter().any(|rule| rule.name() == name && rule.opens_handle())
    }

    /// The reasons why programs of the stage aren't started: what they could reach. Empty if they are started.
    pub fn blocking_reaches<'a>(&self, environment: Option<&'a str>, own: &'a Permissions) -> Reaches<'a> {
        if self.is_configured { Reaches::default() } else { Reaches::of_programs(environment, own) }
    }

    /// How much of the stage really happens, as far as this is known before it runs: the lowest fidelity of everything
    /// that it can reach.
    pub fn fidelity(&self, stage: &Stage, code: PluginCode<'_>) -> Fidelity {
        let environment = stage.environment.as_ref().map(|environment| environment.name.as_str());
        let reaches = Reaches::of(environment, &stage.permissions, code).all;
        let starts_programs = matches!(code, PluginCode::Component(imports) if imports.has(crate::Interface::Process))
            && !stage.permissions.process.is_empty();
        if starts_programs && !self.blocking_reaches(environment, &stage.permissions).all.is_empty() {
            return Fidelity::Rehearsed;
        }
        let is_real = |kind: Permission, entry: &str| {
            stage.permissions.of(kind).into_iter().any(|grant| grant.as_str() == entry && grant.is_listed(&self.real))
        };
        let rule = |entry: &str| stage.permissions.net.iter().find(|rule| rule.as_str() == entry);
        let is_packages = |entry: &str| rule(entry).is_some_and(|rule| rule.packages().is_some());
        let is_loopback =
            |entry: &str| rule(entry).is_some_and(|rule| rule.origin().is_some_and(|origin| origin.is_loopback()));
        let fidelity = |way: WayOut, entry: &str| match way {
            WayOut::NativeCode if self.is_configured => Fidelity::Real,
            WayOut::Request if is_real(Permission::Net, entry) => Fidelity::Real,
            WayOut::Credential | WayOut::RemoteCommand if is_real(Permission::Credentials, entry) => Fidelity::Real,
            WayOut::Request if is_packages(entry) && !self.offline => Fidelity::Real,
            // Most likely a service that the rehearsal started.
            WayOut::Request if is_loopback(entry) => Fidelity::StandIn,
            WayOut::Image if is_real(Permission::Registry, entry) => Fidelity::Real,
            WayOut::Secret if self.is_real_secret(entry) => Fidelity::Real,
            // Programs that are started only get these if they are granted for real, and are sandboxed.
            WayOut::Connection
            | WayOut::ProxiedCredential
            | WayOut::Socket
            | WayOut::Variable
            | WayOut::CredentialFile
            | WayOut::UnsandboxedProgram => Fidelity::Real,
            way => match way.in_rehearsal() {
                InRehearsal::StandIn(_) => Fidelity::StandIn,
                InRehearsal::Withheld => Fidelity::Rehearsed,
                InRehearsal::Closed | InRehearsal::Open(_) => Fidelity::Real,
            },
        };
        reaches.into_iter().map(|reach| fidelity(reach.way, reach.entry)).max().unwrap_or(Fidelity::Real)
    }
}

fn reaches_network(granted: &Permissions) -> bool {
    let reaches = |grant: Grant<'_>| match grant.permission() {
        Permission::Net
        | Permission::Credentials
        | Permission::Registry
        | Permission::Secrets
        | Permission::Socket
        | Permission::Env => true,
        Permission::Process
        | Permission::Read
        | Permission::Write
        | Permission::Exec
        | Permission::Reveal
        | Permission::Service => false,
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
    fn programs_only_reach_outside_of_the_machine_by_rehearsal_grants() {
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
            is_configured: true,
            offline: false,
        };
        let granted = terms.of_programs(&own);
        assert_eq!(granted.net, all(&["cargo", "https://dry.example.org"]));
        assert_eq!((granted.env, granted.socket), (all(&["LANG"]), Vec::new()));
        assert_eq!(granted.secrets, all(&["token"]), "as a stand-in");
        let offline = RehearsalTerms { offline: true, ..RehearsalTerms::default() };
        assert_eq!(offline.of_programs(&own).net, []);
        assert!(!offline.blocking_reaches(None, &own).all.is_empty());
        assert!(terms.blocking_reaches(None, &own).all.is_empty());
    }

    #[test]
    fn credential_file_denies_package_hosts_to_programs() {
        let own = Permissions {
            net: all(&["cargo", "npm"]),
            credential_files: vec![".npmrc".to_owned()],
            ..Permissions::default()
        };
        let configured = RehearsalTerms { is_configured: true, ..RehearsalTerms::default() };
        assert_eq!(configured.of_programs(&own).net, []);
        let real = Permissions { net: all(&["npm"]), ..Permissions::default() };
        assert_eq!(RehearsalTerms { real, ..configured }.of_programs(&own).net, all(&["npm"]), "it is granted");
    }

    #[test]
    fn secret_for_the_proxy_gives_no_handle_of_the_real_value() {
        let real = Permissions { secrets: all(&["token:proxy", "kube:env"]), ..Permissions::default() };
        let terms = RehearsalTerms { real, ..RehearsalTerms::default() };
        assert!(!terms.is_real_secret("token") && terms.is_real_secret("kube"));
    }

    #[test]
    fn stored_terms_keep_their_key() {
        let configured = RehearsalTerms { is_configured: true, ..RehearsalTerms::default() };
        let stored = serde_json::json!({ "real": {}, "acts": true, "offline": false });
        assert_eq!(serde_json::to_value(&configured).unwrap(), stored);
        assert_eq!(serde_json::from_value::<RehearsalTerms>(stored).unwrap(), configured);
    }

    #[test]
    fn offline_rehearsal_ignores_grants_that_need_a_network() {
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
            assert!(terms(&rehearse, false).is_configured, "{grant}");
            assert_eq!(
                terms(&rehearse, true),
                RehearsalTerms { offline: true, ..RehearsalTerms::default() },
                "{grant}"
            );
        }
        assert!(terms("with = {}", true).is_configured, "no grant needs a network");
    }
}
