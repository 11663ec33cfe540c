//! Programs that run in containers.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use stagewright_sdk::{Error, Result, clock};

use crate::{ANSWER, Created, Engine, unframed};

/// How often the engine is asked for the exit code of a program whose output has ended, 100 ms apart.
const ATTEMPTS: u32 = 50;

/// A program that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// 0 for success.
    pub code: i64,
    /// Standard output and standard error, in the order in which they were written.
    pub output: String,
}

/// A process of a container, by its id on the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerProcess {
    /// Its id.
    pub pid: String,
    /// The program with its arguments, or the title that it has given itself.
    pub title: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ExecState {
    running: bool,
    exit_code: Option<i64>,
}

/// What `ps` shows: the columns are named in `titles`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Top {
    titles: Vec<String>,
    processes: Option<Vec<Vec<String>>>,
}

impl Engine {
    /// Runs a program in a container to its end.
    ///
    /// # Errors
    /// If the engine refuses it, as when the container doesn't run. A program that fails isn't an error; one that the
    /// container doesn't have ends with the code 126 or 127.
    pub fn exec(&self, container: &str, command: &[&str]) -> Result<Ended> {
        let spec = json!({ "AttachStdout": true, "AttachStderr": true, "Cmd": command });
        let exec: Created = self.send("POST", &format!("/containers/{container}/exec"), Some(&spec))?.json()?;
        let start = json!({ "Detach": false, "Tty": false });
        let output = self.send("POST", &format!("/exec/{}/start", exec.id), Some(&start))?.bytes(ANSWER)?;
        // The output can end a moment before the engine knows the exit code.
        for _ in 0..ATTEMPTS {
            let state: ExecState = self.get(&format!("/exec/{}/json", exec.id))?;
            if let (false, Some(code)) = (state.running, state.exit_code) {
                return Ok(Ended { code, output: unframed(&output) });
            }
            match clock::sleep(Duration::from_millis(100)) {
                // A stage that is asked to stop looks as often without pauses.
                Err(error) if error.is_cancelled() => {}
                result => result?,
            }
        }
        Err(Error::failed(format!("`{}` in the container {container} doesn't end", command.join(" "))))
    }

    /// The processes of a container.
    ///
    /// # Errors
    /// If the engine refuses it, as when the container doesn't run, or its machine has no `ps`.
    pub fn processes(&self, container: &str) -> Result<Vec<ContainerProcess>> {
        let top: Top = self.get(&format!("/containers/{container}/top"))?;
        let column = |name: &str| top.titles.iter().position(|title| title == name);
        let (Some(pid), Some(title)) = (column("PID"), column("CMD")) else {
            return Err(Error::failed(format!(
                "the Docker engine lists processes without PID and CMD: {:?}",
                top.titles
            )));
        };
        let process = |fields: &Vec<String>| {
            Some(ContainerProcess { pid: fields.get(pid)?.clone(), title: fields.get(title)?.clone() })
        };
        Ok(top.processes.iter().flatten().filter_map(process).collect())
    }
}

#[cfg(test)]
mod tests {
    use stagewright_sdk::fake::{FakeHost, HttpScript};

    use super::*;

    const SOCKET: &str = "unix:///run/docker.sock:";

    #[test]
    fn a_program_has_ended_when_the_engine_knows_its_exit_code() {
        let created = HttpScript::post(&format!("{SOCKET}/containers/edge/exec")).status(201).body(r#"{"Id":"1"}"#);
        let started = HttpScript::post(&format!("{SOCKET}/exec/1/start")).body(&b"\x02\0\0\0\0\0\0\x03bad"[..]);
        let state = |body: &str| HttpScript::get(&format!("{SOCKET}/exec/1/json")).body(body);
        let host = FakeHost::new().http(created).http(started).http(state(r#"{"Running":true,"ExitCode":null}"#));
        let host = host.http(state(r#"{"Running":false,"ExitCode":1}"#));
        let (ended, report) = host.with(|| Engine::at("/run/docker.sock").exec("edge", &["nginx", "-t"]));
        assert_eq!(ended, Ok(Ended { code: 1, output: "bad".to_owned() }));
        assert!(String::from_utf8_lossy(&report.sent[0].body).contains(r#""Cmd":["nginx","-t"]"#));
    }

    #[test]
    fn processes_are_read_by_the_names_of_the_columns() {
        let body = r#"{"Titles":["UID","PID","CMD"],"Processes":[["root","7","nginx: master process"]]}"#;
        let host = FakeHost::new().http(HttpScript::get(&format!("{SOCKET}/containers/edge/top")).body(body));
        let (processes, _) = host.with(|| Engine::at("/run/docker.sock").processes("edge"));
        let expected = ContainerProcess { pid: "7".to_owned(), title: "nginx: master process".to_owned() };
        assert_eq!(processes, Ok(vec![expected]));
    }
}
