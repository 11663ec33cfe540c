//! nginx in a container of the Docker engine. It has no API for its upstreams, other than NGINX Plus: the servers of an
//! upstream are a file, which takes effect with a reload; see <https://nginx.org/en/docs/control.html#reconfiguration>.

mod routes;

use std::collections::HashSet;
use std::time::Duration;

use docker_engine::{Archive, Ended, Engine};
use serde::Deserialize;
use stagewright_sdk::{Error, JsonSchema, Problem, Requirement, Result, schemars};

use super::Share;
use super::container::{self, default_socket};

/// The title of a worker that accepts requests. One that only finishes those it has adds to it.
const WORKER: &str = "nginx: worker process";

/// How long nginx may take to replace its workers. Reading a configuration takes milliseconds, but with names of hosts in it
/// nginx waits for DNS.
const RELOAD: Duration = Duration::from_secs(30);

/// The time between two looks at the workers.
const INTERVAL: Duration = Duration::from_millis(100);

/// nginx in a container of the Docker engine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Nginx {
    /// The name of nginx's container. It reaches the addresses of the releases when it has the network `host`.
    container: String,
    /// The absolute path in the container of the file that the deploy replaces: the servers of an `upstream`, which has
    /// `include PATH;`.
    servers: String,
    /// What directs requests by their headers, for `set-header-route`.
    routes: Option<NginxRoutes>,
    /// The absolute path of the engine's socket.
    #[serde(default = "default_socket")]
    socket: String,
}

/// A file with a variable that names the upstream of a request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NginxRoutes {
    /// The absolute path of the file, beside that of the servers. The block `http` has `include PATH;`.
    file: String,
    /// The name of the upstream with the servers, as in `app`. The variable is named after it: `proxy_pass http://$app_route;`.
    upstream: String,
}

impl Nginx {
    /// Replaces the servers, and returns when no worker with the earlier ones accepts requests any more. If nginx refuses the
    /// new files, it gets the old ones back, and its workers stay.
    pub(super) fn direct(&self, shares: &[Share]) -> Result<()> {
        let mut files = vec![(self.servers.as_str(), servers(shares))];
        files.extend(self.routes.iter().map(|routes| (routes.file.as_str(), routes::file(&routes.upstream, shares))));
        let earlier = files.iter().map(|(path, _)| self.read(path)).collect::<Result<Vec<_>>>()?;
        self.check_included(files.iter().map(|(path, _)| *path))?;
        let workers = self.workers()?;
        let (folder, _) = container::split(&self.servers);
        // One archive, so that a failure in between leaves no mixture.
        let new = files.iter().map(|(path, content)| (container::split(path).1, content.as_str()));
        self.engine().write_archive(&self.container, folder, &Archive::of_files(new))?;
        let restore = || earlier.iter().try_for_each(|old| self.engine().write_archive(&self.container, folder, old));
        let failed = |error: Error, restored: Result<()>| match restored {
            Ok(()) => error,
            Err(failure) => error
                .cause(format!("restoring the files in {folder} failed: {failure}"))
                .help(format!("restore the files in {folder} before nginx is started again")),
        };
        self.check_new(folder).map_err(|error| failed(error, restore()))?;
        // It isn't known which files the last reload has read.
        self.reload(&workers).map_err(|error| failed(error, restore().and_then(|()| self.request_reload())))
    }

    /// Why requests can't be directed by their headers, and what helps.
    pub(super) fn header_obstacle(&self) -> Option<(&'static str, &'static str)> {
        let reason = "nginx directs requests by their headers only with a file for that";
        let help = "add to `nginx`: routes = { file = \"/etc/nginx/traffic/app.routes\", upstream = \"app\" }";
        self.routes.is_none().then_some((reason, help))
    }

