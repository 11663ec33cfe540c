//! Describes how two locked pipelines differ in what they may do.

use std::fmt;

use super::{LockedPipeline, LockedSecret, LockedStage, PluginPin};
use crate::credential::{CredentialDeclaration, SshHost};
use crate::grants::{Amount, Bounds, PackageManager};

/// One difference between two locked pipelines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockChange {
    /// Whether the change allows more than before, or something that wasn't reviewed.
    pub is_wider: bool,
    /// A sentence such as "`test` may now start `curl` with any arguments".
    pub text: String,
}

/// Starts with `+` if the change is wider, and with `-` otherwise.
impl fmt::Display for LockChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", if self.is_wider { '+' } else { '-' }, self.text)
    }
}

#[derive(Default)]
struct LockChanges(Vec<LockChange>);

impl LockChanges {
    fn wider(&mut self, text: impl Into<String>) {
        self.0.push(LockChange { is_wider: true, text: text.into() });
    }

    fn narrower(&mut self, text: impl Into<String>) {
        self.0.push(LockChange { is_wider: false, text: text.into() });
    }
}

pub(super) fn between(then: &LockedPipeline, now: &LockedPipeline, defaults: &Bounds) -> Vec<LockChange> {
    let mut changes = LockChanges::default();
    if now.sandbox > then.sandbox {
        changes.wider("programs may now run unsandboxed on a machine that can't sandbox them");
    } else if now.sandbox < then.sandbox {
        changes.narrower("programs may no longer run unsandboxed");
    }
    for (name, plugin) in &now.plugins {
        match then.plugins.get(name) {
            None => changes.wider(format!("plugin `{name}` is new: {}{}", short(&plugin.digest), imports(plugin))),
            Some(before) => between_plugins(name, before, plugin, &mut changes),
        }
    }
    for name in then.plugins.keys().filter(|name| !now.plugins.contains_key(*name)) {
        changes.narrower(format!("plugin `{name}` is no longer used"));
    }
    for (name, secret) in &now.secrets {
        let before = then.secrets.get(name);
        if let Some(from) = &secret.from
            && before.is_none_or(|before| before.from.as_ref() != Some(from))
        {
            changes.wider(format!("the secret `{name}` is now read from {from}"));
        }
        between_secrets(name, before.unwrap_or(&LockedSecret::default()), secret, &mut changes);
    }
    for (name, credential) in &now.credentials {
        between_credentials(name, then.credentials.get(name), credential, &mut changes);
    }
    between_package_hosts(then, now, &mut changes);
    for (name, stage) in &now.stages {
        // A new stage had no limits that could have become smaller; those above the defaults are worth a line.
        let bounds = defaults.at_most(&stage.bounds);
        let fresh = LockedStage { uses: stage.uses.clone(), bounds, ..LockedStage::default() };
        let before = then.stages.get(name).unwrap_or_else(|| {
            changes.wider(format!("stage `{name}` is new: it uses `{}`", stage.uses));
            &fresh
        });
        between_stages(name, before, stage, defaults, &mut changes);
    }
    for name in then.stages.keys().filter(|name| !now.stages.contains_key(*name)) {
        changes.narrower(format!("stage `{name}` was removed"));
    }
    changes.0
}

fn between_plugins(name: &str, then: &PluginPin, now: &PluginPin, changes: &mut LockChanges) {
    let list = |of: &PluginPin, without: &PluginPin| {
        of.imports.difference(&without.imports).map(String::as_str).collect::<Vec<_>>().join(", ")
    };
    let mut text = match then.digest == now.digest {
        true => format!("plugin `{name}` changed"),
        false => format!("plugin `{name}` changed: {} -> {}", short(&then.digest), short(&now.digest)),
    };
    for (words, names) in [("and now imports", list(now, then)), ("and no longer imports", list(then, now))] {
        if !names.is_empty() {
            text.push_str(&format!(", {words} {names}"));
        }
    }
    if then.wit != now.wit {
        match &now.wit {
            Some(version) => text.push_str(&format!(", and was built for version {version} of the contract")),
            None => text.push_str(", and is no longer a component"),
        }
    }
    if then != now {
        changes.wider(text);
    }
}

fn between_secrets(name: &str, then: &LockedSecret, now: &LockedSecret, changes: &mut LockChanges) {
    let hosts = |secret: &LockedSecret| secret.hosts.iter().map(ToString::to_string).collect::<Vec<_>>();
    for (phrase, then, now) in
        [("be sent to", &hosts(then), &hosts(now)), ("be passed to the program", &then.programs, &now.programs)]
    {
        for entry in now.iter().filter(|entry| !then.contains(entry)) {
            changes.wider(format!("the secret `{name}` may now {phrase} `{entry}`"));
        }
        for entry in then.iter().filter(|entry| !now.contains(entry)) {
            changes.narrower(format!("the secret `{name}` may no longer {phrase} `{entry}`"));
        }
    }
}

