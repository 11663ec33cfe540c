//! Load on a service, and what is made of it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use crate::environment::{TestEnvironment, failure};
use crate::production::Production;

/// A web server on loopback that takes this long for each response. Returns its origin.
fn server(delay: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let origin = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().expect("a clone")).lines();
                while let Some(Ok(line)) = lines.next() {
                    if line.is_empty() {
                        std::thread::sleep(delay);
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
                    }
                }
            });
        }
    });
    origin
}

fn repository(with: &str, origins: &[&str]) -> TestEnvironment {
    let net: Vec<String> = origins.iter().map(|origin| format!("\"{origin}\"")).collect();
    TestEnvironment::with_pipeline(&format!(
        "schema = 1\npipeline.name = \"load\"\n[stages.perf]\nuses = \"perf\"\n[stages.perf.with]\n{with}\n\
         [stages.perf.permissions]\nnet = [{}]\n",
        net.join(", ")
    ))
}

#[test]
fn a_service_that_is_too_slow_fails_and_its_numbers_are_recorded() {
    let slow = server(Duration::from_millis(400));
    let with = |limit: &str| {
        format!(
            "url = \"{slow}\"\nrate = 50\nduration = \"2s\"\nwarm-up = \"1s\"\nlimits = {{ p95 = \"{limit}\", errors = 0 }}"
        )
    };
    let (code, events) = repository(&with("200ms"), &[&slow]).events(&["run"]);
    let said = failure(&events, "perf").to_string();
    assert_eq!(code, 1, "{events:#?}");
    assert!(said.contains("at most 200 ms are allowed"), "{said}");
    let metrics = events.iter().find(|event| event["type"] == "metrics-reported").expect("metrics").to_string();
    assert!(metrics.contains("p95") && metrics.contains("errors"), "{metrics}");

    let enough = repository(&with("10s"), &[&slow]);
    let (code, events) = enough.events(&["run"]);
    let ended = events.iter().find(|event| event["type"] == "attempt-ended").expect("an end");
    assert_eq!((code, &ended["outputs"]["requests"]), (0, &serde_json::json!(100)), "{ended:#}");
}

#[test]
fn a_preview_is_compared_with_the_service_beside_it() {
    let (stable, preview) = (server(Duration::ZERO), server(Duration::from_millis(500)));
    let with = format!(
        "url = \"{preview}\"\nrate = 40\nduration = \"2s\"\nwarm-up = \"0s\"\ncompare = {{ url = \"{stable}\" }}"
    );
    let (code, events) = repository(&with, &[&stable, &preview]).events(&["run"]);
    let said = failure(&events, "perf").to_string();
    assert_eq!(code, 1, "{events:#?}");
    assert!(said.contains(&format!("of {stable}: at most")), "{said}");
}

#[test]
fn a_release_is_compared_with_what_the_last_good_one_was_measured_at() {
    let production = Production::new();
    let environment = &production.0;
    let perf = "[stages.perf]\nuses = \"perf\"\nneeds = [\"smoke\"]\n[stages.perf.with]\nurl = \"${{ stages.deploy.outputs.url }}\"\n\
                rate = 20\nduration = \"1s\"\nwarm-up = \"0s\"\ncompare = { environment = \"production\", p95 = 100000, errors = 100 }\n\
                [stages.perf.permissions]\nnet = [\"http://127.0.0.1:*\"]\n";
    environment.write("stagewright.toml", &format!("{}\n{perf}", environment.read("stagewright.toml")));
    let first = production.deploy("1", 0).stdout;
    assert!(first.contains("there is nothing to compare with"), "{first}");
    let second = production.deploy("2", 0).stdout;
    assert!(second.contains("of the last good release of production"), "{second}");
}
