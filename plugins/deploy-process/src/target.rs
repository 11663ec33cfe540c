//! Supervised processes of this machine as a target.

use rollout::{Described, HeaderMatch, HeaderValue, Progress, ReleaseConfig as _, Serving, Strategy, Target};
use stagewright_sdk::service::{self, HeaderMatches, Instance, Release, Root, State};
use stagewright_sdk::{Error, Manifest, Permission, Requirement, Result, clock, environment, log, secrets};

use crate::config::{Config, Proxy, RollingUpdate, RootFolder};

/// The processes of one service.
pub(crate) struct Processes {
    config: Config,
}

impl Target for Processes {
    type Config = Config;
    type Version = Instance;

    fn manifest() -> Manifest {
        stagewright_sdk::manifest!()
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        // The grant of the service includes pulling its image from a registry.
        let service = match config.proxy {
            Some(proxy) => Requirement::service_at(&config.service, proxy.address())
                .because("runs the image, and accepts requests for it"),
            None => Requirement::service(&config.service).because("runs the image"),
        };
        let secrets = config.secret_env.iter().map(|(variable, secret)| {
            Requirement::secret_env(secret).because(format!("the release gets it as {variable}"))
        });
        let layout = Requirement::image(config.image.as_str());
        let layout = Some(layout).filter(|layout| layout.permission == Permission::Read);
        std::iter::once(service)
            .chain(layout.map(|layout| layout.because("contains the image")))
            .chain(secrets)
            .chain(config.strategy.iter().flat_map(rollout::Strategy::requirements))
            .collect()
    }

    const HAS_STAND_IN: bool = true;

    fn open(config: &Config, _restored: Option<&environment::Release>) -> Result<Processes> {
        Ok(Processes { config: config.clone() })
    }

    fn artifact(&self) -> &str {
        self.config.image.as_str()
    }

    fn serving(&self) -> Result<Option<Serving>> {
        Ok(service::current(&self.config.service)?.map(|current| Serving {
            version: current.release,
            artifact: current.image,
            address: Some(current.address),
            fence: current.fence,
            run: None,
            is_running: current.state == Some(State::Running),
            has_failed: current.state == Some(State::Exited),
        }))
    }

    /// A release without a proxy that was never made current is removed by the host when the next one starts.
    fn unfinished(&self) -> Result<Option<Instance>> {
        match self.config.proxy {
            Some(_) => service::unfinished(&self.config.service, self.artifact()),
            None => Ok(None),
        }
    }

    fn apply(&self) -> Result<Instance> {
        let Config { service, image, args, env, secret_env, root, volumes, port, keep, stop_grace, proxy, .. } =
            &self.config;
        let mut release = Release::new(service, image.as_str());
        release.args(args.iter().cloned());
        for (name, value) in env {
            release.env(name, value);
        }
        for (name, secret) in secret_env {
            let secret = secrets::get(secret).map_err(|error| {
                error.context(format!("can't get the secret `{secret}` of `with.secret-env.{name}`"))
            })?;
            release.secret_env(name, &secret);
        }
        if let Some(port) = port {
            release.port(*port);
        }
        if let Some(keep) = keep {
            release.keep(*keep);
        }
        if let Some(grace) = stop_grace {
            release.stop_grace(grace.0);
        }
        match root {
            Some(RootFolder::Image) => release.root(Root::Image),
            Some(RootFolder::Host) => release.root(Root::Host),
            None => &mut release,
        };
        for (name, path) in volumes {
            release.volume(name, path);
        }
        if let Some(proxy) = proxy {
            self.put_behind(*proxy, &mut release)?;
        }
        release.start().map_err(|error| error.context(format!("can't start {} as `{service}`", image.as_str())))
    }

    fn describe(&self, instance: &Instance) -> Described {
        let address = instance.address();
        // Host and port are the program's HOST and PORT, except for the port in a rehearsal.
        let place = address.strip_prefix("http://").unwrap_or(&address).trim_end_matches('/');
        let advice = format!("the program has to listen on $HOST:$PORT (checked at {place})");
        Described { name: instance.release(), advice, address: Some(address) }
    }

    fn addresses(&self, instance: &Instance) -> Vec<String> {
        instance.addresses()
    }

    fn observe(&self, instance: &Instance) -> Result<Progress> {
        Ok(match instance.state()? {
            State::Exited => Progress::Failed("exited".to_owned()),
            _ => Progress::Running,
        })
    }

    fn log_tail(&self, instance: &Instance, lines: u32) -> Result<String> {
        instance.log_tail(lines)
    }

    fn shift_matching(&self, instance: &Instance, weight: u32, conditions: &[HeaderMatch]) -> Result<()> {
        if conditions.is_empty() {
            return self.shift(instance, weight);
        }
        let mut matches = HeaderMatches::new();
        for HeaderMatch { header_name: name, header_value } in conditions {
            match header_value {
                HeaderValue::Exact(value) => matches.exact(name, value),
                HeaderValue::Prefix(value) => matches.prefix(name, value),
                HeaderValue::Regex(expression) => matches.regex(name, expression),
            };
        }
        instance.route_matching(weight, &matches)
    }

    /// Without a proxy, the host switches from the earlier release to the new one at once, and stops the earlier one.
    fn shift(&self, instance: &Instance, weight: u32) -> Result<()> {
        match (self.config.proxy, self.config.rolling()) {
            (None, _) => instance.promote(),
            (Some(_), None) => instance.route(weight),
            (Some(_), Some(rolling)) => self.replace_replicas(instance, rolling),
        }
    }

    fn finish(&self, instance: &Instance) -> Result<()> {
        match self.config.proxy {
            Some(_) => instance.promote(),
            None => Ok(()),
        }
    }

    fn undo(&self, instance: &Instance) -> Result<()> {
        instance.discard()
    }
}

impl Processes {
    fn put_behind(&self, proxy: Proxy, release: &mut Release) -> Result<()> {
        release.proxy(&proxy.address().to_string());
        if let Some(drain) = self.config.drain {
            release.drain(drain.0);
        }
        if matches!(self.config.strategy(), Strategy::Recreate(_)) {
            release.stop_first();
        }
        // Nothing is replaced by a first release, nor by one after a release that doesn't run.
        let is_served = service::current(&self.config.service)?.is_some_and(|it| it.state == Some(State::Running));
        let replicas = self.config.replicas();
        match self.config.rolling().filter(|_| is_served) {
            Some(rolling) => release.replicas(rolling.surge.min(replicas)),
            None => release.replicas(replicas),
        };
        Ok(())
    }

    /// Starts replicas and stops as many of the earlier release, a few at a time. A replica gets requests when it has passed
    /// its checks.
    fn replace_replicas(&self, instance: &Instance, rolling: RollingUpdate) -> Result<()> {
        loop {
            clock::sleep(rolling.min_ready)?;
            if let Progress::Failed(reason) = self.observe(instance)? {
                return Err(Error::failed(format!("a replica {reason} before it was ready for long enough")));
            }
            let ready = u32::try_from(instance.addresses().len()).unwrap_or(u32::MAX);
            log::info(format!("{ready} of {} replicas are ready", rolling.replicas));
            instance.route((100 * ready / rolling.replicas).min(100))?;
            if ready >= rolling.replicas {
                return Ok(());
            }
            let (replicas, earlier) = rolling.next(ready);
            instance.scale(replicas, earlier)?;
            rollout::wait_until_ready(self, &self.config.probes(), instance)?;
        }
    }
}
