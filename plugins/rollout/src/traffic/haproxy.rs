//! HAProxy's runtime API; see <https://docs.haproxy.org/2.6/management.html#9.3>.

use serde::Deserialize;
use stagewright_sdk::process::Command;
use stagewright_sdk::{Error, JsonSchema, Problem, Requirement, Result, schemars};

use super::Share;

/// The most bytes of an answer.
const ANSWER: u64 = 1 << 20;

/// A backend of HAProxy.
///
/// What is changed at run time is lost when HAProxy is started again, unless its configuration keeps it with
/// `load-server-state-from-file`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Haproxy {
    /// The absolute path of the socket in `stats socket`, with `level admin`.
    socket: String,
    /// The backend.
    backend: String,
    /// Two servers of the backend, of which one is given the new version's address while the other one serves.
    servers: [String; 2],
}

/// A server of the backend, as HAProxy has it now.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Slot {
    name: String,
    /// As in `127.0.0.1:32768`.
    address: String,
}

impl Haproxy {
    /// Sets the servers' addresses and weights, the server that gets more requests first. One that gets none is drained.
    pub(super) fn direct(&self, shares: &[Share]) -> Result<()> {
        let slots = parse_state(&self.tell(&format!("show servers state {}", self.backend), true)?);
        let slots: Vec<Slot> = self.servers.iter().filter_map(|name| find(&slots, name)).collect();
        if let Some(missing) = self.servers.iter().find(|name| !slots.iter().any(|slot| slot.name == **name)) {
            return Err(Error::failed(format!("HAProxy's backend `{}` has no server `{missing}`", self.backend))
                .help(format!("add to the backend: server {missing} 127.0.0.1:1 disabled")));
        }
        let commands = plan(&slots, shares).into_iter().map(|command| command.replace("BACKEND", &self.backend));
        for command in commands {
            let answer = self.tell(&command, false)?;
            if !is_accepted(answer.trim()) {
                return Err(Error::failed(format!("HAProxy refused `{command}`: {}", answer.trim())));
            }
        }
        Ok(())
    }

    pub(super) fn requirements(&self) -> Vec<Requirement> {
        vec![
            Requirement::command("socat", ["-", &self.target()]).because("speaks to HAProxy"),
            Requirement::socket(&self.socket).because("HAProxy directs the requests"),
        ]
    }

    pub(super) fn problems(&self, key: &str) -> Vec<Problem> {
        let mut found = Vec::new();
        if !self.socket.starts_with('/') {
            let message = format!("`{}` isn't an absolute path", self.socket);
            found.push(Problem::at(format!("{key}.socket"), message));
        }
        let is_name = |name: &str| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':'))
        };
        if !is_name(&self.backend) {
            found.push(Problem::at(format!("{key}.backend"), format!("invalid name `{}`", self.backend)));
        }
        for (index, name) in self.servers.iter().enumerate().filter(|(_, name)| !is_name(name)) {
            found.push(Problem::at(format!("{key}.servers[{index}]"), format!("invalid name `{name}`")));
        }
        if self.servers[0] == self.servers[1] {
            found.push(Problem::at(format!("{key}.servers"), "the two servers must differ"));
        }
        found
    }

    /// Sends one command, and returns the answer.
    fn tell(&self, command: &str, is_query: bool) -> Result<String> {
        let mut socat = Command::new("socat");
        socat.args(["-", &self.target()]).stdin(format!("{command}\n").as_bytes());
        if is_query {
            socat.read_only();
        }
        let output = socat.quiet().capture_limit(ANSWER).output()?;
        if !output.status.success() {
            let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Error::failed(format!("could not reach HAProxy at {}: {reason}", self.socket))
                .help("check that HAProxy runs, and that its configuration has `stats socket PATH level admin`"));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn target(&self) -> String {
        format!("UNIX-CONNECT:{}", self.socket)
    }
}

fn find(slots: &[Slot], name: &str) -> Option<Slot> {
    slots.iter().find(|slot| slot.name == name).cloned()
}

