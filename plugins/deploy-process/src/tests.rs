//! Tests on the fake host.

use std::time::Duration;

use serde_json::{Value as Json, json};
use stagewright_sdk::fake::{FakeHost, HttpScript, ServiceScript};
use stagewright_sdk::service::State;
use stagewright_sdk::{Error, ErrorCode, Observation, Outcome, Permission};

use crate::DeployProcess;

const ADDRESS: &str = "http://127.0.0.1:41873";
const OLD: &str = "local/app@sha256:0000000000000000000000000000000000000000000000000000000000000000";
const NEW: &str = "local/app@sha256:1111111111111111111111111111111111111111111111111111111111111111";

fn with(more: Json) -> Json {
    let mut config = json!({ "service": "app", "image": NEW });
    if let (Json::Object(config), Json::Object(more)) = (&mut config, more) {
        config.extend(more);
    }
    config
}

fn host(more: Json) -> FakeHost {
    FakeHost::new().config(with(more)).environment("production")
}

fn current(image: &str) -> Json {
    json!({ "release": "r1", "image": image, "address": ADDRESS, "since": 0 })
}

fn health(status: u16) -> HttpScript {
    HttpScript::get(&format!("{ADDRESS}/health")).status(status)
}

#[test]
fn a_healthy_release_becomes_the_current_one() {
    let more = json!({ "args": ["--fast"], "env": { "LEVEL": "info" }, "secret-env": { "TOKEN": "app-token" },
        "port": 8080, "keep": 2, "stop-grace": "3s" });
    let report = host(more)
        .secret("app-token", "hunter2")
        .current_release("app", current(OLD))
        .service(ServiceScript::new("app").states([State::Starting, State::Running]))
        .http(health(503))
        .http(health(200))
        .run::<DeployProcess>();
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    let release = &report.releases[0];
    assert!(release.promoted && !release.discarded);
    assert_eq!((release.service.as_str(), release.image.as_str()), ("app", NEW));
    assert_eq!(release.args, ["--fast"]);
    assert_eq!(release.env["LEVEL"], "info");
    assert_eq!(release.secret_env["TOKEN"], "app-token");
    assert_eq!((release.port, release.keep, release.stop_grace), (8080, Some(2), Some(Duration::from_secs(3))));
    assert_eq!(report.outputs["url"], ADDRESS);
    assert_eq!(report.outputs["image"], NEW);
    assert_eq!(report.outputs["previous"], OLD);
    assert_eq!(report.sent.len(), 2);
    assert_eq!(report.sent[0].max_redirects, Some(0));
}

#[test]
fn health_is_checked_without_a_configured_check() {
    let report = host(json!({})).service(ServiceScript::new("app")).http(health(200)).run::<DeployProcess>();
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    assert_eq!(report.sent[0].url, format!("{ADDRESS}/health"));
    assert_eq!(report.outputs["previous"], Json::Null);
}

#[test]
fn an_unhealthy_release_is_removed_and_the_old_one_keeps_serving() {
    let report = host(json!({ "health": { "deadline": "2s", "interval": "500ms" } }))
        .current_release("app", current(OLD))
        .service(ServiceScript::new("app").log("starting\nno database\n"))
        .http(health(500))
        .run::<DeployProcess>();
    let error = report.result.unwrap_err();
    assert_eq!(error.code, ErrorCode::FailedPrecondition);
    assert!(
        error.message.contains("was removed") && error.message.contains(&format!("{OLD}) still serves")),
        "{error}"
    );
    assert!(error.causes[0].contains("the health check didn't pass within 2 s"), "{:?}", error.causes);
    assert!(error.causes[1].contains("returned 500, expected 200"), "{:?}", error.causes);
    assert!(error.causes[2].contains("no database"), "{:?}", error.causes);
    assert!(report.releases[0].discarded && !report.releases[0].promoted);
    assert_eq!(report.sent.len(), 4, "one request every 500 ms for 2 s");
    assert!(report.outputs.is_empty());
}

#[test]
fn a_release_that_exits_fails_the_deploy_immediately() {
    let report = host(json!({}))
        .service(ServiceScript::new("app").states([State::Starting, State::Exited]).log("panic: no PORT"))
        .http(health(503))
        .run::<DeployProcess>();
    let error = report.result.unwrap_err();
    assert!(error.message.contains("no release serves"), "{error}");
    assert!(error.causes[0].contains("exited before its health check"), "{:?}", error.causes);
    assert!(error.causes.iter().any(|cause| cause.contains("panic: no PORT")), "{:?}", error.causes);
    assert_eq!(report.sent.len(), 1);
    assert!(report.releases[0].discarded);
}