    pub(super) fn requirements(&self) -> Vec<Requirement> {
        let (engine, container) = (self.engine(), &self.container);
        let requirement =
            |method: &str, path: &str, reason: &str| engine.requirement(method, path).because(reason.to_owned());
        vec![
            requirement("GET", &format!("/containers/{container}/archive"), "keeps nginx's servers, to restore them"),
            requirement("PUT", &format!("/containers/{container}/archive"), "replaces nginx's servers"),
            requirement("GET", &format!("/containers/{container}/top"), "waits until nginx has reloaded"),
            requirement(
                "POST",
                &format!("/containers/{container}/exec"),
                "checks nginx's configuration and reloads it",
            ),
            requirement("POST", "/exec/*/start", "checks nginx's configuration and reloads it"),
            requirement("GET", "/exec/*/json", "looks whether nginx accepts its configuration"),
        ]
    }

    pub(super) fn problems(&self, key: &str) -> Vec<Problem> {
        let name = container::name_problem(format!("{key}.container"), &self.container);
        let file = container::file_problem(format!("{key}.servers"), &self.servers, "/etc/nginx/traffic/app.servers");
        let socket = container::socket_problem(format!("{key}.socket"), &self.socket);
        let routes = self.routes.iter().flat_map(|routes| routes.problems(&format!("{key}.routes"), &self.servers));
        name.into_iter().chain(file).chain(routes).chain(socket).collect()
    }

    fn engine(&self) -> Engine {
        Engine::at(&self.socket)
    }

    fn read(&self, path: &str) -> Result<Archive> {
        self.engine().read_archive(&self.container, path).map_err(|error| {
            let error = error.context(format!("can't read {path} in the container {} of nginx", self.container));
            let content = match &self.routes {
                Some(routes) if routes.file == path => routes::file(&routes.upstream, &[]),
                _ => "server 127.0.0.1:1 down;".to_owned(),
            };
            error.help(format!("create the file in the container once by hand, with this content: {}", content.trim()))
        })
    }

    /// A file that nginx doesn't read would have no effect, and a configuration that is broken already could not be told from
    /// one that this deploy breaks.
    fn check_included<'a>(&self, paths: impl IntoIterator<Item = &'a str>) -> Result<()> {
        let Ended { code, output } = self.nginx(&["-T", "-q"])?;
        if code != 0 {
            let message =
                format!("the configuration of nginx in {} is invalid, before anything was changed", self.container);
            return Err(Error::failed(message).cause(last_lines(&output)).help("correct it, then deploy again"));
        }
        // nginx prints the name of each file before its content.
        let is_read = |path: &str| {
            let head = format!("# configuration file {path}:");
            output.lines().any(|line| line.trim_end() == head)
        };
        let Some(unread) = paths.into_iter().find(|path| !is_read(path)) else { return Ok(()) };
        let place = if unread == self.servers { "upstream app { zone app 64k; " } else { "http { " };
        Err(Error::failed(format!("nginx in {} doesn't read {unread}", self.container))
            .help(format!("write in nginx's configuration, with the absolute path: {place}include {unread}; }}")))
    }

    fn check_new(&self, folder: &str) -> Result<()> {
        let Ended { code, output } = self.nginx(&["-t", "-q"])?;
        if code == 0 {
            return Ok(());
        }
        let name = &self.container;
        let message = format!("nginx in {name} refused the files in {folder}; the requests go where they went before");
        Err(Error::failed(message).cause(last_lines(&output)))
    }

    fn request_reload(&self) -> Result<()> {
        let Ended { code, output } = self.nginx(&["-s", "reload"])?;
        if code == 0 {
            return Ok(());
        }
        Err(Error::failed(format!("nginx in {} can't be reloaded", self.container)).cause(last_lines(&output)))
    }

    /// Lets nginx replace `earlier` workers by those that have the new files.
    fn reload(&self, earlier: &HashSet<String>) -> Result<()> {
        self.request_reload()?;
        let is_replaced = || self.workers().map(|now| !now.is_empty() && now.is_disjoint(earlier));
        if container::wait_until(INTERVAL, RELOAD, is_replaced)? {
            return Ok(());
        }
        let message = format!("nginx in {} hasn't replaced its workers within {} s", self.container, RELOAD.as_secs());
        Err(Error::failed(message).help(format!("look for the reason in: docker logs {}", self.container)))
    }

    /// The workers that accept requests.
    fn workers(&self) -> Result<HashSet<String>> {
        let processes = self.engine().processes(&self.container)?;
        Ok(processes.into_iter().filter(|process| process.title == WORKER).map(|process| process.pid).collect())
    }

    fn nginx(&self, args: &[&str]) -> Result<Ended> {
        let command: Vec<&str> = std::iter::once("nginx").chain(args.iter().copied()).collect();
        self.engine().exec(&self.container, &command)
    }
}

