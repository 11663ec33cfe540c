//! Releases of supervised services: real images, real programs, real supervisors.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use stagewright_plugin_host::ErrorCode;
use stagewright_plugin_host::registry::{ImageReference, Registry};
use stagewright_plugin_host::service::{Instance, ReleaseSpec, ServiceConfig, ServiceManager};
use stagewright_process::supervisor::Phase;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::place::{Place, real};
use crate::stand_in::{SERVE, binary};
use crate::{eventually, refused};

/// A service manager, and the image `local/app`: this machine's shell.
pub(crate) struct Services {
    pub(crate) place: Place,
    registry: Arc<Registry>,
    pub(crate) manager: ServiceManager,
    pub(crate) image: String,
}

impl Services {
    pub(crate) async fn new() -> Services {
        let place = Place::new();
        let registry = Arc::new(place.registry());
        let manager = ServiceManager::new(ServiceConfig {
            root: place.path("services"),
            rehearsal_root: place.path("rehearsed-services"),
            exe: binary(),
            workspace: place.path("workspace"),
            registry: registry.clone(),
        });
        let mut services = Services { place, registry, manager, image: String::new() };
        services.image = services.push("app", &["/bin/sh", "-c"]).await;
        services
    }

    async fn push(&self, repository: &str, entrypoint: &[&str]) -> String {
        let layout = self.place.layout(repository);
        let digest =
            layout.list("built", &layout.manifest(&[("bin/sh", &std::fs::read("/bin/sh").unwrap())], entrypoint));
        let reference: ImageReference = format!("local/{repository}:1").parse().unwrap();
        self.registry.push(&layout.root, &reference, real(&self.place.path("workspace"))).await.unwrap();
        format!("local/{repository}@{digest}")
    }

    /// A release of a server that answers with one word, on a free port.
    pub(crate) fn release(&self, answer: &str) -> ReleaseSpec {
        let binary = binary();
        let env = [("PATH", "/usr/bin:/bin"), ("BINARY", binary.to_str().unwrap()), ("ANSWER", answer)];
        ReleaseSpec {
            files: None,
            environment: "staging".to_owned(),
            service: "app".to_owned(),
            image: self.image.clone(),
            args: vec![SERVE.to_owned()],
            env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            root: None,
            volumes: BTreeMap::new(),
            port: 0,
            proxy: None,
            keep: 5,
            stop_grace: Duration::from_secs(10),
            rehearsal: None,
            fence: None,
        }
    }

    /// Starts a release and waits until it answers.
    pub(crate) async fn start(&self, release: ReleaseSpec) -> Instance {
        let answer = release.env.iter().find_map(|(name, value)| (name == "ANSWER").then(|| value.clone())).unwrap();
        let instance = self.manager.start(release).await.unwrap();
        serves(instance.record().port, &answer).await;
        instance
    }

    async fn current(&self) -> Option<String> {
        self.manager.current("staging", "app", None).await.unwrap().map(|current| current.release)
    }

    async fn phase(&self) -> Phase {
        let all = self.manager.status(false).await.unwrap();
        assert_eq!(all.len(), 1, "{all:?}");
        all[0].phase
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        std::thread::scope(|scope| {
            let stop = || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                for rehearsal in [false, true] {
                    let _ = runtime.block_on(self.manager.stop_all(rehearsal));
                }
            };
            let _ = scope.spawn(stop).join();
        });
    }
}

/// The answer of the server on a port to a text; none when no server listens.
pub(crate) async fn send(port: u16, text: &str) -> Option<String> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    connection.write_all(text.as_bytes()).await.ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.ok()?;
    Some(answer.trim().to_owned())
}

async fn ask(port: u16) -> Option<String> {
    send(port, "who\n").await
}

async fn serves(port: u16, answer: &str) {
    let what = format!("{answer:?} is answered at port {port}");
    eventually(&what, async || ask(port).await.filter(|found| found == answer)).await;
}

/// A port that is free at this moment.
pub(crate) fn free_port() -> u16 {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    socket.local_addr().unwrap().port()
}