#[test]
fn successes_must_be_consecutive() {
    let mut host = host(json!({ "health": { "successes": 2 } })).service(ServiceScript::new("app"));
    for status in [200, 503, 200, 200] {
        host = host.http(health(status));
    }
    let report = host.run::<DeployProcess>();
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    assert_eq!(report.sent.len(), 4);
}

#[test]
fn readiness_is_checked_after_health() {
    let ready = HttpScript::get(&format!("{ADDRESS}/ready")).status(204);
    let report = host(json!({ "health": {}, "readiness": { "path": "/ready", "status": 204 } }))
        .service(ServiceScript::new("app"))
        .http(health(200))
        .http(ready)
        .run::<DeployProcess>();
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    let urls: Vec<&str> = report.sent.iter().map(|sent| sent.url.as_str()).collect();
    assert_eq!(urls, [format!("{ADDRESS}/health"), format!("{ADDRESS}/ready")]);

    let report = host(json!({ "health": {}, "readiness": { "path": "/ready", "deadline": "1s" } }))
        .service(ServiceScript::new("app"))
        .http(health(200))
        .http(HttpScript::get(&format!("{ADDRESS}/ready")).status(503))
        .run::<DeployProcess>();
    assert!(report.result.unwrap_err().causes[0].contains("the readiness check didn't pass"));
    assert!(report.releases[0].discarded);
}

#[test]
fn an_unreachable_release_is_unhealthy() {
    let refused = health(200).error(Error::new(ErrorCode::Unavailable, "connection refused"));
    let report = host(json!({ "health": { "deadline": "1s" } }))
        .service(ServiceScript::new("app"))
        .http(refused)
        .run::<DeployProcess>();
    let error = report.result.unwrap_err();
    assert!(error.causes[1].contains("connection refused"), "{:?}", error.causes);
    assert!(error.causes[2].contains("wrote nothing"), "{:?}", error.causes);
}

#[test]
fn a_cancelled_deploy_removes_its_release() {
    let report =
        host(json!({})).service(ServiceScript::new("app")).http(health(503)).cancelled().run::<DeployProcess>();
    let error = report.result.unwrap_err();
    assert_eq!(error.code, ErrorCode::Cancelled);
    assert!(report.releases[0].discarded && !report.releases[0].promoted);
}

#[test]
fn a_release_that_cannot_start_changes_nothing() {
    let failing = ServiceScript::new("app").error(Error::new(ErrorCode::NotFound, "no such image"));
    let report = host(json!({})).service(failing).run::<DeployProcess>();
    let error = report.result.unwrap_err();
    assert!(error.message.contains("can't start") && error.is_not_found(), "{error:?}");
    assert!(report.sent.is_empty());
    let error = host(json!({ "secret-env": { "TOKEN": "missing" } })).run::<DeployProcess>().result.unwrap_err();
    assert!(error.message.contains("with.secret-env.TOKEN"), "{error}");
}

#[test]
fn an_image_without_a_digest_is_refused() {
    for image in ["local/app:1.0", "local/app", "local/app@sha256:12", "@sha256:00", "local/app@md5:00"] {
        let found = host(json!({ "image": image })).validate::<DeployProcess>();
        assert_eq!(found[0].key.as_deref(), Some("image"), "{image}");
        assert!(found[0].message.contains("stages.push.outputs.reference"), "{}", found[0].message);
        assert!(host(json!({ "image": image })).run::<DeployProcess>().result.is_err());
    }
}

#[test]
fn configuration_errors_name_their_key() {
    let paths = |more: Json| -> Vec<String> {
        host(more).validate::<DeployProcess>().into_iter().map(|found| found.key.unwrap_or_default()).collect()
    };
    assert_eq!(paths(json!({ "target": "process" })), ["target"]);
    assert_eq!(paths(json!({ "service": "a/b" })), ["service"]);
    assert_eq!(
        paths(json!({ "env": { "A": "1", "PORT": "80" }, "secret-env": { "A": "s" } })),
        ["secret-env.A", "env.PORT"]
    );
    assert_eq!(
        paths(json!({ "health": { "interval": "0s", "path": "health", "successes": 0 } })),
        ["health.path", "health.successes", "health.interval"]
    );
    assert_eq!(paths(json!({ "readiness": { "deadline": "-1s" } })), ["readiness.deadline"]);
    assert_eq!(paths(json!({ "readiness": { "deadline": "1d", "interval": "1m 30s" } })), [""; 0]);
}