/// The servers in the answer to `show servers state`: the columns are named in a comment.
fn parse_state(answer: &str) -> Vec<Slot> {
    let mut lines = answer.lines().skip_while(|line| !line.starts_with('#'));
    let Some(head) = lines.next() else { return Vec::new() };
    let columns: Vec<&str> = head.trim_start_matches('#').split_whitespace().collect();
    let column = |name: &str| columns.iter().position(|column| *column == name);
    let (Some(name), Some(address), Some(port)) = (column("srv_name"), column("srv_addr"), column("srv_port")) else {
        return Vec::new();
    };
    let slot = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let field = |index: usize| fields.get(index).copied();
        Some(Slot { name: field(name)?.to_owned(), address: format!("{}:{}", field(address)?, field(port)?) })
    };
    lines.filter_map(slot).collect()
}

/// The commands that make the slots serve the shares. A version that a slot has keeps it, so that its connections go on.
fn plan(slots: &[Slot], shares: &[Share]) -> Vec<String> {
    let mut free: Vec<&Slot> =
        slots.iter().filter(|slot| !shares.iter().any(|share| share.address == slot.address)).collect();
    let mut ordered: Vec<&Share> = shares.iter().collect();
    ordered.sort_by_key(|share| std::cmp::Reverse(share.weight));
    let mut commands = Vec::new();
    for share in ordered {
        let server = |name: &str| format!("set server BACKEND/{name}");
        match slots.iter().find(|slot| slot.address == share.address) {
            Some(slot) if share.weight == 0 => commands.push(format!("{} state drain", server(&slot.name))),
            Some(slot) => {
                commands.push(format!("{} weight {}", server(&slot.name), share.weight));
                commands.push(format!("{} state ready", server(&slot.name)));
            }
            None if share.weight == 0 => {}
            None => {
                let Some(slot) = free.pop() else { continue };
                let (host, port) = share.address.rsplit_once(':').unwrap_or((&share.address, "80"));
                commands.push(format!("{} addr {host} port {port}", server(&slot.name)));
                commands.push(format!("{} weight {}", server(&slot.name), share.weight));
                commands.push(format!("{} state ready", server(&slot.name)));
            }
        }
    }
    commands.extend(free.into_iter().map(|slot| format!("set server BACKEND/{} state drain", slot.name)));
    commands
}

/// Whether an answer reports no error. A changed address is confirmed, everything else that succeeds is silent.
fn is_accepted(answer: &str) -> bool {
    answer.is_empty() || answer.starts_with("no need to change") || answer.contains("changed from")
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &str = "1\n# be_id be_name srv_id srv_name srv_addr srv_port\n3 app 1 blue 127.0.0.1 9001\n3 app 2 green 127.0.0.1 1\n";

    fn planned(shares: &[(&str, u32)]) -> Vec<String> {
        let shares: Vec<_> = shares.iter().map(|(address, weight)| Share::new(address, *weight)).collect();
        plan(&parse_state(STATE), &shares)
    }

    #[test]
    fn the_free_server_gets_the_new_version() {
        assert_eq!(
            planned(&[("127.0.0.1:9001", 75), ("127.0.0.1:9002", 25)]),
            [
                "set server BACKEND/blue weight 75",
                "set server BACKEND/blue state ready",
                "set server BACKEND/green addr 127.0.0.1 port 9002",
                "set server BACKEND/green weight 25",
                "set server BACKEND/green state ready",
            ]
        );
    }

    #[test]
    fn what_gets_no_requests_is_drained_last() {
        assert_eq!(
            planned(&[("127.0.0.1:9001", 0), ("127.0.0.1:9002", 100)]).last().map(String::as_str),
            Some("set server BACKEND/blue state drain")
        );
        let all = planned(&[("127.0.0.1:9001", 100)]);
        assert_eq!(all.last().map(String::as_str), Some("set server BACKEND/green state drain"));
        assert_eq!(all.len(), 3);
    }

    #[test]
    fn refusals_are_recognised() {
        for accepted in ["", "no need to change the addr, port changed from '1' to '2' by 'stats socket command'"] {
            assert!(is_accepted(accepted), "{accepted}");
        }
        assert!(!is_accepted("No such server."));
        assert!(!is_accepted("Absolute weight can only be between 0 and 256 inclusive."));
    }

    #[test]
    fn mistakes_name_their_key() {
        let broken = Haproxy {
            socket: "admin.sock".to_owned(),
            backend: "a; shutdown".to_owned(),
            servers: ["a".to_owned(), "a".to_owned()],
        };
        let keys: Vec<_> = broken.problems("traffic.haproxy").into_iter().filter_map(|problem| problem.key).collect();
        assert_eq!(keys, ["traffic.haproxy.socket", "traffic.haproxy.backend", "traffic.haproxy.servers"]);
    }
}
