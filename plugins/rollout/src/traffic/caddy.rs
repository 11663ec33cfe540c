//! Caddy's administration API; see <https://caddyserver.com/docs/api>.

use serde::Deserialize;
use serde_json::json;
use stagewright_sdk::http::Request;
use stagewright_sdk::{Error, JsonSchema, Problem, Requirement, Result, schemars};

use super::Share;

/// The most bytes of an answer that an error shows.
const ANSWER: usize = 64 << 10;

/// A reverse proxy of Caddy.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Caddy {
    /// Where Caddy's administration API answers: `http://localhost:2019`, or `unix:///run/caddy/admin.sock`.
    #[serde(default = "local")]
    admin: String,
    /// The `@id` of the handler `reverse_proxy` in Caddy's configuration.
    id: String,
}

fn local() -> String {
    "http://localhost:2019".to_owned()
}

impl Caddy {
    /// Replaces the list of upstreams in one request. Caddy applies it without closing connections.
    ///
    /// Caddy 2.6 knows no weights, but chooses among the entries of the list with equal probability, so a version is listed
    /// as often as its weight demands.
    pub(super) fn direct(&self, shares: &[Share]) -> Result<()> {
        let divisor = shares.iter().fold(0, |divisor, share| greatest_common_divisor(divisor, share.weight)).max(1);
        let entries = |share: &Share| {
            let entry = json!({ "dial": share.address });
            std::iter::repeat_n(entry, usize::try_from(share.weight / divisor).unwrap_or_default())
        };
        let upstreams: Vec<_> = shares.iter().flat_map(entries).collect();
        let url = self.upstreams();
        let mut response = Request::new("PATCH", &url).json(&upstreams)?.send()?;
        if response.is_success() {
            return Ok(());
        }
        let status = response.status();
        let reason = String::from_utf8_lossy(&response.bytes(ANSWER)?).trim().to_owned();
        Err(Error::failed(format!("Caddy refused PATCH {url} with {status}: {reason}"))
            .help(format!("give the handler `reverse_proxy` in Caddy's configuration: \"@id\": {:?}", self.id)))
    }

    pub(super) fn requirements(&self) -> Vec<Requirement> {
        let entry = if self.is_socket() { format!("PATCH {}", self.upstreams()) } else { self.admin.clone() };
        vec![Requirement::net(entry).because("Caddy directs the requests")]
    }

    pub(super) fn problems(&self, key: &str) -> Vec<Problem> {
        let mut found = Vec::new();
        if !self.is_socket() && !self.admin.starts_with("http://") && !self.admin.starts_with("https://") {
            let message = format!("`{}` isn't the address of an administration API", self.admin);
            found.push(
                Problem::at(format!("{key}.admin"), message)
                    .help("write it as in \"http://localhost:2019\" or \"unix:///run/caddy/admin.sock\""),
            );
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.id.is_empty() || !self.id.chars().all(is_name) {
            let message = format!("invalid id `{}`; use letters, digits, `-`, `_` and `.`", self.id);
            found.push(Problem::at(format!("{key}.id"), message));
        }
        found
    }

    fn is_socket(&self) -> bool {
        self.admin.starts_with("unix://")
    }

    /// The URL of the list of upstreams. In one of a socket, a colon is before the path.
    fn upstreams(&self) -> String {
        let colon = if self.is_socket() { ":" } else { "" };
        format!("{}{colon}/id/{}/upstreams", self.admin.trim_end_matches('/'), self.id)
    }
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use stagewright_sdk::fake::{FakeHost, HttpScript};

    use super::*;

    fn caddy(admin: &str) -> Caddy {
        Caddy { admin: admin.to_owned(), id: "app".to_owned() }
    }

    fn share(address: &str, weight: u32) -> Share {
        Share::new(address, weight)
    }

    #[test]
    fn upstreams_are_listed_as_often_as_their_weight_demands() {
        let dials = |shares: &[Share]| -> Vec<String> {
            let url = "http://localhost:2019/id/app/upstreams";
            let host = FakeHost::new().http(HttpScript::new("PATCH", url));
            let (result, report) = host.with(|| caddy(&local()).direct(shares));
            result.unwrap();
            let sent: serde_json::Value = serde_json::from_slice(&report.sent[0].body).unwrap();
            sent.as_array().unwrap().iter().map(|entry| entry["dial"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(dials(&[share("a:1", 75), share("b:1", 25)]), ["a:1", "a:1", "a:1", "b:1"]);
        assert_eq!(dials(&[share("a:1", 0), share("b:1", 100)]), ["b:1"]);
        assert_eq!(dials(&[share("a:1", 99), share("b:1", 1)]).len(), 100);
    }

    #[test]
    fn a_refusal_has_the_reason_and_the_remedy() {
        let url = "unix:///run/caddy/admin.sock:/id/app/upstreams";
        let script = HttpScript::new("PATCH", url).status(404).body(r#"{"error":"unknown object ID 'app'"}"#);
        let admin = caddy("unix:///run/caddy/admin.sock");
        let (result, _) = FakeHost::new().http(script).with(|| admin.direct(&[share("a:1", 100)]));
        let error = result.unwrap_err();
        assert!(error.message.contains("with 404: {\"error\":\"unknown object ID 'app'\"}"), "{error}");
        assert!(error.help.unwrap().contains("\"@id\": \"app\""));
        assert_eq!(admin.requirements()[0].entry, format!("PATCH {url}"));
    }

    #[test]
    fn mistakes_name_their_key() {
        let broken = Caddy { admin: "localhost:2019".to_owned(), id: "a/b".to_owned() };
        let keys: Vec<_> = broken.problems("traffic.caddy").into_iter().filter_map(|problem| problem.key).collect();
        assert_eq!(keys, ["traffic.caddy.admin", "traffic.caddy.id"]);
        assert!(caddy(&local()).problems("x").is_empty());
    }
}