#[test]
fn a_release_gets_its_root_and_its_volumes() {
    for (root, more) in
        [(None, json!({})), (Some("image"), json!({ "root": "image" })), (Some("host"), json!({ "root": "host" }))]
    {
        let report = host(more).service(ServiceScript::new("app")).http(health(200)).run::<DeployProcess>();
        assert_eq!(report.releases[0].root.as_deref(), root);
    }
    let more = json!({ "volumes": { "uploads": "/var/lib/app/uploads", "cache": "/var/cache" } });
    let report = host(more).service(ServiceScript::new("app")).http(health(200)).run::<DeployProcess>();
    let volumes: Vec<(&str, &str)> =
        report.releases[0].volumes.iter().map(|(name, path)| (name.as_str(), path.as_str())).collect();
    assert_eq!(volumes, [("cache", "/var/cache"), ("uploads", "/var/lib/app/uploads")]);
}

#[test]
fn mistakes_in_volumes_are_found() {
    let said = |more: Json| -> Vec<(String, String)> {
        let found = host(more).validate::<DeployProcess>().into_iter();
        found.map(|problem| (problem.key.unwrap_or_default(), problem.message)).collect()
    };
    for (volumes, key, message) in [
        (json!({ "a": "data" }), "volumes.a", "isn't an absolute path"),
        (json!({ "a": "/" }), "volumes.a", "below the root"),
        (json!({ "a": "/x/../etc" }), "volumes.a", "without `..`"),
        (json!({ "a": "/sys/fs" }), "volumes.a", "provided by the kernel"),
        (json!({ "../a": "/data" }), "volumes.../a", "invalid name"),
        (json!({ ".a": "/data" }), "volumes..a", "invalid name"),
        (json!({ "a": "/data", "b": "/data/" }), "volumes.b", "that of `a`"),
        (json!({ "a": "/data/deep", "b": "/data" }), "volumes.b", "in the other"),
    ] {
        let found = said(json!({ "volumes": volumes }));
        assert!(found.len() == 1 && found[0].0 == key && found[0].1.contains(message), "{volumes}: {found:?}");
    }
    let fine = json!({ "a": "/data", "b": "/database", "c.1": "/x/./y" });
    assert_eq!(said(json!({ "volumes": fine })), []);
    assert_eq!(said(json!({ "volumes": { "a": "/data" }, "root": "host" }))[0].0, "volumes");
    assert!(said(json!({ "root": "machine" }))[0].1.contains("image"));
}

#[test]
fn observe_compares_digests_without_tokens() {
    assert_eq!(host(json!({})).observe::<DeployProcess>().result, Ok(Observation::NotStarted));
    let other = host(json!({})).current_release("app", current(OLD)).observe::<DeployProcess>();
    assert_eq!(other.result, Ok(Observation::NotStarted));
    let same = host(json!({})).current_release("app", current(NEW)).observe::<DeployProcess>();
    assert!(matches!(same.result, Ok(Observation::Applied(_))), "{:?}", same.result);
    assert_eq!(same.outputs["url"], ADDRESS);
}

#[test]
fn observe_compares_fencing_tokens() {
    let observe_with = |fence: u64| {
        let mut current = current(NEW);
        current["fence"] = json!(fence);
        host(json!({})).fence(7).current_release("app", current).observe::<DeployProcess>()
    };
    let own = observe_with(7);
    assert!(matches!(own.result, Ok(Observation::Applied(_))), "{:?}", own.result);
    assert_eq!(own.recorded, Some((NEW.to_owned(), Some(ADDRESS.to_owned()))));
    let mut stopped = current(NEW);
    stopped["state"] = json!("exited");
    let stopped = host(json!({})).current_release("app", stopped).observe::<DeployProcess>();
    assert!(matches!(stopped.result, Ok(Observation::Failed(_))), "{:?}", stopped.result);
    // The same image, deployed by another attempt.
    assert_eq!(observe_with(6).result, Ok(Observation::NotStarted));
    assert_eq!(observe_with(8).result, Ok(Observation::NotStarted));
}

