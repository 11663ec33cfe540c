//! The state of an attempt while its guest runs: the data of the guest's store.

use std::sync::Arc;

use stagewright_engine::{AttemptEnd, FailureKind, FilePlace, Outcome};
use stagewright_model::MissingGrant;

use tokio::time::Instant;

use crate::capability::artifacts::{Artifacts, NamedArtifact, Publication};
use crate::capability::context::Context;
use crate::capability::effects::Effects;
use crate::capability::environment::StageEnvironment;
use crate::capability::findings::Findings;
use crate::capability::gate::OpenedGates;
use crate::capability::http::Http;
use crate::capability::metrics::Metrics;
use crate::capability::outputs::Outputs;
use crate::capability::process::{ChildHandle, CommandBuilder, Processes};
use crate::capability::registry::Images;
use crate::capability::secrets::StageSecrets;
use crate::capability::service::{InstanceHandle, ReleaseBuilder, Services};
use crate::capability::source::Changes;
use crate::capability::ssh::RemoteHosts;
use crate::capability::test_reports::TestReports;
use crate::capability::workspace::WorkspaceFiles;
use crate::denial::Denials;
use crate::error::{CapabilityError, ErrorCode};
use crate::handles::Handles;
use crate::learner::Learner;
use crate::limits::MemoryLimiter;
use crate::log::AttemptLog;
use crate::mask::Masker;
use crate::stop::Cancel;

mod context;

pub(crate) use context::{AttemptContext, AttemptHost};

/// The state of one attempt that host functions work on.
pub(crate) struct Attempt {
    pub(crate) handles: Handles,
    pub(crate) limiter: MemoryLimiter,
    pub(crate) started: Instant,
    pub(crate) cancel: Cancel,
    pub(crate) log: AttemptLog,
    /// Whether debug and trace messages go into the log.
    pub(crate) verbose: bool,
    pub(crate) context: Context,
    pub(crate) changes: Changes,
    /// Whether the guest has asked for the history of the repository or of an environment.
    pub(crate) read_history: bool,
    pub(crate) outputs: Outputs,
    pub(crate) findings: Findings,
    pub(crate) tests: TestReports,
    pub(crate) metrics: Metrics,
    pub(crate) secrets: StageSecrets,
    pub(crate) processes: Processes,
    pub(crate) http: Http,
    pub(crate) workspace: WorkspaceFiles,
    pub(crate) artifacts: Arc<Artifacts>,
    pub(crate) images: Images,
    pub(crate) services: Services,
    pub(crate) remote_hosts: RemoteHosts,
    pub(crate) environment: StageEnvironment,
    pub(crate) gates: OpenedGates,
    pub(crate) effects: Effects,
    /// The requests that were denied so far.
    pub(crate) denials: Denials,
    /// None unless the run learns.
    pub(crate) learner: Option<Learner>,
}

impl Attempt {
    /// Builds every capability from the context.
    pub(crate) fn new(context: &AttemptContext<'_>) -> Attempt {
        Attempt {
            handles: Handles::new(context.bounds.memory),
            limiter: MemoryLimiter::new(context.bounds.memory),
            started: Instant::now(),
            cancel: context.cancel.clone(),
            log: context.log.clone(),
            verbose: context.config().verbose,
            context: Context::for_attempt(context),
            changes: Changes::for_attempt(context),
            read_history: false,
            outputs: Outputs::default(),
            findings: Findings::new(context.log.clone()),
            tests: TestReports::new(context.log.clone()),
            metrics: Metrics::default(),
            secrets: StageSecrets::for_attempt(context),
            processes: Processes::for_attempt(context),
            http: Http::for_attempt(context),
            workspace: context.workspace.clone(),
            artifacts: Arc::new(Artifacts::for_attempt(context)),
            images: Images::for_attempt(context),
            services: Services::for_attempt(context),
            remote_hosts: RemoteHosts::for_attempt(context),
            environment: StageEnvironment::for_attempt(context),
            gates: OpenedGates::default(),
            effects: context.effects.clone(),
            denials: context.denials.clone(),
            learner: context.learner.clone(),
        }
    }
}

impl Attempt {
    pub(crate) async fn spawn_unless_cancelled(
        &mut self,
        command: CommandBuilder,
    ) -> Result<ChildHandle, CapabilityError> {
        self.refuse_if_cancelled(&command.program)?;
        self.processes.spawn(command).await
    }

    /// Starts a release of a service, unless the stage is being cancelled.
    pub(crate) async fn start_release(&mut self, release: ReleaseBuilder) -> Result<InstanceHandle, CapabilityError> {
        self.refuse_if_cancelled(&release.service)?;
        self.services.start(release).await
    }

    /// Adds to a failure what the stage's programs were refused. A program that the sandbox made fail reports an error of its
    /// own, or none.
    pub(crate) async fn explain(&mut self, end: &mut AttemptEnd) {
        let AttemptEnd::Unsuccessful(Outcome::Failed | Outcome::Errored, failure) = end else { return };
        if failure.kind != FailureKind::Reported {
            return;
        }
        let refusals = self.processes.refusals().await;
        refusals.files.iter().for_each(|denied| self.denials.add_of_program(denied));
        let remedy = self.denials.remedy(self.processes.policy(), refusals.mention_network);
        if let Some(remedy) = remedy.map(|remedy| self.log.masker().text(&remedy)) {
            failure.help = Some(match failure.help.take() {
                Some(own) => format!("{remedy}; {own}"),
                None => remedy,
            });
        }
    }

    fn refuse_if_cancelled(&self, started: &str) -> Result<(), CapabilityError> {
        if !self.cancel.is_set() {
            return Ok(());
        }
        let message = format!("`{started}` was not started: the stage is being cancelled");
        Err(CapabilityError::new(ErrorCode::Cancelled, message))
    }

    pub(crate) async fn publish_artifact(
        &mut self,
        publication: Publication,
    ) -> Result<NamedArtifact, CapabilityError> {
        // Both are journalled and shown with the run.
        let shown = std::iter::once(&publication.name).chain(&publication.media_type);
        if shown.into_iter().any(|text| self.log.masker().finds_in(text)) {
            let message = "the artifact's name or media type contains a secret";
            return Err(CapabilityError::new(ErrorCode::InvalidArgument, message).with_help("choose another"));
        }
        let artifacts = self.artifacts.clone();
        self.workspace.off_thread(move |files| artifacts.publish(files, &publication)).await
    }
}

/// `error` with every secret masked.
pub(crate) fn masked(error: CapabilityError, masker: &Masker) -> CapabilityError {
    CapabilityError {
        message: masker.text(&error.message),
        causes: error.causes.iter().map(|cause| masker.text(cause)).collect(),
        help: error.help.map(|help| masker.text(&help)),
        grant: error.grant.map(|grant| Box::new(MissingGrant { entry: masker.text(&grant.entry), ..*grant })),
        place: error.place.map(|place| Box::new(FilePlace { path: masker.text(&place.path), ..*place })),
        ..error
    }
}