impl NginxRoutes {
    fn problems(&self, key: &str, servers: &str) -> Vec<Problem> {
        let file_key = format!("{key}.file");
        let file =
            container::file_problem(file_key.clone(), &self.file, "/etc/nginx/traffic/app.routes").or_else(|| {
                let (folder, beside) = (container::split(servers).0, container::split(&self.file).0);
                (folder != beside || servers == self.file).then(|| {
                    Problem::at(
                        file_key,
                        format!("must be another file in {folder}, so that both are replaced at once"),
                    )
                })
            });
        let is_name = self.upstream.starts_with(|c: char| c.is_ascii_lowercase())
            && self.upstream.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        let upstream = (!is_name).then(|| {
            let message = format!("`{}` can't be a part of a variable's name", self.upstream);
            Problem::at(format!("{key}.upstream"), message).help("use lower-case letters, digits and `_`")
        });
        file.into_iter().chain(upstream).collect()
    }
}

/// The file with the servers. A weight of 0 is invalid in nginx.
///
/// With `max_fails=0`, nginx never gives one release's share to the other one because of an error: after one failed
/// connection to the earlier release it would otherwise send all requests to the new one for 10 s.
fn servers(shares: &[Share]) -> String {
    let line = |share: &Share| format!("server {} weight={} max_fails=0;\n", share.address, share.weight);
    let lines: String = shares.iter().filter(|share| share.weight > 0).map(line).collect();
    format!("# Written by Stagewright at each step of a deploy.\n{lines}")
}

/// The end of what nginx printed, which has the reason.
fn last_lines(output: &str) -> String {
    let lines: Vec<&str> = output.trim().lines().collect();
    lines[lines.len().saturating_sub(3)..].join("\n")
}

#[cfg(test)]
mod tests {
    use stagewright_sdk::fake::{FakeHost, HttpScript};

    use super::*;

    const SOCKET: &str = "unix:///run/docker.sock:";
    const OLD: &str = "the archive with the old file";

    fn nginx(container: &str, servers: &str) -> Nginx {
        Nginx { container: container.to_owned(), servers: servers.to_owned(), routes: None, socket: default_socket() }
    }

    fn share(address: &str, weight: u32) -> Share {
        Share::new(address, weight)
    }