#[test]
fn undo_deploys_the_last_known_good_release_with_its_configuration() {
    let mut earlier = with(json!({ "env": { "LEVEL": "debug" } }));
    earlier["image"] = json!(OLD);
    let good = json!({ "artifact": OLD, "config": earlier, "fence": 3 });
    let undoing = || host(json!({})).current_release("app", current(NEW)).ledger(None, Some(good.clone()));
    let report = undoing().service(ServiceScript::new("app")).http(health(200)).undo::<DeployProcess>();
    assert_eq!(report.result, Ok(()));
    let release = &report.releases[0];
    assert!(release.promoted);
    assert_eq!((release.image.as_str(), release.env["LEVEL"].as_str()), (OLD, "debug"));
    assert_eq!(report.recorded, Some((OLD.to_owned(), Some(ADDRESS.to_owned()))));

    let report = undoing().service(ServiceScript::new("app")).http(health(503)).undo::<DeployProcess>();
    assert!(report.releases[0].discarded && report.recorded.is_none());

    let ledger = json!({ "artifact": NEW, "config": with(json!({})), "fence": 5 });
    let serving = |image: &str, fence: u64, state: &str, ledger: &Json| {
        let mut current = current(image);
        current["fence"] = json!(fence);
        current["state"] = json!(state);
        let host = undoing().current_release("app", current).ledger(Some(ledger.clone()), Some(good.clone()));
        host.service(ServiceScript::new("app")).http(health(200)).undo::<DeployProcess>()
    };
    let again = serving(OLD, 6, "running", &ledger);
    assert_eq!((again.result, again.releases.len()), (Ok(()), 0), "an interrupted undo has deployed it already");
    assert_eq!(again.recorded, Some((OLD.to_owned(), Some(ADDRESS.to_owned()))));
    assert!(serving(OLD, 6, "exited", &ledger).releases[0].promoted);
    assert!(serving(NEW, 5, "running", &ledger).releases[0].promoted);
    // The deploy to undo changed only the configuration.
    let mut same_image = ledger.clone();
    same_image["artifact"] = json!(OLD);
    assert!(serving(OLD, 5, "running", &same_image).releases[0].promoted);
    same_image["config"] = good["config"].clone();
    assert!(serving(OLD, 5, "running", &same_image).releases.is_empty());

    let nowhere = host(json!({})).current_release("app", current(NEW)).undo::<DeployProcess>();
    assert!(nowhere.result.unwrap_err().message.contains("release r1 serves"));
    let mut foreign = good.clone();
    foreign["config"]["service"] = json!("other");
    let error = undoing().ledger(None, Some(foreign)).undo::<DeployProcess>().result.unwrap_err();
    assert!(error.message.contains("`other`"), "{error}");
}

#[test]
fn the_service_and_its_secrets_are_required() {
    let required = host(json!({ "secret-env": { "TOKEN": "app-token" } })).requirements::<DeployProcess>();
    let entries: Vec<_> = required.iter().map(|needed| (needed.permission, needed.entry.as_str())).collect();
    assert_eq!(entries, [(Permission::Service, "app"), (Permission::Secrets, "app-token:env")]);
    let layout = host(json!({ "image": NEW.replace("local/app", "oci:target/image") })).requirements::<DeployProcess>();
    assert_eq!((layout[1].permission, layout[1].entry.as_str()), (Permission::Read, "target/image"));
}

/// A configuration behind a proxy.
fn behind(more: Json) -> Json {
    let mut config = json!({ "proxy": { "port": 8080 } });
    if let (Json::Object(config), Json::Object(more)) = (&mut config, more) {
        config.extend(more);
    }
    config
}

#[test]
fn behind_a_proxy_requests_are_shifted_before_the_release_is_promoted() {
    let strategy = json!({ "canary": { "steps": [{ "set-weight": 20 }, { "set-weight": 60 }] } });
    let report = host(behind(json!({ "strategy": strategy, "replicas": 2, "drain": "1s" })))
        .fence(3)
        .current_release("app", current(OLD))
        .service(ServiceScript::new("app"))
        .http(health(200))
        .run::<DeployProcess>();
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    let release = &report.releases[0];
    assert_eq!((release.proxy.as_deref(), release.port, release.stop_first), (Some("127.0.0.1:8080"), 0, false));
    assert_eq!((release.replicas, release.drain), (Some(2), Some(Duration::from_secs(1))));
    assert_eq!(release.weights, [20, 60, 100]);
    assert!(release.promoted);
    assert_eq!(report.sent.len(), 2, "each replica is checked");
    assert_eq!(report.outputs["url"], "http://127.0.0.1:8080");
}

