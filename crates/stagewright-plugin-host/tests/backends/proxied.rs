//! Releases behind a proxy: real processes, and a real proxy.

use std::net::SocketAddr;
use std::time::Duration;

use stagewright_plugin_host::ErrorCode;
use stagewright_plugin_host::service::{Instance, ProxySpec, ReleaseSpec, UnfinishedSpec};
use tokio::net::TcpListener;

use crate::services::{Services, free_port, send};
use crate::{eventually, refused};

/// A release that answers HTTP requests with one word, behind a proxy.
fn behind(services: &Services, answer: &str, listen: SocketAddr, replicas: usize) -> ReleaseSpec {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", answer.len());
    let proxy =
        ProxySpec { listen, drain: Duration::from_secs(1), replicas, stops_first: false, run: "run-1".to_owned() };
    ReleaseSpec {
        proxy: Some(proxy),
        stop_grace: Duration::ZERO,
        fence: Some(7),
        ..services.release(&format!("{head}{answer}"))
    }
}

/// Starts a release, and waits until each of its replicas answers.
async fn start(services: &Services, release: ReleaseSpec) -> Instance {
    let instance = services.manager.start(release).await.unwrap();
    all_answer(&instance).await;
    instance
}

async fn all_answer(instance: &Instance) {
    for (address, endpoint) in instance.endpoints() {
        eventually("the replica listens", async || endpoint.check().await.ok()).await;
        assert!(address.starts_with("http://127.0.0.1:"), "{address}");
    }
}

/// The bodies of ten responses at the public port.
async fn answers(listen: SocketAddr) -> Vec<String> {
    let mut answers = Vec::new();
    for _ in 0..10 {
        let answer = send(listen.port(), "GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n").await.unwrap();
        answers.push(answer.rsplit("\r\n").next().unwrap_or_default().trim().to_owned());
    }
    answers
}

fn public() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

fn unfinished(services: &Services, fence: u64) -> UnfinishedSpec {
    let (environment, service) = ("staging".to_owned(), "app".to_owned());
    UnfinishedSpec {
        environment,
        service,
        image: services.image.clone(),
        run: "run-1".to_owned(),
        fence: Some(fence),
        rehearsal: None,
    }
}

#[tokio::test]
async fn a_release_gets_requests_by_its_share_and_another_attempt_continues_it() {
    let (services, listen) = (Services::new().await, public());
    let first = start(&services, behind(&services, "one", listen, 1)).await;
    assert_eq!(answers(listen).await, ["no release serves"; 10]);
    first.route(20).await.unwrap();
    assert_eq!(answers(listen).await, ["one"; 10], "there is no other release");
    first.promote().await.unwrap();

    let second = start(&services, behind(&services, "two", listen, 1)).await;
    assert_eq!(answers(listen).await, ["one"; 10]);
    second.route(50).await.unwrap();
    let shared = answers(listen).await;
    assert!(matches!(shared.iter().filter(|answer| *answer == "two").count(), 4 | 5), "{shared:?}");
    let release = second.record().release.clone();
    drop(second);

    let other = UnfinishedSpec { run: "run-2".to_owned(), ..unfinished(&services, 8) };
    assert!(services.manager.unfinished(other).await.unwrap().is_none());
    refused(
        services.manager.unfinished(unfinished(&services, 6)).await,
        &ErrorCode::FailedPrecondition,
        &["older token 6"],
    );
    let continued = services.manager.unfinished(unfinished(&services, 8)).await.unwrap().unwrap();
    assert_eq!(continued.record().release, release);
    continued.promote().await.unwrap();
    assert_eq!(answers(listen).await, ["two"; 10]);
    assert!(services.manager.unfinished(unfinished(&services, 8)).await.unwrap().is_none());
    let current = services.manager.current("staging", "app", None).await.unwrap().unwrap();
    assert_eq!((current.address, current.fence), (format!("http://{listen}"), Some(8)));
}