    /// What the engine answers when a program is run: it prints `output` and ends with `code`.
    fn exec(host: FakeHost, id: &str, code: i64, output: &str) -> FakeHost {
        let created = format!(r#"{{"Id":"{id}"}}"#);
        let state = format!(r#"{{"Running":false,"ExitCode":{code}}}"#);
        host.http(HttpScript::post(&format!("{SOCKET}/containers/edge/exec")).status(201).body(created))
            .http(HttpScript::post(&format!("{SOCKET}/exec/{id}/start")).body(output))
            .http(HttpScript::get(&format!("{SOCKET}/exec/{id}/json")).body(state))
    }

    fn top(host: FakeHost, workers: &[(&str, &str)]) -> FakeHost {
        let process = |(pid, title): &(&str, &str)| format!(r#"["{pid}","nginx: {title}"]"#);
        let processes: Vec<String> = [("1", "master process")].iter().chain(workers).map(process).collect();
        let body = format!(r#"{{"Titles":["PID","CMD"],"Processes":[{}]}}"#, processes.join(","));
        host.http(HttpScript::get(&format!("{SOCKET}/containers/edge/top")).body(body))
    }

    /// nginx with a worker, whose configuration has this file.
    fn running(included: &str) -> FakeHost {
        let path = "path=%2Fetc%2Fnginx%2Ftraffic%2Fapp%2Eservers";
        let folder = "path=%2Fetc%2Fnginx%2Ftraffic&noOverwriteDirNonDir=1";
        let archive = format!("{SOCKET}/containers/edge/archive");
        let host = FakeHost::new()
            .http(HttpScript::get(&format!("{archive}?{path}")).body(OLD))
            .http(HttpScript::new("PUT", &format!("{archive}?{folder}")));
        let host = exec(host, "dump", 0, &format!("# configuration file {included}:\nserver a:1;\n"));
        top(host, &[("10", "worker process")])
    }

    fn edge() -> Nginx {
        nginx("edge", "/etc/nginx/traffic/app.servers")
    }

    #[test]
    fn the_new_file_counts_when_all_earlier_workers_have_stopped_accepting() {
        let host = exec(exec(running("/etc/nginx/traffic/app.servers"), "test", 0, ""), "reload", 0, "");
        let host = top(host, &[("10", "worker process"), ("11", "worker process")]);
        let host = top(host, &[("10", "worker process is shutting down"), ("11", "worker process")]);
        let (result, report) = host.with(|| edge().direct(&[share("127.0.0.1:1", 75), share("127.0.0.1:2", 25)]));
        assert_eq!(result, Ok(()));
        let written: Vec<_> = report.sent.iter().filter(|sent| sent.method == "PUT").collect();
        let text = String::from_utf8_lossy(&written[0].body);
        assert!(text.starts_with("app.servers\0"));
        assert!(
            text.contains("server 127.0.0.1:1 weight=75 max_fails=0;\nserver 127.0.0.1:2 weight=25 max_fails=0;\n")
        );
        assert_eq!(written.len(), 1);
        assert_eq!(report.sent.iter().filter(|sent| sent.url.ends_with("/top")).count(), 3);
    }

    #[test]
    fn a_release_without_a_share_is_left_out() {
        assert!(!servers(&[share("a:1", 0), share("b:1", 100)]).contains("a:1"));
    }

    #[test]
    fn a_refused_file_is_replaced_by_the_old_one_and_nothing_is_reloaded() {
        let host = exec(running("/etc/nginx/traffic/app.servers"), "test", 1, "nginx: [emerg] no port\n");
        let (result, report) = host.with(|| edge().direct(&[share("127.0.0.1:1", 100)]));
        let error = result.unwrap_err();
        assert!(error.message.contains("refused the files in /etc/nginx/traffic"), "{error}");
        assert_eq!(error.causes, ["nginx: [emerg] no port"]);
        let last = report.sent.last().unwrap();
        assert_eq!((last.method.as_str(), &*String::from_utf8_lossy(&last.body)), ("PUT", OLD));
        let reload = |sent: &&stagewright_sdk::fake::Sent| String::from_utf8_lossy(&sent.body).contains("reload");
        assert_eq!(report.sent.iter().filter(reload).count(), 0);
    }

    #[test]
    fn workers_that_are_not_replaced_give_the_old_file_back() {
        let host = exec(exec(running("/etc/nginx/traffic/app.servers"), "test", 0, ""), "reload", 0, "");
        let (result, report) = host.with(|| edge().direct(&[share("127.0.0.1:1", 100)]));
        let error = result.unwrap_err();
        assert!(error.message.contains("hasn't replaced its workers within 30 s"), "{error}");
        let restored = report.sent.iter().rposition(|sent| sent.method == "PUT").unwrap();
        assert_eq!(String::from_utf8_lossy(&report.sent[restored].body), OLD);
        let reloads = report.sent.iter().filter(|sent| String::from_utf8_lossy(&sent.body).contains("reload"));
        assert_eq!(reloads.count(), 2, "nginx has to read the old file, too");
    }

    #[test]
    fn a_deploy_that_is_asked_to_stop_still_waits_until_the_requests_are_directed() {
        let host = exec(exec(running("/etc/nginx/traffic/app.servers"), "test", 0, ""), "reload", 0, "").cancelled();
        let host = top(top(host, &[("10", "worker process")]), &[("11", "worker process")]);
        let (result, report) = host.with(|| edge().direct(&[share("127.0.0.1:1", 100)]));
        assert_eq!(result, Ok(()));
        assert_eq!(report.sent.iter().filter(|sent| sent.method == "PUT").count(), 1);
    }

    #[test]
    fn a_file_that_nginx_does_not_read_is_not_written() {
        let (result, report) = running("/etc/nginx/other").with(|| edge().direct(&[share("127.0.0.1:1", 100)]));
        let error = result.unwrap_err();
        assert!(error.message.contains("doesn't read /etc/nginx/traffic/app.servers"), "{error}");
        assert!(error.help.unwrap().contains("include /etc/nginx/traffic/app.servers;"));
        assert!(report.sent.iter().all(|sent| sent.method != "PUT"));
    }

    #[test]
    fn mistakes_name_their_key() {
        let keys = |nginx: &Nginx| -> Vec<String> {
            nginx.problems("traffic.nginx").into_iter().filter_map(|problem| problem.key).collect()
        };
        let mut broken = nginx("a/b", "servers");
        broken.socket = "docker.sock".to_owned();
        assert_eq!(keys(&broken), ["container", "servers", "socket"].map(|key| format!("traffic.nginx.{key}")));
        assert!(keys(&edge()).is_empty());
    }

    #[test]
    fn the_files_are_replaced_at_once() {
        let routes = |file: &str, upstream: &str| {
            let routes = NginxRoutes { file: file.to_owned(), upstream: upstream.to_owned() };
            Nginx { routes: Some(routes), ..edge() }
        };
        let problems = |nginx: &Nginx| -> Vec<String> {
            nginx.problems("nginx").into_iter().filter_map(|problem| problem.key).collect()
        };
        assert!(problems(&routes("/etc/nginx/traffic/app.routes", "app")).is_empty());
        for file in ["/etc/nginx/app.routes", "/etc/nginx/traffic/app.servers", "app.routes"] {
            assert_eq!(problems(&routes(file, "app")), ["nginx.routes.file"], "{file}");
        }
        assert_eq!(problems(&routes("/etc/nginx/traffic/app.routes", "my-app")), ["nginx.routes.upstream"]);

        let host = exec(exec(running("/etc/nginx/traffic/app.servers"), "test", 0, ""), "reload", 0, "");
        let archive = format!("{SOCKET}/containers/edge/archive?path=%2Fetc%2Fnginx%2Ftraffic%2Fapp%2Eroutes");
        let host = host.http(HttpScript::get(&archive).body(OLD));
        let nginx = routes("/etc/nginx/traffic/app.routes", "app");
        let (result, report) = host.with(|| nginx.direct(&[share("127.0.0.1:1", 100)]));
        let error = result.unwrap_err();
        assert!(error.message.contains("doesn't read /etc/nginx/traffic/app.routes"), "{error}");
        assert!(error.help.unwrap().contains("http { include /etc/nginx/traffic/app.routes;"));
        assert!(report.sent.iter().all(|sent| sent.method != "PUT"));
    }

    #[test]
    fn only_this_container_may_be_written_to() {
        let entries: Vec<String> = edge().requirements().into_iter().map(|required| required.entry).collect();
        assert!(entries.contains(&format!("PUT {SOCKET}/containers/edge/archive")), "{entries:?}");
        assert!(entries.iter().all(|entry| !entry.contains("/containers/*")), "{entries:?}");
    }
}
