//! A canary by weight: how the route, the Services and both releases change together.
//!
//! ```text
//!           Service            Service of the canary   route
//! before    earlier release    that of the last one    as in the files of the earlier release
//! weight 20 earlier release    new release             80 to 20
//! 100       new release        new release             0 to 100
//! finished  new release        new release             as in the files of the new release
//! undone    earlier release    as before, or deleted   as in the files of the earlier release
//! ```
//!
//! Each change is the same when it is made again, so that an interrupted one is completed by repeating it. What requests go to
//! never changes in the same step as where a Service leads.

#[cfg(test)]
mod tests;

use std::time::Duration;

use kubernetes::{Identity, Object, Origin};
use rollout::HeaderMatch;
use serde_json::Value as Json;
use stagewright_sdk::{Error, Result, clock, log};

use crate::apply::identity;
use crate::beside::RELEASE;
use crate::record::Release;
use crate::target::Application;
use crate::traffic::{CANARY, Split, Traffic, canary_name, services};

/// How long a controller may take until it carries out a change of the route.
const ACCEPTANCE: Duration = Duration::from_secs(60);
/// Time between two looks at the route.
const INTERVAL: Duration = Duration::from_secs(1);
/// The share that the server checks before anything is applied. Each share has the same form.
const CHECKED_WEIGHT: u32 = 50;

impl Application {
    /// Why the requests can't be divided between the release that serves and this one, and whether the server accepts the
    /// route with weights.
    pub(crate) fn check_division(&self, release: &Release, earlier: &Release) -> Result<()> {
        let Some(traffic) = self.config.traffic.as_ref() else { return Ok(()) };
        let (services, conditions) = (services(&release.objects), self.header_conditions());
        let base = base(traffic, &services, &conditions, release, earlier).map_err(|reason| {
            let message =
                format!("no canary can share the requests of the release {}, which serves: {reason}", earlier.name);
            Error::failed(message).help("deploy once with strategy = { blue-green = {} } and without `traffic`")
        })?;
        let split = Split { services: &services, weight: CHECKED_WEIGHT, conditions: &conditions };
        let divided = Object { json: traffic.divided(base, split), origin: Origin::default() };
        self.applier(self.takes_over()?)
            .check(&divided, &release.name)
            .map_err(|error| error.context("the route can't have the weights of two releases"))
    }

    /// Lets the route no longer lead to the canary of a release that wasn't finished, before its Service leads to this one,
    /// which isn't ready.
    pub(crate) fn detach(&self, release: &Release) -> Result<()> {
        let Some(traffic) = self.config.traffic.as_ref() else { return Ok(()) };
        let services = services(&release.objects);
        let of_canary = release.objects.iter().filter(|object| !object["metadata"]["annotations"][CANARY].is_null());
        let mut is_of_other = false;
        for object in of_canary {
            let live = self.cluster.get(&identity(object, &self.config.service, &release.name))?;
            is_of_other |= live.is_some_and(|live| live["spec"]["selector"][RELEASE] != release.name.as_str());
        }
        let earlier = self.earlier(release)?;
        let Some(route) = route(traffic, earlier.as_ref().unwrap_or(release)) else { return Ok(()) };
        let names: Vec<String> = services.iter().map(|service| canary_name(service)).collect();
        match self.cluster.get(&self.identity_of(route))? {
            Some(live) if is_of_other && !traffic.used(&live, &names).is_empty() => {
                log::info(format!("{} leads to the canary of another release no longer", self.identity_of(route)));
                self.direct(traffic, route, &release.name, self.takes_over()?)
            }
            _ => Ok(()),
        }
    }

    /// Divides the requests between this release and the one that serves. Without one, there is nothing to divide.
    pub(crate) fn divide(&self, release: &Release, weight: u32, conditions: &[HeaderMatch]) -> Result<()> {
        let Some(traffic) = self.config.traffic.as_ref() else { return Ok(()) };
        let record = self.records().read()?;
        self.records().refuse_stale(&record)?;
        let services = services(&release.objects);
        let earlier = self.earlier(release)?;
        // A release is restored beside any other. Its Services then switch all requests at once.
        let base =
            earlier.as_ref().map(|earlier| base(traffic, &services, &self.header_conditions(), release, earlier));
        let Some(Ok(base)) = base else { return Ok(()) };
        let split = Split { services: &services, weight, conditions };
        self.direct(traffic, &traffic.divided(base, split), &release.name, self.takes_over()?)
            .map_err(|error| error.context(format!("{} can't be given its weights", self.identity_of(base))))?;
        let by_header = if conditions.is_empty() { "" } else { ", and all with certain headers" };
        log::info(format!(
            "{} gives {weight}% of the requests to the release {}{by_header}",
            self.identity_of(base),
            release.name
        ));
        Ok(())
    }

