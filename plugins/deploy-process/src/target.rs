//! Supervised processes of this machine as a target.

use rollout::{Described, Progress, Serving, Target};
use stagewright_sdk::service::{self, Instance, Release, State};
use stagewright_sdk::{Manifest, Permission, Requirement, Result, environment, secrets};

use crate::config::Config;

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
        let service = Requirement::service(&config.service).because("runs the image");
        let secrets = config.secret_env.iter().map(|(variable, secret)| {
            Requirement::secret_env(secret).because(format!("the release gets it as {variable}"))
        });
        let layout = Requirement::image(config.image.as_str());
        let layout = Some(layout).filter(|layout| layout.permission == Permission::Read);
        std::iter::once(service)
            .chain(layout.map(|layout| layout.because("contains the image")))
            .chain(secrets)
            .collect()
    }

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

    /// The host removes a release that was never made current when the next one starts.
    fn unfinished(&self) -> Result<Option<Instance>> {
        Ok(None)
    }

    fn apply(&self) -> Result<Instance> {
        let Config { service, image, args, env, secret_env, port, keep, stop_grace, .. } = &self.config;
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
        release.start().map_err(|error| error.context(format!("can't start {} as `{service}`", image.as_str())))
    }

    fn describe(&self, instance: &Instance) -> Described {
        let address = instance.address();
        // Host and port are the program's HOST and PORT, except for the port in a rehearsal.
        let place = address.strip_prefix("http://").unwrap_or(&address).trim_end_matches('/');
        let advice = format!("the program has to listen on $HOST:$PORT (checked at {place})");
        Described { name: instance.release(), advice, address: Some(address) }
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

    /// The host switches from the earlier release to the new one at once, and stops the earlier one.
    fn shift(&self, instance: &Instance, _weight: u32) -> Result<()> {
        instance.promote()
    }

    fn finish(&self, _instance: &Instance) -> Result<()> {
        Ok(())
    }

    fn undo(&self, instance: &Instance) -> Result<()> {
        instance.discard()
    }
}
