//! A steady load on a service, while it is deployed.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::machine::Machine;

/// Sends requests one after the other until a line comes on its standard input, and then prints how many had which answer.
const CLIENT: &str = r#"
import collections, http.client, json, sys, threading
host, port, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
answers, ended = collections.Counter(), threading.Event()
def ask():
    try:
        connection = http.client.HTTPConnection(host, port, timeout=5)
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read().decode()
        connection.close()
        return body if response.status == 200 else f"status {response.status}"
    except ConnectionResetError:
        return "reset"
    except Exception as error:
        return f"failed: {error!r}"
def load():
    while not ended.is_set():
        answers[ask()] += 1
thread = threading.Thread(target=load)
thread.start()
print("started", flush=True)
for line in sys.stdin:
    print(json.dumps(answers), flush=True)
ended.set()
thread.join()
"#;

/// A client that sends requests without a pause.
pub(crate) struct Load {
    client: Child,
    answers: Box<dyn BufRead>,
}

impl Load {
    pub(crate) fn on(machine: &Machine, port: u16, path: &str) -> Load {
        Load::by(machine.command("python3"), "127.0.0.1", port, path)
    }

    /// On an address that this machine reaches.
    pub(crate) fn on_host(host: &str, port: u16, path: &str) -> Load {
        Load::by(Command::new("python3"), host, port, path)
    }

    fn by(mut command: Command, host: &str, port: u16, path: &str) -> Load {
        command.args(["-c", CLIENT, host, &port.to_string(), path]);
        let mut client =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("these tests need python3");
        let mut answers: Box<dyn BufRead> = Box::new(BufReader::new(client.stdout.take().expect("a pipe")));
        let mut started = String::new();
        answers.read_line(&mut started).expect("a line");
        assert_eq!(started, "started\n");
        Load { client, answers }
    }

    /// How many requests had which answer so far. One that failed has the reason as its answer; `reset` is one whose
    /// connection was closed by the proxy before there was an answer.
    pub(crate) fn answers(&mut self) -> BTreeMap<String, u64> {
        let input = self.client.stdin.as_mut().expect("a pipe");
        input.write_all(b"\n").expect("the client runs");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("a line");
        serde_json::from_str(&line).expect("JSON")
    }

    /// Checks that, for this time, `version 2` gets no more than this percentage of the requests to it and to `version 1`.
    #[track_caller]
    pub(crate) fn check_share(&mut self, time: Duration, percent: u64) -> BTreeMap<String, u64> {
        let before = self.answers();
        std::thread::sleep(time);
        let after = self.answers();
        let since = |answer: &str| after.get(answer).unwrap_or(&0) - before.get(answer).unwrap_or(&0);
        let (old, new) = (since("version 1"), since("version 2"));
        assert!(new > 0 && new <= bound(old + new, percent), "{new} of {} requests", old + new);
        after
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        drop(self.client.stdin.take());
        let _ = self.client.wait();
    }
}

/// The largest number of successes in `n` trials of probability `share` percent that isn't exceeded in 99.9 % of all cases:
/// the normal approximation of the binomial distribution.
pub(crate) fn bound(n: u64, share: u64) -> u64 {
    let (n, p) = (n as f64, share as f64 / 100.0);
    (n * p + 3.1 * (n * p * (1.0 - p)).sqrt()).ceil() as u64
}