#[tokio::test]
async fn a_release_starts_beside_the_current_one_and_replaces_it_when_promoted() {
    let services = Services::new().await;
    let first = services.start(services.release("one")).await;
    assert_eq!(first.phase().await.unwrap(), Phase::Running);
    assert_eq!(services.current().await, None, "current before it is promoted");
    let (first_release, first_port) = (first.record().release.clone(), first.record().port);
    first.promote().await.unwrap();
    assert_eq!(services.current().await, Some(first_release.clone()));

    let second = services.start(services.release("two")).await;
    let record = second.record().clone();
    assert_ne!((&record.release, record.port), (&first_release, first_port));
    assert_eq!(ask(first_port).await.as_deref(), Some("one"), "the old release serves until the new one is promoted");
    assert_eq!(services.current().await, Some(first_release));
    second.promote().await.unwrap();
    assert_eq!(services.manager.current("staging", "app", None).await.unwrap(), Some(record.clone()));
    assert_eq!((ask(first_port).await, ask(record.port).await.as_deref()), (None, Some("two")));

    let all = services.manager.status(false).await.unwrap();
    assert_eq!((all[0].phase, all[0].restarts, &all[0].failure), (Phase::Running, 0, &None));
    assert_eq!(all[0].current, Some(record.clone()));
    let log = services.manager.log_tail("staging", "app", 100, false).await.unwrap();
    assert!(log.contains("serving two") && !log.contains("serving one"), "{log}");
}

#[tokio::test]
async fn stopping_ends_the_program_and_keeps_the_release() {
    let services = Services::new().await;
    let instance = services.start(services.release("one")).await;
    let port = instance.record().port;
    instance.promote().await.unwrap();
    services.manager.stop("staging", "app", false).await.unwrap();
    assert_eq!((services.phase().await, ask(port).await), (Phase::Exited, None));
    assert!(services.current().await.is_some());
    services.manager.stop("staging", "app", false).await.unwrap();
    let unknown = services.manager.stop("staging", "ap", false).await;
    refused(unknown, &ErrorCode::NotFound, &["staging", "`ap`", "service status"]);
}

#[tokio::test]
async fn a_discarded_release_leaves_the_current_one_alone() {
    let services = Services::new().await;
    let first = services.start(services.release("one")).await;
    let (release, port) = (first.record().release.clone(), first.record().port);
    first.promote().await.unwrap();
    let second = services.start(services.release("two")).await;
    let second_port = second.record().port;
    second.discard().await.unwrap();
    assert_eq!((ask(port).await.as_deref(), ask(second_port).await), (Some("one"), None));
    assert_eq!((services.current().await, services.phase().await), (Some(release), Phase::Running));
}

#[tokio::test]
async fn a_fixed_port_displaces_the_current_release_and_a_discard_brings_it_back() {
    let services = Services::new().await;
    let port = free_port();
    let fixed = |answer: &str| ReleaseSpec { port, ..services.release(answer) };
    let first = services.start(fixed("one")).await;
    let release = first.record().release.clone();
    first.promote().await.unwrap();

    let second = services.start(fixed("two")).await;
    assert_eq!(services.phase().await, Phase::Exited, "both at one port");
    second.discard().await.unwrap();
    // The environment isn't stored on disk, but the restarted release has the same one.
    serves(port, "one").await;
    assert_eq!((services.current().await, services.phase().await), (Some(release), Phase::Running));

    let third = services.start(fixed("three")).await;
    third.promote().await.unwrap();
    assert_eq!((ask(port).await.as_deref(), services.phase().await), (Some("three"), Phase::Running));
}

#[tokio::test]
async fn a_port_that_another_program_uses_is_refused_and_the_current_release_is_restored() {
    let services = Services::new().await;
    services.start(services.release("one")).await.promote().await.unwrap();
    let (port, before) = (services.manager.status(false).await.unwrap()[0].current.clone().unwrap().port, free_port());
    let foreign = TcpListener::bind(("0.0.0.0", before)).await.unwrap();
    let taken = services.manager.start(ReleaseSpec { port: before, ..services.release("two") }).await;
    let own = format!("(process {})", std::process::id());
    refused(taken, &ErrorCode::FailedPrecondition, &[&format!("port {before} of 127.0.0.1"), &own]);
    serves(port, "one").await;
    let releases = services.place.path("services/staging/app/releases");
    assert_eq!(releases.read_dir().unwrap().count(), 1, "the release that failed to start was not removed");
    drop(foreign);
    services.start(ReleaseSpec { port: before, ..services.release("two") }).await.discard().await.unwrap();
}

#[tokio::test]
async fn a_release_is_not_promoted_while_another_program_has_its_port() {
    let services = Services::new().await;
    let silent = ReleaseSpec { args: vec!["exec sleep 600".to_owned()], ..services.release("two") };
    let instance = services.manager.start(silent.clone()).await.unwrap();
    let record = instance.record().clone();
    let _foreign = TcpListener::bind(("127.0.0.1", record.port)).await.unwrap();
    let holder = format!("(process {}), which isn't part of release {}", std::process::id(), record.release);
    refused(instance.promote().await, &ErrorCode::FailedPrecondition, &[&holder]);
    assert_eq!(services.current().await, None);

    // A release that doesn't listen, such as a worker, can be promoted.
    services.manager.start(silent).await.unwrap().promote().await.unwrap();
    assert!(services.current().await.is_some());
}