fn between_credentials(
    name: &str,
    then: Option<&CredentialDeclaration>,
    now: &CredentialDeclaration,
    changes: &mut LockChanges,
) {
    if then.is_none_or(|then| then.type_name() != now.type_name()) {
        changes.wider(format!("the credential `{name}` is now of type `{}`", now.type_name()));
    }
    let (before, settings) = (then.map(CredentialDeclaration::settings).unwrap_or_default(), now.settings());
    for setting in settings.iter().filter(|setting| !before.contains(setting)) {
        changes.wider(format!("the credential `{name}` now has {} = `{}`", setting.key, setting.value));
    }
    // What no longer applies may have been a restriction, as `ca` is.
    for removed in before.iter().filter(|before| !settings.iter().any(|setting| setting.key == before.key)) {
        changes.wider(format!("the credential `{name}` no longer has {} = `{}`", removed.key, removed.value));
    }
    between_ssh_hosts(name, then, now, changes);
    let has_unknown_origin = now.has_unknown_origin();
    let then = then.map(|then| then.origins.as_slice());
    if has_unknown_origin && then.is_none_or(|then| !then.is_empty()) {
        changes
            .wider(format!("the credential `{name}` may now sign requests to whichever server its kubeconfig names"));
    }
    let then = then.unwrap_or_default();
    for origin in now.origins.iter().filter(|origin| !then.iter().any(|then| then.is_same(origin))) {
        changes.wider(format!("the credential `{name}` may now sign requests to {origin}"));
    }
    for origin in then.iter().filter(|origin| !now.origins.iter().any(|now| now.is_same(origin))) {
        changes.narrower(format!("the credential `{name}` may no longer sign requests to {origin}"));
    }
}

fn between_ssh_hosts(
    name: &str,
    then: Option<&CredentialDeclaration>,
    now: &CredentialDeclaration,
    changes: &mut LockChanges,
) {
    let known = |of: Option<&CredentialDeclaration>, host: &str| {
        of.into_iter()
            .flat_map(CredentialDeclaration::ssh_hosts)
            .find(|(own, _)| *own == host)
            .map(|(_, host)| host.clone())
    };
    for (host, SshHost { address, host_keys }) in now.ssh_hosts() {
        let before = known(then, host);
        if before.as_ref().is_none_or(|before| before.address != *address) {
            changes.wider(format!("the credential `{name}` may now run commands on `{host}`, {address}"));
        }
        let keys = before.map(|before| before.host_keys).unwrap_or_default();
        for key in host_keys.iter().filter(|key| !keys.contains(key)) {
            changes.wider(format!("the credential `{name}` now accepts of `{host}` the key {key}"));
        }
        for key in keys.iter().filter(|key| !host_keys.contains(key)) {
            changes.narrower(format!("the credential `{name}` no longer accepts of `{host}` the key {key}"));
        }
    }
    for (host, _) in then.into_iter().flat_map(CredentialDeclaration::ssh_hosts) {
        if known(Some(now), host).is_none() {
            changes.narrower(format!("the credential `{name}` may no longer run commands on `{host}`"));
        }
    }
}

fn between_package_hosts(then: &LockedPipeline, now: &LockedPipeline, changes: &mut LockChanges) {
    let named = |of: &LockedPipeline, manager| of.package_hosts.get(&manager).cloned().unwrap_or_default();
    for manager in PackageManager::ALL {
        let (then, now) = (named(then, manager), named(now, manager));
        for origin in now.difference(&then) {
            changes.wider(format!(
                "`{manager}` in `net` now includes {origin}, which is configured in a file of the repository"
            ));
        }
        for origin in then.difference(&now) {
            changes.narrower(format!("`{manager}` in `net` no longer includes {origin}"));
        }
    }
}

fn between_stages(name: &str, then: &LockedStage, now: &LockedStage, defaults: &Bounds, changes: &mut LockChanges) {
    if then.uses != now.uses {
        changes.wider(format!("`{name}` now uses `{}` instead of `{}`", now.uses, then.uses));
    }
    match (then.is_native, now.is_native) {
        (false, true) => changes.wider(format!("`{name}` is now a native library with all privileges of the engine")),
        (true, false) => changes.narrower(format!("`{name}` is no longer a native library")),
        _ => {}
    }
    match (&then.environment, &now.environment) {
        (then, Some(now)) if then.as_ref() != Some(now) => {
            changes.wider(format!("`{name}` now acts on the environment `{now}`"));
        }
        (Some(then), None) => changes.narrower(format!("`{name}` no longer acts on the environment `{then}`")),
        _ => {}
    }
    match (then.permissions.unsandboxed, now.permissions.unsandboxed) {
        (false, true) => changes.wider(format!("the programs of `{name}` now run without a sandbox")),
        (true, false) => changes.narrower(format!("the programs of `{name}` are sandboxed again")),
        _ => {}
    }
    for grant in now.permissions.beyond(&then.permissions) {
        changes.wider(format!("`{name}` may now {}", grant.phrase()));
    }
    for grant in then.permissions.beyond(&now.permissions) {
        changes.narrower(format!("`{name}` may no longer {}", grant.phrase()));
    }
    for grant in now.rehearse.beyond(&then.rehearse) {
        changes.wider(format!("a rehearsal of `{name}` may now {}", grant.phrase()));
    }
    for grant in then.rehearse.beyond(&now.rehearse) {
        changes.narrower(format!("a rehearsal of `{name}` may no longer {}", grant.phrase()));
    }
    let (before, after) = (then.bounds.or(defaults), now.bounds.or(defaults));
    let shown = |amount: Option<Amount>| amount.map_or_else(|| "no limit".to_owned(), |amount| amount.to_string());
    for (key, amount, was) in after.beyond(&before) {
        changes.wider(format!("`{name}` has a larger limit `{key}`: {was} -> {}", shown(amount)));
    }
    for (key, was, amount) in before.beyond(&after) {
        changes.narrower(format!("`{name}` has a smaller limit `{key}`: {} -> {amount}", shown(was)));
    }
}

fn imports(plugin: &PluginPin) -> String {
    match plugin.imports.is_empty() {
        true => String::new(),
        false => format!(", imports {}", plugin.imports.iter().map(String::as_str).collect::<Vec<_>>().join(", ")),
    }
}

/// The first digits of a digest, which suffice to distinguish two.
fn short(digest: &str) -> &str {
    digest.get(.."sha256:".len() + 12).unwrap_or(digest)
}