#[test]
fn requests_with_certain_headers_go_to_the_canary() {
    let condition = |name: &str, value: Json| json!({ "header-name": name, "header-value": value });
    let conditions = [
        condition("X-Canary", json!({ "exact": "always" })),
        condition("User-Agent", json!({ "prefix": "Tester/" })),
        condition("Cookie", json!({ "regex": "(.*; )?canary=yes(; .*)?" })),
    ];
    let route = json!({ "set-header-route": { "name": "testers", "match": conditions } });
    let strategy = json!({ "canary": { "steps": [route, { "pause": {} }] } });
    let host = host(behind(json!({ "strategy": strategy }))).fence(3).current_release("app", current(OLD));
    assert!(host.clone().validate::<DeployProcess>().is_empty());
    let report = host.service(ServiceScript::new("app")).http(health(200)).run::<DeployProcess>();
    assert!(matches!(report.result, Ok(Outcome::Suspended(_))), "{:?}", report.result);
    let release = &report.releases[0];
    assert_eq!(release.weights, [0]);
    assert_eq!(
        release.header_matches,
        ["X-Canary = always", "User-Agent ^= Tester/", "Cookie ~ (.*; )?canary=yes(; .*)?"]
    );
}

#[test]
fn a_release_that_an_earlier_attempt_started_is_continued() {
    let report = host(behind(json!({})))
        .service(ServiceScript::new("app").unfinished(NEW))
        .http(health(200))
        .run::<DeployProcess>();
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    assert_eq!(report.releases.len(), 1);
    assert_eq!((report.releases[0].weights.as_slice(), report.releases[0].promoted), ([100].as_slice(), true));
}

#[test]
fn recreate_stops_the_old_release_first() {
    let report = host(behind(json!({ "strategy": { "recreate": {} } })))
        .service(ServiceScript::new("app"))
        .http(health(200))
        .run::<DeployProcess>();
    assert!(report.releases[0].stop_first && report.releases[0].promoted);
}

#[test]
fn rolling_replaces_replicas_by_those_that_are_ready() {
    let mut serving = current(OLD);
    serving["state"] = json!("running");
    let config = behind(json!({ "strategy": { "rolling": { "min-ready-seconds": 2 } }, "replicas": 3 }));
    let rolled = |script: ServiceScript| {
        host(config.clone())
            .current_release("app", serving.clone())
            .service(script)
            .http(health(200))
            .run::<DeployProcess>()
    };
    let report = rolled(ServiceScript::new("app"));
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    let release = &report.releases[0];
    assert_eq!(release.replicas, Some(1));
    assert_eq!(release.scaled, [(2, 2), (3, 1)]);
    assert_eq!(release.weights, [33, 66, 100]);
    assert_eq!(report.sent.len(), 6, "all replicas are checked before one more gets requests");

    let failing = rolled(ServiceScript::new("app").states([State::Running, State::Running, State::Exited]));
    let error = failing.result.unwrap_err();
    assert!(error.causes.iter().any(|cause| cause.contains("exited")), "{error:?}");
    assert!(failing.releases[0].discarded && !failing.releases[0].promoted);

    // There is nothing to replace.
    let first = host(config).service(ServiceScript::new("app")).http(health(200)).run::<DeployProcess>();
    assert_eq!(first.releases[0].replicas, Some(3));
}

#[test]
fn what_does_not_work_with_or_without_a_proxy_is_refused() {
    let keys = |more: Json| -> Vec<String> {
        host(more).validate::<DeployProcess>().into_iter().map(|found| found.key.unwrap_or_default()).collect()
    };
    let canary = json!({ "canary": { "steps": [{ "set-weight": 20 }] } });
    assert_eq!(keys(json!({ "strategy": canary, "replicas": 2, "drain": "1s" })), ["strategy", "replicas", "drain"]);
    assert_eq!(keys(behind(json!({ "strategy": canary, "replicas": 2, "drain": "1s" }))), [""; 0]);
    assert_eq!(keys(behind(json!({ "port": 8081, "replicas": 0 }))), ["port", "replicas"]);
    assert_eq!(keys(json!({ "proxy": { "port": 0 } })), ["proxy.port"]);
    assert_eq!(keys(behind(json!({ "replicas": 65 }))), ["replicas"]);
    let rolling = |table: Json| keys(behind(json!({ "strategy": { "rolling": table } })));
    assert_eq!(rolling(json!({ "max-surge": "25%", "max-unavailable": 1 })), [""; 0]);
    assert_eq!(rolling(json!({ "progress-deadline-seconds": 60 })), ["strategy.rolling.progress-deadline-seconds"]);
    assert_eq!(rolling(json!({ "max-surge": 0, "max-unavailable": 1 })), ["strategy.rolling.max-surge"]);
}

#[test]
fn the_public_address_is_required() {
    let required =
        |proxy: Json| -> String { host(json!({ "proxy": proxy })).requirements::<DeployProcess>()[0].entry.clone() };
    assert_eq!(required(json!({ "port": 8080 })), "app:8080");
    assert_eq!(required(json!({ "port": 80, "host": "0.0.0.0" })), "app:0.0.0.0:80");
}