#[tokio::test]
async fn a_program_gets_its_host_and_port_as_variables() {
    let services = Services::new().await;
    let script = "echo at $HOST:$PORT; exec sleep 600".to_owned();
    let release = ReleaseSpec { args: vec![script], ..services.release("one") };
    let logged = async |release: ReleaseSpec| {
        let instance = services.manager.start(release).await.unwrap();
        let port = instance.record().port;
        let line = eventually("it has logged", async || {
            Some(instance.log_tail(1).await.unwrap()).filter(|line| line.ends_with('\n'))
        });
        let line = line.await;
        instance.discard().await.unwrap();
        line.trim_end().replace(&port.to_string(), "PORT")
    };
    assert_eq!(logged(release.clone()).await, "at 127.0.0.1:PORT");
    let mut own = release;
    own.env.push(("HOST".to_owned(), "0.0.0.0".to_owned()));
    assert_eq!(logged(own).await, "at 0.0.0.0:PORT");
}

#[tokio::test]
async fn the_next_deploy_stops_releases_of_a_killed_one() {
    let services = Services::new().await;
    let port = free_port();
    let fixed = |answer: &str| ReleaseSpec { port, ..services.release(answer) };
    let current = services.start(services.release("one")).await;
    let current_port = current.record().port;
    current.promote().await.unwrap();

    // Neither promoted nor discarded, as when the engine is killed: only the lock is released.
    drop(services.start(fixed("two")).await);
    assert_eq!(ask(port).await.as_deref(), Some("two"));
    services.manager.start(fixed("three")).await.unwrap().promote().await.unwrap();
    serves(port, "three").await;
    assert_eq!(ask(current_port).await, None);
}

/// The fence of the current release, which `observe` compares.
async fn token(services: &Services) -> Option<u64> {
    services.manager.current("staging", "app", None).await.unwrap().and_then(|current| current.fence)
}

#[tokio::test]
async fn a_deploy_that_was_killed_before_its_promotion_is_not_current() {
    let services = Services::new().await;
    let fenced = |answer: &str, fence: u64| ReleaseSpec { fence: Some(fence), ..services.release(answer) };
    services.start(fenced("one", 1)).await.promote().await.unwrap();
    let killed = services.start(fenced("two", 2)).await;
    let stray = killed.record().port;
    drop(killed);
    assert_eq!((token(&services).await, ask(stray).await.as_deref()), (Some(1), Some("two")));

    // A resumed run deploys the same again, with a new fence.
    services.start(fenced("two", 3)).await.promote().await.unwrap();
    assert_eq!((token(&services).await, ask(stray).await), (Some(3), None), "the stray release was stopped");
}

#[tokio::test]
async fn a_deploy_that_was_killed_during_its_promotion_is_current() {
    let services = Services::new().await;
    let fenced = |answer: &str, fence: u64| ReleaseSpec { fence: Some(fence), ..services.release(answer) };
    let first = services.start(fenced("one", 1)).await;
    let first_port = first.record().port;
    first.promote().await.unwrap();
    let second = services.start(fenced("two", 2)).await;
    let record = second.record().clone();
    // The first step of a promotion, after which this one was killed.
    let current = services.place.path("services/staging/app/current.json");
    std::fs::write(current, serde_json::to_vec(&record).unwrap()).unwrap();
    drop(second);
    assert_eq!((token(&services).await, services.phase().await), (Some(2), Phase::Running));
    assert_eq!(ask(first_port).await.as_deref(), Some("one"), "the previous release still runs");

    services.start(fenced("three", 3)).await.promote().await.unwrap();
    assert_eq!((ask(first_port).await, ask(record.port).await), (None, None), "the next deploy stops both");
    assert_eq!(token(&services).await, Some(3));
}

#[tokio::test]
async fn a_deploy_that_was_killed_after_its_promotion_is_current_even_when_stopped() {
    let services = Services::new().await;
    let release = ReleaseSpec { fence: Some(4), ..services.release("one") };
    services.start(release).await.promote().await.unwrap();
    assert_eq!((token(&services).await, services.phase().await), (Some(4), Phase::Running));
    services.manager.stop("staging", "app", false).await.unwrap();
    assert_eq!((token(&services).await, services.phase().await), (Some(4), Phase::Exited));
}