#[tokio::test]
async fn replicas_are_replaced_and_come_back_when_the_new_release_is_discarded() {
    let (services, listen) = (Services::new().await, public());
    let first = start(&services, behind(&services, "one", listen, 3)).await;
    first.promote().await.unwrap();
    let second = start(&services, behind(&services, "two", listen, 1)).await;
    second.route(33).await.unwrap();
    second.scale(2, 1).await.unwrap();
    all_answer(&second).await;
    second.route(66).await.unwrap();
    assert_eq!(second.endpoints().len(), 2);
    let shared = answers(listen).await;
    assert!(matches!(shared.iter().filter(|answer| *answer == "two").count(), 5 | 6), "{shared:?}");
    second.discard().await.unwrap();
    assert_eq!(answers(listen).await, ["one"; 10]);
    let folder = services.place.path("services/staging/app/proxy/table.json");
    let table: serde_json::Value = serde_json::from_slice(&std::fs::read(folder).unwrap()).unwrap();
    assert_eq!(table["serving"]["ports"].as_array().map(Vec::len), Some(3), "{table}");
    assert!(services.manager.unfinished(unfinished(&services, 8)).await.unwrap().is_none());
}

#[tokio::test]
async fn a_release_that_must_run_alone_replaces_the_one_before_it_or_restores_it() {
    let (services, listen) = (Services::new().await, public());
    start(&services, behind(&services, "one", listen, 2)).await.promote().await.unwrap();
    let alone = |answer: &str| {
        let release = behind(&services, answer, listen, 1);
        ReleaseSpec { proxy: release.proxy.clone().map(|proxy| ProxySpec { stops_first: true, ..proxy }), ..release }
    };
    let second = start(&services, alone("two")).await;
    assert_eq!(answers(listen).await, ["no release serves"; 10]);
    second.discard().await.unwrap();
    assert_eq!(answers(listen).await, ["one"; 10]);
    let third = start(&services, alone("three")).await;
    third.route(100).await.unwrap();
    assert_eq!(answers(listen).await, ["three"; 10]);
    third.promote().await.unwrap();
    assert_eq!(answers(listen).await, ["three"; 10]);
}

#[tokio::test]
async fn a_public_port_is_free_after_the_service_was_stopped_and_taken_before() {
    let (services, listen) = (Services::new().await, public());
    let foreign = TcpListener::bind(listen).await.unwrap();
    let holder = format!("(process {})", std::process::id());
    let taken = services.manager.start(behind(&services, "one", listen, 1)).await;
    refused(taken, &ErrorCode::FailedPrecondition, &[&format!("port {} of 127.0.0.1", listen.port()), &holder]);
    drop(foreign);
    start(&services, behind(&services, "one", listen, 1)).await.promote().await.unwrap();
    let other = ReleaseSpec { service: "other".to_owned(), ..behind(&services, "two", listen, 1) };
    let taken = services.manager.start(other).await;
    refused(taken, &ErrorCode::FailedPrecondition, &["is the public port of the service `app` in staging"]);
    let elsewhere = public();
    let moved = services.manager.start(behind(&services, "two", elsewhere, 1)).await;
    refused(moved, &ErrorCode::FailedPrecondition, &[&listen.to_string(), &elsewhere.to_string()]);
    assert_eq!(answers(listen).await, ["one"; 10]);
    services.manager.stop("staging", "app", false).await.unwrap();
    assert!(TcpListener::bind(listen).await.is_ok());
}

#[tokio::test]
async fn a_release_without_a_proxy_ends_the_proxy() {
    let (services, listen) = (Services::new().await, public());
    start(&services, behind(&services, "one", listen, 1)).await.promote().await.unwrap();
    services.start(services.release("two")).await.promote().await.unwrap();
    assert!(TcpListener::bind(listen).await.is_ok(), "the proxy would refuse all requests");
}