    /// Makes the route what the release's files say.
    pub(crate) fn direct_all(&self, release: &Release) -> Result<()> {
        let Some(traffic) = self.config.traffic.as_ref() else { return Ok(()) };
        let Some(route) = route(traffic, release) else { return Ok(()) };
        self.direct(traffic, route, &release.name, self.takes_over()?)
    }

    /// After the earlier release was applied again: makes the route what it was before, if it isn't an object of that release
    /// and stays, and gives the controller time to follow before the canary is deleted.
    pub(crate) fn withdraw(&self, release: &Release, earlier: Option<&Release>) -> Result<()> {
        let Some(traffic) = self.config.traffic.as_ref() else { return Ok(()) };
        let of_earlier = earlier.and_then(|earlier| route(traffic, earlier));
        let Some(kept) = of_earlier.or_else(|| route(traffic, release)) else { return Ok(()) };
        let identity = self.identity_of(kept);
        let is_deleted = of_earlier.is_none() && release.created.iter().any(|created| created.is(&identity));
        if is_deleted || self.cluster.get(&identity)?.is_none() {
            return Ok(());
        }
        if of_earlier.is_none() {
            self.applier(true).apply(kept, &release.name)?;
        }
        match self.wait_until_carried_out(traffic, &identity) {
            Err(error) if error.is_cancelled() => Ok(()),
            // The canary has to go all the same.
            Err(error) => {
                log::warn(error.to_string());
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn direct(&self, traffic: &Traffic, route: &Json, release: &str, force: bool) -> Result<()> {
        self.applier(force).apply(route, release)?;
        self.wait_until_carried_out(traffic, &self.identity_of(route))
    }

    /// Waits until the controller says that it carries out the route as it is, as far as it says so at all.
    fn wait_until_carried_out(&self, traffic: &Traffic, route: &Identity) -> Result<()> {
        let start = clock::monotonic();
        loop {
            let live = self.cluster.get(route)?;
            let pending = live.map_or_else(|| Some("it was deleted".to_owned()), |live| traffic.pending(&live));
            let Some(reason) = pending else { return Ok(()) };
            if clock::monotonic().saturating_sub(start) > ACCEPTANCE {
                let message = format!("{route} isn't carried out after {} s: {reason}", ACCEPTANCE.as_secs());
                return Err(Error::failed(message).help("check its `parentRefs`, and the Gateway's controller"));
            }
            clock::sleep(INTERVAL)?;
        }
    }

    /// The release that serves, if it is another one.
    fn earlier(&self, release: &Release) -> Result<Option<Release>> {
        let record = self.records().read()?;
        let earlier = record.serving.iter().find(|name| **name != release.name);
        earlier.map(|name| self.records().release(name)).transpose()
    }

    /// All conditions that the canary's steps set.
    fn header_conditions(&self) -> Vec<HeaderMatch> {
        self.config.strategy.as_ref().map(rollout::Strategy::header_conditions).unwrap_or_default()
    }

    fn identity_of(&self, object: &Json) -> Identity {
        identity(object, &self.config.service, "")
    }
}

/// The route of a release.
pub(crate) fn route<'r>(traffic: &Traffic, release: &'r Release) -> Option<&'r Json> {
    release.objects.iter().find(|object| traffic.is(object))
}

/// The route that gets weights: that of the release that serves, or else the new one's, so that what the new release changes
/// about it comes when it gets all requests. Otherwise the reason why the requests of the release that serves can't be shared.
fn base<'r>(
    traffic: &Traffic,
    services: &[String],
    conditions: &[HeaderMatch],
    release: &'r Release,
    earlier: &'r Release,
) -> std::result::Result<&'r Json, String> {
    let base = route(traffic, earlier).or_else(|| route(traffic, release)).ok_or("there is no route")?;
    let is_pinned = |service: &String| {
        let mut all = earlier.objects.iter().filter(|object| object["kind"] == "Service");
        all.any(|object| {
            object["metadata"]["name"] == service.as_str() && object["spec"]["selector"][RELEASE].is_string()
        })
    };
    if let Some(service) = services.iter().find(|service| !is_pinned(service)) {
        return Err(format!(
            "its Service `{service}` doesn't select its pods alone, and would lead to the canary as well"
        ));
    }
    let object = Object { json: base.clone(), origin: Origin::default() };
    match traffic.obstacles(&[object], services, conditions).into_iter().next() {
        Some(obstacle) => Err(obstacle.message),
        None => Ok(base),
    }
}