#[tokio::test]
async fn a_stale_fence_is_refused_and_changes_nothing() {
    let services = Services::new().await;
    let port = free_port();
    let fenced = |answer: &str, fence: u64| ReleaseSpec { port, fence: Some(fence), ..services.release(answer) };
    services.start(fenced("one", 7)).await.promote().await.unwrap();
    let late = services.manager.start(fenced("two", 6)).await;
    refused(late, &ErrorCode::FailedPrecondition, &["`app` in staging", "the token 7", "the older token 6"]);
    assert_eq!(ask(port).await.as_deref(), Some("one"));
    let releases = services.place.path("services/staging/app/releases");
    assert_eq!(releases.read_dir().unwrap().count(), 1, "the refused release was not removed");
    // A fence takes effect when a release is started, not when it is promoted.
    services.start(fenced("three", 9)).await.discard().await.unwrap();
    assert!(services.manager.start(fenced("four", 8)).await.is_err());

    let overtaken = services.start(fenced("five", 9)).await;
    std::fs::write(services.place.path("services/staging/app/fence"), "10\n").unwrap();
    refused(overtaken.promote().await, &ErrorCode::FailedPrecondition, &["the token 10", "the older token 9"]);
    assert_eq!(token(&services).await, Some(7));
}

#[tokio::test]
async fn an_image_without_its_program_leaves_the_current_release_running() {
    let services = Services::new().await;
    let port = free_port();
    let first = services.start(ReleaseSpec { port, ..services.release("one") }).await;
    first.promote().await.unwrap();
    let image = services.push("broken", &["/bin/server"]).await;
    let started = services.manager.start(ReleaseSpec { port, image, ..services.release("two") }).await;
    refused(started, &ErrorCode::FailedPrecondition, &["`/bin/server`", "entrypoint"]);
    let releases = services.place.path("services/staging/app/releases");
    assert_eq!(releases.read_dir().unwrap().count(), 1, "the release that failed to start was not removed");
    serves(port, "one").await;
    services.start(services.release("three")).await.discard().await.unwrap();
}

#[tokio::test]
async fn the_configured_number_of_earlier_releases_is_kept() {
    let services = Services::new().await;
    let mut made = Vec::new();
    for answer in ["one", "two", "three", "four"] {
        let instance = services.start(ReleaseSpec { keep: 1, ..services.release(answer) }).await;
        made.push(instance.record().release.clone());
        instance.promote().await.unwrap();
    }
    let releases = services.place.path("services/staging/app/releases").read_dir().unwrap();
    let mut left = releases.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>();
    left.sort();
    assert_eq!(left, made[2..]);
}

#[tokio::test]
async fn a_program_that_exits_at_once_is_restarted_until_the_supervisor_gives_up() {
    let services = Services::new().await;
    let script = "echo no such table >&2; exit 7";
    let release = ReleaseSpec { args: vec![script.to_owned()], ..services.release("never") };
    let instance = services.manager.start(release).await.unwrap();
    eventually("the supervisor gives up", async || (instance.phase().await.unwrap() == Phase::Exited).then_some(()))
        .await;
    let log = instance.log_tail(10).await.unwrap();
    assert_eq!(log.lines().collect::<Vec<_>>(), ["no such table"; 5]);
    instance.discard().await.unwrap();
    assert_eq!(services.current().await, None);
    services.start(services.release("one")).await.promote().await.unwrap();
}

#[tokio::test]
async fn a_second_deploy_of_the_same_service_is_refused() {
    let services = Services::new().await;
    let first = services.start(services.release("one")).await;
    let second = services.manager.start(services.release("two")).await;
    assert!(second.as_ref().is_err_and(|error| error.is_retryable()), "{second:?}");
    let elsewhere = ReleaseSpec { environment: "production".to_owned(), ..services.release("three") };
    services.start(elsewhere).await.discard().await.unwrap();
    first.discard().await.unwrap();
    services.start(services.release("four")).await.discard().await.unwrap();
}

#[tokio::test]
async fn a_release_needs_an_existing_image_by_digest() {
    let services = Services::new().await;
    let start =
        |image: &str| services.manager.start(ReleaseSpec { image: image.to_owned(), ..services.release("one") });
    refused(start("local/app:1").await, &ErrorCode::InvalidArgument, &["local/app:1", "by digest"]);
    let unknown = format!("local/app@sha256:{}", "0".repeat(64));
    refused(start(&unknown).await, &ErrorCode::NotFound, &[&unknown["local/app@".len()..]]);
    let releases = services.place.path("services/staging/app/releases");
    assert_eq!(releases.read_dir().unwrap().count(), 0, "a refused release was not removed");
}
